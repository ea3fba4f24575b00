"""The claim: a lease, and for a send the attempt row, committed before anything leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Conversation
from router.domain.ids import Ids
from router.domain.job import (
    Attempt,
    DeadLetter,
    Event,
    EventState,
    Job,
    JobKind,
    JobState,
    Outcome,
)
from router.domain.media import KINDS, Media, MediaState
from router.domain.message import RANK, Content, Message, Status
from router.domain.policy import Policy
from router.domain.ports import (
    Clock,
    Files,
    Forwarder,
    Kind,
    Meter,
    Outbound,
    Permit,
    Pins,
    Random,
    RocketChat,
    RoomIngest,
    Rules,
    Sender,
    Store,
    Tx,
)
from router.domain.sending import Verdict, judge_unknown, refusal, upload_target


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased job with all its request needs."""

    job: Job
    now: datetime
    event: Event | None = None
    message: Message | None = None
    attempt: Attempt | None = None
    outbound: Outbound | None = None
    permit: Permit | None = None
    media: Media | None = None  # a file to be fetched, or to be uploaded before the message can leave
    room_id: str | None = None
    refused: str | None = None  # a rule forbids the send


UNREAD = "unread"
UNREAD_SECONDS = 1.0
"""How long a send waits for events that may open its window."""
SLOT_KEEPS = timedelta(seconds=2)
"""How long a reserved moment is kept for a send that comes late."""


