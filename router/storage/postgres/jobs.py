"""Jobs as rows and as JSON (a dead letter keeps the whole job)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from flags.stage import Path
from router.domain.job import Job, JobKind, JobState, Share

COLUMNS = (
    "id", "tenant_id", "channel", "kind", "lanes", "gate", "created_at", "due_at", "event_id", "event_at",
    "message_id", "conversation_id", "room_id", "path", "pin_version", "shares", "whole", "state", "attempts", "fence",
    "lease_until", "uncertain", "error", "media_id", "slot_at",
)  # fmt: skip


def _text(value: UUID | datetime | None) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _uuid(value: str | None) -> UUID | None:
    return UUID(value) if value else None


def _at(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def values(job: Job) -> tuple[object, ...]:
    """In the order of COLUMNS."""
    return (
        job.id, job.tenant, job.channel, job.kind, list(job.lanes), job.gate, job.created_at, job.due_at,
        job.event_id, job.event_at, job.message_id, job.conversation_id, job.room_id, job.path, job.pin_version,
        _shares(job), job.whole, job.state, job.attempts, job.fence, job.lease_until, job.uncertain, job.error,
        job.media_id, job.slot_at,
    )  # fmt: skip


def _shares(job: Job) -> list[list[str | None]]:
    return [[share.ref, _text(share.conversation_id), _text(share.message_id)] for share in job.shares]


def from_row(row: Mapping[str, Any]) -> Job:
    """A job from a row of `jobs`."""
    return Job(
        id=row["id"],
        tenant=row["tenant_id"],
        channel=row["channel"],
        kind=JobKind(row["kind"]),
        lanes=tuple(row["lanes"]),
        gate=row["gate"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        event_id=row["event_id"],
        event_at=row["event_at"],
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
        room_id=row["room_id"],
        path=Path(row["path"]) if row["path"] else None,
        pin_version=row["pin_version"],
        shares=tuple(Share(ref, _uuid(about), _uuid(message)) for ref, about, message in row["shares"]),
        whole=row["whole"],
        state=JobState(row["state"]),
        attempts=row["attempts"],
        fence=row["fence"],
        lease_until=row["lease_until"],
        uncertain=row["uncertain"],
        error=row["error"],
        media_id=row["media_id"],
        slot_at=row["slot_at"],
        seq=row["seq"],
    )


_UUIDS = ("id", "event_id", "message_id", "conversation_id", "media_id")
_TIMES = ("created_at", "due_at", "event_at", "lease_until", "slot_at")


def to_document(job: Job) -> dict[str, Any]:
    """A job as JSON, as dead_letters.job holds it."""
    document = {**dict(zip(COLUMNS, values(job), strict=True)), "seq": job.seq}
    for name in (*_UUIDS, *_TIMES):
        document[name] = _text(getattr(job, name))
    return document


def from_document(document: Mapping[str, Any]) -> Job:
    """The way back. A document of an older version lacks the fields that came later."""
    row = dict(document)
    row.update({name: _uuid(row.get(name)) for name in _UUIDS})
    row.update({name: _at(row.get(name)) for name in _TIMES})
    return from_row(row)
