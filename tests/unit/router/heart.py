"""The heart over the memory store, one step at a time: a clock that a test moves, senders that answer as it says."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from router.domain.message import Content, Message
from router.domain.policy import Policy
from router.domain.ports import Fact, Outbound, Permit, Request, RoomInfo, Tx
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms
from router.storage.memory import MemoryStore
from tests.simulation.payloads import SECRET, meta, said, signed

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

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        self.sent.append(outbound)
        if self.meanwhile is not None:
            await self.meanwhile(outbound)
        return self.answer


class Legacy:
    """Rocket.Chat: takes forwards, knows every room as one of `app`."""

    def __init__(self) -> None:
        self.answer = OK
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


class Heart:
    """Everything between accept and the wires."""

    def __init__(self, channels: Mapping[str, Channel] | None = None) -> None:
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
        resolver, kinds = Resolver(self.ids, b"cohort"), {"whatsapp": WhatsApp()}
        rooms = Rooms(
            pins=self.facade, resolver=resolver, ids=self.ids, channels=self.channels,
            webhook=Webhook({"app": "wa"}, self.channels), bot_user_id="bot",
        )  # fmt: skip
        self.ingest = Ingest(
            store=self.store, pins=self.facade, resolver=resolver, ids=self.ids, channels=self.channels,
            kinds=kinds, rooms=rooms, meter=self.meter, policy=self.policy,
        )  # fmt: skip
        self.delivery = Delivery(
            store=self.store, clock=self.clock, random=self.dice, ids=self.ids, channels=self.channels,
            kinds=kinds, forwarder=self.legacy, rocketchat=self.legacy, rooms=rooms, meter=self.meter,
            policy=self.policy,
            senders={(Path.NATIVE, "whatsapp"): self.native, (Path.ROCKETCHAT, "whatsapp"): self.room},
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

    async def hears(self, text: str, *, wa: str = ANA, slug: str = "wa") -> None:
        """A contact writes."""
        number = next(self.dice._count)
        at = int(self.clock.now().timestamp())
        change = said(wa, f"wamid.{number}", text, at)
        await self.accept(meta(self.channels[slug].address or "", [change], number), slug)

    async def says(self, text: str, *, wa: str = ANA) -> Message:
        """The clinic's software sends."""
        order = Order(self.channels["wa"], Content("text", text), to=wa)
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

    def flat(self, **fields: Any) -> tuple[bytes, str]:
        """Arguments of `accept` for Rocket.Chat's flat form."""
        body = {"message_id": "m1", "user": {"id": "u1", "name": "Ana"}, "channel": "wa", "text": "oi"}
        return orjson.dumps({**body, "timestamp": "2026-01-01T00:00:00Z", **fields}), RESERVED
