"""An import into PostgreSQL, from files."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import bson
import pytest

from migration.documents import Reject, decode
from migration.load import Options
from migration.rejects import Retried, retry
from migration.report import report
from migration.run import Import
from migration.sources import open_source
from router.storage.archive import open_archive
from router.storage.archive.model import RunState
from router.storage.archive.shape import MESSAGES, ROOMS
from tests.conftest import Server, fresh_name
from tests.integration.migration.import_scene import (
    BEGAN,
    MASK,
    everything,
    imported,
    importer,
    make_dump,
)  # fmt: skip
from tests.unit.migration.load_scene import Erased

pytestmark = pytest.mark.postgres

SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared"))
MESSAGE = "rocketchat_message"


async def test_everything_is_accounted_for_and_a_second_run_changes_nothing(dsn: str, tmp_path: Path) -> None:
    dump = make_dump(tmp_path, messages=1000)
    first = await imported(dsn, tmp_path)
    told = report(first.counts)["collections"]
    assert {name: one["source"] for name, one in told.items()} == {
        name: len(raws) for name, raws in dump.items()
    }
    assert all(account.balanced for account in first.counts.values())
    assert told["rocketchat_settings"]["skipped_by_reason"] == {"secret": 1}
    odd = {n: sum(1 for number in range(1000) if number % 97 == n) for n in (13, 14, 15, 17)}
    assert told[MESSAGE]["rejected"] == sum(odd.values())
    async with open_archive(dsn) as archive:
        counted = await archive.refusal_counts()
        assert await archive.kept(MESSAGE, MESSAGES) == told[MESSAGE]["written"]
        assert await archive.kept("rocketchat_room", ROOMS) == len(dump["rocketchat_room"])
    assert counted == {
        (MESSAGE, "nul"): odd[13], (MESSAGE, "orphan"): odd[14], (MESSAGE, "server"): odd[15], (MESSAGE, "invalid_bson"): odd[17],
    }  # fmt: skip
    before = await everything(dsn)
    second = await imported(dsn, tmp_path)
    assert second.run.id != first.run.id
    assert report(second.counts)["changed"] == 0
    after = await everything(dsn)
    assert {**after, "accounts": None} == {**before, "accounts": None}


async def test_the_rows_are_the_sources_own_bytes(dsn: str, tmp_path: Path) -> None:
    dump = make_dump(tmp_path, messages=300)
    await imported(dsn, tmp_path)
    expected = {}
    for raw in map(MASK, dump[MESSAGE]):
        (document,) = decode([raw])
        if not isinstance(document, Reject):
            expected[document["_id"]] = raw
    link = await asyncpg.connect(dsn)
    rows = await link.fetch("select source_id, raw, text, sent_at from archive_messages")
    indexes = {
        row[0] for row in await link.fetch("select indexname from pg_indexes where schemaname = 'public'")
    }
    await link.close()
    assert len(rows) > 280
    assert all(row["raw"] == expected[row["source_id"]] for row in rows)
    assert {row["sent_at"] for row in rows} <= {BEGAN.replace() + _seconds(n) for n in range(300)}
    assert {
        "archive_messages_room",
        "archive_rooms_unwoven",
        "archive_files_room",
        "archive_records_room",
    } <= indexes


def _seconds(count: int) -> Any:
    from datetime import timedelta

    return timedelta(seconds=count)


async def test_filters_and_erasures(dsn: str, tmp_path: Path) -> None:
    make_dump(tmp_path, messages=400)
    gone = {"room0000", "room0003"}
    erased = Erased(lambda info: BEGAN if info.room_id in gone else None)
    source = open_source(str(tmp_path))
    async with open_archive(dsn) as archive:
        outcome = await importer(source, archive, erased=erased, options=Options(rooms="l")).run()
        told = report(outcome.counts)["collections"]
        assert told["rocketchat_room"]["erased"] == 2
        assert told["rocketchat_room"]["skipped_by_reason"]["filtered"] > 5
        assert told[MESSAGE]["skipped_by_reason"]["filtered"] > 200
        standing = await archive.standing({*gone, "room0001", "room0006"})
        assert standing["room0000"].erased_at == BEGAN
        assert standing["room0001"].skipped == "filtered"
        assert standing["room0006"] == type(standing["room0006"])(None, None)
        # All rooms of the same source, later: what was left out comes in, what was erased stays out.
        again = await importer(source, archive, erased=erased).run()
        told = report(again.counts)["collections"]
        assert told["rocketchat_room"]["written"] == 18
        assert told[MESSAGE]["skipped"] == 0
    source.close()


async def test_rejects_are_tried_again_when_their_room_has_come(dsn: str, tmp_path: Path) -> None:
    dump = make_dump(tmp_path, messages=200)
    await imported(dsn, tmp_path)
    late = bson.encode({"_id": "nowhere", "t": "c", "ts": BEGAN})
    (tmp_path / "rocketchat_room.bson").write_bytes(b"".join([*dump["rocketchat_room"], late]))
    source = open_source(str(tmp_path))
    async with open_archive(dsn) as archive:
        sorter, loader = importer(source, archive)._loaders(Options(), frozenset())
        found = await retry(source, archive, loader, sorter, code="orphan")
        assert found == Retried(2, 2)
        assert {code for _, code in await archive.refusal_counts()} == {"nul", "server", "invalid_bson"}
        run = await archive.latest(source.name)
        assert run is not None
        counted = await archive.counts(run.id)
        assert all(account.balanced for account in counted.values())
        assert counted[MESSAGE].written == await archive.kept(MESSAGE, MESSAGES)
        assert await archive.unfinished(run.id) == 0
    source.close()


async def test_stopped_and_gone_on_with(dsn: str, tmp_path: Path) -> None:
    make_dump(tmp_path, messages=600)
    source = open_source(str(tmp_path))
    async with open_archive(dsn) as archive:
        one: Import = importer(source, archive, told=lambda _progress: one.stop())
        outcome = await one.run()
        assert outcome.stopped
        run = await archive.latest(source.name)
        assert run is not None
        assert run.state is RunState.STOPPED
        assert await archive.unfinished(run.id) > 0
        outcome = await asyncio.wait_for(importer(source, archive).run("resume"), 20)
        assert not outcome.stopped
        assert await archive.unfinished(run.id) == 0
    source.close()
    assert sum(account.source for account in outcome.counts.values()) == 600 + 30 + 20 + 1


async def test_workers_in_processes_of_their_own(dsn: str, tmp_path: Path, postgres: Server) -> None:
    make_dump(tmp_path, messages=500)
    source = open_source(str(tmp_path))
    async with open_archive(dsn) as archive, open_archive(dsn) as other:
        again = open_source(str(tmp_path))

        async def spawn(run_id: UUID) -> int:
            await importer(again, other).work(run_id)
            return 0

        outcome = await importer(source, archive, workers=2, spawn=spawn).run()
        again.close()
    source.close()
    assert (outcome.failed, outcome.stopped) == (0, False)
    assert all(account.balanced for account in outcome.counts.values())


async def test_killed_anywhere_and_gone_on_with_it_is_the_same(
    dsn: str, tmp_path: Path, postgres: Server, postgres_template: str
) -> None:
    """As `kill -9` does it: in the midst of a transaction, and right after one."""
    make_dump(tmp_path, messages=12_000)  # about ten blocks
    await imported(dsn, tmp_path, documents=40)
    expected = await everything(dsn)
    name = fresh_name()
    victim = await postgres.create(name, postgres_template)
    dice = random.Random(20)
    killed = 0
    module = "tests.integration.migration.import_scene"
    for _ in range(40):
        kill_at = dice.randrange(0, 8)
        command = [sys.executable, "-m", module, victim, str(tmp_path), "40", str(kill_at)]
        process = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, timeout=120, check=False
        )
        if process.returncode == 0:
            break
        assert process.returncode == -9, process.stderr.decode()
        killed += 1
    else:
        pytest.fail("it never came to its end")
    assert killed >= 2
    found = await everything(victim)
    await postgres.drop(name)
    assert found == expected


async def test_a_real_dump(dsn: str) -> None:
    folder = SHARED / "data" / "rocketchat-dump"
    if not folder.is_dir():
        pytest.skip(f"NO SHARED DUMP at {folder}: set FIGUEIRA_SHARED")
    outcome = await imported(dsn, folder)
    told = report(outcome.counts)["collections"]
    assert all(account.balanced for account in outcome.counts.values())
    assert (told[MESSAGE]["source"], told["rocketchat_room"]["source"]) == (87, 16)
    assert sum(one["rejected"] for one in told.values()) == 0
    link = await asyncpg.connect(dsn)
    assert await link.fetchval("select count(*) from archive_rooms where kind = 'l'") == 2
    assert await link.fetchval("select count(*) from archive_messages where visitor") == 2
    await link.close()
    again = await imported(dsn, folder)
    assert report(again.counts)["changed"] == 0
