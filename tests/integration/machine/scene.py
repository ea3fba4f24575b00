"""The heart as the simulation builds it, over the real PostgreSQL store, and the acts both tests need."""

import hashlib
import random
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import asyncpg

from adapters.rocketchat.webhook import Webhook
from flags.ports import Context, Verdict
from flags.stage import Path, Stage
from router.delivery import Compose, Delivery, Order
from router.domain.channel import EVERY_TENANT
from router.domain.errors import Rejected, StaleFlags
from router.domain.ids import Ids
from router.domain.job import Event, EventState
from router.domain.message import Content
from router.domain.policy import Policy
from router.domain.ports import Tx
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms
from router.storage import tables
from router.storage.memory import Tables
from router.storage.postgres import PostgresStore, codec, jobs
from router.storage.postgres.conversations import _conversation
from router.storage.postgres.messages import _SELECT, _message
from tests.integration.machine.outside import (
    CHANNELS,
    Answer,
    Clock,
    Gate,
    MachineForwarder,
    MachineRocketChat,
    MachineSender,
    Mail,
    NoFiles,
    Outside,
    headers_of,
)
from tests.simulation.invariants import RULELESS, violations
from tests.simulation.kernel import Dice
from tests.simulation.world import APPS, Tally, World

POLICY = Policy(split_batch=3)
ROUNDS = 60
_PASS = (
    """update jobs set due_at = due_at - $1::interval, lease_until = lease_until - $1::interval,
        created_at = created_at - $1::interval""",
    "update breakers set opened_at = opened_at - $1::interval, open_until = open_until - $1::interval",
    "update attempts set started_at = started_at - $1::interval, ended_at = ended_at - $1::interval",
    "update channels set last_status_at = last_status_at - $1::interval",
)
# `blocked` is kept by every change of a lane; this is what it means.
_BLOCKED = """
select count(*) from jobs j where j.blocked <> (
    select count(*) from (select distinct lane from unnest(j.lanes) lane) own
    where exists (select from lane_jobs p where p.lane = own.lane and p.seq < j.seq))
"""
_ENTRIES = """
select (select count(*) from lane_jobs) - (select count(*) from jobs j, lateral (
    select distinct lane from unnest(j.lanes) lane) own join lane_jobs e on e.lane = own.lane
    where e.job_id = j.id and e.seq = j.seq)
"""
_RUNNING = """
select count(*) from (select lane from lane_jobs e join jobs j on j.id = e.job_id where j.state <> 'ready'
    group by lane having count(*) > 1) twice
"""


class WatchedStore(PostgresStore):
    """Notes when splitting an event raised: the heart never should."""

    raised: list[str]

    async def fail_split(self, event: Event, error: str) -> None:
        self.raised.append(error)
        await super().fail_split(event, error)


class SceneFlags:
    """A process' view of the flags: the revision it loaded last."""

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        self.revision = 0

    def evaluate(self, context: Context) -> Verdict:
        """Share by the first byte of the cohort."""
        stage, percent = self._scene.revisions[self.revision]
        if stage is not Stage.CANARY:
            return Verdict(stage, "base", self.revision)
        inside = int((context.contact_id or "f")[:2], 16) * 100 < percent * 256
        return Verdict(*((stage, "share") if inside else (Stage.ROCKETCHAT, "base")), self.revision)

    async def refresh(self) -> None:
        self.revision = len(self._scene.revisions) - 1


class Process:
    """A worker or web with flags of its own, perhaps old ones."""

    def __init__(self, scene: "Scene") -> None:
        outside, store = scene.outside, scene.store
        dice = Dice(random.Random(7))
        self.ids = Ids(scene.clock, scene.random)
        self.flags = SceneFlags(scene)
        self.facade = Facade(self.flags, self.ids)
        resolver, kinds = Resolver(self.ids, b"cohort"), {"whatsapp": outside.kind}
        rooms = Rooms(
            pins=self.facade, resolver=resolver, ids=self.ids, channels=CHANNELS, webhook=Webhook(APPS, CHANNELS),
            bot_user_id="bot",
        )  # fmt: skip
        self.ingest = Ingest(
            store=store, pins=self.facade, resolver=resolver, ids=self.ids, channels=CHANNELS, kinds=kinds,
            rooms=rooms, meter=scene.tally, policy=POLICY,
        )  # fmt: skip
        self.delivery = Delivery(
            store=store, clock=scene.clock, random=dice, ids=self.ids, channels=CHANNELS, kinds=kinds,
            senders={(path, "whatsapp"): MachineSender(outside, path) for path in Path},
            forwarder=MachineForwarder(outside), rocketchat=MachineRocketChat(outside), rooms=rooms,
            pins=self.facade, files=NoFiles(), meter=scene.tally, policy=POLICY,
        )  # fmt: skip
        self.compose = Compose(pins=self.facade, resolver=resolver, ids=self.ids, kinds=kinds)


