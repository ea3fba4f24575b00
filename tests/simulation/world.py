"""The simulated outside and the processes: provider, Rocket.Chat, patients, webs, workers; faults are drawn by the seed.

The world keeps its own record of what customers and Rocket.Chat received. The invariants are judged by that record.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from adapters.native.whatsapp import WhatsApp
from adapters.rocketchat import webhook
from flags.ports import Context, Verdict
from flags.stage import Path, Stage
from router.delivery import Compose, Delivery
from router.domain.channel import EVERY_TENANT, RESERVED, Channel
from router.domain.errors import Unavailable
from router.domain.ids import Ids
from router.domain.job import Event, Outcome, Result
from router.domain.media import Media, Origin, Stored
from router.domain.message import Alias, Content, PartType
from router.domain.policy import Policy
from router.domain.ports import Fact, Outbound, Permit, Request, RoomEvent, RoomInfo, RoomMessage, Rules, Tx
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Ingest, Rooms, Sweep
from router.storage.memory import MemoryStore
from router.worker import Worker
from tests.simulation.kernel import Clock, Dice, Kernel, Wait
from tests.simulation.payloads import SECRET, echo, meta, pictured, room_event, said, signed, status

T = TypeVar("T")
PHONES = {"wa": "100", "wb": "200"}
APPS = {"app-wa": "wa", "app-wb": "wb"}
REQUEST_TIMEOUT = 15.0
REFUSALS = (
    Result(Outcome.PERMANENT, code="131047"),
    Result(Outcome.CHANNEL, code="190"),
    Result(Outcome.RETRY, code="130429", retry_after=2.0),
    Result(Outcome.PACED, code="131056"),
)
POLL_SECONDS = 3.0
"""Longer than in production: a run has fewer steps in which nothing happens."""


@dataclass(slots=True)
class Said:
    """One thing a contact said, as the provider knows it."""

    wamid: str
    slug: str
    wa: str
    text: str
    file: str = ""  # the provider's id of a picture
    posted_at: float = -1.0
    answered_at: float = -1.0
    detour: bool = False  # posted to the other number's address


@dataclass(slots=True)
class Faults:
    """What is broken just now."""

    rocketchat_down: bool = False
    provider_down: bool = False
    slow: bool = False
    lost_answers: float = 0.0
    lost_requests: float = 0.0
    lost_rings: float = 0.0
    lost_room_events: float = 0.0
    unmapped: bool = False  # nobody has said yet which channel Rocket.Chat's rooms belong to
    refusals: float = 0.0  # the provider refuses: the message, the rate, or the whole account


class SimFlags:
    """A process' view of the flags: one of the world's revisions, perhaps an old one."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._revision = 0

    @property
    def revision(self) -> int:
        """As FlagSource.revision."""
        return self._revision

    def evaluate(self, context: Context) -> Verdict:
        """Share by the first byte of the cohort, as sticky as the real one."""
        stage, percent = self._world.revisions[self._revision]
        if stage is Stage.CANARY:
            inside = int((context.contact_id or "f")[:2], 16) * 100 < percent * 256
            return Verdict(
                Stage.CANARY if inside else Stage.ROCKETCHAT, "share" if inside else "base", self._revision
            )
        return Verdict(stage, "base", self._revision)

    async def refresh(self) -> None:
        """As FlagSource.refresh."""
        await self._world.kernel.pause()
        self._revision = len(self._world.revisions) - 1


