"""What catch-up needs of others: a live source, the archive, the loader, the copy, the weave."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from migration.documents import Block
from router.storage.archive.model import Change, Chunk, Refused, Run, RunState, Standing

DELETE: Final = "delete"


class Event(Protocol):
    """One of the change stream: `op` upsert (`raw`: the whole document as it is now), delete, or lost: changed, but gone
    when it was looked up. `key` None: the document has no `_id` that could be one. `at`: cluster time."""

    @property
    def collection(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def op(self) -> str: ...
    @property
    def raw(self) -> bytes | None: ...
    @property
    def at(self) -> datetime: ...


class Sorts(Protocol):
    """`migration.load.Loader`: masks, filters, orphans, erasures."""

    async def sort(self, collection: str, block: Block) -> Chunk:
        """What becomes of a block's documents."""
        ...


class Fetches(Protocol):
    """A source that hands out single documents."""

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]: ...


class Knows(Protocol):
    """What is asked of `router.storage.archive.Archive`."""

    async def standing(self, room_ids: Collection[str]) -> Mapping[str, Standing]: ...
    async def refusals(
        self, run_id: UUID | None, *, collection: str | None = None, code: str | None = None, limit: int = 100,
        after: tuple[str, str] | None = None, open_only: bool = True,
    ) -> Sequence[Refused]: ...  # fmt: skip
    async def refusal_counts(self) -> Mapping[tuple[str, str], int]:
        """By collection and code."""
        ...


class Stream(Protocol):
    """An open change stream. Synchronous. Raises TokenLost, SourceError."""

    def next(self, timeout: float) -> Sequence[Event]:
        """What has happened; waits so many seconds for something to happen."""
        ...

    def token(self) -> bytes | None:
        """The place after all that `next` gave; goes on while nothing happens."""
        ...

    def close(self) -> None: ...


class Live(Fetches, Protocol):
    """`migration.sources.live.LiveSource`. Synchronous. Raises SourceError."""

    name: str

    def now(self) -> tuple[bytes, datetime]:
        """The end of the change stream, and the source's time there."""
        ...

    def watch(self, collections: Collection[str], token: bytes | None) -> Stream:
        """From after the token. Raises TokenLost as well."""
        ...

    def history(self) -> timedelta | None:
        """How far back the source's history reaches; None: it may not be read."""
        ...


class Archive(Knows, Protocol):
    """What is needed of `router.storage.archive.Archive`."""

    async def latest(self, source: str) -> Run | None: ...
    async def runs(self, limit: int = ...) -> Sequence[Run]: ...
    async def set_state(self, run_id: UUID, state: RunState) -> None: ...
    async def settle(self, collection: str, keys: Sequence[str]) -> None: ...
    async def refuse(self, refused: Sequence[Refused], run_id: UUID) -> None: ...
    async def apply(
        self, run_id: UUID, changes: Sequence[Change], token: bytes, token_at: datetime | None, *,
        after: bytes | None = None, caught_up: bool = False,
    ) -> int:  # fmt: skip
        """`after`: where the stream stood; raises LeaseLost when it stands elsewhere. Raises BadRows."""
        ...

    async def files_waiting(self, after: str | None, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Copy(Protocol):
    """`migration.run.Import`."""

    async def __call__(self, *, anew: bool) -> Run:
        """Copy the source: go on with its unfinished run, or begin one. The change stream's place is taken before the
        first document is read. `anew`: begin one whatever there is. The run is not DONE when a person stopped it."""
        ...


class Uploads(Protocol):
    """`migration.uploads.Uploads`."""

    async def one(self, source: Any, upload_id: str) -> tuple[str, str | None] | None:
        """State and reason; None: there is nothing to do."""
        ...


Weave = Callable[[Collection[str] | None], Awaitable[object]]
"""Rooms into conversations; None: all that are not woven."""
