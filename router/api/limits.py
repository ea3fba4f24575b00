"""How large a request may be, and headers that stand on every answer: bare ASGI around the application."""

import asyncio
import re
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.api.errors import AGAIN, problem
from router.domain.policy import Policy

BODY_LIMIT: Final = 256 * 1024  # bytes
UPLOADS: Final = re.compile(r"/v1/media|/console/conversas/[^/]+/arquivo")
"""Where files are taken in: as large as the desk says, and what a form puts around them."""
UPLOADS_AT_ONCE: Final = 8
"""Of one process; one more is told to come again."""
UPLOAD_SECONDS: Final = Policy().transfer_seconds
"""How long one file may take to come in, whatever the pace of its bytes."""
_CLOSE: Final = {"Connection": "close"}
_AROUND: Final = 64 * 1024  # bytes
_TOO_LARGE: Final = "the body is larger than is taken here"
_DIGITS: Final = 12  # of a Content-Length; int() refuses thousands of them
_ALWAYS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Limits:
    """413 for a body over its limit (BODY_LIMIT but for UPLOADS): by its Content-Length at once, else as soon as the
    bytes have come. Of the UPLOADS so many at once (503), and each only so long (408)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._uploading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope)
        if _announced(scope) > limit:
            answer = problem(413, "too_large", _TOO_LARGE, headers=_CLOSE)
            await answer(scope, receive, send)
        elif _is_upload(scope):
            await self._upload(scope, receive, send, limit)
        else:
            await self._within(scope, receive, send, limit)

    async def _upload(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        if self._uploading >= UPLOADS_AT_ONCE:
            await problem(503, "busy", "too many files are coming in: try again", headers=AGAIN | _CLOSE)(
                scope, receive, send
            )
            return
        began = False

        async def seen(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        self._uploading += 1
        deadline = asyncio.timeout(UPLOAD_SECONDS)
        try:
            async with deadline:
                await self._within(scope, receive, seen, limit)
        except TimeoutError:
            if began or not deadline.expired():
                raise
            late = problem(
                HTTPStatus.REQUEST_TIMEOUT, "too_slow", "the file took too long to come", headers=_CLOSE
            )
            await late(scope, receive, send)
        finally:
            self._uploading -= 1

    async def _within(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
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


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and UPLOADS.fullmatch(scope["path"]) is not None


def _limit(scope: Scope) -> int:
    if not _is_upload(scope):
        return BODY_LIMIT
    return int(scope["app"].state.desk.media_limit_bytes) + _AROUND


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value) if len(value) <= _DIGITS else 10**_DIGITS
    return 0
