"""move, explain, deadletters, users, keys, serve."""

import json
import pathlib
import sys
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from flags.stage import Path
from router.cli import access as cli_access
from router.cli.answer import table
from router.control import access, conversations, deadletters
from tests.unit.cli.scene import Control, Figueira

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_move(figueira: Figueira, control: Control, desk: Any) -> None:
    class Moved:
        id, path, pin_version = UUID(ID), Path.NATIVE, 2

    move = control(conversations, "move", Moved)
    control(conversations, "one", {"id": ID, "path": "native", "pin_version": 2})
    code, out, err = figueira("move", ID, "native", "--reason", "asked", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"id": ID, "path": "native", "pin_version": 2}
    move.assert_awaited_once_with(desk, UUID(ID), "native", reason="asked", by="ana")


def test_explain(figueira: Figueira, control: Control) -> None:
    decision = {
        "stage": "canary", "path": "native", "rule": "share", "revision": 7, "reason": "opened", "guard": None,
        "at": "2026-03-04T05:06:07+00:00",
    }  # fmt: skip
    told = {"conversation_id": ID, "path": "native", "pin_version": 1, "decisions": [decision]}
    control(conversations, "explain", told)
    assert json.loads(figueira("explain", ID, "--json")[1]) == told
    assert figueira("explain", ID)[1].splitlines()[-1].split()[1:5] == ["native", "canary", "share", "7"]


def test_dead_letters(figueira: Figueira, control: Control, desk: Any) -> None:
    letter = {
        "job_id": ID,
        "kind": "whatsapp",
        "job_kind": "send",
        "channel": "w",
        "reason": "unknown",
        "attempts": 2,
    }
    listing = control(deadletters, "listing", [letter])
    control(
        deadletters,
        "show",
        {**letter, "lanes": ["outbound:x"], "tries": [{"number": 1, "outcome": "unknown"}]},
    )
    assert json.loads(figueira("deadletters", "list", "--kind", "whatsapp", "--json")[1]) == {
        "items": [letter]
    }
    listing.assert_awaited_once_with(desk, kind="whatsapp")
    out = figueira("deadletters", "show", ID)[1]
    assert "outbound:x" in out
    assert out.splitlines()[-1].split() == ["1", "-", "-", "-", "unknown", "-"]


@pytest.mark.parametrize(
    ("given", "meant"), [((), "all"), (("--all",), "all"), (("all",), "all"), ((ID,), UUID(ID))]
)
def test_replay(
    figueira: Figueira, control: Control, desk: Any, given: tuple[str, ...], meant: object
) -> None:
    replay = control(deadletters, "replay", 4)
    code, out, _ = figueira("deadletters", "replay", *given, "--json")
    assert (code, json.loads(out)) == (0, {"replayed": 4})
    replay.assert_awaited_once_with(desk, meant, by="ana")


@pytest.mark.parametrize(
    ("given", "meant", "said"), [(("--tenant", "all"), "*", "all"), ((), "clinica-sol", "clinica-sol")]
)
def test_a_key_is_shown_once(
    figueira: Figueira, control: Control, desk: Any, given: tuple[str, ...], meant: str, said: str
) -> None:
    made = {"id": ID, "name": "robot", "scopes": ["messages:read", "webhook"], "key": "an-invented-key"}
    create = control(access, "create_key", made)
    argv = ("keys", "create", "robot", *given, "--scopes", "messages:read,webhook")
    code, out, _ = figueira(*argv, "--json")
    assert (code, json.loads(out)) == (0, {"tenant": said, **made})
    create.assert_awaited_once_with(desk, "robot", meant, ["messages:read", "webhook"], by="ana")
    assert figueira(*argv)[1].count("an-invented-key") == 1


def test_without_a_tenant_nothing_is_guessed(figueira: Figueira, control: Control, desk: Any) -> None:
    create = control(access, "create_key", {})
    desk.channels = {}
    code, out, err = figueira("keys", "create", "robot", "--scopes", "all")
    assert (code, out) == (2, "")
    assert "--tenant" in err
    create.assert_not_awaited()


def test_a_tenant_without_channels_is_warned_about(figueira: Figueira, control: Control) -> None:
    control(access, "create_user", "an-invented-password")
    code, out, err = figueira(
        "users", "create", "ana@example.org", "--tenant", "lua", "--role", "agent", "--json"
    )
    assert code == 0
    assert json.loads(out)["password"] == "an-invented-password"
    assert "warning: no channel belongs to tenant lua" in err


def test_lists_of_users_and_keys(figueira: Figueira, control: Control) -> None:
    user = {"email": "ana@example.org", "tenant": "*", "role": "admin", "created_at": "2026-03-04"}
    control(access, "users", [user])
    control(
        access, "keys", [{"id": ID, "name": "robot", "tenant": "sol", "scopes": ["all"], "created_at": "x"}]
    )
    assert json.loads(figueira("users", "list", "--json")[1]) == {"items": [{**user, "tenant": "all"}]}
    assert figueira("keys", "list")[1].splitlines()[1].split() == [ID, "robot", "sol", "all", "x", "-"]


def test_scopes_are_those_of_the_interface() -> None:
    assert len(cli_access.SCOPES) == 13
    assert set(cli_access.SCOPES) == access.SCOPES - {"all"}
    assert cli_access.ROLES == access.ROLES
    assert cli_access.scopes("all") == ["all"]


def test_serve_hands_its_options_on(figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}

    def serve(_settings: object, **options: object) -> int:
        told.update(options)
        return 0

    app = ModuleType("router.app.serve")
    app.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "router.app.serve", app)
    code, out, _ = figueira(
        "serve", "--port", "0", "--role", "worker", "--workers", "2", "--metrics-port", "9", "--json"
    )
    assert (code, json.loads(out)) == (0, {"stopped": True, "exit": 0})
    assert told == {"host": "127.0.0.1", "port": 0, "role": "worker", "workers": 2, "metrics_port": 9}


def test_a_table_is_aligned() -> None:
    assert table(("a", "bb"), [("long", None), (1, "")], empty="none") == ["A     BB", "long  -", "1     -"]
    assert table(("a",), [], empty="none") == ["none"]


def test_a_provider_nobody_knows_is_named(figueira: Figueira, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "figueira.toml"
    channel = '[channels.wa]\nkind = "whatsapp"\ntenant = "sol"\n[channels.wa.native]\nprovider = "{}"\n'
    config.write_text(channel.format("twilio"))
    code, out, err = figueira("flags", "list", "--config", str(config))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "channels.wa.native.provider" in err
