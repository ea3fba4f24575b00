"""How large a request may be, and headers that stand on every answer: bare ASGI around the application."""

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.api.errors import problem

BODY_LIMIT: Final = 256 * 1024  # bytes
UPLOADS: Final = re.compile(r"/v1/media|/console/conversas/[^/]+/arquivo")
"""Where files are taken in: as large as the desk says, and what a form puts around them."""
_AROUND: Final = 64 * 1024  # bytes
_TOO_LARGE: Final = "the body is larger than is taken here"
_DIGITS: Final = 12  # of a Content-Length; int() refuses thousands of them
_ALWAYS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Limits:
    """413 for a body over its limit (BODY_LIMIT but for UPLOADS): by its Content-Length at once, else as soon as the bytes have come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope)
        if _announced(scope) > limit:
            answer = problem(413, "too_large", _TOO_LARGE, headers={"Connection": "close"})
            await answer(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413)
            return message

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _ALWAYS if one[0] not in names)]
            await send(message)

        await self._app(scope, counted, signed)


def _limit(scope: Scope) -> int:
    if scope["method"] != "POST" or not UPLOADS.fullmatch(scope["path"]):
        return BODY_LIMIT
    return int(scope["app"].state.desk.media_limit_bytes) + _AROUND


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value) if len(value) <= _DIGITS else 10**_DIGITS
    return 0
