"""How a job ends: done, again later, given up; and what its result says about the health of the other side."""

from dataclasses import replace
from datetime import datetime, timedelta

from router.delivery.claim import Claims
from router.domain.job import ROCKETCHAT_GATE, DeadLetter, Job, JobState, Outcome, Result
from router.domain.message import Message, Status, advance
from router.domain.ports import Fact, Tx
from router.domain.sending import backoff, pause, tripped

_NO_SIGN = ("permit", "no_room")
PACED_DEAD = timedelta(days=1)
"""How long a send is put off because the provider says that it is too fast for this recipient."""


class Ends(Claims):
    """What all kinds of jobs share once their result is known."""

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

    async def _breathe(self, tx: Tx, job: Job, result: Result, now: datetime) -> None:
        """Tell the breaker. What was refused on our side, a rate limit or a refused permit says nothing about health; nor
        does Rocket.Chat's refusal of our token, which forwards do not carry: it must not hold what patients write."""
        if result.retry_after is not None or result.outcome is Outcome.PACED or result.code in _NO_SIGN:
            return
        if (
            not result.asked and result.outcome is not Outcome.CHANNEL
        ):  # a missing setting is the channel's illness
            return
        if job.gate == ROCKETCHAT_GATE and result.outcome is Outcome.CHANNEL:
            return
        seen = await tx.breaker(job.gate, lock=False)
        if result.outcome in (Outcome.OK, Outcome.PERMANENT) and not seen.failures:
            return
        await tx.save_breaker(tripped(await tx.breaker(job.gate), result, now, self._policy))

    def _exhausted(self, job: Job, result: Result, now: datetime) -> bool:
        """Tries while the other side is down are not the job's fault: they do not count (see `_again`)."""
        if result.code == "no_room":
            return now - job.created_at >= timedelta(seconds=self._policy.room_wait_seconds)
        if result.outcome is Outcome.PACED:
            return now - job.created_at >= PACED_DEAD
        return result.outcome is not Outcome.CHANNEL and job.attempts >= self._policy.max_attempts

    async def _again(self, tx: Tx, job: Job, result: Result, now: datetime, paced: int = 0) -> None:
        """Later. `paced`: how often in a row the provider has said that it was too fast."""
        shut = (await tx.breaker(job.gate, lock=False)).is_open
        down = shut or result.retry_after is not None or result.code == "permit"
        spared = down or result.outcome in (Outcome.CHANNEL, Outcome.PACED)
        attempts = job.attempts - 1 if spared else job.attempts
        due = now + timedelta(seconds=self._wait(job, result, paced))
        await tx.save_job(
            replace(
                job, state=JobState.READY, due_at=due, lease_until=None, attempts=attempts, error=result.code,
                slot_at=None,
            )
        )  # fmt: skip

    def _wait(self, job: Job, result: Result, paced: int = 0) -> float:
        if result.outcome is Outcome.PACED:
            return pause(paced, self._policy)
        if result.retry_after is not None:
            return result.retry_after
        if result.outcome is Outcome.CHANNEL:
            return self._policy.channel_ill_seconds
        return backoff(max(job.attempts, 1), self._random.fraction(), self._policy)
