"""Accept: concurrent callers share one commit. Nobody waits on a timer: what arrives while a flush is under way makes
the next batch. At most two flushes are in flight, so one parses while the other waits for the disk."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from router.domain.errors import Conflict, StoreError, Unavailable
from router.domain.job import Event
from router.storage.postgres.codec import to_json
from router.storage.postgres.failures import translate, translated

if TYPE_CHECKING:
    from router.storage.postgres.base import Link

IN_FLIGHT = 2
BATCH_EVENTS = 256
BATCH_BYTES = 8 << 20

# Sorted, so that two batches with the same bodies wait for each other in one order. A body repeated within the batch
# was taken out before. `ord` keeps the order of arrival in seq.
INSERT = """
with batch as (
    select * from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[], $6::text[], $7::bytea[], $8::bytea[],
        $9::text[], $10::bytea[]
    ) with ordinality
    as b (id, tenant_id, channel, received_at, digest, method, raw_path, query, headers, body, ord)
), fresh as (
    insert into event_digests (channel, digest, tenant_id, received_at)
    select channel, digest, tenant_id, received_at from batch order by channel, digest
    on conflict do nothing
    returning channel, digest
)
insert into events (id, tenant_id, channel, received_at, digest, method, raw_path, query, headers, body)
select id, tenant_id, channel, received_at, digest, method, raw_path, query, headers::json, body
from batch join fresh using (channel, digest) order by ord
returning id
"""

Answer = bool | Exception
Flush = Callable[[Sequence[Event]], Awaitable[Sequence[Answer]]]


def _columns(events: Sequence[Event]) -> tuple[list[object], ...]:
    headers = [
        to_json([[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]).decode()
        for event in events
    ]
    return (
        [event.id for event in events],
        [event.tenant for event in events],
        [event.channel for event in events],
        [event.received_at for event in events],
        [event.digest for event in events],
        [event.method for event in events],
        [event.raw_path for event in events],
        [event.query for event in events],
        list[object](headers),
        [event.body for event in events],
    )


async def store(link: "Link", events: Sequence[Event]) -> Sequence[Answer]:
    """One commit for all; when that fails, one each, so that a bad row cannot fail its neighbours.

    For each event: True stored, False known, or the error that is its own."""
    try:
        with translated():
            return await _insert(link, events)
    except (StoreError, Conflict) as error:
        if len(events) == 1:
            return [error]
        return [(await store(link, [event]))[0] for event in events]


async def _insert(link: "Link", events: Sequence[Event]) -> Sequence[Answer]:
    firsts: dict[tuple[str, bytes], Event] = {}
    for event in events:
        firsts.setdefault((event.channel, event.digest), event)
    rows = await link.fetch(INSERT, *_columns(list(firsts.values())))
    stored = {row["id"] for row in rows}
    return [event.id in stored for event in events]


# A NOTIFY is a commit of its own, which would wait for the disk before anybody is woken. It has nothing to keep.
_NOTIFY = """
select set_config('synchronous_commit', 'off', true), pg_notify('figueira', topic) from unnest($1::text[]) topic
"""


async def notify(link: "Link", topics: Sequence[str]) -> None:
    """Wake who waits for the topics."""
    await link.execute(_NOTIFY, topics)


class Ringer:
    """Rings the doorbell beside the work: nobody's answer waits for it, and what rings meanwhile goes together."""

    def __init__(self, ring: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        self._ring = ring
        self._topics: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def ring(self, topics: Iterable[str]) -> None:
        """Soon."""
        self._topics.update(topics)
        if self._topics and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Waits for the bells under way."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._topics:
            topics = sorted(self._topics)
            self._topics.clear()
            await self._ring(topics)


class GroupInsert:
    """Collects events while a flush is under way, and flushes them together."""

    def __init__(self, flush: Flush) -> None:
        self._flush = flush
        self._waiting: deque[tuple[Event, asyncio.Future[bool]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def add(self, event: Event) -> bool:
        """True stored, False known. A cancelled caller cancels nobody's flush; its event may still be stored, and
        then its repeat is a duplicate."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, answer))
        if len(self._running) < IN_FLIGHT:
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def close(self) -> None:
        """Waits for the flushes under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _batch(self) -> list[tuple[Event, asyncio.Future[bool]]]:
        batch: list[tuple[Event, asyncio.Future[bool]]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0].body)
        return batch

    async def _run(self) -> None:
        while batch := self._batch():
            try:
                answers = await self._flush([event for event, _ in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is every waiting caller's answer
                known = error if isinstance(error, Unavailable) else translate(error)
                answers = [known] * len(batch)
            except BaseException:
                for _, answer in batch:
                    answer.cancel()
                raise
            for (_, answer), found in zip(batch, answers, strict=True):
                _settle(answer, found)


def _settle(answer: "asyncio.Future[bool]", found: Answer) -> None:
    if answer.done():  # its caller went away
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
