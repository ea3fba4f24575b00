"""The store: pools, transactions that run again on a conflict, accept by group insert."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

import asyncpg

from router.domain.channel import Channel
from router.domain.errors import Conflict, StoreError, Unavailable
from router.domain.job import Event
from router.domain.ports import Tx
from router.storage.postgres import accept, codec
from router.storage.postgres.accept import Answer, GroupInsert, Ringer
from router.storage.postgres.answers import Answers
from router.storage.postgres.attempts import Attempts
from router.storage.postgres.conversations import Conversations
from router.storage.postgres.events import Events
from router.storage.postgres.failures import translated
from router.storage.postgres.files import Files
from router.storage.postgres.lanes import Lanes
from router.storage.postgres.messages import Messages
from router.storage.postgres.paces import Paces
from router.storage.postgres.people import People
from router.storage.postgres.woven import Woven

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

T = TypeVar("T")

ENGINE_ROLE, TENANT_ROLE = "figueira_engine", "figueira_tenant"
TRIES = 6
"""A transaction is run once, and again up to five times."""

_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 30.0
_ACCEPT_SECONDS = 8.0  # a provider hangs up after ten or so: better a 503 it understands
# A process that stands still in a transaction must not hold a channel or a lane for ever.
_IDLE = "30s"
_BACKOFF_SECONDS = 0.01


# A loose index scan: from each slug straight to the next.
_WAITING = """
with recursive waiting (channel) as (
    (select channel from events where not split order by channel limit 1)
    union all
    select (select e.channel from events e where not e.split and e.channel > w.channel order by e.channel limit 1)
    from waiting w where w.channel is not null
) select channel from waiting where channel is not null
"""


class PostgresTx(Events, Messages, Files, People, Conversations, Paces, Lanes, Attempts, Answers, Woven):
    """router.domain.ports.Tx on one connection, READ COMMITTED with row locks."""


async def _keep(_link: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A connection goes back to its pool as it is: we only set things for a transaction."""


def _pool(dsn: str, role: str, size: int, seconds: float) -> "Pool":
    return asyncpg.create_pool(
        dsn, min_size=0, max_size=size, init=codec.prepare, reset=_keep, command_timeout=seconds,
        timeout=_CONNECT_SECONDS, statement_cache_size=256,
        server_settings={
            "role": role, "timezone": "UTC", "application_name": role,
            "idle_in_transaction_session_timeout": _IDLE,
            # jobs goes from empty to a hundred thousand rows and back: a plan made for the empty table, kept by a
            # prepared statement, would read all of it at each claim. What runs here finds its rows by an index.
            "enable_seqscan": "off",
            "jit": "off",
        },
    )  # fmt: skip


