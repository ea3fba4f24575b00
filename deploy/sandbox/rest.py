"""Rocket.Chat's REST API, as much of it as a router in front of it calls: logins, limits, faults, error shapes."""

import time
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from deploy.sandbox.calls import Call, Failed, Forbidden, Routes, Sent, Unauthorized
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults, Rule, acts, answered, respond
from deploy.sandbox.record import Record
from deploy.sandbox.rest_admin import Admin
from deploy.sandbox.rest_media import RoomMedia
from deploy.sandbox.rest_rooms import Rooms
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.shapes import json_object
from deploy.sandbox.workspace import API_USER_ID, Document, Workspace, new_id

_TOO_MANY = (
    "Error, too many requests. Please slow down. You must wait {} seconds before trying this endpoint again."
    " [error-too-many-requests]"
)
_WITH_TAIL = ("livechat/messages.history", "rooms.mediaConfirm", "rooms.media", "settings")
_PUBLIC = frozenset({"livechat/messages.history"})
"""Called with a visitor's token."""
_PERMISSIONS = {
    "livechat/rooms": "view-livechat-rooms",
    "livechat/room.closeByUser": "close-livechat-room",
    "livechat/integrations.settings": "view-livechat-manager",
    "omnichannel/integrations": "view-livechat-manager",
    "integrations.list": "manage-outgoing-integrations",
    "integrations.create": "manage-outgoing-integrations",
    "settings": "view-privileged-setting",
    "users.create": "create-user",
}


