"""Some rooms in one transaction: who, which conversation, then the messages, set by set."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flags.stage import Path, Stage
from migration.weave.claims import Claims
from migration.weave.places import Places
from router.domain.channel import Channel
from router.domain.conversation import Conversation, Decision
from router.domain.ids import Ids
from router.domain.message import Alias, Attachment, Content
from router.domain.ports import RoomInfo, RoomMessage, RoomWebhook
from router.identity import DS_ORIGEM, Person, Resolver
from router.ingest.statuses import CLAIM_SPAN
from router.storage.postgres.ahead import PeopleAhead
from router.storage.postgres.store import PostgresStore, PostgresTx
from router.storage.postgres.woven import WovenRoom

ROOMS_AT_ONCE = 200
"""Of one transaction: about three thousand messages."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Woven:
    """What weaving did: rooms looked at, rows made, changed or taken back; rooms by source id whose app no channel is
    mapped to."""

    rooms: int = 0
    changed: int = 0
    claimed: int = 0
    unplaced: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Woven") -> "Woven":
        names = {*self.unplaced, *other.unplaced}
        unplaced = {name: self.unplaced.get(name, 0) + other.unplaced.get(name, 0) for name in names}
        return Woven(
            self.rooms + other.rooms, self.changed + other.changed, self.claimed + other.claimed, unplaced
        )


_FIRST = datetime(1, 1, 2, tzinfo=UTC)
"""A moment before which there still is one: conversations are searched backwards."""
_MAPPED = 255
"""Characters of an id in the clinic's mapping."""


@dataclass(frozen=True, slots=True)
class _Room:
    """`said_at`: the last sign of life of its visitor's, as far as is kept: not its closing."""

    info: RoomInfo
    channel: Channel
    aliases: tuple[Alias, ...]
    said_at: datetime
    began_at: datetime
    active_at: datetime
    closed_at: datetime | None


_Look = Callable[[PostgresTx, str], Awaitable[tuple[list[dict[str, str]], str | None]]]


@dataclass(frozen=True, slots=True)
class _Visitor:
    """Who a room's visitor is. `identities`: all that the addresses belong to, which may be several."""

    person: Person
    identities: Sequence[UUID]