class Claims:
    """The first half of delivery: which job next, and whether it may go. `senders` by path and kind."""

    def __init__(
        self, *, store: Store, clock: Clock, random: Random, ids: Ids, channels: Mapping[str, Channel],
        kinds: Mapping[str, Kind], senders: Mapping[tuple[Path, str], Sender], forwarder: Forwarder,
        rocketchat: RocketChat, rooms: RoomIngest, pins: Pins, files: Files, meter: Meter, policy: Policy,
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._random = random
        self._ids = ids
        self._channels = channels
        self._kinds = kinds
        self._senders = senders
        self._forwarder = forwarder
        self._rocketchat = rocketchat
        self._rooms = rooms
        self._pins = pins
        self._files = files
        self._meter = meter
        self._policy = policy

    async def claim(self) -> Claim | None:
        """Lease the next job and write its attempt; None when there is none."""
        before = self._clock.monotonic()
        return await self._store.transact(lambda tx: self._claim(tx, before))

    async def _claim(self, tx: Tx, before: float) -> Claim | None:
        found = await tx.claim(self._policy.lease_seconds)
        if found is None:
            return None
        now = await tx.now()
        job = replace(found, state=JobState.RUNNING)
        if job.kind is JobKind.SEND:
            return await self._claim_send(tx, found, job, now, before)
        if job.kind is JobKind.FETCH and job.media_id is not None:
            return await self._claim_fetch(tx, found, job, job.media_id, now)
        job = await self._unsure_if(tx, job, found.state is JobState.RUNNING)
        if found.state is JobState.RUNNING and job.attempts > self._policy.max_attempts:
            return await self._abandon(tx, job, now)
        if not await self._pass_gate(tx, job, now):
            return await self._held(tx, found, job, now)
        if job.kind is JobKind.FORWARD and job.event_id is not None and job.event_at is not None:
            return Claim(job, now, event=await tx.event(job.event_id, job.event_at))
        return Claim(job, now)

    async def _unsure_if(self, tx: Tx, job: Job, lapsed: bool) -> Job:
        """A lease that lapsed with a request under way: it may have arrived."""
        if lapsed and not job.uncertain:
            job = replace(job, uncertain=True)
            await tx.save_job(job)
        return job

    async def _abandon(self, tx: Tx, job: Job, now: datetime) -> Claim:
        """Its leases ran out again and again: whoever carries it out falls over. It must not hold its lanes for ever."""
        await tx.add_dead_letter(DeadLetter(job, "abandoned", now))
        await tx.finish_job(job, JobState.DEAD)
        if job.event_id is not None and job.event_at is not None:
            await tx.settle_event(job.event_id, job.event_at, EventState.DEAD)
        return Claim(replace(job, kind=JobKind.SEND), now)

    async def _held(self, tx: Tx, found: Job, job: Job, now: datetime) -> Claim:
        """Nothing to carry out: another job is the probe of this gate. The caller looks for another gate's job."""
        await tx.save_job(
            replace(
                found,
                state=_rested(found),
                lease_until=None,
                attempts=found.attempts - 1,
                uncertain=job.uncertain,
            )
        )
        return Claim(replace(job, kind=JobKind.SEND), now)

    async def _pass_gate(self, tx: Tx, job: Job, now: datetime) -> bool:
        """Behind a tripped breaker one job goes ahead as the probe; the others wait for what it finds."""
        if not (await tx.breaker(job.gate, lock=False)).is_open:
            return True
        breaker = await tx.breaker(job.gate)
        if not breaker.is_open:
            return True
        if breaker.open_until is not None and breaker.open_until > now:
            return False
        await tx.save_breaker(
            replace(breaker, open_until=now + timedelta(seconds=self._policy.lease_seconds))
        )
        return True

    async def _claim_send(self, tx: Tx, found: Job, job: Job, now: datetime, before: float) -> Claim:
        if job.message_id is None:
            raise ValueError("a SEND job names a message")
        message = await tx.message(job.message_id, lock=False)
        channel = self._channels.get(job.channel)
        if message is None or channel is None or RANK[message.status] >= RANK[Status.SENT]:
            return Claim(job, now)
        made = await tx.attempts(message.id)
        lost = any(attempt.outcome is None and attempt.job_id == job.id for attempt in made)
        job = await self._unsure_if(tx, job, lost)
        if found.state is JobState.RUNNING and not lost and job.attempts > self._policy.max_attempts:
            return Claim(job, now, message=message, refused="abandoned")
        tried = await self._close_attempts(tx, made, now)
        path = job.path or message.path
        verdict = await self._verdict(tx, job, path, tried, now)
        if verdict != Verdict.SEND:
            return Claim(job, now, message=message)
        return await self._leave(tx, found, Claim(job, now, message=message), message, len(tried), before)

    async def _leave(
        self, tx: Tx, found: Job, claim: Claim, message: Message, tried: int, before: float
    ) -> Claim:
        """The rules are asked at every attempt: a window closes and a contact opts out while a message waits."""
        job, now, channel = claim.job, claim.now, self._channels[claim.job.channel]
        path = job.path or message.path
        conversation = await tx.conversation(message.conversation_id, lock=False)
        if conversation is None:
            return Claim(job, now)
        rules = self._kinds[channel.kind].rules(channel)
        refused = await refused_now(tx, conversation, message.content, rules, path, now)
        if refused == UNREAD:
            due = now + timedelta(seconds=UNREAD_SECONDS)
            return await self._held(tx, replace(found, due_at=due), job, now)
        if refused is not None:
            return replace(claim, refused=refused)
        outbound = await self._outbound(tx, job, message, conversation, channel)
        claim = replace(claim, outbound=outbound)
        if outbound.media is not None and outbound.file_id is None and self._ready(path, outbound):
            return await self._preparing(tx, found, claim, outbound.media)
        slot = await self._slot(tx, job, conversation, rules, now) if path is Path.NATIVE else now
        if slot > now:
            return await self._held(tx, replace(found, slot_at=slot, due_at=slot), job, now)
        # Asked last: what only waits for evidence makes no request, and must not be the probe.
        if not await self._pass_gate(tx, job, now):
            return await self._held(tx, replace(found, slot_at=job.slot_at), job, now)
        attempt = Attempt(
            self._ids.new(), message.tenant, message.id, job.id, tried + 1, path, job.pin_version, now
        )
        await tx.add_attempt(attempt)
        if outbound.file_id is not None and job.room_id != outbound.room_id:
            await tx.save_job(replace(job, room_id=outbound.room_id))
        permit = Permit(message.id, path, job.pin_version, before + self._policy.permit_seconds)
        return replace(claim, attempt=attempt, permit=permit)

    async def _outbound(
        self, tx: Tx, job: Job, message: Message, conversation: Conversation, channel: Channel
    ) -> Outbound:
        """The message with what its content only names: the file, the message it answers."""
        path, content = job.path or message.path, message.content
        media = next(iter(await tx.media_of(message.id)), None) if content.kind in KINDS else None
        # A file that may have arrived is looked for where it went, under the name it had there.
        again = job.uncertain and media is not None and path is Path.ROCKETCHAT
        room_id = job.room_id if again else conversation.room_id
        target = upload_target(path, channel, room_id, message.id)
        stored = media.sha256 if media is not None and media.state is MediaState.STORED else None
        file_id = await tx.uploaded(channel.slug, target, stored, expired=again) if stored else None
        context = None
        about = content.data.get("message_id") or content.data.get("reply_to")
        if isinstance(about, str):
            named = await tx.message(UUID(about), lock=False)
            if named is not None:
                context = named.source_id if path is Path.ROCKETCHAT else named.external_id
        return Outbound(
            channel, tuple(await tx.aliases(conversation.identity_id)), content, str(message.id),
            room_id, message.source_id, media, file_id, context, job.uncertain,
        )  # fmt: skip

    def _ready(self, path: Path, outbound: Outbound) -> bool:
        """A file for Rocket.Chat is given to a room: without one the send itself says so."""
        return path is Path.NATIVE or outbound.room_id is not None

    async def _preparing(self, tx: Tx, found: Job, claim: Claim, media: Media) -> Claim:
        """Another errand comes first: the file must be fetched, or given to the other side. It may take its time."""
        job, now, outbound = claim.job, claim.now, claim.outbound
        claim = Claim(job, now, message=claim.message)
        if job.uncertain and outbound is not None and outbound.source_id is None and job.room_id is not None:
            # What may have arrived under a name that is lost cannot be looked for, and must not go under another.
            return replace(claim, refused="unknown")
        if media.state in (MediaState.GONE, MediaState.REFUSED):
            return replace(claim, refused=media.error_code or "media_gone")
        if not await self._pass_gate(tx, job, now):
            return await self._held(tx, found, job, now)
        await tx.save_job(replace(job, lease_until=now + timedelta(seconds=self._policy.transfer_seconds)))
        return replace(claim, media=media, room_id=outbound.room_id if outbound is not None else None)

    async def _claim_fetch(self, tx: Tx, found: Job, job: Job, media_id: UUID, now: datetime) -> Claim:
        media = await tx.media(media_id)
        if media is not None and found.state is JobState.RUNNING and job.attempts > self._policy.max_attempts:
            media = replace(media, state=MediaState.REFUSED, error_code="abandoned")
            await tx.save_media(media)
        if media is None or media.state is not MediaState.WAITING:
            await tx.finish_job(job, JobState.DONE)
            return Claim(replace(job, kind=JobKind.SEND), now)
        if not await self._pass_gate(tx, job, now):
            return await self._held(tx, found, job, now)
        await tx.save_job(replace(job, lease_until=now + timedelta(seconds=self._policy.transfer_seconds)))
        return Claim(job, now, media=media)

    async def _slot(
        self, tx: Tx, job: Job, conversation: Conversation, rules: Rules, now: datetime
    ) -> datetime:
        """When the provider's rates let this send go. One that was reserved and has passed unused is reserved anew:
        what waited for an outage must not leave all at once."""
        if job.slot_at is not None and timedelta() <= now - job.slot_at <= SLOT_KEEPS:
            return now
        slot = now
        if rules.per_second:
            span = timedelta(seconds=1 / rules.per_second)
            slot = await tx.reserve(job.channel, span, max(int(rules.per_second / 10), 1))
        if rules.pair_seconds:
            span, key = timedelta(seconds=rules.pair_seconds), f"{job.channel}:{conversation.identity_id}"
            # Counted from the number's own moment: a place that is kept for later is not spent now.
            slot = await tx.reserve(key, span, rules.pair_burst, after=slot)
        return slot

    async def _close_attempts(self, tx: Tx, tried: Sequence[Attempt], now: datetime) -> list[Attempt]:
        """An attempt without a result whose lease we hold now: its worker is gone, nobody knows."""
        closed = []
        for attempt in tried:
            known = attempt
            if attempt.outcome is None:
                known = replace(attempt, ended_at=now, outcome=Outcome.UNKNOWN, code="no_answer")
                await tx.end_attempt(known)
            closed.append(known)
        return closed

    async def _verdict(
        self, tx: Tx, job: Job, path: Path, tried: Sequence[Attempt], now: datetime
    ) -> Verdict:
        tried = [attempt for attempt in tried if attempt.job_id == job.id]  # a replayed message starts anew
        if not tried or tried[-1].outcome in (Outcome.RETRY, Outcome.CHANNEL, Outcome.PACED):
            return Verdict.SEND
        last = tried[-1]
        statuses_at = await tx.last_status_at(job.channel)
        evidence = (
            statuses_at is not None and statuses_at > last.started_at and not await tx.backlog(job.channel)
        )
        left = sum(1 for attempt in tried if attempt.outcome is Outcome.UNKNOWN)
        idempotent = self._senders[path, self._channels[job.channel].kind].idempotent
        return judge_unknown(
            tries=left,
            since=now - last.started_at,
            evidence=evidence,
            idempotent=idempotent,
            policy=self._policy,
        )


async def refused_now(
    tx: Tx, conversation: Conversation, content: Content, rules: Rules, path: Path, now: datetime
) -> str | None:
    """`refusal` with what the store knows now. UNREAD: the window is closed as far as events have been read, but some
    wait. Asked again once none do: what was read in between counts."""
    refused = None
    for unread in (True, False):
        reach = await tx.reach(conversation.channel, conversation.identity_id)
        refused = refusal(content, reach, rules, path, now)
        if refused != "window_closed" or not unread:
            return refused
        if await tx.backlog(conversation.channel):
            return UNREAD
    return refused


def _rested(found: Job) -> JobState:
    return JobState.UNKNOWN if found.state is JobState.UNKNOWN else JobState.READY
