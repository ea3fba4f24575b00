"""A livechat room as rooms.info and livechat/rooms write it."""

import hashlib
from collections.abc import Mapping
from typing import Any

from adapters.payload import identifier, items, mapping, moment, text
from router.domain.ports import RoomInfo


def room_info(room: Mapping[str, Any]) -> RoomInfo:
    """A room with an `_id`."""
    source, visitor = mapping(room.get("source")), mapping(room.get("v"))
    livechat = room.get("t") == "l"
    moments = (moment(room.get(name)) for name in ("lm", "closedAt", "_updatedAt"))
    return RoomInfo(
        room_id=str(identifier(room.get("_id"))),
        source_type=text(source.get("type")),
        source_id=identifier(source.get("id")),
        visitor_id=identifier(visitor.get("_id")),
        visitor_token_digest=token_digest(visitor.get("token")),
        visitor_phones=phones(visitor.get("phone")),
        visitor_name=text(visitor.get("name")) or text(room.get("fname")),
        open=room.get("open") is True if livechat else True,  # a closed livechat room has no `open` at all
        visitor_token=text(visitor.get("token")),
        active_at=max((at for at in moments if at is not None), default=None),
        visitor_said_at=moment(visitor.get("lastMessageTs")),
    )


def token_digest(token: Any) -> str | None:
    """SHA-256 of a visitor's token, in hex: what is kept of it."""
    written = text(token)
    return hashlib.sha256(written.encode()).hexdigest() if written else None


def phones(value: Any) -> tuple[str, ...]:
    """A visitor's phones: [{phoneNumber}], [string], a string, or nothing."""
    several = items(value) or [value]
    found = (identifier(mapping(one).get("phoneNumber")) or identifier(one) for one in several)
    return tuple(dict.fromkeys(phone for phone in found if phone))
