"""Rocket.Chat's REST API, as far as the router calls it, with our own count of its rate limit."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from adapters.payload import identifier, items, mapping, text
from adapters.rocketchat.budget import Budget
from adapters.transport import Answer, exchange
from flags.stage import Path
from router.domain.job import Outcome, Result
from router.domain.ports import Clock, Outbound, Permit, RoomInfo

TEXT_LENGTH = 5000  # Message_MaxAllowedSize as installed

_SUFFIX = re.compile(r"\[([\w-]+)\]\s*$")  # "Room not found [error-room-not-found]": the stable bit
_BARE = re.compile(r"[\w-]{1,80}")
_WAIT = re.compile(r"wait (\d{1,6}) seconds?")
_LICENCE = re.compile(
    r"licen[cs]e|mac-limit|monthly active contacts|(user|users|seats)[ -]limit|air-?gapped", re.IGNORECASE
)

# The older shape says it in a sentence only.
_CODE_OF_STATUS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
}
_TOO_MANY = "error-too-many-requests"
_ABSENT = {"error-room-not-found", "error-invalid-room", "invalid-room", "error-room-does-not-exist"}
_CLOSED = {"room-closed", "error-room-closed", "error-room-already-closed"}


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
        self._client, self._clock = client, clock
        self._base = f"{base_url.rstrip('/')}/api/v1/"
        self._headers = {"X-User-Id": user_id, "X-Auth-Token": auth_token}
        self._budget = budget or Budget()

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:
        result, document = await self._read("rooms.info", {"roomId": room_id})
        if result.outcome is Outcome.PERMANENT and result.code not in _ABSENT:
            # "Not allowed" is no proof of absence; PERMANENT would drop the room's events.
            return Result(Outcome.RETRY, code=result.code), None
        if result.outcome is not Outcome.OK:
            return result, None
        room = mapping(document.get("room"))
        if not identifier(room.get("_id")):
            return Result(Outcome.RETRY, code="no_room_in_answer"), None
        return result, _room_info(room)

    async def close_room(self, room_id: str, note: str) -> Result:
        result, _ = await self._call(
            "POST", "livechat/room.closeByUser", body={"rid": room_id, "comment": note}
        )
        if result.code in _CLOSED:
            return Result(Outcome.OK)
        # Closing twice is closing once, so not knowing is no reason to stop.
        return _repeatable(result)

    async def user_info(self, user_id: str) -> tuple[Result, User | None]:
        """By id. None with PERMANENT: there is no such user."""
        result, document = await self._read("users.info", {"userId": user_id})
        user = mapping(document.get("user"))
        found = identifier(user.get("_id"))
        if result.outcome is not Outcome.OK or found is None:
            return result, None
        return result, User(found, text(user.get("username")), text(user.get("name")))

    async def send_message(self, room_id: str, source_id: str, words: str) -> Result:
        """chat.sendMessage with our `_id`: said twice, it is one message."""
        message = {"_id": source_id, "rid": room_id, "msg": words}
        result, document = await self._call("POST", "chat.sendMessage", body={"message": message})
        # Two of the same `_id` met inside Rocket.Chat: the first one is stored.
        if "E11000" in (text(document.get("error")) or ""):
            return Result(Outcome.OK)
        return result

    async def _read(self, route: str, params: Mapping[str, str]) -> tuple[Result, Mapping[str, Any]]:
        result, document = await self._call("GET", route, params=params)
        return _repeatable(result), document

    async def _call(
        self,
        method: str,
        route: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[Result, Mapping[str, Any]]:
        key = f"{method} {route}"
        if wait := self._budget.take(key, self._clock.monotonic()):
            return Result(Outcome.RETRY, code=_TOO_MANY, retry_after=wait), {}
        seen: Mapping[str, str] = {}
        try:
            answer = await exchange(
                self._client,
                method,
                self._base + route,
                headers={**self._headers, "Content-Type": "application/json"} if body else self._headers,
                params=params,
                content=json.dumps(body).encode("ascii") if body else None,
            )
            if isinstance(answer, Answer):
                seen = answer.headers
        finally:
            now = self._clock.monotonic()
            self._budget.done(key, now, seen, self._clock.now().timestamp())
        if isinstance(answer, Result):
            return answer, {}
        document = answer.document()
        result = _result(answer.status, document)
        if result.code == _TOO_MANY:
            wait = self._budget.refused(key, now, result.retry_after)
            result = Result(Outcome.RETRY, code=_TOO_MANY, retry_after=wait)
        return result, document


class RocketChatSender:
    """Implements `router.domain.ports.Sender` on the legacy path: a message by an agent, which leaves the workspace
    through the room's own app. `external_id` stays None: the provider's id comes with its status or echo."""

    idempotent = True

    def __init__(self, rest: RocketChatRest, monotonic: Callable[[], float]) -> None:
        self._rest, self._monotonic = rest, monotonic

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        said = outbound.content
        if said.kind != "text" or not said.text:
            return Result(Outcome.PERMANENT, code="unsupported")
        if len(said.text) > TEXT_LENGTH:
            return Result(Outcome.PERMANENT, code="too_long")
        if outbound.room_id is None:
            return Result(Outcome.RETRY, code="no_room")
        if outbound.source_id is None:
            return Result(
                Outcome.PERMANENT, code="no_source_id"
            )  # without it a repeat would be a second message
        if permit.path != Path.ROCKETCHAT or self._monotonic() >= permit.expires:
            return Result(Outcome.RETRY, code="permit")
        return await self._rest.send_message(outbound.room_id, outbound.source_id, said.text)


def _repeatable(result: Result) -> Result:
    """Of a call that may be made again freely: not knowing is as good as not done."""
    if result.outcome is Outcome.UNKNOWN:
        return Result(Outcome.RETRY, code=result.code, retry_after=result.retry_after)
    return result


def _result(status: int, document: Mapping[str, Any]) -> Result:
    """Both error shapes, `{success: false, error, errorType}` and `{status: "error", message}`, to one Result."""
    failed = document.get("success") is False or document.get("status") == "error"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and not failed:
        # A page of a proxy is no answer of Rocket.Chat.
        return Result(Outcome.OK) if document else Result(Outcome.UNKNOWN, code="no_document")
    words = text(document.get("error")) or text(document.get("message")) or ""
    code = _code(words, document) or _CODE_OF_STATUS.get(status) or f"http_{status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or code == _TOO_MANY:
        wait = _WAIT.search(words)
        return Result(Outcome.RETRY, code=_TOO_MANY, retry_after=float(wait[1]) if wait else None)
    if code == "totp-required" or _LICENCE.search(words) or _LICENCE.search(code):
        return Result(Outcome.CHANNEL, code=code if code == "totp-required" else "licence-limit")
    return Result(_by_status(status), code=code)


def _code(words: str, document: Mapping[str, Any]) -> str | None:
    suffix = _SUFFIX.search(words)
    candidates = (text(document.get("errorType")), suffix[1] if suffix else None, words)
    return next((code for code in candidates if code and _BARE.fullmatch(code)), None)


def _by_status(status: int) -> Outcome:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Outcome.CHANNEL
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Outcome.RETRY
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Outcome.UNKNOWN
    return Outcome.PERMANENT


def _room_info(room: Mapping[str, Any]) -> RoomInfo:
    source, visitor = mapping(room.get("source")), mapping(room.get("v"))
    livechat = room.get("t") == "l"
    return RoomInfo(
        room_id=str(identifier(room.get("_id"))),
        source_type=text(source.get("type")),
        source_id=identifier(source.get("id")),
        visitor_id=identifier(visitor.get("_id")),
        visitor_token_digest=token_digest(visitor.get("token")),
        visitor_phones=phones(visitor.get("phone")),
        visitor_name=text(visitor.get("name")) or text(room.get("fname")),
        open=room.get("open") is True if livechat else True,  # a closed livechat room has no `open` at all
    )


def token_digest(token: Any) -> str | None:
    """SHA-256 of a visitor's token, in hex. The token itself is the customer's password: it goes no further."""
    written = text(token)
    return hashlib.sha256(written.encode()).hexdigest() if written else None


def phones(value: Any) -> tuple[str, ...]:
    """A visitor's phones: [{phoneNumber}], [string], a string, or nothing."""
    several = items(value) or [value]
    found = (identifier(mapping(one).get("phoneNumber")) or identifier(one) for one in several)
    return tuple(dict.fromkeys(phone for phone in found if phone))
