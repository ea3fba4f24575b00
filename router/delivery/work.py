"""Lanes, permits, attempts: how work leaves, and what is done when nobody knows whether it arrived.

The promise, in these words: to customers at most once, to Rocket.Chat at least once, unknown is never re-sent blindly.
A claim commits the lease and, for a send, the attempt row before the request leaves; no transaction is open while it
is under way; the result is written under the fence of the claim, so a worker that was away too long writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flags.stage import Path
from router.delivery.judge import Verdict, backoff, judge_unknown, tripped
from router.domain.channel import Channel
from router.domain.errors import LeaseLost
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
    Result,
)
from router.domain.message import RANK, Message, Status, advance
from router.domain.policy import Policy
from router.domain.ports import (
    Clock,
    Fact,
    Forwarder,
    Kind,
    Meter,
    Outbound,
    Permit,
    Random,
    Request,
    RocketChat,
    RoomInfo,
    RoomIngest,
    Sender,
    Store,
    Tx,
)


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


class Delivery:
    """Carries out lane jobs. `senders` by path and kind; `step` is one job from claim to result."""

    def __init__(
        self, *, store: Store, clock: Clock, random: Random, ids: Ids, channels: Mapping[str, Channel],
        kinds: Mapping[str, Kind], senders: Mapping[tuple[Path, str], Sender], forwarder: Forwarder,
        rocketchat: RocketChat, rooms: RoomIngest, meter: Meter, policy: Policy,
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
        self._meter = meter
        self._policy = policy

    async def step(self) -> bool:
        """Claim one job and carry it out. False: there was nothing to do."""
        claim = await self.claim()
        if claim is None:
            return False
        await self.carry_out(claim)
        return True

    async def claim(self) -> Claim | None:
        """Lease the next job and write its attempt; None when there is none."""
        before = self._clock.monotonic()
        return await self._store.transact(lambda tx: self._claim(tx, before))

    async def carry_out(self, claim: Claim) -> None:
        """The request and its result. Raises nothing for what the other side does."""
        kind = claim.job.kind
        if kind is JobKind.SEND:
            await self._send(claim)
        elif kind is JobKind.FORWARD:
            await self._forward(claim)
        elif kind is JobKind.PLACE:
            await self._place(claim)
        else:
            result = await self._rocketchat.close_room(claim.job.room_id or "", "moved to the new path")
            await self._finish(claim, result)

    # claim -------------------------------------------------------------------------------------------------

    async def _claim(self, tx: Tx, before: float) -> Claim | None:
        found = await tx.claim(self._policy.lease_seconds)
        if found is None:
            return None
        now = await tx.now()
        job = replace(
            found, state=JobState.RUNNING, uncertain=found.uncertain or found.state is JobState.RUNNING
        )
        if not await self._pass_gate(tx, job, now):
            await tx.save_job(
                replace(found, state=_rested(found), lease_until=None, attempts=found.attempts - 1)
            )
            return Claim(
                replace(job, kind=JobKind.SEND), now
            )  # nothing to carry out; look for another gate's job
        if job.uncertain and not found.uncertain:
            await tx.save_job(job)
        if job.kind is JobKind.SEND:
            return await self._claim_send(tx, job, now, before)
        if job.kind is JobKind.FORWARD and job.event_id is not None and job.event_at is not None:
            return Claim(job, now, event=await tx.event(job.event_id, job.event_at))
        return Claim(job, now)

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

    async def _claim_send(self, tx: Tx, job: Job, now: datetime, before: float) -> Claim:
        if job.message_id is None:
            raise ValueError("a SEND job names a message")
        message = await tx.message(job.message_id, lock=False)
        channel = self._channels.get(job.channel)
        if message is None or channel is None or RANK[message.status] >= RANK[Status.SENT]:
            return Claim(job, now)
        tried = await self._close_attempts(tx, await tx.attempts(message.id), now)
        path = job.path or message.path
        verdict = await self._verdict(tx, job, path, tried, now)
        if verdict != Verdict.SEND:
            return Claim(job, now, message=message)
        conversation = await tx.conversation(message.conversation_id, lock=False)
        if conversation is None:
            return Claim(job, now)
        attempt = Attempt(
            self._ids.new(), message.tenant, message.id, job.id, len(tried) + 1, path, job.pin_version, now
        )
        await tx.add_attempt(attempt)
        outbound = Outbound(
            channel, tuple(await tx.aliases(conversation.identity_id)), message.content, str(message.id),
            conversation.room_id, message.source_id,
        )  # fmt: skip
        permit = Permit(message.id, path, job.pin_version, before + self._policy.permit_seconds)
        return Claim(job, now, message=message, attempt=attempt, outbound=outbound, permit=permit)

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
        if not tried or tried[-1].outcome in (Outcome.RETRY, Outcome.CHANNEL):
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

    # send --------------------------------------------------------------------------------------------------

    async def _send(self, claim: Claim) -> None:
        if claim.permit is None or claim.outbound is None or claim.attempt is None:
            await self._store.transact(lambda tx: self._rest(tx, claim))
            return
        sender = self._senders[claim.attempt.path, claim.outbound.channel.kind]
        result = await sender.send(claim.permit, claim.outbound)
        self._meter.record(await self._store.transact(lambda tx: self._sent(tx, claim, result)))

    async def _rest(self, tx: Tx, claim: Claim) -> None:
        """A claim without a request: done already, or unknown and still without evidence."""
        message = await tx.message(claim.job.message_id) if claim.job.message_id else None
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return
        if job.state is not JobState.RUNNING:
            return
        if message is None or RANK[message.status] >= RANK[Status.SENT]:
            await tx.finish_job(job, JobState.DONE)
            return
        now = await tx.now()
        tried = await tx.attempts(message.id)
        verdict = await self._verdict(tx, job, job.path or message.path, tried, now)
        if verdict == Verdict.DEAD:
            await self._give_up(tx, job, message, "unknown", now)
            return
        await tx.save_message(replace(message, status=advance(message.status, Status.UNKNOWN)))
        due = now if verdict == Verdict.SEND else now + timedelta(seconds=self._policy.unknown_again_seconds)
        await tx.save_job(replace(job, state=JobState.UNKNOWN, due_at=due, lease_until=None, uncertain=True))

    async def _sent(self, tx: Tx, claim: Claim, result: Result) -> list[Fact]:
        job, attempt = claim.job, claim.attempt
        if attempt is None or job.message_id is None:
            raise ValueError("a result without its attempt")
        message = await tx.message(job.message_id)
        now = await tx.now()
        await tx.end_attempt(replace(attempt, ended_at=now, outcome=result.outcome, code=result.code))
        kind = message.kind if message is not None else ""
        facts: list[Fact] = [("delivery_attempts_total", 1, (kind, attempt.path, result.outcome))]
        if message is None:
            return facts
        if result.outcome is Outcome.OK:
            facts += await self._learn_sent(tx, message, attempt, result)
        try:
            job = await tx.fenced(job)
        except LeaseLost:
            return facts
        if job.state is JobState.RUNNING:
            await self._breathe(tx, job, result, now)
            facts += await self._after_send(tx, job, message, result, now)
        return facts

    async def _learn_sent(self, tx: Tx, message: Message, attempt: Attempt, result: Result) -> list[Fact]:
        """An OK is true whoever holds the lease now."""
        sent = replace(
            message, status=advance(message.status, Status.SENT), path=attempt.path,
            external_id=message.external_id or result.external_id,
        )  # fmt: skip
        if sent != message:
            await tx.save_message(sent)
        climbed = sent.status is not message.status
        return [("outcomes_total", 1, (sent.kind, sent.path, "sent"))] if climbed else []

    async def _after_send(
        self, tx: Tx, job: Job, message: Message, result: Result, now: datetime
    ) -> list[Fact]:
        if result.outcome is Outcome.OK or RANK[message.status] >= RANK[Status.SENT]:
            await tx.finish_job(job, JobState.DONE)
            return []
        if result.outcome is Outcome.PERMANENT:
            return await self._give_up(tx, job, message, result.code or "permanent", now)
        if result.outcome is Outcome.UNKNOWN:
            await tx.save_message(replace(message, status=advance(message.status, Status.UNKNOWN)))
            due = now + timedelta(seconds=self._policy.unknown_again_seconds)
            if self._senders[job.path or message.path, message.kind].idempotent:
                due = now + timedelta(seconds=self._wait(job, result))
            await tx.save_job(
                replace(job, state=JobState.UNKNOWN, due_at=due, lease_until=None, uncertain=True)
            )
            return [("outcomes_total", 1, (message.kind, job.path or message.path, "unknown"))]
        if self._exhausted(job, result, now):
            return await self._give_up(tx, job, message, result.code or "exhausted", now)
        await self._again(tx, job, result, now)
        return []

    async def _give_up(self, tx: Tx, job: Job, message: Message, reason: str, now: datetime) -> list[Fact]:
        """A dead letter frees its lane. `unknown` stays unknown: a person decides, nobody claims it failed."""
        status = Status.UNKNOWN if reason == "unknown" else Status.FAILED
        failed = replace(message, status=advance(message.status, status), error_code=reason)
        await tx.save_message(failed)
        await tx.add_dead_letter(DeadLetter(job, reason, now))
        await tx.finish_job(job, JobState.DEAD)
        if failed.status is message.status:
            return []
        return [("outcomes_total", 1, (message.kind, job.path or message.path, failed.status))]

    # forward -----------------------------------------------------------------------------------------------

    async def _forward(self, claim: Claim) -> None:
        channel = self._channels.get(claim.job.channel)
        if claim.event is None or channel is None:
            result = Result(Outcome.PERMANENT, code="body_dropped" if channel else "channel_removed")
        else:
            result = await self._forwarder.forward(channel, self._request(channel, claim.job, claim.event))
        await self._finish(claim, result)

    def _request(self, channel: Channel, job: Job, event: Event) -> Request:
        """The received bytes as they are, or divided and signed again."""
        if job.whole:
            return Request(event.method, event.raw_path, event.query, event.headers, event.body)
        kind = self._kinds[channel.kind]
        body = kind.divide(event.body, {share.ref for share in job.shares})
        headers = kind.resign(channel, event.headers, body)
        return Request(event.method, event.raw_path, event.query, headers, body)

    async def _finish(self, claim: Claim, result: Result) -> None:
        self._meter.record(await self._store.transact(lambda tx: self._finished(tx, claim, result)))

    async def _finished(self, tx: Tx, claim: Claim, result: Result) -> list[Fact]:
        """The end of a forward or a closed room: nothing here may be sent twice to a customer, so unknown is a retry."""
        now = await tx.now()
        if result.outcome is Outcome.OK:  # true whoever holds the lease now; messages are locked before their job
            carried = [share.message_id for share in claim.job.shares if share.message_id is not None]
            await tx.mark_handled(carried, now)
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return []
        await self._breathe(tx, job, result, now)
        job = replace(job, uncertain=job.uncertain or result.outcome is Outcome.UNKNOWN)
        if result.outcome is Outcome.OK:
            return await self._done(tx, job, now)
        if result.outcome is Outcome.PERMANENT or self._exhausted(job, result, now):
            return await self._dead(tx, job, result.code or "exhausted", now)
        await self._again(tx, job, result, now)
        held = (await tx.breaker(job.gate, lock=False)).is_open
        return self._forwarded(job, "held" if held else "retry")

    async def _done(self, tx: Tx, job: Job, now: datetime) -> list[Fact]:
        await tx.finish_job(job, JobState.DONE)
        facts = self._forwarded(job, "ok")
        if job.event_id is not None and job.event_at is not None:
            if not await tx.open_jobs(job.event_id):
                await tx.settle_event(job.event_id, job.event_at, EventState.HANDLED)
            seconds = max((now - job.event_at).total_seconds(), 0.0)
            facts.append(("handle_seconds", seconds, (self._channels[job.channel].kind, Path.ROCKETCHAT)))
        return facts

    async def _dead(self, tx: Tx, job: Job, reason: str, now: datetime) -> list[Fact]:
        await tx.add_dead_letter(DeadLetter(job, reason, now))
        await tx.finish_job(job, JobState.DEAD)
        if job.event_id is not None and job.event_at is not None:
            await tx.settle_event(job.event_id, job.event_at, EventState.DEAD)
        return self._forwarded(job, "dead")

    def _forwarded(self, job: Job, outcome: str) -> list[Fact]:
        channel = self._channels.get(job.channel)
        if job.kind is not JobKind.FORWARD or channel is None:
            return []
        return [("forwards_total", 1, (channel.kind, outcome))]

    # place -------------------------------------------------------------------------------------------------

    async def _place(self, claim: Claim) -> None:
        facts = await self._store.transact(lambda tx: self._placed(tx, claim, None))
        if facts is None:
            result, info = await self._rocketchat.room_info(claim.job.room_id or "")
            facts = await self._store.transact(lambda tx: self._placed(tx, claim, info))
            if facts is None:
                facts = await self._store.transact(lambda tx: self._unplaced(tx, claim, result))
        self._meter.record(facts)

    async def _placed(self, tx: Tx, claim: Claim, info: RoomInfo | None) -> Sequence[Fact] | None:
        """None: the room is still not known, nothing was changed."""
        try:
            return await self._rooms.placed(tx, await tx.fenced(claim.job), info)
        except LeaseLost:
            return []

    async def _unplaced(self, tx: Tx, claim: Claim, result: Result) -> list[Fact]:
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return []
        now = await tx.now()
        await self._breathe(tx, job, result, now)
        if result.outcome is Outcome.PERMANENT and job.attempts >= self._policy.max_attempts:
            return await self._dead(tx, job, "no_such_room", now)
        due = now + timedelta(seconds=max(self._policy.place_retry_seconds, result.retry_after or 0))
        error = result.code or "unplaced"
        await tx.save_job(replace(job, state=JobState.READY, due_at=due, lease_until=None, error=error))
        return []

    # common ends -------------------------------------------------------------------------------------------

    async def _breathe(self, tx: Tx, job: Job, result: Result, now: datetime) -> None:
        """Tell the breaker. A rate limit or a refused permit says nothing about health."""
        if result.retry_after is not None or result.code in ("permit", "no_room"):
            return
        seen = await tx.breaker(job.gate, lock=False)
        if result.outcome in (Outcome.OK, Outcome.PERMANENT) and not seen.failures:
            return
        await tx.save_breaker(tripped(await tx.breaker(job.gate), result, now, self._policy))

    def _exhausted(self, job: Job, result: Result, now: datetime) -> bool:
        """Tries while the other side is down are not the job's fault: they do not count (see `_again`)."""
        if result.code == "no_room":
            return now - job.created_at >= timedelta(seconds=self._policy.room_wait_seconds)
        return result.outcome is not Outcome.CHANNEL and job.attempts >= self._policy.max_attempts

    async def _again(self, tx: Tx, job: Job, result: Result, now: datetime) -> None:
        shut = (await tx.breaker(job.gate, lock=False)).is_open
        down = shut or result.retry_after is not None or result.code == "permit"
        attempts = job.attempts - 1 if down or result.outcome is Outcome.CHANNEL else job.attempts
        due = now + timedelta(seconds=self._wait(job, result))
        await tx.save_job(
            replace(
                job, state=JobState.READY, due_at=due, lease_until=None, attempts=attempts, error=result.code
            )
        )

    def _wait(self, job: Job, result: Result) -> float:
        if result.retry_after is not None:
            return result.retry_after
        return backoff(max(job.attempts, 1), self._random.fraction(), self._policy)


def _rested(found: Job) -> JobState:
    return JobState.UNKNOWN if found.state is JobState.UNKNOWN else JobState.READY