class Weave:
    """`bot_user_id`: its messages are ours, never a human turn."""

    def __init__(
        self, *, store: PostgresStore, resolver: Resolver, claims: Claims, webhook: RoomWebhook, places: Places, ids: Ids,
        bot_user_id: str | None,
    ) -> None:  # fmt: skip
        self._store = store
        self._resolver = resolver
        self._claims = claims
        self._webhook = webhook
        self._places = places
        self._ids = ids
        self._bot_user_id = bot_user_id

    async def run(
        self, only: Collection[str] | None = None, *, stopped: Callable[[], bool] = lambda: False
    ) -> Woven:
        """All rooms whose documents have changed since they were woven (`only`: among these). Ends early, between two
        transactions, when `stopped` says so."""
        total = Woven()
        if only is not None:
            gone = list(only)
            total += Woven(changed=await self._store.weave(lambda tx: tx.unweave(gone)))
        else:
            total += await self._gone()
        after: str | None = ""
        while after is not None and not stopped():
            after, done = await self._batch(after, only)
            total += done
        await self._store.weave(lambda tx: tx.list_rocketchat_users())
        return total

    async def _gone(self) -> Woven:
        """Rooms whose document is gone take their copies along, whoever took it away."""
        total, after = Woven(), ""
        while rooms := await self._store.weave(lambda tx, since=after: tx.gone_rooms(since, ROOMS_AT_ONCE)):  # type: ignore[misc]
            total += Woven(changed=await self._store.weave(lambda tx, gone=rooms: tx.unweave(gone)))  # type: ignore[misc]
            after = rooms[-1]
        return total

    async def differences(self) -> Sequence[Mapping[str, str]]:
        """Archived messages that should be messages and are not, and copies without a document: the first of each."""
        found = await self._first("not_woven", PostgresTx.unwoven_messages)
        return found + await self._first("stray_copy", PostgresTx.stray_copies)

    async def _first(self, what: str, look: _Look) -> list[Mapping[str, str]]:
        """The first of one sort, page by page: no statement is long, however long the history."""
        found: list[Mapping[str, str]] = []
        after: str | None = ""
        while after is not None and len(found) < SHOWN:
            page, after = await self._store.weave(lambda tx, since=after: look(tx, since))  # type: ignore[misc]
            found.extend({"what": what, **one} for one in page)
        return found[:SHOWN]

    async def _batch(self, after: str, only: Collection[str] | None) -> tuple[str | None, Woven]:
        async def work(tx: PostgresTx) -> tuple[str | None, Woven]:
            await tx.alone()
            rows = await tx.unwoven(after, ROOMS_AT_ONCE, only)
            if not rows:
                return None, Woven()
            known = await tx.placed_rooms([row["source_id"] for row in rows])
            rooms, unplaced = self._read(rows, known, await tx.now())
            people = await self._people(tx, rooms)
            claimed = await self._claim(tx, [room for room in rooms if room.info.room_id in people], people)
            woven = await self._conversations(tx, rooms, people, known)
            changed = await tx.weave(woven, self._bot_user_id) if woven else 0
            await tx.mark_woven([room.info.room_id for room in rooms])
            return rows[-1]["source_id"], Woven(len(rows), changed + claimed, claimed, unplaced)

        return await self._store.weave(work)

    def _read(
        self, rows: Iterable[Mapping[str, Any]], known: Mapping[str, tuple[str, UUID | None]], now: datetime
    ) -> tuple[list[_Room], dict[str, int]]:
        rooms: list[_Room] = []
        unplaced: dict[str, int] = {}
        for row in rows:
            info = _info(row)
            told = known.get(info.room_id)
            channel = self._places.named(told[0]) if told is not None else self._places.of(info)
            if channel is None:
                name = info.source_id or info.source_type or "unknown"
                unplaced[name] = unplaced.get(name, 0) + 1
                continue
            # What is dated in time to come was said, but nobody knows when.
            active_at = max(
                min(row["active_at"] or row["closed_at"] or row["created_at"] or now, now), _FIRST
            )
            began_at = max(min(row["created_at"] or active_at, active_at), _FIRST)
            closed_at = None if row["open"] else max(min(row["closed_at"] or active_at, now), _FIRST)
            said_at = row["said_at"] or info.visitor_said_at or row["created_at"] or active_at
            aliases = self._webhook.aliases(channel, info)
            rooms.append(_Room(info, channel, aliases, said_at, began_at, active_at, closed_at))
        return rooms, unplaced

    async def _people(self, tx: PostgresTx, rooms: Sequence[_Room]) -> dict[str, _Visitor]:
        """By room: the visitor, made when unknown and mapped to a user of the clinic. Erased ones are left out."""
        ahead = PeopleAhead(tx)
        visitors = [room.info.visitor_id for room in rooms if room.info.visitor_id]
        await ahead.read([(room.channel.tenant, room.aliases) for room in rooms], visitors)
        people: dict[str, _Visitor] = {}
        for room in sorted(rooms, key=lambda room: room.began_at):
            ahead.at, ahead.seen_at, visitor = room.began_at, room.active_at, room.info.visitor_id
            person = await self._resolver.resolve(
                ahead, room.channel, room.aliases, name=room.info.visitor_name, said_at=room.said_at,
                origin=Path.ROCKETCHAT, user_id=await ahead.user_of_rocketchat(visitor) if visitor else None,
            )  # fmt: skip
            if person is None:
                continue
            identities = ahead.behind(room.channel.tenant, room.aliases)
            people[room.info.room_id] = _Visitor(person, identities)
            if visitor is not None and len(visitor) <= _MAPPED and person.contact.user_id is not None:
                canal = DS_ORIGEM.get(room.channel.kind, room.channel.kind)
                await ahead.map_rocketchat_user(visitor, person.contact.user_id, canal)
        await ahead.write()
        return people

    async def _claim(self, tx: PostgresTx, rooms: Sequence[_Room], people: Mapping[str, _Visitor]) -> int:
        """Only what is dated like a row without an `_id` can be that row."""
        places = [
            (room.info.room_id, room.channel.slug, identity)
            for room in rooms
            for identity in people[room.info.room_id].identities
        ]
        near = await tx.claimable(places, CLAIM_SPAN)
        claimed = 0
        for room in rooms:
            if room.info.room_id in near:
                said = [_said(row, room.info) for row in near[room.info.room_id]]
                claimed += await self._claims.claim(tx, room.channel, room.info, said)
        return claimed

    async def _conversations(
        self, tx: PostgresTx, rooms: Sequence[_Room], people: Mapping[str, _Visitor],
        known: Mapping[str, tuple[str, UUID | None]],
    ) -> list[WovenRoom]:  # fmt: skip
        """A room lives where live traffic put it, else where its messages are already, else, while it is open, in the
        visitor's open conversation; else in one of its own, which ended when the room did."""
        homes = await tx.homes([(room.info.room_id, room.channel.slug) for room in rooms])
        open_now = await tx.open_of({
            lane for room in rooms if room.info.room_id in people for lane in _lanes(room, people[room.info.room_id])
        })  # fmt: skip
        now = await tx.now()
        made: list[tuple[Conversation, Decision]] = []
        woven: list[WovenRoom] = []
        for room in sorted(rooms, key=lambda room: room.began_at, reverse=True):
            room_id = room.info.room_id
            who = people.get(room_id)
            if who is None:
                continue
            home = known.get(room_id, ("", None))[1] or homes.get(room_id)
            ended_at = _ended_at(room, now)
            if home is None and ended_at is None:
                home = next((open_now[lane] for lane in _lanes(room, who) if lane in open_now), None)
            if home is None:
                conversation, decision = self._made(room, who.person, ended_at)
                made.append((conversation, decision))
                home = conversation.id
                if ended_at is None:
                    open_now[room.channel.slug, who.person.identity.id] = home
            visitor = room.info.visitor_id
            woven.append(
                WovenRoom(
                    room_id,
                    home,
                    room.channel.tenant,
                    room.channel.slug,
                    room.channel.kind,
                    visitor,
                    room.active_at,
                )
            )
        await tx.add_conversations(made)
        return woven

    def _made(self, room: _Room, person: Person, ended_at: datetime | None) -> tuple[Conversation, Decision]:
        conversation = Conversation(
            self._ids.new(), room.channel.tenant, room.channel.slug, room.channel.kind, person.identity.id,
            person.contact.id, Path.ROCKETCHAT, 1, room.began_at, room.active_at, closed_at=ended_at,
            closed_by=None if ended_at is None else "rocketchat" if room.closed_at is not None else "idle",
            room_id=room.info.room_id, pinned_at=room.began_at,
        )  # fmt: skip
        decision = Decision(
            self._ids.new(), conversation.tenant, conversation.id, Path.ROCKETCHAT, Stage.ROCKETCHAT, "base", 0,
            "imported from Rocket.Chat", 1, room.began_at,
        )  # fmt: skip
        return conversation, decision


