"""Everything said in a room, read back in pages: the webhook is lossy, this is what it is compared with."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from adapters.payload import identifier, items, mapping, moment
from adapters.rocketchat.rest.answers import Reply
from adapters.rocketchat.rest.client import Client
from router.domain.job import Outcome, Result

PAGE: Final = 100
PAGES: Final = 50
"""At most so many pages of one room: the newest 5,000 messages."""
UNFINISHED: Final = "unfinished"
"""The code of a reading that asked for fewer pages and did not come to its end."""

_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(milliseconds=1)
_NO_TOKEN: Final = {"invalid-token", "invalid-room", "error-token-param-not-provided"}

Item = Mapping[str, Any]


def written(at: datetime) -> str:
    """As JavaScript writes a Date."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def said(
    client: Client, room_id: str, token: str | None, since: datetime | None, pages: int = PAGES
) -> tuple[Result, list[Item]]:
    """The message objects said or edited after `since`, oldest first; with the visitor's token, else as our user.
    With fewer `pages` than PAGES, what they do not hold is not passed over: the newest come with RETRY UNFINISHED."""
    if token is not None:
        result, found = await _as_visitor(client, room_id, token, since, pages)
        if result.code not in _NO_TOKEN:
            return result, found
    return await _as_user(client, room_id, since)


async def _as_visitor(
    client: Client, room_id: str, token: str, since: datetime | None, pages: int
) -> tuple[Result, list[Item]]:
    """livechat/messages.history gives the newest first. Paged by `end`, as `offset` is unknown to older versions and
    shifts while people write; `ls` only makes it count what is unread."""
    found: dict[str, Item] = {}
    params = {"token": token, "limit": str(PAGE)}
    result = Result(Outcome.OK)
    for _ in range(pages):
        reply = await client.read("livechat/messages.history", params, tail=f"/{quote(room_id, safe='')}")
        if not reply.ok:
            return reply.result, []
        page = _objects(reply.document.get("messages"))
        before = len(found)
        found.update({_key(item): item for item in page})
        oldest = min((at for item in page if (at := moment(item.get("ts")))), default=None)
        complete = len(page) < PAGE or len(found) == before
        if complete or oldest is None or (since is not None and oldest <= since):
            break
        params["end"] = written(oldest + _TICK)  # others of the same millisecond may be on the next page
    else:
        if pages < PAGES:
            result = Result(Outcome.RETRY, code=UNFINISHED)
    return result, _ordered(found.values(), since)


async def _as_user(client: Client, room_id: str, since: datetime | None) -> tuple[Result, list[Item]]:
    """chat.syncMessages: all that changed after a moment, in one answer."""
    params = {"roomId": room_id, "lastUpdate": written(since or _BEGINNING)}
    reply: Reply = await client.read("chat.syncMessages", params)
    if not reply.ok:
        return reply.result, []
    return reply.result, _ordered(_objects(mapping(reply.document.get("result")).get("updated")), since)


def _ordered(found: Any, since: datetime | None) -> list[Item]:
    kept = [item for item in found if since is None or _touched(item, since)]
    return sorted(kept, key=lambda item: (moment(item.get("ts")) or _BEGINNING, _key(item)))


def _touched(item: Item, since: datetime) -> bool:
    """Said or edited after; what has no time may be."""
    moments = [at for name in ("ts", "editedAt") if (at := moment(item.get(name)))]
    return not moments or max(moments) > since


def _objects(value: Any) -> list[Item]:
    return [item for item in items(value) if isinstance(item, dict)]


def _key(item: Item) -> str:
    return identifier(item.get("_id")) or repr(sorted(item, key=str))
