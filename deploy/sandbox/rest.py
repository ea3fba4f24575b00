"""Rocket.Chat's REST API, as much of it as a router in front of it calls."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults, Rule, acts, answered, respond
from deploy.sandbox.record import Record
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.workspace import API_USER_ID, Document, Room, Workspace, new_id

_TOO_MANY = (
    "Error, too many requests. Please slow down. You must wait {} seconds before trying this endpoint again."
    " [error-too-many-requests]"
)


class Failed(Exception):
    """Becomes Rocket.Chat's 400: `text` is suffixed with the code in brackets."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(f"{text} [{code}]")
        self.code = code


class Unauthorized(Exception):
    """Becomes a 401."""


@dataclass(frozen=True)
class Call:
    """One REST call: query and body in one mapping, the rest of the path, the user who calls."""

    given: Mapping[str, Any]
    tail: str
    user: Document

    def text(self, name: str) -> str:
        value = self.given.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.given.get(name, default))
        except (TypeError, ValueError):
            raise Failed(f"The {name} parameter must be a number.", "error-invalid-params") from None


class Rest:
    """Routes by method name (``chat.sendMessage``), which is also the fault target's suffix."""

    def __init__(
        self, config: Configuration, record: Record, faults: Faults, workspace: Workspace, chat: RocketChat
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._workspace, self._chat = workspace, chat
        self._tokens: dict[str, str] = {}
        self._calls: dict[str, deque[float]] = defaultdict(deque)
        self._routes: dict[tuple[str, str], Callable[[Call], Document]] = {
            ("GET", "info"): self._info,
            ("GET", "me"): lambda call: dict(call.user),
            ("POST", "chat.sendMessage"): self._send_message,
            ("GET", "rooms.info"): self._rooms_info,
            ("GET", "users.info"): self._users_info,
            ("GET", "livechat/rooms"): self._rooms,
            ("GET", "livechat/messages.history"): self._history,
            ("POST", "livechat/room.closeByUser"): self._close,
        }

    def clear(self) -> None:
        """Forget logins and the rate limiter's counts."""
        self._tokens.clear()
        self._calls.clear()

    async def call(self, request: web.Request) -> web.StreamResponse:
        """ANY /rocketchat/api/v1/{method}: answers as the real one does, faults and rate limit included."""
        given = {**request.query, **_object(await request.read())}
        name, tail = _split(request.match_info["method"])
        rule = self._faults.take(f"rocketchat.rest.{name}", self._facts(given, tail))
        limits, waiting = self._limit(request.method, name)

        async def act() -> web.Response:
            response = (
                _error(429, {"success": False, "error": _TOO_MANY.format(waiting)})
                if waiting
                else self._perform(request, name, tail, given)
            )
            response.headers.update(limits)
            self._note(request, name, rule, answered(rule, response.status))
            return response

        if not acts(rule) and rule and rule.fault != "down":
            self._note(request, name, rule, answered(rule))
        return await respond(request, rule, act, _refuse)

    def _perform(self, request: web.Request, name: str, tail: str, given: Mapping[str, Any]) -> web.Response:
        try:
            if (request.method, name) == ("POST", "login"):
                return web.json_response(self._login(given))
            handler = self._routes.get((request.method, name))
            if handler is None:
                return _error(404, {"success": False, "error": f"API endpoint {name} does not exist"})
            call = Call(given, tail, self._caller(request))
            return web.json_response({**handler(call), "success": True})
        except Unauthorized as refused:
            return self._unauthorized(str(refused))
        except Failed as failed:
            return _error(400, {"success": False, "error": str(failed), "errorType": failed.code})

    def _note(self, request: web.Request, name: str, rule: Rule | None, status: int | None) -> None:
        row = {"http_method": request.method, "method": name, "acted": acts(rule), "answered": status}
        self._record.add("rest", {**row, "fault": rule.fault if rule else None})

    def _unauthorized(self, message: str) -> web.Response:
        if self._config.rocketchat.major >= 8:
            return _error(401, {"success": False, "error": message})
        return _error(401, {"status": "error", "message": message})

    def _caller(self, request: web.Request) -> Document:
        settings = self._config.rocketchat
        token, user_id = request.headers.get("X-Auth-Token", ""), request.headers.get("X-User-Id", "")
        logged_in = self._tokens.get(token) == user_id
        configured = token == settings.auth_token and user_id == settings.user_id
        if not (token and user_id and (logged_in or configured or not settings.auth_token)):
            raise Unauthorized("You must be logged in to do this.")
        known = self._workspace.users.get(user_id)
        return known or self._workspace.add_user(user_id, settings.username, "Figueira", "bot")

    def _login(self, given: Mapping[str, Any]) -> Document:
        settings = self._config.rocketchat
        name = given.get("user") or given.get("username") or given.get("email")
        if name != settings.username or given.get("password") != settings.password:
            raise Unauthorized("Unauthorized")
        user_id = settings.user_id or API_USER_ID
        token = new_id() + new_id()
        self._tokens[token] = user_id
        me = {"_id": user_id, "username": settings.username, "name": "Figueira"}
        return {"status": "success", "data": {"userId": user_id, "authToken": token, "me": me}}

    def _limit(self, http_method: str, name: str) -> tuple[dict[str, str], int]:
        """The rate limit's headers and, when it is exceeded, the whole seconds to wait (else 0)."""
        limit = self._config.rocketchat.rate_limit
        if limit is None:
            return {}, 0
        calls, at = self._calls[f"{http_method} {name}"], time.time()
        # A fixed window from its first call, as ddp-rate-limiter counts.
        if calls and at - calls[0] >= limit.seconds:
            calls.clear()
        allowed = len(calls) < limit.calls
        if allowed:
            calls.append(at)
        reset = (calls[0] if calls else at) + limit.seconds
        headers = {
            "X-RateLimit-Limit": str(limit.calls),
            "X-RateLimit-Remaining": str(limit.calls - len(calls)),
            "X-RateLimit-Reset": str(int(reset * 1000)),
        }
        return headers, 0 if allowed else max(1, round(reset - at))

    def _facts(self, given: Mapping[str, Any], tail: str) -> Facts:
        message = given.get("message")
        source = message if isinstance(message, dict) else given
        rid = source.get("rid") or source.get("roomId") or tail
        room = self._workspace.rooms.get(str(rid))
        app = self._config.rocketchat.app.get(room.app) if room else None
        number_id = app.phone_number_id if app else ""
        return Facts((room.wa_id,) if room else (), str(source.get("msg") or ""), number_id)

    def _room(self, rid: str) -> Room:
        room = self._workspace.rooms.get(rid)
        if room is None:
            raise Failed('The required "roomId" does not match any channel', "error-room-not-found")
        return room

    def _info(self, _: Call) -> Document:
        return {"info": {"version": self._config.rocketchat.version}}

    def _send_message(self, call: Call) -> Document:
        message = call.given.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("rid"), str):
            raise Failed("The 'rid' property on the message object is missing.", "error-invalid-params")
        text, message_id = message.get("msg"), message.get("_id")
        if not isinstance(text, str) or not text:
            raise Failed("Message text is missing", "error-invalid-params")
        if message_id is not None and not (isinstance(message_id, str) and message_id):
            raise Failed("Match error: Expected string _id", "error-invalid-params")
        if message_id in self._workspace.messages:
            return {"message": self._workspace.messages[message_id]}
        room = self._workspace.rooms.get(message["rid"])
        if room is None:
            raise Failed("Invalid room", "error-invalid-room")
        if not room.is_open:
            raise Failed("Room is closed", "room-closed")
        return {"message": self._chat.say(room, call.user, text, by="api", message_id=message_id)}

    def _rooms_info(self, call: Call) -> Document:
        return {"room": self._room(call.text("roomId")).document}

    def _users_info(self, call: Call) -> Document:
        user = self._workspace.find_user(call.text("userId"), call.text("username"))
        if user is None:
            raise Failed("User not found.", "error-invalid-user")
        return {"user": user}

    def _rooms(self, call: Call) -> Document:
        rooms = [room.document for room in self._workspace.rooms.values()]
        if "open" in call.given:
            wanted = call.text("open") == "true"
            rooms = [document for document in rooms if (document.get("open") is True) == wanted]
        offset, count = call.number("offset", 0), call.number("count", 50)
        page = rooms[offset : offset + count] if count else rooms[offset:]
        return {"rooms": page, "count": len(page), "offset": offset, "total": len(rooms)}

    def _history(self, call: Call) -> Document:
        messages = self._room(call.tail).messages
        since, until = call.text("ls"), call.text("end")
        found = [
            message
            for message in reversed(messages)
            if (not since or message["ts"] > since) and (not until or message["ts"] < until)
        ]
        offset, limit = call.number("offset", 0), call.number("limit", 20)
        return {"messages": found[offset : offset + limit]}

    def _close(self, call: Call) -> Document:
        room = self._workspace.rooms.get(call.text("rid"))
        if room is None:
            raise Failed("Invalid room", "error-invalid-room")
        if not room.is_open:
            raise Failed("Room is already closed", "error-room-already-closed")
        self._chat.close(room, call.user, call.text("comment"))
        return {}


def _split(path: str) -> tuple[str, str]:
    """The method's name and what follows it: only the history has a room in its path."""
    name, _, tail = path.rpartition("/")
    return (name, tail) if name == "livechat/messages.history" else (path, "")


def _object(raw: bytes) -> Document:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _error(status: int, body: Document) -> web.Response:
    return web.json_response(body, status=status)


def _refuse(rule: Rule) -> web.Response:
    return _error(
        rule.status,
        {"success": False, "error": "Sandbox fault [error-sandbox]", "errorType": "error-sandbox"},
    )
