"""Events: the lock of a channel's split, what waits to be split, where each one ends."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from uuid import UUID

from router.domain.job import Event, EventState
from router.storage.postgres.base import Base

if TYPE_CHECKING:
    from asyncpg import Record

MAX_TRIES = 3
"""How often splitting an event may fail before it is dead."""

LOCK_SPLIT = 0x53504C54  # "SPLT": the class of the advisory locks; the object is the slug's hash
COLUMNS = (
    "id, tenant_id, channel, received_at, digest, method, raw_path, query, headers, body, seq, state, tries"
)


def from_row(row: "Record | Mapping[str, Any]") -> Event:
    """An event from a row of `events` that has its body."""
    return Event(
        id=row["id"],
        tenant=row["tenant_id"],
        channel=row["channel"],
        received_at=row["received_at"],
        digest=row["digest"],
        method=row["method"],
        raw_path=row["raw_path"],
        query=row["query"],
        headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in row["headers"]),
        body=row["body"],
        seq=row["seq"],
        state=EventState(row["state"]),
        tries=row["tries"],
    )


class Events(Base):
    """The event part of Tx."""

    async def lock_channel(self, slug: str) -> bool:
        # Two slugs of one hash would only wait for each other.
        sql = "select pg_try_advisory_xact_lock($1, hashtext($2)) as taken, now() as now"
        row = await self._link.fetchrow(sql, LOCK_SPLIT, slug)
        assert row is not None  # noqa: S101 - for the type checker: a SELECT without FROM is one row
        self._now = row["now"]
        return bool(row["taken"])

    async def waiting_events(self, slug: str, limit: int) -> Sequence[Event]:
        rows = await self._link.fetch(
            f"select {COLUMNS} from events where channel = $1 and not split order by seq limit $2",
            slug,
            limit,
        )
        events = [from_row(row) for row in rows]
        if events and events[0].tries:
            return events[:1]
        return list(takewhile(lambda event: not event.tries, events))

    async def event(self, event_id: UUID, received_at: datetime) -> Event | None:
        row = await self._link.fetchrow(
            f"select {COLUMNS} from events where received_at = $2 and id = $1 and body is not null",
            event_id, received_at,
        )  # fmt: skip
        return from_row(row) if row else None

    async def mark_split(self, event: Event, state: EventState, reason: str | None = None) -> None:
        await self._link.execute(
            "update events set split = true, state = $3, reason = $4 where received_at = $2 and id = $1",
            event.id, event.received_at, state, reason,
        )  # fmt: skip

    async def settle_event(self, event_id: UUID, received_at: datetime, state: EventState) -> None:
        await self._link.execute(
            "update events set state = $3 where received_at = $2 and id = $1 and split and state = 'waiting'",
            event_id, received_at, state,
        )  # fmt: skip

    async def backlog(self, slug: str) -> int:
        sql = "select count(*) from events where channel = $1 and not split"
        return int(await self._link.fetchval(sql, slug))

    async def count_failure(self, event: Event, error: str) -> None:
        """Splitting failed once more; after MAX_TRIES the event is dead and out of the way."""
        await self._link.execute(
            "update events set tries = tries + 1, reason = $3, split = tries + 1 >= $4,"
            " state = case when tries + 1 >= $4 then 'dead' else state end"
            " where received_at = $2 and id = $1 and not split",
            event.id, event.received_at, error, MAX_TRIES,
        )  # fmt: skip
