"""The store: transactions over everything that is kept. PostgreSQL in production, a memory twin in simulation."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from router.domain.conversation import Contact, Conversation, Decision, Identity, Reach, Room
from router.domain.job import Attempt, Breaker, DeadLetter, Event, EventState, Job, JobState
from router.domain.media import Media
from router.domain.message import Alias, Direction, Message, Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer kept for a repeated request: SHA-256 of the request body, HTTP status, JSON body."""

    digest: bytes
    status: int
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Duty:
    """A task that one process at a time has. `mark` is how far it got."""

    name: str
    mark: datetime | None = None


class Tx(Protocol):
    """One transaction. Reads marked *locks* hold their row until the end, so that what is decided from them stays
    true; rows are locked in the order channel, conversation, message, job, lane."""

    async def now(self) -> datetime:
        """The store's clock, the same all through the transaction."""
        ...

    # events ------------------------------------------------------------------------------------------------
    async def lock_channel(self, slug: str) -> bool:
        """True: this transaction alone splits the channel until it ends. False: another one does."""
        ...

    async def waiting_events(self, slug: str, limit: int) -> Sequence[Event]:
        """Events not split yet, by seq (lowest first), never "after the last": a late commit is still found.
        Those that failed before (`tries` > 0) come one at a time: the list then holds only that one."""
        ...

    async def event(self, event_id: UUID, received_at: datetime) -> Event | None:
        """One event with its bytes; None when its body has been dropped."""
        ...

    async def mark_split(self, event: Event, state: EventState, reason: str | None = None) -> None:
        """The event is split. WAITING = a forward or a placement is still to come."""
        ...

    async def settle_event(self, event_id: UUID, received_at: datetime, state: EventState) -> None:
        """What was WAITING after its split ends so; one that is DEAD stays DEAD unless it is replayed."""
        ...

    async def backlog(self, slug: str) -> int:
        """Events of the channel accepted but not split yet."""
        ...

    # messages ----------------------------------------------------------------------------------------------
    async def known(self, slug: str, external_ids: Collection[str]) -> set[str]:
        """Those of the provider's ids that have a message on this channel."""
        ...

    async def message(self, message_id: UUID, *, lock: bool = True) -> Message | None:
        """Locks, unless told not to."""
        ...

    async def message_by_external(self, slug: str, external_id: str) -> Message | None:
        """Locks."""
        ...

    async def message_by_source(self, source_id: str, *, lock: bool = True) -> Message | None:
        """By Rocket.Chat's `_id`. Locks, unless told not to."""
        ...

    async def unclaimed(
        self, conversation_id: UUID, direction: Direction, at: datetime, within: timedelta, *, key: str
    ) -> Sequence[Message]:
        """Messages of the conversation whose key is still missing (`key`: "source_id" or "external_id"), dated
        within the span of `at`: by sent_at, an inbound one also by handled_at (now, while it is on its way), since what
        was held reaches Rocket.Chat long after it was said. Nearest first, an inbound one by when it was handled; of
        equals the older. Locks."""
        ...

    async def add_message(self, message: Message) -> Message:
        """Insert with its keys; returns it with `seq`. Raises Conflict when a key is taken."""
        ...

    async def save_message(self, message: Message) -> None:
        """Update; keys that are new are inserted too. Raises Conflict when a key is taken."""
        ...

    async def mark_handled(self, message_ids: Collection[UUID], at: datetime) -> None:
        """Set handled_at where it is empty."""
        ...

    async def note_outcome(self, slug: str, external_id: str, status: Status, at: datetime) -> None:
        """A status of a message that is not ours: Rocket.Chat's outcome, kept at its highest."""
        ...

    async def touch_statuses(self, slug: str, at: datetime) -> None:
        """A status arrived on this address."""
        ...

    async def last_status_at(self, slug: str) -> datetime | None:
        """When one last did."""
        ...

    async def first_billed(self, slug: str, external_id: str, category: str) -> bool:
        """Note that the provider bills this message; False: noted before."""
        ...

    # files -------------------------------------------------------------------------------------------------
    async def add_media(self, media: Media) -> None:
        """Insert."""
        ...

    async def media(self, media_id: UUID, *, lock: bool = False) -> Media | None:
        """One file; locks when told to."""
        ...

    async def media_of(self, message_id: UUID) -> Sequence[Media]:
        """A message's files, in the order they were added."""
        ...

    async def save_media(self, media: Media) -> None:
        """Update."""
        ...

    async def uploaded(self, slug: str, target: str, sha256: str, *, expired: bool = False) -> str | None:
        """What the receiving side (`target`) calls these bytes, while it keeps them; `expired`: also afterwards."""
        ...

    async def save_upload(
        self, slug: str, target: str, sha256: str, file_id: str, expires_at: datetime
    ) -> None:
        """Insert or replace."""
        ...

    # people ------------------------------------------------------------------------------------------------
    async def erased_at(self, tenant: str, aliases: Sequence[Alias]) -> datetime | None:
        """The latest tombstone on any of the addresses."""
        ...

    async def bury(self, tenant: str, aliases: Sequence[Alias], at: datetime) -> None:
        """A tombstone on each of the addresses; the later one stays."""
        ...

    async def identities(self, tenant: str, aliases: Sequence[Alias]) -> Sequence[tuple[Alias, Identity]]:
        """Which of the addresses are known, as what; in the order asked."""
        ...

    async def aliases(self, identity_id: UUID) -> Sequence[Alias]:
        """All spellings of an identity, most recently seen first."""
        ...

    async def add_contact(self, contact: Contact, source: str) -> Contact:
        """Insert with its tb_users row (`source` → ds_origem); returns it with user_id, and user_made where it had none."""
        ...

    async def contact(self, contact_id: UUID) -> Contact | None:
        """One contact."""
        ...

    async def contact_by_user(self, tenant: str, user_id: UUID) -> Contact | None:
        """By tb_users.id_user."""
        ...

    async def save_contact(self, contact: Contact) -> None:
        """Update."""
        ...

    async def add_identity(self, identity: Identity, aliases: Sequence[Alias]) -> None:
        """Insert with its addresses. Raises Conflict when one is taken."""
        ...

    async def put_alias(self, identity: Identity, alias: Alias) -> None:
        """Add, or refresh `value` and when it was seen. Raises Conflict when it belongs to another."""
        ...

    async def identity_of_contact(self, contact_id: UUID, kind: str) -> Identity | None:
        """The most recently made identity of a contact on a kind."""
        ...

    async def identity(self, identity_id: UUID) -> Identity | None:
        """One identity."""
        ...

    async def save_identity(self, identity: Identity) -> None:
        """Update (opted_out_at, contact)."""
        ...

    async def reach(self, slug: str, identity_id: UUID) -> Reach:
        """What may be sent to the identity on the channel: its newest `heard_at` over all conversations there; the newest
        opt-out of any address of its contact."""
        ...

    async def map_rocketchat_user(self, rc_user_id: str, user_id: UUID, canal: str) -> None:
        """tb_rocketchat_user_mapping: insert, or refresh dt_ultima_sync."""
        ...

    async def user_of_rocketchat(self, rc_user_id: str) -> UUID | None:
        """tb_rocketchat_user_mapping.id_user."""
        ...

    # conversations -----------------------------------------------------------------------------------------
    async def open_conversation(self, slug: str, identity_id: UUID) -> Conversation | None:
        """The open one, if any. Locks."""
        ...

    async def conversation_before(self, slug: str, identity_id: UUID, at: datetime) -> Conversation | None:
        """The newest one opened at `at` or before, open or closed. Locks."""
        ...

    async def conversation(self, conversation_id: UUID, *, lock: bool = True) -> Conversation | None:
        """Locks, unless told not to."""
        ...

    async def add_conversation(self, conversation: Conversation) -> None:
        """Raises Conflict when another writer opened one first."""
        ...

    async def save_conversation(self, conversation: Conversation) -> None:
        """Update."""
        ...

    async def idle_conversations(self, slug: str, before: datetime, limit: int) -> Sequence[UUID]:
        """Open ones with nothing said since."""
        ...

    async def add_decision(self, decision: Decision) -> None:
        """Insert."""
        ...

    async def flag_floor(self, kind: str) -> int:
        """No decision may be made with flags older than this revision."""
        ...

    async def room(self, room_id: str) -> Room | None:
        """A placed room. Locks."""
        ...

    async def save_room(self, room: Room) -> None:
        """Insert or update."""
        ...

    # pace and duties ---------------------------------------------------------------------------------------
    async def reserve(
        self, key: str, interval: timedelta, burst: int, *, after: datetime | None = None
    ) -> datetime:
        """The moment the next send under `key` may leave (GCRA: one in `interval` after a burst of `burst`), reserved
        for the caller. Never before now, nor before `after`."""
        ...

    async def take_duty(self, name: str, owner: UUID, lease: timedelta) -> Duty | None:
        """The duty, leased to `owner`; None while another has it."""
        ...

    async def end_duty(self, name: str, owner: UUID, mark: datetime | None, rest: timedelta) -> None:
        """Give it back; nobody takes it before `rest` is over. A mark of None leaves the old one. No effect when the
        lease has gone to another."""
        ...

    # lanes -------------------------------------------------------------------------------------------------
    async def add_job(self, job: Job) -> Job:
        """Append to each of its lanes (their rows are locked: order is commit order); returns it with `seq`."""
        ...

    async def claim(self, lease_seconds: float) -> Job | None:
        """Lease the next job that heads all its lanes, is due and whose gate is not shut (also one whose lease ran
        out): state RUNNING, attempts and fence one higher, lease from the store's clock. None: nothing to do. The
        returned job's `state` is what it was before the claim, so RUNNING = a lease ran out."""
        ...

    async def fenced(self, job: Job) -> Job:
        """The job as it stands. Locks. Raises LeaseLost unless its fence is still the given one."""
        ...

    async def save_job(self, job: Job) -> None:
        """Update (state, due_at, shares, path, …); a lane that is no longer in `lanes` is left."""
        ...

    async def finish_job(self, job: Job, state: JobState) -> None:
        """DONE or DEAD: it leaves all its lanes, the next ones move up."""
        ...

    async def job_of_message(self, message_id: UUID) -> Job | None:
        """The unfinished SEND of a message. Locks."""
        ...

    async def jobs_of_conversation(self, conversation_id: UUID) -> Sequence[Job]:
        """Unfinished jobs in the conversation's lanes, by seq. Does not lock: `fenced` each before changing it."""
        ...

    async def open_jobs(self, event_id: UUID) -> int:
        """Unfinished jobs that carry parts of the event."""
        ...

    async def room_jobs(self, room_id: str) -> int:
        """Unfinished PLACE jobs of a room: while there are any, its events queue behind them."""
        ...

    async def add_attempt(self, attempt: Attempt) -> None:
        """Insert; committed before the request leaves."""
        ...

    async def end_attempt(self, attempt: Attempt) -> None:
        """Write its outcome."""
        ...

    async def attempts(self, message_id: UUID) -> Sequence[Attempt]:
        """By number."""
        ...

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """Insert."""
        ...

    async def breaker(self, gate: str, *, lock: bool = True) -> Breaker:
        """As it stands (a closed one when there is none). Locks, unless told not to."""
        ...

    async def save_breaker(self, breaker: Breaker) -> None:
        """Insert or update."""
        ...

    async def answered(self, key_id: str, idempotency_key: str) -> Answer | None:
        """What was answered to this key's request within the last 48 hours."""
        ...

    async def remember(self, key_id: str, idempotency_key: str, answer: Answer) -> None:
        """Keep an answer. Raises Conflict when another request with the key was first."""
        ...


class Store(Protocol):
    """PostgreSQL in production, a memory twin in simulation; both pass tests/contract/test_store.py."""

    async def accept(self, event: Event) -> bool:
        """Store one event durably. False: this body is known on this channel (nothing was added)."""
        ...

    async def waiting_channels(self) -> Sequence[str]:
        """Slugs that have events not split yet."""
        ...

    async def fail_split(self, event: Event, error: str) -> None:
        """Splitting this event raised: tries + 1, and DEAD after three, so that it never stops its neighbours."""
        ...

    async def transact(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:
        """Run `work` in one transaction and commit. Conflict, a deadlock or a serialisation failure runs it again
        (a few times), so it must build its result anew each time. With `tenant`, row-level security shows and takes
        only that tenant's rows."""
        ...
