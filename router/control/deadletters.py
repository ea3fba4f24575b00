"""Dead letters: what was given up, looked at and put back to the end of its lanes."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from flags.stage import Path
from router.control import audit
from router.control.desk import Desk, every, id_of, stamp
from router.domain.errors import Rejected
from router.domain.job import EventState, Job, JobKind, JobState
from router.domain.message import Message, Status
from router.domain.ports import Tx
from router.domain.sending import named_by_us
from router.facade import gate_of
from router.storage.queries import talk, work

EVERYTHING = "all"
SPLIT = "split"
"""The `job_kind` of an event that could not be split, so that it made no job."""
UNKNOWN = "unknown"
"""The reason of a send nobody knows the end of: only a person who names it may have it sent again."""
_MOST = 10_000
_ID = ("unknown_dead_letter", "dead letter")
_DROPPED = ("body_dropped", "the received bytes have been dropped: there is nothing to forward or split", 409)

Letter = dict[str, Any]


def shape(desk: Desk, letter: Letter) -> dict[str, Any]:
    """A dead letter as HTTP shows it. `kind` is the channel's, `job_kind` send, forward, place or close_room."""
    job: Job = letter["job"]
    channel = desk.channels.get(letter["channel"])
    return {
        "job_id": str(letter["job_id"]),
        "tenant": letter["tenant"],
        "channel": letter["channel"],
        "kind": channel.kind if channel else None,
        "job_kind": letter["job_kind"],
        "reason": letter["reason"],
        "path": job.path.value if job.path else None,
        "attempts": job.attempts,
        "message_id": str(job.message_id) if job.message_id else None,
        "conversation_id": str(job.conversation_id) if job.conversation_id else None,
        "event_id": str(job.event_id) if job.event_id else None,
        "created_at": stamp(job.created_at),
        "at": stamp(letter["at"]),
        "replayed_at": stamp(letter["replayed_at"]),
    }


async def listing(
    desk: Desk, kind: str | None = None, *, tenant: str | None = None, limit: int = 200
) -> list[dict[str, Any]]:
    """Those that wait for a person, oldest first; of one channel kind when `kind` is given."""
    letters = await desk.store.transact(
        lambda tx: work.dead_letters(tx, _channels(desk, kind), limit), tenant=tenant
    )
    events = await desk.store.transact(
        lambda tx: work.unsplit(tx, _channels(desk, kind), limit), tenant=tenant
    )
    return [*(shape(desk, letter) for letter in letters), *(_event_shape(desk, one) for one in events)]


def _event_shape(desk: Desk, event: Letter) -> dict[str, Any]:
    """An event that could not be split, as a dead letter: its own id stands for the job it never had."""
    channel, nothing = (
        desk.channels.get(event["channel"]),
        ("path", "message_id", "conversation_id", "replayed_at"),
    )
    at, event_id = stamp(event["received_at"]), str(event["id"])
    return dict.fromkeys(nothing) | {
        "job_id": event_id, "tenant": event["tenant"], "channel": event["channel"],
        "kind": channel.kind if channel else None, "job_kind": SPLIT, "reason": event["reason"],
        "attempts": event["tries"], "event_id": event_id, "created_at": at, "at": at,
    }  # fmt: skip


def _channels(desk: Desk, kind: str | None) -> list[str] | None:
    return None if kind is None else [one.slug for one in desk.channels.values() if one.kind == kind]


async def show(desk: Desk, job_id: UUID | str, *, tenant: str | None = None) -> dict[str, Any]:
    """One, with `lanes`, `error`, and the `tries` of its message. Raises Rejected unknown_dead_letter (404)."""
    wanted = id_of(job_id, *_ID)

    event = await desk.store.transact(lambda tx: _unsplit(tx, wanted), tenant=tenant)
    if event is not None:
        return _event_shape(desk, event) | {"lanes": [], "error": event["reason"], "tries": []}

    async def read(tx: Tx) -> tuple[Letter, list[dict[str, Any]]]:
        letter = await _letter(tx, wanted)
        message_id = letter["job"].message_id
        return letter, await talk.attempts(tx, message_id) if message_id else []

    letter, tries = await desk.store.transact(read, tenant=tenant)
    told = [
        {**one, "started_at": stamp(one["started_at"]), "ended_at": stamp(one["ended_at"])} for one in tries
    ]
    return shape(desk, letter) | {
        "lanes": list(letter["job"].lanes),
        "error": letter["job"].error,
        "tries": told,
    }