def _lanes(room: _Room, who: _Visitor) -> list[tuple[str, UUID]]:
    return [(room.channel.slug, identity) for identity in (*who.identities, who.person.identity.id)]


def _ended_at(room: _Room, now: datetime) -> datetime | None:
    """When the conversation was over. A room that is open but has long been silent is over here by our own rule, and
    nobody closes it in Rocket.Chat because of an import; on a channel of history alone nothing is open."""
    if room.closed_at is not None:
        return room.closed_at
    idle = room.active_at + timedelta(hours=room.channel.idle_hours)
    return min(idle, now) if idle <= now or Places.alone(room.channel.slug) else None


def _info(row: Mapping[str, Any]) -> RoomInfo:
    told = row["info"] or {}
    said_at = told.get("visitor_said_at")
    return RoomInfo(
        room_id=row["source_id"],
        source_type=row["source_type"],
        source_id=row["source_ref"],
        visitor_id=told.get("visitor_id"),
        visitor_token_digest=told.get("token_digest"),
        visitor_phones=tuple(told.get("phones") or ()),
        visitor_name=told.get("name"),
        open=bool(row["open"]),
        active_at=row["active_at"],
        visitor_said_at=datetime.fromtimestamp(said_at / 1000, UTC) if said_at is not None else None,
    )


def _said(row: Mapping[str, Any], info: RoomInfo) -> RoomMessage:
    by_visitor = bool(row["visitor"]) or (
        row["author_id"] is not None and row["author_id"] == info.visitor_id
    )
    files = tuple(
        Attachment(one["ref"], one.get("mime"), one.get("name"), size=one.get("size"))
        for one in row["files"] or ()
        if one.get("ref")
    )
    return RoomMessage(
        source_id=row["source_id"], by_agent=not by_visitor, author_id=row["author_id"],
        content=Content(row["content_kind"], row["text"], row["extra"] or {}), sent_at=row["sent_at"],
        edited=row["edited_at"] is not None, files=files,
    )  # fmt: skip
