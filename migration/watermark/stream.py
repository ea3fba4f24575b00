"""Reading the change stream beside the event loop, a batch at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import bson

from migration.watermark.ports import Event, Stream

BATCH_EVENTS: Final = 1_000
BATCH_SECONDS: Final = 1.0
_TIMESTAMP: Final = 0x82
_TIMED: Final = 9

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where the stream is taken in; `at`: cluster time."""

    run_id: UUID
    token: bytes
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Goal:
    """What the source had done when it was asked: its place and time, and our time."""

    token: bytes
    at: datetime
    asked: datetime


@dataclass(frozen=True, slots=True)
class Gathered:
    """`token`: the place after the events; None: not known yet."""

    events: Sequence[Event]
    token: bytes | None

    def reaches(self, goal: Goal) -> bool:
        """Whether the source had not done more when the goal was set. A server whose tokens cannot be compared has told all
        it knows when it tells nothing."""
        here, there = (None if token is None else position(token) for token in (self.token, goal.token))
        return not self.events if here is None or there is None else here >= there


@dataclass(slots=True)
class Trouble:
    """The source or the database is away. By the monotonic clock."""

    since: float
    tries: int = 0
    said: float = float("-inf")


def gather(stream: Stream, monotonic: Callable[[], float]) -> Gathered:
    """What happens within BATCH_SECONDS, at most about BATCH_EVENTS."""
    events: list[Event] = []
    end = monotonic() + BATCH_SECONDS
    while len(events) < BATCH_EVENTS and (left := end - monotonic()) > 0:
        found = stream.next(left)
        if not found:
            break
        events += found
    return Gathered(events, stream.token())


def position(token: bytes) -> tuple[int, int] | None:
    """Cluster time, in seconds and a count within the second, that a resume token of MongoDB's begins with (a keystring:
    type byte, then the timestamp). None: it is another server's."""
    data = bson.decode(token).get("_data")
    try:
        key = bytes.fromhex(data) if isinstance(data, str) else b""
    except ValueError:
        return None
    if len(key) < _TIMED or key[0] != _TIMESTAMP or int.from_bytes(key[:4], "little") == len(key):
        return None
    return int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big")


async def aside(call: Callable[..., _T], *args: Any) -> _T:
    """In a thread. Cancelled, it waits for the call to end: nobody closes a stream that is being read."""
    task = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
