"""Whatever is done to the archive behind the import's back is found, named, mended; and nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import bson
import pytest

from migration.load import Options
from migration.verify import Difference, Report
from router.storage.archive.shape import ROOMS
from router.storage.archive.store import open_archive
from tests.integration.migration.verify_scene import TOKEN, Scene, clinic, message, shown, write

pytestmark = pytest.mark.postgres

MESSAGES = "rocketchat_message"


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    link = await asyncpg.connect(dsn)
    async with open_archive(dsn) as archive:
        yield Scene(archive, link, write(tmp_path / "dump", clinic()))
    await link.close()


def found(report: Report) -> set[tuple[str, str, str | None]]:
    return {(each.collection, each.kind, each.source_id) for each in report.first}


def balanced(report: Report) -> bool:
    return all(tally.balanced for tally in report.collections.values())


async def test_an_import_is_proven(scene: Scene) -> None:
    run = await scene.copy()
    report = await scene.checked(run)
    assert report.differences == 0, shown(report)
    assert balanced(report)
    told = report.as_json()
    assert told["collections"][MESSAGES] == {
        "source": 120, "written": 120, "skipped": 0, "rejected": 0, "erased": 0, "skipped_by_reason": {}, "differences": 0
    }  # fmt: skip
    assert told["collections"]["rocketchat_settings"]["skipped_by_reason"] == {"secret": 3}
    assert told["changed"] == 0
    assert TOKEN not in shown(report)


TAMPERINGS = {
    "deleted": ("delete from archive_messages where source_id = 'm1-3'", {(MESSAGES, "missing", "m1-3")}),
    "flipped": (
        (
            "update archive_messages set raw = set_byte(raw, octet_length(raw) - 3, get_byte(raw, octet_length(raw) - 3) # 1)"
            " where source_id = 'm2-5'"
        ),
        {(MESSAGES, "different", "m2-5")},
    ),
    "column": ("update archive_messages set text = 'outro' where source_id = 'm3-1'", {(MESSAGES, "columns", "m3-1")}),
    "later": (
        "update archive_messages set updated_at = '2030-01-01', raw = '\\x00' where source_id = 'm3-2'",
        {(MESSAGES, "different", "m3-2")},
    ),
    "extra": (
        (
            "insert into archive_messages select 'stranger', room_id, kind, sent_at, updated_at, author_id, author, visitor,"
            " content_kind, text, thread_id, parent_id, hidden, edited_at, files, extra, raw from archive_messages"
            " where source_id = 'm4-4'"
        ),
        {(MESSAGES, "extra", "stranger")},
    ),
    "swapped": (
        (
            "update archive_messages set room_id = case source_id when 'm1-1' then 'r2' else 'r1' end"
            " where source_id in ('m1-1', 'm2-1')"
        ),
        {(MESSAGES, "different", "m1-1"), (MESSAGES, "different", "m2-1")},
    ),
    "room": ("delete from archive_rooms where source_id = 'r3'", {("rocketchat_room", "missing", "r3")}),
    "room's column": ("update archive_rooms set name = 'x' where source_id = 'r3'", {("rocketchat_room", "columns", "r3")}),
    "room's person": (
        "update archive_rooms set info = info || '{\"phones\": [\"+551100000000\"]}' where source_id = 'r0'",
        {("rocketchat_room", "columns", "r0")},
    ),
    "user": ("update archive_records set raw = raw || '\\x00' where source_id = 'u2'", {("users", "different", "u2")}),
    "file": ("update archive_files set name = 'x' where source_id = 'f1'", {("rocketchat_uploads", "columns", "f1")}),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_tampering_is_named_and_mended_and_nothing_else_is_touched(
    scene: Scene, tampering: str
) -> None:
    statement, expected = TAMPERINGS[tampering]
    run = await scene.copy()
    await scene.archive.file_done("f1", "stored", "5" * 64, 7)
    before = await scene.tables()
    marks = await scene.places()
    await scene.link.execute(statement)
    assert await scene.tables() != before

    report = await scene.checked(run)
    assert found(report) == expected, shown(report)
    assert report.differences == len(expected)
    assert "olá" not in shown(report)

    mended = await scene.checked(run, repair=True)
    assert (mended.differences, mended.changed) == (0, len(expected)), shown(mended)
    assert found(mended) == expected
    assert balanced(mended), shown(mended)
    assert await scene.tables() == before
    touched = {source_id for _, _, source_id in expected}
    for (table, source_id), place in (await scene.places()).items():
        # Rooms are written too: they are to be woven again.
        assert source_id in touched or table == "archive_rooms" or place == marks[table, source_id], source_id
    after = await scene.checked(run)
    assert (after.differences, after.changed) == (0, 0), shown(after)


async def test_a_difference_names_fields_lengths_and_digests_and_rooms(scene: Scene) -> None:
    run = await scene.copy()
    other = bson.encode(message("m2-5", "r2", 5, msg="segredo", editedAt=1))
    await scene.link.execute("update archive_messages set raw = $1 where source_id = 'm2-5'", other)
    await scene.link.execute("delete from archive_messages where source_id = 'm2-6'")
    report = await scene.checked(run)
    one = next(each for each in report.first if each.source_id == "m2-5")
    assert set(one.fields) == {"msg", "editedAt"}
    assert one.source is not None
    assert one.here is not None
    assert one.here.length == len(other)
    assert one.source.digest != one.here.digest
    assert report.collections[MESSAGES].rooms == {"r2": {"source": 20, "here": 19}}
    assert "segredo" not in shown(report)


async def test_many_buckets_are_looked_at_in_turns(scene: Scene) -> None:
    run = await scene.copy()
    await scene.link.execute("delete from archive_messages where source_id like '%-7'")
    await scene.link.execute(
        "update archive_messages set room_id = case room_id when 'r1' then 'r2' when 'r2' then 'r1' else room_id end"
    )
    before = await scene.checked(run, rows_at_once=10)
    assert before.collections[MESSAGES].kinds["missing"] == 6
    mended = await scene.checked(run, rows_at_once=10, repair=True)
    assert mended.differences == 0, shown(mended)
    assert mended.changed == 6 + 38
    assert (await scene.checked(run)).differences == 0


async def test_what_is_left_out_refused_or_double_is_told(scene: Scene) -> None:
    documents = clinic()
    said = documents[MESSAGES]
    said += [
        said[0],
        said[30],
        message("orphan-1", "nowhere"),
        {"_id": "no-room", "msg": "?", "ts": said[0]["ts"]},
    ]
    said += [message("m5-3", "r5", 3, msg="later", _updatedAt=said[-1]["ts"].replace(year=2025))]
    said += [message("nul", "r1", msg="a\x00b"), {"rid": "r1", "msg": "no id", "ts": said[0]["ts"]}]
    said += [message("dated", "r1", ts=bson.datetime_ms.DatetimeMS(10**17))]
    write(scene.folder, documents)
    run = await scene.copy()
    report = await scene.checked(run)
    assert report.differences == 0, shown(report)
    assert balanced(report), shown(report)
    tally = report.collections[MESSAGES]
    copied = (await scene.archive.counts(run.id))[MESSAGES]
    assert (tally.source, tally.rejected) == (copied.source, copied.rejected)
    assert (tally.written, tally.skipped) == (120, {"duplicate": 3})

    # A refusal that is settled without its document is one that is missing.
    await scene.archive.settle(MESSAGES, ["id:orphan-1"])
    again = await scene.checked(run)
    assert found(again) == {(MESSAGES, "missing", "orphan-1")}
    assert (await scene.checked(run, repair=True)).differences == 0
    assert (await scene.checked(run)).differences == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [(Options(rooms="l"), "filtered"), (Options(since=1_715_000_000_000 + 10 * 60_000), "filtered")],
)
async def test_a_filtered_import_is_proven_too(scene: Scene, options: Options, reason: str) -> None:
    run = await scene.copy(options)
    report = await scene.checked(run)
    assert report.differences == 0, shown(report)
    assert balanced(report)
    counts = await scene.archive.counts(run.id)
    for name, tally in report.collections.items():
        assert (tally.source, tally.written, tally.skipped) == (
            counts[name].source, counts[name].written, dict(counts[name].skipped)
        ), name  # fmt: skip
    assert report.collections[MESSAGES].skipped[reason]


async def test_who_is_erased_is_not_copied_back_by_a_repair(scene: Scene) -> None:
    run = await scene.copy()
    scene.erasures.rooms["r0"] = at = datetime.now(UTC)
    await scene.archive.delete(ROOMS, "rocketchat_room", ["r0"])
    await scene.link.execute(
        "insert into archive_rooms (source_id, kind, erased_at) values ('r0', 'l', $1)", at
    )
    await scene.link.execute("delete from archive_messages where room_id = 'r0' and source_id <> 'm0-3'")
    await scene.link.execute("delete from archive_files where room_id = 'r0'")
    report = await scene.checked(run, repair=True)
    # What was left behind goes; nothing of that room comes.
    assert found(report) == {(MESSAGES, "extra", "m0-3")}, shown(report)
    assert (report.differences, report.changed) == (0, 1), shown(report)
    assert not await scene.link.fetchval("select count(*) from archive_messages where room_id = 'r0'")
    assert report.collections[MESSAGES].erased == 20
    assert report.collections["rocketchat_room"].erased == 1
    assert balanced(report)


async def test_a_source_that_changed_since_is_said_so(scene: Scene) -> None:
    run = await scene.copy()
    documents = clinic()
    documents["users"][1]["name"] = "Agente X"
    documents["rocketchat_settings"][1]["value"] = 9
    write(scene.folder, documents)
    report = await scene.checked(run)
    assert found(report) == {
        ("users", "different", "u1"), ("users", "source_changed", None), ("rocketchat_settings", "source_changed", None)
    }  # fmt: skip


async def test_a_check_that_was_cut_off_goes_on(scene: Scene) -> None:
    run = await scene.copy()
    seen: list[str] = []

    class Cut(Exception):
        pass

    async def cut() -> Any:
        raise Cut

    with pytest.raises(Cut):
        await scene.checked(run, woven=cut)
    await scene.checked(run, told=lambda progress: seen.append(progress.collection))
    assert seen == []
    # That one came to its end: the next begins anew.
    await scene.checked(run, told=lambda progress: seen.append(progress.collection))
    assert MESSAGES in seen
    assert await scene.archive.noted(run.id, "verify") is None


async def test_cancelled_it_leaves_nothing_reading(scene: Scene) -> None:
    run = await scene.copy()
    task = asyncio.create_task(scene.checked(run))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await scene.checked(run)).differences == 0


async def test_a_cut_dump_is_accounted_for(scene: Scene) -> None:
    whole = (scene.folder / f"{MESSAGES}.bson").read_bytes()
    (scene.folder / f"{MESSAGES}.bson").write_bytes(whole[:-40])
    run = await scene.copy()
    report = await scene.checked(run)
    assert report.differences == 0, shown(report)
    tally = report.collections[MESSAGES]
    assert (tally.source, tally.written, tally.rejected) == (120, 119, 1)
    refused = await scene.archive.refusals(collection=MESSAGES)
    await scene.archive.settle(MESSAGES, [each.key for each in refused])
    assert (await scene.checked(run)).differences == 1
    assert (await scene.checked(run, repair=True)).changed == 1
    assert (await scene.checked(run)).differences == 0


async def test_a_collection_that_the_source_has_no_more_is_extra(scene: Scene) -> None:
    run = await scene.copy()
    (scene.folder / "rocketchat_livechat_department.bson").unlink()
    scene.source = None
    report = await scene.checked(run)
    assert found(report) == {("rocketchat_livechat_department", "extra", "d1")}, shown(report)
    assert (await scene.checked(run, repair=True)).changed == 1
    assert (await scene.checked(run)).differences == 0


async def test_what_the_database_refuses_while_mending_is_refused(scene: Scene) -> None:
    run = await scene.copy()
    await scene.link.execute("delete from archive_messages where source_id in ('m1-1', 'm1-2')")
    await scene.link.execute("alter table archive_messages add constraint picky check (source_id <> 'm1-2')")
    report = await scene.checked(run, repair=True)
    assert (report.differences, report.changed) == (0, 2), shown(report)
    tally = report.collections[MESSAGES]
    assert (tally.written, tally.rejected) == (119, 1)
    (refused,) = await scene.archive.refusals(collection=MESSAGES)
    assert (refused.source_id, refused.code) == ("m1-2", "server")


async def test_what_the_weave_finds_and_parts_not_done_are_told(scene: Scene) -> None:
    run = await scene.copy()

    async def woven() -> list[Difference]:
        return [Difference(MESSAGES, "unwoven", "m0-1", "r0")]

    await scene.archive.plan(run.id, "users", [{"from": 0, "to": None}, {"from": 0, "to": 0}])
    report = await scene.checked(run, woven=woven)
    assert (report.differences, report.unfinished) == (1, 1)
    assert found(report) | {(MESSAGES, "unwoven", "m0-1")} == {(MESSAGES, "unwoven", "m0-1")}
