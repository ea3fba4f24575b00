"""Chunks on the real server: what gets in, what wins, what is refused, and which rooms are woven again."""

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from router.domain.errors import Conflict
from router.storage.archive import Archive, BadRows
from router.storage.archive.model import Account, Chunk, Standing
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape
from tests.integration.storage.archive.conftest import Place
from tests.integration.storage.archive.documents import (
    AT,
    MESSAGE,
    MINUTE,
    MS,
    ROOM,
    UPLOAD,
    USER,
    account,
    begun,
    chunk,
    gone,
    landed,
    mark,
    message,
    part_of,
    refused,
    room,
    row,
    upload,
    user,
)

pytestmark = pytest.mark.postgres
WOVEN = "update archive_rooms set woven = true"


async def unwoven(place: Place) -> list[object]:
    found = await place.fetch("select source_id from archive_rooms where not woven order by 1")
    return [one[0] for one in found]


# ---- what is kept


FULL = {
    MESSAGES: {
        "room_id": "r", "kind": "uj", "sent_at": MS + 1, "updated_at": MS + 2, "author_id": "u", "author": "ana",
        "visitor": True, "content_kind": "text", "text": "olá 🌳", "thread_id": "t", "parent_id": "p",
        "hidden": False, "edited_at": -62_135_596_800_000, "files": b'[{"id":"f"}]', "extra": b'{"urls":[1]}',
    },
    ROOMS: {
        "kind": "l", "name": "n", "created_at": MS, "updated_at": MS, "active_at": MS, "closed_at": 253_402_300_799_999,
        "open": True, "source_type": "app", "source_ref": "a", "visitor_id": "v", "agent_id": "g",
        "department_id": "d", "contact_ref": "c", "info": b'{"a":1}', "extra": b"null",
    },
    FILES: {
        "room_id": "r", "user_id": "u", "name": "n", "mime": "m", "size": 2**40, "store": "s", "path": "p",
        "uploaded_at": MS, "updated_at": MS, "complete": False, "extra": b"{}",
    },
    RECORDS: {
        "collection": USER, "kind": "k", "name": "n", "room_id": "r", "user_id": "u", "at": MS, "updated_at": MS,
        "extra": b"{}",
    },
}  # fmt: skip


