"""Files: what a message carries, where it came from, and what became of it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

KINDS = frozenset({"image", "audio", "video", "document", "sticker"})
"""The content kinds that carry a file."""


class Origin(StrEnum):
    """Where the bytes are to be had."""

    PROVIDER = "provider"  # `ref` is the provider's media id
    ROCKETCHAT = "rocketchat"  # `ref` is the path of the file on Rocket.Chat
    URL = "url"  # `ref` is the address a caller gave
    UPLOAD = "upload"  # a caller gave the bytes: stored from the start


class MediaState(StrEnum):
    """Unknown is a value: WAITING may still come."""

    WAITING = "waiting"
    STORED = "stored"
    GONE = "gone"  # the other side has it no more
    REFUSED = "refused"  # too large, not what it says it is, or at an address we do not ask


@dataclass(frozen=True, slots=True)
class Media:
    """One file of one message. `sha256` (hex) names its bytes in the file store once it is STORED; before, it is what
    the provider claimed. `message_id` None: uploaded, not sent yet."""

    id: UUID
    tenant: str
    channel: str
    origin: Origin
    ref: str = field(repr=False)  # a URL may carry its key
    created_at: datetime
    state: MediaState = MediaState.WAITING
    message_id: UUID | None = None
    mime: str | None = None
    name: str | None = None
    size: int | None = None
    sha256: str | None = None
    expires_at: datetime | None = None  # after this the other side has it no more
    stored_at: datetime | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What a fetch put into the file store: `sha256` in hex, `size` in bytes, `mime` as its content says."""

    sha256: str
    size: int
    mime: str
