"""The sweep: Rocket.Chat's webhook is lossy, so its own history is read beside it.

Each room that was active since the last sweep is read again a little further back; what is missing is added by the same
rules as a webhook's event, what is known changes nothing. Only one process sweeps at a time; a room that cannot be read
stops none of its neighbours.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from router.domain.errors import Conflict, StoreError
from router.domain.job import Outcome, Result
from router.domain.policy import Policy
from router.domain.ports import Fact, Meter, RocketChat, RoomInfo, RoomMessage, Store
from router.ingest.rooms import Rooms

T = TypeVar("T", bound=tuple[Any, ...])
DUTY = "sweep"
LEASE = timedelta(seconds=600)
"""Renewed room by room; longer than all the waits for Rocket.Chat's rate limit that are sat out for one."""
LONGEST_WAIT = 90.0
TRIES = 5
PAGES = 4000
AT_ONCE = 50
"""Messages of one transaction: the room's conversation is locked meanwhile, and its patient's events wait."""
FAILED_IN_A_ROW = 3
"""Rooms that cannot be read one after the other: then it is Rocket.Chat, not a room."""
PASSES = 5


class Pause(Protocol):
    """Waiting, as the doorbell does it."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return after `seconds` at the latest."""
        ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found. `unplaced` rooms have a source without a channel, `unread` ones could not be read (`reason`: the
    last one's code); `ended` False: Rocket.Chat stopped answering before the last room."""

    rooms: int = 0
    messages: int = 0
    added: int = 0
    unplaced: int = 0
    unread: int = 0
    ended: bool = True
    reason: str | None = None

    @property
    def complete(self) -> bool:
        """Every room was read."""
        return self.ended and not self.unread


class Sweep:
    """Compares Rocket.Chat's history with ours."""

    def __init__(
        self, *, store: Store, rooms: Rooms, rocketchat: RocketChat, meter: Meter, policy: Policy, pause: Pause
    ) -> None:  # fmt: skip
        self._store = store
        self._rooms = rooms
        self._rocketchat = rocketchat
        self._meter = meter
        self._policy = policy
        self._pause = pause

    async def turn(self, owner: UUID) -> Swept | None:
        """The periodic sweep, since the mark of the last one; None: another process has it, or it is not time yet."""
        duty = await self._store.transact(lambda tx: tx.take_duty(DUTY, owner, LEASE))
        if duty is None:
            return None
        began = await self._store.transact(lambda tx: tx.now())
        overlap = timedelta(seconds=self._policy.sweep_overlap_seconds)
        rest = timedelta(seconds=self._policy.sweep_seconds)
        try:
            found = await self.run((duty.mark or began) - overlap, owner)
        except Exception:
            await self._store.transact(lambda tx: tx.end_duty(DUTY, owner, None, rest))
            raise
        mark = began if found.ended else None
        await self._store.transact(lambda tx: tx.end_duty(DUTY, owner, mark, rest))
        return found

    async def run(self, since: datetime | None, owner: UUID | None = None) -> Swept:
        """One sweep over the rooms active after `since` (None: all open rooms from their beginning)."""
        failed = 0

        async def read(info: RoomInfo, found: Swept) -> Swept:
            nonlocal failed
            if since is not None and info.active_at is not None and info.active_at < since:
                return found
            if owner is not None:
                await self._store.transact(lambda tx: tx.take_duty(DUTY, owner, LEASE))
            unread = found.unread
            found = await self._room(info, since, found)
            failed = failed + 1 if found.unread > unread else 0
            return replace(found, ended=failed < FAILED_IN_A_ROW)

        return await self._each(since, read)

    async def learn(self, *, write: bool = True) -> Swept:
        """Rocket.Chat's open rooms, learned and pinned before its callback moves; `added` is how many are known now.
        `write` False only counts them. A listing shifts while rooms are closed, so it is read until nothing new comes."""
        seen: set[str] = set()
        found = Swept()

        async def take(info: RoomInfo, found: Swept) -> Swept:
            if info.room_id in seen:
                return found
            seen.add(info.room_id)
            if not write:
                return replace(found, rooms=found.rooms + 1)
            conversation = await self._store.transact(lambda tx: self._rooms.learn(tx, info))
            known = conversation is not None
            return replace(
                found, rooms=found.rooms + 1, added=found.added + known, unplaced=found.unplaced + (not known)
            )

        for _ in range(PASSES):
            before = len(seen)
            found = await self._each(None, take, found)
            if not found.ended or len(seen) == before:
                break
        return found

    async def _each(
        self,
        since: datetime | None,
        act: Callable[[RoomInfo, Swept], Awaitable[Swept]],
        found: Swept | None = None,
    ) -> Swept:
        """`act` on each room of the listing, page by page, until Rocket.Chat stops answering."""
        found, offset = found or Swept(), 0
        for _ in range(PAGES):
            result, page, following = await self._patiently(partial(self._rocketchat.rooms, since, offset))
            if result.outcome is not Outcome.OK:
                return replace(found, ended=False, reason=result.code)
            for info in page:
                found = await act(info, found)
                if not found.ended:
                    return found
            if following is None:
                return found
            offset = following
        return replace(found, ended=False, reason="too_many_rooms")

    async def _room(self, info: RoomInfo, since: datetime | None, found: Swept) -> Swept:
        result, said = await self._patiently(partial(self._rocketchat.history, info, since))
        if result.outcome is Outcome.PERMANENT:
            return found  # removed since it was listed
        if result.outcome is not Outcome.OK:
            return replace(found, unread=found.unread + 1, reason=result.code)
        try:
            facts = await self._applied(info, said)
        except (StoreError, Conflict) as error:
            return replace(found, unread=found.unread + 1, reason=type(error).__name__)
        if facts is None:
            return replace(found, unplaced=found.unplaced + 1)
        added = sum(1 for fact in facts if fact[0] == "messages_total")
        self._meter.record(
            [*facts, ("swept_total", len(said), ("seen",)), ("swept_total", added, ("added",))]
        )
        return replace(
            found, rooms=found.rooms + 1, messages=found.messages + len(said), added=found.added + added
        )

    async def _applied(self, info: RoomInfo, said: Sequence[RoomMessage]) -> list[Fact] | None:
        """Some messages at a time; only with the last of them may the room have ended."""
        facts: list[Fact] = []
        for at in range(0, max(len(said), 1), AT_ONCE):
            last = at + AT_ONCE >= len(said)
            new = await self._some(info if last else replace(info, open=True), said[at : at + AT_ONCE])
            if new is None:
                return None
            facts += new
        return facts

    async def _some(self, info: RoomInfo, said: Sequence[RoomMessage]) -> list[Fact] | None:
        return await self._store.transact(lambda tx: self._rooms.swept(tx, info, said))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A read, again after what Rocket.Chat's rate limit asks for: sends go first, a sweep has time."""
        for tried in range(1, TRIES):
            answer = await call()
            result: Result = answer[0]
            wait = result.retry_after if result.retry_after is not None else float(2**tried)
            if result.outcome is not Outcome.RETRY or wait > LONGEST_WAIT:
                return answer
            await self._pause.wait("sweep", wait)
        return await call()
