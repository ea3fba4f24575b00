"""Changes of a live source, applied on the real server."""

import uuid
from datetime import timedelta

import pytest

from router.domain.errors import StoreError
from router.storage.archive import Archive, BadRows
from router.storage.archive.model import Change, Standing
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS
from tests.integration.storage.archive.conftest import Place
from tests.integration.storage.archive.documents import (
    AT,
    MESSAGE,
    ROOM,
    SOURCE,
    UPLOAD,
    USER,
    begun,
    chunk,
    gone,
    landed,
    mark,
    message,
    part_of,
    refused,
    room,
    upload,
    upsert,
    user,
)

pytestmark = pytest.mark.postgres
WOVEN = "update archive_rooms set woven = true"
UNWOVEN = "select source_id from archive_rooms where not woven order by 1"


async def test_the_stream_wins_and_its_place_is_kept(archive: Archive) -> None:
    await landed(archive, MESSAGES, message("a", updated=9), message("b"), collection=MESSAGE)
    run = await begun(archive)
    changes = [
        upsert(MESSAGES, message("a", updated=1, text="velha"), MESSAGE),
        upsert(MESSAGES, message("b"), MESSAGE),
        upsert(MESSAGES, message("c"), MESSAGE),
        upsert(RECORDS, user("c"), USER),
        upsert(RECORDS, user("c", "roles"), "roles"),
    ]
    assert await archive.apply(run.id, changes, b"one", AT) == 4
    assert await archive.apply(run.id, changes, b"two", None) == 0
    found = await archive.row(MESSAGES, MESSAGE, "a")
    assert found is not None
    assert found["text"] == "velha"
    now = await archive.latest(SOURCE)
    assert now is not None
    assert (now.token, now.token_at) == (b"two", AT)
    assert await archive.apply(run.id, [], b"three", AT + timedelta(seconds=1)) == 0
    now = await archive.latest(SOURCE)
    assert now is not None
    assert (now.token, now.token_at) == (b"three", AT + timedelta(seconds=1))


async def test_the_last_change_of_a_document_counts(archive: Archive) -> None:
    run = await begun(archive)
    made, again = message("a", text="1"), message("a", text="2")
    changes = [
        upsert(MESSAGES, made, MESSAGE),
        gone(MESSAGES, "a", MESSAGE),
        upsert(MESSAGES, again, MESSAGE),
        upsert(MESSAGES, message("b"), MESSAGE),
        gone(MESSAGES, "b", MESSAGE),
    ]
    assert await archive.apply(run.id, changes, b"t", None) == 1
    assert await archive.tombstones(MESSAGE, ["a", "b"]) == {"b"}
    found = await archive.row(MESSAGES, MESSAGE, "a")
    assert found is not None
    assert found["text"] == "2"


async def test_deleted_left_out_refused(archive: Archive) -> None:
    run = await begun(archive)
    rows = [message(name) for name in ("a", "b", "c", "d")]
    await landed(archive, MESSAGES, *rows, collection=MESSAGE)
    await archive.refuse([refused("id:a"), refused("id:z")], run.id)
    changes = [
        gone(MESSAGES, "a", MESSAGE),
        gone(MESSAGES, "b", MESSAGE, deleted=False),
        gone(MESSAGES, "c", MESSAGE, deleted=False, refused=refused("id:c")),
        gone(MESSAGES, "none", MESSAGE),
    ]
    assert await archive.apply(run.id, changes, b"t", None) == 3
    assert await archive.kept(MESSAGE, MESSAGES) == 1
    assert await archive.tombstones(MESSAGE, ["a", "b", "c", "none"]) == {"a", "none"}
    assert [one.key for one in await archive.refusals()] == ["id:c", "id:z"]
    back = [upsert(MESSAGES, message(name), MESSAGE) for name in ("a", "c")]
    assert await archive.apply(run.id, back, b"t", None) == 2
    assert await archive.tombstones(MESSAGE, ["a", "c"]) == set()
    assert [one.key for one in await archive.refusals()] == ["id:z"]


async def test_rooms_that_changes_touch_are_woven_again(archive: Archive, place: Place) -> None:
    run = await begun(archive)
    await landed(archive, ROOMS, *(room(f"r{n}") for n in range(6)), collection=ROOM)
    await landed(archive, MESSAGES, message("a", "r0"), message("b", "r1"), collection=MESSAGE)
    await landed(archive, FILES, upload("a", "r2"), collection=UPLOAD)
    await place.fetch(WOVEN)
    changes = [
        gone(MESSAGES, "a", MESSAGE),
        upsert(MESSAGES, message("b", "r1"), MESSAGE),  # as it is
        gone(FILES, "a", UPLOAD),
        upsert(MESSAGES, message("c", "r3"), MESSAGE),
        upsert(ROOMS, room("r4", name="novo"), ROOM),
        gone(RECORDS, "r5", USER),
    ]
    assert await archive.apply(run.id, changes, b"t", None) == 4
    assert await place.fetch(UNWOVEN) == [("r0",), ("r2",), ("r3",), ("r4",)]


async def test_a_room_that_goes(archive: Archive, place: Place) -> None:
    run = await begun(archive)
    part = await part_of(archive, ROOM, run)
    told = chunk(ROOMS, room("a", name="Ana"), room("b"), room("c"), marks=[mark("a", None, AT)])
    await archive.add(part, told, merge=False)
    changes = [
        gone(ROOMS, "a", ROOM),
        gone(ROOMS, "b", ROOM),
        gone(ROOMS, "c", ROOM, deleted=False, mark=mark("c", "left")),
        gone(ROOMS, "d", ROOM, deleted=False, mark=mark("d", None, AT)),
    ]
    assert await archive.apply(run.id, changes, b"t", None) == 3
    assert await archive.standing(["a", "b", "c", "d"]) == {
        "a": Standing(None, AT),
        "c": Standing("left", None),
        "d": Standing(None, AT),
    }
    assert await archive.kept(ROOM, ROOMS) == 0
    assert await place.fetch("select name from archive_rooms where name is not null") == []
    assert await archive.apply(run.id, changes, b"t", None) == 0
    # And one that comes back.
    assert await archive.apply(run.id, [upsert(ROOMS, room("c"), ROOM)], b"t", None) == 1
    assert await archive.standing(["c"]) == {"c": Standing(None, None)}


async def test_nothing_of_a_batch_with_a_bad_value(archive: Archive) -> None:
    run = await archive.start(SOURCE, live=True, options={}, token=b"old", token_at=AT)
    changes: list[Change] = [
        gone(MESSAGES, "a", MESSAGE),
        upsert(MESSAGES, message("b", raw=b"r", text="\x00"), MESSAGE),
    ]
    with pytest.raises(BadRows, match="text"):
        await archive.apply(run.id, changes, b"new", None)
    assert await archive.latest(SOURCE) == run
    assert await archive.tombstones(MESSAGE, ["a"]) == set()


async def test_a_run_that_is_not_there(archive: Archive) -> None:
    with pytest.raises(StoreError, match="no import run"):
        await archive.apply(uuid.uuid4(), [gone(MESSAGES, "a", MESSAGE)], b"t", None)
