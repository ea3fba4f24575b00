"""Refusals tried again: by the import of a live source, and by a person."""

import asyncio
from collections.abc import Mapping
from typing import Any

import bson
import pytest

from migration.load import Options
from migration.rejects import NotImportedError, Retried, retry
from migration.run import Import, Outcome
from router.storage.archive.model import Account
from router.storage.archive.shape import MESSAGES, ROOMS
from tests.unit.migration.load_scene import (
    MESSAGE,
    ROOM,
    USER,
    CrashError,
    MemoryArchive,
    MemorySource,
    broken,
    loaders,
    message,
    room,
)  # fmt: skip


async def nothing() -> None:
    """Nobody weaves here."""


async def imported(source: MemorySource, archive: MemoryArchive) -> Outcome:
    return await Import(source, archive, loaders(archive), weave=nothing, pause=asyncio.sleep).run()


async def again(source: MemorySource, archive: MemoryArchive, code: str | None = None) -> Retried:
    sorts, loader = loaders(archive)(Options(), frozenset())
    return await retry(source, archive, loader, sorts, code=code)


async def counts(archive: MemoryArchive) -> Mapping[str, Account]:
    found = await archive.counts(archive.all_runs[-1].id)
    assert all(account.balanced for account in found.values())
    return found


async def test_a_live_sources_late_rooms_are_fetched_and_their_messages_landed() -> None:
    late = room("late")
    archive = MemoryArchive()

    class Live(MemorySource):
        def read(self, collection: str, part: Any, after: str | None = None) -> Any:
            if collection == MESSAGE:  # somebody wrote while we read
                self.documents[ROOM].append(late)
            return super().read(collection, part, after)

    messages: list[Any] = [message("a", "r"), message("b", "late"), message("c", "gone")]
    source = Live({ROOM: [room("r")], MESSAGE: messages}, live=True)
    outcome = await imported(source, archive)
    assert archive.ids(ROOMS) == {"r", "late"}
    assert archive.ids(MESSAGES) == {"a", "b"}
    assert archive.open() == {"id:c": "orphan"}
    assert outcome.retried == Retried(2, 1)
    found = await counts(archive)
    assert (found[MESSAGE].source, found[MESSAGE].written, found[MESSAGE].rejected) == (3, 2, 1)
    assert (found[ROOM].source, found[ROOM].written) == (2, 2)
    assert all(part.done for part in await archive.parts(outcome.run.id))


async def test_a_dump_is_not_asked_twice() -> None:
    archive = MemoryArchive()
    outcome = await imported(MemorySource({ROOM: [], MESSAGE: [message("a", "r")]}), archive)
    assert outcome.retried == Retried()
    assert len(await archive.parts(outcome.run.id)) == 1


async def test_what_the_source_has_mended_goes_in() -> None:
    archive = MemoryArchive()
    source = MemorySource({ROOM: [room("r")], MESSAGE: [broken(message("a", "r")), message("b", "r")]})
    await imported(source, archive)
    digest = (await counts(archive))[MESSAGE].digest
    source.documents[MESSAGE][0] = message("a", "r", text="mended")
    assert await again(source, archive) == Retried(1, 1)
    assert archive.open() == {}
    assert archive.ids(MESSAGES) == {"a", "b"}
    found = (await counts(archive))[MESSAGE]
    assert (found.source, found.written, found.rejected, found.digest) == (2, 2, 0, digest)
    assert await again(source, archive) == Retried()


async def test_what_the_source_no_longer_has_is_mapped_from_the_kept_bytes() -> None:
    archive = MemoryArchive()
    source = MemorySource({ROOM: [room("r")], MESSAGE: [message("a", "late", token="t")]})
    await imported(source, archive)
    kept = archive.refused[MESSAGE, "id:a"][0].raw
    source.documents[MESSAGE].clear()
    archive.tables[ROOMS.table][("late",)] = archive.tables[ROOMS.table][("r",)]
    assert await again(source, archive) == Retried(1, 1)
    (row,) = archive.tables[MESSAGES.table].values()
    assert row[-1] == kept


