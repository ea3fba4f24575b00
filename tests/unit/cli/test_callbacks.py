"""callbacks show, set, restore."""

import json
from typing import Any

import pytest

from router.control import callbacks
from router.domain.errors import Rejected
from tests.unit.cli.scene import Control, Figueira

URL, RC = "https://fig.example/webhooks/whatsapp", "https://rc.example/hook"
SHOWN: dict[str, Any] = {
    "channel": "whatsapp", "provider": "cloud", "serving": "number", "drift": None,
    "levels": [
        {"level": "number", "url": URL, "ours": True}, {"level": "waba", "url": None, "ours": False},
        {"level": "app", "url": RC, "ours": False},
    ],
    "set": {
        "level": "number", "url": URL, "set_by": "ana", "set_at": "2026-03-04T05:06:07+00:00", "checked_at": None,
        "previous": {"number": None},
    },
}  # fmt: skip
PLAN: dict[str, Any] = {
    "channel": "whatsapp", "provider": "cloud", "level": "number", "url": URL, "previous": None,
    "serving": {"level": "app", "url": RC}, "rooms": {"rooms": 3, "pinned": 2, "unplaced": 1},
    "checks": [{"name": "way in", "ok": True, "seen": "answers", "mend": ""}], "warnings": ["look out"],
    "ready": True, "verified": False, "dry_run": True,
}  # fmt: skip


def test_show(figueira: Figueira, control: Control, desk: Any) -> None:
    show = control(callbacks, "show", SHOWN)
    code, out, err = figueira("callbacks", "show", "whatsapp")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["number", URL, "Figueira", "<-", "serves"]
    assert lines[2] == ["waba", "-", "-", "-"]
    assert lines[-1] == ["before", "number", "(empty)"]
    assert json.loads(figueira("callbacks", "show", "whatsapp", "--json")[1]) == SHOWN
    show.assert_awaited_with(desk, "whatsapp")


@pytest.mark.parametrize("drift", ["level_moved", "overridden"])
def test_drift_is_exit_1(figueira: Figueira, control: Control, drift: str) -> None:
    control(callbacks, "show", SHOWN | {"drift": drift})
    code, out, err = figueira("callbacks", "show", "whatsapp", "--json")
    assert code == 1
    assert json.loads(out)["drift"] == drift
    assert err.startswith("figueira: drift: ")


def test_never_set(figueira: Figueira, control: Control) -> None:
    control(callbacks, "show", SHOWN | {"set": None})
    assert figueira("callbacks", "show", "whatsapp")[1].splitlines()[-1] == "not set by Figueira"


def test_set(figueira: Figueira, control: Control, desk: Any) -> None:
    done = PLAN | {"dry_run": False, "verified": True}
    act = control(callbacks, "set_callback", done)
    code, out, err = figueira("callbacks", "set", "whatsapp", "--level", "number", "--reason", "pilot")
    assert (code, err) == (0, "warning: look out\n")
    assert out.splitlines() == [
        "3 open rooms in Rocket.Chat: 2 pinned, 1 unplaced",
        f"whatsapp: the number posts to {URL} (verified)",
        "before: (empty); back with `figueira callbacks restore whatsapp`",
    ]
    act.assert_awaited_once_with(
        desk, "whatsapp", level="number", dry_run=False, without_rooms=False, by="ana", reason="pilot"
    )
    assert json.loads(figueira("callbacks", "set", "whatsapp", "--json")[1]) == done


@pytest.mark.parametrize(("ready", "exit_code"), [(True, 0), (False, 1)])
def test_dry_run(figueira: Figueira, control: Control, ready: bool, exit_code: int) -> None:
    act = control(callbacks, "set_callback", PLAN | {"ready": ready})
    code, out, _ = figueira("callbacks", "set", "whatsapp", "--dry-run", "--without-rooms")
    assert code == exit_code
    assert out.startswith("nothing was changed\n")
    assert f"would set   number to {URL}" in out
    assert act.await_args is not None
    assert act.await_args.kwargs["dry_run"] is act.await_args.kwargs["without_rooms"] is True


def test_restore(figueira: Figueira, control: Control, desk: Any) -> None:
    done = {
        "channel": "whatsapp", "provider": "cloud", "restored": [{"level": "number", "url": None}],
        "serving": {"level": "app", "url": RC}, "verified": True, "dry_run": False,
    }  # fmt: skip
    act = control(callbacks, "restore", done)
    code, out, err = figueira("callbacks", "restore", "whatsapp")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "whatsapp: the number posts to the next level",
        f"serving: app {RC} (verified)",
    ]
    act.assert_awaited_once_with(desk, "whatsapp", level=None, dry_run=False, by="ana", reason=None)
    act.return_value = done | {"dry_run": True, "verified": False}
    out = figueira("callbacks", "restore", "whatsapp", "--dry-run")[1]
    assert out.splitlines()[0] == "nothing was changed"
    assert "verified" not in out


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("unknown_channel", 2),
        ("unknown_level", 2),
        ("not_ready", 1),
        ("callback_refused", 1),
        ("rooms_unknown", 1),
    ],
)
def test_refusals(figueira: Figueira, control: Control, code: str, exit_code: int) -> None:
    control(callbacks, "set_callback", Rejected(code, "what, where, the mend", 409))
    found, out, err = figueira("callbacks", "set", "whatsapp", "--json")
    assert (found, err) == (exit_code, "figueira: what, where, the mend\n")
    assert (json.loads(out)["error"]["code"] == code) if exit_code == 1 else out == ""


def test_wrong_use(figueira: Figueira, desk: Any) -> None:
    assert figueira("callbacks")[0] == 2
    assert figueira("callbacks", "show")[0] == 2
    assert figueira("callbacks", "show", "whatsapp", "--dry-run")[0] == 2
