"""The doorbell: LISTEN on one connection of its own. A bell may be lost (a reconnect, a full queue): whoever waits here
also looks by itself from time to time."""

import asyncio
import contextlib
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CHANNEL = "figueira"
_RETRY_SECONDS = 1.0


class Doorbell:
    """`async with Doorbell(dsn) as bell: await bell.wait("work", 0.5)`. Topics: `split:<slug>`, `work`, `flags`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._rung: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()
        """Set while connected."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait(self, topic: str, seconds: float) -> bool:
        """True when a bell that begins with `topic` rang, also since the last wait for it; False after `seconds`.

        One bell wakes one of those who wait for a topic: the others would only look where that one is at work."""
        event = self._rung[topic]
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
                while not event.is_set():  # another was woken first and took it
                    await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    def ring(self, payload: str) -> None:
        """Wake whoever waits for it in this process."""
        for topic, event in self._rung.items():
            if payload.startswith(topic):
                event.set()

    def _heard(self, _link: Any, _pid: int, _channel: str, payload: object) -> None:
        self.ring(str(payload))

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                link = await asyncpg.connect(self._dsn, timeout=5)
                try:
                    await self._hold(link)
                finally:
                    self.listening.clear()
                    link.terminate()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _hold(self, link: "Connection") -> None:
        """Until the connection ends."""
        ended = asyncio.Event()
        link.add_termination_listener(lambda _link: ended.set())
        await link.add_listener(CHANNEL, self._heard)
        self.listening.set()
        for event in self._rung.values():  # bells may have rung while nobody listened
            event.set()
        await ended.wait()
