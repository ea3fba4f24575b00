"""Lanes, permits, attempts: how work leaves, and what is done when nobody knows whether it arrived.

The promise, in these words: to customers at most once, to Rocket.Chat at least once, unknown is never re-sent blindly.
A claim commits the lease and, for a send, the attempt row before the request leaves; no transaction is open while it
is under way; the result is written under the fence of the claim, so a worker that was away too long writes nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from flags.stage import Path
from router.delivery.claim import Claim
from router.delivery.files import Transfers
from router.domain.channel import Channel
from router.domain.errors import LeaseLost
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
from router.domain.media import KINDS
from router.domain.message import RANK, Message, Status, advance
from router.domain.ports import (
    Fact,
    Request,
    RoomInfo,
    Tx,
)
from router.domain.sending import Verdict, upload_target

MOVED_NOTE = "Atendimento transferido para o novo canal da clínica."
"""What agents read in the room that a move closes."""


MARK_KEEPS = timedelta(minutes=10)
"""How long a read mark is worth telling."""


class Delivery(Transfers):
    """Carries out lane jobs. `senders` by path and kind; `step` is one job from claim to result."""

    async def step(self) -> bool:
        """Claim one job and carry it out. False: there was nothing to do."""
        claim = await self.claim()
        if claim is None:
            return False
        await self.carry_out(claim)
        return True

    async def postpone(self, claim: Claim, seconds: float) -> None:
        """Give a claimed transfer back: this process has enough of them under way."""

        async def work(tx: Tx) -> None:
            with suppress(LeaseLost):
                job = await tx.fenced(claim.job)
                due = await tx.now() + timedelta(seconds=seconds)
                await tx.save_job(
                    replace(
                        job, state=JobState.READY, due_at=due, lease_until=None, attempts=job.attempts - 1
                    )
                )

        await self._store.transact(work)

    async def carry_out(self, claim: Claim) -> None:
        """The request and its result. Raises nothing for what the other side does."""
        kind = claim.job.kind
        if kind is JobKind.SEND:
            await self._send(claim)
        elif kind is JobKind.FORWARD:
            await self._forward(claim)
        elif kind is JobKind.PLACE:
            await self._place(claim)
        elif kind is JobKind.FETCH:
            await self._fetch(claim)
        elif kind is JobKind.CLOSE_ROOM:
            await self._finish(claim, await self._rocketchat.close_room(claim.job.room_id or "", MOVED_NOTE))
        else:
            await self._mark(claim)

    # send --------------------------------------------------------------------------------------------------

    async def _send(self, claim: Claim) -> None:
        if claim.media is not None:
            await self._prepare(claim)
            return
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
        if job.channel not in self._channels:
            await self._give_up(tx, job, message, "channel_removed", now)
            return
        tried = await tx.attempts(message.id)
        if claim.refused is not None:
            # What may have arrived did not fail: nobody knows, and it does not go again.
            unsure = any(one.outcome is Outcome.UNKNOWN and one.job_id == job.id for one in tried)
            await self._give_up(tx, job, message, "unknown" if unsure else claim.refused, now)
            return
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
            # A status that outran the answer has ended the job: the probe must still open its gate.
            if result.outcome is Outcome.OK:
                await self._breathe(tx, job, result, now)
            return facts
        if job.state is JobState.RUNNING:
            await self._breathe(tx, job, result, now)
            facts += await self._after_send(tx, job, message, result, now)
        return facts

    async def _learn_sent(self, tx: Tx, message: Message, attempt: Attempt, result: Result) -> list[Fact]:
        """An OK is true whoever holds the lease now, and also when an echo that outran it was taken for a human turn and
        has the provider's id: without this the send would stay unknown, and go again."""
        learned = message.external_id or result.external_id
        owner = await tx.message_by_external(message.channel, learned) if learned is not None else None
        if owner is not None and owner.id != message.id:
            learned = message.external_id
        sent = replace(
            message, status=advance(message.status, Status.SENT), path=attempt.path, external_id=learned
        )
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
            await self._forget_upload(tx, job, message, now)
            return await self._give_up(tx, job, message, result.code or "permanent", now)
        if result.outcome is Outcome.UNKNOWN:
            return await self._unsure(tx, job, message, result, now)
        if self._exhausted(job, result, now):
            return await self._give_up(tx, job, message, result.code or "exhausted", now)
        paced = 0
        if result.outcome is Outcome.PACED:
            for attempt in reversed(await tx.attempts(message.id)):
                if attempt.outcome is not Outcome.PACED:
                    break
                paced += 1
        await self._again(tx, job, result, now, paced)
        return []

    async def _forget_upload(self, tx: Tx, job: Job, message: Message, now: datetime) -> None:
        """A refused file may be refused for the name it has there: the next message gives it anew."""
        for media in await tx.media_of(message.id) if message.content.kind in KINDS else ():
            target = upload_target(
                job.path or message.path, self._channels[job.channel], job.room_id, message.id
            )
            if media.sha256 is not None and await tx.uploaded(job.channel, target, media.sha256):
                await tx.save_upload(job.channel, target, media.sha256, "", now)

    async def _unsure(self, tx: Tx, job: Job, message: Message, result: Result, now: datetime) -> list[Fact]:
        """It left and nobody knows. Where a repeat is harmless it goes again, but not for ever while others arrive."""
        path, attempts, seconds = job.path or message.path, job.attempts, self._policy.unknown_again_seconds
        if self._senders[path, message.kind].idempotent:
            if self._exhausted(job, result, now):
                return await self._give_up(tx, job, message, "unknown", now)
            seconds = self._wait(job, result)
            attempts -= (await tx.breaker(job.gate, lock=False)).is_open
        await tx.save_message(replace(message, status=advance(message.status, Status.UNKNOWN)))
        due = now + timedelta(seconds=seconds)
        await tx.save_job(
            replace(
                job, state=JobState.UNKNOWN, due_at=due, lease_until=None, uncertain=True, attempts=attempts,
                slot_at=None,
            )
        )  # fmt: skip
        return [("outcomes_total", 1, (message.kind, path, "unknown"))]

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
        if (
            result.outcome is Outcome.OK
        ):  # true whoever holds the lease now; messages are locked before their job
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

    # marks --------------------------------------------------------------------------------------------------

    async def _mark(self, claim: Claim) -> None:
        """A read mark is a courtesy: it is tried for a while, and never becomes a dead letter."""
        job = claim.job
        channel = self._channels.get(job.channel)
        message = None
        if job.message_id is not None:
            message_id = job.message_id
            message = await self._store.transact(lambda tx: tx.message(message_id, lock=False))
        result = Result(Outcome.PERMANENT, code="nothing_to_mark", asked=False)
        if channel is not None and message is not None and message.external_id is not None:
            sender = self._senders[Path.NATIVE, channel.kind]
            typing = job.kind is JobKind.TYPING
            result = await sender.mark(channel, message.external_id, typing=typing)
        await self._store.transact(lambda tx: self._marked(tx, claim, result))

    async def _marked(self, tx: Tx, claim: Claim, result: Result) -> None:
        try:
            job = await tx.fenced(claim.job)
        except LeaseLost:
            return
        now = await tx.now()
        # It says nothing to the breaker: what nobody waits for must not hold a message.
        if result.outcome in (Outcome.OK, Outcome.PERMANENT) or now - job.created_at > MARK_KEEPS:
            await tx.finish_job(job, JobState.DONE)
        else:
            await self._again(tx, job, result, now)

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
