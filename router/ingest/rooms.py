"""What Rocket.Chat tells: its webhook names a room, never a channel.

A room's channel is learned once (rooms.info, by a PLACE job) and kept; until then the room's events queue behind that
job, in order, and nothing else waits for them. The webhook is at-least-once and lossy, so every message is looked up
by its `_id` first, then claimed by content, and only then inserted.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flags.stage import Path
from router.domain.channel import Channel, named
from router.domain.conversation import Contact, Conversation, Identity, Room
from router.domain.job import ROCKETCHAT_GATE, Event, EventState, Job, JobKind, JobState, room_lane
from router.domain.media import Origin
from router.domain.message import ERASED, RANK, Author, Direction, Message, Status, advance
from router.domain.ports import Fact, RoomEvent, RoomInfo, RoomMessage, Tx
from router.identity import DS_ORIGEM
from router.ingest.files import keep_files
from router.ingest.homes import Homes, Place, direction_of
from router.ingest.statuses import status_facts

FILES_KEPT = timedelta(days=7)
"""How long a file of Rocket.Chat's is asked for."""


class Rooms(Homes):
    """Applies Rocket.Chat's webhook events. `bot_user_id`: its messages are ours, never a human turn."""

    async def split(self, tx: Tx, event: Event) -> list[Fact]:
        """Apply the event, or queue it behind the placing of its room."""
        heard = self._webhook.parse(event.body)
        if heard is None:
            await tx.mark_split(event, EventState.IGNORED, "malformed")
            return [("events_total", 1, (event.channel, "rocketchat", "malformed"))]
        facts: list[Fact] = []
        state = EventState.IGNORED
        for told in heard:
            state = max(state, await self._take(tx, event, told, facts), key=_WEIGHT.__getitem__)
        await tx.mark_split(event, state, "nothing_for_anybody" if state is EventState.IGNORED else None)
        return facts

    async def _take(self, tx: Tx, event: Event, told: RoomEvent, facts: list[Fact]) -> EventState:
        now = await tx.now()
        if told.channel is not None:
            channel = named(self._channels, told.channel)
            if channel is None:
                return EventState.IGNORED
            facts += await self._flat(tx, Place(channel, None, event, now), told)
            return EventState.HANDLED
        if told.room_id is None:
            return EventState.IGNORED
        room = await self._placed(tx, told.room_id)
        if room is None or await tx.room_jobs(told.room_id):
            await tx.add_job(self._placing(event, told.room_id, now))
            return EventState.WAITING
        facts += await self._apply(tx, room, event, told)
        return EventState.HANDLED

    def _placing(self, event: Event, room_id: str, now: datetime) -> Job:
        return Job(
            self._ids.new(), event.tenant, event.channel, JobKind.PLACE, (room_lane(room_id),), ROCKETCHAT_GATE,
            now, now, event_id=event.id, event_at=event.received_at, room_id=room_id,
        )  # fmt: skip

    async def placed(self, tx: Tx, job: Job, info: RoomInfo | None) -> Sequence[Fact] | None:
        """Carry out a PLACE job: learn the room when `info` is given, then apply its event and end the job.

        Returns None, and changes nothing, while the room's source has no channel.
        """
        if job.room_id is None or job.event_id is None or job.event_at is None:
            raise ValueError("a PLACE job names a room and an event")
        room = await self._placed(tx, job.room_id) or await self._learn(tx, job.room_id, info)
        if room is None:
            return None
        event = await tx.event(job.event_id, job.event_at)
        facts: list[Fact] = []
        for told in (self._webhook.parse(event.body) if event else None) or ():
            if event is not None and told.room_id == job.room_id:
                facts += await self._apply(tx, room, event, told)
        await tx.finish_job(job, JobState.DONE)
        if not await tx.open_jobs(job.event_id):
            await tx.settle_event(job.event_id, job.event_at, EventState.HANDLED)
        return facts

    async def _placed(self, tx: Tx, room_id: str) -> Room | None:
        """A room as it was learned; None also where its channel is not ours to serve (one of an import's, or gone): then it
        is learned anew, else nobody would take its messages."""
        room = await tx.room(room_id)
        return room if room is not None and room.channel in self._channels else None

    async def _learn(self, tx: Tx, room_id: str, info: RoomInfo | None) -> Room | None:
        slug = self._webhook.place(info) if info is not None else None
        channel = self._channels.get(slug) if slug is not None else None
        if channel is None:
            return None
        room = Room(room_id, channel.tenant, channel.slug, None, await tx.now())
        await tx.save_room(room)
        return room

    # a placed room -----------------------------------------------------------------------------------------

    async def learn(self, tx: Tx, info: RoomInfo) -> Conversation | None:
        """Before Rocket.Chat's callback moves: an open room, its visitor and its conversation, pinned where it lives.
        None: its source has no channel, its visitor has no address, or was erased."""
        room = await self._placed(tx, info.room_id) or await self._learn(tx, info.room_id, info)
        channel = self._channels.get(room.channel) if room is not None else None
        if room is None or channel is None or not info.open:
            return None
        place = Place(channel, room, None, await tx.now())
        told = self._told(channel, info, ())
        if await self._erased(tx, place, told, info.visitor_said_at or info.active_at):
            return None
        conversation, _ = await self._conversation(tx, place, told)
        conversation = conversation or await self._open(tx, place, told, [])
        if conversation is not None and info.visitor_said_at is not None:
            heard_at = max(conversation.heard_at or info.visitor_said_at, info.visitor_said_at)
            conversation = replace(conversation, heard_at=heard_at)
            await tx.save_conversation(conversation)
        return conversation

    async def swept(self, tx: Tx, info: RoomInfo, said: Sequence[RoomMessage]) -> list[Fact] | None:
        """Apply what Rocket.Chat's own history says of a room; None: its source has no channel."""
        room = await self._placed(tx, info.room_id) or await self._learn(tx, info.room_id, info)
        channel = self._channels.get(room.channel) if room is not None else None
        if room is None or channel is None:
            return None
        return await self._apply(tx, room, None, self._told(channel, info, said))

    def _told(self, channel: Channel, info: RoomInfo, said: Sequence[RoomMessage]) -> RoomEvent:
        return RoomEvent(
            "message" if info.open else "close", info.room_id, info.visitor_id, self._webhook.aliases(channel, info),
            info.visitor_name, tuple(said),
        )  # fmt: skip

    async def _apply(self, tx: Tx, room: Room, event: Event | None, told: RoomEvent) -> list[Fact]:
        channel = self._channels.get(room.channel)
        if channel is None:
            return []
        place = Place(channel, room, event, await tx.now())
        conversation, mine = await self._conversation(tx, place, told)
        facts: list[Fact] = []
        for said in told.messages:
            if said.closing or await self._known(tx, place, said, facts):
                continue
            if await self._erased(tx, place, told, said.sent_at):
                continue
            home, same = await self._home(tx, place, told, conversation, said)
            if home is None:
                home = conversation = await self._open(tx, place, replace(told, messages=(said,)), facts)
                mine = True
            if home is None:
                return facts  # said before the person was erased
            facts += await self._message(tx, place, home, said, same)
        if told.type == "close" and mine and conversation is not None:
            await self._end(tx, conversation.id, room)
        return facts

    async def _erased(self, tx: Tx, place: Place, told: RoomEvent, at: datetime | None) -> bool:
        """Said before its person was erased: it is not taken in again, also where they have come back since."""
        aliases = self._webhook.aliases(place.channel, told)
        erased_at = await tx.erased_at(place.channel.tenant, aliases)
        return erased_at is not None and (at or place.now) <= erased_at

    async def _open(self, tx: Tx, place: Place, told: RoomEvent, facts: list[Fact]) -> Conversation | None:
        """Rocket.Chat speaks in a room that has no open conversation here: it lives there, so it is pinned there."""
        found = await self._person(tx, place, told)
        return await self._pinned(tx, place, *found, facts) if found is not None else None

    async def _person(self, tx: Tx, place: Place, told: RoomEvent) -> tuple[Contact, Identity] | None:
        """The visitor or user, made when unknown, and mapped to a user of the clinic; None when erased."""
        aliases = self._webhook.aliases(place.channel, told)
        user_id = await tx.user_of_rocketchat(told.visitor_id) if told.visitor_id else None
        person = await self._resolver.resolve(
            tx,
            place.channel,
            aliases,
            name=told.visitor_name,
            said_at=_said_at(told, place),
            origin=Path.ROCKETCHAT,
            user_id=user_id,
        )
        if person is None:
            return None
        if told.visitor_id is not None and person.contact.user_id is not None:
            canal = DS_ORIGEM.get(place.channel.kind, place.channel.kind)
            await tx.map_rocketchat_user(told.visitor_id, person.contact.user_id, canal)
        return person.contact, person.identity

    async def _pinned(
        self, tx: Tx, place: Place, contact: Contact, identity: Identity, facts: list[Fact]
    ) -> Conversation:
        conversation = await tx.open_conversation(place.channel.slug, identity.id)
        if conversation is None:
            conversation, decision = await self._pins.open(
                tx, place.channel, contact, identity, in_rocketchat=True
            )
            labels = (place.channel.kind, decision.stage, decision.path, decision.rule)
            facts.append(("decisions_total", 1, labels))
        return await self._link(tx, place, conversation, identity, ())

    # one message -------------------------------------------------------------------------------------------

    async def _message(
        self, tx: Tx, place: Place, conversation: Conversation, said: RoomMessage, same: Message | None
    ) -> list[Fact]:
        """A message without its `_id` here: it gives it to the row that says the `same`, or becomes one."""
        direction, at = direction_of(said), said.sent_at or place.now
        if same is not None and same.path is Path.ROCKETCHAT:
            claimed = replace(same, source_id=said.source_id, matched_by="digest")
            await tx.save_message(claimed)
            return await self._again(tx, place, claimed, said)
        row = self._row(place, conversation, said, direction, at)
        await keep_files(
            tx, self._ids, await tx.add_message(row), said.files, Origin.ROCKETCHAT, at + FILES_KEPT
        )
        heard_at, read_at = conversation.heard_at, conversation.read_at
        if not said.by_agent:
            heard_at = max(heard_at or at, min(at, place.now))
        elif row.author is Author.HUMAN:  # who answers has read
            read_at = max(read_at or at, min(at, place.now))
        await tx.save_conversation(
            replace(conversation, last_at=place.now, heard_at=heard_at, read_at=read_at)
        )
        facts: list[Fact] = [("messages_total", 1, (row.kind, row.direction, row.path))]
        if row.direction is Direction.OUTBOUND:
            facts.append(("outcomes_total", 1, (row.kind, row.path, "sent")))
            if conversation.path is Path.NATIVE and at >= (conversation.pinned_at or conversation.opened_at):
                facts.append(("stray_sends_total", 1, (row.kind,)))
        return facts

    async def _known(self, tx: Tx, place: Place, said: RoomMessage, facts: list[Fact]) -> bool:
        """True: the message is here by its `_id`; what changed of it is taken in. Most have not changed, and are not
        locked: a sweep reads whole rooms."""
        known = await tx.message_by_source(said.source_id, lock=False)
        # The flat form's id is the caller's word: it reaches no message of another channel.
        if known is not None and known.channel == place.channel.slug and _changed(known, said) != known:
            locked = await tx.message_by_source(said.source_id)
            if locked is not None:
                facts += await self._again(tx, place, locked, said)
        return known is not None

    def _row(
        self, place: Place, conversation: Conversation, said: RoomMessage, direction: Direction, at: datetime
    ) -> Message:
        inbound = direction is Direction.INBOUND
        bot = said.author_id is not None and said.author_id == self._bot_user_id
        agent = Author.BOT if bot else Author.HUMAN
        return Message(
            id=self._ids.new(), tenant=conversation.tenant, channel=conversation.channel, kind=conversation.kind,
            conversation_id=conversation.id, direction=direction, author=Author.CONTACT if inbound else agent,
            content=said.content, status=Status.RECEIVED if inbound else Status.SENT, path=Path.ROCKETCHAT,
            created_at=place.now, sent_at=at, source_id=said.source_id,
            event_id=place.event.id if place.event is not None else None,
            handled_at=place.now if inbound else None,
        )  # fmt: skip

    async def _again(self, tx: Tx, place: Place, known: Message, said: RoomMessage) -> list[Fact]:
        """A message we have: edited, or our own send that Rocket.Chat reports as done."""
        changed = _changed(known, said)
        if changed == known:
            return []
        await tx.save_message(changed)
        job = await tx.job_of_message(known.id)
        if job is not None:
            await tx.finish_job(job, JobState.DONE)
        return status_facts(known, changed, place.now)

    # the flat form -----------------------------------------------------------------------------------------

    async def _flat(self, tx: Tx, place: Place, told: RoomEvent) -> list[Fact]:
        facts: list[Fact] = []
        found = await self._flat_person(tx, place, told)
        if found is None:
            return facts
        conversation = await self._pinned(tx, place, *found, facts)
        for said in told.messages:
            known = await self._known(tx, place, said, facts)
            if not known and not await self._erased(tx, place, told, said.sent_at):
                same = await self._match(tx, place, conversation, said, said.sent_at or place.now)
                facts += await self._message(tx, place, conversation, said, same)
        return facts

    async def _flat_person(self, tx: Tx, place: Place, told: RoomEvent) -> tuple[Contact, Identity] | None:
        """`user.id` is Rocket.Chat's: a mapped user's own address on this kind serves, if there is one."""
        user_id = await tx.user_of_rocketchat(told.visitor_id) if told.visitor_id else None
        contact = await tx.contact_by_user(place.channel.tenant, user_id) if user_id is not None else None
        identity = (
            await tx.identity_of_contact(contact.id, place.channel.kind) if contact is not None else None
        )
        if contact is not None and identity is not None:
            return contact, identity
        return await self._person(tx, place, told)


_WEIGHT = {EventState.IGNORED: 0, EventState.HANDLED: 1, EventState.DEAD: 2, EventState.WAITING: 3}


def _changed(known: Message, said: RoomMessage) -> Message:
    """A message as its report says: edited, or our own send that Rocket.Chat reports as done. What was erased stays so."""
    if known.content.kind == ERASED:
        return known
    changed = replace(known, content=said.content) if said.edited else known
    if known.direction is Direction.OUTBOUND and RANK[known.status] < RANK[Status.SENT]:
        changed = replace(changed, status=advance(known.status, Status.SENT))
    return changed


def _said_at(told: RoomEvent, place: Place) -> datetime:
    return told.messages[0].sent_at or place.now if told.messages else place.now
