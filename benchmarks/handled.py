"""From accepted to handled on the native path, at 50 messages a second, against the bare conversation lease.

Both times are commits, by PostgreSQL's own clock (pg_xact_commit_timestamp): ours from the event's row to its message's,
the lease's from the job's row to its effect's. Web (or producer) and worker are processes of their own in both arms.
`python -m benchmarks.handled`
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack

import aiohttp
import asyncpg

from benchmarks import lease
from benchmarks.bodies import signed
from benchmarks.rounds import Report, alternate, command, medians, paired, percentile
from benchmarks.servers import SLUG, Ground, execute, free_port, ground

PER_SECOND = 50
PEOPLE = 100
AT_MOST = 3.0
PATIENCE_SECONDS = 20.0

_OURS = """
select extract(epoch from
    pg_xact_commit_timestamp(m.xmin) - pg_xact_commit_timestamp(d.xmin))::float8 * 1000 as ms
from messages m join events e on e.id = m.event_id join event_digests d on d.channel = e.channel and d.digest = e.digest
where m.external_id like $1 and m.path = 'native' and m.handled_at is not null
"""
_LEASE = """
select extract(epoch from
    pg_xact_commit_timestamp(xmin) - pg_xact_commit_timestamp(enqueued_by::text::xid))::float8 * 1000 as ms
from effects where key like $1
"""


async def _paced(count: int, act: Callable[[int], Awaitable[None]]) -> None:
    """Start `act` PER_SECOND times a second, whatever it takes; wait for all."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(began + number / PER_SECOND - time.perf_counter(), 0))
            group.create_task(_run(act, number))


async def _run(act: Callable[[int], Awaitable[None]], number: int) -> None:
    await act(number)


async def _spans(dsn: str, query: str, like: str, count: int) -> dict[str, float]:
    """Wait until all are handled; milliseconds."""
    link = await asyncpg.connect(dsn)
    try:
        until = time.perf_counter() + PATIENCE_SECONDS
        while True:
            spans = sorted(row["ms"] for row in await link.fetch(query, like))
            if len(spans) >= count:
                break
            assert time.perf_counter() < until, f"{len(spans)} of {count} handled"
            await asyncio.sleep(0.2)
    finally:
        await link.close()
    assert len(spans) == count, f"{len(spans)} handled of {count} accepted"
    return {"p50_ms": percentile(spans, 0.5), "p99_ms": percentile(spans, 0.99)}


async def _ours(port: int, dsn: str, count: int, number: int) -> dict[str, float]:
    async with aiohttp.ClientSession() as session:

        async def post(turn: int) -> None:
            body, signature = signed(f"55119{turn % PEOPLE:08d}", f"wamid.{number:04d}.{turn:08d}")
            headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
            url = f"http://127.0.0.1:{port}/webhooks/{SLUG}"
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200, answer.status

        await _paced(count, post)
    return await _spans(dsn, _OURS, f"wamid.{number:04d}.%", count)


async def _bare(dsn: str, count: int, number: int) -> dict[str, float]:
    async with asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:

        async def enqueue(turn: int) -> None:
            body, _ = signed(f"55119{turn % PEOPLE:08d}", f"wamid.{number:04d}.{turn:08d}")
            await pool.execute(lease.ENQUEUE, f"{number:04d}.{turn % PEOPLE}", body)

        await _paced(count, enqueue)
    return await _spans(dsn, _LEASE, f"{number:04d}.%", count)


def _arms(place: Ground, stack: ExitStack, count: int) -> dict[str, Callable[[int], Mapping[str, float]]]:
    bare = place.database("lease")
    asyncio.run(execute(bare, lease.SCHEMA))
    port = free_port()
    stack.enter_context(place.process("benchmarks.lease", bare))
    stack.enter_context(place.process("router.cli", "serve", "--role", "worker"))
    web = stack.enter_context(place.process("router.cli", "serve", "--role", "web", "--port", str(port)))
    place.figueira("flags", "set", SLUG, "native", "--reason", "benchmark", "--wait")
    place.wait(web, port)

    def ours(number: int) -> Mapping[str, float]:
        return asyncio.run(_ours(port, place.dsn, count, number))

    return {"ours": ours, "lease": lambda number: asyncio.run(_bare(bare, count, number))}


def run(rounds: int, seconds: float) -> Report:
    """Milliseconds from accepted to handled, natively, against the bare conversation lease."""
    before = os.getloadavg()[0]
    with ground(commit_times=True) as place, ExitStack() as stack:
        found = alternate(_arms(place, stack, int(PER_SECOND * seconds)), rounds)
    ratios = [paired(found, figure, "ours", "lease", at_most=AT_MOST) for figure in ("p50_ms", "p99_ms")]
    return Report("handled", rounds, seconds, medians(found), ratios, (before, os.getloadavg()[0]))


if __name__ == "__main__":
    raise SystemExit(command(run, rounds=6, seconds=3.0))