class Scene:
    """One database, emptied at each `begin`. `admin` is a superuser's: it lets time pass and looks."""

    def __init__(self, store: WatchedStore, admin: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.store = store
        self.admin = admin
        self.random = Dice(random.Random(11))

    @classmethod
    async def open(cls, dsn: str, admin_dsn: str) -> "Scene":
        store = await WatchedStore.open(dsn, tombstone_key=b"t" * 32)
        admin = await asyncpg.create_pool(admin_dsn, min_size=1, max_size=3, init=codec.prepare)
        return cls(store, admin)

    async def close(self) -> None:
        await self.admin.close()
        await self.store.close()

    async def begin(self, processes: int) -> None:
        """Nothing has happened yet."""
        for table in reversed(tables.metadata.sorted_tables):
            await self.admin.execute(str(table.delete()))
        await self.store.sync_channels(CHANNELS.values())
        self.store.raised = []
        self.clock, self.tally = Clock(), Tally()
        self.outside = Outside(self.clock)
        self.revisions: list[tuple[Stage, int]] = [(Stage.ROCKETCHAT, 0)]
        self.processes = [Process(self) for _ in range(processes)]

    # acts --------------------------------------------------------------------------------------------------

    async def post(self, mail: Mail) -> None:
        """Accepted: the poster posts again until it is."""
        outside = self.outside
        for one in mail.heard:
            one.posted_at = outside.tick() if one.posted_at < 0 else one.posted_at
        tenant = EVERY_TENANT if mail.from_rocketchat else CHANNELS[mail.slug].tenant
        event = Event(
            self.processes[0].ids.new(), tenant, mail.slug, self.clock.now(), hashlib.sha256(mail.body).digest(),
            "POST", b"", b"", headers_of(mail), mail.body,
        )  # fmt: skip
        await self.store.accept(event)
        for one in mail.heard:
            one.answered_at = outside.tick() if one.answered_at < 0 else one.answered_at
        outside.posted.append(mail)

    async def post_mail(self, *, statuses_only: bool = False) -> None:
        """What the outside still owes us."""
        outside = self.outside
        going = [mail for mail in outside.mail if not (statuses_only and mail.from_rocketchat)]
        outside.mail = [mail for mail in outside.mail if mail not in going]
        for mail in going:
            await self.post(mail)

    async def send(self, process: Process, slug: str, wa: str) -> None:
        """POST /v1/messages, as far as the heart goes."""
        text = self.outside.fresh("answer ")
        order = Order(CHANNELS[slug], Content("text", text), to=wa)
        for _ in range(2):
            try:
                await self.store.transact(lambda tx: process.compose.enqueue(tx, order))
                self.outside.record.asked[text] = wa
            except StaleFlags:
                await process.facade.refresh()
                continue
            except Rejected:
                pass
            return

    async def flip(self, stage: Stage, percent: int, *, floor: bool) -> None:
        """A new revision; with `floor`, nothing may be decided with an older one."""
        self.revisions.append((stage, percent))
        if floor:
            await self.admin.execute(
                "insert into flag_floors (kind, revision) values ('whatsapp', $1)"
                " on conflict (kind) do update set revision = excluded.revision",
                len(self.revisions) - 1,
            )

    async def open_conversations(self) -> Sequence[UUID]:
        rows = await self.admin.fetch(
            "select id from conversations where closed_at is null order by opened_at, id"
        )
        return [row["id"] for row in rows]

    async def move(self, process: Process, which: UUID, path: Path) -> None:
        async def work(tx: Tx) -> None:
            conversation = await tx.conversation(which)
            if conversation is not None and conversation.open:
                await process.facade.move(
                    tx,
                    conversation,
                    path,
                    stage=Stage.CANARY,
                    revision=process.flags.revision,
                    reason="machine",
                )

        await self.store.transact(work)

    async def close_conversation(self, process: Process, which: UUID) -> None:
        async def work(tx: Tx) -> None:
            conversation = await tx.conversation(which)
            if conversation is not None:
                await process.facade.close(tx, conversation, "api")

        await self.store.transact(work)

    async def split(self, process: Process, slug: str) -> int:
        return await process.ingest.split(slug)

    async def step(self, process: Process, answer: Answer) -> bool:
        """Claim a job and carry it out."""
        self.outside.answer = answer
        try:
            return await process.delivery.step()
        finally:
            self.outside.answer = Answer.OK

    def hold_next(self, *, after_acting: bool) -> Gate:
        """The next request stops half way."""
        self.outside.gate = Gate(after_acting)
        return self.outside.gate

    async def pass_time(self, seconds: float) -> None:
        """Everything stored lies that much further back. The provider keeps its word: statuses come within a minute."""
        if seconds >= 60:
            await self.post_mail(statuses_only=True)
        self.clock.passed += seconds
        async with self.admin.acquire() as link, link.transaction():
            for statement in _PASS:
                await link.execute(statement, timedelta(seconds=seconds))

    # judgement ---------------------------------------------------------------------------------------------

    async def drain(self) -> list[str]:
        """All is well outside from now on; [] when nothing waits in the end."""
        process = self.processes[0]
        await process.facade.refresh()
        for turn in range(ROUNDS):
            await self.post_mail()
            for slug in await self.store.waiting_channels():
                while await self.split(process, slug):
                    pass
            while await self.step(process, Answer.OK):
                pass
            busy = await self.admin.fetchval(
                "select (select count(*) from jobs) + (select count(*) from events where not split)"
            )
            if not busy and not self.outside.mail:
                return []
            await self.pass_time(31 if turn < ROUNDS // 2 else 301)
        rows = await self.admin.fetch("select kind, state, error, blocked from jobs order by seq limit 5")
        return [f"something waits for ever: {[tuple(row) for row in rows]}"]

    async def job(self, which: UUID) -> dict[str, Any] | None:
        """A job's row."""
        row = await self.admin.fetchrow("select * from jobs where id = $1", which)
        return dict(row) if row else None

    async def lanes(self) -> list[str]:
        """What must hold of the lanes at every moment."""
        found = []
        for said, query in (
            ("jobs whose `blocked` is wrong", _BLOCKED),
            ("lane entries without their job", _ENTRIES),
            ("lanes with two started jobs", _RUNNING),
        ):
            count = await self.admin.fetchval(query)
            if count:
                found.append(f"{count} {said}")
        return found

    async def violations(self) -> list[str]:
        """The simulation's invariants, over what PostgreSQL holds."""
        found = Tables()
        found.messages = {row["id"]: _message(row) for row in await self.admin.fetch(_SELECT)}
        found.conversations = {
            row["id"]: _conversation(row) for row in await self.admin.fetch("select * from conversations")
        }
        decisions = await self.admin.fetch("select * from decisions order by pin_version")
        for row in decisions:
            made = cast(Any, SimpleNamespace(pin_version=row["pin_version"], path=Path(row["path"])))
            before = found.decisions.get(row["conversation_id"], ())
            found.decisions[row["conversation_id"]] = (*before, made)
        for row in await self.admin.fetch("select id, state from events"):
            found.events[row["id"]] = cast(Any, SimpleNamespace(state=EventState(row["state"])))
        for row in await self.admin.fetch("select channel, digest from event_digests"):
            found.digests[row["channel"], row["digest"]] = UUID(int=0)
        for row in await self.admin.fetch("select job from dead_letters"):
            job = jobs.from_document(row["job"])
            found.dead_letters[job.id] = cast(Any, SimpleNamespace(job=job))
        world = SimpleNamespace(
            store=SimpleNamespace(tables=found), record=self.outside.record, histories={}, forgotten=set()
        )
        raised = [f"splitting raised {error}" for error in self.store.raised]
        return [*raised, *violations(cast(World, world), RULELESS)]
