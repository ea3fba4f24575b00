"""The heart over the memory store, one step at a time: a clock that a test moves, senders that answer as it says."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson

from adapters.native.whatsapp import WhatsApp
from adapters.rocketchat.webhook import Webhook
from flags.ports import Context, Verdict
from flags.stage import Path, Stage
from router.delivery import Compose, Delivery, Order
from router.domain.channel import EVERY_TENANT, RESERVED, Channel
from router.domain.conversation import Conversation
from router.domain.ids import Ids
from router.domain.job import Event, Outcome, Result
from router.domain.media import Media, Stored
from router.domain.message import Content, Message
from router.domain.policy import Policy
from router.domain.ports import Fact, Outbound, Permit, Request, RoomInfo, RoomMessage, Rules, Tx
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms, Sweep
from router.storage.memory import MemoryStore
from tests.simulation.payloads import SECRET, meta, room_event, said, signed

T = TypeVar("T")
ANA = "5511988887777"
OK = Result(Outcome.OK)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Dice:
    def __init__(self) -> None:
        self._count = itertools.count(1)

    def bytes(self, count: int) -> bytes:
        return hashlib.sha256(str(next(self._count)).encode()).digest()[:count]

    def fraction(self) -> float:
        return 0.5


class Flags:
    revision = 1

    def __init__(self) -> None:
        self.stage = Stage.NATIVE

    def evaluate(self, context: Context) -> Verdict:
        return Verdict(self.stage, "base", 1)

    async def refresh(self) -> None:
        """Always the newest."""


class Meter:
    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def record(self, facts: Sequence[Fact]) -> None:
        self.facts += facts


class Way:
    """A sender: `answer` is its result, `meanwhile` runs while the request is under way."""

    def __init__(self, *, idempotent: bool) -> None:
        self.idempotent = idempotent
        self.answer = OK
        self.meanwhile: Callable[[Outbound], Awaitable[None]] | None = None
        self.sent: list[Outbound] = []
        self.marked: list[tuple[str, bool]] = []

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        self.sent.append(outbound)
        if self.meanwhile is not None:
            await self.meanwhile(outbound)
        return self.answer

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:
        self.marked.append((external_id, typing))
        return self.answer


class Cabinet:
    """Files: each fetch and upload is answered as a test says."""

    def __init__(self) -> None:
        self.fetched: list[Media] = []
        self.uploaded: list[tuple[str, Media, str | None]] = []
        self.answer: tuple[Result, Stored | None] = (OK, Stored("ab" * 32, 3, "image/jpeg"))
        self.taken = Result(Outcome.OK, "file-1")

    async def fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        self.fetched.append(media)
        return self.answer

    async def upload(self, path: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        self.uploaded.append((path, media, room_id))
        return self.taken


class Legacy:
    """Rocket.Chat: takes forwards, knows every room as one of `app`; `told` is its own history by room."""

    def __init__(self) -> None:
        self.answer = OK
        self.listed: list[RoomInfo] = []
        self.told: dict[str, list[RoomMessage]] = {}
        self.received: list[Request] = []
        self.closed: list[str] = []

    async def forward(self, channel: Channel, request: Request) -> Result:
        self.received.append(request)
        return self.answer

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        if self.answer.outcome is not Outcome.OK:
            return self.answer, None
        return OK, RoomInfo(room_id, "app", "app", "v1", None, (ANA,))

    async def close_room(self, room_id: str, note: str) -> Result:
        self.closed.append(room_id)
        return self.answer

    async def rooms(
        self, since: datetime | None, offset: int
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        """One room a page."""
        more = offset + 1 < len(self.listed)
        return self.answer, self.listed[offset : offset + 1], offset + 1 if more else None

    async def history(self, room: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        said = self.told.get(room.room_id, [])
        return self.answer, [one for one in said if since is None or (one.sent_at or since) >= since]


class Bell:
    """Waiting moves the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def wait(self, topic: str, seconds: float) -> bool:
        self._clock.seconds += seconds
        return False


class Lenient(WhatsApp):
    """WhatsApp with the rules a test asks for; by default no window and no pace."""

    def __init__(self, **asked: Any) -> None:
        self._asked: dict[str, Any] = {
            "window_hours": None,
            "per_second": None,
            "pair_seconds": None,
            **asked,
        }

    def rules(self, channel: Channel) -> Rules:
        return replace(super().rules(channel), **self._asked)