async def test_what_is_still_wrong_stays_refused() -> None:
    archive = MemoryArchive()
    nameless = bson.encode({"rid": "r"})
    source = MemorySource({ROOM: [room("r")], MESSAGE: [broken(message("a", "r")), nameless]})
    await imported(source, archive)
    before, expected = archive.open(), await counts(archive)
    found = await again(source, archive)
    assert (found.tried, found.settled, found.still) == (2, 0, 2)
    assert archive.open() == before
    assert (await counts(archive))[MESSAGE] == expected[MESSAGE]


async def test_rooms_are_tried_before_their_messages() -> None:
    archive = MemoryArchive()
    source = MemorySource({ROOM: [broken(room("r"))], MESSAGE: [message("a", "r")]})
    await imported(source, archive)
    source.documents[ROOM][0] = room("r")
    assert await again(source, archive) == Retried(2, 2)
    assert archive.ids(MESSAGES) == {"a"}
    assert {name: account.rejected for name, account in (await counts(archive)).items()} == {
        ROOM: 0,
        MESSAGE: 0,
    }


async def test_only_those_of_a_code() -> None:
    archive = MemoryArchive()
    source = MemorySource({ROOM: [], MESSAGE: [message("a", "r"), broken(message("b", "r"))]})
    await imported(source, archive)
    source.documents[ROOM] = [room("r")]
    source.documents[MESSAGE][1] = message("b", "r")
    # The source had no room when its parts were planned: nothing could tell in which part it belongs.
    assert await again(source, archive, "invalid_bson") == Retried(1, 0)
    assert archive.open() == {"id:a": "orphan", "id:b": "orphan"}


async def test_what_is_now_left_out_is_no_refusal_any_more() -> None:
    archive = MemoryArchive()
    source = MemorySource(
        {ROOM: [room("c", "c")], MESSAGE: [message("a", "late"), broken(message("b", "c"))]}
    )
    await imported(source, archive)
    source.documents[MESSAGE][1] = message("b", "c", 1)
    sorts, loader = loaders(archive)(Options(until=0), frozenset())
    assert await retry(source, archive, loader, sorts, code="invalid_bson") == Retried(1, 1)
    assert archive.open() == {"id:a": "orphan"}
    found = (await counts(archive))[MESSAGE]
    assert (found.skipped, found.rejected, found.written) == ({"filtered": 1}, 1, 0)


async def test_an_unfinished_import_comes_first() -> None:
    archive = MemoryArchive()
    source = MemorySource({USER: []})
    with pytest.raises(NotImportedError, match="run `figueira migrate import` first"):
        await again(source, archive)
    importer = Import(MemorySource({ROOM: [room("r")]}), archive, loaders(archive), weave=nothing)
    importer.stop()
    await importer.run()
    with pytest.raises(NotImportedError):
        await again(source, archive)


@pytest.mark.parametrize("when", range(3))
async def test_a_retry_that_was_cut_off_harms_nothing(when: int) -> None:
    archive = MemoryArchive()
    source = MemorySource({ROOM: [room("r")], MESSAGE: [broken(message("a", "r")), message("b", "r")]})
    await imported(source, archive)
    source.documents[MESSAGE][0] = message("a", "r")
    name = ("plan", "add", "added")[when]

    def fault(call: str) -> None:
        if call == name:
            raise CrashError

    archive.fault = fault
    with pytest.raises(CrashError):
        await again(source, archive)
    archive.fault = lambda _name: None
    archive.expire()
    await again(source, archive)
    assert archive.ids(MESSAGES) == {"a", "b"}
    assert archive.open() == {}
    assert (await counts(archive))[MESSAGE].rejected == 0
    second = await imported(source, archive)
    assert second.counts[MESSAGE].written == 2
