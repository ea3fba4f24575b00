import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flags.ports import Flag, Strategy
from flags.stage import Stage
from router.control import flags as control_flags
from router.control.flags import FlagChange
from router.domain.errors import Rejected
from tests.unit.cli.scene import Control, Figueira

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CANARY = Flag(
    "whatsapp", Stage.CANARY, 10, strategies=(Strategy("tenant", ("clinica-sol",), Stage.NATIVE),), revision=7,
    updated_by="ana", updated_at=AT, reason="first share",
)  # fmt: skip
SET = ("flags", "set", "whatsapp", "canary", "--percent", "10", "--reason", "first share")


def test_set_hands_everything_on(figueira: Figueira, control: Control, desk: Any) -> None:
    change = control(control_flags, "set_stage", FlagChange(CANARY, (), 3))
    code, _, err = figueira(
        *SET, "--tenant", "a", "--tenant", "b", "--channel", "c", "--class", "test", "--now", "--by", "rui"
    )
    assert (code, err) == (0, "")
    change.assert_awaited_once_with(
        desk, "whatsapp", stage="canary", percent=10, tenants=["a", "b"], channels=["c"], contact_class="test",
        reason="first share", by="rui", now=True, dry_run=False,
    )  # fmt: skip


def test_set_as_one_object(figueira: Figueira, control: Control) -> None:
    control(control_flags, "set_stage", FlagChange(CANARY, ("shadow → native skips canary",), 3))
    code, out, err = figueira(*SET, "--json")
    told = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert (told["kind"], told["stage"], told["percent"], told["revision"]) == ("whatsapp", "canary", 10, 7)
    assert told["strategies"] == [
        {"rule": "tenant", "values": ["clinica-sol"], "stage": "native", "percent": 100}
    ]
    assert told["moved"] == 3
    assert told["warnings"] == ["shadow → native skips canary"]
    assert err == "warning: shadow → native skips canary\n"


def test_by_is_who_is_logged_in(figueira: Figueira, control: Control, desk: Any) -> None:
    kill = control(control_flags, "kill", FlagChange(CANARY))
    assert figueira("flags", "kill", "whatsapp", "--now")[0] == 0
    kill.assert_awaited_once_with(desk, "whatsapp", reason="killed", by="ana", now=True)


@pytest.mark.parametrize(("late", "code"), [([], 0), (["worker 01890a5d"], 1)])
def test_wait_names_the_laggards(
    figueira: Figueira, control: Control, desk: Any, late: list[str], code: int
) -> None:
    control(control_flags, "set_stage", FlagChange(CANARY))
    wait = control(control_flags, "wait", late)
    found, out, err = figueira(*SET, "--wait", "--json")
    assert found == code
    assert json.loads(out)["laggards"] == late
    assert ("worker 01890a5d" in err) is bool(late)
    wait.assert_awaited_once_with(desk, 7)


def test_a_dry_run_waits_for_nobody(figueira: Figueira, control: Control) -> None:
    told = {"clinica-sol": {"open": 5, "would_move": 2}}
    change = control(control_flags, "set_stage", FlagChange(CANARY, dry_run=told))
    wait = control(control_flags, "wait", [])
    code, out, _ = figueira(*SET, "--wait", "--dry-run")
    assert code == 0
    change.assert_awaited_once()
    assert change.mock_calls[0].kwargs["dry_run"] is True
    wait.assert_not_awaited()
    assert out.splitlines()[0] == "nothing was changed"
    assert out.splitlines()[2].split() == ["clinica-sol", "5", "2"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("unknown_kind", "there is no kind 'fax'", 404), 2),
        (Rejected("gated", "retired cannot be set"), 1),
        (Rejected("revision_moved", "read it again", 412), 1),
    ],
)
def test_refusals(figueira: Figueira, control: Control, error: Rejected, code: int) -> None:
    control(control_flags, "set_stage", error)
    found, out, err = figueira(*SET, "--json")
    assert found == code
    assert err == f"figueira: {error}\n"
    expected = {"error": {"code": error.code, "message": str(error)}}
    assert (json.loads(out) if out else None) == (expected if code == 1 else None)


def test_list_and_history(figueira: Figueira, control: Control, desk: Any) -> None:
    control(control_flags, "listing", [CANARY, Flag("sms")])
    history = control(control_flags, "history", [CANARY, replace(CANARY, revision=6)])
    told = json.loads(figueira("flags", "list", "--json")[1])
    assert [(one["kind"], one["stage"]) for one in told["items"]] == [
        ("whatsapp", "canary"),
        ("sms", "rocketchat"),
    ]
    lines = figueira("flags", "list")[1].splitlines()
    assert lines[1].split()[:3] == ["whatsapp", "canary", "10%"]
    told = json.loads(figueira("flags", "history", "whatsapp", "--limit", "2", "--json")[1])
    assert [one["revision"] for one in told["items"]] == [7, 6]
    assert told["next_cursor"] is None
    history.assert_awaited_once_with(desk, "whatsapp", limit=2)


def test_show_tells_rules_and_override(figueira: Figueira, control: Control) -> None:
    override = {"stage": "rocketchat", "by": "rui", "reason": "outage", "at": AT.isoformat()}
    control(control_flags, "show", replace(CANARY, override=override))
    out = figueira("flags", "show", "whatsapp")[1]
    assert "canary 10%, the others rocketchat" in out
    assert "rocketchat by rui: outage" in out
    assert "clinica-sol: native 100%" in out


def test_a_reason_cannot_steer_the_terminal(figueira: Figueira, control: Control) -> None:
    control(control_flags, "show", replace(CANARY, reason="\x1b[2Jgone"))
    out = figueira("flags", "show", "whatsapp")[1]
    assert "\x1b" not in out
    assert "[2Jgone" in out


def test_clear_and_release(figueira: Figueira, control: Control, desk: Any) -> None:
    clear = control(control_flags, "clear", FlagChange(CANARY))
    release = control(control_flags, "release", FlagChange(CANARY))
    assert figueira("flags", "clear", "whatsapp", "--tenant", "a", "--reason", "done")[0] == 0
    assert figueira("flags", "release", "whatsapp")[0] == 0
    clear.assert_awaited_once_with(
        desk, "whatsapp", tenants=["a"], channels=[], contact_class=None, reason="done", by="ana"
    )
    release.assert_awaited_once_with(desk, "whatsapp", reason="released", by="ana")