class Heart:
    """Everything between accept and the wires; `rules` replaces fields of the kind's."""

    def __init__(self, channels: Mapping[str, Channel] | None = None, **rules: Any) -> None:
        self.clock, self.dice, self.flags, self.meter = Clock(), Dice(), Flags(), Meter()
        self.policy = Policy()
        native = {"phone_number_id": "100", "app_secret": SECRET}
        self.channels: dict[str, Channel] = dict(
            channels or {"wa": Channel("wa", "whatsapp", "sol", native, "http://rc.invalid/app")}
        )
        self.store = MemoryStore(self.clock)
        self.ids = Ids(self.clock, self.dice)
        self.facade = Facade(self.flags, self.ids)
        self.native, self.room, self.legacy = Way(idempotent=False), Way(idempotent=True), Legacy()
        resolver, kinds = Resolver(self.ids, b"cohort"), {"whatsapp": Lenient(**rules)}
        rooms = Rooms(
            pins=self.facade, resolver=resolver, ids=self.ids, channels=self.channels,
            webhook=Webhook({"app": "wa"}, self.channels), bot_user_id="bot",
        )  # fmt: skip
        self.files = Cabinet()
        self.ingest = Ingest(
            store=self.store, pins=self.facade, resolver=resolver, ids=self.ids, channels=self.channels,
            kinds=kinds, rooms=rooms, meter=self.meter, policy=self.policy,
        )  # fmt: skip
        self.delivery = Delivery(
            store=self.store, clock=self.clock, random=self.dice, ids=self.ids, channels=self.channels,
            kinds=kinds, forwarder=self.legacy, rocketchat=self.legacy, rooms=rooms, meter=self.meter,
            policy=self.policy, files=self.files, pins=self.facade,
            senders={(Path.NATIVE, "whatsapp"): self.native, (Path.ROCKETCHAT, "whatsapp"): self.room},
        )  # fmt: skip
        self.sweep = Sweep(
            store=self.store, rooms=rooms, rocketchat=self.legacy, meter=self.meter, policy=self.policy,
            pause=Bell(self.clock),
        )  # fmt: skip
        self.compose = Compose(pins=self.facade, resolver=resolver, ids=self.ids, kinds=kinds)

    async def accept(self, body: bytes, slug: str = "wa", **fields: Any) -> None:
        """Store an event and split what waits on its channel."""
        channel = self.channels.get(slug)
        values: dict[str, Any] = {
            "id": self.ids.new(), "tenant": channel.tenant if channel else EVERY_TENANT, "channel": slug,
            "received_at": self.clock.now(), "digest": hashlib.sha256(body).digest(), "method": "POST",
            "raw_path": b"", "query": b"", "headers": signed(body), "body": body,
        }  # fmt: skip
        await self.store.accept(Event(**{**values, **fields}))
        while await self.ingest.split(slug):
            pass

    async def hears(self, text: str, *, wa: str = ANA, slug: str = "wa", **item: Any) -> None:
        """A contact writes; `item` replaces fields of the message object."""
        number = next(self.dice._count)
        at = int(self.clock.now().timestamp())
        field, name, object_ = said(wa, f"wamid.{number}", text, at)
        change = (field, name, {**object_, **item})
        await self.accept(meta(self.channels[slug].address or "", [change], number), slug)

    async def says(self, text: str | Content, *, wa: str = ANA) -> Message:
        """The clinic's software sends."""
        content = text if isinstance(text, Content) else Content("text", text)
        order = Order(self.channels["wa"], content, to=wa)
        message, _, _ = await self.store.transact(lambda tx: self.compose.enqueue(tx, order))
        return message

    async def run(self, *, seconds: float = 0, most: int = 50) -> int:
        """Carry out what is due, then again each second; returns how many claims there were."""
        end, claims = self.clock.seconds + seconds, 0
        while True:
            while claims < most and await self.delivery.step():
                claims += 1
            if self.clock.seconds >= end:
                return claims
            self.clock.seconds += 1

    async def move(self, path: Path) -> None:
        """Move every open conversation."""

        async def work(tx: Tx) -> None:
            for conversation in self.conversations:
                if conversation.open:
                    await self.facade.move(
                        tx, conversation, path, stage=Stage.NATIVE, revision=1, reason="test"
                    )

        await self.store.transact(work)

    @property
    def conversations(self) -> list[Conversation]:
        """As stored."""
        return list(self.store.tables.conversations.values())

    @property
    def messages(self) -> list[Message]:
        """As stored, by seq."""
        return sorted(self.store.tables.messages.values(), key=lambda message: message.seq)

    def told(
        self, room: str, text: str, *, source_id: str = "s1", agent: str | None = None, wa: str = ANA
    ) -> tuple[bytes, str]:
        """Arguments of `accept` for a message in Rocket.Chat's omnichannel webhook."""
        at = self.clock.now().isoformat()
        return room_event("Message", room, wa, source_id, text, agent, at), RESERVED

    def flat(self, **fields: Any) -> tuple[bytes, str]:
        """Arguments of `accept` for Rocket.Chat's flat form."""
        body = {"message_id": "m1", "user": {"id": "u1", "name": "Ana"}, "channel": "wa", "text": "oi"}
        return orjson.dumps({**body, "timestamp": "2026-01-01T00:00:00Z", **fields}), RESERVED
