"""Sums, single rows, files and indexes on the real server."""

import asyncio
from contextlib import aclosing

import asyncpg
import pytest

from migration.documents import digest
from router.domain.errors import StoreError
from router.storage.archive import Archive, landing
from router.storage.archive.checking import bucket
from router.storage.archive.indexes import INDEXES
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, SHAPES, Shape
from tests.integration.storage.archive.conftest import Place
from tests.integration.storage.archive.documents import (
    AT,
    MESSAGE,
    ROOM,
    UPLOAD,
    USER,
    Row,
    chunk,
    landed,
    mark,
    message,
    part_of,
    room,
    upload,
    user,
)

pytestmark = pytest.mark.postgres


def summed(shape: Shape, rows: list[Row], bits: int) -> dict[int, tuple[int, int]]:
    """What the source's side makes of the same documents."""
    key = shape.names.index("room_id" if shape == MESSAGES else "source_id")
    found: dict[int, tuple[int, int]] = {}
    for one in rows:
        count, total = found.get(bucket(one[key], bits), (0, 0))
        found[bucket(one[key], bits)] = (count + 1, total ^ digest(one[-1]))
    return found


@pytest.mark.parametrize("bits", [0, 3, 12, 32])
async def test_sums_are_those_of_the_sources_documents(archive: Archive, bits: int) -> None:
    rows = {
        MESSAGES: [message(f"m{n}", f"r{n % 40}") for n in range(300)],
        ROOMS: [room(f"r{n}") for n in range(40)],
        RECORDS: [user(f"u{n}") for n in range(60)],
    }
    names = {MESSAGES: MESSAGE, ROOMS: ROOM, RECORDS: USER}
    for shape, made in rows.items():
        await landed(archive, shape, *made, collection=names[shape])
    await landed(archive, RECORDS, user("x", "roles"), collection="roles")
    for shape, made in rows.items():
        assert await archive.sums(shape, names[shape], bits) == summed(shape, made, bits)


async def test_the_rows_of_some_buckets(archive: Archive) -> None:
    rows = [message(f"m{n}", f"r{n % 40}") for n in range(3000)]
    await landed(archive, MESSAGES, *rows, collection=MESSAGE)
    await landed(archive, RECORDS, user("a"), user("a", "roles"), collection=USER)
    part = await part_of(archive, ROOM)
    await archive.add(part, chunk(ROOMS, room("a"), marks=[mark("b", None, AT)]), merge=False)
    wanted = [bucket("r1", 4), bucket("r2", 4)]
    found = [one async for one in archive.rows_of(MESSAGES, MESSAGE, wanted, 4)]
    assert len(found) > 150
    assert sorted(found) == sorted((r[0], r[1], digest(r[-1])) for r in rows if bucket(r[1], 4) in wanted)
    (only,) = [one async for one in archive.rows_of(RECORDS, "roles", [bucket("a")])]
    assert only == ("a", None, digest(user("a", "roles")[-1]))
    (one_room,) = [one async for one in archive.rows_of(ROOMS, ROOM, [bucket("a"), bucket("b")])]
    assert one_room == ("a", "a", digest(room("a")[-1]))
    async with aclosing(archive.rows_of(MESSAGES, MESSAGE, [0], 0)) as some:
        async for _ in some:
            break
    assert await archive.kept(MESSAGE, MESSAGES) == 3000
    with pytest.raises(ValueError, match="bits"):
        await archive.sums(MESSAGES, MESSAGE, 33)


async def test_samples_are_spread_and_repeatable(archive: Archive) -> None:
    await landed(archive, MESSAGES, *(message(f"m{n}") for n in range(200)), collection=MESSAGE)
    first = [one["source_id"] for one in await archive.sample(MESSAGES, MESSAGE, 20)]
    assert [one["source_id"] for one in await archive.sample(MESSAGES, MESSAGE, 20)] == first
    assert {one["source_id"] for one in await archive.sample(MESSAGES, MESSAGE, 20, seed=1)} != set(first)
    assert len({one["source_id"] for one in await archive.sample(MESSAGES, MESSAGE, 999)}) == 200


