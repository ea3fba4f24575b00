"""Dropping what has been kept long enough, a batch a statement. Engine only."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from router.domain.ports import Tx
from router.storage.queries.link import link_of, row

OLD: Final[Mapping[str, str]] = {
    "idempotency": "created_at < $1",
    "media": "message_id is null and origin = 'upload' and created_at < $1",
    "media_uploads": "expires_at < $1",
    "paces": "tat < $1",
    "outcomes": "at < $1",
    "billables": "at < $1",
    "console_sessions": "expires_at < $1",
}
"""Table → which of its rows are older than $1. Only idempotency and media have an index for it: the others are narrow
and read through once a sweep, which costs less than an index that every send and status would keep up."""

# What is locked is in use: next time. A job that is there is unfinished, also of an event that is dead by another one.
_BODIES = """
with old as (
    select received_at, id from events e
    where received_at >= coalesce($1::timestamptz, '-infinity') and received_at < $2 and body is not null
        and split and state <> 'waiting' and not exists (select from jobs j where j.event_id = e.id)
    order by received_at limit $3 for update of e skip locked
), dropped as (
    update events e set body = null, headers = '[]' from old
    where e.received_at = old.received_at and e.id = old.id returning e.received_at
)
select count(*) as rows, max(received_at) as reached from dropped"""


async def drop(tx: Tx, table: str, before: datetime, limit: int) -> int:
    """Delete up to `limit` rows of a table of OLD that are older than `before`; how many there were."""
    done = await link_of(tx).execute(
        f"delete from {table} where ctid = any(array("
        f"select ctid from {table} where {OLD[table]} limit $2 for update skip locked))",
        before, limit,
    )  # fmt: skip
    return int(done.rpartition(" ")[2])


async def drop_bodies(
    tx: Tx, since: datetime | None, before: datetime, limit: int
) -> tuple[int, datetime | None]:
    """Empty body and headers of up to `limit` events received from `since` until `before`, oldest first, that nobody
    waits for: how many, and when the last of them was received. `since` None: from the first event on."""
    found = await row(tx, _BODIES, since, before, limit)
    return (found["rows"], found["reached"]) if found else (0, None)


async def oldest_body(tx: Tx, since: datetime | None, before: datetime) -> datetime | None:
    """When the first event that still has its body was received; None: none of that span has."""
    found: datetime | None = await link_of(tx).fetchval(
        "select received_at from events where received_at >= coalesce($1::timestamptz, '-infinity')"
        " and received_at < $2 and body is not null order by received_at limit 1",
        since, before,
    )  # fmt: skip
    return found
