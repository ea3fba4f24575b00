"""The floor of ordered work: a bare conversation lease in PostgreSQL, nothing carried out but one row per job.

A conversation is leased with a fence, up to twenty of its jobs at a time; what is enqueued rings a bell, and there is a
poll besides. `python -m benchmarks.lease DSN` is its worker.
"""

import asyncio
import contextlib
import sys

import asyncpg
import uvloop

SCHEMA = """
create table convq (key text primary key, seq bigint not null, ready boolean not null, ready_at timestamptz not null,
    lease_until timestamptz, fence bigint not null default 0);
create index convq_ready on convq (ready_at) where ready;
create table jobq (key text, seq bigint, payload bytea not null, primary key (key, seq));
create table effects (key text, seq bigint, enqueued_by bigint not null, primary key (key, seq))
"""
ENQUEUE = """
with turn as (
    insert into convq (key, seq, ready, ready_at) values ($1, 1, true, now())
    on conflict (key) do update set seq = convq.seq + 1, ready = true returning seq
), job as (
    insert into jobq (key, seq, payload) select $1, seq, $2 from turn returning 1
) select pg_notify('bell', '') from job
"""
_CLAIM = """
with due as (
    select key from convq where ready and (lease_until is null or lease_until < now())
    order by ready_at limit 8 for update skip locked
), leased as (
    update convq set lease_until = now() + interval '5 s', fence = fence + 1
    from due where convq.key = due.key returning convq.key, convq.fence
)
select leased.key, leased.fence, job.seq, job.enqueued_by from leased cross join lateral (
    select seq, xmin::text::bigint as enqueued_by from jobq where jobq.key = leased.key order by seq limit 20
) job order by leased.key, job.seq
"""
_EFFECT = "insert into effects (key, seq, enqueued_by) values ($1, $2, $3)"
_ACK = """
with gone as (delete from jobq where key = $1 and seq <= $2)
update convq set lease_until = null, ready = seq > $2, ready_at = now() where key = $1 and fence = $3
"""
_POLL_SECONDS = 0.25


async def _work(dsn: str) -> None:
    bell = asyncio.Event()
    listener = await asyncpg.connect(dsn)
    await listener.add_listener("bell", lambda *_: bell.set())
    link = await asyncpg.connect(dsn)
    while True:
        bell.clear()
        rows = await link.fetch(_CLAIM)
        done: dict[str, tuple[int, int]] = {}
        for row in rows:
            await link.execute(_EFFECT, row["key"], row["seq"], row["enqueued_by"])
            done[row["key"]] = (row["seq"], row["fence"])
        for key, (upto, fence) in done.items():
            await link.execute(_ACK, key, upto, fence)
        if not rows:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), _POLL_SECONDS)


if __name__ == "__main__":
    uvloop.run(_work(sys.argv[1]))
