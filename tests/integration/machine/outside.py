"""Provider, Rocket.Chat and patients as the machine meets them: what they were given, and the mail they still owe us.

Their record is the simulation's own, so that the same invariants judge it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from flags.stage import Path
from router.domain.channel import RESERVED, Channel
from router.domain.job import Outcome, Result
from router.domain.media import Media, Stored
from router.domain.message import PartType
from router.domain.ports import Outbound, Permit, Request, RoomInfo, RoomMessage
from tests.simulation.payloads import SECRET, echo, meta, room_event, said, signed, status
from tests.simulation.world import APPS, PHONES, Record, Said, SimKind

CHANNELS: Mapping[str, Channel] = {
    slug: Channel(
        slug, "whatsapp", "clinica", {"phone_number_id": phone, "app_secret": SECRET}, "http://rc/app",
        on_rocketchat_down="native" if slug == "wb" else "hold",
    )
    for slug, phone in PHONES.items()
}  # fmt: skip
PATIENTS = [f"55119{number:08d}" for number in range(1, 5)]


class Answer(Enum):
    """How the other side answers."""

    OK = auto()
    RETRY = auto()
    PERMANENT = auto()
    CHANNEL = auto()
    LOST_BEFORE = auto()  # it never arrived, nobody knows
    LOST_AFTER = auto()  # it arrived, nobody knows


_RESULTS = {
    Answer.RETRY: Result(Outcome.RETRY, code="503"),
    Answer.PERMANENT: Result(Outcome.PERMANENT, code="400"),
    Answer.CHANNEL: Result(Outcome.CHANNEL, code="190"),
    Answer.LOST_BEFORE: Result(Outcome.UNKNOWN, code="timeout"),
}


@dataclass(frozen=True, slots=True)
class Mail:
    """A webhook somebody is about to post. `heard`: what contacts say in it."""

    slug: str
    body: bytes
    heard: tuple[Said, ...] = ()

    @property
    def from_rocketchat(self) -> bool:
        return self.slug == RESERVED


class Clock:
    """Real time, and what the machine let pass besides."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@dataclass
class Gate:
    """Holds a request: before it leaves, or once it was acted upon."""

    after_acting: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    forwarded: tuple[str, bytes] | None = None  # slug and body, for a forward


