"""The loops of a worker, over ports only: the simulator drives these same coroutines.

Work waits in the store; the doorbell only shortens the wait, so a ring that is lost, late or repeated changes nothing
but the delay.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from router.delivery import Delivery
from router.domain.channel import Channel
from router.domain.errors import Conflict, Unavailable
from router.domain.ports import Pins, Store, Tx
from router.ingest import Ingest, Sweep

POLL_SECONDS = 0.5
"""The longest a lost ring can delay what waits."""
IDLE_EVERY_SECONDS = 60.0
IDLE_BATCH = 100
SWEEP_POLLS = 10
"""So many polls apart a process asks whether the sweep is due."""


class Doorbell(Protocol):
    """LISTEN/NOTIFY in production. Topics: `split`, `work`, `flags`."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return when a topic that begins so rang since the last wait (True), or after `seconds`."""
        ...


class Worker:
    """What a worker process does, one method a loop; each runs until it is cancelled."""

    def __init__(
        self, *, store: Store, ingest: Ingest, delivery: Delivery, pins: Pins, bell: Doorbell,
        channels: Mapping[str, Channel], sweeper: Sweep | None = None, owner: UUID | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._store = store
        self._ingest = ingest
        self.delivery = delivery
        self._pins = pins
        self._bell = bell
        self._channels = channels
        self._sweeper = sweeper
        self._owner = owner
        self._poll_seconds = poll_seconds

    async def split(self) -> None:
        """Split events as they come, channel after channel; several of these loops share the channels out."""
        while True:
            try:
                done = [await self._ingest.split(slug) for slug in await self._store.waiting_channels()]
            except (Unavailable, Conflict):
                done = []
            if not any(done):
                await self._bell.wait("split", self._poll_seconds)

    async def work(self) -> None:
        """Carry out lane jobs one after the other."""
        while True:
            try:
                done = await self.delivery.step()
            except (Unavailable, Conflict):
                done = False  # the lease runs out, the job is claimed again
            if not done:
                await self._bell.wait("work", self._poll_seconds)

    async def sweep(self) -> None:
        """Read Rocket.Chat's history beside its webhook, when it is this process' turn."""
        while self._sweeper is not None and self._owner is not None:
            with suppress(Unavailable, Conflict):
                await self._sweeper.turn(self._owner)
            await self._bell.wait("sweep", self._poll_seconds * SWEEP_POLLS)

    async def close_idle(self) -> None:
        """Close conversations in which nothing was said for the channel's idle hours."""
        while True:
            for slug in self._channels:
                with suppress(Unavailable, Conflict):
                    await self.close_idle_once(slug)
            await self._bell.wait("idle", IDLE_EVERY_SECONDS)

    async def close_idle_once(self, slug: str) -> int:
        """One sweep; returns how many were closed. Each in its own transaction, so that none waits for the others."""
        idle = timedelta(hours=self._channels[slug].idle_hours)

        async def find(tx: Tx) -> list[UUID]:
            return list(await tx.idle_conversations(slug, await tx.now() - idle, IDLE_BATCH))

        found = await self._store.transact(find)
        for conversation_id in found:
            await self._store.transact(partial(self._close, conversation_id=conversation_id, idle=idle))
        return len(found)

    async def _close(self, tx: Tx, conversation_id: UUID, idle: timedelta) -> None:
        conversation = await tx.conversation(conversation_id)
        if conversation is not None and conversation.open and conversation.last_at < await tx.now() - idle:
            await self._pins.close(tx, conversation, "idle")
