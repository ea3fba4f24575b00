from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.rocketchat.documents import Documents
from migration.documents import Block
from migration.load import Loader, Options, Sorter
from router.domain.errors import LeaseLost
from router.domain.ports import RoomInfo
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Account, Part
from router.storage.archive.shape import MESSAGES, ROOMS
from tests.unit.migration.load_scene import (
    CHUNKS,
    CONTACT,
    ENDLESS,
    MASK,
    MESSAGE,
    ROOM,
    UPLOAD,
    VISITOR,
    Erased,
    Files,
    MemoryArchive,
    MemorySource,
    at,
    loaders,
    message,
    room,
)  # fmt: skip

RUN = uuid4()


async def part_of(archive: MemoryArchive, collection: str, run: UUID = RUN) -> Part:
    await archive.plan(run, collection, [{"begin": 0, "end": 10_000}])
    part = await archive.claim(run, [collection], uuid4(), ENDLESS)
    assert part is not None
    return part


async def copy(
    archive: MemoryArchive, collection: str, *raws: bytes, erased: Erased | None = None, direct: bool = False,
    documents: int = 3, sink: Files | None = None, **options: Any,
) -> Account:  # fmt: skip
    _, loader = loaders(archive, erased, sink, documents)(
        Options(**options), frozenset({MESSAGES.table} if direct else ())
    )
    part = await part_of(archive, collection)
    source = MemorySource({collection: list(raws)})
    done = await loader.copy(part, source.read(collection, {"begin": 0, "end": len(raws)}))
    assert done.done
    assert done.account.balanced
    assert done.account.source == len(raws)
    return done.account


def erased_at(minutes: int) -> Erased:
    return Erased(lambda _info: at(minutes))


async def test_messages_of_unknown_rooms_are_refused_with_their_bytes() -> None:
    archive = MemoryArchive()
    await copy(archive, ROOM, room("r"))
    raw = message("b", "nowhere")
    account = await copy(archive, MESSAGE, message("a", "r"), raw)
    assert (account.written, account.rejected) == (1, 1)
    refused, _, _ = archive.refused[MESSAGE, "id:b"]
    assert (refused.code, refused.raw, refused.position) == ("orphan", raw, "1")


async def test_or_kept_when_that_is_the_policy() -> None:
    archive = MemoryArchive()
    account = await copy(archive, MESSAGE, message("a", "nowhere"), orphans="keep")
    assert (account.written, archive.open()) == (1, {})


async def test_messages_share_what_became_of_their_room() -> None:
    archive = MemoryArchive()
    await copy(archive, ROOM, room("l"), room("c", "c"), rooms="l")
    account = await copy(archive, MESSAGE, message("a", "l"), message("b", "c"), rooms="l")
    assert (account.written, account.skipped) == (1, {"filtered": 1})


async def test_a_room_silent_since_the_erasure_is_erased_with_all_that_is_in_it() -> None:
    archive = MemoryArchive()
    account = await copy(archive, ROOM, room("r", active=60), erased=erased_at(60))
    assert (account.erased, account.written, archive.ids(ROOMS)) == (1, 0, set())
    assert archive.marks["r"].erased_at == at(60)
    account = await copy(archive, MESSAGE, message("a", "r", 60), orphans="keep")
    assert (account.erased, archive.ids(MESSAGES), archive.refused) == (1, set(), {})


async def test_a_room_that_was_only_closed_since_the_erasure_is_erased() -> None:
    archive = MemoryArchive()
    closed = room("r", active=60, closedAt=at(90))
    account = await copy(archive, ROOM, closed, erased=erased_at(60))
    assert (account.erased, archive.ids(ROOMS)) == (1, set())


async def test_a_room_that_went_on_is_kept_without_what_was_said_before() -> None:
    archive = MemoryArchive()
    account = await copy(archive, ROOM, room("r", active=60), erased=erased_at(30))
    assert (account.written, archive.ids(ROOMS)) == (1, {"r"})
    account = await copy(archive, MESSAGE, *(message(str(m), "r", m) for m in (29, 30, 31)))
    assert (account.erased, archive.ids(MESSAGES)) == (2, {"31"})


async def test_only_livechat_rooms_are_asked_about() -> None:
    archive, nobody = MemoryArchive(), Erased()
    await copy(archive, ROOM, room("r"), room("c", "c"), room("d", "d"), erased=nobody)
    assert [info.room_id for info in nobody.asked] == ["r"]


async def test_files_and_records_in_a_room_go_with_it() -> None:
    archive = MemoryArchive()
    await copy(archive, ROOM, room("r", active=60), erased=erased_at(30))
    uploads = [
        message("early", "r", uploadedAt=at(10), name="a"), message("late", "r", uploadedAt=at(40), name="b"),
        message("elsewhere", "unknown", uploadedAt=at(40), name="c"),
    ]  # fmt: skip
    account = await copy(archive, UPLOAD, *uploads)
    assert (account.written, account.erased) == (2, 1)


@pytest.mark.parametrize(("collection", "extra"), [(VISITOR, {"token": "t"}), (CONTACT, {"phones": []})])
async def test_a_persons_own_document_is_erased_with_them(collection: str, extra: dict[str, Any]) -> None:
    import bson

    dates = {"ts": at(1), "createdAt": at(1)}
    raws = [
        bson.encode({"_id": "old", **dates, **extra}),
        bson.encode({"_id": "new", "lastChat": {"ts": at(90)}, **extra}),
    ]
    archive = MemoryArchive()
    account = await copy(archive, collection, *raws, erased=erased_at(60))
    assert (account.erased, account.written) == (1, 1)
    assert archive.marks == {}


