"""What waits, what was given up, how the two paths do, whether the ledger balances."""

from datetime import datetime
from uuid import UUID

from router.domain.channel import RESERVED
from router.domain.job import Job
from router.domain.ports import Tx
from router.storage.postgres import jobs
from router.storage.postgres.events import MAX_TRIES
from router.storage.queries.link import Row, Where, link_of, row, rows

# One statement, so one snapshot: an event that is being split meanwhile is on one side of it or the other. `stuck` are
# waiting events nobody will ever finish, `lost` dead ones that left no trace to replay them by.
_LEDGER = f"""
with digests as (
    select channel, count(*) as events from event_digests group by channel
), states as (
    select channel,
        count(*) filter (where state = 'handled') as handled, count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where state = 'dead') as dead, count(*) filter (where state = 'ignored') as ignored,
        count(*) filter (where state = 'waiting' and split and id not in (
            select event_id from jobs where event_id is not null)) as stuck,
        count(*) filter (where state = 'dead' and tries < {MAX_TRIES} and id::text not in (
            select job->>'event_id' from dead_letters where job->>'event_id' is not null)) as lost
    from events group by channel
)
select channel, coalesce(events, 0) as events, coalesce(handled, 0) as handled, coalesce(waiting, 0) as waiting,
    coalesce(dead, 0) as dead, coalesce(ignored, 0) as ignored, coalesce(stuck, 0) as stuck, coalesce(lost, 0) as lost
from digests full join states using (channel) order by channel
"""
_SENT = "direction = 'outbound' and (status in ('sent', 'delivered', 'read') or delivered_at is not null)"
_SPAN = "extract(epoch from delivered_at - sent_at)"
_COUNTERS = f"""
    count(*) filter (where direction = 'inbound') as inbound,
    count(*) filter (where direction = 'inbound' and handled_at is not null) as handled,
    count(*) filter (where {_SENT}) as sent,
    count(*) filter (where direction = 'outbound' and (status in ('delivered', 'read') or delivered_at is not null))
        as delivered,
    count(*) filter (where direction = 'outbound' and status in ('failed', 'rejected')) as failed,
    count(*) filter (where direction = 'outbound' and status = 'unknown') as unknown,
    (percentile_cont(0.5) within group (order by {_SPAN}) filter (where delivered_at >= sent_at))::float8
        as delivery_seconds,
    (percentile_cont(0.95) within group (order by {_SPAN}) filter (where delivered_at >= sent_at))::float8
        as delivery_seconds_p95
"""
# Events that split gave up: they have no job. Channel by channel, so that the index on (channel, state) finds them.
_UNSPLIT = f"""
from (select slug from channels union all select '{RESERVED}') c join lateral (
    select * from events e where e.channel = c.slug and e.state = 'dead' and e.tries >= {MAX_TRIES}
) e on true"""
_LETTER = """
select job_id, tenant_id as tenant, channel, kind as job_kind, reason, at, replayed_at, job from dead_letters"""


async def ledger(tx: Tx) -> list[Row]:
    """Per channel: events (from their digests), their states, and how many stand there wrongly. Engine only."""
    return await rows(tx, _LEDGER)


async def counters(
    tx: Tx, by: str, *, kind: str | None, channel: str | None, since: datetime | None
) -> list[Row]:
    """Messages in numbers, `by` "path" or "channel, path"; times in seconds, None where nothing was delivered."""
    if by not in {"path", "channel, path"}:
        raise ValueError(f"no grouping of messages: {by}")
    where = Where().add("kind = {}", kind).add("channel = {}", channel).add("created_at >= {}", since)
    where.add("matched_by is distinct from 'import'")  # history says nothing of how the paths do
    return await rows(tx, f"select {by}, {_COUNTERS} from messages{where.sql} group by {by}", *where.values)


async def foreign_outcomes(tx: Tx, *, kind: str | None, channel: str | None, since: datetime | None) -> Row:
    """Provider's statuses of messages that Rocket.Chat sent and that no row of ours claims: {delivered, failed}."""
    where = Where().add("h.kind = {}", kind).add("o.channel = {}", channel).add("o.at >= {}", since)
    where.add(
        "not exists (select from message_keys k where k.key = 'external' and k.channel = o.channel"
        " and k.value = o.external_id)"
    )
    found = await row(
        tx,
        "select count(*) filter (where o.status in ('delivered', 'read')) as delivered,"
        " count(*) filter (where o.status in ('failed', 'rejected')) as failed"
        f" from outcomes o join channels h on h.slug = o.channel{where.sql}",
        *where.values,
    )
    return found or {"delivered": 0, "failed": 0}


# what waits ------------------------------------------------------------------------------------------------


