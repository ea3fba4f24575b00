"""The commands against the embedded database of a home of their own."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli import main
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


class Shell:
    """Runs `figueira` in a folder with a figueira.toml."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        (folder / "figueira.toml").write_text(TOML)

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        """In this process: most of a command's time is its imports."""
        code = main(argv)
        out, err = self._capsys.readouterr()
        return code, out, err

    def process(self, *argv: str) -> tuple[int, str, str]:
        """As a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", *argv],
            cwd=self._folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def json(self, *argv: str, code: int = 0) -> Any:
        """What --json says; stdout holds that one object and nothing else."""
        found, out, err = self(*argv, "--json")
        assert found == code, err
        assert out.count("\n") == 1
        return json.loads(out)


@pytest.fixture
def figueira(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    for name in [name for name in os.environ if name.startswith("FIGUEIRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FIGUEIRA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USER", "ana")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with attach(tmp_path / "home"):  # so that not every command starts and stops the server
        yield Shell(tmp_path, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_as_processes(figueira: Shell) -> None:
    code, out, err = figueira.process("flags", "set", "whatsapp", "canary", "--percent", "10")
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, err = figueira.process(
        "flags", "set", "whatsapp", "canary", "--percent", "10", "--reason", "first", "--wait", "--json"
    )
    assert (code, err) == (0, "warning: rocketchat → canary skips shadow\n")
    assert (json.loads(out)["stage"], json.loads(out)["percent"]) == ("canary", 10)
    assert figueira.json("flags", "show", "whatsapp")["updated_by"] == "ana"


def test_a_database_is_made_checked_and_named(figueira: Shell) -> None:
    assert figueira.json("db", "check", code=1)["ready"] is False
    assert figueira.json("db", "upgrade")["ready"] is True
    told = figueira.json("db", "check")
    assert told["revision"] == told["head"]
    told = figueira.json("db", "url")
    assert told["embedded"] is True
    assert told["url"].startswith("postgresql://")


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
