"""A batch of the change stream made into what the archive takes in.

The stream always wins: of each id the last event of the batch counts, and what it says replaces what is there. A document
that is now left out or erased is taken away like a deleted one, but leaves no tombstone: a later run decides anew.

Rooms that nobody knew go in before the messages that name them, under the stream's old position: a crash between the two
is a repetition, not a gap.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from migration.collections import Bytes, Copied, Left, Row, treatment
from migration.documents import Block, Reject, decode, key_of
from migration.verify.cut import room_of
from migration.watermark.ports import DELETE, Event, Fetches, Knows, Sorts
from router.storage.archive.model import Change, Chunk, Mark, Refused
from router.storage.archive.shape import FILES, MESSAGES, ROOMS, Shape

ROOM_COLLECTION: Final = "rocketchat_room"
NAMELESS: Final = ""
"""Stands for an `_id` that is none: such a document is refused."""
_ORPHAN: Final = "orphan"
_REMEMBERED: Final = 10_000
"""How many rooms that the source was asked for are remembered, so that it is not asked for each of their messages."""
_PAGE: Final = 500

Treatment = Callable[[str], Copied | Left | Bytes]
Key = tuple[str, str]
"""Collection and source id."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest of one document in a batch."""

    key: str
    raw: bytes | None  # None: deleted
    at: datetime


Batch = Mapping[str, Mapping[str, Seen]]
"""By collection, then by id."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What is to be taken in at once. `settled`: orphans that are gone from the source."""

    changes: Sequence[Change] = ()
    nameless: Sequence[Refused] = ()  # refused, and not even the id could be read
    settled: Sequence[Key] = ()

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it touches, as far as the documents say: a deleted message names none."""
        return frozenset(room for change in self.changes if (room := _room(change)) is not None)

    @property
    def blind(self) -> bool:
        """Something goes away whose room only the archive knows."""
        return any(change.row is None and change.shape is not ROOMS for change in self.changes)

    @property
    def gone(self) -> bool:
        """Rooms go away: afterwards nothing in the archive says that they are still to be taken out of the talk."""
        return any(change.row is None and change.shape is ROOMS for change in self.changes)

    @property
    def uploads(self) -> tuple[str, ...]:
        """Uploads that are complete: their bytes can be had."""
        complete = FILES.names.index("complete")
        return tuple(
            change.source_id
            for change in self.changes
            if change.shape is FILES and change.row is not None and change.row[complete] is not False
        )


def newest(events: Iterable[Event]) -> Batch:
    """The last event of each id. What was gone when it was looked up is none: its delete comes later in the stream."""
    batch: dict[str, dict[str, Seen]] = {}
    for event in events:
        if event.op == DELETE or event.raw is not None:
            raw = None if event.op == DELETE else event.raw
            key = event.key or NAMELESS
            batch.setdefault(event.collection, {})[key] = Seen(key, raw, event.at)
    return batch


class Replay:
    """Maps batches with the loader's own sorter."""

    def __init__(
        self, source: Fetches, archive: Knows, sorter: Sorts,
        treat: Treatment = treatment,
    ) -> None:  # fmt: skip
        self._source, self._archive, self._sorter, self._treat = source, archive, sorter, treat
        self._asked: dict[str, None] = {}
        self._orphans: dict[str, set[Key]] = {}

    async def overdue(self, at: datetime) -> Applied:
        """What was refused as an orphan and has its room now: others have been at the archive, or a batch was cut off.
        `at`: the stream's place. To be asked whenever the stream is opened."""
        self._asked.clear()
        self._orphans = await self._read_orphans()
        rooms = list(self._orphans)
        come: set[str] = set()
        for begin in range(0, len(rooms), _PAGE):
            come.update(await self._archive.standing(rooms[begin : begin + _PAGE]))
        return await self._taken_in({}, come, at)

    async def rooms(self, batch: Batch) -> Applied:
        """The rooms that nobody knew: from the batch, and from the source those its messages name. To be applied before
        `others` is asked."""
        mine = batch.get(ROOM_COLLECTION, {})
        named = {key for key, seen in mine.items() if seen.raw is not None}
        for room_id in named:
            self._asked.pop(room_id, None)
        wanted = self._named(batch) | named
        if not wanted:
            return Applied()
        unknown = wanted - (await self._archive.standing(wanted)).keys()
        fresh = {key: seen for key, seen in mine.items() if key in unknown and seen.raw is not None}
        missing = {key for key in unknown if key not in mine and key not in self._asked}
        at = _last(batch)
        if missing and at is not None:
            fresh |= await self._fetched(ROOM_COLLECTION, missing, at)
            self._asked.update(dict.fromkeys(missing))
            while len(self._asked) > _REMEMBERED:
                del self._asked[next(iter(self._asked))]
        return await self._sorted({ROOM_COLLECTION: fresh}) if fresh else Applied()

    async def others(self, batch: Batch, first: Applied) -> Applied:
        """All the rest, and the messages that were refused because they came before the rooms of `first`."""
        done = {change.source_id for change in first.changes}
        rest = {
            name: {key: seen for key, seen in documents.items() if name != ROOM_COLLECTION or key not in done}
            for name, documents in batch.items()
        }
        return await self._taken_in(rest, done, _last(batch))

    async def _taken_in(self, batch: Batch, rooms: Iterable[str], at: datetime | None) -> Applied:
        """A batch, and as the source has them now the orphans of rooms that have come."""
        rest = dict(batch)
        settled: list[Key] = []
        for name, keys in self._waiting(rooms).items():
            asked = keys - batch.get(name, {}).keys()
            if asked and at is not None:
                found = await self._fetched(name, asked, at)
                rest[name] = {**rest.get(name, {}), **found}
                settled += [(name, key) for key in asked - found.keys()]
        made = await self._sorted(rest)
        self._note(made.changes)
        return replace(made, settled=settled)

    # ---- mapping

    async def _sorted(self, batch: Batch) -> Applied:
        changes: list[Change] = []
        nameless: list[Refused] = []
        for name, documents in batch.items():
            treated = self._treat(name)
            if not isinstance(treated, Copied) or not documents:
                continue
            kept = {key: seen for key, seen in documents.items() if seen.raw is not None}
            chunk = await self._chunk(name, list(kept.values()))
            at = treated.shape.names.index("source_id")
            rows = {row[at]: row for row in chunk.rows}
            refused = {one.source_id: one for one in chunk.refused}
            marks = {mark.room_id: mark for mark in chunk.marks}
            for key, seen in documents.items():
                change = Change(name, key, treated.shape, seen.at, deleted=seen.raw is None)
                if seen.raw is not None:
                    change = _filled(change, rows.get(key), refused.pop(key, None), marks.get(key))
                if key != NAMELESS:
                    changes.append(change)
            nameless += refused.values()
        return Applied(changes, nameless)

    async def _chunk(self, name: str, kept: Sequence[Seen]) -> Chunk:
        raws = [seen.raw for seen in kept if seen.raw is not None]
        return await self._sorter.sort(name, Block(raws, range(len(raws)), ""))

    # ---- rooms and orphans

    def _named(self, batch: Batch) -> set[str]:
        """The rooms that the batch's messages name."""
        found: set[str] = set()
        for name, documents in batch.items():
            if _shape(self._treat(name)) is MESSAGES:
                found.update(room for seen in documents.values() if seen.raw and (room := room_id(seen.raw)))
        return found

    async def _fetched(self, collection: str, ids: Collection[str], at: datetime) -> dict[str, Seen]:
        """Documents as the source has them now: newer than the stream's place perhaps, which goes on to say so."""

        def read() -> list[bytes]:
            return [raw for block in self._source.fetch(collection, ids) for raw in block.raws]

        raws = await asyncio.to_thread(read)
        keys = [_key(document) for document in decode(raws)]
        return {key: Seen(key, raw, at) for key, raw in zip(keys, raws, strict=True) if key is not None}

    def _waiting(self, rooms: Iterable[str]) -> dict[str, set[str]]:
        """The refused orphans of rooms that have come, by collection; they wait no more."""
        found: dict[str, set[str]] = {}
        for room in rooms:
            for collection, key in self._orphans.pop(room, ()):
                found.setdefault(collection, set()).add(key)
        return found

    async def _read_orphans(self) -> dict[str, set[Key]]:
        orphans: dict[str, set[Key]] = {}
        for collection, code in await self._archive.refusal_counts():
            after: Key | None = None
            while code == _ORPHAN and (page := await self._page(collection, after)):
                for one in page:
                    _remember(orphans, one)
                after = (collection, page[-1].key)
        return orphans

    async def _page(self, collection: str, after: Key | None) -> Sequence[Refused]:
        return await self._archive.refusals(
            None, collection=collection, code=_ORPHAN, limit=_PAGE, after=after
        )

    def _note(self, changes: Iterable[Change]) -> None:
        """Orphans of this batch wait too."""
        for change in changes:
            if change.refused is not None and change.refused.code == _ORPHAN:
                _remember(self._orphans, change.refused)


