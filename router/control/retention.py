"""What is kept how long. One process at a time drops what is older, every hour, a batch a transaction."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from router import logs
from router.control.desk import Desk
from router.domain.ports import Duty, Tx
from router.storage.queries import retention as rows

DUTY: Final = "retention"
EVERY: Final = timedelta(hours=1)
LEASE: Final = timedelta(minutes=5)
"""Renewed by every batch: a process that stops in the middle is followed by another."""
BATCH: Final = 5_000
"""Rows of a statement."""
BATCHES: Final = 100
"""Statements for each table in one sweep; the rest is for the next hour."""
BODIES: Final = "bodies"
BODIES_KEPT: Final = timedelta(days=30)
"""Received bytes and headers of events, beyond any repeat by a provider (8 days). Their digests stay, so a late repeat is
a duplicate all the same; what is still waited for keeps its bytes."""
KEPT: Final[Mapping[str, timedelta]] = {
    "idempotency": timedelta(hours=48),  # since it was answered: what the API promises
    "media": timedelta(
        days=7
    ),  # since it was uploaded, never having been sent; its bytes stay in the file store
    "media_uploads": timedelta(days=30),  # since the receiving side forgot the file
    "paces": timedelta(hours=1),  # since it held anybody back
    "outcomes": timedelta(days=90),
    "billables": timedelta(days=90),
    "console_sessions": timedelta(days=7),  # since they ended
}
"""Table → how long its rows stay."""

_log = logging.getLogger(__name__)


class _NotMineError(Exception):
    """The lease ran out and another process goes on."""


async def sweep_once(desk: Desk, owner: UUID) -> dict[str, int] | None:
    """Drop what is old enough: {what: rows}, `bodies` among them. None: another process does, or did within the hour.

    To be called every minute or so by each worker. Raises StoreError, Unavailable; what was dropped until then is.
    """

    async def begin(tx: Tx) -> tuple[Duty | None, datetime]:
        return await tx.take_duty(DUTY, owner, LEASE), await tx.now()

    duty, now = await desk.store.transact(begin)
    if duty is None:
        return None
    dropped: dict[str, int] = {}
    try:
        for table, kept in KEPT.items():
            dropped[table] = await _drop(desk, owner, table, now - kept)
        before = now - BODIES_KEPT
        dropped[BODIES] = await _drop_bodies(desk, owner, duty.mark, before)
    except _NotMineError:
        _tell(desk, dropped)
        return dropped

    async def end(tx: Tx) -> None:
        # From here on the next time: events that were emptied long ago are not looked at again.
        left = await rows.oldest_body(tx, duty.mark, before)
        await tx.end_duty(DUTY, owner, left or before, EVERY)

    await desk.store.transact(end)
    _tell(desk, dropped)
    return dropped


async def _drop(desk: Desk, owner: UUID, table: str, before: datetime) -> int:
    async def work(tx: Tx) -> int:
        await _renew(tx, owner)
        return await rows.drop(tx, table, before, BATCH)

    total = 0
    for _ in range(BATCHES):
        count = await desk.store.transact(work)
        total += count
        if count < BATCH:
            break
    return total


async def _drop_bodies(desk: Desk, owner: UUID, since: datetime | None, before: datetime) -> int:
    async def work(tx: Tx) -> tuple[int, datetime | None]:
        await _renew(tx, owner)
        return await rows.drop_bodies(tx, since, before, BATCH)

    total = 0
    for _ in range(BATCHES):
        count, since = await desk.store.transact(work)
        total += count
        if count < BATCH:
            break
    return total


async def _renew(tx: Tx, owner: UUID) -> None:
    if await tx.take_duty(DUTY, owner, LEASE) is None:
        raise _NotMineError


def _tell(desk: Desk, dropped: Mapping[str, int]) -> None:
    desk.meter.record([("dropped_total", count, (what,)) for what, count in dropped.items()])
    for what, count in dropped.items():
        if count:
            logs.event(_log, "retention.done", table=what, rows=count)
