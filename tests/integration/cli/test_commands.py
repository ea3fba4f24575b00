"""The commands as processes, against the embedded database of a home of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from router.storage.embedded import attach

ROOT = Path(__file__).parents[3]
TOML = """
[rocketchat]
base_url = "http://127.0.0.1:9"
[channels.whatsapp]
kind = "whatsapp"
tenant = "clinica-sol"
[channels.whatsapp.native]
app_secret = "an-invented-secret"
[channels.whatsapp.rocketchat]
webhook_url = "http://127.0.0.1:9/hook"
"""

pytestmark = pytest.mark.postgres
needs_desk = pytest.mark.skipif(find_spec("router.app") is None, reason="router.app opens the desk")


class Shell:
    """Runs `figueira` in a folder with a figueira.toml."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._folder = folder
        (folder / "figueira.toml").write_text(TOML)

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FIGUEIRA_")}
        environ = {**kept, "FIGUEIRA_HOME": str(self.home), "PYTHONPATH": str(ROOT), "USER": "ana"}
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", *argv],
            cwd=self._folder, env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def json(self, *argv: str, code: int = 0) -> Any:
        """What --json says; stdout holds that one object and nothing else."""
        found, out, err = self(*argv, "--json")
        assert found == code, err
        assert out.count("\n") == 1
        return json.loads(out)


@pytest.fixture
def figueira(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    with attach(shell.home):  # so that not every command starts and stops the server
        yield shell


def test_a_database_is_made_checked_and_named(figueira: Shell) -> None:
    assert figueira.json("db", "check", code=1)["ready"] is False
    assert figueira.json("db", "upgrade")["ready"] is True
    told = figueira.json("db", "check")
    assert told["revision"] == told["head"]
    told = figueira.json("db", "url")
    assert told["embedded"] is True
    assert told["url"].startswith("postgresql://")


@needs_desk
def test_a_flag_is_set_seen_and_killed(figueira: Shell) -> None:
    code, _, err = figueira("flags", "set", "whatsapp", "canary", "--percent", "10")
    assert (code, err.count("\n")) == (2, 1)

    told = figueira.json(
        "flags", "set", "whatsapp", "canary", "--percent", "10", "--reason", "first", "--wait"
    )
    assert (told["stage"], told["percent"], told["updated_by"]) == ("canary", 10, "ana")
    assert told["laggards"] == []
    assert figueira.json("flags", "show", "whatsapp")["revision"] == told["revision"]

    dry = figueira.json("flags", "set", "whatsapp", "native", "--reason", "all", "--dry-run")
    assert dry["dry_run"] == {}
    listed = {flag["kind"]: flag for flag in figueira.json("flags", "list")["items"]}
    assert listed["whatsapp"]["stage"] == "canary"

    assert figueira.json("flags", "kill", "whatsapp")["override"]["stage"] == "rocketchat"
    assert figueira.json("flags", "release", "whatsapp")["override"] is None
    assert figueira.json("flags", "release", "whatsapp", code=1)["error"]["code"] == "no_override"
    assert (
        figueira.json("flags", "set", "whatsapp", "retired", "--reason", "no", code=1)["error"]["code"]
        == "gated"
    )
    history = figueira.json("flags", "history", "whatsapp")["items"]
    assert [flag["reason"] for flag in history] == ["released", "killed", "first"]


@needs_desk
def test_keys_users_and_what_is_not_there(figueira: Shell) -> None:
    key = figueira.json(
        "keys", "create", "robot", "--tenant", "clinica-sol", "--scopes", "messages:write,webhook"
    )
    assert set(key) >= {"id", "name", "key", "scopes"}
    listed = figueira("keys", "list", "--json")[1]
    assert key["id"] in listed
    assert key["key"] not in listed
    assert figueira.json("keys", "revoke", key["id"])["revoked"] is True
    assert figueira("keys", "revoke", key["id"])[0] == 1

    made = figueira.json("users", "create", "ana@example.org", "--tenant", "all", "--role", "admin")
    assert made["password"]
    assert [user["email"] for user in figueira.json("users", "list")["items"]] == ["ana@example.org"]
    assert figueira("users", "create", "ana@example.org", "--tenant", "all", "--role", "admin")[0] == 1

    assert figueira.json("deadletters", "list") == {"items": []}
    assert figueira.json("deadletters", "replay") == {"replayed": 0}
    nobody = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert figueira.json("explain", nobody, code=1)["error"]["code"] == "unknown_conversation"
    assert figueira("move", nobody, "native", "--reason", "x")[0] == 1
    assert figueira("deadletters", "show", nobody)[0] == 1


@needs_desk
def test_the_doctor(figueira: Shell) -> None:
    told = figueira.json("doctor")
    states = {check["name"]: check["state"] for check in told["checks"]}
    assert told["ok"] is True
    assert states["processes"] == "warn"
    assert states["whatsapp"] == "warn"  # no token yet, and none needed yet
    assert states["dead letters"] == states["database"] == "ok"
    ledger = figueira.json("doctor", "--ledger")
    assert ledger["balanced"] is True
    assert ledger["events"] == 0
