"""Lanes: ordered work with leases.

A job has one entry (lane, seq) in each of its lanes; `blocked` counts the lanes in which another stands before it, so
that claiming is one look at an index of runnable heads. Everything that changes a lane holds that lane's lock to the end
of its transaction: a job appended takes its seq under the locks, so seq order in a lane is commit order. The locks are
advisory ones of the lane's 64-bit hash: nothing is written for them and nothing is left behind; two lanes of one hash
would only wait for each other. Lock order: jobs by seq, then lanes by hash.

A finished job's row is deleted: what happened is told by its event, message, attempts and dead letter, and the table
stays as small as the work that waits.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from router.domain.errors import LeaseLost
from router.domain.job import Job, JobState, closing_lane, inbound_lane, outbound_lane
from router.storage.postgres import jobs
from router.storage.postgres.base import WORK, Base, placeholders

if TYPE_CHECKING:
    from asyncpg import Record

_LANE_LOCKS = 0x4C414E45  # "LANE": seed of the hash, so that it meets no other advisory lock
_SELECT = f"select {', '.join(jobs.COLUMNS)}, seq from jobs"

_LOCK_LANES = f"""
select pg_advisory_xact_lock(key) from (
    select distinct hashtextextended(lane, {_LANE_LOCKS}) as key from unnest($1::text[]) lane order by 1
) keys
"""
_ADD = f"""
with job as (
    insert into jobs ({", ".join(jobs.COLUMNS)}, blocked) values (
        {placeholders(jobs.COLUMNS)},
        (select count(distinct lane) from lane_jobs where lane = any($5::text[]))
    ) returning id, seq, tenant_id, blocked
), entry as (
    insert into lane_jobs (lane, seq, tenant_id, job_id)
    select distinct lane, job.seq, job.tenant_id, job.id from job, unnest($5::text[]) lane
)
select seq, blocked from job
"""

_HEAD = "blocked = 0 and state in ('ready', 'unknown')"
_LAPSED = "state = 'running' and lease_until < now()"
_SHUT = "exists (select from breakers b where b.gate = {gate} and b.open_until > now())"
_AT_ONCE = 64
"""Candidates looked at per gate: more than the claims that are ever under way at the same moment."""

# Gates are few: walk their names through the index and look only behind the open ones, so that ten thousand jobs held
# by a shut gate cost nothing. Then try to lock one candidate after the other: only the one that is claimed gets locked.
_CLAIM = f"""
with recursive gates (gate) as (
    (select gate from jobs where {_HEAD} order by gate limit 1)
    union all
    select (select j.gate from jobs j where {_HEAD} and j.gate > g.gate order by j.gate limit 1)
    from gates g where g.gate is not null
), candidates as (
    select head.id, head.seq from gates g cross join lateral (
        select id, seq from jobs where {_HEAD} and gate = g.gate and due_at <= now() order by seq limit {_AT_ONCE}
    ) head
    where g.gate is not null and not {_SHUT.format(gate="g.gate")}
    union all
    select j.id, j.seq from jobs j where {_LAPSED} and not {_SHUT.format(gate="j.gate")}
), picked as (
    select free.id, free.was from (select id from candidates order by seq) c cross join lateral (
        select j.id, j.state as was from jobs j
        where j.id = c.id and (({_HEAD} and due_at <= now()) or ({_LAPSED})) for update skip locked
    ) free limit 1
)
update jobs j set state = 'running', attempts = j.attempts + 1, fence = j.fence + 1, lease_until = now() + $1
from picked where j.id = picked.id
returning {", ".join(f"j.{name}" for name in jobs.COLUMNS)}, j.seq, picked.was
"""

# Who may move up is locked before the lanes are: whoever holds a later job of a lane then never waits for its lock
# while we wait for that job.
_LOCK_HEIRS = """
select held.id from (
    select distinct n.seq, n.job_id from lane_jobs e cross join lateral (
        select n.seq, n.job_id from lane_jobs n where n.lane = e.lane and n.seq > e.seq order by n.seq limit 1
    ) n where e.lane = any($1::text[]) and e.seq = $2 order by n.seq
) heir cross join lateral (select j.id from jobs j where j.id = heir.job_id for update) held
"""
_LEAVE = """
with gone as (
    delete from lane_jobs where lane = any($1::text[]) and seq = $2 returning lane, seq
), heirs as (
    select (select n.job_id from lane_jobs n where n.lane = g.lane and n.seq > g.seq order by n.seq limit 1) as id
    from gone g
    where not exists (select from lane_jobs p where p.lane = g.lane and p.seq < g.seq)
), freed as (
    select id, count(*) as lanes from heirs where id is not null group by id
)
update jobs j set blocked = j.blocked - freed.lanes from freed where j.id = freed.id returning j.blocked
"""
_BLOCKED = """
(select count(*) from unnest($5::text[]) lane
 where exists (select from lane_jobs p where p.lane = lane.lane and p.seq < jobs.seq))
