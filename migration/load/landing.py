"""Chunks into the archive: told by their rooms first, then written with their account and the checkpoint in one
transaction. What the database refuses is searched out, so that its neighbours go in."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from migration.collections import Bytes, Row
from migration.documents import MIB, Block, Reject, uncollected
from migration.load.ports import Landing
from migration.load.sorting import Batch, Sorter, refusal
from router.domain.errors import Conflict
from router.domain.ports import RoomInfo
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Account, Chunk, Mark, Part, Refused, Standing
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape

CHUNK_DOCUMENTS: Final = 20_000
CHUNK_BYTES: Final = 16 * MIB
CHUNK_OTHERS: Final = 5_000
"""Of other documents than messages: a room or a visitor, with what is known of the person, needs the memory of four."""
LEASE: Final = timedelta(seconds=20)
"""Short: whoever goes on after a crash waits for it. It is renewed between blocks, which take milliseconds."""
_RENEWALS: Final = 4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_ROOM_KIND: Final = ROOMS.names.index("kind")
_PLACES: Final[Mapping[str, tuple[int, tuple[int, ...]]]] = {
    shape.table: (shape.names.index("room_id"), tuple(map(shape.names.index, times)))
    for shape, times in (
        (MESSAGES, ("sent_at",)),
        (FILES, ("uploaded_at", "updated_at")),
        (RECORDS, ("at", "updated_at")),
    )
}
"""Where a row names its room, and when it is from: the first time that it has."""


class Erasures(Protocol):
    """Who was erased, by the tombstones of the one resolver."""

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        """For each, until when its person is erased; None: not erased."""
        ...


class Taken(Protocol):
    """What became of GridFS documents: written + skipped + refused = documents."""

    @property
    def written(self) -> int: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...
    @property
    def refused(self) -> Sequence[Refused]: ...


class Sink(Protocol):
    """Where the bytes of uploads go."""

    async def take(self, collection: str, raws: Sequence[bytes], positions: Sequence[int]) -> Taken:
        """Documents of `<bucket>.files` or `<bucket>.chunks`. Safe on the disk when this returns; the same ones may
        come again."""
        ...


class Loader:
    """Copies parts. `direct`: the tables that were empty when the run began, which take rows without a look at what is
    there. `documents` and `size` bound a chunk."""

    def __init__(
        self, archive: Landing, sorter: Sorter, erasures: Erasures, *, sink: Sink | None = None,
        direct: Iterable[str] = (), documents: int = CHUNK_DOCUMENTS, size: int = CHUNK_BYTES, lease: timedelta = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._archive = archive
        self._sorter = sorter
        self._erasures = erasures
        self._sink = sink
        self._direct = frozenset(direct)
        self._documents = documents
        self._size = size
        self.lease = lease
        self._clock = clock

    async def copy(
        self, part: Part, blocks: Iterable[Block], stopped: Callable[[], bool] = lambda: False
    ) -> Part:
        """The part as it is then: done, or at its last checkpoint when `stopped` said so. Raises LeaseLost (another
        worker has it: give it up), SourceError, Unavailable, StoreError."""
        with uncollected():
            return await self._copy(part, blocks, stopped)

    async def _copy(self, part: Part, blocks: Iterable[Block], stopped: Callable[[], bool]) -> Part:
        gathered: Batch | None = None
        renewed = self._clock()
        for block in blocks:
            await asyncio.sleep(0)  # progress, signals
            if stopped():
                # What was gathered is gathered again: chunks end at the same places however often a run is stopped.
                return part
            found = await self._sorted(part.collection, block)
            if gathered is None:
                gathered = found
            else:
                gathered.absorb(found)
            if self._full(gathered):
                part = await self._land(part, gathered)
                gathered = None
                gc.collect(0)  # what few cycles there are, now that the rows are gone
            if self._clock() - renewed > self.lease.total_seconds() / _RENEWALS:
                await self._archive.renew(part, self.lease)
                renewed = self._clock()
        if gathered is not None:
            part = await self._land(part, gathered)
        await self._archive.finish(part)
        return replace(part, done=True)

    async def sort(self, collection: str, block: Block, *, kept: bool = False) -> Chunk:
        """A block as a chunk: mapped, filtered, told by its rooms and by who was erased. `kept`: see `Sorter.sort`."""
        batch = await self._sorted(collection, block, kept=kept)
        await self._judge(batch)
        return _chunk(batch)

    async def land(self, part: Part, chunk: Chunk, positions: Sequence[object] | None = None) -> Part:
        """Write a chunk. Rows that the database refuses become refusals. Raises LeaseLost, Unavailable, StoreError."""
        try:
            return await self._write(part, chunk)
        except BadRows as error:
            return await self._sift(part, chunk, positions or [""] * len(chunk.rows), error)

    def _full(self, batch: Batch) -> bool:
        most = self._documents if batch.shape is MESSAGES else min(self._documents, CHUNK_OTHERS)
        return batch.source >= most or batch.size >= self._size

    async def _sorted(self, collection: str, block: Block, *, kept: bool = False) -> Batch:
        batch = self._sorter.sort(collection, block, kept=kept)
        if isinstance(self._sorter.treatment(collection), Bytes):
            await self._take(batch, block)
        return batch

    async def _take(self, batch: Batch, block: Block) -> None:
        if self._sink is None:
            batch.written = 0
            batch.skipped["no_file_store"] += len(block.raws)
            return
        taken = await self._sink.take(batch.collection, block.raws, block.positions)
        batch.written = taken.written
        batch.skipped.update(taken.skipped)
        batch.refused += taken.refused

    async def _land(self, part: Part, batch: Batch) -> Part:
        await self._judge(batch)
        return await self.land(part, _chunk(batch), batch.positions)

    # ---- rooms and persons

    async def _judge(self, batch: Batch) -> None:
        if batch.people:
            await self._forget(batch)
        if batch.rows and batch.shape is not None and batch.shape.table in _PLACES:
            await self._by_room(batch, batch.shape)

    async def _forget(self, batch: Batch) -> None:
        """Rooms and persons whose last sign of life is from before the erasure."""
        infos = [info for info, _ in batch.people if info is not None]
        answers = iter(await self._erasures.of(infos) if infos else ())
        rows: list[Row] = []
        positions: list[int] = []
        for row, position, (info, seen) in zip(batch.rows, batch.positions, batch.people, strict=True):
            erased_at = next(answers) if info is not None else None
            if erased_at is not None and batch.shape is ROOMS:
                batch.marks.append(Mark(row[0], row[_ROOM_KIND], None, erased_at))
            if erased_at is not None and (seen is None or seen <= _milliseconds(erased_at)):
                batch.erased += 1
            else:
                rows.append(row)
                positions.append(position)
        batch.rows, batch.positions, batch.people = rows, positions, []

    async def _by_room(self, batch: Batch, shape: Shape) -> None:
        room, times = _PLACES[shape.table]
        named = {row[room] for row in batch.rows} - {None}
        known = await self._archive.standing(named) if named else {}
        limits = {room_id: _Limit.of(standing) for room_id, standing in known.items()}
        if shape is MESSAGES and self._sorter.options.orphans == "reject":
            limits |= dict.fromkeys(named - known.keys(), _ORPHANED)
        if not any(limits.values()):
            return
        rows: list[Row] = []
        positions: list[int] = []
        for row, position in zip(batch.rows, batch.positions, strict=True):
            limit = limits.get(row[room])
            if limit is None or limit.passes(batch, row, position, times):
                rows.append(row)
                positions.append(position)
        batch.rows, batch.positions = rows, positions

    # ---- writing

    async def _write(self, part: Part, chunk: Chunk) -> Part:
        if chunk.shape is not None and chunk.shape.table in self._direct:
            try:
                return await self._archive.add(part, chunk, merge=False)
            except Conflict:
                pass  # some are there already: they are merged
        return await self._archive.add(part, chunk, merge=True)

    async def _sift(self, part: Part, chunk: Chunk, positions: Sequence[object], error: BadRows) -> Part:
        """Find the rows that the database does not take. What it takes meanwhile is written without account and
        checkpoint, so that it is merged again when this is cut off; account and checkpoint come last, with the whole."""
        if chunk.shape is None or not chunk.rows:
            raise error
        before = part.account
        while True:
            part, bad = await self._trials(part, chunk.shape, chunk.rows, error)
            whole = _without(chunk, bad, part.collection, positions)
            # Trials count nothing, but for documents deleted since: those are counted with the whole.
            back = replace(whole, account=whole.account + _back(part.account, before))
            try:
                return await self._archive.add(part, back, merge=True)
            except BadRows as found:
                if not bad:
                    raise
                # An earlier version of a document that was refused is the last one now.
                error = found
                chunk = whole
                positions = [place for index, place in enumerate(positions) if index not in bad]

    async def _trials(
        self, part: Part, shape: Shape, rows: Sequence[Row], error: BadRows
    ) -> tuple[Part, dict[int, BadRows]]:
        last = _last(shape, rows)
        bad: dict[int, BadRows] = {}
        waiting = [(0, len(last), error)]
        while waiting:
            begin, end, error = waiting.pop()
            if end - begin <= 1:
                bad[last[begin]] = error
                continue
            middle = (begin + end) // 2
            await self._archive.renew(part, self.lease)
            for half in ((begin, middle), (middle, end)):
                some = [rows[index] for index in last[slice(*half)]]
                try:
                    part = await self._archive.add(
                        part, Chunk(shape, some, Account(), part.after), merge=True
                    )
                except BadRows as found:
                    waiting.append((*half, found))
        return part, bad


class _Limit:
    """What a room says of what is in it."""

    def __init__(self, skipped: str | None, erased: int | None, *, orphaned: bool = False) -> None:
        self._skipped = skipped
        self._erased = erased
        self._orphaned = orphaned

    @classmethod
    def of(cls, standing: Standing) -> "_Limit | None":
        """None: it says nothing."""
        if standing.skipped is None and standing.erased_at is None:
            return None
        return cls(
            standing.skipped, None if standing.erased_at is None else _milliseconds(standing.erased_at)
        )

    def passes(self, batch: Batch, row: Row, position: int, times: Sequence[int]) -> bool:
        """Whether a row is kept; else it is counted."""
        if self._orphaned:
            batch.refuse(position, row[0], Reject("orphan", "its room is not known"), row[-1])
            return False
        if self._erased is not None:
            at = next((row[index] for index in times if row[index] is not None), None)
            if at is None or at <= self._erased:
                batch.erased += 1
                return False
        if self._skipped is not None:
            batch.skipped[self._skipped] += 1
            return False
        return True


_ORPHANED: Final = _Limit(None, None, orphaned=True)


def _chunk(batch: Batch) -> Chunk:
    return Chunk(batch.shape, batch.rows, batch.account(), batch.resume, batch.refused, batch.marks)


def _without(chunk: Chunk, bad: Mapping[int, BadRows], collection: str, positions: Sequence[object]) -> Chunk:
    if chunk.shape is None:
        return chunk
    key = chunk.shape.names.index("source_id")
    refused = [
        refusal(collection, str(positions[index]), row[key], Reject("server", str(error)), row[-1])
        for index, error in sorted(bad.items())
        for row in (chunk.rows[index],)
    ]
    rows = [row for index, row in enumerate(chunk.rows) if index not in bad]
    account = replace(
        chunk.account,
        written=chunk.account.written - len(bad),
        rejected=chunk.account.rejected + len(bad),
    )
    return replace(chunk, rows=rows, account=account, refused=[*chunk.refused, *refused])


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


def _last(shape: Shape, rows: Sequence[Row]) -> list[int]:
    """The index of the last row of each key."""
    places = [shape.names.index(name) for name in shape.key]
    return sorted({tuple(row[place] for place in places): index for index, row in enumerate(rows)}.values())


def _back(now: Account, before: Account) -> Account:
    skipped = {
        reason: before.skipped.get(reason, 0) - count
        for reason, count in now.skipped.items()
        if count != before.skipped.get(reason, 0)
    }
    return Account(written=before.written - now.written, skipped=skipped)
