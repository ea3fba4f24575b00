"""Events, lane jobs, attempts: what waits to be done, and what was tried."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from flags.stage import Path
from router.domain.media import Media, Origin


class EventState(StrEnum):
    """Where an event stands in the ledger: events = handled + waiting + dead + ignored."""

    WAITING = "waiting"  # not split yet, or its forward has not been answered
    HANDLED = "handled"
    DEAD = "dead"
    IGNORED = "ignored"  # nothing in it for anybody: stored and counted


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook as received. `headers` are the received pairs in order, names as received; `raw_path` is what
    followed the channel's slug, undecoded; `query` without the "?"."""

    id: UUID
    tenant: str
    channel: str
    received_at: datetime
    digest: bytes
    method: str
    raw_path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    seq: int = 0
    state: EventState = EventState.WAITING
    tries: int = 0  # how often splitting it failed


class JobKind(StrEnum):
    """What a lane job does."""

    FORWARD = "forward"  # give an event, whole or in part, to Rocket.Chat
    SEND = "send"  # one outbound message, on the path of its pin
    CLOSE_ROOM = "close_room"
    PLACE = "place"  # learn a room's channel, then apply Rocket.Chat's event
    FETCH = "fetch"  # a file into the file store, before the other side forgets it
    MARK = "mark"  # tell the provider that a message was read
    TYPING = "typing"  # the same, and that somebody is writing


class JobState(StrEnum):
    """READY waits for its turn and its time; RUNNING is leased; UNKNOWN waits for evidence."""

    READY = "ready"
    RUNNING = "running"
    UNKNOWN = "unknown"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Share:
    """A part of an event that a forward carries, and the conversation it belongs to, if any."""

    ref: str
    conversation_id: UUID | None = None
    message_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of ordered work. It stands in each of `lanes` and starts when it heads them all.

    `gate` names the breaker it stands behind. `fence` grows with every claim: a writer with an older one is
    refused. `shares` is what a FORWARD carries; `whole` means the received bytes may go as they are.
    """

    id: UUID
    tenant: str
    channel: str
    kind: JobKind
    lanes: tuple[str, ...]
    gate: str
    created_at: datetime
    due_at: datetime
    event_id: UUID | None = None
    event_at: datetime | None = None
    message_id: UUID | None = None
    conversation_id: UUID | None = None
    room_id: str | None = None
    path: Path | None = None
    pin_version: int = 0
    shares: tuple[Share, ...] = ()
    whole: bool = False
    state: JobState = JobState.READY
    attempts: int = 0
    fence: int = 0
    lease_until: datetime | None = None
    uncertain: bool = False  # an earlier try may have arrived: the job stays with its path for ever
    error: str | None = None
    media_id: UUID | None = None
    slot_at: datetime | None = None  # the moment its pace has been reserved for; None: not reserved yet
    seq: int = 0


def inbound_lane(conversation_id: UUID) -> str:
    """The lane of what a contact says."""
    return f"inbound:{conversation_id}"


def outbound_lane(conversation_id: UUID) -> str:
    """The lane of what is said to a contact; never waits for the inbound one."""
    return f"outbound:{conversation_id}"


def closing_lane(conversation_id: UUID) -> str:
    """Where the closing of a room waits for Rocket.Chat: what is sent natively must not wait behind it."""
    return f"channel:closing:{conversation_id}"


def media_lane(media_id: UUID) -> str:
    """A file's own lane: no file waits for another."""
    return f"channel:media:{media_id}"


def marking_lane(conversation_id: UUID) -> str:
    """Read marks of a conversation, in order; nothing waits for them."""
    return f"channel:marking:{conversation_id}"


def channel_lane(slug: str) -> str:
    """The lane of parts without a conversation."""
    return f"channel:{slug}"


def room_lane(room_id: str) -> str:
    """The lane of Rocket.Chat's events for one room until the room is placed."""
    return f"channel:room:{room_id}"


class Outcome(StrEnum):
    """How a request over the network ended, as its adapter translates it."""

    OK = "ok"
    RETRY = "retry"  # certainly not acted upon, may work later
    PERMANENT = "permanent"  # certainly not acted upon, will never work
    CHANNEL = "channel"  # certainly not acted upon: token revoked, number banned; the whole address is ill
    UNKNOWN = "unknown"  # it left, no answer: nobody knows
    PACED = "paced"  # certainly not acted upon: too fast for this recipient; says nothing about health


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a request. `code` is the provider's; `retry_after` in seconds, when it named one."""

    outcome: Outcome
    external_id: str | None = None
    code: str | None = None
    retry_after: float | None = None
    asked: bool = (
        True  # False: refused on our side, nothing was requested: it says nothing about the other side
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one message, committed before the request leaves. `outcome` None: no result was written."""

    id: UUID
    tenant: str
    message_id: UUID
    job_id: UUID
    number: int
    path: Path
    pin_version: int
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Given up, kept, replayable. `reason` is a stable code."""

    job: Job
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker for all that stands behind `gate`. While `open_until` lies ahead nothing is claimed; when it
    has passed, one job goes ahead as the probe."""

    gate: str
    failures: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Open from the tripping failure to the first success."""
        return self.opened_at is not None


def fetch_job(job_id: UUID, media: Media, now: datetime) -> Job:
    """The job that brings a file into the file store."""
    side = ROCKETCHAT_GATE if media.origin is Origin.ROCKETCHAT else media.channel
    return Job(
        job_id, media.tenant, media.channel, JobKind.FETCH, (media_lane(media.id),), media_gate(side), now, now,
        message_id=media.message_id, media_id=media.id,
    )  # fmt: skip


ROCKETCHAT_GATE = "rocketchat"


def native_gate(slug: str) -> str:
    """The breaker of one channel's provider account."""
    return f"native:{slug}"


def media_gate(slug: str) -> str:
    """The breaker of what holds a channel's files: a file host that is down holds no message."""
    return f"media:{slug}"
