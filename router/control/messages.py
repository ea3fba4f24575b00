"""POST /v1/messages, whole: reading the order, idempotency, queueing; and looking a message up."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from router.control import contents
from router.control.conversations import file_shape, message_shape
from router.control.desk import Desk, every, id_of, stamp
from router.delivery.compose import Order
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.media import Media
from router.domain.message import Author
from router.domain.ports import Answer, Fact, Tx
from router.storage.queries import talk

RECIPIENTS = ("to", "contact_id", "conversation_id", "user_id")
_FIELDS = frozenset({"channel", "metadata", "reply_to", *RECIPIENTS, *contents.READERS})
OURS = ("chunks", "chunk_of", "chunk")
"""What the pieces of a long text are told by in `metadata`: no caller's."""
METADATA_BYTES = 4096
KEY_LENGTH = 255

Body = Mapping[str, Any]


async def send(
    desk: Desk, *, key_id: str, tenant: str | None, idempotency_key: str | None, body: Body, raw: bytes,
    author: Author = Author.SYSTEM,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Queue a message: (202, {id, conversation_id, contact_id, path, status}), with `chunks`, the ids of all, where a
    long text became several.

    `key_id` is the API key's id; with `idempotency_key` the answer is kept for 48 hours with the digest of `raw`, in
    the transaction of the message: the same request gets the same answer and makes nothing, another one with that key
    is Rejected idempotency_conflict (409). `channel` may be left out where `conversation_id` says it. Raises Rejected:
    422 invalid_key, unknown_field, invalid_field, unknown_channel, ambiguous_channel, invalid_recipient, empty,
    too_long, invalid_content, invalid_media, unsupported, not_mapped, window_closed, opted_out; 404
    unknown_conversation, unknown_media, unknown_message; 409 no_room_on_path.
    """
    if idempotency_key is not None and not _usable(idempotency_key):
        raise Rejected("invalid_key", f"Idempotency-Key has 1 to {KEY_LENGTH} printable characters")
    digest = hashlib.sha256(raw).digest()

    async def work(tx: Tx) -> tuple[int, dict[str, Any], list[Fact]]:
        if idempotency_key is not None:
            known = await tx.answered(key_id, idempotency_key)
            if known is not None:
                return *_repeated(known, digest), []
        order = await _order(desk, tx, body, tenant, author)
        message, conversation, facts = await desk.compose.enqueue(tx, order)
        answer: dict[str, Any] = {
            "id": str(message.id),
            "conversation_id": str(conversation.id),
            "contact_id": str(conversation.contact_id),
            "path": message.path.value,
            "status": message.status.value,
        }
        if message.metadata.get("chunks"):
            answer["chunks"] = list(message.metadata["chunks"])
        if idempotency_key is not None:
            await tx.remember(key_id, idempotency_key, Answer(digest, 202, answer))
        return 202, answer, facts

    status, answer, facts = await desk.decided(work, tenant=tenant)
    desk.meter.record(facts)
    return status, answer


def _usable(idempotency_key: str) -> bool:
    return 1 <= len(idempotency_key) <= KEY_LENGTH and idempotency_key.isprintable()


def _repeated(known: Answer, digest: bytes) -> tuple[int, dict[str, Any]]:
    if known.digest != digest:
        raise Rejected("idempotency_conflict", "this Idempotency-Key was used for another request", 409)
    return known.status, dict(known.body)


async def one(desk: Desk, message_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """A message with `tenant`, `channel`, `contact_id`, `decision_id` and `attempts`: [{number, path, pin_version,
    started_at, ended_at, outcome, code}]. Raises Rejected unknown_message (404)."""
    wanted = id_of(message_id, "unknown_message", "message")

    async def work(
        tx: Tx,
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]], Sequence[Media]]:
        return await talk.message(tx, wanted), await talk.attempts(tx, wanted), await tx.media_of(wanted)

    row, attempts, files = await desk.store.transact(work, tenant=tenant)
    if row is None:
        raise Rejected("unknown_message", "no such message", 404)
    return message_shape(row) | {
        "tenant": row["tenant"],
        "channel": row["channel"],
        "contact_id": str(row["contact_id"]),
        "decision_id": str(row["decision_id"]) if row["decision_id"] else None,
        "media": [file_shape(one) for one in files],
        "attempts": [
            {**attempt, "started_at": stamp(attempt["started_at"]), "ended_at": stamp(attempt["ended_at"])}
            for attempt in attempts
        ],
    }


# reading the order -----------------------------------------------------------------------------------------


async def _order(desk: Desk, tx: Tx, body: Body, tenant: str | None, author: Author) -> Order:
    contents.only_known(body, _FIELDS, "the body")
    recipient = _recipient(body)
    if "channel" not in body and "conversation_id" in recipient:
        channel = await _channel_of(desk, tx, recipient["conversation_id"])
    else:
        channel = channel_named(desk, body.get("channel"), tenant)
    metadata = _metadata(body.get("metadata"))
    content = await contents.read(desk, tx, channel, body)
    return Order(channel, content, author=author, metadata=metadata, **recipient)


def _recipient(body: Body) -> dict[str, Any]:
    given = [name for name in RECIPIENTS if body.get(name) is not None]
    if len(given) != 1:
        raise Rejected("invalid_recipient", f"exactly one of {', '.join(RECIPIENTS)} says to whom")
    name = given[0]
    value = body[name]
    if not isinstance(value, str) or not value.strip():
        raise Rejected("invalid_recipient", f"{name} is a text")
    if name == "to":
        return {name: value.strip()}
    try:
        return {name: UUID(value)}
    except ValueError:
        raise Rejected("invalid_recipient", f"{name} is a UUID") from None


def channel_named(desk: Desk, named: Any, tenant: str | None) -> Channel:
    """By slug, else by a kind that the caller's tenant has once. Another tenant's does not exist. Raises Rejected
    unknown_channel, ambiguous_channel."""
    if not isinstance(named, str) or not named:
        raise Rejected("unknown_channel", "channel is a slug or a kind")
    own = [one for one in desk.channels.values() if every(tenant) or one.tenant == tenant]
    found = [one for one in own if one.slug == named] or [one for one in own if one.kind == named]
    if not found:
        raise Rejected("unknown_channel", "there is no such channel")
    if len(found) > 1:
        raise Rejected("ambiguous_channel", f"several channels are of this kind: name one of {_slugs(found)}")
    return found[0]


def _slugs(channels: list[Channel]) -> str:
    return ", ".join(sorted(one.slug for one in channels))


async def _channel_of(desk: Desk, tx: Tx, conversation_id: UUID) -> Channel:
    conversation = await tx.conversation(conversation_id, lock=False)
    channel = desk.channels.get(conversation.channel) if conversation is not None else None
    if channel is None:
        raise Rejected("unknown_conversation", "no such conversation", 404)
    return channel


def _metadata(metadata: Any) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise Rejected("invalid_field", "metadata is a JSON object")
    if contents.deep(metadata):
        raise Rejected("invalid_field", f"metadata is nested deeper than {contents.DEPTH} levels")
    if any(name in metadata for name in OURS):
        raise Rejected("invalid_field", f"metadata: {', '.join(OURS)} are set by the router")
    if len(json.dumps(metadata, ensure_ascii=False).encode("utf-8", "surrogatepass")) > METADATA_BYTES:
        raise Rejected("invalid_field", f"metadata has at most {METADATA_BYTES} bytes")
    return metadata