async def replay(desk: Desk, job_id: UUID | str, *, by: str, tenant: str | None = None) -> int:
    """Put one back, or `all` of them; returns how many. The job is a new one at the end of its lanes, with the
    attempts before it; a send goes by the path its conversation has now.

    `all` leaves what may have reached a customer (`unknown`) and what cannot be done any more. Raises Rejected for one
    that is named: unknown_dead_letter (404), already_replayed, body_dropped, already_sent, channel_removed (409).
    """
    if job_id == EVERYTHING:
        letters = await desk.store.transact(lambda tx: work.dead_letters(tx, None, _MOST), tenant=tenant)
        chosen = [one["job_id"] for one in letters if not _may_have_arrived(one)]
        events = await desk.store.transact(lambda tx: work.unsplit(tx, None, _MOST), tenant=tenant)
        chosen += [one["id"] for one in events]
        return sum([await _replay_if_possible(desk, one, by) for one in chosen])
    wanted = id_of(job_id, *_ID)
    if not every(tenant):
        await desk.store.transact(lambda tx: _seen(tx, wanted), tenant=tenant)
    # The engine's transaction: the event of the job may have come in on another tenant's channel.
    await desk.store.transact(lambda tx: _replay(desk, tx, wanted, by))
    return 1


def _may_have_arrived(letter: Letter) -> bool:
    """Also a send that was refused in the end, when an earlier try of it was never answered."""
    job: Job = letter["job"]
    return letter["reason"] == UNKNOWN or (job.kind is JobKind.SEND and job.uncertain)


async def _replay_if_possible(desk: Desk, job_id: UUID, by: str) -> int:
    try:
        await desk.store.transact(lambda tx: _replay(desk, tx, job_id, by))
    except Rejected:
        return 0
    return 1


async def _letter(tx: Tx, job_id: UUID, *, lock: bool = False) -> Letter:
    letter = await work.dead_letter(tx, job_id, lock=lock)
    if letter is None:
        raise Rejected(_ID[0], "no such dead letter", 404)
    return letter


async def _seen(tx: Tx, wanted: UUID) -> None:
    if await _unsplit(tx, wanted) is None:
        await _letter(tx, wanted)


async def _unsplit(tx: Tx, wanted: UUID) -> Letter | None:
    return next((one for one in await work.unsplit(tx, None, _MOST) if one["id"] == wanted), None)


async def _replay(desk: Desk, tx: Tx, job_id: UUID, by: str) -> None:
    again = await work.split_again(tx, job_id)
    if again is None:
        raise Rejected(*_DROPPED)
    if again:
        await audit.record(desk, tx, act="deadletter.replay", subject=str(job_id), by=by)
        return
    letter = await _letter(tx, job_id, lock=True)
    if letter["replayed_at"] is not None:
        raise Rejected("already_replayed", "this dead letter was replayed already", 409)
    if letter["channel"] not in desk.channels and letter["job"].message_id is not None:
        raise Rejected("channel_removed", "its channel is no longer in the settings", 409)
    now = await tx.now()
    job: Job = replace(
        letter["job"], id=desk.ids.new(), created_at=now, due_at=now, state=JobState.READY, attempts=0, fence=0,
        lease_until=None, error=None, seq=0,
    )  # fmt: skip
    if job.message_id is not None:
        job = await _requeued(desk, tx, job, job.message_id)
    if job.event_id is not None:
        await _reopened(tx, job, job_id)
    await tx.add_job(job)
    await work.mark_replayed(tx, job_id)
    await audit.record(
        desk, tx, act="deadletter.replay", subject=str(job_id), by=by, tenant=job.tenant,
        detail={"job_id": str(job.id), "reason": letter["reason"]},
    )  # fmt: skip


async def _requeued(desk: Desk, tx: Tx, job: Job, message_id: UUID) -> Job:
    """The message waits again; it goes where its conversation is now."""
    conversation = await tx.conversation(job.conversation_id) if job.conversation_id else None
    message = await tx.message(message_id)
    if message is None or message.status not in (Status.FAILED, Status.UNKNOWN, Status.QUEUED):
        raise Rejected("already_sent", "the message has been sent meanwhile", 409)
    path = conversation.path if conversation is not None else message.path
    await tx.save_message(_waiting(desk, message, path))
    pin_version = conversation.pin_version if conversation is not None else job.pin_version
    return replace(job, path=path, pin_version=pin_version, gate=gate_of(path, job.channel), uncertain=False)


def _waiting(desk: Desk, message: Message, path: Path) -> Message:
    source_id = message.source_id
    if source_id is None and named_by_us(message.content, path):
        source_id = desk.ids.rocketchat()
    return replace(message, status=Status.QUEUED, path=path, source_id=source_id, error_code=None)


async def _reopened(tx: Tx, job: Job, letter_id: UUID) -> None:
    """Its event waits again, unless another dead letter keeps it dead."""
    if job.event_id is None or job.event_at is None:
        return
    event = await tx.event(job.event_id, job.event_at)
    if event is None:
        raise Rejected(*_DROPPED)
    if not await work.other_letters(tx, job.event_id, letter_id):
        await tx.mark_split(event, EventState.WAITING)
