"""An outbound message is taken in: whose conversation, on which path, into which lane. Nothing leaves here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Contact, Conversation, Identity
from router.domain.errors import Rejected
from router.domain.ids import Ids
from router.domain.job import ROCKETCHAT_GATE, Job, JobKind, native_gate, outbound_lane
from router.domain.message import Author, Content, Direction, Message, Status
from router.domain.ports import Fact, Kind, Pins, Tx
from router.identity import Resolver


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for; one of `conversation_id`, `contact_id`, `user_id`, `to` says to whom."""

    channel: Channel
    content: Content
    conversation_id: UUID | None = None
    contact_id: UUID | None = None
    user_id: UUID | None = None
    to: str | None = None
    author: Author = Author.SYSTEM
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Compose:
    """Turns an Order into a queued message and its lane job, inside the caller's transaction."""

    def __init__(self, *, pins: Pins, resolver: Resolver, ids: Ids, kinds: Mapping[str, Kind]) -> None:
        self._pins = pins
        self._resolver = resolver
        self._ids = ids
        self._kinds = kinds

    async def enqueue(self, tx: Tx, order: Order) -> tuple[Message, Conversation, list[Fact]]:
        """Queue the message behind its conversation's earlier ones.

        Raises Rejected: not_mapped, unknown_conversation, invalid_recipient (422), no_room_on_path (409).
        """
        facts: list[Fact] = []
        now = await tx.now()
        conversation, decision_id = await self._conversation(tx, order, facts)
        if conversation.path is Path.ROCKETCHAT and conversation.room_id is None:
            raise Rejected(
                "no_room_on_path",
                "this conversation is on Rocket.Chat, which has no room for it yet: "
                'let the contact write first, or set first_contact = "native" on the channel',
                409,
            )
        rocketchat = conversation.path is Path.ROCKETCHAT
        message = Message(
            id=self._ids.new(), tenant=conversation.tenant, channel=conversation.channel, kind=conversation.kind,
            conversation_id=conversation.id, direction=Direction.OUTBOUND, author=order.author,
            content=order.content, status=Status.QUEUED, path=conversation.path, created_at=now, sent_at=now,
            source_id=self._ids.rocketchat() if rocketchat else None, decision_id=decision_id,
            metadata=order.metadata,
        )  # fmt: skip
        message = await tx.add_message(message)
        await tx.save_conversation(replace(conversation, last_at=now))
        await tx.add_job(self._job(message, conversation, now))
        facts.append(("messages_total", 1, (message.kind, message.direction, message.path)))
        return message, conversation, facts

    def _job(self, message: Message, conversation: Conversation, now: datetime) -> Job:
        gate = ROCKETCHAT_GATE if message.path is Path.ROCKETCHAT else native_gate(message.channel)
        return Job(
            self._ids.new(), message.tenant, message.channel, JobKind.SEND, (outbound_lane(conversation.id),), gate,
            now, now, message_id=message.id, conversation_id=conversation.id, path=message.path,
            pin_version=conversation.pin_version,
        )  # fmt: skip

    async def _conversation(
        self, tx: Tx, order: Order, facts: list[Fact]
    ) -> tuple[Conversation, UUID | None]:
        contact, identity = await self._recipient(tx, order)
        conversation = await tx.open_conversation(order.channel.slug, identity.id)
        if conversation is not None:
            return conversation, None
        conversation, decision = await self._pins.open(tx, order.channel, contact, identity)
        if conversation.path is Path.ROCKETCHAT and order.channel.first_contact == "native":
            raise Rejected(
                "unsupported", "first contact on native needs a template, which this version cannot send", 422
            )
        labels = (conversation.kind, decision.stage, decision.path, decision.rule)
        facts.append(("decisions_total", 1, labels))
        return conversation, decision.id

    async def _recipient(self, tx: Tx, order: Order) -> tuple[Contact, Identity]:
        if order.conversation_id is not None:
            conversation = await tx.conversation(order.conversation_id)
            if conversation is None or conversation.channel != order.channel.slug:
                raise Rejected("unknown_conversation", "no such conversation on this channel", 404)
            identity = await tx.identity(conversation.identity_id)
            contact = await tx.contact(conversation.contact_id)
            if identity is None or contact is None:
                raise Rejected("unknown_conversation", "its contact is gone", 404)
            return contact, identity
        if order.to is not None:
            aliases = self._kinds[order.channel.kind].addresses(order.channel, order.to)
            now = await tx.now()
            person = await self._resolver.resolve(
                tx, order.channel, aliases, name=None, said_at=now, origin=Path.NATIVE
            )
            if person is None:
                raise Rejected("not_mapped", "this address was erased", 422)
            return person.contact, person.identity
        return await self._known(tx, order)

    async def _known(self, tx: Tx, order: Order) -> tuple[Contact, Identity]:
        contact = None
        if order.user_id is not None:
            contact = await tx.contact_by_user(order.channel.tenant, order.user_id)
        elif order.contact_id is not None:
            contact = await tx.contact(order.contact_id)
        identity = (
            await tx.identity_of_contact(contact.id, order.channel.kind) if contact is not None else None
        )
        if contact is None or identity is None or contact.tenant != order.channel.tenant:
            raise Rejected(
                "not_mapped", f"nobody known by this id has an address on {order.channel.kind}", 422
            )
        return contact, identity
