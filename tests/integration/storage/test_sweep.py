"""The sweep on the real server, beside what patients and the provider report at the same time."""

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from adapters.rocketchat.webhook import Webhook
from flags.stage import Stage
from router.domain.channel import Channel
from router.domain.errors import Conflict
from router.domain.ids import Ids
from router.domain.job import Event
from router.domain.message import Content
from router.domain.policy import Policy
from router.domain.ports import Fact, RoomInfo, RoomMessage, Tx
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms, Sweep
from router.storage.postgres import PostgresStore
from tests.simulation.payloads import SECRET, meta, said, signed, status
from tests.unit.router.heart import ANA, Bell, Clock, Dice, Flags, Legacy, Lenient, Meter

pytestmark = pytest.mark.postgres

BIA = "5511977776666"
LONG = 500
"""Messages of a long room: ten transactions of a sweep."""


class Now(Clock):
    """The heart's clock beside a server that has its own."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Watched:
    """Ingest and sweep over one database; `begun` is set when the sweep writes its first room."""

    store: PostgresStore
    legacy: Legacy = field(default_factory=Legacy)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        clock, dice, flags = Now(), Dice(), Flags()
        flags.stage = Stage.ROCKETCHAT
        native = {"phone_number_id": "100", "app_secret": SECRET}
        self.channels = {"wa": Channel("wa", "whatsapp", "sol", native, "http://rc.invalid/app")}
        self.ids, self.numbers = Ids(clock, dice), itertools.count(1)
        pins, resolver = Facade(flags, self.ids), Resolver(self.ids, b"cohort")
        rooms = Noticed(
            pins=pins, resolver=resolver, ids=self.ids, channels=self.channels,
            webhook=Webhook({"app": "wa"}, self.channels), bot_user_id="bot",
        )  # fmt: skip
        rooms.begun = self.begun
        self.ingest = Ingest(
            store=self.store, pins=pins, resolver=resolver, ids=self.ids, channels=self.channels,
            kinds={"whatsapp": Lenient()}, rooms=rooms, meter=Meter(), policy=Policy(),
        )  # fmt: skip
        self.sweep = Sweep(
            store=self.store, rooms=rooms, rocketchat=self.legacy, meter=Meter(), policy=Policy(),
            pause=Bell(clock),
        )  # fmt: skip

    async def post(self, body: bytes) -> None:
        """Store an event of the provider's."""
        event = Event(
            id=self.ids.new(), tenant="sol", channel="wa", received_at=datetime.now(UTC),
            digest=hashlib.sha256(body).digest(), method="POST", raw_path=b"", query=b"", headers=signed(body),
            body=body,
        )  # fmt: skip
        await self.store.accept(event)

    async def settle(self) -> None:
        """Split until nothing waits: another splitter may have the channel."""
        while await self.store.waiting_channels():
            if not await self.ingest.split("wa"):
                await asyncio.sleep(0.01)

    async def hears(self, wa: str, text: str) -> None:
        number, at = next(self.numbers), int(datetime.now(UTC).timestamp())
        await self.post(meta("100", [said(wa, f"wamid.in{number}", text, at)], number))
        await self.settle()

    def tells(self, count: int) -> None:
        """Ana's room, in which agents and she have said so much."""
        now = datetime.now(UTC)
        self.legacy.listed = [RoomInfo("room-1", "app", "app", "v1", None, (ANA,), "Ana", active_at=now)]
        self.legacy.told["room-1"] = [
            RoomMessage(
                f"m{number}", bool(number % 2), "agent1" if number % 2 else "v1",
                Content("text", f"palavra {number}"), now + timedelta(milliseconds=number),
            )
            for number in range(count)
        ]  # fmt: skip


class Noticed(Rooms):
    """Says when the sweep writes."""

    begun: asyncio.Event

    async def swept(self, tx: Tx, info: RoomInfo, said: Sequence[RoomMessage]) -> list[Fact] | None:
        facts = await super().swept(tx, info, said)
        self.begun.set()  # its locks are held until the transaction ends
        return facts


@pytest.fixture
async def watched(postgres_store: PostgresStore) -> Watched:
    made = Watched(postgres_store)
    await postgres_store.sync_channels(made.channels.values())
    return made


@pytest.mark.parametrize("writes_on", [ANA, BIA])
async def test_a_long_room_stalls_neither_its_patient_nor_another(watched: Watched, writes_on: str) -> None:
    """Ana writes while her room is swept, and so her channel waits; it waits for a part of the room, not for all."""
    for wa in (ANA, BIA):
        await watched.hears(wa, "oi")
    watched.tells(LONG)
    sweeping = asyncio.create_task(watched.sweep.run(None))
    await watched.begun.wait()
    others = [asyncio.create_task(watched.hears(ANA, "oi?"))] if writes_on == BIA else []
    await watched.hears(writes_on, "emergência")
    assert not sweeping.done()
    await asyncio.gather(*others)
    found = await sweeping
    assert (found.added, found.complete) == (LONG, True)


async def test_a_sweep_and_a_webhook_of_the_same_person_do_not_lock_each_other_out(
    watched: Watched, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook brings a status, then a message: it locks a row, then the conversation. A sweep locks the conversation,
    then looks at each row of its room."""
    await watched.hears(ANA, "oi")
    watched.tells(200)
    watched.legacy.told["room-1"] = [
        replace(one, by_agent=True, author_id="agent1") for one in watched.legacy.told["room-1"]
    ]
    await watched.sweep.run(None)
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    await link.execute(
        "update messages set external_id = 'wamid.' || source_id where source_id like 'm%'",
    )
    await link.execute(
        "insert into message_keys (key, channel, value, tenant_id, message_id, created_at) select 'external', 'wa',"
        " external_id, tenant_id, id, created_at from messages where source_id like 'm%'"
    )
    await link.close()
    deadlocks: list[str] = []
    once = watched.store._once

    async def counted(work: object, tenant: str | None) -> object:
        nonlocal deadlocks
        try:
            return await once(work, tenant)  # type: ignore[arg-type]
        except Conflict as conflict:
            deadlocks += [str(conflict)] if "Deadlock" in str(conflict) else []
            raise

    monkeypatch.setattr(watched.store, "_once", counted)

    async def reports() -> None:
        for number in range(40):
            at = int(datetime.now(UTC).timestamp())
            delivered = status(ANA, f"wamid.m{199 - number}", "delivered", at, None)
            await watched.post(
                meta("100", [delivered, said(ANA, f"wamid.on{number}", "oi", at)], 1000 + number)
            )
            await watched.settle()

    reporting = asyncio.create_task(reports())
    try:
        while not reporting.done() and not deadlocks:
            await watched.sweep.run(None)
        assert not deadlocks
        await reporting
    finally:
        reporting.cancel()