class SimStore:
    """The memory twin with a chance to be interrupted before and after each commit; rings the doorbell."""

    def __init__(self, world: "World", inner: MemoryStore) -> None:
        self._world = world
        self.inner = inner

    async def accept(self, event: Event) -> bool:
        """As Store.accept."""
        await self._world.kernel.pause(0, 0.01)
        stored = await self.inner.accept(event)
        self._world.ring("split")
        await self._world.kernel.pause(0, 0.01)
        return stored

    async def waiting_channels(self) -> Sequence[str]:
        """As Store.waiting_channels."""
        await self._world.kernel.pause(0, 0.01)
        return await self.inner.waiting_channels()

    async def fail_split(self, event: Event, error: str) -> None:
        """As Store.fail_split."""
        self._world.broken.append(f"splitting raised {error}")
        await self.inner.fail_split(event, error)

    async def transact(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:
        """As Store.transact."""
        await self._world.kernel.pause(0, 0.01)
        result = await self.inner.transact(work, tenant=tenant)
        self._world.ring("work")
        await self._world.kernel.pause(0, 0.01)
        return result


@dataclass(slots=True)
class Bell:
    """The doorbell port: rings may be lost, late or repeated."""

    world: "World"

    async def wait(self, topic: str, seconds: float) -> bool:
        """As Doorbell.wait."""
        await Wait(self.world.kernel.seconds + seconds, topic)
        return True


class Tally:
    """The meter port."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[str, ...]], float] = {}

    def record(self, facts: Any) -> None:
        """As Meter.record."""
        fact: Fact
        for fact in facts:
            key = (fact[0], tuple(str(label) for label in fact[2]))
            self.counts[key] = self.counts.get(key, 0) + fact[1]


class SimSender:
    """A way out: the native provider, or Rocket.Chat with its own ids."""

    def __init__(self, world: "World", path: Path, process: str) -> None:
        self._world = world
        self._path = path
        self._process = process
        self.idempotent = path is Path.ROCKETCHAT

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        """As Sender.send. The permit is looked at in the very step in which the request leaves."""
        world = self._world
        await world.kernel.pause(
            0, 25 if world.chance(0.02) else 0.05
        )  # a worker may be held up before it sends
        if permit.path != self._path or world.kernel.monotonic() > permit.expires:
            return Result(Outcome.RETRY, code="permit")
        if self._path is Path.ROCKETCHAT and outbound.room_id is None:
            return Result(Outcome.RETRY, code="no_room")
        if not self.idempotent and world.chance(world.faults.refusals):
            return world.kernel.dice.choice(REFUSALS)
        if outbound.content.kind == "image" and outbound.file_id not in world.files_of(self._path, outbound):
            world.broken.append(
                f"{outbound.content.text!r} left with a file nobody has there: {outbound.file_id}"
            )
        down = world.faults.rocketchat_down if self.idempotent else world.faults.provider_down
        act = world.rocketchat_sends if self.idempotent else world.provider_sends
        return await world.over_the_network(down, lambda: act(outbound))

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:
        """As Sender.mark."""
        await self._world.kernel.pause()
        return await self._world.over_the_network(
            self._world.faults.provider_down, lambda: Result(Outcome.OK)
        )


class SimFiles:
    """Files: the provider has those it told of, both sides keep what they are given."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        """As Files.fetch. A lost answer is asked for again."""
        world = self._world
        down = world.faults.provider_down if media.origin is Origin.PROVIDER else world.faults.rocketchat_down
        result = await world.over_the_network(down, lambda: Result(Outcome.OK))
        if result.outcome is not Outcome.OK:
            return Result(Outcome.RETRY, code="again"), None
        if media.origin is Origin.PROVIDER and media.ref in world.forgotten:
            return Result(Outcome.PERMANENT, code="gone"), None
        return result, Stored(hashlib.sha256(media.ref.encode()).hexdigest(), 9, "image/jpeg")

    async def upload(self, path: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        """As Files.upload."""
        world = self._world
        side = room_id if path == Path.ROCKETCHAT else channel.slug
        file_id = world.fresh("file")
        world.uploads.setdefault(side or "", set()).add(file_id)
        down = world.faults.rocketchat_down if path == Path.ROCKETCHAT else world.faults.provider_down
        result = await world.over_the_network(down, lambda: Result(Outcome.OK, file_id))
        return result if result.outcome is Outcome.OK else Result(Outcome.RETRY, code="again")


class SimForwarder:
    """Gives an event to the simulated Rocket.Chat."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def forward(self, channel: Channel, request: Request) -> Result:
        """As Forwarder.forward."""
        world = self._world
        await world.kernel.pause()
        result = await world.over_the_network(
            world.faults.rocketchat_down, lambda: world.rocketchat_receives(channel, request)
        )
        if result.outcome is Outcome.UNKNOWN:
            world.excuse(request.body, channel.slug)
        return result


class SimRocketChat:
    """Rocket.Chat's REST."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        """As RocketChat.room_info."""
        world = self._world
        await world.kernel.pause()
        if world.faults.rocketchat_down:
            return Result(Outcome.RETRY, code="connect"), None
        slug, wa = world.room_owner[room_id]
        app = next(app for app, owner in APPS.items() if owner == slug)
        return Result(Outcome.OK), RoomInfo(room_id, "app", app, "v" + wa, None, (wa,))

    async def close_room(self, room_id: str, note: str) -> Result:
        """As RocketChat.close_room."""
        world = self._world
        await world.kernel.pause()
        if world.faults.rocketchat_down:
            return Result(Outcome.RETRY, code="connect")
        world.close_room(room_id)
        return Result(Outcome.OK)

    async def rooms(
        self, since: datetime | None, offset: int
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        """As RocketChat.rooms: two a page."""
        world = self._world
        await world.kernel.pause()
        if world.faults.rocketchat_down:
            return Result(Outcome.RETRY, code="connect"), (), None
        wanted = [room for room in world.room_owner if world.is_open(room) or since is not None]
        page = [world.told_of(room) for room in wanted[offset : offset + 2]]
        return Result(Outcome.OK), page, offset + 2 if offset + 2 < len(wanted) else None

    async def history(self, room: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        """As RocketChat.history."""
        world = self._world
        await world.kernel.pause()
        if world.faults.rocketchat_down or world.chance(0.1):
            limited = Result(Outcome.RETRY, code="error-too-many-requests", retry_after=3.0)
            return (Result(Outcome.RETRY, code="connect") if world.faults.rocketchat_down else limited), ()
        said = world.histories.get(room.room_id, [])
        return Result(Outcome.OK), [one for one in said if since is None or (one.sent_at or since) >= since]


class SimWebhook:
    """The real parser of Rocket.Chat's webhooks."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def parse(self, body: bytes) -> tuple[RoomEvent, ...] | None:
        """As RoomWebhook.parse."""
        return webhook.parse(body)

    def aliases(self, channel: Channel, event: RoomEvent | RoomInfo) -> tuple[Alias, ...]:
        """As RoomWebhook.aliases."""
        return webhook.visitor_aliases(channel, event)

    def place(self, info: RoomInfo) -> str | None:
        """As RoomWebhook.place."""
        return webhook.place(info, {} if self._world.faults.unmapped else APPS, self._world.channels)


@dataclass(slots=True)
class Process:
    """A web or worker: its own clock, random, flags and everything built on them."""

    name: str
    facade: Facade
    compose: Compose
    ingest: Ingest
    delivery: Delivery
    worker: Worker
    sweeper: Sweep
    flags: SimFlags
    ids: Ids


@dataclass(slots=True)
class Record:
    """What the outside received: the judge."""

    said: dict[str, Said] = field(default_factory=dict)
    echoes: dict[str, str] = field(default_factory=dict)  # wamid → slug
    rocketchat: list[str] = field(default_factory=list)  # wamids, in order of arrival
    bad_signatures: int = 0
    excused: set[str] = field(
        default_factory=set
    )  # wamids that may arrive again: an answer was lost or a worker killed
    inbox: dict[str, list[str]] = field(default_factory=dict)  # wa → texts, in order
    by: dict[str, list[str]] = field(default_factory=dict)  # text → who sent it
    asked: dict[str, str] = field(default_factory=dict)  # text → wa: what the API accepted


class SimKind(WhatsApp):
    """WhatsApp with the seed's own window and rates."""

    def __init__(self, **asked: Any) -> None:
        self.asked = asked

    def rules(self, channel: Channel) -> Rules:
        """As Kind.rules."""
        return replace(super().rules(channel), **self.asked)


class World:
    """One run."""

    def __init__(self, seed: int, *, broken: str | None = None) -> None:
        self.kernel = Kernel(seed)
        self.variant = broken
        self.faults = Faults()
        self.record = Record()
        self.broken: list[str] = []
        self.skews: dict[str, float] = {}
        self.revisions: list[tuple[Stage, int]] = [(Stage.ROCKETCHAT, 0)]
        self.store = MemoryStore(self.kernel)
        self.policy = Policy(split_batch=3, sweep_seconds=30.0)
        idle = 0.02 if self.chance(0.2) else 24.0
        down = "native" if self.chance(0.3) else "hold"
        self.channels = {
            slug: Channel(
                slug, "whatsapp", "clinica", {"phone_number_id": phone, "app_secret": SECRET}, "http://rc/app",
                on_rocketchat_down=down, idle_hours=idle,
            )
            for slug, phone in PHONES.items()
        }  # fmt: skip
        dice = self.kernel.dice
        self.kind = SimKind(
            window_hours=dice.choice([24.0, 24.0, 15 / 3600, 5 / 3600]),
            per_second=dice.choice([80.0, 1.0]),
            pair_seconds=dice.choice([0.01, 6.0]),
            pair_burst=2,
        )
        self.forgotten: set[str] = set()  # files the provider has no more
        self.uploads: dict[str, set[str]] = {}  # channel or room → the file ids it gave
        self.confirmed: set[str] = set()  # uploads that have become messages in Rocket.Chat
        self.histories: dict[str, list[RoomMessage]] = {}  # room → what Rocket.Chat itself has of it
        self.processes: dict[str, Process] = {}
        self.generation: dict[str, int] = {}
        self.rooms: dict[tuple[str, str], str] = {}  # (slug, wa) → open room
        self.room_owner: dict[str, tuple[str, str]] = {}
        self.rc_seen: dict[str, None] = {}  # ids of messages Rocket.Chat knows
        self.rc_told: set[str] = set()  # wamids Rocket.Chat's app has taken in
        self.posted: list[tuple[str, bytes]] = []  # bodies answered, for repeats
        self.posting = 0
        self.tally = Tally()
        self.counter = 0
        self.status_delay = (
            60.0 if self.chance(0.4) else 10.0
        )  # well below unknown_after_seconds, outages included

    # chance ------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        """True in that share of cases."""
        return self.kernel.dice.random() < share

    def fresh(self, prefix: str) -> str:
        """A name never used before."""
        self.counter += 1
        return f"{prefix}{self.counter}"

    def ring(self, topic: str) -> None:
        """The doorbell: lost, late or repeated as the faults say."""
        if self.chance(self.faults.lost_rings):
            return
        self.kernel.ring(topic, self.kernel.dice.random() * 2 if self.chance(self.faults.lost_rings) else 0.0)

    # processes ---------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a web or worker process."""
        clock, dice = Clock(self.kernel, self.skews, name), Dice(self.kernel.dice)
        store = SimStore(self, self.store)
        ids, flags = Ids(clock, dice), SimFlags(self)
        flags._revision = int(self.kernel.dice.random() * len(self.revisions))
        facade = Facade(flags, ids)
        resolver = Resolver(ids, b"cohort")
        kinds = {"whatsapp": self.kind}
        hook = SimWebhook(self)
        rooms = Rooms(
            pins=facade, resolver=resolver, ids=ids, channels=self.channels, webhook=hook, bot_user_id="bot"
        )
        ingest = Ingest(
            store=store, pins=facade, resolver=resolver, ids=ids, channels=self.channels, kinds=kinds, rooms=rooms,
            meter=self.tally, policy=self.policy,
        )  # fmt: skip
        senders = {
            (Path.NATIVE, "whatsapp"): SimSender(self, Path.NATIVE, name),
            (Path.ROCKETCHAT, "whatsapp"): SimSender(self, Path.ROCKETCHAT, name),
        }
        delivery = Delivery(
            store=store, clock=clock, random=dice, ids=ids, channels=self.channels, kinds=kinds, senders=senders,
            forwarder=SimForwarder(self), rocketchat=SimRocketChat(self), rooms=rooms, pins=facade,
            files=SimFiles(self),
            meter=self.tally, policy=self.policy,
        )  # fmt: skip
        bell = Bell(self)
        sweeper = Sweep(
            store=store,
            rooms=rooms,
            rocketchat=SimRocketChat(self),
            meter=self.tally,
            policy=self.policy,
            pause=bell,
        )
        worker = Worker(
            store=store,
            ingest=ingest,
            delivery=delivery,
            pins=facade,
            bell=bell,
            channels=self.channels,
            sweeper=sweeper,
            owner=ids.new(),
            poll_seconds=POLL_SECONDS,
        )
        compose = Compose(pins=facade, resolver=resolver, ids=ids, kinds=kinds)
        self.processes[name] = Process(name, facade, compose, ingest, delivery, worker, sweeper, flags, ids)
        self.generation[name] = self.generation.get(name, 0) + 1
        if name.startswith("worker"):
            self.kernel.spawn("idle", name, worker.close_idle())
            self.kernel.spawn("sweep", name, worker.sweep())
            for place in range(2):
                self.kernel.spawn(f"split {place}", name, worker.split())
                self.kernel.spawn(f"work {place}", name, worker.work())

    def crash(self, name: str) -> None:
        """kill -9; whatever was under way to Rocket.Chat may come again."""
        if name.startswith("worker"):
            for job in self.store.tables.jobs.values():
                if job.id in self.store.tables.active and job.event_id is not None and job.attempts:
                    self.excuse(self.store.tables.events[job.event_id].body, job.channel)
        self.kernel.kill(name)
        self.processes.pop(name, None)

    def webs(self) -> list[str]:
        """Web processes that are up."""
        return [name for name in self.processes if name.startswith("web")]

    def excuse(self, body: bytes, slug: str) -> None:
        """These parts may reach Rocket.Chat again."""
        if slug in self.channels:
            for part in self.kind.parse(self.channels[slug], body).parts:
                if part.external_id is not None:
                    self.record.excused.add(part.external_id)

    # the network -------------------------------------------------------------------------------------------

    async def over_the_network(self, down: bool, act: Callable[[], Result]) -> Result:
        """A request: refused, lost on the way, acted upon, and perhaps never answered."""
        if down:
            return Result(Outcome.RETRY, code="connect")
        if self.chance(self.faults.lost_requests):
            await Wait(self.kernel.seconds + REQUEST_TIMEOUT)
            return Result(Outcome.UNKNOWN, code="timeout")
        if self.chance(0.03):
            return Result(Outcome.RETRY, code="503")
        result = act()
        await self.kernel.pause(0, 5 if self.faults.slow else 0.1)
        if self.chance(self.faults.lost_answers):
            await Wait(self.kernel.seconds + REQUEST_TIMEOUT)
            return Result(Outcome.UNKNOWN, code="timeout")
        return result

    async def post(self, slug: str, body: bytes, heard: list[Said], headers: Any = ()) -> None:
        """The provider (or Rocket.Chat) posts until it is answered 200, as Meta does."""
        self.posting += 1
        for one in heard:
            one.posted_at = self.kernel.seconds if one.posted_at < 0 else one.posted_at
        while True:
            await self.kernel.pause(0, 0.2)
            if await self._try_post(slug, body, headers):
                break
            await self.kernel.pause(0.5, 5)
        for one in heard:
            one.answered_at = self.kernel.seconds if one.answered_at < 0 else one.answered_at
        self.posting -= 1

    async def _try_post(self, slug: str, body: bytes, headers: Any) -> bool:
        webs = self.webs()
        if not webs:
            return False
        name = webs[int(self.kernel.dice.random() * len(webs))]
        process, generation = self.processes[name], self.generation[name]
        tenant = EVERY_TENANT if slug == RESERVED else self.channels[slug].tenant
        digest = hashlib.sha256(body).digest()
        event = Event(
            process.ids.new(), tenant, slug, self.kernel.now(), digest, "POST", b"", b"", tuple(headers), body
        )
        try:
            await SimStore(self, self.store).accept(event)
        except Unavailable:
            return False
        return self.generation.get(name) == generation and name in self.processes

    # the provider ------------------------------------------------------------------------------------------

    def provider_sends(self, outbound: Outbound) -> Result:
        """A native send reaches its customer; its statuses come later."""
        wa = next(alias.value for alias in outbound.to if alias.kind == "wa_id")
        wamid = self.fresh("wamid.N")
        self.deliver(wa, outbound.content.text or "", "native")
        self.report(outbound.channel.slug, wa, wamid, outbound.callback_data)
        return Result(Outcome.OK, external_id=wamid)

    def deliver(self, wa: str, text: str, by: str) -> None:
        """A customer gets a message."""
        self.record.inbox.setdefault(wa, []).append(text)
        self.record.by.setdefault(text, []).append(by)

    def report(self, slug: str, wa: str, wamid: str, callback: str | None) -> None:
        """Statuses, in any order, within half a minute."""
        for name in ("sent", "delivered", "read"):
            self.kernel.spawn(f"status {name}", "outside", self._status(slug, wa, wamid, name, callback))

    async def _status(self, slug: str, wa: str, wamid: str, name: str, callback: str | None) -> None:
        await self.kernel.pause(self.status_delay / 2, self.status_delay)
        change = status(wa, wamid, name, int(self.kernel.seconds), callback)
        body = meta(PHONES[slug], [change], self.counter)
        await self.post(slug, body, [], signed(body))

    # Rocket.Chat -------------------------------------------------------------------------------------------

    def rocketchat_receives(self, channel: Channel, request: Request) -> Result:
        """A forward arrives: rooms, visitor messages, perhaps an agent's answer."""
        if not self.kind.verify(channel, request.headers, request.body):
            self.record.bad_signatures += 1
        for part in self.kind.parse(channel, request.body).parts:
            if part.external_id is None or part.type not in (PartType.MESSAGE, PartType.ECHO):
                continue
            self.record.rocketchat.append(part.external_id)
            if part.type is PartType.MESSAGE and part.external_id not in self.rc_told:
                self.rc_told.add(part.external_id)
                wa = part.aliases[0].value
                text = (part.content.text if part.content else None) or ""
                file = part.files[0].ref if part.files else ""
                self._visitor_said(channel.slug, wa, text, file)
        return Result(Outcome.OK)

    def _visitor_said(self, slug: str, wa: str, text: str, file: str) -> None:
        room = self.rooms.get((slug, wa))
        if room is None:
            room = self.rooms[slug, wa] = self.fresh("room")
            self.room_owner[room] = (slug, wa)
            self.tell("LivechatSessionStart", room, wa, None, "", None)
        self.tell("Message", room, wa, self.fresh("src"), text, None, file)
        if self.chance(0.4):
            self.kernel.spawn("agent", "outside", self._agent(slug, wa, room))

    async def _agent(self, slug: str, wa: str, room: str) -> None:
        await self.kernel.pause(0.5, 8)
        if self.rooms.get((slug, wa)) == room:
            self._rocketchat_says(slug, wa, room, self.fresh("src"), self.fresh("agent says "), "agent1")

    def _rocketchat_says(
        self, slug: str, wa: str, room: str, source_id: str, text: str, agent: str, file: str = ""
    ) -> None:
        self.rc_seen[source_id] = None
        wamid = self.fresh("wamid.R")
        self.deliver(wa, text, "rocketchat")
        self.report(slug, wa, wamid, None)
        self.tell("Message", room, wa, source_id, text, agent, file)

    def rocketchat_sends(self, outbound: Outbound) -> Result:
        """chat.sendMessage with our `_id`: a second one with the same id changes nothing."""
        room, source_id = outbound.room_id or "", outbound.source_id or ""
        slug, wa = self.room_owner[room]
        text = outbound.content.text or ""
        if outbound.content.kind == "image":
            # Confirmed once: Rocket.Chat makes the `_id`, and who repeats has looked for the file before.
            if outbound.file_id not in self.confirmed:
                self.confirmed.add(outbound.file_id or "")
                self._rocketchat_says(slug, wa, room, self.fresh("src"), text, "bot", outbound.file_id or "")
        elif source_id not in self.rc_seen:
            self._rocketchat_says(slug, wa, room, source_id, text, "bot")
        return Result(Outcome.OK)

    def close_room(self, room_id: str) -> None:
        """A room is closed, whoever asked."""
        owner = self.room_owner[room_id]
        if self.rooms.get(owner) == room_id:
            del self.rooms[owner]
            self.tell("LivechatSession", room_id, owner[1], None, "", None)

    def is_open(self, room: str) -> bool:
        """Whether Rocket.Chat's room still takes messages."""
        return self.rooms.get(self.room_owner[room]) == room

    def told_of(self, room: str) -> RoomInfo:
        """As its REST says."""
        slug, wa = self.room_owner[room]
        app = next(app for app, owner in APPS.items() if owner == slug)
        return RoomInfo(room, "app", app, "v" + wa, None, (wa,), open=self.is_open(room))

    def files_of(self, path: Path, outbound: Outbound) -> set[str]:
        """What the receiving side has been given."""
        side = outbound.room_id or "" if path is Path.ROCKETCHAT else outbound.channel.slug
        return self.uploads.get(side, set())

    def tell(
        self,
        kind: str,
        room: str,
        wa: str,
        source_id: str | None,
        text: str,
        agent: str | None,
        file: str = "",
    ) -> None:
        """Rocket.Chat's webhook: may be lost. Its own history is not."""
        if source_id is not None:
            content = Content("image" if file else "text", text or None)
            self.histories.setdefault(room, []).append(
                RoomMessage(source_id, agent is not None, agent or "v" + wa, content, self.kernel.now())
            )
        if not self.chance(self.faults.lost_room_events):
            self.kernel.spawn(
                f"webhook {kind}", "outside", self._tell(kind, room, wa, source_id, text, agent, file)
            )

    async def _tell(
        self, kind: str, room: str, wa: str, source_id: str | None, text: str, agent: str | None, file: str
    ) -> None:
        at = self.kernel.now().isoformat()
        body = room_event(kind, room, wa, source_id, text, agent, at, file)
        await self.post(RESERVED, body, [])
        if self.chance(0.1):
            await self.post(RESERVED, body, [])

    # helpers of actions ------------------------------------------------------------------------------------

    def at(self) -> int:
        """Provider time stamp."""
        return int(self.kernel.now().timestamp())

    def patient_says(self, slug: str, speakers: list[str]) -> None:
        """A webhook with one message per speaker given."""
        heard, changes = [], []
        for wa in speakers:
            one = Said(self.fresh("wamid.I"), slug, wa, self._words(), self._file())
            self.record.said[one.wamid] = one
            heard.append(one)
            if one.file:
                changes.append(pictured(wa, one.wamid, one.text, one.file, self.at()))
            else:
                changes.append(said(wa, one.wamid, one.text, self.at()))
        self._send(slug, changes, heard)

    def _words(self) -> str:
        return self.kernel.dice.choice(["SAIR", "Voltar"]) if self.chance(0.02) else self.fresh("said ")

    def _file(self) -> str:
        if not self.chance(0.15):
            return ""
        file = self.fresh("media")
        if self.chance(0.1):
            self.forgotten.add(file)
        return file

    def phone_says(self, slug: str, wa: str) -> None:
        """An echo: somebody answered on the clinic's phone."""
        wamid = self.fresh("wamid.E")
        self.record.echoes[wamid] = slug
        self._send(slug, [echo(wa, wamid, self.fresh("echo "), self.at())], [])

    def _send(self, slug: str, changes: list[tuple[str, str, dict[str, Any]]], heard: list[Said]) -> None:
        """Now and then to the other number's address: what is in it still belongs to its own channel."""
        body = meta(PHONES[slug], changes, self.counter)
        to = slug
        if self.chance(0.05):
            to = "wb" if slug == "wa" else "wa"
            for one in heard:
                one.detour = True
        self.posted.append((to, body))
        self.kernel.spawn("post", "outside", self.post(to, body, heard, signed(body)))

    def repeat(self) -> None:
        """Meta repeats an old body, or puts an old message into a new batch."""
        if self.posted:
            slug, body = self.posted[int(self.kernel.dice.random() * len(self.posted))]
            self.kernel.spawn("repeat", "outside", self.post(slug, body, [], signed(body)))

    def rebatch(self, slug: str, wa: str) -> None:
        """A new message beside an old one in one body."""
        old = [one for one in self.record.said.values() if one.slug == slug]
        if not old:
            return
        known = old[int(self.kernel.dice.random() * len(old))]
        one = Said(self.fresh("wamid.I"), slug, wa, self.fresh("said "))
        self.record.said[one.wamid] = one
        changes = [
            said(known.wa, known.wamid, known.text, self.at()),
            said(wa, one.wamid, one.text, self.at()),
        ]
        self._send(slug, changes, [one])
