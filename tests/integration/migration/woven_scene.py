"""A database with an archive in it, and everything that looks into the same conversations: live, sweep, import."""

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from adapters.rocketchat.webhook import Webhook
from flags.stage import Stage
from migration.weave import Weave, Woven
from migration.weave.claims import Claims
from migration.weave.places import Places
from router.domain.channel import Channel
from router.domain.ids import Ids
from router.domain.job import Event
from router.domain.message import Content
from router.domain.policy import Policy
from router.domain.ports import RoomInfo, RoomMessage
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms
from router.storage.postgres import PostgresStore
from tests.simulation.payloads import SECRET, meta, said, signed
from tests.unit.router.heart import ANA, Clock, Dice, Flags, Lenient, Meter

Record = asyncpg.Record
BEGAN = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


class Now(Clock):
    """The heart's clock beside a server that has its own."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Scene:
    store: PostgresStore
    link: "asyncpg.Connection[Record]"
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        clock, dice, flags = Now(), Dice(), Flags()
        flags.stage = Stage.ROCKETCHAT
        native = {"phone_number_id": "100", "app_secret": SECRET}
        self.channels = {"wa": Channel("wa", "whatsapp", "sol", native, "http://rc.invalid/app")}
        self.sources = {"app": "wa"}
        self.ids = Ids(clock, dice)
        pins, self.resolver = Facade(flags, self.ids), Resolver(self.ids, b"cohort")
        self.webhook = Webhook(self.sources, self.channels)
        self.places = Places(self.webhook, self.channels)
        parts: dict[str, Any] = {
            "pins": pins, "resolver": self.resolver, "ids": self.ids, "channels": self.channels,
            "webhook": self.webhook, "bot_user_id": "bot",
        }  # fmt: skip
        self.rooms = Rooms(**parts)
        self.weaver = Weave(
            store=self.store, resolver=self.resolver, claims=Claims(**parts), webhook=self.webhook,
            places=self.places, ids=self.ids, bot_user_id="bot",
        )  # fmt: skip
        self.ingest = Ingest(
            store=self.store, pins=pins, resolver=self.resolver, ids=self.ids, channels=self.channels,
            kinds={"whatsapp": Lenient()}, rooms=self.rooms, meter=Meter(), policy=Policy(),
        )  # fmt: skip

    # ---- what the archive holds

    async def room(self, room_id: str = "room-1", **columns: Any) -> None:
        told = {"visitor_id": "v1", "phones": [ANA], "name": "Ana"} | columns.pop("info", {})
        row = {
            "source_id": room_id, "source_type": "app", "source_ref": "app", "kind": "l", "created_at": BEGAN, "updated_at": BEGAN, "active_at": BEGAN + timedelta(hours=1),
            "closed_at": BEGAN + timedelta(hours=1), "open": False, "visitor_id": told["visitor_id"],
            "info": json.dumps(told), "raw": b"room",
        } | columns  # fmt: skip
        if row["open"]:
            row["closed_at"] = None
        await self._put("archive_rooms", row)

    async def message(
        self, source_id: str, minute: float = 0, text: str | None = "oi", **columns: Any
    ) -> None:
        row = {
            "source_id": source_id, "room_id": "room-1", "sent_at": BEGAN + timedelta(minutes=minute), "author_id": "v1",
            "visitor": True, "content_kind": "text", "text": text, "hidden": False, "raw": source_id.encode(),
        } | columns  # fmt: skip
        for name in ("files", "extra"):
            if row.get(name) is not None:
                row[name] = json.dumps(row[name])
        await self._put("archive_messages", row)
        await self.link.execute("update archive_rooms set woven = false where source_id = $1", row["room_id"])

    async def _put(self, table: str, row: dict[str, Any]) -> None:
        names, key = list(row), "source_id"
        marks = ", ".join(f"${place}" for place in range(1, len(names) + 1))
        changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
        await self.link.execute(
            f"insert into {table} ({', '.join(names)}) values ({marks}) on conflict ({key}) do update set {changes}",  # noqa: S608 - our own names
            *row.values(),
        )

    async def weave(self) -> Woven:
        return await self.weaver.run()

    # ---- what live traffic does

    async def hears(self, text: str, at: datetime) -> None:
        """The patient writes: the provider's event, split."""
        number = next(self.numbers)
        body = meta("100", [said(ANA, f"wamid.in{number}", text, int(at.timestamp()))], number)
        await self.post(body)

    async def post(self, body: bytes, channel: str = "wa") -> None:
        event = Event(
            id=self.ids.new(), tenant="sol", channel=channel, received_at=datetime.now(UTC),
            digest=hashlib.sha256(body).digest(), method="POST", raw_path=b"", query=b"", headers=signed(body), body=body,
        )  # fmt: skip
        await self.store.accept(event)
        while await self.store.waiting_channels():
            await self.ingest.split(channel)

    async def swept(self, info: RoomInfo, *said: RoomMessage) -> None:
        await self.store.transact(lambda tx: self.rooms.swept(tx, info, said))

    # ---- what is there

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.link.fetch(statement, *arguments)]

    async def messages(self) -> list[dict[str, Any]]:
        return await self.rows("select * from messages order by sent_at, source_id")


def report(source_id: str, text: str, at: datetime, *, by_agent: bool = False) -> RoomMessage:
    return RoomMessage(source_id, by_agent, "agent" if by_agent else "v1", Content("text", text), at)