class Rest:
    """Routes by method name (``chat.sendMessage``), which is also the fault target's suffix."""

    def __init__(
        self, config: Configuration, record: Record, faults: Faults, workspace: Workspace, chat: RocketChat
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._workspace = workspace
        self._media = RoomMedia(config, workspace, chat)
        self._tokens: dict[str, str] = {}
        self._calls: dict[str, deque[float]] = defaultdict(deque)
        self._routes: Routes = {
            **Rooms(workspace, chat).routes,
            **self._media.routes,
            **Admin(config, workspace).routes,
        }

    def clear(self) -> None:
        """Forget logins and the rate limiter's counts."""
        self._tokens.clear()
        self._calls.clear()

    async def call(self, request: web.Request) -> web.StreamResponse:
        """ANY /rocketchat/api/v1/{method}: answers as the real one does, faults and rate limit included."""
        given, file = await _given(request)
        name, tail = _split(request.match_info["method"])
        rule = self._faults.take(f"rocketchat.rest.{name}", self._facts(given, tail))
        limits, waiting = self._limit(request.method, name)

        async def act() -> web.Response:
            response = (
                _error(429, {"success": False, "error": _TOO_MANY.format(waiting)})
                if waiting
                else self._perform(request, name, tail, given, file)
            )
            response.headers.update(limits)
            self._note(request, name, rule, answered(rule, response.status))
            return response

        if not acts(rule) and rule and rule.fault != "down":
            self._note(request, name, rule, answered(rule))
        return await respond(request, rule, act, _refuse)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """GET /rocketchat/file-upload/{id}/{name}: for a user's headers, or ?token= of the webhook's fileUpload."""
        upload = self._workspace.uploads.get(request.match_info["id"])
        room = self._workspace.rooms.get(upload.rid) if upload else None
        facts = Facts((room.wa_id,) if room else (), "", "")
        rule = self._faults.take("rocketchat.file", facts)

        async def act() -> web.Response:
            opened = upload is not None and request.query.get("token") == upload.token
            if not opened:
                try:
                    self._caller(request)
                except Unauthorized:
                    self._note(request, "file-upload", rule, 403)
                    return web.Response(status=403)
            if upload is None:
                self._note(request, "file-upload", rule, 404)
                return web.Response(status=404)
            self._note(request, "file-upload", rule, answered(rule))
            return web.Response(body=upload.data, headers={"Content-Type": upload.mime})

        if not acts(rule) and rule and rule.fault != "down":
            self._note(request, "file-upload", rule, answered(rule))
        return await respond(request, rule, act, _refuse)

    def _perform(
        self,
        request: web.Request,
        name: str,
        tail: tuple[str, ...],
        given: Mapping[str, Any],
        file: Sent | None,
    ) -> web.Response:
        try:
            if (request.method, name) == ("POST", "login"):
                return web.json_response(self._login(given))
            handler = self._routes.get((request.method, name))
            if handler is None:
                return _error(404, {"success": False, "error": f"API endpoint {name} does not exist"})
            user = {} if name in _PUBLIC else self._caller(request)
            self._permit(user, name)
            return web.json_response(
                {**handler(Call(given, tail, user, request.headers, file)), "success": True}
            )
        except Unauthorized as refused:
            return self._unauthorized(str(refused))
        except Forbidden:
            return self._forbidden()
        except Failed as failed:
            about = {"errorType": failed.code} if failed.code else {}
            details = {"details": failed.details} if failed.details else {}
            return _error(400, {"success": False, "error": str(failed), **about, **details})

    def _note(self, request: web.Request, name: str, rule: Rule | None, status: int | None) -> None:
        row = {"http_method": request.method, "method": name, "acted": acts(rule), "answered": status}
        self._record.add("rest", {**row, "fault": rule.fault if rule else None})

    def _unauthorized(self, message: str) -> web.Response:
        if self._config.rocketchat.major >= 8:
            return _error(401, {"success": False, "error": message})
        return _error(401, {"status": "error", "message": message})

    def _forbidden(self) -> web.Response:
        if self._config.rocketchat.major >= 8:
            message = "User does not have the permissions required for this action [error-forbidden]"
            return _error(403, {"success": False, "error": message, "errorType": "error-forbidden"})
        return _error(403, {"success": False, "error": "unauthorized"})

    def _permit(self, user: Document, name: str) -> None:
        granted, needed = self._config.rocketchat.permissions, _PERMISSIONS.get(name)
        if granted is not None and needed and not set(granted.get(needed, ())) & set(user["roles"]):
            raise Forbidden

    def _caller(self, request: web.Request) -> Document:
        settings = self._config.rocketchat
        token, user_id = request.headers.get("X-Auth-Token", ""), request.headers.get("X-User-Id", "")
        logged_in = self._tokens.get(token) == user_id
        configured = token == settings.auth_token and user_id == settings.user_id
        if not (token and user_id and (logged_in or configured or not settings.auth_token)):
            raise Unauthorized("You must be logged in to do this.")
        known = self._workspace.users.get(user_id)
        user = known or self._workspace.add_user(user_id, settings.username, "Figueira", "bot")
        return user if settings.roles is None else {**user, "roles": list(settings.roles)}

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

    def _facts(self, given: Mapping[str, Any], tail: tuple[str, ...]) -> Facts:
        message = given.get("message")
        source = message if isinstance(message, dict) else given
        rid = source.get("rid") or source.get("roomId") or next(iter(tail), "")
        room = self._workspace.rooms.get(str(rid))
        app = self._config.rocketchat.app.get(room.app) if room else None
        number_id = app.phone_number_id if app else ""
        return Facts((room.wa_id,) if room else (), str(source.get("msg") or ""), number_id)


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    """The method's name and what follows it, for the methods whose path goes on."""
    name = next((name for name in _WITH_TAIL if path.startswith(f"{name}/")), path)
    return name, tuple(path[len(name) + 1 :].split("/")) if name != path else ()


async def _given(request: web.Request) -> tuple[dict[str, Any], Sent | None]:
    """Query and body in one mapping, and the file of a multipart body."""
    if request.content_type != "multipart/form-data":
        return {**request.query, **json_object(await request.read())}, None
    form = await request.post()
    part = form.get("file")
    sent = (
        Sent(part.filename, part.content_type, part.file.read()) if isinstance(part, web.FileField) else None
    )
    return {**request.query, **{key: value for key, value in form.items() if isinstance(value, str)}}, sent


def _error(status: int, body: Document) -> web.Response:
    return web.json_response(body, status=status)


def _refuse(rule: Rule) -> web.Response:
    return _error(
        rule.status,
        {"success": False, "error": "Sandbox fault [error-sandbox]", "errorType": "error-sandbox"},
    )
