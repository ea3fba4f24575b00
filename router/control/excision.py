"""Cutting one person's parts out of what was received: pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from uuid import UUID

from router.domain.channel import Channel
from router.domain.job import Share
from router.domain.message import Alias, Part, PartType
from router.domain.ports import Kind
from router.storage.queries.erasure import Traces

_WORDS: Final = frozenset({PartType.MESSAGE, PartType.ECHO})
_LEAST: Final = 6
"""Shorter addresses stand in any text by chance."""


@dataclass(frozen=True)
class Person:
    """Whose parts these are. `visitors`: Rocket.Chat's ids of them."""

    tenant: str
    traces: Traces
    aliases: tuple[Alias, ...]
    visitors: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> frozenset[tuple[str, str, str]]:
        """What their addresses are compared by."""
        return frozenset(alias.key for alias in self.aliases)

    @cached_property
    def rooms(self) -> frozenset[str]:
        """Their rooms."""
        return frozenset(self.traces.rooms)

    @cached_property
    def external_ids(self) -> frozenset[str]:
        """The provider's ids of what was said."""
        return frozenset(self.traces.external_ids)

    @cached_property
    def conversations(self) -> frozenset[UUID]:
        """Theirs."""
        return frozenset(self.traces.conversations)

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """What to look for in bytes: addresses, rooms, visitors."""
        spelled = {text for alias in self.aliases for text in (alias.value, alias.lookup)}
        texts = spelled | self.rooms | set(self.visitors)
        return tuple(sorted(text.encode("utf-8", "replace") for text in texts if len(text) >= _LEAST))

    def said(self, part: Part) -> bool:
        """Whether a part is theirs: by an address, or by a message it is about."""
        named = {alias.key for alias in (*part.aliases, *part.new_aliases)}
        return bool(named & self.keys) or part.external_id in self.external_ids


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of an event: its body (None: nothing), how the parts that are left are called now by what they were
    called, and the provider's ids of the messages that the others were about."""

    body: bytes | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    external_ids: frozenset[str] = frozenset()


def cut(kind: Kind, channel: Channel, body: bytes, person: Person) -> Cut | None:
    """A provider's event without what is theirs; None: nothing in it is."""
    parts = kind.parse(channel, body).parts
    theirs = {part.ref for part in parts if person.said(part)}
    # A report tells by its own bytes, however it names them; what others say of them is theirs who said it.
    theirs |= {
        part.ref
        for part in parts
        if part.type not in _WORDS and _mentions(kind.divide(body, [part.ref]), person)
    }
    keep = [part.ref for part in parts if part.ref not in theirs]
    if parts and not theirs:
        return None
    ids = frozenset(part.external_id for part in parts if part.ref in theirs and part.external_id is not None)
    if not keep:
        return Cut(external_ids=ids)
    left = kind.divide(body, keep)
    now = [part.ref for part in kind.parse(channel, left).parts]
    if len(now) != len(keep):
        # Nothing that could be told apart: what others said in it is kept as messages, these bytes are not.
        return Cut(external_ids=ids)
    return Cut(left, dict(zip(keep, now, strict=True)), ids)


def _mentions(body: bytes, person: Person) -> bool:
    return any(needle in body for needle in person.needles)


def about(body: bytes) -> str | None:
    """The room that an event of Rocket.Chat's is about; None: it names none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    room = document.get("_id") or document.get("channel_id")
    return room if isinstance(room, str) else None


def shares_left(
    shares: tuple[Share, ...], person: Person, names: Mapping[str, str] | None
) -> tuple[Share, ...]:
    """What a forward still carries. `names`: of the parts that are left of its event; None: nothing was cut out."""
    return tuple(
        share if names is None else Share(names[share.ref], share.conversation_id, share.message_id)
        for share in shares
        if share.conversation_id not in person.conversations and (names is None or share.ref in names)
    )
