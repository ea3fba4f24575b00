"""One copied collection: all of it by buckets, then what differs document by document, then a sample of the columns."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from migration.collections import Copied
from migration.documents import Block
from migration.verify.columns import wrong_columns
from migration.verify.cut import room_of
from migration.verify.desk import Desk, apart
from migration.verify.look import (
    COLUMNS,
    ERASED,
    EXTRA,
    GONE,
    MISSING,
    REJECTED,
    SKIPPED,
    WRITTEN,
    WRONG,
    Look,
    Verdict,
)  # fmt: skip
from migration.verify.passes import (
    ODD,
    Buckets,
    Here,
    Sieve,
    Sums,
    is_by_room,
    keeping,
    keys_of,
    text,
)  # fmt: skip
from migration.verify.report import FIRST, Difference, Tally
from router.storage.archive.model import Chunk, Refused
from router.storage.archive.refusals import key_of as refusal_key
from router.storage.archive.shape import ROOMS

ROWS_AT_ONCE: Final = 300_000
"""So many documents of buckets that differ are looked at in one pass over the source."""
_SLICE: Final = 5_000
_DUPLICATE: Final = "duplicate"
Specs = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class _Drill:
    """What is known of some buckets. `pending`: documents to be looked at one by one; True: the source's document is in
    the tally already. `broken`: bytes that are no document with an id, and are not among the refused."""

    tally: Tally
    here: dict[str, Here]
    matched: set[str] = field(default_factory=set)
    pending: dict[str, bool] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)
    rooms: Counter[str] = field(default_factory=Counter)
    broken: list[Refused] = field(default_factory=list)
    mended: list[Difference] = field(default_factory=list)

    def wait(self, source_id: str) -> None:
        """For a single look; a second document of that id is a duplicate."""
        if source_id in self.pending:
            self.tally.skip(_DUPLICATE)
        self.pending.setdefault(source_id, False)


class Check:
    """Of one collection. `specs`: its parts."""

    def __init__(
        self, desk: Desk, collection: str, treated: Copied, specs: Specs, *, repair: bool,
        rows_at_once: int = ROWS_AT_ONCE,
    ) -> None:  # fmt: skip
        self._desk, self._name, self._treated, self._specs = desk, collection, treated, specs
        self._repair, self._rows_at_once = repair, rows_at_once
        self._keep = keeping(desk.mask, treated)
        self._by_room = is_by_room(treated)
        self._bucket = Buckets(by_room=self._by_room)
        self._look = Look(desk, collection, treated, there=bool(specs))

    async def buckets(self, sums: Sums, here: Mapping[int, tuple[int, int]]) -> Tally:
        """`sums` of the source against the archive's."""
        differing = sums.differing(here)
        left = set(differing)
        proven = sum(count for bucket, count in enumerate(sums.counts) if bucket not in left)
        tally = Tally(source=proven, written=proven)
        for some in _batches(differing, sums, here, self._rows_at_once):
            found = await self._drill(some, repair=self._repair)
            if found.mended:
                mended = found.mended
                found = await self._drill(some, repair=False)
                for each in mended:
                    found.tally.differ(each.mended())
            tally.absorb(found.tally)
        return tally

    async def erased(self) -> Tally:
        """Rows of erased people: their bytes may be the source's, and yet they should not be here."""
        found = Tally()
        wrong = [
            Verdict(source_id, EXTRA, room_id, ERASED)
            for source_id, room_id in await self._desk.archive.unerased(self._treated.shape, self._name)
        ]
        if self._repair:
            await self._look.mend(wrong)
        for each in wrong:
            difference = each.difference(self._name)
            found.differ(difference.mended() if self._repair else difference)
        return found

    # ---- document by document

    async def _drill(self, buckets: Sequence[int], *, repair: bool) -> _Drill:
        asked = [bucket for bucket in buckets if bucket != ODD]
        here = {
            source_id: Here(room_id, found)
            async for source_id, room_id, found in _rows(self._desk, self._treated, self._name, asked)
        }
        drill = _Drill(Tally(), here)
        refused = await self._desk.refused(self._name)
        wanted = frozenset(buckets)
        for spec in self._specs:
            blocks = self._desk.source.read(self._name, spec)
            sieve = Sieve(
                blocks, wanted, here, self._keep, self._bucket, self._by_room, drill.matched, drill.rooms
            )
            while (rest := await apart(sieve.step)) is not None:
                await self._judge(drill, sieve, rest, refused)
            drill.tally.source += sieve.documents
            drill.tally.skip(_DUPLICATE, sieve.duplicates)
        drill.tally.written += len(drill.matched)
        for key in drill.pending.keys() & drill.matched:
            # Another document of the same id is the one that is kept.
            if not drill.pending.pop(key):
                drill.tally.skip(_DUPLICATE)
        await self._settle(drill, repair=repair)
        return drill

    async def _judge(self, drill: _Drill, sieve: Sieve, rest: Block, refused: set[str]) -> None:
        """What did not go through the sieve: refused, or as the import decides."""
        raws: list[bytes] = []
        positions: list[int] = []
        keys: list[str] = []
        for raw, position, key in zip(rest.raws, rest.positions, keys_of(rest.raws), strict=True):
            room = text(room_of(raw)) if self._by_room else None
            if key is not None and sieve.matches(key, room, raw):
                continue
            if key is not None and refusal_key(key) in refused:
                drill.tally.rejected += 1
                drill.spared.add(key)
                continue
            raws.append(raw)
            positions.append(position)
            if key is not None:
                keys.append(key)
        if raws or rest.faults:
            chunk = await self._desk.sorts.sort(self._name, Block(raws, positions, rest.resume, rest.faults))
            self._sorted(drill, chunk, keys, refused)

    def _sorted(self, drill: _Drill, chunk: Chunk, keys: Sequence[str], refused: set[str]) -> None:
        tally = drill.tally
        at = self._treated.shape.names.index("source_id")
        told: set[str] = set()
        asked = set(keys)
        for row in chunk.rows:
            told.add(row[at])
            drill.wait(row[at])
        for each in chunk.refused:
            if each.key in refused:
                tally.rejected += 1
                drill.spared.add(each.source_id or "")
            elif each.source_id is None or each.source_id not in asked:
                drill.broken.append(each)
            else:
                drill.wait(each.source_id)
            told.add(each.source_id or "")
        for reason, documents in chunk.account.skipped.items():
            tally.skip(reason, documents)
        tally.erased += chunk.account.erased
        for key in asked - told:
            # Left out. Whether a row that is here nevertheless may stay, only a look tells.
            if key in drill.here and chunk.account.erased:
                drill.pending.setdefault(key, True)
            else:
                drill.spared.add(key)

    # ---- one by one

    async def _settle(self, drill: _Drill, *, repair: bool) -> None:
        extra = drill.here.keys() - drill.matched - drill.pending.keys() - drill.spared
        for each in drill.broken:
            difference = Difference(
                self._name, MISSING, each.source_id, detail=f"{each.code} at {each.position}"
            )
            drill.tally.differ(difference)
            if repair:
                await self._look.refuse(each)
                drill.mended.append(difference)
        asked = sorted({*drill.pending, *extra})
        if not asked:
            return
        if self._desk.source.live:
            await asyncio.sleep(self._desk.pause)
        refused = await self._desk.refused(self._name)
        for begin in range(0, len(asked), _SLICE):
            some = asked[begin : begin + _SLICE]
            verdicts = await self._look.at(some, refused)
            wrong = [each for each in verdicts.values() if each.state in WRONG]
            if repair and wrong:
                left = await self._look.mended(wrong)
                drill.mended += [each.difference(self._name) for each in wrong if each.source_id not in left]
            for source_id in some:
                self._count(drill, verdicts[source_id])
        self._count_rooms(drill)

    def _count(self, drill: _Drill, verdict: Verdict) -> None:
        tally, state = drill.tally, verdict.state
        counted = drill.pending.get(verdict.source_id)
        if state in WRONG:
            if counted is None and state != EXTRA and not self._desk.source.live:
                return  # the source's document stands in another bucket, and is told of there
            tally.differ(verdict.difference(self._name))
        if counted is None and self._desk.source.live and state not in {GONE, EXTRA}:
            tally.source += 1
            counted = False
        if counted is False:
            _told(tally, verdict)

    def _count_rooms(self, drill: _Drill) -> None:
        """Rooms in which messages differ: how many the source has, how many are here."""
        if not self._by_room or not drill.tally.first:
            return
        here = Counter(row.room_id for row in drill.here.values())
        named = {each.room_id for each in drill.tally.first if each.room_id is not None}
        for room in sorted(named)[:FIRST]:
            drill.tally.rooms[room] = {"source": drill.rooms[room], "here": here[room]}

    # ---- columns

    async def columns(self, sample: int) -> Tally:
        """Stored columns of some rows against what the mapper makes of the document."""
        found = Tally()
        rows = await self._desk.archive.sample(self._treated.shape, self._name, sample) if sample else ()
        doubted = [row["source_id"] for row in rows if not self._as_mapped(row)]
        if not doubted:
            return found
        verdicts = await self._look.at(doubted, await self._desk.refused(self._name), columns=True)
        wrong = [each for each in verdicts.values() if each.state == COLUMNS]
        left = {each.source_id for each in wrong}
        if self._repair and wrong:
            left = await self._look.mended(wrong, columns=True)
        for each in wrong:
            difference = each.difference(self._name)
            found.differ(difference if each.source_id in left else difference.mended())
        return found

    def _as_mapped(self, row: Mapping[str, Any]) -> bool:
        """False: to be compared with the source's own document. Rooms always are: they are mapped before a visitor's
        token is overwritten."""
        if self._treated.shape is ROOMS or row["raw"] is None:
            return False
        raw = bytes(row["raw"])
        made = self._look.mapped(raw)
        return made is not None and not wrong_columns(self._treated.shape, made, row)


def _told(tally: Tally, verdict: Verdict) -> None:
    """What became of a document of the source that is in the tally as nothing yet."""
    state = verdict.state
    if state == WRITTEN:
        tally.written += 1
    elif state == REJECTED:
        tally.rejected += 1
    elif state == ERASED or (state == EXTRA and verdict.reason == ERASED):
        tally.erased += 1
    elif state == SKIPPED:
        tally.skip(verdict.reason or "unknown")
    elif state in {GONE, EXTRA}:
        tally.source -= 1


async def _rows(
    desk: Desk, treated: Copied, collection: str, buckets: Sequence[int]
) -> AsyncIterator[tuple[str, str | None, int]]:
    if buckets:
        async for row in desk.archive.rows_of(treated.shape, collection, buckets):
            yield row


def _batches(
    buckets: Sequence[int], sums: Sums, here: Mapping[int, tuple[int, int]], limit: int
) -> Iterator[list[int]]:
    """Buckets that together have about so many documents."""
    some: list[int] = []
    size = 0
    for bucket in buckets:
        some.append(bucket)
        size += max(sums.counts[bucket], here.get(bucket, (0, 0))[0])
        if size >= limit:
            yield some
            some, size = [], 0
    if some:
        yield some
