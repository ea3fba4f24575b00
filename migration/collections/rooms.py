"""Rooms: with a visitor, of the team, between two."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from migration.collections import Reader, Row
from migration.collections.secrets import without
from migration.collections.values import identifier, inner, json, plain, rest, sound, text, time
from migration.documents import key_of

LIVECHAT: Final = "l"
SECRETS: Final = ("joinCode", "e2eKeyId", "e2eQueue", "usersWaitingForE2EKeys")

clean = without(*SECRETS)

# The last message is a message of its own.
_TAKEN: Final = frozenset(
    (
        "_id",
        "t",
        "ts",
        "_updatedAt",
        "lm",
        "closedAt",
        "open",
        "departmentId",
        "contactId",
        "lastMessage",
        *SECRETS,
    )
)
_BEFORE_SOURCES: Final = ("sms", "email", "facebook")
"""Each of these a field of its rooms, before `source` was noted."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def room(reader: Reader, collection: str, document: Mapping[str, Any], raw: bytes) -> Row:  # noqa: ARG001
    """A row of ROOMS."""
    source_id, kind = key_of(document), text(document, "t")
    created_at, closed_at = time(document, "ts", loose=True), time(document, "closedAt", loose=True)
    active = (created_at, closed_at, time(document, "lm", loose=True))
    livechat = kind == LIVECHAT
    label = _label(document, livechat)
    source = inner(document, "source")
    return (
        source_id,
        kind,
        text(document, label),
        created_at,
        time(document, "_updatedAt", loose=True),
        max((at for at in active if at is not None), default=None),
        closed_at,
        document.get("open") is True if livechat else True,  # closing a livechat room takes `open` away
        identifier(source, "type") or _source_before(document, source),
        identifier(source, "id"),
        identifier(inner(document, "v"), "_id"),
        identifier(inner(document, "servedBy"), "_id"),
        identifier(document, "departmentId"),
        identifier(document, "contactId"),
        _info(reader, document) if livechat else None,
        rest(document, _TAKEN | {label}),
        raw,
    )


def _label(document: Mapping[str, Any], livechat: bool) -> str:
    """`fname` is as people typed it; of a livechat room, the visitor's name."""
    return "fname" if document.get("fname") or livechat else "name"


def _source_before(document: Mapping[str, Any], source: Mapping[str, Any]) -> str | None:
    return None if source else next((name for name in _BEFORE_SOURCES if document.get(name)), None)


def _info(reader: Reader, document: Mapping[str, Any]) -> bytes | None:
    """`RoomInfo` as the resolver needs it, without the token."""
    info = reader.info(plain({name: value for name, value in document.items() if name != "lastMessage"}))
    said_at = info.visitor_said_at
    for phone in info.visitor_phones:
        sound(phone, "v.phone")
    return json({
        "visitor_id": info.visitor_id,
        "token_digest": info.visitor_token_digest,
        "phones": info.visitor_phones,
        "name": info.visitor_name,
        "source_type": info.source_type,
        "source_id": info.source_id,
        "open": info.open,
        "visitor_said_at": (said_at - _EPOCH) // timedelta(milliseconds=1) if said_at else None,
    })  # fmt: skip
