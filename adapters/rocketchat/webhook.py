"""What Rocket.Chat tells us: its omnichannel webhook, its outgoing integrations, and the flat form.

Which channel a room belongs to is not in it (`place` decides that from rooms.info), so the visitor's addresses carry
an empty scope until `visitor_aliases` fills it in.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.payload import Malformed, identifier, items, load, mapping, moment, text
from adapters.rocketchat.rest.rooms import phones, token_digest
from adapters.rocketchat.said import content, digest, files, message, without_secrets
from router.domain.channel import Channel, named
from router.domain.message import Alias, Content
from router.domain.phone import canonical, digits
from router.domain.ports import RoomEvent, RoomInfo, RoomMessage

TOKEN_HEADER = b"x-rocketchat-livechat-token"

TYPES = {
    "Message": "message",
    "LivechatSessionStart": "start",
    "LivechatSessionQueued": "queued",
    "LivechatSessionTaken": "taken",
    "LivechatSessionForwarded": "forwarded",
    "LivechatSession": "close",
    "LivechatEdit": "edit",
    "LeadCapture": "lead",
    "LivechatOfflineMessage": "offline",
}
_KIND_OF_SOURCE = {"sms": "sms", "email": "email", "widget": "webchat", "api": "webchat"}
_OURS = {"agent", "bot"}


# who is speaking -------------------------------------------------------------------------------------------


def header_token(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """What the omnichannel webhook and the flat form authenticate with; empty when absent."""
    return next((value for name, value in headers if name.lower() == TOKEN_HEADER), b"")


def body_token(body: bytes) -> bytes:
    """What an outgoing integration authenticates with, its field `token`; empty when absent."""
    try:
        return (text(mapping(load(body)).get("token")) or "").encode()
    except Malformed:
        return b""


def authentic(
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    webhook_token: str | None,
    integration_token: str | None,
) -> bool:
    """True when the header holds the webhook's token, or the body the integration's. Neither set: False."""
    if webhook_token and hmac.compare_digest(header_token(headers), webhook_token.encode()):
        return True
    return bool(integration_token) and hmac.compare_digest(
        body_token(body), (integration_token or "").encode()
    )


def writes_to(body: bytes, channels: Mapping[str, Channel]) -> Channel | None:
    """The channel a flat form is for, named by its slug or by a kind only one channel has; None for all else."""
    told = parse(body)
    return named(channels, told[0].channel) if told and told[0].channel is not None else None


# what is said ----------------------------------------------------------------------------------------------


def parse(body: bytes) -> tuple[RoomEvent, ...] | None:
    """The events of one call; None when it is none of Rocket.Chat's shapes. Never raises."""
    try:
        document = load(body)
    except Malformed:
        return None
    if not isinstance(document, dict):
        return None
    reader = _reader(document)
    return (reader(document),) if reader else None


def _reader(document: Mapping[str, Any]) -> Any:
    kind = document.get("type")
    if kind == "LivechatOfflineMessage":
        return _offline
    if text(kind) and (kind in TYPES or "visitor" in document or "messages" in document):
        return _omnichannel
    if text(document.get("channel")) and identifier(document.get("message_id")):
        return _flat
    return _integration if text(document.get("token")) else None


def _omnichannel(document: Mapping[str, Any]) -> RoomEvent:
    visitor = mapping(document.get("visitor"))
    messages = (_item(item) for item in items(document.get("messages")) if isinstance(item, dict))
    return RoomEvent(
        TYPES.get(document["type"], "unknown"),
        identifier(document.get("_id")),
        identifier(visitor.get("_id")),
        _aliases(visitor),
        text(visitor.get("name")) or text(visitor.get("username")),
        tuple(messages),
    )


def _item(item: Mapping[str, Any]) -> RoomMessage:
    agent = identifier(item.get("agentId"))
    author = agent or identifier(mapping(item.get("u")).get("_id"))
    closing = item.get("closingMessage") is True
    return message(item, by_agent=agent is not None, author_id=author, closing=closing)


def _offline(document: Mapping[str, Any]) -> RoomEvent:
    """A form left while nobody was there: no room, no ids."""
    visitor = mapping(document.get("visitor"))
    said = RoomMessage(
        source_id=digest(document),
        by_agent=False,
        author_id=None,
        content=Content("text", text(document.get("message")), {"visitor": without_secrets(visitor)}),
        sent_at=moment(document.get("sentAt")),
    )
    return RoomEvent("offline", None, None, _aliases(visitor), text(visitor.get("name")), (said,))


