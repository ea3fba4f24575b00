"""Messages, the parts of an event, statuses: plain values that every path and every kind shares."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flags.stage import Path

ERASED = "erased"
"""The content kind of a message whose words were erased: its row stays, so that no repeat brings it back."""


class Direction(StrEnum):
    """Seen from the clinic."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Status(StrEnum):
    """Where a message stands. `unknown` = the request left and no answer came."""

    QUEUED = "queued"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    REJECTED = "rejected"
    DELIVERED = "delivered"
    READ = "read"
    RECEIVED = "received"  # inbound: it is here


# Providers report out of order, and a `delivered` may follow a `failed`: a status only ever climbs.
RANK = {
    Status.QUEUED: 0,
    Status.UNKNOWN: 1,
    Status.SENT: 2,
    Status.REJECTED: 3,
    Status.FAILED: 3,
    Status.DELIVERED: 4,
    Status.READ: 5,
    Status.RECEIVED: 9,
}


def advance(current: Status, reported: Status) -> Status:
    """The higher of the two: a late `sent` never overwrites `read`."""
    return reported if RANK[reported] > RANK[current] else current


class Author(StrEnum):
    """Whose words an outbound message holds."""

    CONTACT = "contact"
    SYSTEM = "system"  # the clinic's own software, through POST /v1/messages
    HUMAN = "human"  # an attendant: console, the phone, Rocket.Chat
    BOT = "bot"


_CLASS = dict.fromkeys(("text", "button", "interactive"), "text") | dict.fromkeys(
    ("image", "audio", "video", "document", "sticker"), "file"
)


@dataclass(frozen=True, slots=True)
class Content:
    """What was said: `kind` (text, image, reaction, edit, … or unsupported), `text` where there is any,
    `data` the provider's own object, untouched."""

    kind: str
    text: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> bytes:
        """SHA-256 over kind class and trimmed text: what a claim compares (16 bytes). The two sides name files by classes of
        their own (a photo sent as a document, a sticker), and a pressed button is told as its words."""
        basis = f"{_CLASS.get(self.kind, self.kind)}\x00{(self.text or '').strip()}"
        return hashlib.sha256(basis.encode("utf-8", "surrogatepass")).digest()[:16]


@dataclass(frozen=True, slots=True)
class Alias:
    """One address as the provider gave it. `kind`: wa_id, bsuid, rc_visitor, …; `scope`: what it is unique in
    (tenant, channel or portfolio id); `lookup` is compared, `value` is sent to."""

    kind: str
    scope: str
    lookup: str
    value: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is compared by; `value` may be spelled otherwise."""
        return self.kind, self.scope, self.lookup


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a part or a room message speaks of, as the other side names it. `ref`: the provider's media id, or
    Rocket.Chat's path of the file; `sha256` in hex, `size` in bytes, both as claimed."""

    ref: str
    mime: str | None = None
    name: str | None = None
    sha256: str | None = None
    size: int | None = None


class PartType(StrEnum):
    """What a part of an event is; who gets it follows from this and from the pin."""

    MESSAGE = "message"  # message, postback, reaction, edit, delete
    STATUS = "status"
    ECHO = "echo"
    IDENTITY = "identity"  # a number or id changed
    OTHER = "other"  # template_*, account_*, unknown


@dataclass(frozen=True, slots=True)
class Part:
    """One message, status or echo inside an event.

    `ref` is where it stands in the body (a path of keys and indexes joined by "/"), which is all that
    `divide` needs. `address` is the provider's id of the clinic's side (phone_number_id, page, bot).
    `aliases` are the contact's addresses. `callback_data` is what we gave along when we sent.
    """

    ref: str
    type: PartType
    address: str | None = None
    external_id: str | None = None
    aliases: tuple[Alias, ...] = ()
    name: str | None = None
    content: Content | None = None
    sent_at: datetime | None = None
    status: Status | None = None
    error_code: str | None = None
    callback_data: str | None = None
    new_aliases: tuple[Alias, ...] = ()  # IDENTITY: the address from now on
    files: tuple[Attachment, ...] = ()
    billed: str | None = (
        None  # STATUS: the category the provider bills this message under; None: not billable
    )
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One row. `source_id` is Rocket.Chat's `_id`, `external_id` the provider's."""

    id: UUID
    tenant: str
    channel: str
    kind: str
    conversation_id: UUID
    direction: Direction
    author: Author
    content: Content
    status: Status
    path: Path
    created_at: datetime
    sent_at: datetime
    external_id: str | None = None
    source_id: str | None = None
    decision_id: UUID | None = None
    event_id: UUID | None = None
    error_code: str | None = None
    handled_at: datetime | None = None  # inbound: native ingest committed, or the forward answered 2xx
    delivered_at: datetime | None = None
    matched_by: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0  # the store's, given at insert: the only order
