"""The edges: what kinds translate, what leaves, what Rocket.Chat tells and is asked."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from router.domain.channel import Channel
from router.domain.job import Result
from router.domain.media import Media, Stored
from router.domain.message import Alias, Attachment, Content, Part


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as it goes to Rocket.Chat. `raw_path` is appended to the endpoint's own path."""

    method: str
    raw_path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an adapter saw in a body. `malformed`: not the provider's shape at all; kept, counted, never an error."""

    parts: tuple[Part, ...]
    malformed: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one message on one path. Minted in the transaction that wrote the attempt; a transport
    refuses it on another path or after `expires` (monotonic seconds of the minting process)."""

    message_id: UUID
    path: str
    pin_version: int
    expires: float


@dataclass(frozen=True, slots=True)
class Outbound:
    """A message ready to leave. `callback_data` comes back in the provider's statuses; `source_id` is the `_id`
    Rocket.Chat is to use."""

    channel: Channel
    to: tuple[Alias, ...]
    content: Content
    callback_data: str
    room_id: str | None = None
    source_id: str | None = None
    media: Media | None = None
    file_id: str | None = None  # what the receiving side calls the uploaded file
    context_id: str | None = (
        None  # the message this one answers or reacts to: the provider's id, or Rocket.Chat's
    )
    repeat: bool = False  # an earlier try may have arrived: where it can be looked up, look first


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind asks of every send on a channel. `measure` counts as the provider counts; rates are the provider's:
    `per_second` for the whole address, one in `pair_seconds` to the same person after a burst of `pair_burst`."""

    sends: frozenset[str] = frozenset({"text"})
    text_limit: int = 4096
    measure: Callable[[str], int] = len
    window_hours: float | None = None  # None: may be written to at any time
    outside_window: frozenset[str] = frozenset({"template"})
    per_second: float | None = None
    pair_seconds: float | None = None
    pair_burst: int = 1
    media_days: float = 7.0  # how long the provider keeps a file it told of
    upload_days: float = 29.0  # how long an uploaded file's id serves


class Kind(Protocol):
    """The native edge of one channel kind: pure translation, no network."""

    name: str

    def rules(self, channel: Channel) -> Rules:
        """Windows, limits, rates."""
        ...

    def check(self, channel: Channel, content: Content) -> None:
        """Raises Rejected (`unsupported`, `invalid_content`) for what could never be sent natively."""
        ...

    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        """The provider's verification GET: the text to echo, or None to refuse."""
        ...

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """The provider's signature over the raw bytes, in constant time."""
        ...

    def parse(self, channel: Channel, body: bytes) -> Parsed:
        """Total: never raises; what it does not know is PartType.OTHER."""
        ...

    def divide(self, body: bytes, keep: Collection[str]) -> bytes:
        """The same envelope holding only the parts whose `ref` is in `keep`."""
        ...

    def resign(
        self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[tuple[bytes, bytes], ...]:
        """The same headers with every signature made anew over `body`."""
        ...

    def addresses(self, channel: Channel, to: str) -> tuple[Alias, ...]:
        """How a caller's `to` is looked up and written to. Raises Rejected when it is no address of this kind."""
        ...


class Sender(Protocol):
    """One way out. Implementations translate every failure into a Result and raise nothing."""

    idempotent: bool
    """True when sending again with the same id cannot make a second message."""

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        """Refuses (Outcome.RETRY, code "permit") a permit of another path or one that has run out."""
        ...

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:
        """Mark an inbound message (and all before it) as read; `typing`: also show that somebody writes."""
        ...


class Forwarder(Protocol):
    """Gives an event to Rocket.Chat."""

    async def forward(self, channel: Channel, request: Request) -> Result:
        """OK on 2xx. Never raises."""
        ...


class Files(Protocol):
    """Files in and out; their bytes go through the file store, never through the heart. Both may be repeated."""

    async def fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        """Bring a file into the file store. PERMANENT: "gone", or refused: "too_large", "hash", "address", "type"."""
        ...

    async def upload(self, path: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        """Give a stored file to the provider, or to Rocket.Chat for a room; `external_id` is its id there."""
        ...


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """A message as Rocket.Chat reports it. `by_agent` False = the visitor."""

    source_id: str
    by_agent: bool
    author_id: str | None
    content: Content
    sent_at: datetime | None
    edited: bool = False
    closing: bool = False
    files: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """One call of Rocket.Chat's webhooks. `type`: message, start, queued, taken, forwarded, close, edit, lead,
    offline, unknown. `channel` is set by the flat form only (a slug or a kind)."""

    type: str
    room_id: str | None
    visitor_id: str | None = None
    visitor_aliases: tuple[Alias, ...] = ()  # scope and tenant filled in once the channel is known
    visitor_name: str | None = None
    messages: tuple[RoomMessage, ...] = ()
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """What rooms.info and livechat/rooms say of a livechat room. The visitor's token is the customer's password: it
    opens the room's history and stands in no log, no row, no repr."""

    room_id: str
    source_type: str | None
    source_id: str | None
    visitor_id: str | None = None
    visitor_token_digest: str | None = None
    visitor_phones: tuple[str, ...] = ()
    visitor_name: str | None = None
    open: bool = True
    visitor_token: str | None = field(default=None, repr=False)
    active_at: datetime | None = None  # its last message, closing or change
    visitor_said_at: datetime | None = None  # when the visitor last wrote


class RoomWebhook(Protocol):
    """Rocket.Chat's webhooks, read: pure translation, no network."""

    def parse(self, body: bytes) -> Sequence[RoomEvent] | None:
        """Total; None: not a body of Rocket.Chat's at all."""
        ...

    def aliases(self, channel: Channel, event: RoomEvent | RoomInfo) -> tuple[Alias, ...]:
        """How the visitor of an event or a room is known on the channel, best key first; never empty."""
        ...

    def place(self, info: RoomInfo) -> str | None:
        """The slug of the channel a room belongs to; None: no mapping for its source."""
        ...


class RocketChat(Protocol):
    """Rocket.Chat's REST, as far as the heart needs it."""

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        """None with Outcome.PERMANENT: there is no such room."""
        ...

    async def close_room(self, room_id: str, note: str) -> Result:
        """OK also when it was closed already."""
        ...

    async def rooms(
        self, since: datetime | None, offset: int
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        """A page of livechat rooms: the open ones, and with `since` also those closed after it. The offset of the next
        page; None: this was the last."""
        ...

    async def history(self, room: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        """All messages of a room said after `since`, oldest first (closing messages too)."""
        ...
