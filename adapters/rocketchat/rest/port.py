"""The acts of the REST API that the heart asks for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx

from adapters.payload import identifier, items, mapping, text
from adapters.rocketchat.budget import Budget
from adapters.rocketchat.rest.answers import repeatable
from adapters.rocketchat.rest.client import Client
from adapters.rocketchat.rest.history import PAGES, said, written
from adapters.rocketchat.rest.rooms import room_info
from adapters.rocketchat.said import file_ids, heard
from router.domain.job import Outcome, Result
from router.domain.ports import Clock, RoomInfo, RoomMessage

ROOMS: Final = 50
"""Rooms of a page."""
UPLOAD_KEPT: Final = timedelta(hours=25)
"""An upload that nobody confirmed is gone after 24 hours: no message shows it for the first time later."""
LOOK_PAGES: Final = 5
"""Pages of a room's history in which one file is looked for: a send must not wait for more."""

_ABSENT: Final = {"error-room-not-found", "error-invalid-room", "invalid-room", "error-room-does-not-exist"}
_CLOSED: Final = {"room-closed", "error-room-closed", "error-room-already-closed"}
# Rocket.Chat's `open=true` leaves out the rooms on hold, though they are as open.
_OPEN, _HELD, _ENDED = range(3)
_LISTINGS: Final = 3


@dataclass(frozen=True, slots=True)
class User:
    """What users.info says."""

    id: str
    username: str | None
    name: str | None


