"""Answers kept for repeated requests (Idempotency-Key)."""

from router.domain.errors import Conflict
from router.domain.ports import Answer
from router.storage.postgres.base import Base

_KEPT = "48 hours"


class Answers(Base):
    """The idempotency part of Tx. The row belongs to the transaction's tenant."""

    async def answered(self, key_id: str, idempotency_key: str) -> Answer | None:
        row = await self._link.fetchrow(
            "select body_digest, status, answer from idempotency"
            f" where key_id = $1 and idem_key = $2 and created_at > now() - interval '{_KEPT}'",
            key_id, idempotency_key,
        )  # fmt: skip
        return Answer(row["body_digest"], row["status"], row["answer"]) if row else None

    async def remember(self, key_id: str, idempotency_key: str, answer: Answer) -> None:
        kept = await self._link.fetchval(
            "insert into idempotency as i (key_id, idem_key, tenant_id, body_digest, status, answer, created_at)"
            " values ($1, $2, coalesce(nullif(current_setting('figueira.tenant', true), ''), '*'), $3, $4, $5, now())"
            " on conflict (key_id, idem_key) do update set body_digest = excluded.body_digest,"
            " status = excluded.status, answer = excluded.answer, created_at = excluded.created_at"
            f" where i.created_at <= now() - interval '{_KEPT}' returning true",
            key_id, idempotency_key, answer.digest, answer.status, dict(answer.body),
        )  # fmt: skip
        if not kept:
            raise Conflict("another request with this key was first")
