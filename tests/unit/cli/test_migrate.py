"""figueira migrate: what is asked of the import, what is shown of it, and that a password never is."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import bson
import pytest

from migration.sources import SourceError
from router.app.imports import checking, copying, looking
from router.app.imports.parts import Outcome
from router.cli import migrate, progress, session
from router.cli.migrate import shown
from router.cli.progress import Bars, Lines, line_of, span
from router.control.progress import Bar, State
from tests.unit.cli.scene import Control, Figueira

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
SECRET = "mongodb://ana:s3cr3t@db.example:27017/rocketchat"
COUNTED = {
    "source": 5,
    "written": 2,
    "skipped": 1,
    "rejected": 2,
    "erased": 0,
    "skipped_by_reason": {"secret": 1},
}
DATA: Mapping[str, Any] = {"collections": {"users": COUNTED}, "changed": 2, "differences": 0}
GOOD = {"collections": {"users": {**COUNTED, "rejected": 0, "written": 4}}, "changed": 0, "differences": 0}


def called(mock: AsyncMock) -> Any:
    """What it was last called with."""
    assert mock.await_args is not None
    return mock.await_args


@pytest.fixture
def dump(home: Path) -> Path:
    folder = home / "dump"
    folder.mkdir()
    at = datetime(2024, 5, 6, tzinfo=UTC)
    room = {"_id": "r1", "t": "c", "name": "geral", "ts": at, "_updatedAt": at}
    (folder / "rocketchat_room.bson").write_bytes(bson.encode(room))
    said = {"_id": "m1", "rid": "gone", "msg": "segredo", "ts": at, "u": {"_id": "u1", "username": "ana"}}
    (folder / "rocketchat_message.bson").write_bytes(bson.encode(said))
    return folder


# inspect, for real ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["inspect", "import --dry-run"])
def test_inspect_needs_no_database(
    line: str, figueira: Figueira, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIGUEIRA_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("FIGUEIRA_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("FIGUEIRA_COHORT_KEY", "c" * 32)
    code, out, _ = figueira("migrate", *line.split(), str(dump), "--json")
    *before, last = out.splitlines()
    assert code == 1  # something would be rejected
    assert all("progress" in json.loads(one) for one in before)
    found = json.loads(last)
    assert found["collections"]["rocketchat_message"]["codes"] == {"orphan": 1}
    assert found["collections"]["rocketchat_room"]["written"] == 1


def test_inspect_is_read_by_people_too(figueira: Figueira, dump: Path) -> None:
    code, out, err = figueira("migrate", "inspect", str(dump), "--orphans", "keep")
    assert code == 0
    assert "rocketchat_message" in out
    assert "an import needs about" in out
    assert err.startswith("inspect: ")
    assert "segredo" not in out + err


def test_a_source_that_is_none_is_one_line(figueira: Figueira) -> None:
    code, out, err = figueira("migrate", "inspect", "/nowhere/at/all", "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "/nowhere/at/all" in err


# wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import", "SOURCE"),
        ("import x --resume --restart", "not allowed with"),
        ("import x --rooms q", "'q'"),
        ("import x --workers 0", "1 to 1000"),
        ("import x --workers 65", "at most 64"),
        ("import x --since 1d --until 2d", "--since must be before --until"),
        ("inspect env:NOT_THERE", "NOT_THERE"),
        ("rejects x", "--retry"),
        (f"work {RUN}", "FIGUEIRA_MIGRATE_SOURCE"),
        ("work x", "a UUID"),
        (f"status {SECRET}", "unrecognized"),
    ],
)
def test_one_line(line: str, said: str, figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIGUEIRA_MIGRATE_SOURCE", raising=False)
    code, out, err = figueira("migrate", *line.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert "s3cr3t" not in err


# what is asked, what is answered -------------------------------------------------------------------------------


def test_import_passes_on_what_was_chosen(figueira: Figueira, control: Control) -> None:
    copy = control(copying, "copy", Outcome(dict(GOOD)))
    line = [
        "--rooms",
        "l",
        "--since",
        "2024-01-01",
        "--workers",
        "3",
        "--restart",
        "--uploads",
        "/files",
        "--json",
    ]
    assert figueira("migrate", "import", SECRET, *line)[0] == 0
    settings, given, chosen, watch = called(copy).args
    assert (given, watch.act) == (SECRET, "import")
    since = datetime(2024, 1, 1, tzinfo=UTC)
    assert chosen == {"since": since, "until": None, "rooms": "l", "orphans": "reject"}
    assert called(copy).kwargs == {"workers": 3, "mode": "restart", "uploads": "/files", "environ": {}}
    assert settings.channels


def test_nothing_chosen_leaves_it_to_the_import_that_is_gone_on_with(
    figueira: Figueira, control: Control, home: Path
) -> None:
    copy = control(copying, "copy", Outcome(dict(GOOD)))
    config = str(home / "figueira.toml")
    figueira("migrate", "import", "dump", "--resume", "--config", config)
    assert called(copy).args[2] is None
    assert called(copy).kwargs["mode"] == "resume"
    assert called(copy).kwargs["environ"] == {"FIGUEIRA_CONFIG": config}


def test_rejects_make_it_fail_and_say_where_to_look(figueira: Figueira, control: Control) -> None:
    control(copying, "copy", Outcome(dict(DATA), notes=["figueira: a note"]))
    code, out, err = figueira("migrate", "import", "dump")
    assert code == 1
    assert out.splitlines()[1].split() == ["users", "5", "2", "1", "2", "0", "secret", "1"]
    assert err.splitlines() == [
        "figueira: a note",
        "figueira: 2 documents were rejected: `figueira migrate rejects` says why",
    ]


@pytest.mark.parametrize(
    ("line", "again"),
    [
        (f"import {SECRET} --workers 2 --uploads /f", "import mongodb://db.example:27017/rocketchat --resume --uploads /f --workers 2"),
        ("import env:MONGO", "import env:MONGO --resume"),
        ("import dump --rooms l", "import dump --resume"),
    ],
)  # fmt: skip
def test_stopped_says_how_to_go_on(
    line: str, again: str, figueira: Figueira, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO", SECRET)
    control(copying, "copy", Outcome(dict(DATA), stopped=True))
    code, out, err = figueira("migrate", *line.split(), "--json")
    assert code == 130
    assert json.loads(out)["stopped"] is True
    assert err == f"figueira: stopped at a checkpoint; go on with: figueira migrate {again}\n"


def test_a_difference_fails_the_verification(figueira: Figueira, control: Control) -> None:
    verify = control(checking, "verify", Outcome(dict(GOOD)))
    assert figueira("migrate", "verify", "dump")[1].endswith("nothing differs\n")
    first = [{"collection": "users", "kind": "missing", "source_id": "u1"}]
    verify.return_value = Outcome({**GOOD, "differences": 1, "first_differences": first})
    code, out, _ = figueira("migrate", "verify", "dump", "--repair")
    assert code == 1
    assert out.endswith("collection users, kind missing, source_id u1\n")
    assert called(verify).kwargs == {"repair": True}


def test_follow(figueira: Figueira, control: Control) -> None:
    data = {"events": 3, "changed": 2, "rejected": 0, "lag_seconds": 0.0, "collections": {}, "differences": 0}
    follow = control(checking, "follow", Outcome(data))
    assert figueira("migrate", "follow", SECRET, "--until-caught-up")[0] == 0
    assert called(follow).kwargs == {"until_caught_up": True}
    follow.return_value = Outcome(data, stopped=True)
    assert "follow mongodb://db.example:27017/rocketchat\n" in figueira("migrate", "follow", SECRET)[2]


def test_work_takes_its_source_from_the_environment(
    figueira: Figueira, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIGUEIRA_MIGRATE_SOURCE", SECRET)
    work = control(copying, "work", Outcome(dict(DATA)))  # what was rejected is the import's to say
    assert figueira("migrate", "work", RUN)[0] == 0
    assert called(work).args[1:3] == (SECRET, UUID(RUN))


def test_status(figueira: Figueira, control: Control) -> None:
    run = {
        "id": RUN, "source": "dump", "live": True, "state": "running", "started_at": "2024-05-06T00:00:00+00:00",
        "ended_at": None, "lag_seconds": 90.0,
    }  # fmt: skip
    rejects = [{"collection": "users", "code": "nul", "open": 2}]
    told = {**DATA, "run": run, "documents_per_second": 1.5, "rejects": rejects}
    status = control(looking, "status", told)
    code, out, _ = figueira("migrate", "status", "--run", RUN)
    assert code == 0
    assert "1 min 30 s" in out
    assert out.splitlines()[-1].split() == ["users", "nul", "2"]
    assert called(status).args[1] == UUID(RUN)
    status.return_value = {**told, "run": None}
    assert "no import yet" in figueira("migrate", "status")[1]


def test_rejects(figueira: Figueira, control: Control) -> None:
    one = {
        "collection": "users",
        "code": "nul",
        "source_id": "u1",
        "position": "7",
        "reason": "name holds NUL",
    }
    listed = control(looking, "rejects", {"counts": [{**one, "open": 1}], "items": [one]})
    code, out, _ = figueira("migrate", "rejects")
    assert code == 1
    assert "name holds NUL" in out
    listed.return_value = {"counts": [], "items": []}
    assert figueira("migrate", "rejects")[:2] == (0, "none\n")


@pytest.mark.parametrize(("given", "meant"), [((), None), (("dump",), "dump")])
def test_retry(figueira: Figueira, control: Control, given: tuple[str, ...], meant: str | None) -> None:
    data = {
        "retried": {"tried": 2, "settled": 2, "still": 0},
        "collections": {},
        "changed": 2,
        "differences": 0,
    }
    retry = control(checking, "retry", Outcome(data))
    assert figueira("migrate", "rejects", *given, "--retry")[0] == 0
    assert called(retry).args[1] == meant


def test_a_source_error_in_the_middle_is_wrong_use(figueira: Figueira, control: Control) -> None:
    control(checking, "verify", SourceError("db.example/rocketchat: no answer"))
    assert figueira("migrate", "verify", SECRET, "--json") == (
        2,
        "",
        "figueira: db.example/rocketchat: no answer\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_is_not(
    number: signal.Signals, figueira: Figueira, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 1

    async def until_stopped(_settings: object, _given: object, watch: Any, **_: object) -> Outcome:
        assert not watch.stopped()
        for _each in range(times):
            os.kill(os.getpid(), number)
        await asyncio.sleep(0)
        assert watch.stopped()
        return Outcome(dict(GOOD), stopped=True)

    monkeypatch.setattr(checking, "verify", until_stopped)
    before = signal.getsignal(number)
    code, _, err = figueira("migrate", "verify", "dump")
    assert (code, "go on with: figueira migrate verify dump" in err) == (130, True)
    times = 2
    code, out, err = figueira("migrate", "verify", "dump")
    assert (code, out, err) == (130, "", "")
    assert signal.getsignal(number) is before


# a password ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SECRET, "mongodb://db.example:27017/rocketchat"),
        (
            "mongodb+srv://a:b%40c@h/d?retryWrites=true&tlsCertificateKeyFilePassword=x",
            "mongodb+srv://h/d?retryWrites=true",
        ),
        ("mongodb://a:p@ss@h/d", "mongodb://h/d"),
        ("mongodb://a:p/w?@h/d", "mongodb://h/d"),
        ("mongodb://h/d?authMechanismProperties=AWS_SESSION_TOKEN:x", "mongodb://h/d"),
        ("/dumps/ana@home?password=x", "/dumps/ana@home?password=x"),
        ("env:MONGO", "env:MONGO"),
    ],
)
def test_what_is_shown_of_a_source(given: str, said: str) -> None:
    assert shown(given) == said


# progress ------------------------------------------------------------------------------------------------------

STATE = State("import", 10.0, {"users": Bar(10, 10, 0, ended=True), "rooms": Bar(90, 300, 2)}, begun=20)


def test_a_line_tells_pace_end_and_rejects() -> None:
    assert line_of(STATE) == "import: 100 of 310 documents, 8/s, 26 s left, 2 rejected"
    assert line_of(State("verify", 0.1, {"users": Bar(5)}, note="x")) == "verify: 5 documents, 0 rejected, x"
    assert [span(42), span(185), span(7800)] == ["42 s", "3 min 5 s", "2 h 10 min"]


def test_what_is_not_known_is_none() -> None:
    told = State("import", 0.1, {"users": Bar(5)}).shape()
    assert (told["total"], told["documents_per_second"], told["seconds_left"]) == (None, None, None)
    assert STATE.shape()["collections"]["rooms"] == {
        "documents": 90,
        "total": 300,
        "rejected": 2,
        "done": False,
    }


def test_lines_come_every_few_seconds() -> None:
    now = 0.0
    said: list[State] = []
    lines = Lines(said.append, lambda: now)
    for at in (0.0, 1.0, 4.9, 5.0, 6.0, 11.0):
        now = at
        lines.show(STATE)
    assert len(said) == 3


def test_bars_stand_for_the_collections_and_for_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    bars = Bars()
    bars.show(State("import", 1.0, {"us\x1b[31mers": Bar(3, 9, 1)}, note="making conversations"))
    bars.say("a line [of] it")
    bars.show(STATE)
    bars.close()
    said = capsys.readouterr().err
    assert "a line [of] it" in said
    assert "90 of 300" in said
    assert "100 of 310" in said
    assert "2 rejected" in said
    assert "\x1b[31mers" not in said


def test_a_terminal_gets_bars_and_programs_get_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = progress.display(as_json=True)
    board.show(STATE)
    assert json.loads(capsys.readouterr().out)["progress"]["documents"] == 100
    assert isinstance(progress.display(as_json=False), Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(progress.display(as_json=False), Bars)


def test_the_module_opens_nothing_by_itself(figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "open_desk", pytest.fail)
    assert figueira("migrate", "inspect", "--help")[0] == 0
    assert migrate.SOURCE_VARIABLE == copying.SOURCE_VARIABLE
