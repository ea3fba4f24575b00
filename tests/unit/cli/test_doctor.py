import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flags.ports import Flag, Strategy
from flags.stage import Stage
from router.cli.doctor import Check, Work, of_channels, of_database, of_work, report
from router.control import ledger
from router.domain.channel import Channel
from router.settings import Keys, RocketChatSettings, Settings
from router.storage.upgrade import Condition
from tests.unit.cli.scene import Control, Figueira

FULL = dict.fromkeys(("base_url", "phone_number_id", "access_token", "app_secret", "verify_token"), "x")
READY = Condition("0002", "0002", 180006, ("figueira_engine", "figueira_tenant"), ("vector",))
ROCKETCHAT = RocketChatSettings("http://rc", user_id="u", auth_token="t", webhook_token="w")


def _settings(channel: Channel | None, rocketchat: RocketChatSettings | None = ROCKETCHAT) -> Settings:
    channels = {channel.slug: channel} if channel else {}
    return Settings(Path("home"), Keys(b"s", b"c"), rocketchat=rocketchat, channels=channels)


def _states(checks: Any) -> dict[str, str]:
    return {check.name: check.state for check in checks}


@pytest.mark.parametrize(
    ("flag", "native", "url", "state"),
    [
        (Flag("whatsapp"), FULL, "http://rc/hook", "ok"),
        (Flag("whatsapp"), FULL, None, "fail"),
        (Flag("whatsapp"), {}, "http://rc/hook", "warn"),
        (
            Flag("whatsapp", strategies=(Strategy("class", ("test",), Stage.NATIVE),)),
            {},
            "http://rc/hook",
            "fail",
        ),
        (Flag("whatsapp", Stage.CANARY, 5), FULL, None, "fail"),
        (Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE), FULL, None, "ok"),
        (Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE), {**FULL, "access_token": ""}, None, "fail"),
        (
            Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE),
            {"provider": "360dialog", "api_key": "k", "webhook_token": "t"},
            None,
            "ok",
        ),
        (
            Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE),
            {"provider": "360dialog", "api_key": "k"},
            None,
            "fail",
        ),
        (
            Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE, override={"stage": "rocketchat"}),
            FULL,
            None,
            "fail",
        ),
    ],
)
def test_a_channel_has_what_its_stage_needs(
    flag: Flag, native: dict[str, str], url: str | None, state: str
) -> None:
    channel = Channel("w", "whatsapp", "sol", native=native, webhook_url=url)
    assert _states(of_channels(_settings(channel), {"whatsapp": flag}))["w"] == state


def test_rocketchat_is_asked_about_while_anybody_goes_there() -> None:
    channel = Channel("w", "whatsapp", "sol", native=FULL, webhook_url="http://rc/hook")
    flags = {"whatsapp": Flag("whatsapp")}
    assert _states(of_channels(_settings(channel, None), flags))["rocketchat"] == "fail"
    bare = RocketChatSettings("http://rc")
    assert _states(of_channels(_settings(channel, bare), flags))["rocketchat"] == "warn"
    gone = {"whatsapp": Flag("whatsapp", Stage.NATIVE, base=Stage.NATIVE)}
    assert "rocketchat" not in _states(of_channels(_settings(channel, None), gone))
    assert _states(of_channels(_settings(None), {})) == {"channels": "warn"}


@pytest.mark.parametrize(
    ("found", "embedded", "state"),
    [
        (READY, False, "ok"),
        (replace(READY, revision="0001"), False, "fail"),
        (replace(READY, roles=()), False, "fail"),
        (replace(READY, revision="0001"), True, "warn"),
        (replace(READY, revision=None, roles=()), True, "ok"),
        (replace(READY, revision=None), False, "fail"),
    ],
)
def test_the_database_fits(found: Condition, embedded: bool, state: str) -> None:
    assert _states(of_database(found, embedded=embedded))["upgrade"] == state


def test_work_that_waits_for_a_person() -> None:
    good = Work(roles=["web", "worker", "worker"], waiting=3, oldest_seconds=1.0)
    assert set(_states(of_work(good, [])).values()) == {"ok"}
    assert next(check.told for check in of_work(good, [])) == "1 web, 2 worker"
    bad = Work(waiting=3, oldest_seconds=600.0, dead_letters=1, unplaced=1, shut=["rocketchat"])
    assert set(_states(of_work(bad, ["worker x"])).values()) == {"warn"}


def test_only_a_failed_check_fails() -> None:
    assert report([Check("a", "ok", ""), Check("b", "warn", "c")]).code == 0
    answer = report([Check("a", "ok", ""), Check("b", "fail", "c")])
    assert answer.code == 1
    assert answer.data == {
        "checks": [{"name": "a", "state": "ok", "told": ""}, {"name": "b", "state": "fail", "told": "c"}],
        "ok": False,
    }


def test_settings_that_do_not_hold_are_a_failed_check(figueira: Figueira, home: Path) -> None:
    (home / "figueira.toml").write_text("flags = ")
    code, out, _ = figueira("doctor", "--json")
    assert code == 1
    assert [check["state"] for check in json.loads(out)["checks"]] == ["fail"]


def _channel(handled: int, *, balanced: bool = True) -> dict[str, Any]:
    return {"events": 5, "handled": handled, "waiting": 1, "dead": 1, "ignored": 1, "balanced": balanced}


@pytest.mark.parametrize("balanced", [True, False])
def test_the_ledger(figueira: Figueira, control: Control, balanced: bool) -> None:
    channels = {"sms": _channel(2), "whatsapp": _channel(2, balanced=balanced)}
    control(ledger, "ledger", {"channels": channels, "balanced": balanced})
    code, out, err = figueira("doctor", "--ledger", "--json")
    assert code == (0 if balanced else 1)
    assert json.loads(out) == {
        "events": 10, "handled": 4, "waiting": 2, "dead": 2, "ignored": 2, "balanced": balanced,
        "channels": channels,
    }  # fmt: skip
    assert ("whatsapp" in err) is not balanced
