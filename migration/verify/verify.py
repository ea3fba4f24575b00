"""Proof that an import is complete: every document of the source is here as it is there, or told why not."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from migration.collections import Bytes, Copied, Left, Reader, treatment
from migration.documents import Mask
from migration.rejects import AGAIN
from migration.run import Progress
from migration.sources import Source
from migration.stages import stage
from migration.verify.copied import ROWS_AT_ONCE, Check
from migration.verify.desk import Archive, Desk, Sorts, apart
from migration.verify.gridfs import UPLOADS, Files, GridCheck
from migration.verify.passes import Buckets, Count, Sums, is_by_room, keeping
from migration.verify.report import Difference, Report, Tally
from router.storage.archive.model import Account, Part, Run

SAMPLE: Final = 200
_NOTE: Final = "verify"
_PART_NOTE: Final = "verify_part"
_NOTED_SECONDS: Final = 5.0


class Verify:
    """`run`: the import whose copies are checked. `sorts`: its loader, made for its options. `woven`: what is wrong with
    what was made of livechat rooms. `sample`: so many rows of a collection are compared column by column; `pause` in
    seconds. `told` gets how far it is."""

    def __init__(
        self, source: Source, archive: Archive, run: Run, *, sorts: Sorts, mask: Mask, reader: Reader,
        files: Files | None = None, woven: Callable[[], Awaitable[Sequence[Difference]]] | None = None,
        treat: Callable[[str], Copied | Left | Bytes] = treatment, sample: int = SAMPLE, pause: float = 2.0,
        told: Callable[[Progress], None] | None = None, rows_at_once: int = ROWS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._desk = Desk(source, archive, run, sorts, mask, reader, pause)
        self._source, self._archive, self._run = source, archive, run
        self._woven, self._treat = woven, treat
        self._sample, self._rows_at_once = sample, rows_at_once
        self._told, self._clock = told, clock
        self._grid = GridCheck(self._desk, files)
        self._there: set[str] = set()
        self._began = 0.0

    async def run(self, *, repair: bool = False, again: bool = False) -> Report:
        """Check everything; `repair`: copy anew what differs, and only that. Cut off, a check of a source that stands
        still goes on where it was, unless the import has changed meanwhile or `again`. Raises SourceError, Unavailable,
        StoreError."""
        self._began = self._clock()
        parts = await self._archive.parts(self._run.id)
        state = {"of": _fingerprint(parts), "repair": repair}
        done = {} if again else await self._resumed(state)
        if not done:
            await self._archive.note(self._run.id, _PART_NOTE, None)
        await self._grid.stored(repair=repair)
        for name in await self._names(parts):
            if name not in done:
                done[name] = await self._collection(name, parts, repair=repair)
                await self._remember(state, done)
        for difference in await self._grid.settled(repair=repair):
            done.setdefault(UPLOADS, Tally()).differ(difference)
        woven = await self._woven() if self._woven is not None else ()
        for name in (_NOTE, _PART_NOTE):
            await self._archive.note(self._run.id, name, None)
        return Report(done, woven, sum(not part.done for part in parts))

    async def _names(self, parts: Sequence[Part]) -> list[str]:
        """What the source has and what was ever copied from it, files of GridFS before their chunks."""
        self._there = {found.name for found in await apart(self._source.collections)}
        names = self._there | {part.collection for part in parts}
        for run in await self._archive.runs():  # a collection may be gone since an earlier one
            if run.source == self._run.source and run.id != self._run.id:
                names |= {part.collection for part in await self._archive.parts(run.id)}
        return sorted(names, key=lambda name: (stage(self._treat(name)), name))

    async def _collection(self, name: str, parts: Sequence[Part], *, repair: bool) -> Tally:
        treated = self._treat(name)
        mine = [part for part in parts if part.collection == name]
        specs = await self._specs(name, mine)
        if isinstance(treated, Copied):
            tally = await self._copied(name, treated, mine, specs, repair=repair)
        elif self._source.live and (isinstance(treated, Left) or treated.role == "chunks"):
            tally = await self._as_counted(name)
        elif isinstance(treated, Left):
            tally = await self._left(name, treated, mine, specs)
        else:
            tally = await self._grid.check(name, specs)
        for part in mine:
            if not part.account.balanced:
                tally.differ(Difference(name, "unbalanced", detail=f"part {part.number}"))
        return tally

    async def _specs(self, name: str, mine: Sequence[Part]) -> Sequence[Mapping[str, Any]]:
        if name not in self._there:
            return ()
        if mine:
            return [part.spec for part in mine if AGAIN not in part.spec]  # a retry read no part of its own
        return await apart(lambda: self._source.plan(name))

    # ---- what is copied

    async def _copied(
        self, name: str, treated: Copied, mine: Sequence[Part], specs: Sequence[Mapping[str, Any]], *, repair: bool
    ) -> Tally:  # fmt: skip
        check = Check(self._desk, name, treated, specs, repair=repair, rows_at_once=self._rows_at_once)
        tally = await check.erased()
        asked = asyncio.create_task(self._archive.sums(treated.shape, name))
        try:
            sums = await self._counted(name, treated, specs)
            here = await asked
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        tally.absorb(await check.buckets(sums, here))
        tally.absorb(await check.columns(self._sample))
        self._unchanged(tally, name, mine, sums)
        return tally

    async def _counted(self, name: str, treated: Copied | None, specs: Sequence[Mapping[str, Any]]) -> Sums:
        """The first pass; goes on behind the last part that is noted."""
        noted = None if self._source.live else await self._archive.noted(self._run.id, _PART_NOTE)
        sums = Sums.of(noted["sums"]) if noted and noted["collection"] == name else Sums()
        keep = self._desk.mask if treated is None else keeping(self._desk.mask, treated)
        buckets = Buckets(by_room=treated is not None and is_by_room(treated))
        documents, at = sum(count for count, _ in sums.parts), self._clock()
        for spec in specs[len(sums.parts) :]:
            count = Count(self._source.read(name, spec), sums, keep, self._desk.mask, buckets)
            while (more := await apart(count.step)) is not None:
                documents += more
                self._tell(name, documents)
            if not self._source.live and self._clock() - at > _NOTED_SECONDS:
                await self._archive.note(self._run.id, _PART_NOTE, {"collection": name, "sums": sums.kept()})
                at = self._clock()
        return sums

    def _unchanged(self, tally: Tally, name: str, mine: Sequence[Part], sums: Sums) -> None:
        """Each part's digest over the source's documents, also those that were not written, against what it was when
        they were copied."""
        if self._source.live:
            return
        for part, (documents, xor) in zip(mine, sums.parts, strict=False):
            if part.done and (part.account.source, part.account.digest) != (documents, xor):
                tally.differ(
                    Difference(
                        name, "source_changed",
                        detail=f"part {part.number}: the source has changed since it was imported",
                    )
                )  # fmt: skip

    # ---- what is not

    async def _left(
        self, name: str, treated: Left, mine: Sequence[Part], specs: Sequence[Mapping[str, Any]]
    ) -> Tally:
        sums = await self._counted(name, None, specs)
        documents = sum(count for count, _ in sums.parts)
        refused = min(documents, len(await self._desk.refused(name)))
        tally = Tally(source=documents, rejected=refused)
        tally.skip(treated.reason, documents - refused)
        self._unchanged(tally, name, mine, sums)
        return tally

    async def _as_counted(self, name: str) -> Tally:
        """What a live server need not send again only to be counted: as the run counted it."""
        account = (await self._archive.counts(self._run.id)).get(name, Account())
        return Tally(account.source, account.written, dict(account.skipped), account.rejected, account.erased)

    # ---- state

    async def _resumed(self, state: Mapping[str, Any]) -> dict[str, Tally]:
        noted = None if self._source.live else await self._archive.noted(self._run.id, _NOTE)
        if noted is None or any(noted.get(name) != value for name, value in state.items()):
            return {}
        return {name: Tally.of(kept) for name, kept in noted["collections"].items()}

    async def _remember(self, state: Mapping[str, Any], done: Mapping[str, Tally]) -> None:
        if not self._source.live:
            kept = {name: tally.kept() for name, tally in done.items()}
            await self._archive.note(self._run.id, _NOTE, {**state, "collections": kept})

    def _tell(self, name: str, documents: int) -> None:
        if self._told is not None:
            self._told(Progress(name, Account(documents), None, self._clock() - self._began))


def _fingerprint(parts: Sequence[Part]) -> str:
    """Of what was imported: another one after more was."""
    total = sum((part.account for part in parts), Account())
    done = sum(part.done for part in parts)
    return f"{len(parts)}:{done}:{total.source}:{total.written}:{total.changed}:{total.digest}"
