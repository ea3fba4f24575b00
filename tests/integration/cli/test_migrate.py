"""figueira migrate against a real database: copied, stopped, gone on with, proved, looked at."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest

from router.cli import main, migrate

pytestmark = pytest.mark.postgres

AT = datetime(2024, 5, 6, tzinfo=UTC)
TOML = """
[channels.whatsapp]
kind = "whatsapp"
tenant = "clinica-sol"
"""
Figueira = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def dump(tmp_path: Path) -> str:
    user = {"_id": "u1", "username": "ana"}
    rooms = [{"_id": f"r{n}", "t": "c", "name": f"sala {n}", "ts": AT, "_updatedAt": AT} for n in range(5)]
    said = [
        {"_id": f"m{n}", "rid": f"r{n % 6}", "msg": "segredo", "ts": AT, "_updatedAt": AT, "u": user} for n in range(60)
    ]  # fmt: skip
    folder = tmp_path / "dump"
    folder.mkdir()
    held: dict[str, list[dict[str, Any]]] = {
        "rocketchat_room": rooms,
        "rocketchat_message": said,
        "users": [user],
    }
    for name, documents in held.items():
        (folder / f"{name}.bson").write_bytes(b"".join(bson.encode(one) for one in documents))
    return str(folder)


@pytest.fixture
def figueira(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Figueira:
    """Exit code, the last line of --json, stderr."""
    home = {
        "HOME": str(tmp_path / "home"),
        "DATABASE_URL": dsn,
        "SECRET_KEY": "s" * 32,
        "COHORT_KEY": "c" * 32,
    }
    for name, value in home.items():
        monkeypatch.setenv(f"FIGUEIRA_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figueira.toml").write_text(TOML)

    def run(*argv: str) -> tuple[int, Any, str]:
        code = main(["migrate", *argv, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if out else None, err

    return run


@pytest.mark.parametrize("workers", ["1", "2"])
def test_copied_repeated_and_proved(workers: str, figueira: Figueira, dump: str) -> None:
    code, found, err = figueira("import", dump, "--workers", workers)
    assert code == 1  # one room is not there
    counted = found["collections"]["rocketchat_message"]
    assert (counted["source"], counted["written"], counted["rejected"]) == (60, 50, 10)
    assert found["changed"] > 0
    assert "10 documents were rejected" in err
    assert "a worker ended" not in err

    code, found, _ = figueira("import", dump)
    assert (code, found["changed"]) == (1, 0)
    assert figueira("verify", dump)[:2][1]["differences"] == 0
    kept = figueira("import", dump, "--orphans", "keep")
    assert (kept[0], kept[1]["changed"]) == (0, 10)
    assert figueira("rejects")[0] == 0


def test_stopped_and_gone_on_with(figueira: Figueira, dump: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    with monkeypatch.context() as patched:
        patched.setattr(migrate, "stoppable", at_once)
        code, found, err = figueira("import", dump, "--orphans", "keep")
    assert (code, found["stopped"]) == (130, True)
    assert f"go on with: figueira migrate import {dump} --resume" in err
    assert figueira("status")[1]["run"]["state"] == "stopped"

    code, _, err = figueira("import", dump, "--rooms", "l")
    assert (code, "other filters" in err) == (2, True)
    code, found, _ = figueira("import", dump, "--resume")
    assert (code, found["collections"]["rocketchat_message"]["written"]) == (0, 60)  # it kept its filters
    assert figueira("verify", dump)[0] == 0
    code, _, err = figueira("import", dump, "--resume")
    assert (code, "leave --resume out" in err) == (2, True)


def test_status_and_rejects(figueira: Figueira, dump: str) -> None:
    assert figueira("status")[1]["run"] is None
    figueira("import", dump)
    code, found, _ = figueira("status")
    one = found["collections"]["rocketchat_message"]
    assert (code, one["parts"], one["parts_done"], found["differences"]) == (0, 1, 1, 10)
    assert one["source"] == one["written"] + one["skipped"] + one["rejected"] + one["erased"]
    code, found, _ = figueira("rejects")
    assert (code, found["counts"]) == (
        1,
        [{"collection": "rocketchat_message", "code": "orphan", "open": 10}],
    )
    assert "segredo" not in str(found)
    for source in ((), (dump,)):
        code, found, _ = figueira("rejects", *source, "--retry")
        assert (code, found["retried"]) == (1, {"tried": 10, "settled": 0, "still": 10})


def test_nothing_to_verify_and_nothing_to_follow(figueira: Figueira, dump: str) -> None:
    code, _, err = figueira("verify", dump)
    assert (code, "figueira migrate import" in err) == (2, True)
    code, _, err = figueira("follow", dump)
    assert (code, "a dump does not change" in err) == (2, True)


def test_two_sources_in_one_database(figueira: Figueira, dump: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    said = {"_id": "x1", "rid": "x", "msg": "segredo", "ts": AT, "_updatedAt": AT, "u": {"_id": "u9"}}
    (other / "rocketchat_room.bson").write_bytes(bson.encode({"_id": "x", "t": "c", "ts": AT}))
    (other / "rocketchat_message.bson").write_bytes(bson.encode(said))
    figueira("import", dump, "--orphans", "keep")
    code, _, err = figueira("verify", "dump")  # the same source, typed otherwise
    assert (code, "another source" in err) == (0, False)
    assert figueira("import", str(other))[0] == 0

    code, found, err = figueira("verify", dump)
    assert (code, found["differences"]) == (1, 2)
    assert {one["kind"] for one in found["first_differences"]} == {"extra"}
    assert f"another source was imported into this database too: {other}" in err
    code, found, err = figueira("verify", dump, "--repair")
    assert (code, found) == (2, None)
    assert f"--repair would delete what was imported into this database from {other}" in err
    assert "one Rocket.Chat per database" in err
    assert figueira("verify", dump)[1]["differences"] == 2  # nothing went


def test_a_source_that_is_not_rocket_chats(figueira: Figueira, dump: str, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "orders.bson").write_bytes(bson.encode({"_id": 1}))
    code, found, err = figueira("import", str(foreign))
    assert (code, found["collections"]["orders"]["skipped_by_reason"]) == (0, {"unknown_collection": 1})
    assert f"{foreign}: none of its 1 collections is named rocketchat_" in err
    assert "none of its" not in figueira("import", dump)[2]
