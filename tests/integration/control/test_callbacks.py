"""The cut-in over a real database and a provider that remembers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from router import metrics
from router.control import audit, callbacks, flags
from router.control.desk import Desk
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.ports import Callback
from router.storage.postgres import PostgresStore
from tests.integration.control.desk_scene import make_desk

pytestmark = pytest.mark.postgres

OK = Result(Outcome.OK)
RC = "http://rc.invalid/a"  # the webhook_url of wa-sol
OURS = "https://fig.example/webhooks/wa-sol"
ROOMS = {"rooms": 3, "pinned": 2, "unplaced": 1}


class Provider:
    """Three levels that keep what they are given. `steps` is what was asked, in order."""

    def __init__(self) -> None:
        self.urls: dict[str, str | None] = {"number": None, "waba": None, "app": RC}
        self.able = ["number", "waba", "app"]
        self.lacks: list[str] = []
        self.way_in = OK
        self.shows = OK
        self.sets = OK
        self.deaf = False  # it says yes and does nothing
        self.of = "700"
        self.steps: list[str] = []

    def levels(self, channel: Channel) -> Sequence[str]:
        return self.able

    def missing(self, channel: Channel) -> Sequence[str]:
        return self.lacks

    def mend(self, code: str) -> str:
        return {"190": "renew the token", "http_403": "look at the proxy"}.get(code, "")

    async def reaches(self, channel: Channel, url: str) -> Result:
        self.steps.append(f"reaches {url}")
        return self.way_in

    async def show(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        self.steps.append("show")
        if self.shows.outcome is not Outcome.OK:
            return self.shows, ()
        return OK, [Callback(level, url, {"key": level}, self.of) for level, url in self.urls.items()]

    async def set(self, channel: Channel, level: str, url: str) -> Result:
        self.steps.append(f"set {level}")
        if self.sets.outcome in {Outcome.OK, Outcome.UNKNOWN} and not self.deaf:
            self.urls[level] = url
        return self.sets

    async def restore(self, channel: Channel, previous: Callback) -> Result:
        self.steps.append(f"restore {previous.level} {previous.settings.get('key')}")
        if self.sets.outcome is Outcome.OK and not self.deaf:
            self.urls[previous.level] = previous.url
        return self.sets


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def desk(postgres_store: PostgresStore, provider: Provider) -> Desk:
    async def learn(count: bool) -> Mapping[str, int]:
        provider.steps.append("count rooms" if count else "learn rooms")
        return ROOMS

    made = await make_desk(postgres_store)
    return replace(
        made, callbacks={"whatsapp": provider}, public_url="https://fig.example/", learn_rooms=learn
    )


async def cut_in(desk: Desk, **more: Any) -> dict[str, Any]:
    return await callbacks.set_callback(desk, "wa-sol", by="ana", **more)


async def refused(code: str, act: Callable[[], Any]) -> str:
    with pytest.raises(Rejected) as caught:
        await act()
    assert caught.value.code == code
    return str(caught.value)


async def acts(desk: Desk) -> list[str]:
    return [row["act"] for row in reversed(await audit.listing(desk))]


async def test_the_cut_in_and_the_way_back(desk: Desk, provider: Provider) -> None:
    shown = await callbacks.show(desk, "wa-sol")
    assert shown == {
        "channel": "wa-sol", "provider": "cloud", "serving": "app", "set": None, "drift": None,
        "levels": [
            {"level": "number", "url": None, "ours": False}, {"level": "waba", "url": None, "ours": False},
            {"level": "app", "url": RC, "ours": False},
        ],
    }  # fmt: skip
    provider.steps.clear()
    done = await cut_in(desk, reason="pilot")
    # The promise: proved, learned and kept before anything moves; read back after.
    assert provider.steps == [f"reaches {OURS}", "show", "learn rooms", "show", "set number", "show"]
    assert (done["level"], done["url"], done["previous"], done["verified"]) == ("number", OURS, None, True)
    assert done["serving"] == {"level": "number", "url": OURS}
    assert done["rooms"] == ROOMS
    assert done["warnings"] == [
        "1 open rooms have a source that no channel is mapped to: add it to sources in [rocketchat]"
    ]
    shown = await callbacks.show(desk, "wa-sol")
    assert (shown["serving"], shown["drift"]) == ("number", None)
    assert (shown["set"]["level"], shown["set"]["set_by"]) == ("number", "ana")
    assert shown["set"]["previous"] == {"number": None}

    back = await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.urls == {"number": None, "waba": None, "app": RC}
    assert back["restored"] == [{"level": "number", "url": None}]
    assert (back["serving"], back["verified"]) == ({"level": "app", "url": RC}, True)
    assert (await callbacks.show(desk, "wa-sol"))["set"] is None
    assert await acts(desk) == ["callback.set", "callback.verified", "callback.restore"]
    assert await audit.verify(desk) is None
    await refused("not_set", lambda: callbacks.restore(desk, "wa-sol", by="ana"))


async def test_setting_twice_keeps_what_was_there_first(desk: Desk, provider: Provider) -> None:
    provider.urls["number"] = "https://other.example/hook"
    await cut_in(desk)
    again = await cut_in(desk)
    assert again["previous"] == "https://other.example/hook"
    # Also when our own address changes between.
    moved = replace(desk, public_url="https://new.example")
    assert (await cut_in(moved))["url"] == "https://new.example/webhooks/wa-sol"
    await callbacks.restore(moved, "wa-sol", by="ana")
    assert provider.urls["number"] == "https://other.example/hook"
    # And after a restore the state of that day counts.
    provider.urls["number"] = "https://third.example/hook"
    await cut_in(desk)
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.urls["number"] == "https://third.example/hook"


async def test_several_levels_go_back_the_narrowest_first(desk: Desk, provider: Provider) -> None:
    await cut_in(desk)
    wide = await cut_in(desk, level="app")
    assert wide["previous"] == RC
    assert "the level app moves every number that has no narrower address" in wide["warnings"]
    assert (await callbacks.show(desk, "wa-sol"))["set"]["previous"] == {"number": None, "app": RC}
    provider.steps.clear()
    dry = await callbacks.restore(desk, "wa-sol", by="ana", dry_run=True)
    assert (dry["restored"], dry["verified"]) == (
        [{"level": "number", "url": None}, {"level": "app", "url": RC}],
        False,
    )
    assert provider.steps == ["show"]
    await callbacks.restore(desk, "wa-sol", level="app", by="ana")
    assert (await callbacks.show(desk, "wa-sol"))["set"]["previous"] == {"number": None}
    await refused("not_set", lambda: callbacks.restore(desk, "wa-sol", level="app", by="ana"))
    await cut_in(desk, level="app")
    provider.steps.clear()
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.steps == ["show", "restore number number", "show", "restore app app", "show"]
    assert provider.urls == {"number": None, "waba": None, "app": RC}


async def test_a_number_that_moved_has_nothing_to_go_back_to_but_its_own(
    desk: Desk, provider: Provider
) -> None:
    provider.urls["number"] = "https://old.example/hook"
    await cut_in(desk)
    provider.of, provider.urls = "701", {"number": "https://new.example/hook", "waba": None, "app": RC}
    shown = await callbacks.show(desk, "wa-sol")
    assert (shown["set"], shown["drift"]) == (None, None)
    await refused("not_set", lambda: callbacks.restore(desk, "wa-sol", by="ana"))
    assert [one["drift"] for one in await callbacks.check_drift(desk)] == [None]
    await cut_in(desk)
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.urls["number"] == "https://new.example/hook"


async def test_a_dry_run_changes_nothing(desk: Desk, provider: Provider) -> None:
    plan = await cut_in(desk, dry_run=True)
    assert provider.steps == [f"reaches {OURS}", "show", "count rooms"]
    assert (plan["ready"], plan["verified"], plan["dry_run"], plan["rooms"]) == (True, False, True, ROOMS)
    assert [(check["name"], check["ok"]) for check in plan["checks"]] == [
        ("settings", True), ("public address", True), ("Rocket.Chat's address", True), ("way in", True),
        ("provider", True), ("open rooms", True),
    ]  # fmt: skip
    assert await desk.store.engine.fetch("select * from callbacks") == []
    assert await acts(desk) == []


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"public_url": None}, ["public address"]),
        ({"public_url": "http://fig.example"}, ["public address"]),
        ({"lacks": ["app_secret"]}, ["settings"]),
        ({"webhook_url": None}, ["Rocket.Chat's address"]),
        ({"webhook_url": "https://fig.example/webhooks/wa-lua"}, ["Rocket.Chat's address"]),
        ({"way_in": Result(Outcome.PERMANENT, code="http_403")}, ["way in"]),
        ({"shows": Result(Outcome.CHANNEL, code="190")}, ["provider"]),
        ({"able": []}, ["levels"]),
    ],
)
async def test_what_stands_in_the_way(
    desk: Desk, provider: Provider, change: dict[str, Any], failing: list[str]
) -> None:
    for name, value in change.items():
        if name == "public_url":
            desk = replace(desk, public_url=value)
        elif name == "webhook_url":
            channel = replace(desk.channels["wa-sol"], webhook_url=value)
            desk = replace(desk, channels={**desk.channels, "wa-sol": channel})
        else:
            setattr(provider, name, value)
    plan = await cut_in(desk, dry_run=True)
    wrong = [check for check in plan["checks"] if check["ok"] is False]
    assert ([check["name"] for check in wrong], plan["ready"]) == (failing, False)
    assert all(check["mend"] for check in wrong)
    provider.steps.clear()
    said = await refused("not_ready", lambda: cut_in(desk))
    assert failing[0] in said
    assert "learn rooms" not in provider.steps
    assert not [step for step in provider.steps if step.startswith("set")]
    assert await desk.store.engine.fetch("select * from callbacks") == []


async def test_loopback_needs_no_https(desk: Desk) -> None:
    near = replace(desk, public_url="http://127.0.0.1:8080")
    assert (await cut_in(near))["url"] == "http://127.0.0.1:8080/webhooks/wa-sol"


async def test_the_rooms_must_be_known(desk: Desk, provider: Provider) -> None:
    async def away(count: bool) -> Mapping[str, int]:
        raise Rejected("unreachable", "connect")

    for without in (replace(desk, learn_rooms=None), replace(desk, learn_rooms=away)):
        assert "--without-rooms" in await refused("rooms_unknown", lambda desk=without: cut_in(desk))  # type: ignore[misc]
        assert (await cut_in(without, dry_run=True))["ready"] is False
        assert provider.urls["number"] is None
        assert await desk.store.engine.fetch("select * from callbacks") == []
    done = await cut_in(replace(desk, learn_rooms=None), without_rooms=True)
    assert done["verified"]
    assert done["rooms"] is None
    assert "Rocket.Chat's open rooms are not learned" in done["warnings"][0]


async def test_a_refusal_leaves_nothing_to_restore(desk: Desk, provider: Provider) -> None:
    provider.sets = Result(Outcome.CHANNEL, code="190")
    said = await refused("callback_refused", lambda: cut_in(desk))
    assert "190" in said
    assert "renew the token" in said
    await refused("not_set", lambda: callbacks.restore(desk, "wa-sol", by="ana"))
    assert await acts(desk) == ["callback.set", "callback.refused"]
    # A level that is ours stays ours when setting it again is refused.
    provider.sets = OK
    await cut_in(desk)
    provider.sets = Result(Outcome.CHANNEL, code="190")
    await refused("callback_refused", lambda: cut_in(desk))
    assert (await callbacks.show(desk, "wa-sol"))["set"]["previous"] == {"number": None}


async def test_what_the_provider_says_afterwards_counts(desk: Desk, provider: Provider) -> None:
    provider.sets = Result(Outcome.UNKNOWN, code="timeout")
    assert (await cut_in(desk))["verified"]  # no answer, but it is there
    provider.sets = OK
    await callbacks.restore(desk, "wa-sol", by="ana")
    provider.deaf = True
    assert "read_back" in await refused("callback_unverified", lambda: cut_in(desk))
    # It may still come: what was there before stays known.
    assert (await callbacks.show(desk, "wa-sol"))["drift"] == "level_moved"
    provider.deaf = False
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.urls["number"] is None


async def test_a_level_that_is_ours_already(desk: Desk, provider: Provider) -> None:
    provider.urls["app"] = "https://fig.example/webhooks/wa-lua"
    await refused("already_ours", lambda: cut_in(desk, level="app"))
    provider.urls["number"] = OURS  # set by hand
    done = await cut_in(desk)
    assert any("not known" in line for line in done["warnings"])
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert provider.urls["number"] is None


async def test_warnings(desk: Desk, provider: Provider) -> None:
    await flags.set_stage(desk, "whatsapp", stage="native", reason="x", by="ana")
    provider.urls["app"] = "https://elsewhere.example/hook"
    provider.urls["number"] = "https://narrow.example/hook"
    told = " | ".join((await cut_in(desk, level="waba"))["warnings"])
    assert "channel.whatsapp is at native" in told
    assert (
        "posts to https://narrow.example/hook today, but events will be forwarded to http://rc.invalid/a"
        in told
    )
    assert "the narrower level number still posts elsewhere" in told


async def test_wrong_names(desk: Desk, provider: Provider) -> None:
    await refused("unknown_channel", lambda: callbacks.show(desk, "nope"))
    await refused("no_callbacks", lambda: callbacks.show(desk, "sms-sol"))
    assert "waba_id" in await refused("unknown_level", lambda: cut_in(desk, level="page"))
    provider.shows = Result(Outcome.RETRY, code="connect")
    await refused("callback_unreadable", lambda: callbacks.show(desk, "wa-sol"))


# drift -------------------------------------------------------------------------------------------------------


async def test_drift_is_seen_told_and_forgotten(
    desk: Desk, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="router.control")
    me, other = UUID(int=1), UUID(int=2)
    gauge = metrics.callback_drift.labels("wa-sol")
    assert await callbacks.check_drift(desk) == []
    await cut_in(desk)
    provider.urls["number"] = RC
    assert await callbacks.drift_loop_once(desk, me)
    assert gauge._value.get() == 1
    assert (await callbacks.show(desk, "wa-sol"))["drift"] == "level_moved"
    # The duty rests: another process shows what is known and asks nobody.
    gauge.set(0)
    provider.steps.clear()
    assert not await callbacks.drift_loop_once(desk, other)
    assert provider.steps == []
    assert gauge._value.get() == 1

    assert [one["drift"] for one in await callbacks.check_drift(desk)] == ["level_moved"]
    provider.shows = Result(Outcome.RETRY, code="connect")
    assert await callbacks.check_drift(desk) == [
        {"channel": "wa-sol", "drift": "level_moved", "error": "callback_unreadable"}
    ]
    provider.shows = OK
    await cut_in(desk)
    assert [one["drift"] for one in await callbacks.check_drift(desk)] == [None]
    assert [record.message for record in caplog.records] == ["callback.drifted", "callback.unchecked"]
    assert "rc.invalid" not in caplog.text
    assert (await callbacks.show(desk, "wa-sol"))["set"]["checked_at"]


async def test_a_narrower_address_than_ours_is_drift(desk: Desk, provider: Provider) -> None:
    await cut_in(desk, level="app")
    assert [one["drift"] for one in await callbacks.check_drift(desk)] == [None]
    provider.urls["waba"] = RC
    assert [one["drift"] for one in await callbacks.check_drift(desk)] == ["overridden"]
    provider.urls["waba"] = None
    assert [one["drift"] for one in await callbacks.check_drift(desk)] == [None]
    await callbacks.restore(desk, "wa-sol", by="ana")
    assert await callbacks.check_drift(desk) == []


async def test_a_channel_that_left_the_settings_stops_no_neighbour(desk: Desk, provider: Provider) -> None:
    await cut_in(desk)
    await callbacks.set_callback(desk, "wa-lua", level="waba", by="ana")
    fewer = replace(desk, channels={slug: one for slug, one in desk.channels.items() if slug != "wa-lua"})
    assert [(one["channel"], one["error"]) for one in await callbacks.check_drift(fewer)] == [
        ("wa-lua", "unknown_channel"),
        ("wa-sol", None),
    ]