async def lanes(tx: Tx) -> list[Row]:
    """Per channel and lane (split, inbound, outbound, channel): depth, and the age of the oldest in seconds."""
    return await rows(
        tx,
        "select channel, 'split' as lane, count(*) as depth,"
        " extract(epoch from now() - min(received_at))::float8 as age_seconds"
        " from events where not split group by channel"
        " union all select j.channel, split_part(l.lane, ':', 1), count(distinct j.id),"
        " extract(epoch from now() - min(j.created_at))::float8"
        " from lane_jobs l join jobs j on j.id = l.job_id group by 1, 2 order by 1, 2",
    )


async def waiting(tx: Tx) -> list[Row]:
    """Unfinished jobs per channel and path. Files, read marks and typing are on neither."""
    return await rows(
        tx,
        "select channel, case when kind = 'send' then coalesce(path, 'rocketchat') else 'rocketchat' end as path,"
        " count(*) as waiting from jobs where kind not in ('fetch', 'mark', 'typing') group by 1, 2",
    )


async def pins(tx: Tx) -> list[Row]:
    """Open conversations per kind and path."""
    return await rows(
        tx,
        "select kind, path, count(*) as pins from conversations where closed_at is null group by kind, path",
    )


async def unplaced(tx: Tx) -> int:
    """Rocket.Chat's events whose room has no channel yet."""
    return int(await link_of(tx).fetchval("select count(distinct event_id) from jobs where kind = 'place'"))


async def breakers(tx: Tx) -> list[Row]:
    """Every breaker that ever counted a failure."""
    return await rows(tx, "select gate, failures, opened_at, open_until, reason from breakers order by gate")


# dead letters ----------------------------------------------------------------------------------------------


async def dead_counts(tx: Tx) -> list[Row]:
    """Dead letters that wait for a person, per channel."""
    return await rows(
        tx,
        "select channel, count(*) as dead from ("
        " select channel from dead_letters where replayed_at is null"
        f" union all select e.channel {_UNSPLIT}) dead group by channel order by 1",
    )


async def unsplit(tx: Tx, channels: list[str] | None, limit: int) -> list[Row]:
    """Events that were given up because splitting them failed, oldest first. With `channels`, of those only."""
    where = Where().add("e.channel = any({}::text[])", channels)
    where.values.append(limit)
    return await rows(
        tx,
        f"select e.id, e.tenant_id as tenant, e.channel, e.reason, e.tries, e.received_at {_UNSPLIT}{where.sql}"
        f" order by e.seq limit ${len(where.values)}",
        *where.values,
    )


async def split_again(tx: Tx, event_id: UUID) -> bool | None:
    """Let a given-up event be split anew; False: it is none, None: its body has been dropped. Engine only."""
    found = await row(
        tx,
        f"select e.received_at, e.body is null as dropped {_UNSPLIT} where e.id = $1 for update of e",
        event_id,
    )
    if found is None:
        return False
    if found["dropped"]:
        return None
    await link_of(tx).execute(
        "update events set state = 'waiting', split = false, tries = 0, reason = null"
        " where received_at = $1 and id = $2",
        found["received_at"], event_id,
    )  # fmt: skip
    return True


async def dead_letters(tx: Tx, channels: list[str] | None, limit: int) -> list[Row]:
    """Those not replayed, oldest first; `job` becomes a Job. With `channels`, of those only."""
    where = Where().add("replayed_at is null").add("channel = any({}::text[])", channels)
    where.values.append(limit)
    return [
        _letter(one)
        for one in await rows(
            tx, f"{_LETTER}{where.sql} order by at, job_id limit ${len(where.values)}", *where.values
        )
    ]


async def dead_letter(tx: Tx, job_id: UUID, *, lock: bool = False) -> Row | None:
    """One, also when it was replayed. `lock` holds it, so that two replays do not make two jobs."""
    found = await row(tx, f"{_LETTER} where job_id = $1{' for update' if lock else ''}", job_id)
    return _letter(found) if found else None


async def mark_replayed(tx: Tx, job_id: UUID) -> None:
    """It waits for nobody any more."""
    await link_of(tx).execute("update dead_letters set replayed_at = now() where job_id = $1", job_id)


async def other_letters(tx: Tx, event_id: UUID, job_id: UUID) -> int:
    """How many more dead letters of the event wait for a person."""
    sql = "select count(*) from dead_letters where replayed_at is null and job->>'event_id' = $1::text and job_id <> $2"
    return int(await link_of(tx).fetchval(sql, str(event_id), job_id))


def _letter(found: Row) -> Row:
    job: Job = jobs.from_document(found["job"])
    return {**found, "job": job}
