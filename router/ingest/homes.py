"""Which conversation is it about? Rocket.Chat's events name a room; a person may have had several rooms and several
conversations, and a report may come long after what it reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Conversation, Identity, Room
from router.domain.ids import Ids
from router.domain.job import Event
from router.domain.message import Alias, Author, Direction, Message
from router.domain.ports import Pins, RoomEvent, RoomMessage, RoomWebhook, Tx
from router.domain.sending import upload_target
from router.identity import Resolver
from router.ingest.statuses import CLAIM_SPAN, has_left

LOOK_BACK = 5
"""How many conversations of a person are searched for a message whose report comes late."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a room event belongs."""

    channel: Channel
    room: Room | None
    event: Event | None  # None: read from Rocket.Chat's history
    now: datetime


class Homes:
    """Finds and links. `bot_user_id`: its messages are ours, never a human turn."""

    def __init__(
        self, *, pins: Pins, resolver: Resolver, ids: Ids, channels: Mapping[str, Channel], webhook: RoomWebhook,
        bot_user_id: str | None,
    ) -> None:  # fmt: skip
        self._pins = pins
        self._resolver = resolver
        self._ids = ids
        self._channels = channels
        self._webhook = webhook
        self._bot_user_id = bot_user_id

    async def _home(
        self, tx: Tx, place: Place, told: RoomEvent, conversation: Conversation | None, said: RoomMessage
    ) -> tuple[Conversation | None, Message | None]:
        """The conversation a message was said in, and the row of it that is there already. It may be one that has ended
        since: its report is late, or its forward was held. No conversation: Rocket.Chat speaks where nothing is open."""
        at = said.sent_at or place.now
        current = conversation if conversation is not None and at >= conversation.opened_at else None
        same = await self._match(tx, place, current, said, at) if current is not None else None
        if current is not None and (same is not None or said.by_agent):
            return current, same
        aliases = self._webhook.aliases(place.channel, told)
        earlier = None
        for _, identity in await tx.identities(place.channel.tenant, aliases):
            earlier, same = await self._earlier(tx, place, identity, said, at)
            if same is not None:
                return earlier, same
        if current is None and earlier is not None and (earlier.closed_at is None or at <= earlier.closed_at):
            return earlier, None
        return current or conversation, None

    async def _earlier(
        self, tx: Tx, place: Place, identity: Identity, said: RoomMessage, at: datetime
    ) -> tuple[Conversation | None, Message | None]:
        """The conversation of this person that has the message already, the one dated nearest if several have; else the
        newest that had begun by then."""
        begun, then = None, place.now
        best: tuple[Conversation | None, Message | None] = (None, None)
        for _ in range(LOOK_BACK):
            before = await tx.conversation_before(place.channel.slug, identity.id, then)
            if before is None:
                break
            same = await self._match(tx, place, before, said, at)
            if same is not None and (best[1] is None or _apart(same, at) < _apart(best[1], at)):
                best = before, same
            if begun is None and before.opened_at <= at:
                begun = before
            then = before.opened_at - timedelta(microseconds=1)
        return best if best[1] is not None else (begun, None)

    async def _end(self, tx: Tx, conversation_id: UUID, room: Room) -> None:
        """A room has ended, and with it the conversation that lives in it. One that moved away is closed by us, and one
        that goes on in a newer room lives there: no end of them."""
        conversation = await tx.conversation(conversation_id)
        if (
            conversation is not None
            and conversation.room_id == room.id
            and conversation.path is Path.ROCKETCHAT
        ):
            await self._pins.close(tx, conversation, "rocketchat")

    async def _conversation(self, tx: Tx, place: Place, told: RoomEvent) -> tuple[Conversation | None, bool]:
        """The open conversation of the room's visitor, and whether the room is its own. Linked from now on, when the event
        is of its time: neither the late end nor the late words of an earlier room are about what has begun since."""
        room = place.room
        spoke_at = max(
            (said.sent_at or place.now for said in told.messages if not said.closing), default=None
        )
        if room is not None and room.conversation_id is not None:
            conversation = await tx.conversation(room.conversation_id)
            if conversation is not None and conversation.open:
                return await self._live_in(tx, conversation, room, spoke_at), True
        linked = room is not None and room.conversation_id is not None
        aliases = self._webhook.aliases(place.channel, told)
        for _, identity in await tx.identities(place.channel.tenant, aliases):
            conversation = await tx.open_conversation(place.channel.slug, identity.id)
            if conversation is None:
                continue
            new = (
                not linked and told.type != "close"
                if spoke_at is None
                else spoke_at >= conversation.opened_at
            )
            if new:
                return await self._link(tx, place, conversation, identity, aliases, spoke_at), True
            return conversation, False
        return None, False

    async def _live_in(
        self, tx: Tx, conversation: Conversation, room: Room, spoke_at: datetime | None
    ) -> Conversation:
        """A conversation lives in the room that spoke last: there its answers go, and with it it ends."""
        if spoke_at is not None and (room.spoke_at is None or spoke_at > room.spoke_at):
            await tx.save_room(replace(room, conversation_id=conversation.id, spoke_at=spoke_at))
        if conversation.path is not Path.ROCKETCHAT or conversation.room_id == room.id:
            return conversation
        current = await tx.room(conversation.room_id) if conversation.room_id is not None else None
        if current is not None and (
            spoke_at is None or (current.spoke_at is not None and current.spoke_at >= spoke_at)
        ):
            return conversation
        conversation = replace(conversation, room_id=room.id)
        await tx.save_conversation(conversation)
        return conversation

    async def _link(
        self, tx: Tx, place: Place, conversation: Conversation, identity: Identity, aliases: Sequence[Alias],
        spoke_at: datetime | None = None,
    ) -> Conversation:  # fmt: skip
        known = {alias.key for alias, _ in await tx.identities(place.channel.tenant, aliases)}
        for alias in aliases:
            if alias.key not in known:
                await tx.put_alias(identity, alias)
        if place.room is not None:
            await tx.save_room(replace(place.room, conversation_id=conversation.id))
            conversation = await self._live_in(tx, conversation, place.room, spoke_at)
            if conversation.path is Path.NATIVE and conversation.pin_version > 1:
                # A move closes the room; of this one nobody knew when the conversation moved.
                await self._pins.close_room(tx, replace(conversation, room_id=place.room.id), place.now)
        return conversation

    async def _match(
        self, tx: Tx, place: Place, conversation: Conversation, said: RoomMessage, at: datetime
    ) -> Message | None:
        """The nearest message of the conversation that says the same and has no `_id` yet."""
        rows = await tx.unclaimed(conversation.id, direction_of(said), at, CLAIM_SPAN, key="source_id")
        for row in rows:
            same = row.path is Path.ROCKETCHAT and row.content.digest() == said.content.digest()
            if same and await self._fits(tx, place, row, said):
                return row
        return None

    async def _fits(self, tx: Tx, place: Place, row: Message, said: RoomMessage) -> bool:
        """One of ours that still waits to leave is none; and a file is ours by the name it has in Rocket.Chat: without
        words all files say the same, and somebody else's must not pass for one that may never have arrived."""
        if row.direction is Direction.INBOUND or row.author is not Author.SYSTEM:
            return await has_left(tx, row)
        media = next(iter(await tx.media_of(row.id)), None)
        if media is None or media.sha256 is None or place.room is None:
            return await has_left(tx, row)
        target = upload_target(Path.ROCKETCHAT, place.channel, place.room.id, row.id)
        file_id = await tx.uploaded(row.channel, target, media.sha256, expired=True)
        return bool(file_id) and any(file_id in file.ref.split("/") for file in said.files)


def _apart(row: Message, at: datetime) -> timedelta:
    return abs((row.handled_at or row.sent_at) - at)


def direction_of(said: RoomMessage) -> Direction:
    return Direction.OUTBOUND if said.by_agent else Direction.INBOUND
