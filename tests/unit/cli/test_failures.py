"""What goes wrong is one line, whatever it was."""

import errno
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from router.cli import main, session
from router.control import flags as control_flags
from router.domain.errors import Unavailable
from tests.unit.cli.scene import Control, Figueira


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @asynccontextmanager
    async def opened(settings: object) -> AsyncIterator[None]:
        if settings:
            raise error
        yield

    monkeypatch.setattr(session, "open_desk", opened)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("the database cannot be reached (OSError)"), "unavailable"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "to ana:secret@db"), "unavailable"),
        (ValueError("5531996880001"), "defect"),
    ],
)
def test_no_traceback_and_no_value(
    figueira: Figueira, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    _failing(monkeypatch, error)
    found, out, err = figueira("flags", "list", "--json")
    assert found == 1
    assert json.loads(out)["error"]["code"] == code
    assert err.count("\n") == 1
    assert "secret" not in err
    assert "5531996880001" not in out + err


def test_a_defect_says_where(figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyError("x"))
    err = figueira("flags", "list")[2]
    assert "KeyError" in err
    assert "router.cli.session:" in err


def test_ctrl_c_is_quiet(figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert figueira("flags", "list") == (130, "", "")


def test_an_unreachable_database(figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGUEIRA_DATABASE_URL", "postgresql://ana:secretword@127.0.0.1:1/x")
    monkeypatch.setenv("FIGUEIRA_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("FIGUEIRA_COHORT_KEY", "k")
    for command in ("check", "upgrade"):
        code, out, err = figueira("db", command)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert "cannot be reached" in err
        assert "secretword" not in err


def test_a_reader_that_has_gone(
    control: Control, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    control(control_flags, "listing", [])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert main(["flags", "list"]) == 141
        monkeypatch.undo()
    assert capfd.readouterr().err == ""