def _integration(document: Mapping[str, Any]) -> RoomEvent:
    """An outgoing integration (channels, direct messages). Some of its events hold nothing but the token."""
    room_id, source_id = identifier(document.get("channel_id")), identifier(document.get("message_id"))
    if room_id is None or source_id is None:
        return RoomEvent("unknown", room_id)
    author = identifier(document.get("user_id"))
    # A file's event carries the whole message beside its own fields.
    whole = {**mapping(document.get("message")), **document}
    said = RoomMessage(
        source_id=source_id,
        by_agent=bool(document.get("bot")),
        author_id=author,
        content=content(whole, said="text"),
        sent_at=moment(document.get("timestamp")),
        edited=document.get("isEdited") is True,
        files=files(whole),
    )
    name = text(document.get("alias")) or text(document.get("user_name"))
    return RoomEvent("message", room_id, author, (), name, (said,))


def _flat(document: Mapping[str, Any]) -> RoomEvent:
    """`{message_id, user{id,name}, channel, text, timestamp, source}`: inbound unless an agent or bot said it."""
    user = mapping(document.get("user"))
    author = identifier(user.get("id"))
    said = RoomMessage(
        source_id=str(identifier(document.get("message_id"))),
        by_agent=document.get("source") in _OURS if isinstance(document.get("source"), str) else False,
        author_id=author,
        content=content(document, said="text"),
        sent_at=moment(document.get("timestamp")),
        files=files(document),
    )
    return RoomEvent(
        "message",
        identifier(document.get("room_id")),
        author,
        _aliases(user),
        text(user.get("name")),
        (said,),
        text(document.get("channel")),
    )


# whose it is -----------------------------------------------------------------------------------------------


def place(
    info: RoomInfo, sources: Mapping[str, str | Mapping[str, str]], channels: Mapping[str, Channel]
) -> str | None:
    """The slug of the channel a room belongs to; None when that cannot be told.

    All marketplace apps share the source type "app": only the setting `[rocketchat] sources` tells them apart. Of the
    other types there is one room source a kind, so the only channel of that kind is meant.
    """
    entry = sources.get(info.source_id or "")
    if entry is not None:
        slug = entry if isinstance(entry, str) else entry.get("channel", "")
        return slug if slug in channels else None
    kind = _KIND_OF_SOURCE.get(info.source_type or "")
    of_kind = [channel.slug for channel in channels.values() if channel.kind == kind]
    return of_kind[0] if len(of_kind) == 1 else None


def visitor_aliases(channel: Channel, of: RoomEvent | RoomInfo) -> tuple[Alias, ...]:
    """The visitor's addresses on `channel`: numbers first, then the digest of the visitor's token."""
    if isinstance(of, RoomEvent):
        found = of.visitor_aliases
    else:
        found = (*_numbers(of.visitor_phones), *_visitor(of.visitor_token_digest))
    kinds = {"wa_id": "wa_id" if channel.kind == "whatsapp" else "phone"}
    return tuple(
        replace(alias, kind=kinds.get(alias.kind, alias.kind), scope=channel.tenant) for alias in found
    )


def _aliases(visitor: Mapping[str, Any]) -> tuple[Alias, ...]:
    return (*_numbers(phones(visitor.get("phone"))), *_visitor(token_digest(visitor.get("token"))))


def _numbers(written: Sequence[str]) -> tuple[Alias, ...]:
    keys = {canonical(number): number for phone in reversed(written) if (number := digits(phone))}
    return tuple(Alias("wa_id", "", key, number) for key, number in reversed(keys.items()))


def _visitor(digest: str | None) -> tuple[Alias, ...]:
    return (Alias("rc_visitor", "", digest, digest),) if digest else ()


class Webhook:
    """router.domain.ports.RoomWebhook over the settings' mapping of sources and the channels."""

    def __init__(
        self, sources: Mapping[str, str | Mapping[str, str]], channels: Mapping[str, Channel]
    ) -> None:
        self._sources = sources
        self._channels = channels

    def parse(self, body: bytes) -> tuple[RoomEvent, ...] | None:
        """See `parse`."""
        return parse(body)

    def aliases(self, channel: Channel, event: RoomEvent | RoomInfo) -> tuple[Alias, ...]:
        """See `visitor_aliases`; with none of those, Rocket.Chat's own id of the user or visitor."""
        found = visitor_aliases(channel, event)
        who = event.visitor_id or event.room_id or "unknown"
        return found or (Alias("rc_user", channel.tenant, who, who),)

    def place(self, info: RoomInfo) -> str | None:
        """See `place`."""
        return place(info, self._sources, self._channels)
