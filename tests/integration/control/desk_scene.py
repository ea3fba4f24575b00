"""A desk over a real database: two tenants, four channels, a kind that knows numbers."""

import hashlib
import itertools
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from flags.local import LocalSource
from flags.stage import Path
from router.control.desk import Desk
from router.delivery.compose import Compose
from router.domain.channel import Channel
from router.domain.conversation import Conversation, Room
from router.domain.errors import Rejected
from router.domain.ids import Ids
from router.domain.job import Event
from router.domain.media import KINDS, Media, MediaState, Origin, Stored
from router.domain.message import Alias, Author, Content, Direction, Message, Status
from router.domain.policy import MIB
from router.domain.ports import Fact, Kind, Parsed, Rules, Tx
from router.facade import Facade
from router.identity import Resolver
from router.storage.flags import PostgresFlagStore
from router.storage.postgres import PostgresStore

SOL, LUA = "clinica-sol", "clinica-lua"
SECRET = {"app_secret": "s"}
CHANNELS = {
    channel.slug: channel
    for channel in (
        Channel("wa-sol", "whatsapp", SOL, native=SECRET, webhook_url="http://rc.invalid/a"),
        Channel("wa-lua", "whatsapp", LUA, native=SECRET, webhook_url="http://rc.invalid/b"),
        Channel("wa-lua-2", "whatsapp", LUA, native=SECRET | {"phone_number_id": "2"}),
        Channel("sms-sol", "sms", SOL),
    )
}
SENDS = KINDS | {"text", "template", "interactive", "location", "contacts", "reaction"}
_numbers = itertools.count(1)


