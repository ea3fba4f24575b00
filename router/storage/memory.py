"""The memory twin of the PostgreSQL store: the same Protocols, the same contract suite (tests/contract/test_store.py).

Transactions are serial: `work` never suspends on this store, so one runs from begin to commit before the next begins,
and an exception undoes it from a log. That is a stronger isolation than PostgreSQL's, so what PostgreSQL must do with
row locks is proven by the contract suite and the state machine on the real server, not here.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from router.domain.conversation import Contact, Conversation, Decision, Identity, Room
from router.domain.errors import Conflict, LeaseLost
from router.domain.job import Attempt, Breaker, DeadLetter, Event, EventState, Job, JobKind, JobState
from router.domain.message import Alias, Direction, Message, Status, advance
from router.domain.ports import Answer, Clock, Tx

T = TypeVar("T")
AGAIN = 5
SPLIT_TRIES = 3
_MISSING = object()


class Tables:
    """Everything kept. Each table is a dict, so that one undo log serves them all."""

    def __init__(self) -> None:
        self.events: dict[UUID, Event] = {}
        self.reasons: dict[UUID, str] = {}
        self.unsplit: dict[int, UUID] = {}  # seq → event
        self.digests: dict[tuple[str, bytes], UUID] = {}
        self.messages: dict[UUID, Message] = {}
        self.external: dict[tuple[str, str], UUID] = {}
        self.source: dict[str, UUID] = {}
        self.by_conversation: dict[UUID, tuple[UUID, ...]] = {}
        self.outcomes: dict[tuple[str, str], Status] = {}
        self.statuses_at: dict[str, datetime] = {}
        self.contacts: dict[UUID, Contact] = {}
        self.users: dict[UUID, str] = {}
        self.mapping: dict[str, UUID] = {}
        self.identities: dict[UUID, Identity] = {}
        self.aliases: dict[tuple[str, str, str, str], tuple[UUID, Alias, int]] = {}
        self.tombstones: dict[tuple[str, str, str, str], datetime] = {}
        self.conversations: dict[UUID, Conversation] = {}
        self.open: dict[tuple[str, UUID], UUID] = {}
        self.decisions: dict[UUID, tuple[Decision, ...]] = {}
        self.floors: dict[str, int] = {}
        self.rooms: dict[str, Room] = {}
        self.jobs: dict[UUID, Job] = {}
        self.active: dict[UUID, int] = {}  # unfinished job → seq
        self.lanes: dict[str, tuple[UUID, ...]] = {}
        self.attempts: dict[UUID, tuple[Attempt, ...]] = {}
        self.dead_letters: dict[UUID, DeadLetter] = {}
        self.breakers: dict[str, Breaker] = {}
        self.answers: dict[tuple[str, str], Answer] = {}


# ruff: noqa: ARG002 - the signatures are the port's; what only PostgreSQL needs is not used here
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

    async def transact(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:
        """As Store.transact; `tenant` is PostgreSQL's to enforce."""
        for left in reversed(range(AGAIN)):
            tx = MemoryTx(self, self.clock.now())
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


