"""Attempts, dead letters, breakers."""

from collections.abc import Sequence
from uuid import UUID

from flags.stage import Path
from router.domain.job import Attempt, Breaker, DeadLetter, Outcome
from router.storage.postgres import jobs
from router.storage.postgres.base import FOR_UPDATE, WORK, Base, insert

_COLUMNS = (
    "id", "tenant_id", "message_id", "job_id", "number", "path", "pin_version", "started_at", "ended_at", "outcome",
    "code",
)  # fmt: skip
_INSERT = insert("attempts", _COLUMNS)
_BREAKER = "select gate, failures, opened_at, open_until, reason from breakers where gate = $1"


class Attempts(Base):
    """The rest of the delivery part of Tx."""

    async def add_attempt(self, attempt: Attempt) -> None:
        a = attempt
        await self._link.execute(
            _INSERT, a.id, a.tenant, a.message_id, a.job_id, a.number, a.path, a.pin_version, a.started_at,
            a.ended_at, a.outcome, a.code,
        )  # fmt: skip

    async def end_attempt(self, attempt: Attempt) -> None:
        await self._link.execute(
            "update attempts set ended_at = $3, outcome = $4, code = $5 where started_at = $1 and id = $2",
            attempt.started_at, attempt.id, attempt.ended_at, attempt.outcome, attempt.code,
        )  # fmt: skip

    async def attempts(self, message_id: UUID) -> Sequence[Attempt]:
        rows = await self._link.fetch(
            f"select {', '.join(_COLUMNS)} from attempts where message_id = $1 order by number, started_at",
            message_id,
        )
        return [
            Attempt(
                id=row["id"],
                tenant=row["tenant_id"],
                message_id=row["message_id"],
                job_id=row["job_id"],
                number=row["number"],
                path=Path(row["path"]),
                pin_version=row["pin_version"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                outcome=Outcome(row["outcome"]) if row["outcome"] else None,
                code=row["code"],
            )
            for row in rows
        ]

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        job = letter.job
        await self._link.execute(
            "insert into dead_letters (job_id, tenant_id, channel, kind, reason, at, job)"
            " values ($1, $2, $3, $4, $5, $6, $7)"
            # A job that was replayed may die again.
            " on conflict (job_id) do update set reason = excluded.reason, at = excluded.at, job = excluded.job,"
            " replayed_at = null",
            job.id, job.tenant, job.channel, job.kind, letter.reason, letter.at, jobs.to_document(job),
        )  # fmt: skip

    async def breaker(self, gate: str, *, lock: bool = True) -> Breaker:
        row = await self._link.fetchrow(f"{_BREAKER}{FOR_UPDATE[lock]}", gate)
        if row is None and lock:  # a row to lock, so that two first failures are counted as two
            await self._link.execute("insert into breakers (gate) values ($1) on conflict do nothing", gate)
            row = await self._link.fetchrow(f"{_BREAKER}{FOR_UPDATE[lock]}", gate)
        if row is None:
            return Breaker(gate)
        return Breaker(row["gate"], row["failures"], row["opened_at"], row["open_until"], row["reason"])

    async def save_breaker(self, breaker: Breaker) -> None:
        await self._link.execute(
            "insert into breakers (gate, failures, opened_at, open_until, reason) values ($1, $2, $3, $4, $5)"
            " on conflict (gate) do update set failures = excluded.failures, opened_at = excluded.opened_at,"
            " open_until = excluded.open_until, reason = excluded.reason",
            breaker.gate, breaker.failures, breaker.opened_at, breaker.open_until, breaker.reason,
        )  # fmt: skip
        if breaker.open_until is None:  # what stood behind the gate may go
            self.bells.add(WORK)
