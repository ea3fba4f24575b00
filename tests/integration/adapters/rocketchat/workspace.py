"""A Rocket.Chat that answers what a test says, over a real socket, and keeps what it was asked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[["Call"], Any]
"""An object for 200, or (status, object) or (status, object, headers); None drops the connection."""


@dataclass(frozen=True)
class Call:
    """One request, without its /api prefix."""

    route: str
    query: Mapping[str, str]
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass
class Workspace:
    """`routes` by "GET v1/me"; a route ending in / takes what follows it."""

    url: str = ""
    routes: dict[str, Handler] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def to(self, route: str) -> list[Call]:
        """The calls of one route."""
        return [call for call in self.calls if call.route == route or call.route.startswith(f"{route}/")]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        name = f"{request.method} {request.raw_path.partition('?')[0].removeprefix('/rc/api/')}"
        call = Call(name, dict(request.query), json.loads(raw) if raw else {}, request.headers)
        self.calls.append(call)
        handler = self.routes.get(name) or self.routes.get(f"{name.rpartition('/')[0]}/")
        if handler is None:
            return web.json_response({"success": False, "error": "not found"}, status=404)
        told = handler(call)
        if told is None:
            assert request.transport
            request.transport.abort()
            return web.Response()
        status, document, *headers = told if isinstance(told, tuple) else (200, told)
        return web.json_response(document, status=status, headers=headers[0] if headers else None)


def failure(code: str, words: str = "x", status: int = 400, **more: Any) -> tuple[int, dict[str, Any]]:
    """The shape of an error since version 0."""
    return status, {"success": False, "error": f"{words} [{code}]", "errorType": code, **more}