class MemoryTx:
    """One transaction with its undo log."""

    def __init__(self, store: MemoryStore, now: datetime) -> None:
        self._store = store
        self._t = store.tables
        self._now = now
        self._log: list[tuple[dict[Any, Any], Any, Any]] = []

    def undo(self) -> None:
        """Put everything back."""
        for table, key, before in reversed(self._log):
            if before is _MISSING:
                table.pop(key, None)
            else:
                table[key] = before

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._log.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    def _drop(self, table: dict[Any, Any], key: Any) -> None:
        if key in table:
            self._log.append((table, key, table[key]))
            del table[key]

    async def now(self) -> datetime:
        return self._now

    # events ------------------------------------------------------------------------------------------------

    async def lock_channel(self, slug: str) -> bool:
        return True

    def _unsplit(self, slug: str) -> list[Event]:
        waiting = (self._t.events[event_id] for _, event_id in sorted(self._t.unsplit.items()))
        return [event for event in waiting if event.channel == slug]

    async def waiting_events(self, slug: str, limit: int) -> Sequence[Event]:
        waiting = self._unsplit(slug)[:limit]
        if waiting and waiting[0].tries:
            return waiting[:1]
        failed = next((place for place, event in enumerate(waiting) if event.tries), len(waiting))
        return waiting[:failed]

    async def event(self, event_id: UUID, received_at: datetime) -> Event | None:
        return self._t.events.get(event_id)

    async def mark_split(self, event: Event, state: EventState, reason: str | None = None) -> None:
        self._set(self._t.events, event.id, replace(self._t.events[event.id], state=state))
        self._drop(self._t.unsplit, event.seq)
        if reason is not None:
            self._set(self._t.reasons, event.id, reason)

    async def settle_event(self, event_id: UUID, received_at: datetime, state: EventState) -> None:
        event = self._t.events[event_id]
        if event.state is EventState.WAITING:
            self._set(self._t.events, event_id, replace(event, state=state))

    async def backlog(self, slug: str) -> int:
        return sum(1 for event_id in self._t.unsplit.values() if self._t.events[event_id].channel == slug)

    # messages ----------------------------------------------------------------------------------------------

    async def known(self, slug: str, external_ids: Collection[str]) -> set[str]:
        return {external_id for external_id in external_ids if (slug, external_id) in self._t.external}

    async def message(self, message_id: UUID, *, lock: bool = True) -> Message | None:
        return self._t.messages.get(message_id)

    async def message_by_external(self, slug: str, external_id: str) -> Message | None:
        found = self._t.external.get((slug, external_id))
        return self._t.messages[found] if found else None

    async def message_by_source(self, source_id: str) -> Message | None:
        found = self._t.source.get(source_id)
        return self._t.messages[found] if found else None

    async def unclaimed(
        self, conversation_id: UUID, direction: Direction, at: datetime, within: timedelta, *, key: str
    ) -> Sequence[Message]:
        def apart(row: Message) -> timedelta:
            dates = (
                [row.sent_at]
                if direction is Direction.OUTBOUND
                else [row.sent_at, row.handled_at or self._now]
            )
            return min(abs(date - at) for date in dates)

        ids = self._t.by_conversation.get(conversation_id, ())
        rows = [row for row in map(self._t.messages.__getitem__, ids) if row.direction is direction]
        fitting = [row for row in rows if getattr(row, key) is None and apart(row) <= within]
        return sorted(fitting, key=lambda row: (apart(row), row.seq))

    async def add_message(self, message: Message) -> Message:
        message = replace(message, seq=self._store.next_seq())
        self._keys(message)
        self._set(self._t.messages, message.id, message)
        rows = self._t.by_conversation.get(message.conversation_id, ())
        self._set(self._t.by_conversation, message.conversation_id, (*rows, message.id))
        return message

    async def save_message(self, message: Message) -> None:
        self._keys(message)
        self._set(self._t.messages, message.id, message)

    def _keys(self, message: Message) -> None:
        if message.external_id is not None:
            self._key(self._t.external, (message.channel, message.external_id), message.id)
        if message.source_id is not None:
            self._key(self._t.source, message.source_id, message.id)

    def _key(self, table: dict[Any, UUID], key: Any, message_id: UUID) -> None:
        if table.get(key, message_id) != message_id:
            raise Conflict
        self._set(table, key, message_id)

    async def mark_handled(self, message_ids: Collection[UUID], at: datetime) -> None:
        for message_id in message_ids:
            message = self._t.messages[message_id]
            if message.handled_at is None:
                self._set(self._t.messages, message_id, replace(message, handled_at=at))

    async def note_outcome(self, slug: str, external_id: str, status: Status, at: datetime) -> None:
        before = self._t.outcomes.get((slug, external_id), status)
        self._set(self._t.outcomes, (slug, external_id), advance(before, status))

    async def touch_statuses(self, slug: str, at: datetime) -> None:
        self._set(self._t.statuses_at, slug, at)

    async def last_status_at(self, slug: str) -> datetime | None:
        return self._t.statuses_at.get(slug)

    # people ------------------------------------------------------------------------------------------------

    async def erased_at(self, tenant: str, aliases: Sequence[Alias]) -> datetime | None:
        found = [self._t.tombstones.get(_alias_key(tenant, alias)) for alias in aliases]
        return max((at for at in found if at is not None), default=None)

    async def identities(self, tenant: str, aliases: Sequence[Alias]) -> Sequence[tuple[Alias, Identity]]:
        found = []
        for alias in aliases:
            row = self._t.aliases.get(_alias_key(tenant, alias))
            if row is not None:
                found.append((row[1], self._t.identities[row[0]]))
        return found

    async def aliases(self, identity_id: UUID) -> Sequence[Alias]:
        rows = [row for row in self._t.aliases.values() if row[0] == identity_id]
        return [alias for _, alias, _ in sorted(rows, key=lambda row: -row[2])]

    async def add_contact(self, contact: Contact, source: str) -> Contact:
        # PostgreSQL makes id_user; here the contact's own id serves, so that a seed replays.
        contact = replace(contact, user_id=contact.user_id or contact.id)
        self._set(self._t.contacts, contact.id, contact)
        self._set(self._t.users, contact.user_id, source)
        return contact

    async def contact(self, contact_id: UUID) -> Contact | None:
        return self._t.contacts.get(contact_id)

    async def contact_by_user(self, tenant: str, user_id: UUID) -> Contact | None:
        rows = (row for row in self._t.contacts.values() if row.tenant == tenant and row.user_id == user_id)
        return next(rows, None)

    async def save_contact(self, contact: Contact) -> None:
        self._set(self._t.contacts, contact.id, contact)

    async def add_identity(self, identity: Identity, aliases: Sequence[Alias]) -> None:
        self._set(self._t.identities, identity.id, identity)
        for alias in aliases:
            await self.put_alias(identity, alias)

    async def put_alias(self, identity: Identity, alias: Alias) -> None:
        key = _alias_key(identity.tenant, alias)
        if self._t.aliases.get(key, (identity.id,))[0] != identity.id:
            raise Conflict
        self._set(self._t.aliases, key, (identity.id, alias, self._store.next_seq()))

    async def identity_of_contact(self, contact_id: UUID, kind: str) -> Identity | None:
        rows = [
            row for row in self._t.identities.values() if row.contact_id == contact_id and row.kind == kind
        ]
        return max(rows, key=lambda row: (row.created_at, row.id), default=None)

    async def identity(self, identity_id: UUID) -> Identity | None:
        return self._t.identities.get(identity_id)

    async def map_rocketchat_user(self, rc_user_id: str, user_id: UUID, canal: str) -> None:
        if rc_user_id not in self._t.mapping:
            self._set(self._t.mapping, rc_user_id, user_id)

    async def user_of_rocketchat(self, rc_user_id: str) -> UUID | None:
        return self._t.mapping.get(rc_user_id)

    # conversations -----------------------------------------------------------------------------------------

    async def open_conversation(self, slug: str, identity_id: UUID) -> Conversation | None:
        found = self._t.open.get((slug, identity_id))
        return self._t.conversations[found] if found else None

    async def conversation(self, conversation_id: UUID, *, lock: bool = True) -> Conversation | None:
        return self._t.conversations.get(conversation_id)

    async def add_conversation(self, conversation: Conversation) -> None:
        key = (conversation.channel, conversation.identity_id)
        if key in self._t.open:
            raise Conflict
        self._set(self._t.open, key, conversation.id)
        self._set(self._t.conversations, conversation.id, conversation)

    async def save_conversation(self, conversation: Conversation) -> None:
        self._set(self._t.conversations, conversation.id, conversation)
        if not conversation.open:
            key = (conversation.channel, conversation.identity_id)
            if self._t.open.get(key) == conversation.id:
                self._drop(self._t.open, key)

    async def idle_conversations(self, slug: str, before: datetime, limit: int) -> Sequence[UUID]:
        rows = (self._t.conversations[row] for (channel, _), row in self._t.open.items() if channel == slug)
        return [row.id for row in rows if row.last_at < before][:limit]

    async def add_decision(self, decision: Decision) -> None:
        rows = self._t.decisions.get(decision.conversation_id, ())
        self._set(self._t.decisions, decision.conversation_id, (*rows, decision))

    async def flag_floor(self, kind: str) -> int:
        return self._t.floors.get(kind, 0)

    async def room(self, room_id: str) -> Room | None:
        return self._t.rooms.get(room_id)

    async def save_room(self, room: Room) -> None:
        self._set(self._t.rooms, room.id, room)

    # lanes -------------------------------------------------------------------------------------------------

    async def add_job(self, job: Job) -> Job:
        job = replace(job, seq=self._store.next_seq())
        self._set(self._t.jobs, job.id, job)
        self._set(self._t.active, job.id, job.seq)
        for lane in job.lanes:
            self._set(self._t.lanes, lane, (*self._t.lanes.get(lane, ()), job.id))
        return job

    def _claimable(self) -> Iterator[Job]:
        for job_id in self._t.active:
            job = self._t.jobs[job_id]
            due = job.lease_until if job.state is JobState.RUNNING else job.due_at
            breaker = self._t.breakers.get(job.gate)
            shut = breaker is not None and breaker.open_until is not None and breaker.open_until > self._now
            if due is None or due > self._now or shut:
                continue
            if all(self._t.lanes[lane][0] == job_id for lane in job.lanes):
                yield job

    async def claim(self, lease_seconds: float) -> Job | None:
        job = min(self._claimable(), key=lambda job: job.seq, default=None)
        if job is None:
            return None
        claimed = replace(
            job, state=JobState.RUNNING, attempts=job.attempts + 1, fence=job.fence + 1,
            lease_until=self._now + timedelta(seconds=lease_seconds),
        )  # fmt: skip
        self._set(self._t.jobs, job.id, claimed)
        return replace(claimed, state=job.state)

    async def fenced(self, job: Job) -> Job:
        stored = self._t.jobs.get(job.id)
        if stored is None or job.id not in self._t.active or stored.fence != job.fence:
            raise LeaseLost
        return stored

    async def save_job(self, job: Job) -> None:
        await self.fenced(job)
        for lane in self._t.jobs[job.id].lanes:
            if lane not in job.lanes:
                self._leave(lane, job.id)
        self._set(self._t.jobs, job.id, job)

    def _leave(self, lane: str, job_id: UUID) -> None:
        left = tuple(other for other in self._t.lanes[lane] if other != job_id)
        if left:
            self._set(self._t.lanes, lane, left)
        else:
            self._drop(self._t.lanes, lane)

    async def finish_job(self, job: Job, state: JobState) -> None:
        await self.fenced(job)
        for lane in self._t.jobs[job.id].lanes:
            self._leave(lane, job.id)
        self._drop(self._t.active, job.id)
        self._set(self._t.jobs, job.id, replace(job, state=state, lease_until=None))

    def _unfinished(self) -> list[Job]:
        return [
            self._t.jobs[job_id] for job_id, _ in sorted(self._t.active.items(), key=lambda item: item[1])
        ]

    async def job_of_message(self, message_id: UUID) -> Job | None:
        return next((job for job in self._unfinished() if job.message_id == message_id), None)

    async def jobs_of_conversation(self, conversation_id: UUID) -> Sequence[Job]:
        suffix = f":{conversation_id}"
        return [job for job in self._unfinished() if any(lane.endswith(suffix) for lane in job.lanes)]

    async def open_jobs(self, event_id: UUID) -> int:
        return sum(1 for job in self._unfinished() if job.event_id == event_id)

    async def room_jobs(self, room_id: str) -> int:
        return sum(1 for job in self._unfinished() if job.kind is JobKind.PLACE and job.room_id == room_id)

    async def add_attempt(self, attempt: Attempt) -> None:
        rows = self._t.attempts.get(attempt.message_id, ())
        self._set(self._t.attempts, attempt.message_id, (*rows, attempt))

    async def end_attempt(self, attempt: Attempt) -> None:
        rows = self._t.attempts[attempt.message_id]
        ended = tuple(attempt if row.id == attempt.id else row for row in rows)
        self._set(self._t.attempts, attempt.message_id, ended)

    async def attempts(self, message_id: UUID) -> Sequence[Attempt]:
        return self._t.attempts.get(message_id, ())

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        self._set(self._t.dead_letters, letter.job.id, letter)

    async def breaker(self, gate: str, *, lock: bool = True) -> Breaker:
        return self._t.breakers.get(gate) or Breaker(gate)

    async def save_breaker(self, breaker: Breaker) -> None:
        self._set(self._t.breakers, breaker.gate, breaker)

    async def answered(self, key_id: str, idempotency_key: str) -> Answer | None:
        return self._t.answers.get((key_id, idempotency_key))

    async def remember(self, key_id: str, idempotency_key: str, answer: Answer) -> None:
        if (key_id, idempotency_key) in self._t.answers:
            raise Conflict
        self._set(self._t.answers, (key_id, idempotency_key), answer)


def _alias_key(tenant: str, alias: Alias) -> tuple[str, str, str, str]:
    return tenant, *alias.key