"""
_SAVE = (
    "update jobs set "
    + ", ".join(f"{name} = ${place}" for place, name in enumerate(jobs.COLUMNS[1:], 2))
    + f", blocked = {_BLOCKED} where id = $1"
    + " returning blocked = 0 and state <> 'running' and due_at <= now() as runnable"
)


class Lanes(Base):
    """The lane part of Tx."""

    async def add_job(self, job: Job) -> Job:
        await self._link.execute(_LOCK_LANES, list(job.lanes))
        row = await self._link.fetchrow(_ADD, *jobs.values(job))
        assert row is not None  # noqa: S101 - for the type checker: an INSERT … RETURNING of one row
        if not row["blocked"]:
            self.bells.add(WORK)
        return replace(job, seq=row["seq"])

    async def claim(self, lease_seconds: float) -> Job | None:
        row = await self._link.fetchrow(_CLAIM, timedelta(seconds=lease_seconds))
        return replace(jobs.from_row(dict(row)), state=JobState(row["was"])) if row else None

    async def fenced(self, job: Job) -> Job:
        row = await self._link.fetchrow(f"{_SELECT} where id = $1 for update", job.id)
        if row is None or row["fence"] != job.fence:
            raise LeaseLost
        return jobs.from_row(dict(row))

    async def save_job(self, job: Job) -> None:
        stored = await self._own(job)
        if not set(job.lanes) <= set(stored["lanes"]):
            raise ValueError("a job enters its lanes when it is added")
        left = set(stored["lanes"]) - set(job.lanes)
        if left:
            await self._leave(left, stored["seq"])
        if await self._link.fetchval(_SAVE, *jobs.values(job)):
            self.bells.add(WORK)

    async def finish_job(self, job: Job, state: JobState) -> None:
        if state not in {JobState.DONE, JobState.DEAD}:
            raise ValueError(f"a job does not end as {state}")
        stored = await self._own(job)
        await self._leave(stored["lanes"], stored["seq"])
        await self._link.execute("delete from jobs where id = $1", job.id)

    async def _own(self, job: Job) -> "Record":
        """Lock the job's row; a writer with an older fence is refused."""
        row = await self._link.fetchrow("select lanes, seq, fence from jobs where id = $1 for update", job.id)
        if row is None or row["fence"] > job.fence:
            raise LeaseLost
        return row

    async def _leave(self, lanes: Collection[str], seq: int) -> None:
        names = list(lanes)
        await self._link.execute(_LOCK_HEIRS, names, seq)
        await self._link.execute(_LOCK_LANES, names)
        # A statement after the locks: it sees what others appended before we got them.
        moved = await self._link.fetch(_LEAVE, names, seq)
        if any(row["blocked"] == 0 for row in moved):
            self.bells.add(WORK)

    async def job_of_message(self, message_id: UUID) -> Job | None:
        row = await self._link.fetchrow(
            f"{_SELECT} where message_id = $1 and kind = 'send' order by seq limit 1 for update", message_id
        )
        return jobs.from_row(dict(row)) if row else None

    async def jobs_of_conversation(self, conversation_id: UUID) -> Sequence[Job]:
        rows = await self._link.fetch(
            f"{_SELECT} where id in (select job_id from lane_jobs where lane = any($1::text[])) order by seq",
            [lane(conversation_id) for lane in (inbound_lane, outbound_lane, closing_lane)],
        )  # fmt: skip
        return [jobs.from_row(dict(row)) for row in rows]

    async def open_jobs(self, event_id: UUID) -> int:
        return int(await self._link.fetchval("select count(*) from jobs where event_id = $1", event_id))

    async def room_jobs(self, room_id: str) -> int:
        sql = "select count(*) from jobs where room_id = $1 and kind = 'place'"
        return int(await self._link.fetchval(sql, room_id))