class PostgresStore:
    """router.domain.ports.Store. Open it by `open_store` or `await PostgresStore.open(…)`, then `close`."""

    def __init__(self, dsn: str, tombstone_key: bytes, *, pool_size: int = 10) -> None:
        self._tombstone_key = tombstone_key
        # A pool of its own: workers that hold every connection must not keep a webhook from being stored.
        self._accepting = _pool(dsn, ENGINE_ROLE, accept.IN_FLIGHT, _ACCEPT_SECONDS)
        self._ringing = _pool(dsn, ENGINE_ROLE, 1, _CONNECT_SECONDS)
        self.engine = _pool(dsn, ENGINE_ROLE, pool_size, _COMMAND_SECONDS)
        self._tenant = _pool(dsn, TENANT_ROLE, pool_size, _COMMAND_SECONDS)
        self._group = GroupInsert(self._flush)
        self._ringer = Ringer(self._ring)

    @classmethod
    async def open(cls, dsn: str, *, tombstone_key: bytes, pool_size: int = 10) -> Self:
        """`dsn` as asyncpg takes it, of a login that may take on both roles; `pool_size` for each of the two.
        Raises Unavailable."""
        self = cls(dsn, tombstone_key, pool_size=pool_size)
        with translated():
            for pool in self._pools:
                await pool
            await self.engine.fetchval("select 1")
        return self

    @property
    def _pools(self) -> tuple["Pool", ...]:
        return self._accepting, self._ringing, self.engine, self._tenant

    async def close(self) -> None:
        """Lets the flushes under way end, then closes every connection."""
        await self._group.close()
        await self._ringer.close()
        for pool in self._pools:
            await pool.close()

    # ---- accept

    async def accept(self, event: Event) -> bool:
        """See Store. Raises Unavailable when it could not be stored, StoreError when this one event cannot be."""
        return await self._group.add(event)

    async def _flush(self, events: Sequence[Event]) -> Sequence[Answer]:
        with translated():
            async with self._accepting.acquire(timeout=_ACCEPT_SECONDS) as link:
                answers = await accept.store(link, events)
        stored = {event.channel for event, new in zip(events, answers, strict=True) if new is True}
        self.ring(f"split:{slug}" for slug in stored)
        return answers

    def ring(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for the topics, soon and beside the work."""
        self._ringer.ring(topics)

    async def _ring(self, topics: Sequence[str]) -> None:
        # A lost bell is no harm (everybody polls too), so no failure leaves here.
        with contextlib.suppress(StoreError, Unavailable), translated():
            async with self._ringing.acquire(timeout=_CONNECT_SECONDS) as link:
                await accept.notify(link, topics)

    # ---- transactions

    async def transact(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:
        """See Store. Raises what `work` raises, Conflict after five repeats, Unavailable, StoreError."""
        for tried in range(1, TRIES):
            with contextlib.suppress(Conflict):
                return await self._once(work, tenant)
            await asyncio.sleep(_BACKOFF_SECONDS * random.random() * 2**tried)
        return await self._once(work, tenant)

    async def _once(self, work: Callable[[Tx], Awaitable[T]], tenant: str | None) -> T:
        pool = self.engine if tenant is None else self._tenant
        with translated():
            async with pool.acquire(timeout=_COMMAND_SECONDS) as link:
                tx = PostgresTx(link, self._tombstone_key)
                async with link.transaction():
                    if tenant is not None:
                        await link.execute("select set_config('figueira.tenant', $1, true)", tenant)
                    result = await work(tx)
        self.ring(tx.bells)
        return result

    async def weave(self, work: Callable[[PostgresTx], Awaitable[T]]) -> T:
        """As `transact`, for the import, which needs more of a transaction than the port has."""

        async def ours(tx: Tx) -> T:
            assert isinstance(tx, PostgresTx)  # noqa: S101 - for the type checker: transact made it
            return await work(tx)

        return await self.transact(ours)

    async def waiting_channels(self) -> Sequence[str]:
        """See Store. One index look-up a channel, however many events wait."""
        with translated():
            return [str(row[0]) for row in await self.engine.fetch(_WAITING)]

    async def fail_split(self, event: Event, error: str) -> None:
        """Splitting the event failed (its transaction is rolled back): count it; after three it is dead. `error` is a
        code or a class name, never text of the event."""

        async def work(tx: Tx) -> None:
            assert isinstance(tx, PostgresTx)  # noqa: S101 - for the type checker: transact made it
            await tx.count_failure(event, error)

        await self.transact(work)

    async def sync_channels(self, channels: Iterable[Channel]) -> None:
        """Mirror the settings' channels. One that is gone from the settings keeps its row, as its history does."""
        rows = sorted((c.slug, c.tenant, c.kind, c.address) for c in channels)
        with translated():
            async with self.engine.acquire(timeout=_COMMAND_SECONDS) as link, link.transaction():
                await link.executemany(
                    "insert into channels (slug, tenant_id, kind, address) values ($1, $2, $3, $4)"
                    " on conflict (slug) do update set tenant_id = excluded.tenant_id, kind = excluded.kind,"
                    " address = excluded.address, synced_at = now()",
                    rows,
                )  # fmt: skip


@contextlib.asynccontextmanager
async def open_store(dsn: str, *, tombstone_key: bytes, pool_size: int = 10) -> AsyncIterator[PostgresStore]:
    """Open for the length of an `async with`: see PostgresStore.open."""
    store = await PostgresStore.open(dsn, tombstone_key=tombstone_key, pool_size=pool_size)
    try:
        yield store
    finally:
        await store.close()
