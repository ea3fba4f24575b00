"""Lanes, attempts, breakers, answers, paces, duties."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from router.domain.errors import Conflict, LeaseLost
from router.domain.job import (
    Attempt,
    Breaker,
    DeadLetter,
    Job,
    JobKind,
    JobState,
    closing_lane,
    inbound_lane,
    outbound_lane,
)
from router.domain.ports import Answer, Duty
from router.storage.memory.base import Base, Held


# ruff: noqa: ARG002 - the signatures are the port's; what only PostgreSQL needs is not used here
class Lanes(Base):
    """The delivery part of Tx."""

    async def add_job(self, job: Job) -> Job:
        job = replace(job, seq=self._next_seq())
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
        jobs = (job for job in self._unfinished() if job.kind is JobKind.SEND)
        return next((job for job in jobs if job.message_id == message_id), None)

    async def jobs_of_conversation(self, conversation_id: UUID) -> Sequence[Job]:
        theirs = {lane(conversation_id) for lane in (inbound_lane, outbound_lane, closing_lane)}
        return [job for job in self._unfinished() if not theirs.isdisjoint(job.lanes)]

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

    # pace and duties ---------------------------------------------------------------------------------------

    async def reserve(
        self, key: str, interval: timedelta, burst: int, *, after: datetime | None = None
    ) -> datetime:
        first = max(self._now, after or self._now)
        if not interval:
            return first
        tat = max(self._t.paces.get(key, first), first) + interval
        self._set(self._t.paces, key, tat)
        return max(first, tat - interval * burst)

    async def take_duty(self, name: str, owner: UUID, lease: timedelta) -> Duty | None:
        held = self._t.duties.get(name, Held())
        leased = held.lease_until is not None and held.lease_until > self._now and held.owner != owner
        if leased or (held.rest_until is not None and held.rest_until > self._now):
            return None
        self._set(self._t.duties, name, Held(owner, self._now + lease, mark=held.mark))
        return Duty(name, held.mark)

    async def end_duty(self, name: str, owner: UUID, mark: datetime | None, rest: timedelta) -> None:
        held = self._t.duties.get(name, Held())
        if held.owner == owner:
            ended = Held(rest_until=self._now + rest, mark=mark if mark is not None else held.mark)
            self._set(self._t.duties, name, ended)
