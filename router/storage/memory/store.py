"""The store: serial transactions over the tables."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from router.domain.errors import Conflict
from router.domain.job import Event, EventState
from router.domain.ports import Clock, Tx
from router.storage.memory.base import Tables
from router.storage.memory.lanes import Lanes
from router.storage.memory.messages import Messages
from router.storage.memory.people import People

T = TypeVar("T")
AGAIN = 5
SPLIT_TRIES = 3


class MemoryTx(Messages, People, Lanes):
    """router.domain.ports.Tx on the tables."""


class MemoryStore:
    """`clock` is the store's own clock: leases and due times hang on it, never on a caller's."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tables = Tables()
        self._seq = 0

    def next_seq(self) -> int:
        """A sequence: never goes back, leaves gaps when a transaction is undone."""
        self._seq += 1
        return self._seq

    async def accept(self, event: Event) -> bool:
        """As Store.accept."""
        key = (event.channel, event.digest)
        if key in self.tables.digests:
            return False
        stored = replace(event, seq=self.next_seq())
        self.tables.digests[key] = event.id
        self.tables.events[event.id] = stored
        self.tables.unsplit[stored.seq] = event.id
        return True

    async def waiting_channels(self) -> Sequence[str]:
        """As Store.waiting_channels."""
        return sorted({self.tables.events[event_id].channel for event_id in self.tables.unsplit.values()})

    async def fail_split(self, event: Event, error: str) -> None:
        """As Store.fail_split."""
        stored = self.tables.events[event.id]
        stored = replace(stored, tries=stored.tries + 1)
        if stored.tries >= SPLIT_TRIES:
            stored = replace(stored, state=EventState.DEAD)
            self.tables.unsplit.pop(stored.seq, None)
        self.tables.events[event.id] = stored
        self.tables.reasons[event.id] = error

    async def transact(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:  # noqa: ARG002
        """As Store.transact; `tenant` is PostgreSQL's to enforce."""
        for left in reversed(range(AGAIN)):
            tx = MemoryTx(self.tables, self.next_seq, self.clock.now())
            try:
                return await work(tx)
            except Conflict:
                tx.undo()
                if not left:
                    raise
            except BaseException:
                tx.undo()
                raise
        raise Conflict