def _read(value: Any) -> Any:
    """A value as the row gives it back."""
    return json.loads(value) if isinstance(value, bytes) else value


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("shape", FULL, ids=lambda shape: shape.table)
async def test_every_column_comes_back(archive: Archive, shape: Shape, merge: bool) -> None:
    full = row(shape, source_id="full", raw=b"\x00\xff raw", **FULL[shape])
    needed = {name: FULL[shape][name] for name in ("collection", "room_id", "sent_at") if name in FULL[shape]}
    bare = row(shape, source_id="bare", raw=b"", **needed)
    await landed(archive, shape, full, bare, collection=USER, merge=merge)
    found = await archive.row(shape, USER, "full")
    assert found is not None
    assert (found["source_id"], found["raw"], found["tenant_id"]) == ("full", b"\x00\xff raw", "*")
    for name, value in FULL[shape].items():
        got = found[name]
        if isinstance(got, datetime):
            assert (got - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000 == pytest.approx(value)
        else:
            assert got == _read(value), name
    empty = await archive.row(shape, USER, "bare")
    assert empty is not None
    assert {name for name in shape.names if empty[name] is not None} == {"source_id", "raw", *needed}
    assert await archive.row(shape, USER, "none") is None
    assert await archive.kept(USER, shape) == 2
    assert await archive.empty(shape) is False


async def test_records_are_kept_by_collection(archive: Archive) -> None:
    await landed(archive, RECORDS, user("a"), user("b"), collection=USER)
    await landed(archive, RECORDS, user("a", "rocketchat_subscription"), collection="rocketchat_subscription")
    assert await archive.kept(USER, RECORDS) == 2
    assert await archive.kept("rocketchat_subscription", RECORDS) == 1
    assert await archive.row(RECORDS, "rocketchat_subscription", "b") is None


async def test_a_chunk_of_large_documents(archive: Archive) -> None:
    size = 6 * 1024 * 1024
    rows = [message(str(n), raw=bytes([n]) * size) for n in range(1, 4)]
    await landed(archive, MESSAGES, message("s"), *rows, message("t"), collection=MESSAGE)
    found = await archive.row(MESSAGES, MESSAGE, "2")
    assert found is not None
    assert found["raw"] == b"\x02" * size
    assert await archive.kept(MESSAGE, MESSAGES) == 5


# ---- straight in, or merged


async def test_a_row_that_is_there_asks_for_a_merge_and_nothing_is_written(archive: Archive) -> None:
    await landed(archive, MESSAGES, message("a"), collection=MESSAGE)
    part = await part_of(archive)
    told = chunk(
        MESSAGES, message("b"), message("a"), refused=[refused("id:x")], marks=[mark("r9", "filtered")]
    )
    with pytest.raises(Conflict):
        await archive.add(part, told, merge=False)
    assert await archive.kept(MESSAGE, MESSAGES) == 1
    assert await archive.refusals() == []
    assert await archive.standing(["r9"]) == {}
    assert (await archive.parts(part.run_id))[0] == part
    part = await archive.add(part, told, merge=True)
    assert (part.account.written, part.account.changed) == (2, 1)
    assert await archive.kept(MESSAGE, MESSAGES) == 2


@pytest.mark.parametrize(
    ("shape", "make", "collection"),
    [(MESSAGES, message, MESSAGE), (ROOMS, room, ROOM), (FILES, upload, UPLOAD), (RECORDS, user, USER)],
)
async def test_what_has_not_changed_is_not_written_again(
    archive: Archive, place: Place, shape: Shape, make: Callable[[str], Any], collection: str
) -> None:
    rows = [make(str(number)) for number in range(300)]
    await landed(archive, shape, *rows, collection=collection)
    places = f"select ctid, xmin, xmax from {shape.table} order by source_id"  # noqa: S608
    before = await place.fetch(places)
    part = await landed(archive, shape, *rows, collection=collection, merge=True)
    assert (part.account.written, part.account.changed) == (300, 0)
    assert await place.fetch(places) == before


async def test_an_older_version_does_not_replace_a_newer_one(archive: Archive) -> None:
    await landed(archive, MESSAGES, message("a", updated=5, text="nova"), collection=MESSAGE)
    for updated, text, wins in (
        (4, "velha", False),
        (5, "do mesmo instante", True),
        (6, "mais nova", True),
        (None, "sem data", True),
        (1, "com data", True),
        (0, "outra vez velha", False),
    ):
        was = await archive.row(MESSAGES, MESSAGE, "a")
        assert was is not None
        part = await landed(
            archive, MESSAGES, message("a", updated=updated, text=text), collection=MESSAGE, merge=True
        )
        assert (part.account.written, part.account.changed) == (1, int(wins))
        now = await archive.row(MESSAGES, MESSAGE, "a")
        assert now is not None
        assert now["text"] == (text if wins else was["text"])


async def test_the_last_of_one_documents_rows_counts(archive: Archive) -> None:
    rows = [message("a", updated=9, text="1"), message("b"), message("a", updated=3, text="2")]
    part = await part_of(archive)
    with pytest.raises(Conflict):
        await archive.add(part, chunk(MESSAGES, *rows), merge=False)
    part = await archive.add(part, chunk(MESSAGES, *rows), merge=True)
    assert part.account == account(rows, written=2, skipped={"duplicate": 1}, changed=2)
    assert part.account.balanced
    found = await archive.row(MESSAGES, MESSAGE, "a")
    assert found is not None
    assert found["text"] == "2"


async def test_a_deleted_document_does_not_come_back(archive: Archive) -> None:
    run = await begun(archive)
    await archive.apply(run.id, [gone(MESSAGES, "a", MESSAGE), gone(RECORDS, "b", USER)], b"t", None)
    part = await part_of(archive, MESSAGE, run)
    told = chunk(MESSAGES, message("a"), message("b"))
    with pytest.raises(Conflict, match="deleted"):
        await archive.add(part, told, merge=False)
    part = await archive.add(part, told, merge=True)
    assert part.account == account(told.rows, written=1, skipped={"deleted": 1}, changed=1)
    assert await archive.row(MESSAGES, MESSAGE, "a") is None
    # Another collection's tombstones do not matter.
    await archive.add(await part_of(archive, ROOM, run), chunk(ROOMS, room("a")), merge=False)


async def test_a_deletion_under_way_is_waited_for(archive: Archive, place: Place) -> None:
    run = await begun(archive)
    await landed(archive, ROOMS, room("r1"), collection=ROOM)
    part = await part_of(archive, MESSAGE, run)
    async with archive._writers.acquire() as link, link.transaction():
        await link.execute("select from archive_rooms for update")  # the changes wait for the room
        await place.fetch("select 1")
        await link.execute(WOVEN)
        applying = asyncio.create_task(
            archive.apply(run.id, [gone(MESSAGES, "a", MESSAGE), gone(ROOMS, "r1", ROOM)], b"t", None)
        )
        while not await place.fetch("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        adding = asyncio.create_task(archive.add(part, chunk(MESSAGES, message("a")), merge=True))
        await asyncio.sleep(0.2)
        assert not adding.done()
    await applying
    assert (await adding).account.skipped == {"deleted": 1}
    assert await archive.kept(MESSAGE, MESSAGES) == 0


async def test_workers_that_meet_bring_everything_in(archive: Archive) -> None:
    """The same rooms and messages, in different orders, from several parts at once."""
    run = await begun(archive)
    await landed(archive, ROOMS, *(room(f"r{n}") for n in range(20)), collection=ROOM)
    await archive.plan(run.id, MESSAGE, [{"n": n} for n in range(6)])

    async def work(number: int) -> None:
        part = await archive.claim(run.id, None, uuid.uuid4(), MINUTE)
        assert part is not None
        rows = [message(f"m{n}", f"r{n % 20}", updated=number, text=str(number)) for n in range(200)]
        rows = rows[::-1] if number % 2 else rows
        marks = [mark(f"r{n}", erased_at=AT) for n in (range(20) if number % 2 else reversed(range(20)))]
        await archive.add(part, chunk(MESSAGES, *rows, marks=marks), merge=True)

    await asyncio.gather(*(work(number) for number in range(6)))
    assert await archive.kept(MESSAGE, MESSAGES) == 200
    assert (await archive.counts(run.id))[MESSAGE].written == 1200


# ---- values that cannot be


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"text": "segredo\x00"}, "text"),
        ({"text": "segredo\ud800"}, "text"),
        ({"text": 5}, "text"),
        ({"at": 2**62}, "sent_at"),
        ({"at": 10**17}, "sent_at"),
        ({"sent_at": None}, "sent_at"),
        ({"room_id": None}, "room_id"),
        ({"room_id": "segredo" * 200}, "room_id"),
        ({"extra": b"{segredo"}, "extra"),
        ({"extra": rb'{"a":"segredo\u0000"}'}, "extra"),
        ({"raw": 5}, "raw"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
async def test_a_value_postgresql_does_not_take(
    archive: Archive, merge: bool, values: dict[str, Any], column: str
) -> None:
    part = await part_of(archive)
    whole = {"raw": b"r", **values}
    told = Chunk(MESSAGES, [message("a"), message("b", **whole)], Account(2, 2), "2")
    with pytest.raises(BadRows, match=column) as caught:
        await archive.add(part, told, merge=merge)
    assert "segredo" not in str(caught.value)
    assert caught.value.__cause__ is None
    # Nothing of it is there, and the connection is as good as new.
    assert await archive.parts(part.run_id) == [part]
    await archive.add(part, chunk(MESSAGES, message("a")), merge=merge)
    assert await archive.kept(MESSAGE, MESSAGES) == 1


async def test_rows_of_another_length(archive: Archive) -> None:
    part = await part_of(archive)
    for rows in ([message("a")[1:]], [message("a"), message("b")[1:]]):
        with pytest.raises(BadRows):
            await archive.add(part, Chunk(MESSAGES, rows, Account(1, 1), None), merge=False)


# ---- rooms


async def test_rooms_that_are_marked(archive: Archive, place: Place) -> None:
    part = await part_of(archive, ROOM)
    told = [
        mark("out", "filtered"),
        mark("out", "left"),
        mark("both", "left", AT),
        mark("gone", None, AT),
        mark("kept", "filtered", AT),
        mark("nothing"),
    ]
    part = await archive.add(part, chunk(ROOMS, room("kept"), room("r"), marks=told), merge=False)
    known = {
        "out": Standing("left", None),
        "both": Standing("left", AT),
        "gone": Standing(None, AT),
        "kept": Standing(None, AT),
        "r": Standing(None, None),
    }
    asked = [*known, "nothing", "unknown"]
    assert await archive.standing(asked) == known
    assert await archive.kept(ROOM, ROOMS) == 2
    assert sum(n for n, _ in (await archive.sums(ROOMS, ROOM)).values()) == 2
    assert await archive.row(ROOMS, ROOM, "gone") is None
    places = "select ctid, xmin, xmax from archive_rooms order by source_id"
    before = await place.fetch(places)
    await archive.add(part, chunk(ROOMS, room("kept"), marks=told[1:]), merge=True)
    assert await place.fetch(places) == before
    # Kept by a later run; what is erased stays so, and is never taken back.
    later = AT + MINUTE
    part = await archive.add(
        part, chunk(ROOMS, room("out"), room("both"), marks=[mark("gone", None, later)]), merge=True
    )
    part = await archive.add(
        part, chunk(ROOMS, marks=[mark("gone", "left", AT), mark("r", "left")]), merge=True
    )
    assert await archive.standing(asked) == {
        **known,
        "out": Standing(None, None),
        "both": Standing(None, AT),
        "gone": Standing("left", later),
    }
    assert part.account.changed == 4  # marks are no rows


async def test_a_mark_that_is_there_asks_for_a_merge(archive: Archive) -> None:
    part = await part_of(archive, ROOM)
    part = await archive.add(part, chunk(ROOMS, marks=[mark("a", "filtered")]), merge=False)
    with pytest.raises(Conflict):
        await archive.add(part, chunk(ROOMS, room("a", updated=None)), merge=False)
    await archive.add(part, chunk(ROOMS, room("a", updated=None)), merge=True)
    assert await archive.standing(["a"]) == {"a": Standing(None, None)}


@pytest.mark.parametrize("merge", [False, True])
async def test_rooms_of_what_came_in_are_woven_again(archive: Archive, place: Place, merge: bool) -> None:
    await landed(archive, ROOMS, *(room(name) for name in ("r1", "r2", "r3")), collection=ROOM)
    await place.fetch(WOVEN)
    before = await place.fetch("select ctid, xmin from archive_rooms where source_id = 'r2'")
    await landed(archive, MESSAGES, message("a", "r1"), message("b", "r9"), collection=MESSAGE, merge=merge)
    await landed(archive, FILES, upload("a", "r3"), upload("b", None), collection=UPLOAD, merge=merge)
    assert await unwoven(place) == ["r1", "r3"]
    assert await place.fetch("select ctid, xmin from archive_rooms where source_id = 'r2'") == before


async def test_only_rooms_of_what_changed_are_woven_again(archive: Archive, place: Place) -> None:
    await landed(archive, ROOMS, *(room(name) for name in ("r1", "r2", "r3")), collection=ROOM)
    said = [message("a", "r1"), message("b", "r2")]
    await landed(archive, MESSAGES, *said, collection=MESSAGE)
    await place.fetch(WOVEN)
    said[1] = message("b", "r2", text="outra")
    await landed(archive, MESSAGES, *said, collection=MESSAGE, merge=True)
    assert await unwoven(place) == ["r2"]
    await landed(archive, ROOMS, room("r1"), room("r3", name="novo"), collection=ROOM, merge=True)
    assert await unwoven(place) == ["r2", "r3"]


# ---- refusals


async def test_what_is_written_is_no_longer_refused(archive: Archive) -> None:
    part = await part_of(archive)
    told = [refused("id:a"), refused("id:b"), refused("at:7"), refused("id:a", ROOM)]
    part = await archive.add(part, chunk(MESSAGES, refused=told), merge=False)
    part = await archive.add(part, chunk(MESSAGES, message("a")), merge=False)
    assert [(one.collection, one.key) for one in await archive.refusals()] == [
        (MESSAGE, "at:7"), (MESSAGE, "id:b"), (ROOM, "id:a"),
    ]  # fmt: skip
    part = await archive.add(part, chunk(MESSAGES, message("a"), message("b")), merge=True)
    assert await archive.refusal_counts() == {(MESSAGE, "nul"): 1, (ROOM, "nul"): 1}
    await archive.add(part, chunk(MESSAGES, refused=told[:1]), merge=True)
    assert await archive.refusal_counts() == {(MESSAGE, "nul"): 2, (ROOM, "nul"): 1}
