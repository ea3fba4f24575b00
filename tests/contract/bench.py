"""A store of any sort on the bench of the contract suite."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from router.domain.job import Job
from router.domain.ports import Store


class HandClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Bench:
    """A store, its time, and single calls in transactions of their own: `await bench.add_job(job)`."""

    def __init__(self, store: Store, clock: HandClock | None) -> None:
        self.store = store
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        if self._clock:
            self._clock.at += timedelta(seconds=seconds)
        else:
            await asyncio.sleep(seconds)

    def __getattr__(self, call: str) -> Any:
        def once(*values: Any, **named: Any) -> Any:
            return self.store.transact(lambda tx: getattr(tx, call)(*values, **named))

        return once

    async def claims(self, limit: int = 99) -> list[Job]:
        """Everything that can be claimed at this moment."""
        found: list[Job] = []
        while len(found) < limit and (one := await self.claim(60)):
            found.append(one)
        return found
