"""What a verification works with: the source, the archive, and the import's own decisions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from migration.collections import Reader, Row
from migration.documents import Block, Mask
from migration.sources import Source
from router.storage.archive.model import Account, Chunk, Part, Refused, Run
from router.storage.archive.shape import Shape

T = TypeVar("T")

_PAGE: Final = 100


class Archive(Protocol):
    """What is needed of `router.storage.archive.Archive`. All methods raise Unavailable and StoreError."""

    async def parts(self, run_id: UUID) -> Sequence[Part]: ...
    async def runs(self, limit: int = ...) -> Sequence[Run]: ...
    async def counts(self, run_id: UUID) -> Mapping[str, Account]: ...
    async def sums(self, shape: Shape, collection: str, bits: int = 12) -> Mapping[int, tuple[int, int]]: ...
    def rows_of(
        self, shape: Shape, collection: str, buckets: Sequence[int], bits: int = 12
    ) -> AsyncIterator[tuple[str, str | None, int]]: ...
    async def row(self, shape: Shape, collection: str, source_id: str) -> Mapping[str, Any] | None: ...
    async def sample(self, shape: Shape, collection: str, count: int) -> Sequence[Mapping[str, Any]]: ...
    async def mend(
        self, run_id: UUID, shape: Shape, collection: str, rows: Sequence[Row], *,
        refused: Sequence[Refused] = (), gone: Collection[str] = (),
    ) -> int: ...  # fmt: skip
    async def files_waiting(self, after: str | None, limit: int) -> Sequence[Mapping[str, Any]]: ...
    async def unerased(self, shape: Shape, collection: str) -> Sequence[tuple[str, str]]: ...
    async def refusals(
        self, run_id: UUID | None, *, collection: str | None = None, code: str | None = None, limit: int = 100,
        after: tuple[str, str] | None = None, open_only: bool = True,
    ) -> Sequence[Refused]: ...  # fmt: skip
    async def note(self, run_id: UUID, name: str, value: Mapping[str, Any] | None) -> None:
        """Keep a JSON object under a name of the run; None: take it away."""
        ...

    async def noted(self, run_id: UUID, name: str) -> Mapping[str, Any] | None: ...


class Sorts(Protocol):
    """`migration.load.Loader`: the import's own decision, standing of rooms and erasures counted in."""

    async def sort(self, collection: str, block: Block) -> Chunk:
        """What becomes of a block's documents: rows, refusals, and how many are skipped and erased."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """`pause`: seconds after which what differs in a live source is looked at again."""

    source: Source
    archive: Archive
    run: Run
    sorts: Sorts
    mask: Mask
    reader: Reader
    pause: float = 2.0

    async def refused(self, collection: str) -> set[str]:
        """The keys of the open refusals of a collection."""
        found: set[str] = set()
        after: tuple[str, str] | None = None
        while page := await self.archive.refusals(None, collection=collection, limit=_PAGE, after=after):
            found.update(each.key for each in page)
            after = (page[-1].collection, page[-1].key)
        return found


async def apart(work: Callable[[], T]) -> T:
    """Run it beside the loop. Cancelled, it is waited for first: nothing reads a source that is being closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


Ids = Collection[str]