async def test_rows_the_source_does_not_have_are_deleted(archive: Archive, place: Place) -> None:
    await landed(archive, ROOMS, room("r1"), room("r2"), collection=ROOM)
    await landed(archive, MESSAGES, message("a"), message("b", "r2"), collection=MESSAGE)
    await landed(archive, RECORDS, user("a"), user("a", "roles"), collection=USER)
    await place.fetch("update archive_rooms set woven = true")
    assert await archive.delete(MESSAGES, MESSAGE, ["a", "none"]) == 1
    assert await place.fetch("select source_id from archive_rooms where not woven") == [("r1",)]
    assert await archive.delete(RECORDS, USER, ["a"]) == 1
    assert await archive.kept("roles", RECORDS) == 1
    assert await archive.delete(ROOMS, ROOM, ["r1", "r2"]) == 2
    assert await archive.empty(ROOMS)
    assert await archive.tombstones(MESSAGE, ["a"]) == set()


# ---- files


async def test_files_wait_until_they_are_done(archive: Archive, place: Place) -> None:
    await landed(archive, ROOMS, room("r1"), collection=ROOM)
    files = [upload(f"f{n}", extra=b'{"progress":1}') for n in range(5)]
    await landed(archive, FILES, *files, collection=UPLOAD)
    await place.fetch("update archive_rooms set woven = true")
    page = await archive.files_waiting(None, 2)
    assert [one["source_id"] for one in page] == ["f0", "f1"]
    assert page[0]["extra"] == {"progress": 1}
    assert "raw" not in page[0]
    await archive.file_done("f2", "stored", sha256="ab", size=3)
    assert await place.fetch("select woven from archive_rooms") == [(False,)]
    await archive.file_done("f3", "missing", error="no_chunks")
    assert [one["source_id"] for one in await archive.files_waiting("f1", 9)] == ["f4"]
    found = await archive.row(FILES, UPLOAD, "f2")
    assert found is not None
    assert (found["state"], found["sha256"], found["stored_size"]) == ("stored", "ab", 3)
    with pytest.raises(StoreError):
        await archive.file_done("f4", "lost")
    # What another run may have the place of.
    await landed(archive, FILES, upload("fs", store="FileSystem:Uploads"), collection=UPLOAD, merge=True)
    await archive.file_done("fs", "missing", error="no_place")
    await archive.files_again()
    outside = await place.fetch(
        "select state from archive_files where source_id in ('fs', 'f3') order by source_id"
    )
    assert outside == [("missing",), ("waiting",)]
    await archive.file_done("fs", "skipped", error="too_large")
    await place.fetch("delete from archive_files where source_id = 'fs'")
    # Another version of the document: what is stored stays so, what was missing is looked for again.
    again = [upload(f"f{n}", name="novo") for n in (2, 3)]
    await landed(archive, FILES, *again, upload("f4", size=9), collection=UPLOAD, merge=True)
    states = "select source_id, state from archive_files where source_id > 'f1' order by 1"
    assert await place.fetch(states) == [("f2", "stored"), ("f3", "waiting"), ("f4", "waiting")]
    await landed(archive, FILES, upload("f2", size=9), collection=UPLOAD, merge=True)
    assert (await place.fetch(states))[0] == ("f2", "waiting")


async def test_no_file_is_told_while_rooms_are_woven(archive: Archive, place: Place) -> None:
    """The room would be called woven afterwards, without it."""
    await landed(archive, FILES, upload("f1"), collection=UPLOAD)
    link = await asyncpg.connect(place.dsn)
    try:
        async with link.transaction():
            await landing.alone(link, [UPLOAD])  # type: ignore[arg-type]
            telling = asyncio.create_task(archive.file_done("f1", "missing", error="no_chunks"))
            await asyncio.wait({telling}, timeout=0.3)
            assert not telling.done()
        await telling
    finally:
        await link.close()
    assert await archive.files_waiting(None, 1) == []


# ---- indexes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_indexes_go_and_come_back_as_the_upgrade_made_them(
    archive: Archive, place: Place, shape: Shape
) -> None:
    made = "select indexname, indexdef from pg_indexes where tablename = $1 order by 1"
    before = await place.fetch(made, shape.table)
    assert {name for name, _ in before} == {f"{shape.table}_pkey", *INDEXES[shape.table]}
    assert await archive.empty(shape)
    for _ in range(2):
        await archive.drop_indexes(shape)
    assert [name for name, _ in await place.fetch(made, shape.table)] == [f"{shape.table}_pkey"]
    for _ in range(2):
        await archive.build_indexes(shape)
    assert await place.fetch(made, shape.table) == before
    known = "select last_analyze is not null from pg_stat_user_tables where relname = $1"
    assert await place.fetch(known, shape.table) == [(True,)]
