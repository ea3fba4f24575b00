"""WhatsApp Cloud API: its webhooks (also what 360dialog's Cloud numbers deliver) and its sends."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import httpx

from adapters.native import graph
from adapters.payload import Malformed, identifier, items, load, mapping, moment, text
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.message import Alias, Content, Part, PartType, Status
from router.domain.phone import canonical
from router.domain.ports import Outbound, Parsed

TEXT_LENGTH = 4096
_CALLBACK_LENGTH = 512

CAPABILITIES: Mapping[str, Any] = {
    "receives": (
        "text", "image", "audio", "video", "document", "sticker", "location", "contacts", "button",
        "interactive", "reaction", "edit", "delete", "order", "unsupported",
    ),
    "sends": ("text",),
    "statuses": ("sent", "delivered", "read", "failed"),
    "echoes": True,
    "divides": True,
    "signature": "X-Hub-Signature-256",
    "addresses": ("wa_id", "bsuid"),
    "text_length": TEXT_LENGTH,
    "window_hours": 24,
    "idempotent": False,
    "settings": ("provider", "base_url", "phone_number_id", "access_token", "app_secret", "verify_token", "portfolio"),
    "providers": ("cloud",),
}  # fmt: skip
"""What this adapter can do, as data for docs/reference/channels.md."""

_STATUS = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,  # a voice message that was listened to
    "failed": Status.FAILED,
}
_MESSAGE_KINDS = {kind: kind for kind in CAPABILITIES["receives"]} | {"revoke": "delete", "voice": "audio"}
_LISTS = {
    "messages": PartType.MESSAGE,
    "statuses": PartType.STATUS,
    "message_echoes": PartType.ECHO,
    "user_id_update": PartType.IDENTITY,
}
# Their lists are calls and copies of old conversations, not messages to be handled now.
_OTHER_FIELDS = {"calls", "history"}

_DIGITS = re.compile(r"\+?([0-9]{5,20})")
_SCOPED_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
_RENAMED = re.compile(r"from ([A-Z]{2}\.[A-Za-z0-9]{1,128}) to ")


class WhatsApp:
    """Implements `router.domain.ports.Kind`."""

    name = "whatsapp"

    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        return graph.handshake(channel, query)

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        return graph.verify(channel, headers, body)

    def parse(self, channel: Channel, body: bytes) -> Parsed:
        try:
            entries = mapping(load(body)).get("entry")
        except Malformed:
            return Parsed((), malformed=True)
        if not isinstance(entries, list):
            return Parsed((), malformed=True)
        parts = (
            part for at, entry in enumerate(entries) for part in _entry_parts(channel, f"entry/{at}", entry)
        )
        return Parsed(tuple(parts))

    def divide(self, body: bytes, keep: Collection[str]) -> bytes:
        return graph.divide(body, keep, _narrow)

    def resign(
        self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[tuple[bytes, bytes], ...]:
        return graph.resign(channel, headers, body)

    def addresses(self, channel: Channel, to: str) -> tuple[Alias, ...]:
        given = to.strip()
        number = _DIGITS.fullmatch(given)
        if not number and not _SCOPED_ID.fullmatch(given):
            raise Rejected("invalid_recipient", "`to` is neither a phone number nor a WhatsApp user id")
        if not number and not channel.native.get("portfolio"):
            # Ids received are kept under the WABA their event names; guessed, the scope would make a second person.
            raise Rejected(
                "invalid_recipient", "a WhatsApp user id needs the channel's `portfolio` to be set"
            )
        return (_alias(channel, "", number[1] if number else given),)


def sender(client: httpx.AsyncClient, monotonic: Callable[[], float]) -> graph.GraphSender:
    """The way out: text, up to TEXT_LENGTH characters."""
    return graph.GraphSender(client, monotonic, render)


def render(outbound: Outbound) -> Mapping[str, Any] | Result:
    """The body of POST /messages, or PERMANENT when this content or this address cannot be sent to."""
    said = outbound.content
    if said.kind != "text" or not said.text:
        return Result(Outcome.PERMANENT, code="unsupported")
    if len(said.text) > TEXT_LENGTH or len(outbound.callback_data) > _CALLBACK_LENGTH:
        return Result(Outcome.PERMANENT, code="too_long")
    number = next((alias.value for alias in outbound.to if alias.kind == "wa_id"), None)
    user = next((alias.value for alias in outbound.to if alias.kind in {"bsuid", "parent_bsuid"}), None)
    if not (number or user):
        return Result(Outcome.PERMANENT, code="no_address")
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **({"to": number} if number else {"recipient": user}),  # given both, Meta would take the number
        "type": "text",
        "text": {"body": said.text},
        "biz_opaque_callback_data": outbound.callback_data,
    }


# parsing ---------------------------------------------------------------------------------------------------


class _Change:
    """One change of one entry, with what its messages need of it."""

    def __init__(self, channel: Channel, waba: str, value: Mapping[str, Any]) -> None:
        self.channel, self.waba, self.value = channel, waba, value
        self.address = identifier(mapping(value.get("metadata")).get("phone_number_id"))
        self.contacts = [contact for contact in items(value.get("contacts")) if isinstance(contact, dict)]
        people = sum(len(items(value.get(key))) for key in ("messages", "message_echoes", "user_id_update"))
        self.alone = len(self.contacts) == 1 and people == 1
        self._by_key: dict[str, Mapping[str, Any]] = {}
        for contact in self.contacts:
            for key in _keys(*_contact_ids(contact)):
                self._by_key.setdefault(key, contact)

    def contact(self, *ids: Any) -> Mapping[str, Any]:
        """The contact these ids belong to. One that is alone with one message belongs to it, unless it says otherwise."""
        wanted = _keys(*ids)
        for key in wanted:
            if key in self._by_key:
                return self._by_key[key]
        if self.alone and not _contradict(wanted, _keys(*_contact_ids(self.contacts[0]))):
            return self.contacts[0]
        return {}

    def aliases(self, *ids: Any) -> tuple[Alias, ...]:
        """Number first, then user id, each key once. A parent id joins people of several clinics: only when alone."""
        found: dict[tuple[str, str], Alias] = {}
        for alias in map(self._alias, ids):
            if alias:
                found.setdefault((alias.kind, alias.lookup), alias)
        own = sorted((alias for alias in found.values() if alias.kind != "parent_bsuid"), key=_by_kind)
        return tuple(own or found.values())

    def _alias(self, value: Any) -> Alias | None:
        written = identifier(value)
        return _alias(self.channel, self.waba, written) if written else None


def _by_kind(alias: Alias) -> bool:
    return alias.kind != "wa_id"


def _alias(channel: Channel, waba: str, value: str) -> Alias:
    portfolio = channel.native.get("portfolio") or waba or channel.native.get("waba_id") or channel.tenant
    if scoped := _SCOPED_ID.fullmatch(value):
        return Alias("parent_bsuid" if scoped[1] else "bsuid", portfolio, value, value)
    number = _DIGITS.fullmatch(value)
    return Alias("wa_id", channel.tenant, canonical(number[1]) if number else value, value)


def _contact_ids(contact: Mapping[str, Any]) -> tuple[Any, Any]:
    return contact.get("wa_id"), contact.get("user_id")


def _keys(*ids: Any) -> list[str]:
    """Comparable spellings; numbers by their canonical key."""
    return [canonical(key.removeprefix("+")) for value in ids if (key := identifier(value))]


def _contradict(one: list[str], other: list[str]) -> bool:
    """Two different numbers, or two different user ids: two people, whatever the batch looks like."""
    for has in (_SCOPED_ID.fullmatch, lambda key: not _SCOPED_ID.fullmatch(key)):
        left, right = set(filter(has, one)), set(filter(has, other))
        if left and right and not left & right:
            return True
    return False


def _entry_parts(channel: Channel, ref: str, entry: Any) -> Iterator[Part]:
    changes = mapping(entry).get("changes")
    if not isinstance(changes, list) or not changes:
        yield Part(ref, PartType.OTHER, raw=mapping(entry))
        return
    waba = identifier(entry.get("id")) or ""
    for at, change in enumerate(changes):
        yield from _change_parts(channel, waba, f"{ref}/changes/{at}", mapping(change))


def _change_parts(channel: Channel, waba: str, ref: str, raw: Mapping[str, Any]) -> Iterator[Part]:
    change = _Change(channel, waba, mapping(raw.get("value")))
    lists = {} if text(raw.get("field")) in _OTHER_FIELDS else _LISTS
    empty = True
    for key, kind in lists.items():
        for at, item in enumerate(items(change.value.get(key))):
            empty = False
            yield _part(change, kind, f"{ref}/value/{key}/{at}", item)
    if empty:
        yield Part(ref, PartType.OTHER, change.address, raw=raw)


def _part(change: _Change, kind: PartType, ref: str, item: Any) -> Part:
    if not isinstance(item, dict):
        return Part(ref, PartType.OTHER, change.address)
    if kind is PartType.MESSAGE and item.get("type") == "system":
        kind = PartType.IDENTITY
    return _READERS[kind](change, ref, item)


def _message(change: _Change, ref: str, item: Mapping[str, Any]) -> Part:
    return _said(change, ref, item, PartType.MESSAGE, (item.get("from"), item.get("from_user_id")))


def _echo(change: _Change, ref: str, item: Mapping[str, Any]) -> Part:
    return _said(change, ref, item, PartType.ECHO, (item.get("to"), item.get("to_user_id")))


def _said(change: _Change, ref: str, item: Mapping[str, Any], kind: PartType, ids: tuple[Any, Any]) -> Part:
    contact = change.contact(*ids)
    aliases = change.aliases(*ids, *_contact_ids(contact)) or change.aliases(*_parents(item, contact))
    return Part(
        ref,
        kind,
        change.address,
        identifier(item.get("id")),
        aliases or (_nobody(change.channel, item),),
        text(mapping(contact.get("profile")).get("name")),
        content(item),
        moment(item.get("timestamp")),
        raw=item,
    )


def _parents(item: Mapping[str, Any], contact: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = ("from_parent_user_id", "to_parent_user_id", "parent_user_id")
    return (*(item.get(key) for key in keys), contact.get("parent_user_id"))


def _nobody(channel: Channel, item: Mapping[str, Any]) -> Alias:
    """A message without a sender still needs a thread: its own, so that two strangers never share one."""
    key = identifier(item.get("id")) or hashlib.sha256(graph.written(item)).hexdigest()
    return Alias("message", channel.slug, key, key)


def _status(change: _Change, ref: str, item: Mapping[str, Any]) -> Part:
    prefix = "recipient_participant" if item.get("recipient_type") == "group" else "recipient"
    error = mapping(next(iter(items(item.get("errors"))), None))
    return Part(
        ref,
        PartType.STATUS,
        change.address,
        identifier(item.get("id")),
        change.aliases(item.get(f"{prefix}_id"), item.get(f"{prefix}_user_id")),
        sent_at=moment(item.get("timestamp")),
        status=_STATUS.get(text(item.get("status")) or ""),
        error_code=identifier(error.get("code")),
        callback_data=identifier(item.get("biz_opaque_callback_data")),
        raw=item,
    )


def _identity(change: _Change, ref: str, item: Mapping[str, Any]) -> Part:
    """A `system` message, or an item of the field user_id_update: who somebody was, and is from now on."""
    system, update = mapping(item.get("system")), mapping(item.get("user_id"))
    renamed = _RENAMED.search(text(system.get("body")) or "")
    was = (
        item.get("from") or item.get("wa_id"),
        item.get("from_user_id") or update.get("previous") or system.get("previous_user_id"),
        renamed[1] if renamed else None,
    )
    contact = change.contact(*was)
    old = change.aliases(*was, contact.get("wa_id"))
    # `system.wa_id` is the new number; other system types (customer_identity_changed) name none.
    new = change.aliases(
        system.get("new_wa_id") or system.get("wa_id"), system.get("user_id"), update.get("current")
    )
    return Part(
        ref,
        PartType.IDENTITY,
        change.address,
        identifier(item.get("id")),
        old or new,
        text(mapping(contact.get("profile")).get("name")),
        sent_at=moment(item.get("timestamp")),
        new_aliases=tuple(alias for alias in new if alias not in old),
        raw=item,
    )


_READERS: Mapping[PartType, Callable[[_Change, str, Mapping[str, Any]], Part]] = {
    PartType.MESSAGE: _message,
    PartType.ECHO: _echo,
    PartType.STATUS: _status,
    PartType.IDENTITY: _identity,
}


# content ---------------------------------------------------------------------------------------------------


def content(item: Mapping[str, Any]) -> Content:
    """What a message object says; a type nobody knows is kept as "unsupported"."""
    given = text(item.get("type")) or next((key for key in _MESSAGE_KINDS if key in item), "")
    return Content(_MESSAGE_KINDS.get(given, "unsupported"), _words(given, item), item)


def _words(kind: str, item: Mapping[str, Any]) -> str | None:
    body = item.get(kind)
    reader = _WORDS.get(kind, partial(_first, keys=("caption",)))
    return reader(body)


def _first(body: Any, keys: tuple[str, ...]) -> str | None:
    return next((found for key in keys if (found := text(mapping(body).get(key)))), None)


def _reply(body: Any) -> str | None:
    """The title of the button or row that was chosen; a flow says only that it was sent."""
    chosen = mapping(mapping(body).get(text(mapping(body).get("type")) or ""))
    return _first(chosen, ("title", "body"))


def _edited(body: Any) -> str | None:
    return content(mapping(mapping(body).get("message"))).text


def _names(body: Any) -> str | None:
    names = (text(mapping(mapping(card).get("name")).get("formatted_name")) for card in items(body))
    return ", ".join(filter(None, names)) or None


_WORDS: Mapping[str, Callable[[Any], str | None]] = {
    "text": partial(_first, keys=("body",)),
    "button": partial(_first, keys=("text",)),
    "order": partial(_first, keys=("text",)),
    "location": partial(_first, keys=("name", "address")),
    "reaction": partial(_first, keys=("emoji",)),
    "interactive": _reply,
    "contacts": _names,
    "edit": _edited,
}


# dividing --------------------------------------------------------------------------------------------------

_PERSON_KEYS = ("from", "from_user_id", "to", "to_user_id", "recipient_id", "recipient_user_id", "wa_id")


def _narrow(kept: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Take out the contacts whose messages went elsewhere; keep all when one message matches none of them."""
    contacts = kept.get("contacts")
    if not isinstance(contacts, list) or all(kept.get(key) == whole.get(key) for key in _LISTS):
        return kept
    people = [
        set(_keys(*(item.get(name) for name in _PERSON_KEYS)))
        for key in _LISTS
        for item in items(kept.get(key))
        if isinstance(item, dict)
    ]
    known = [set(_keys(*_contact_ids(mapping(contact)))) for contact in contacts]
    everybody, wanted = set().union(*known), set().union(*people)
    if not all(person & everybody for person in people):
        return kept
    return {**kept, "contacts": [c for c, ids in zip(contacts, known, strict=True) if ids & wanted]}
