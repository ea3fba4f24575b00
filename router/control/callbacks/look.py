"""What a provider says of its callbacks, beside what we set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.control.desk import Desk, stamp
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.ports import Callback, Callbacks
from router.storage.queries import callbacks as rows

MOVED: Final = "level_moved"
"""Drift: a level we set holds another address."""
OVERRIDDEN: Final = "overridden"
"""Drift: a narrower level than ours was given an address."""
CONFLICT: Final = 409
LOOK_UP: Final = "look the code up in the provider's reference"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A channel, its provider's callbacks, and our own address for it (None: no public_url)."""

    channel: Channel
    edge: Callbacks
    url: str | None


def place_of(desk: Desk, slug: str) -> Place:
    """Raises Rejected unknown_channel, no_callbacks."""
    channel = desk.channels.get(slug)
    if channel is None:
        raise Rejected("unknown_channel", f"no channel {slug!r}: the settings name {names_of(desk.channels)}")
    edge = desk.callbacks.get(channel.kind)
    if edge is None:
        raise Rejected(
            "no_callbacks", f"the address of a {channel.kind} channel is set in its provider's console"
        )
    return Place(channel, edge, address(desk, slug))


def address(desk: Desk, slug: str) -> str | None:
    """Where a provider is to post for the channel."""
    return f"{desk.public_url.rstrip('/')}/webhooks/{slug}" if desk.public_url else None


def is_ours(desk: Desk, url: str | None) -> bool:
    """Whether a provider's address is that of one of our channels: an event finds its own from any of them."""
    return url is not None and any(url == address(desk, slug) for slug in desk.channels)


async def show(desk: Desk, slug: str) -> dict[str, Any]:
    """{channel, provider, levels: [{level, url, ours}], serving, set, drift}: what the provider says now.

    `serving` is the level whose address gets the messages; `set` {level, url, set_at, set_by, checked_at, previous:
    {level: url}} of what we set and did not set back, else null; `drift` null, level_moved or overridden.
    Raises Rejected unknown_channel, no_callbacks, callback_unreadable.
    """
    place = place_of(desk, slug)
    seen = await read(place)
    kept = await desk.store.transact(lambda tx: rows.one(tx, slug))
    if kept is not None and kept["restored_at"] is not None:
        kept = None
    return {
        "channel": slug,
        "provider": provider_of(place.channel),
        "levels": [{"level": one.level, "url": one.url, "ours": is_ours(desk, one.url)} for one in seen],
        "serving": serving_of(seen).level or None,
        "set": _told(kept, seen) if kept is not None and held(kept, seen) else None,
        "drift": drift_of(desk, kept, seen) if kept is not None else None,
    }


async def read(place: Place) -> Sequence[Callback]:
    """What the provider says. Raises Rejected callback_unreadable."""
    result, seen = await place.edge.show(place.channel)
    if result.outcome is not Outcome.OK:
        raise refused("callback_unreadable", "does not tell its callbacks", place, result)
    return seen


def drift_of(desk: Desk, kept: Row, seen: Sequence[Callback]) -> str | None:
    """Whether the messages no longer come to us although we set that they should."""

    def here(url: str | None) -> bool:
        return url == kept["url"] or is_ours(desk, url)

    ours = held(kept, seen)
    if not ours:
        return None
    if not all(here(one.url) for one in seen if one.level in ours):
        return MOVED
    return None if here(serving_of(seen).url) else OVERRIDDEN


def held(kept: Row | None, seen: Sequence[Callback]) -> list[str]:
    """The levels that we set and did not set back, the narrowest first; not those of a number, account or app that the
    channel had before it moved."""
    was = {} if kept is None else kept["previous"]
    return [one.level for one in seen if one.level in was and _holds(was[one.level], one)]


def _holds(was: Mapping[str, Any], now: Callback) -> bool:
    return not was.get("restored") and was.get("of", "") == now.of


def serving_of(seen: Sequence[Callback]) -> Callback:
    """The level whose address gets the messages; one without a name when none has."""
    return next((one for one in seen if one.url), Callback("", None))


def _told(kept: Row, seen: Sequence[Callback]) -> dict[str, Any]:
    told = {name: kept[name] for name in ("level", "url", "set_by")}
    told |= {name: stamp(kept[name]) for name in ("set_at", "checked_at")}
    return told | {"previous": {level: kept["previous"][level]["url"] for level in held(kept, seen)}}


def provider_of(channel: Channel) -> str:
    """Who carries the channel."""
    return channel.native.get("provider") or "cloud"


def names_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    """For a sentence."""
    return ", ".join(sorted(names)) or "none"


def refused(code: str, does: str, place: Place, result: Result) -> Rejected:
    """The provider's word, its code and the mend; never its own text, which may hold what we sent."""
    said = f"{provider_of(place.channel)} {does} ({result.code or result.outcome.value})"
    mend = place.edge.mend(result.code or "") or LOOK_UP
    return Rejected(code, f"{place.channel.slug}: {said}: {mend}", CONFLICT)
