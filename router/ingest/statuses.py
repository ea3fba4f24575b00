"""Statuses and echoes: what the provider tells about messages that have left, whoever sent them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Conversation, Identity
from router.domain.job import JobState
from router.domain.message import RANK, Alias, Direction, Message, Part, Status, advance
from router.domain.ports import Fact, Tx

CLAIM_SPAN = timedelta(minutes=10)
"""How far apart two reports of one message may be dated."""

REPORTED = {
    Status.SENT: "sent",
    Status.DELIVERED: "delivered",
    Status.READ: "read",
    Status.FAILED: "failed",
    Status.UNKNOWN: "unknown",
}


async def ours(tx: Tx, channel: Channel, part: Part) -> Message | None:
    """The message a status or echo is about: by the provider's id, else by the callback data we gave along."""
    if part.external_id is not None:
        message = await tx.message_by_external(channel.slug, part.external_id)
        if message is not None:
            return message
    if not part.callback_data:
        return None
    try:
        message_id = UUID(part.callback_data)
    except ValueError:
        return None
    message = await tx.message(message_id)
    # The id came from outside: it counts only on the channel it was sent on.
    return message if message is not None and message.channel == channel.slug else None


async def apply_status(tx: Tx, message: Message, part: Part, at: datetime) -> list[Fact]:
    """Let the status climb, learn the provider's id, and end the send that waited for this evidence."""
    reported = part.status or message.status
    status = advance(message.status, reported)
    changed = replace(
        message,
        status=status,
        external_id=message.external_id or part.external_id,
        error_code=part.error_code if status is Status.FAILED else message.error_code,
        delivered_at=message.delivered_at or (at if RANK[status] >= RANK[Status.DELIVERED] else None),
    )
    if changed != message:
        await tx.save_message(changed)
    if RANK[status] >= RANK[Status.SENT]:
        job = await tx.job_of_message(message.id)
        if job is not None:
            await tx.finish_job(job, JobState.DONE)
    return status_facts(message, changed, at)


def status_facts(before: Message, after: Message, at: datetime) -> list[Fact]:
    """What a change of status counts."""
    facts: list[Fact] = []
    if after.status is not before.status and after.status in REPORTED:
        facts.append(("outcomes_total", 1, (after.kind, after.path, REPORTED[after.status])))
    if after.delivered_at is not None and before.delivered_at is None:
        seconds = max((at - after.created_at).total_seconds(), 0.0)
        facts.append(("delivery_seconds", seconds, (after.kind, after.path)))
    return facts


async def candidate(
    tx: Tx, conversation: Conversation, part: Part, at: datetime, *, by_content: bool
) -> Message | None:
    """The one outbound message that still lacks the provider's id and fits; None when none does, or more than one."""
    rows = await tx.unclaimed(conversation.id, Direction.OUTBOUND, at, CLAIM_SPAN, key="external_id")
    fitting = [row for row in rows if _fits(row, conversation, part, by_content=by_content)]
    left = [row for row in fitting if await has_left(tx, row)]
    return left[0] if len(left) == 1 else None


async def has_left(tx: Tx, row: Message) -> bool:
    """A message that is not waiting any more, or whose request is under way: a report may outrun the answer."""
    if row.status is not Status.QUEUED:
        return True
    tried = await tx.attempts(row.id)
    return bool(tried) and tried[-1].outcome is None


def _fits(row: Message, conversation: Conversation, part: Part, *, by_content: bool) -> bool:
    if row.path is not conversation.path or row.status in (Status.FAILED, Status.REJECTED):
        return False
    if by_content and part.content is not None:
        sure = row.status not in (Status.QUEUED, Status.UNKNOWN)
        # Without words all files say the same: somebody else's is no proof that ours arrived.
        return row.content.digest() == part.content.digest() and (sure or bool(row.content.text))
    # A native send is known by its callback data, and an unknown one must not pass for sent on a stranger's status.
    return row.path is Path.ROCKETCHAT and row.status not in (Status.QUEUED, Status.UNKNOWN)


async def open_conversation_of(tx: Tx, channel: Channel, part: Part) -> Conversation | None:
    """The open conversation of the person a part is about; nothing is made."""
    for _, identity in await _known(tx, channel, part):
        conversation = await tx.open_conversation(channel.slug, identity.id)
        if conversation is not None:
            return conversation
    return None


async def _known(tx: Tx, channel: Channel, part: Part) -> Sequence[tuple[Alias, Identity]]:
    return await tx.identities(channel.tenant, part.aliases) if part.aliases else ()
