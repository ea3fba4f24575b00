"""An outbound message is taken in: whose conversation, on which path, into which lane. Nothing leaves here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from flags.stage import Path
from router.delivery.claim import UNREAD, refused_now
from router.domain.channel import Channel
from router.domain.conversation import Contact, Conversation, Identity
from router.domain.errors import Rejected
from router.domain.ids import Ids
from router.domain.job import (
    ROCKETCHAT_GATE,
    Job,
    JobKind,
    fetch_job,
    marking_lane,
    native_gate,
    outbound_lane,
)
from router.domain.media import KINDS, Media, MediaState
from router.domain.message import Author, Content, Direction, Message, Status
from router.domain.ports import Fact, Kind, Pins, Rules, Tx
from router.domain.sending import chunks, named_by_us, supported
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
        """Queue the message behind its conversation's earlier ones. A text that is too long for the kind becomes several
        messages in order: the first is returned, its metadata has `chunks`, the ids of all.

        Raises Rejected: not_mapped, unknown_conversation, invalid_recipient, unsupported, window_closed, opted_out,
        unknown_message, unknown_media (422, 404), no_room_on_path (409).
        """
        facts: list[Fact] = []
        now = await tx.now()
        rules = self._kinds[order.channel.kind].rules(order.channel)
        conversation, decision_id = await self._conversation(tx, order, facts)
        await self._allowed(tx, order, conversation, rules, now)
        pieces, ids = self._pieces(order.content, rules), []
        messages: list[Message] = []
        for piece in pieces:
            ids.append(self._ids.new())
            message = self._message(order, conversation, piece, ids[-1], decision_id, now)
            messages.append(await tx.add_message(message))
            await self._attach(tx, messages[-1])
        if len(pieces) > 1:
            messages = [await self._numbered(tx, message, ids) for message in messages]
        read_at = now if order.author is Author.HUMAN else conversation.read_at  # who answers has read
        await tx.save_conversation(replace(conversation, last_at=now, read_at=read_at))
        for message in messages:
            await tx.add_job(self._job(message, conversation, now))
            facts.append(("messages_total", 1, (message.kind, message.direction, message.path)))
        return messages[0], conversation, facts

    async def mark(self, tx: Tx, conversation: Conversation, message: Message, *, typing: bool) -> None:
        """Tell the provider that `message` was read; on path rocketchat its own app does."""
        if conversation.path is not Path.NATIVE or message.external_id is None:
            return
        now = await tx.now()
        kind = JobKind.TYPING if typing else JobKind.MARK
        await tx.add_job(
            Job(
                self._ids.new(), conversation.tenant, conversation.channel, kind,
                (marking_lane(conversation.id),), native_gate(conversation.channel), now, now,
                message_id=message.id, conversation_id=conversation.id,
            )
        )  # fmt: skip

    async def refetch(self, tx: Tx, media: Media) -> None:
        """Ask for a file once more."""
        now = await tx.now()
        await tx.save_media(replace(media, state=MediaState.WAITING, error_code=None))
        await tx.add_job(fetch_job(self._ids.new(), media, now))

    async def _allowed(
        self, tx: Tx, order: Order, conversation: Conversation, rules: Rules, now: datetime
    ) -> None:
        if not supported(order.content, rules, conversation.path):
            raise Rejected("unsupported", f"{order.content.kind} cannot be sent on path {conversation.path}")
        refused = await refused_now(tx, conversation, order.content, rules, conversation.path, now)
        if (
            refused is not None and refused != UNREAD
        ):  # what waits may open it: asked again when it is to leave
            raise Rejected(refused, _REFUSALS[refused])
        if conversation.path is Path.ROCKETCHAT and conversation.room_id is None:
            raise Rejected(
                "no_room_on_path",
                "this conversation is on Rocket.Chat, which has no room for it yet: "
                'let the contact write first, or set first_contact = "native" on the channel',
                409,
            )
        about = order.content.data.get("message_id") or order.content.data.get("reply_to")
        if about is not None:
            named = await tx.message(_uuid(about, "unknown_message"), lock=False)
            if named is None or named.conversation_id != conversation.id:
                raise Rejected("unknown_message", "no such message in this conversation", 404)

    def _pieces(self, content: Content, rules: Rules) -> list[Content]:
        if content.kind != "text" or content.text is None:
            return [content]
        return [
            replace(content, text=words) for words in chunks(content.text, rules.text_limit, rules.measure)
        ]

    def _message(
        self, order: Order, conversation: Conversation, content: Content, message_id: UUID,
        decision_id: UUID | None, now: datetime,
    ) -> Message:  # fmt: skip
        ours = named_by_us(content, conversation.path)
        return Message(
            id=message_id, tenant=conversation.tenant, channel=conversation.channel, kind=conversation.kind,
            conversation_id=conversation.id, direction=Direction.OUTBOUND, author=order.author,
            content=content, status=Status.QUEUED, path=conversation.path, created_at=now, sent_at=now,
            source_id=self._ids.rocketchat() if ours else None, decision_id=decision_id,
            metadata=order.metadata,
        )  # fmt: skip

    async def _numbered(self, tx: Tx, message: Message, ids: Sequence[UUID]) -> Message:
        """A piece of a long text says which one it is; the first names them all."""
        place: dict[str, Any] = {"chunk_of": str(ids[0]), "chunk": [ids.index(message.id) + 1, len(ids)]}
        if message.id == ids[0]:
            place["chunks"] = [str(one) for one in ids]
        numbered = replace(message, metadata={**message.metadata, **place})
        await tx.save_message(numbered)
        return numbered

    async def _attach(self, tx: Tx, message: Message) -> None:
        """The file belongs to the message from now on; one that has a message already serves again as a copy."""
        if message.content.kind not in KINDS:
            return
        media = await tx.media(_uuid(message.content.data.get("media_id"), "unknown_media"), lock=True)
        if media is None or media.tenant != message.tenant:
            raise Rejected("unknown_media", "no such file: upload it first, or give its url", 404)
        if media.message_id is None:
            await tx.save_media(replace(media, message_id=message.id, channel=message.channel))
        else:
            await tx.add_media(replace(media, id=self._ids.new(), message_id=message.id))

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
        first = order.channel.first_contact == "native" and order.content.kind == "template"
        conversation, decision = await self._pins.open(
            tx, order.channel, contact, identity, first_contact=first
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


_REFUSALS = {
    "opted_out": "the contact asked to be written to no more",
    "window_closed": "the contact has not written within the last hours that the provider allows: send a template",
}


def _uuid(written: object, code: str) -> UUID:
    try:
        return UUID(str(written))
    except ValueError:
        raise Rejected(code, "it names nothing that exists", 404) from None
