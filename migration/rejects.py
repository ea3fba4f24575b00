"""What was refused, tried again: the source's own document as it is now, else the bytes that were kept.

An account stays in balance: a document that goes in now is taken off the rejected ones of its collection.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Final
from uuid import uuid4

from migration.documents import Block, Reject, decode, key_of
from migration.load import Archive, Loader, Sorter
from migration.sources import Source
from migration.stages import stage
from router.domain.errors import FigueiraError
from router.storage.archive.model import Account, Part, Refused
from router.storage.archive.shape import MESSAGES, ROOMS

ORPHAN: Final = "orphan"
AGAIN: Final = "again"
"""In the spec of a part that reads nothing: what is tried again is accounted for there."""
_LEASE: Final = timedelta(minutes=5)
_PAGE: Final = 20
"""A refusal holds up to 16 MiB."""
_IDS: Final = 10_000
"""A file is read once for so many."""


class NotImportedError(FigueiraError):
    """Nothing was imported from this source, or not all of it: finish the import first."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Of `tried` refusals, how many are none any more (written, or skipped, or erased), and how many still are."""

    tried: int = 0
    settled: int = 0

    @property
    def still(self) -> int:
        return self.tried - self.settled


async def retry(
    source: Source, archive: Archive, loader: Loader, sorter: Sorter, *, code: str | None = None
) -> Retried:
    """Try the open refusals of the source's newest run again; `code`: only these. Raises NotImportedError, SourceError,
    LeaseLost, Unavailable, StoreError."""
    return await _Retry(source, archive, loader, sorter).run(code)


class _Retry:
    def __init__(self, source: Source, archive: Archive, loader: Loader, sorter: Sorter) -> None:
        self._source = source
        self._archive = archive
        self._loader = loader
        self._sorter = sorter
        self._parts: dict[str, Part] = {}
        self._owed: dict[str, int] = {}

    async def run(self, code: str | None) -> Retried:
        run = await self._archive.latest(self._source.name)
        planned = await self._archive.parts(run.id) if run is not None else ()
        if run is None or not all(part.done or AGAIN in part.spec for part in planned):
            raise NotImportedError(
                f"{self._source.name}: not all of it has been imported; run `figueira migrate import` first"
            )
        self._run, self._planned = run, planned
        self._owed = {
            name: account.rejected for name, account in (await self._archive.counts(run.id)).items()
        }
        keys: dict[str, set[str]] = defaultdict(set)
        rooms: set[str] = set()
        async for refused in self._pages(code):
            keys[refused.collection].add(refused.key)
            rooms |= self._room(refused)
        tried = settled = 0
        try:
            await self._missing(rooms)
            for collection in sorted(keys, key=self._stage):
                tried += len(keys[collection])
                settled += await self._collection(collection, keys[collection], code)
        finally:
            for part in self._parts.values():
                await self._archive.finish(part)
        return Retried(tried, settled)

    async def _part(self, collection: str) -> Part:
        """One of the collection's that is ours."""
        if collection not in self._parts:
            mine = [part for part in self._planned if part.collection == collection]
            if all(part.done for part in mine):
                await self._archive.plan(
                    self._run.id, collection, [*(part.spec for part in mine), {AGAIN: True}]
                )
            part = await self._archive.claim(self._run.id, [collection], uuid4(), _LEASE)
            if part is None:
                raise NotImportedError(
                    f"{self._source.name}: rejects of {collection} are being tried elsewhere"
                )
            self._parts[collection] = part
        return self._parts[collection]

    def _stage(self, collection: str) -> tuple[int, str]:
        return stage(self._sorter.treatment(collection)), collection

    async def _pages(self, code: str | None, collection: str | None = None) -> AsyncIterator[Refused]:
        after: tuple[str, str] | None = None
        while page := await self._archive.refusals(
            self._run.id, collection=collection, code=code, limit=_PAGE, after=after
        ):
            for refused in page:
                yield refused
            after = page[-1].collection, page[-1].key

    def _room(self, refused: Refused) -> set[str]:
        what = self._sorter.treatment(refused.collection)
        if refused.code != ORPHAN or getattr(what, "shape", None) is not MESSAGES:
            return set()
        document = decode([refused.raw])[0]
        found = None if isinstance(document, Reject) else document.get("rid")
        return {found} if isinstance(found, str) else set()

    async def _missing(self, rooms: set[str]) -> None:
        """Rooms of orphans that came after the rooms were read."""
        unknown = rooms - (await self._archive.standing(rooms) if rooms else {}).keys()
        if not unknown:
            return
        for name in sorted({part.collection for part in self._planned}):
            if getattr(self._sorter.treatment(name), "shape", None) is ROOMS:
                for block in self._source.fetch(name, unknown):
                    chunk = await self._loader.sort(name, block)
                    part = await self._part(name)
                    self._parts[name] = await self._loader.land(part, replace(chunk, resume=part.after))

    async def _collection(self, collection: str, keys: set[str], code: str | None) -> int:
        settled = 0
        ids = (key.removeprefix("id:") for key in sorted(keys) if key.startswith("id:"))
        waiting = set(keys)
        while some := list(islice(ids, _IDS)):
            for block in self._source.fetch(collection, some):
                tried = _keys(block)
                settled += await self._again(collection, block, tried)
                waiting -= tried
        if waiting:
            async for refused in self._pages(code, collection):
                if refused.key in waiting and refused.raw:
                    block = Block([refused.raw], [_position(refused)], "")
                    settled += await self._again(collection, block, {refused.key}, kept=True)
        return settled

    async def _again(self, collection: str, block: Block, tried: set[str], *, kept: bool = False) -> int:
        part = await self._part(collection)
        chunk = await self._loader.sort(collection, block, kept=kept)
        found = chunk.account
        landed = found.source - found.rejected
        account = Account()
        if landed <= self._owed.get(collection, 0):
            account = replace(found, source=0, digest=0, rejected=-landed)
            self._owed[collection] = self._owed.get(collection, 0) - landed
        part = await self._loader.land(part, replace(chunk, account=account, resume=part.after))
        self._parts[collection] = part
        settled = sorted(tried - {refused.key for refused in chunk.refused})
        await self._archive.settle(collection, settled)
        return len(settled)


def _keys(block: Block) -> set[str]:
    """Of fetched documents: each was found by its `_id`."""
    return {f"id:{key_of(document)}" for document in _sound(block)}


def _sound(block: Block) -> Iterator[dict[str, object]]:
    for document in decode(block.raws):
        if not isinstance(document, Reject):
            yield document


def _position(refused: Refused) -> int:
    return int(refused.position) if refused.position.isdecimal() else 0
