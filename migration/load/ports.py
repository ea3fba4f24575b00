"""What an import needs of `router.storage.archive.Archive`: that class is one, and so is a test's memory."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from router.storage.archive.model import Account, Chunk, Part, Refused, Run, RunState, Standing
from router.storage.archive.shape import Shape


class Landing(Protocol):
    """Where a loader puts chunks. All methods raise Unavailable and StoreError."""

    async def add(self, part: Part, chunk: Chunk, *, merge: bool) -> Part:
        """One transaction. Raises LeaseLost, Conflict, BadRows."""
        ...

    async def finish(self, part: Part) -> None: ...

    async def renew(self, part: Part, lease: timedelta) -> None:
        """Raises LeaseLost."""
        ...

    async def standing(self, room_ids: Collection[str]) -> Mapping[str, Standing]: ...


class Archive(Landing, Protocol):
    """And what the coordinator and the retry need besides."""

    async def start(
        self, source: str, *, live: bool, options: Mapping[str, Any],
        token: bytes | None = None, token_at: datetime | None = None,
    ) -> Run: ...  # fmt: skip
    async def latest(self, source: str) -> Run | None: ...
    async def set_state(self, run_id: UUID, state: RunState) -> None: ...
    async def plan(self, run_id: UUID, collection: str, specs: Sequence[Mapping[str, Any]]) -> None: ...
    async def claim(
        self, run_id: UUID, collections: Sequence[str] | None, owner: UUID, lease: timedelta
    ) -> Part | None: ...
    async def release(self, part: Part) -> None:
        """Somebody else may claim it at once. Raises LeaseLost."""
        ...

    async def parts(self, run_id: UUID) -> Sequence[Part]: ...
    async def counts(self, run_id: UUID) -> Mapping[str, Account]: ...
    async def empty(self, shape: Shape) -> bool: ...
    async def drop_indexes(self, shape: Shape) -> None: ...
    async def build_indexes(self, shape: Shape) -> None: ...
    async def refusals(
        self, run_id: UUID | None, *, collection: str | None = None, code: str | None = None, limit: int = 100,
        after: tuple[str, str] | None = None, open_only: bool = True,
    ) -> Sequence[Refused]: ...  # fmt: skip
    async def settle(self, collection: str, keys: Sequence[str]) -> None: ...
