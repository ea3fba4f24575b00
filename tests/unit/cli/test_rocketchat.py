"""figueira rocketchat."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from router.control import audit
from router.domain.ports import Finding, Refusal
from tests.unit.cli.scene import Control, Figueira

GOOD = Finding("version", True, "8.1.0")
UNSEEN = Finding("forwarded_count", None, "it cannot be seen", "look there")
BAD = Finding("webhook_url", False, "empty", "run setup")


class Admin:
    def __init__(self, *found: Finding) -> None:
        self.found = found
        self.asked: list[tuple[Any, ...]] = []

    async def check(self, webhook_url: str | None) -> Sequence[Finding]:
        self.asked.append((webhook_url,))
        return self.found

    async def standing(self) -> Mapping[str, Any]:
        self.asked.append(("standing",))
        return {"url": "https://crm.example/hook"}

    async def setup(self, webhook_url: str, *, dry_run: bool, replace: bool = False) -> Sequence[Finding]:
        self.asked.append((webhook_url, dry_run, replace))
        return self.found

    async def create_user(self, *, name: str, email: str, username: str, adopt: bool = True) -> str | Refusal:
        raise NotImplementedError


class Store:
    def __init__(self) -> None:
        self.acts = 0

    async def transact(self, work: Any, *, tenant: str | None = None) -> Any:
        assert tenant is None
        self.acts += 1
        return await work(None)


@pytest.fixture
def ready(desk: Any) -> Any:
    desk.public_url = "https://figueira.example/"
    desk.admin = Admin(GOOD, UNSEEN)
    desk.store = Store()
    return desk


def test_check(figueira: Figueira, ready: Any) -> None:
    code, out, err = figueira("rocketchat", "check", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "findings": [
            {"name": "version", "ok": True, "seen": "8.1.0", "mend": ""},
            {"name": "forwarded_count", "ok": None, "seen": "it cannot be seen", "mend": "look there"},
        ],
        "ok": True,
    }
    assert ready.admin.asked == [("https://figueira.example/webhooks/rocketchat",)]
    lines = figueira("rocketchat", "check")[1].splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["ok", "version"], ["unseen", "forwarded_count"]]
    assert "look there" in lines[2]


def test_what_does_not_hold_is_exit_1(figueira: Figueira, ready: Any) -> None:
    ready.admin = Admin(GOOD, BAD)
    code, out, _ = figueira("rocketchat", "check", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_without_a_public_url(figueira: Figueira, ready: Any) -> None:
    ready.public_url = None
    code, out, _ = figueira("rocketchat", "check", "--json")
    first = json.loads(out)["findings"][0]
    assert (code, first["name"], first["ok"]) == (1, "public_url", False)
    assert "FIGUEIRA_PUBLIC_URL" in first["mend"]
    assert ready.admin.asked == [(None,)]
    code, out, err = figueira("rocketchat", "setup", "--json")
    assert (code, out) == (2, "")
    assert "FIGUEIRA_PUBLIC_URL" in err
    assert len(ready.admin.asked) == 1


@pytest.mark.parametrize("act", ["check", "setup"])
def test_without_a_login(figueira: Figueira, ready: Any, act: str) -> None:
    ready.admin = None
    code, out, err = figueira("rocketchat", act)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "auth_token" in err


def test_setup_is_audited_and_a_dry_run_is_not(figueira: Figueira, ready: Any, control: Control) -> None:
    record = control(audit, "record", 1)
    record.side_effect = lambda *_, **told: ready.admin.asked.append(("audit", told["act"]))
    assert figueira("rocketchat", "setup", "--dry-run", "--json")[0] == 0
    assert ready.store.acts == 0
    assert figueira("rocketchat", "setup", "--by", "rui", "--replace")[0] == 0
    url = "https://figueira.example/webhooks/rocketchat"
    assert ready.admin.asked == [
        (url, True, False),
        ("standing",),
        ("audit", "rocketchat.prepare"),  # what stood there is kept before anything is set
        (url, False, True),
        ("audit", "rocketchat.setup"),
    ]
    told = [call.kwargs for call in record.await_args_list]
    assert [one["by"] for one in told] == ["rui", "rui"]
    assert [one["detail"] for one in told] == [
        {"replace": True, "former": {"url": "https://crm.example/hook"}},
        {"version": True, "forwarded_count": None},
    ]