class Outside:
    """`answer` holds for the next requests; `gate`, when set, holds the next one only."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        # Windows and paces belong to the simulation: here time is the database's own.
        self.kind = SimKind(window_hours=None, per_second=None, pair_seconds=None)
        self.record = Record()
        self.answer = Answer.OK
        self.gate: Gate | None = None
        self.agents_answer = False
        self.mail: list[Mail] = []
        self.posted: list[Mail] = []
        self.rooms: dict[tuple[str, str], str] = {}
        self.room_owner: dict[str, tuple[str, str]] = {}
        self._sent_by_id: set[str] = set()
        self._told: set[str] = set()
        self._counter = 0
        self._ticks = 0

    def fresh(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}{self._counter}"

    def tick(self) -> float:
        """A later moment than any before."""
        self._ticks += 1
        return float(self._ticks)

    # the network -------------------------------------------------------------------------------------------

    async def request(self, act: Any, *, forwarded: tuple[str, bytes] | None = None) -> Result:
        """`act` happens unless the answer says that it never arrived."""
        gate, self.gate = self.gate, None
        answer = self.answer
        if gate is not None and not gate.after_acting:
            await self._held(gate, forwarded)
        if forwarded is not None and answer in (Answer.LOST_BEFORE, Answer.LOST_AFTER):
            self.excuse(*forwarded)
        result: Result = _RESULTS.get(answer) or act()
        if gate is not None and gate.after_acting:
            await self._held(gate, forwarded)
        return Result(Outcome.UNKNOWN, code="timeout") if answer is Answer.LOST_AFTER else result

    async def _held(self, gate: Gate, forwarded: tuple[str, bytes] | None) -> None:
        gate.forwarded = forwarded
        gate.reached.set()
        await gate.opened.wait()

    def excuse(self, slug: str, body: bytes) -> None:
        """These parts may reach Rocket.Chat again."""
        for part in self.kind.parse(CHANNELS[slug], body).parts:
            if part.external_id is not None:
                self.record.excused.add(part.external_id)

    # the provider ------------------------------------------------------------------------------------------

    def provider_sends(self, permit: Permit, outbound: Outbound) -> Result:
        """The permit is looked at in the very step in which the request leaves."""
        if permit.path != Path.NATIVE or self.clock.monotonic() > permit.expires:
            return Result(Outcome.RETRY, code="permit")
        wa = next(alias.value for alias in outbound.to if alias.kind == "wa_id")
        wamid = self.fresh("wamid.N")
        self._deliver(wa, outbound.content.text or "", "native")
        self._report(outbound.channel.slug, wa, wamid, outbound.callback_data)
        return Result(Outcome.OK, external_id=wamid)

    def _deliver(self, wa: str, text: str, by: str) -> None:
        self.record.inbox.setdefault(wa, []).append(text)
        self.record.by.setdefault(text, []).append(by)

    def _report(self, slug: str, wa: str, wamid: str, callback: str | None) -> None:
        for name in ("delivered", "sent"):
            change = status(wa, wamid, name, self._at(), callback)
            self.mail.append(Mail(slug, meta(PHONES[slug], [change], self._salt())))

    def _at(self) -> int:
        return int(self.clock.now().timestamp())

    def _salt(self) -> int:
        self._counter += 1
        return self._counter

    # patients and the clinic's phone -----------------------------------------------------------------------

    def says(self, slug: str, speakers: list[str], again: Said | None = None) -> Mail:
        """One webhook with a message of each speaker, beside one that was said before."""
        changes = [said(again.wa, again.wamid, again.text, self._at())] if again else []
        heard = []
        for wa in speakers:
            one = Said(self.fresh("wamid.I"), slug, wa, self.fresh("said "))
            self.record.said[one.wamid] = one
            heard.append(one)
            changes.append(said(wa, one.wamid, one.text, self._at()))
        return Mail(slug, meta(PHONES[slug], changes, self._salt()), tuple(heard))

    def phone_says(self, slug: str, wa: str) -> Mail:
        """Somebody answered on the clinic's phone."""
        wamid = self.fresh("wamid.E")
        self.record.echoes[wamid] = slug
        change = echo(wa, wamid, self.fresh("echo "), self._at())
        return Mail(slug, meta(PHONES[slug], [change], self._salt()))

    # Rocket.Chat -------------------------------------------------------------------------------------------

    def rocketchat_receives(self, channel: Channel, request: Request) -> Result:
        if not self.kind.verify(channel, request.headers, request.body):
            self.record.bad_signatures += 1
        for part in self.kind.parse(channel, request.body).parts:
            if part.external_id is None or part.type not in (PartType.MESSAGE, PartType.ECHO):
                continue
            self.record.rocketchat.append(part.external_id)
            if part.type is PartType.MESSAGE and part.external_id not in self._told:
                self._told.add(part.external_id)
                text = (part.content.text if part.content else None) or ""
                self._visitor_said(channel.slug, part.aliases[0].value, text)
        return Result(Outcome.OK)

    def _visitor_said(self, slug: str, wa: str, text: str) -> None:
        room = self.rooms.get((slug, wa))
        if room is None:
            room = self.rooms[slug, wa] = self.fresh("room")
            self.room_owner[room] = (slug, wa)
        self._tell("Message", room, self.fresh("src"), text, None)
        if self.agents_answer:
            self._says(room, self.fresh("src"), self.fresh("agent says "), "agent1")

    def _says(self, room: str, source_id: str, text: str, agent: str) -> None:
        slug, wa = self.room_owner[room]
        self._deliver(wa, text, "rocketchat")
        self._report(slug, wa, self.fresh("wamid.R"), None)
        self._tell("Message", room, source_id, text, agent)

    def rocketchat_sends(self, permit: Permit, outbound: Outbound) -> Result:
        """chat.sendMessage with our `_id`: a second one with the same id changes nothing."""
        if permit.path != Path.ROCKETCHAT or self.clock.monotonic() > permit.expires:
            return Result(Outcome.RETRY, code="permit")
        if outbound.room_id is None:
            return Result(Outcome.RETRY, code="no_room")
        if outbound.source_id is None:
            return Result(Outcome.PERMANENT, code="no_id")
        if outbound.source_id not in self._sent_by_id:
            self._sent_by_id.add(outbound.source_id)
            self._says(outbound.room_id, outbound.source_id, outbound.content.text or "", "bot")
        return Result(Outcome.OK)

    def close_room(self, room_id: str) -> Result:
        owner = self.room_owner[room_id]
        if self.rooms.get(owner) == room_id:
            del self.rooms[owner]
            self._tell("LivechatSession", room_id, None, "", None)
        return Result(Outcome.OK)

    def _tell(self, kind: str, room: str, source_id: str | None, text: str, agent: str | None) -> None:
        at = self.clock.now().isoformat()
        wa = self.room_owner[room][1]
        self.mail.append(Mail(RESERVED, room_event(kind, room, wa, source_id, text, agent, at)))


def headers_of(mail: Mail) -> tuple[tuple[bytes, bytes], ...]:
    """Those of its POST."""
    return () if mail.from_rocketchat else signed(mail.body)


class MachineSender:
    """A way out."""

    def __init__(self, outside: Outside, path: Path) -> None:
        self._outside = outside
        self.idempotent = path is Path.ROCKETCHAT
        self._act = outside.rocketchat_sends if self.idempotent else outside.provider_sends

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        return await self._outside.request(lambda: self._act(permit, outbound))

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:
        return await self._outside.request(lambda: Result(Outcome.OK))


class NoFiles:
    """Nobody sends files here."""

    async def fetch(self, channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        return Result(Outcome.PERMANENT, code="gone"), None

    async def upload(self, path: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        return Result(Outcome.PERMANENT, code="type")


class MachineForwarder:
    """Gives an event to Rocket.Chat."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def forward(self, channel: Channel, request: Request) -> Result:
        return await self._outside.request(
            lambda: self._outside.rocketchat_receives(channel, request),
            forwarded=(channel.slug, request.body),
        )


class MachineRocketChat:
    """Rocket.Chat's REST."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        result = await self._outside.request(lambda: Result(Outcome.OK))
        if result.outcome is not Outcome.OK:
            return result, None
        slug, wa = self._outside.room_owner[room_id]
        app = next(app for app, owner in APPS.items() if owner == slug)
        return result, RoomInfo(room_id, "app", app, "v" + wa, None, (wa,))

    async def close_room(self, room_id: str, note: str) -> Result:
        return await self._outside.request(lambda: self._outside.close_room(room_id))

    async def rooms(
        self, since: datetime | None, offset: int
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        return await self._outside.request(lambda: Result(Outcome.OK)), (), None

    async def history(self, room: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        return await self._outside.request(lambda: Result(Outcome.OK)), ()
