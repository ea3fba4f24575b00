"""Does the provider still post to us? Somebody may save Rocket.Chat's app, or the provider's console, at any time."""

import logging
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from router import logs, metrics
from router.control.callbacks.look import Row, drift_of, place_of, read
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.ports import Tx
from router.storage.queries import callbacks as rows

EVERY: Final = timedelta(minutes=5)
DUTY: Final = "callback_drift"

_log = logging.getLogger(__name__)


async def check_drift(desk: Desk) -> list[dict[str, Any]]:
    """Ask the provider of every channel we cut in: [{channel, drift, error}], kept in its row.

    `drift` null, level_moved or overridden; with an `error` (a code: the provider did not tell) it is the last known.
    """
    kept = await desk.store.transact(rows.active)
    return [await _check(desk, row) for row in kept]


async def _check(desk: Desk, kept: Row) -> dict[str, Any]:
    slug = kept["channel"]
    try:
        seen = await read(place_of(desk, slug))
    except Rejected as error:
        logs.event(_log, "callback.unchecked", level=logging.WARNING, channel=slug, code=error.code)
        return {"channel": slug, "drift": kept["drift"], "error": error.code}
    drift = drift_of(desk, kept, seen)
    await desk.store.transact(lambda tx: rows.checked(tx, slug, drift))
    if drift != kept["drift"]:
        name, level = ("callback.drifted", logging.WARNING) if drift else ("callback.returned", logging.INFO)
        logs.event(_log, name, level=level, channel=slug, code=drift)
    return {"channel": slug, "drift": drift, "error": None}


async def drift_loop_once(desk: Desk, owner: UUID) -> bool:
    """To be called every minute or so by each worker: one of them checks every five minutes (True), all show it."""

    async def take(tx: Tx) -> bool:
        return await tx.take_duty(DUTY, owner, EVERY) is not None

    async def end(tx: Tx) -> None:
        await tx.end_duty(DUTY, owner, await tx.now(), EVERY)

    mine = await desk.store.transact(take)
    if mine:
        await check_drift(desk)
        await desk.store.transact(end)
    await measure(desk)
    return mine


async def measure(desk: Desk) -> None:
    """Set figueira_callback_drift of every channel whose callbacks can be seen."""
    drifts = {row["channel"]: row["drift"] for row in await desk.store.transact(rows.active)}
    for slug, channel in desk.channels.items():
        if channel.kind in desk.callbacks:
            metrics.callback_drift.labels(slug).set(1 if drifts.get(slug) else 0)