class RocketChatRest:
    """Implements `router.domain.ports.RocketChat`. `base_url` is the workspace's, without /api/v1."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str,
        user_id: str,
        auth_token: str,
        clock: Clock,
        budget: Budget | None = None,
    ) -> None:
        self.client = Client(client, base_url, user_id, auth_token, clock, budget)
        """For who makes other calls as the same user: one count of the rate limit for all."""

    # rooms -------------------------------------------------------------------------------------------------

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        reply = await self.client.read("rooms.info", {"roomId": room_id})
        if reply.result.outcome is Outcome.PERMANENT and reply.result.code not in _ABSENT:
            # "Not allowed" is no proof of absence; PERMANENT would drop the room's events.
            return Result(Outcome.RETRY, code=reply.result.code), None
        if not reply.ok:
            return reply.result, None
        room = mapping(reply.document.get("room"))
        if not identifier(room.get("_id")):
            return Result(Outcome.RETRY, code="no_room_in_answer"), None
        return reply.result, room_info(room)

    async def close_room(self, room_id: str, note: str) -> Result:
        body = {"rid": room_id, "comment": note}
        reply = await self.client.call("POST", "livechat/room.closeByUser", body=body)
        if reply.result.code in _CLOSED:
            return Result(Outcome.OK)
        # Closing twice is closing once, so not knowing is no reason to stop.
        return repeatable(reply.result)

    async def rooms(
        self, since: datetime | None, offset: int
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        """Three listings after one another: open, on hold, closed after `since`. `offset` is three times the place in
        the listing, plus its number; 0 begins. Rooms that are closed while it is read shift the pages: one may come
        twice, or in the next run only."""
        place, listing = divmod(offset, _LISTINGS)
        params = {**_asked(listing, since), "count": str(ROOMS), "offset": str(place)}
        reply = await self.client.read("livechat/rooms", params)
        if not reply.ok:
            return reply.result, (), None
        page = [room for room in items(reply.document.get("rooms")) if isinstance(room, dict)]
        # A version that does not know `onhold` lists every room it ever had.
        foreign = listing == _HELD and any(room.get("onHold") is not True for room in page)
        kept = [room for room in page if listing != _HELD or room.get("onHold") is True]
        following = None if foreign else _next(page, place, listing, reply.document.get("total"))
        if following is None and listing < (_HELD if since is None else _ENDED):
            following = listing + 1
        return reply.result, [room_info(room) for room in kept if identifier(room.get("_id"))], following

    async def history(self, room: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        """Read with the visitor's token, which rooms.info knows when `room` does not; else as our user."""
        result, found, visitor_id = await self._said(room.room_id, room, since)
        return result, [told for item in found if (told := heard(item, visitor_id))]

    async def _said(
        self, room_id: str, room: RoomInfo | None, since: datetime | None, pages: int = PAGES
    ) -> tuple[Result, Sequence[Mapping[str, Any]], str | None]:
        if room is None or room.visitor_token is None:
            result, found = await self.room_info(room_id)
            if found is None:
                return result, (), None
            room = found
        result, messages = await said(self.client, room_id, room.visitor_token, since, pages)
        return result, messages, room.visitor_id

    # people ------------------------------------------------------------------------------------------------

    async def user_info(self, user_id: str) -> tuple[Result, User | None]:
        """By id. None with PERMANENT: there is no such user."""
        reply = await self.client.read("users.info", {"userId": user_id})
        user = mapping(reply.document.get("user"))
        found = identifier(user.get("_id"))
        if not reply.ok or found is None:
            return reply.result, None
        return reply.result, User(found, text(user.get("username")), text(user.get("name")))

    # messages ----------------------------------------------------------------------------------------------

    async def send_message(self, room_id: str, source_id: str, words: str) -> Result:
        """chat.sendMessage with our `_id`: said twice, it is one message."""
        message = {"_id": source_id, "rid": room_id, "msg": words}
        reply = await self.client.call("POST", "chat.sendMessage", body={"message": message})
        # Two of the same `_id` met inside Rocket.Chat: the first one is stored.
        if "E11000" in (text(reply.document.get("error")) or ""):
            return Result(Outcome.OK)
        return reply.result

    async def confirm_file(self, room_id: str, file_id: str, caption: str | None) -> Result:
        """rooms.mediaConfirm: an upload becomes a message. Said twice, it is two messages: so no 5xx counts as a
        refusal, whatever it says; a proxy may say it after Rocket.Chat has done it."""
        # Which of the two a channel's app reads as the caption depends on its version.
        body = {"msg": caption, "description": caption} if caption else {"msg": ""}
        tail = f"/{quote(room_id, safe='')}/{quote(file_id, safe='')}"
        reply = await self.client.call("POST", "rooms.mediaConfirm", tail=tail, body=body)
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Result(Outcome.UNKNOWN, code=reply.result.code)
        return reply.result

    async def shows_file(self, room_id: str, file_id: str) -> tuple[Result, bool]:
        """Whether a message of the room shows the upload. False means no only with OK: where so much was said since
        that LOOK_PAGES do not hold it, it is RETRY."""
        since = self.client.clock.now() - UPLOAD_KEPT
        result, found, _ = await self._said(room_id, None, since, LOOK_PAGES)
        there = any(file_id in file_ids(item) for item in found)
        return (Result(Outcome.OK) if there else result), there

    async def react(self, message_id: str, emoji: str) -> Result:
        """chat.react with a short name: doing it twice is doing it once."""
        return await self._reaction(message_id, emoji, wanted=True)

    async def unreact(self, message_id: str, emoji: str) -> Result:
        """Remove a reaction of ours, by the name `reactions` has."""
        return await self._reaction(message_id, emoji, wanted=False)

    async def reactions(self, message_id: str) -> tuple[Result, Sequence[str]]:
        """Our own reactions to a message."""
        me = await self.client.read("me")
        reply = await self.client.read("chat.getMessage", {"msgId": message_id})
        if not (me.ok and reply.ok):
            return (reply.result if me.ok else me.result), ()
        name = text(me.document.get("username"))
        reactions = mapping(mapping(reply.document.get("message")).get("reactions"))
        ours = [emoji for emoji, by in reactions.items() if name in items(mapping(by).get("usernames"))]
        return Result(Outcome.OK), ours

    async def _reaction(self, message_id: str, emoji: str, *, wanted: bool) -> Result:
        body = {"messageId": message_id, "emoji": emoji, "shouldReact": wanted}
        return repeatable((await self.client.call("POST", "chat.react", body=body)).result)


def _asked(listing: int, since: datetime | None) -> dict[str, str]:
    if listing == _ENDED:
        return {"closedAt": json.dumps({"start": written(since)})} if since is not None else {}
    return {"open": "true"} if listing == _OPEN else {"onhold": "true"}


def _next(page: Sequence[Any], place: int, listing: int, total: Any) -> int | None:
    reached = place + len(page)
    more = reached < total if isinstance(total, int) else len(page) >= ROOMS
    return reached * _LISTINGS + listing if page and more else None
