"""Reading what WhatsApp tells: messages, echoes, statuses and changes of address, out of either envelope."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adapters.native import graph
from adapters.native.whatsapp.content import attachments, billed, content, group_of
from adapters.payload import Malformed, identifier, items, load, mapping, moment, text
from router.domain.channel import Channel
from router.domain.message import Alias, Part, PartType, Status
from router.domain.phone import canonical
from router.domain.ports import Parsed

_STATUS = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,  # a voice message that was listened to
    "failed": Status.FAILED,
}
_LISTS = {
    "messages": PartType.MESSAGE,
    "statuses": PartType.STATUS,
    "message_echoes": PartType.ECHO,
    "user_id_update": PartType.IDENTITY,
}
# Their lists are calls and copies of old conversations, not messages to be handled now.
_OTHER_FIELDS = {"calls", "history"}
# At the top of a body instead of "entry": the shape of 360dialog's older numbers.
_FLAT = (*_LISTS, "errors", "contacts")

DIGITS = re.compile(r"\+?([0-9]{5,20})")
SCOPED_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
_RENAMED = re.compile(r"from ([A-Z]{2}\.[A-Za-z0-9]{1,128}) to ")


def parse(channel: Channel, body: bytes) -> Parsed:
    """The parts of Meta's envelope, or of a flat body; total."""
    try:
        document = mapping(load(body))
    except Malformed:
        return Parsed((), malformed=True)
    entries = document.get("entry")
    if isinstance(entries, list):
        parts = (
            part for at, entry in enumerate(entries) for part in _entry_parts(channel, f"entry/{at}", entry)
        )
        return Parsed(tuple(parts))
    shape = next((key for key in _FLAT if isinstance(document.get(key), list)), None)
    if shape is None:
        return Parsed((), malformed=True)
    change = _Change(channel, "", document)
    found = tuple(_value_parts(change, "", _LISTS))
    return Parsed(found or (Part(shape, PartType.OTHER, change.address, raw=document),))


class _Change:
    """One change of one entry, with what its messages need of it."""

    def __init__(self, channel: Channel, waba: str, value: Mapping[str, Any]) -> None:
        self.channel, self.waba, self.value = channel, waba, value
        self.address = _address(channel, identifier(mapping(value.get("metadata")).get("phone_number_id")))
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
        return alias_of(self.channel, self.waba, written) if written else None


def _address(channel: Channel, given: str | None) -> str | None:
    """The clinic's number an event is for. What still comes for the id it had at another provider is this channel's."""
    moved = given is not None and given == channel.native.get("previous_phone_number_id")
    return channel.address or given if moved else given


def _by_kind(alias: Alias) -> bool:
    return alias.kind != "wa_id"


def alias_of(channel: Channel, waba: str, value: str) -> Alias:
    portfolio = channel.native.get("portfolio") or waba or channel.native.get("waba_id") or channel.tenant
    if scoped := SCOPED_ID.fullmatch(value):
        return Alias("parent_bsuid" if scoped[1] else "bsuid", portfolio, value, value)
    number = DIGITS.fullmatch(value)
    return Alias("wa_id", channel.tenant, canonical(number[1]) if number else value, value)


def _contact_ids(contact: Mapping[str, Any]) -> tuple[Any, Any]:
    return contact.get("wa_id"), contact.get("user_id")


def _keys(*ids: Any) -> list[str]:
    """Comparable spellings; numbers by their canonical key."""
    return [canonical(key.removeprefix("+")) for value in ids if (key := identifier(value))]


def _contradict(one: list[str], other: list[str]) -> bool:
    """Two different numbers, or two different user ids: two people, whatever the batch looks like."""
    for has in (SCOPED_ID.fullmatch, lambda key: not SCOPED_ID.fullmatch(key)):
        left, right = set(filter(has, one)), set(filter(has, other))
        if left and right and not left & right:
            return True
    return False


def numbers(body: bytes) -> frozenset[str | None]:
    """The ids of our numbers that a body names, as they stand in it; None for a part of it that names none."""
    try:
        document = mapping(load(body))
    except Malformed:
        return frozenset()
    entries = document.get("entry")
    if not isinstance(entries, list):
        return frozenset({_number(document)})
    return frozenset(found for entry in entries for found in _numbers(items(mapping(entry).get("changes"))))


def _numbers(changes: list[Any]) -> set[str | None]:
    return {_number(mapping(mapping(change).get("value"))) for change in changes} or {None}


def _number(value: Mapping[str, Any]) -> str | None:
    return identifier(mapping(value.get("metadata")).get("phone_number_id"))


def only_statuses(body: bytes) -> bool:
    """A flat body that tells what became of messages, and nothing else."""
    try:
        document = mapping(load(body))
    except Malformed:
        return False
    others = _LISTS.keys() - {"statuses"}
    told = isinstance(document.get("statuses"), list) and bool(document["statuses"])
    return told and not isinstance(document.get("entry"), list) and not any(map(document.get, others))


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
    for part in _value_parts(change, f"{ref}/value/", lists):
        empty = False
        yield part
    if empty:
        yield Part(ref, PartType.OTHER, change.address, raw=raw)


def _value_parts(change: _Change, prefix: str, lists: Mapping[str, PartType]) -> Iterator[Part]:
    for key, kind in lists.items():
        for at, item in enumerate(items(change.value.get(key))):
            yield _part(change, kind, f"{prefix}{key}/{at}", item)


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
    if group := group_of(item):
        return _in_group(change, ref, item, kind, group)
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
        files=attachments(item),
        raw=item,
    )


def _in_group(change: _Change, ref: str, item: Mapping[str, Any], kind: PartType, group: str) -> Part:
    """Said before others: kept under the group's own address, so that it never stands in somebody's own thread."""
    return Part(
        ref,
        kind,
        change.address,
        identifier(item.get("id")),
        (Alias("group", change.channel.slug, group, group),),
        content=content(item),
        sent_at=moment(item.get("timestamp")),
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
        billed=billed(item.get("pricing")),
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


# dividing --------------------------------------------------------------------------------------------------

_PERSON_KEYS = ("from", "from_user_id", "to", "to_user_id", "recipient_id", "recipient_user_id", "wa_id")


def narrow(kept: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
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
