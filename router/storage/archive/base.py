"""What the archive's parts share: its pools, and transactions that run again when two workers met."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from router.domain.errors import Conflict
from router.storage.postgres import codec
from router.storage.postgres.failures import translated

if TYPE_CHECKING:
    from asyncpg import Pool as _Pool
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Link = PoolConnectionProxy[Record]
    Pool = _Pool[Record]

T = TypeVar("T")

ROLE = "figueira_engine"
_TRIES = 6
_CONNECT_SECONDS = 5.0
_BACKOFF_SECONDS = 0.02
_SETTINGS = {
    "role": ROLE,
    "timezone": "UTC",
    "application_name": "figueira_import",
    "jit": "off",
    # A process that stands still in a transaction must not hold a part for ever.
    "idle_in_transaction_session_timeout": "5min",
    "client_min_messages": "warning",
}
# What is written finds its rows by their keys. A plan made while a table was empty, and kept by a prepared statement,
# would otherwise read the whole of it for each chunk.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


class _Again(Exception):
    """Two writers met: the transaction is run again."""


async def _keep(_link: "asyncpg.Connection[Record]") -> None:
    """A connection goes back to its pool as it is: we only set things for a transaction."""


def _pool(dsn: str, size: int, settings: dict[str, str]) -> "Pool":
    # No time-out of a command: building, summing and copying take as long as they take.
    return asyncpg.create_pool(
        dsn, min_size=0, max_size=size, init=codec.prepare, reset=_keep, timeout=_CONNECT_SECONDS,
        server_settings=settings,
    )  # fmt: skip


class Base:
    """Pools of the engine's role: one writes, one reads. `dsn` itself is the owner's, who alone may make indexes."""

    def __init__(self, dsn: str, *, pool_size: int = 4) -> None:
        self._dsn = dsn
        self._writers = _pool(dsn, pool_size, {**_SETTINGS, **_BY_KEY})
        self._readers = _pool(dsn, pool_size, _SETTINGS)

    async def connect(self) -> None:
        """Raises Unavailable."""
        with translated():
            await self._writers
            await self._readers
            await self._readers.fetchval("select 1")

    async def close(self) -> None:
        """Closes every connection."""
        await self._writers.close()
        await self._readers.close()

    async def _write(self, work: "Callable[[Link], Awaitable[T]]") -> T:
        """One transaction; after a deadlock again, up to five times, then Conflict."""
        for tried in range(1, _TRIES):
            with contextlib.suppress(_Again):
                return await self._once(work)
            await asyncio.sleep(_BACKOFF_SECONDS * random.random() * 2**tried)
        try:
            return await self._once(work)
        except _Again:
            raise Conflict from None

    async def _once(self, work: "Callable[[Link], Awaitable[T]]") -> T:
        with translated():
            try:
                async with self._writers.acquire() as link, link.transaction():
                    return await work(link)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                raise _Again from None

    @contextlib.asynccontextmanager
    async def _read(self) -> "AsyncIterator[Link]":
        with translated():
            async with self._readers.acquire() as link:
                yield link