def room_id(raw: bytes) -> str | None:
    """The `rid` of a message; None: it has none that could name a room."""
    cut = room_of(raw)
    if cut is not None:
        return cut.decode("utf-8", "replace")
    document = decode([raw])[0]
    found = None if isinstance(document, Reject) else document.get("rid")
    return found if isinstance(found, str) and found and "\x00" not in found else None


def _shape(treated: Copied | Left | Bytes) -> Shape | None:
    return treated.shape if isinstance(treated, Copied) else None


def _filled(change: Change, row: Row | None, refused: Refused | None, mark: Mark | None) -> Change:
    return replace(change, row=row if refused is None else None, refused=refused, mark=mark)


def _room(change: Change) -> str | None:
    if change.shape is ROOMS:
        return change.source_id
    if change.row is None or "room_id" not in change.shape.names:
        return None
    found: str | None = change.row[change.shape.names.index("room_id")]
    return found


def _key(document: dict[str, Any] | Reject) -> str | None:
    if isinstance(document, Reject):
        return None
    with suppress(Reject):
        return key_of(document)
    return None


def _last(batch: Batch) -> datetime | None:
    return max((seen.at for documents in batch.values() for seen in documents.values()), default=None)


def _remember(orphans: dict[str, set[Key]], one: Refused) -> None:
    room = room_id(one.raw)
    if room is not None and one.source_id is not None:
        orphans.setdefault(room, set()).add((one.collection, one.source_id))