class Numbers:
    """A kind whose addresses are digits."""

    def __init__(self, name: str, window_hours: float | None = None, text_limit: int = 4096) -> None:
        self.name = name
        sends = {"text"} if name == "sms" else SENDS
        self._rules = Rules(sends=frozenset(sends), text_limit=text_limit, window_hours=window_hours)

    def rules(self, channel: Channel) -> Rules:
        return self._rules

    def check(self, channel: Channel, content: Content) -> None:
        if content.kind not in self._rules.sends:
            raise Rejected("unsupported", f"no {content.kind} here")
        if (
            content.kind == "template"
            and content.data["template"]["name"] != content.data["template"]["name"].lower()
        ):
            raise Rejected("invalid_content", "a name in small letters")

    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        return None

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        return True

    def parse(self, channel: Channel, body: bytes) -> Parsed:
        return Parsed(())

    def divide(self, body: bytes, keep: Collection[str]) -> bytes:
        return body

    def resign(
        self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[tuple[bytes, bytes], ...]:
        return tuple(headers)

    def addresses(self, channel: Channel, to: str) -> tuple[Alias, ...]:
        digits = to.removeprefix("+")
        if not digits.isdigit():
            raise Rejected("invalid_recipient", "digits only")
        return (Alias("wa_id", channel.tenant, digits, digits),)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemRandom:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def fraction(self) -> float:
        return 0.5


class MemoryFiles:
    """A file store; what it holds under a digest may be taken away by a test."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        whole = b""
        async for chunk in chunks:
            whole += chunk
            if len(whole) > limit:
                raise Rejected("too_large", "too large", 413)
        if not whole:
            raise Rejected("empty_file", "nothing in it", 422)
        digest = hashlib.sha256(whole).hexdigest()
        self.held[digest] = whole
        return Stored(digest, len(whole), mime_of(whole))

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        if sha256 not in self.held:
            raise LookupError(sha256)
        whole = self.held[sha256]
        for at in range(0, len(whole), 7):
            yield whole[at : at + 7]

    async def delete(self, sha256: str) -> None:
        self.held.pop(sha256, None)


def mime_of(whole: bytes) -> str:
    known = {
        b"\x89PNG": "image/png",
        b"OggS": "audio/ogg",
        b"ftyp": "video/mp4",
        b"%PDF": "application/pdf",
        b"PK": "application/zip",
    }
    found = (mime for head, mime in known.items() if whole.startswith(head))
    return next(found, "application/octet-stream")


class Meter:
    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def record(self, facts: Sequence[Fact]) -> None:
        self.facts += facts


@dataclass(frozen=True)
class Secrets:
    api_key_pepper: bytes = b"p" * 32
    session: bytes = b"s" * 32
    audit: bytes = b"a" * 32
    cohort: bytes = b"c" * 32


async def make_desk(store: PostgresStore) -> Desk:
    """As the composition root puts one together."""
    await store.sync_channels(CHANNELS.values())
    clock, flags = SystemClock(), PostgresFlagStore(store)
    ids = Ids(clock, SystemRandom())
    source = LocalSource(flags)
    await source.refresh()
    facade = Facade(source, ids)
    kinds: dict[str, Kind] = {"whatsapp": Numbers("whatsapp"), "sms": Numbers("sms")}
    compose = Compose(pins=facade, resolver=Resolver(ids, b"c" * 32), ids=ids, kinds=kinds)
    return Desk(
        store=store, flags=flags, facade=facade, compose=compose, channels=CHANNELS, kinds=kinds, ids=ids,
        clock=clock, meter=Meter(), secrets=Secrets(), files=MemoryFiles(), media_limit_bytes=MIB,
    )  # fmt: skip


def told(desk: Desk) -> list[Fact]:
    return cast("Meter", desk.meter).facts


def order(**body: Any) -> dict[str, Any]:
    """The keywords of `messages.send` for a body."""
    return {"body": body, "raw": json.dumps(body).encode()}


async def open_conversation(
    desk: Desk, slug: str = "wa-sol", *, number: str | None = None, room: str | None = "room"
) -> Conversation:
    """Somebody new writes: contact, identity, conversation pinned by the flag, a room when it is Rocket.Chat's."""
    channel, digits = CHANNELS[slug], number or f"55119{next(_numbers):08}"
    resolver = Resolver(desk.ids, b"c" * 32)

    async def work(tx: Tx) -> Conversation:
        aliases = desk.kinds[channel.kind].addresses(channel, digits)
        person = await resolver.resolve(
            tx, channel, aliases, name="Ana", said_at=await tx.now(), origin="native"
        )
        assert person is not None
        conversation, _ = await desk.facade.open(tx, channel, person.contact, person.identity)
        if conversation.path is Path.ROCKETCHAT and room is not None:
            name = f"{room}{digits}"
            await tx.save_room(Room(name, channel.tenant, slug, conversation.id, await tx.now()))
            stored = await tx.conversation(conversation.id)
            assert stored is not None
            await tx.save_conversation(replace(stored, room_id=name))
        return conversation

    return await desk.decided(work)


async def say(desk: Desk, conversation: Conversation, text: str, **fields: Any) -> Message:
    """A row, as ingest writes it."""

    async def work(tx: Tx) -> Message:
        now = await tx.now()
        values: dict[str, Any] = {
            "id": desk.ids.new(), "tenant": conversation.tenant, "channel": conversation.channel,
            "kind": conversation.kind, "conversation_id": conversation.id, "direction": Direction.INBOUND,
            "author": Author.CONTACT, "content": Content("text", text), "status": Status.RECEIVED,
            "path": conversation.path, "created_at": now, "sent_at": now,
        }  # fmt: skip
        return await tx.add_message(Message(**{**values, **fields}))

    return await desk.store.transact(work)


async def keep(
    desk: Desk, message: Message, whole: bytes | None = None, *, state: MediaState = MediaState.WAITING,
    **fields: Any,
) -> Media:  # fmt: skip
    """A file of a message: stored when its bytes are given."""
    stored = await held(desk).save(stream(whole), limit=MIB) if whole is not None else None

    async def work(tx: Tx) -> Media:
        values: dict[str, Any] = {
            "id": desk.ids.new(), "tenant": message.tenant, "channel": message.channel, "origin": Origin.PROVIDER,
            "ref": "secret-ref", "created_at": await tx.now(), "state": state, "message_id": message.id,
        }  # fmt: skip
        if stored is not None:
            values |= {
                "state": MediaState.STORED,
                "sha256": stored.sha256,
                "size": stored.size,
                "mime": stored.mime,
            }
        media = Media(**{**values, **fields})
        await tx.add_media(media)
        return media

    return await desk.store.transact(work)


def held(desk: Desk) -> MemoryFiles:
    return cast("MemoryFiles", desk.files)


async def stream(whole: bytes) -> AsyncIterator[bytes]:
    """A body in one piece."""
    yield whole


async def heard(desk: Desk, conversation: Conversation, at: datetime | None) -> None:
    """When the contact last wrote, as ingest notes it."""

    async def work(tx: Tx) -> None:
        stored = await tx.conversation(conversation.id)
        assert stored is not None
        await tx.save_conversation(replace(stored, heard_at=at))

    await desk.store.transact(work)


def event(slug: str = "wa-sol", body: bytes = b"{}") -> Event:
    return Event(
        id=uuid.uuid4(), tenant=CHANNELS[slug].tenant, channel=slug, received_at=datetime.now(UTC),
        digest=hashlib.sha256(body).digest(), method="POST", raw_path=b"", query=b"", headers=(), body=body,
    )  # fmt: skip