async def test_a_first_load_copies_straight_in_and_merges_where_something_is() -> None:
    archive = MemoryArchive()
    await copy(archive, ROOM, room("r"))
    await copy(archive, MESSAGE, message("a", "r"), direct=True)
    archive.all_parts.clear()
    archive.expire()
    again = [message("a", "r"), message("a", "r", text="newer"), message("b", "r")]
    account = await copy(archive, MESSAGE, *again, direct=True)
    assert (account.written, account.skipped, account.changed) == (2, {"duplicate": 1}, 2)
    assert archive.merges == [True, False, False, True]  # rooms merged; straight in; tried, and merged


async def test_what_was_deleted_since_counts_once_however_often_it_is_tried() -> None:
    archive = MemoryArchive(bad=frozenset({"3"}), deleted=frozenset({"1", "6"}))
    await copy(archive, ROOM, room("r"))
    account = await copy(archive, MESSAGE, *(message(str(n), "r") for n in range(8)), documents=8)
    assert (account.written, account.skipped, account.rejected) == (5, {"deleted": 2}, 1)


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 24)), st.lists(st.integers(0, 24), max_size=40), st.integers(1, 30), st.booleans()
)
async def test_what_the_database_refuses_is_searched_out(
    bad: set[int], given: list[int], documents: int, direct: bool
) -> None:
    archive = MemoryArchive(bad=frozenset(map(str, bad)))
    await copy(archive, ROOM, room("r"))
    account = await copy(
        archive, MESSAGE, *(message(str(n), "r") for n in given), documents=documents, direct=direct
    )
    assert archive.ids(MESSAGES) == {str(n) for n in set(given) - bad}
    assert archive.open() == {f"id:{n}": "server" for n in bad & set(given)}
    assert account.changed == len(set(given) - bad)


async def test_a_chunk_without_rows_that_is_refused_is_a_defect_and_says_so() -> None:
    def failing(name: str) -> None:
        if name == "add":
            raise BadRows

    with pytest.raises(BadRows):
        await copy(MemoryArchive(fault=failing), MESSAGE, b"\x05\x00\x00\x00\x00")


async def test_bytes_of_files_go_to_their_own_place() -> None:
    archive, files = MemoryArchive(), Files()
    account = await copy(archive, CHUNKS, message("a", "r"), message("b", "r"), sink=files)
    assert (account.written, [name for name, _ in files.raws]) == (2, [CHUNKS, CHUNKS])


async def test_and_are_left_out_when_there_is_none() -> None:
    archive = MemoryArchive()
    loader = Loader(archive, Sorter(Documents(), MASK, Options()), Erased())
    done = await loader.copy(await part_of(archive, CHUNKS), [Block([message("a", "r")], [0], "1")])
    assert done.account.skipped == {"no_file_store": 1}
    assert done.account.balanced


async def test_a_part_that_another_worker_has_is_given_up() -> None:
    archive = MemoryArchive()
    _, loader = loaders(archive)(Options(), frozenset())
    part = await part_of(archive, ROOM)
    archive.expire()
    await part_of(archive, ROOM)
    with pytest.raises(LeaseLost):
        await loader.copy(part, [Block([room("r")], [0], "1")])
    assert archive.ids(ROOMS) == set()


async def test_the_lease_is_renewed_while_a_chunk_is_gathered() -> None:
    archive = MemoryArchive()
    renewed: list[timedelta] = []

    async def renew(part: Part, lease: timedelta) -> None:
        renewed.append(lease)

    archive.renew = renew  # type: ignore[method-assign]
    seconds = iter(range(1000))
    loader = Loader(
        archive, Sorter(Documents(), MASK, Options()), Erased(), lease=timedelta(seconds=8), clock=lambda: next(seconds)
    )  # fmt: skip
    part = await part_of(archive, ROOM)
    await loader.copy(part, (Block([room(str(n))], [n], str(n)) for n in range(12)))
    assert len(renewed) >= 2
    assert archive.calls.count("add") == 1


async def test_stopped_it_ends_at_its_last_checkpoint() -> None:
    archive = MemoryArchive()
    _, loader = loaders(archive, documents=2)(Options(), frozenset())
    stopping = False

    def blocks() -> Iterator[Block]:
        nonlocal stopping
        yield Block([room("a"), room("b")], [0, 1], "2")
        yield Block([room("c")], [2], "3")
        stopping = True
        yield Block([room("d")], [3], "4")
        raise AssertionError("read on")

    part = await loader.copy(await part_of(archive, ROOM), blocks(), lambda: stopping)
    assert (part.after, part.done, archive.ids(ROOMS)) == ("2", False, {"a", "b"})


async def test_chunks_are_bounded_by_bytes_too() -> None:
    archive = MemoryArchive()
    loader = Loader(archive, Sorter(Documents(), MASK, Options()), Erased(), size=1)
    await loader.copy(await part_of(archive, ROOM), [Block([room(str(n))], [n], str(n)) for n in range(4)])
    assert archive.calls.count("add") == 4


async def test_a_block_can_be_told_without_being_written() -> None:
    archive = MemoryArchive()
    sorts, loader = loaders(archive)(Options(), frozenset())
    chunk = await loader.sort(MESSAGE, Block([message("a", "nowhere")], [0], "1"))
    assert [refused.code for refused in chunk.refused] == ["orphan"]
    assert archive.calls == []
    assert sorts.options == Options()


def test_the_clock_of_the_scene_is_aware() -> None:
    assert isinstance(at(0), datetime)
    assert at(0).tzinfo is not None
    assert RoomInfo("r", None, None).active_at is None
