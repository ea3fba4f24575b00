"""The console on an application: templates, static files, and the headers every answer of it carries."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.console import files, imports, login, pages, words
from router.console.throttle import Throttle
from router.console.visitor import Site

PREFIX: Final = "/console"
HERE: Final = Path(__file__).parent
HEADERS: Final = {
    b"content-security-policy": (
        b"default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


ALONE: Final = b"default-src 'none'; media-src 'self'; sandbox; frame-ancestors 'none'"
"""For somebody else's bytes: opened as a page of its own, such a file runs nothing."""


def mount(app: FastAPI, *, secure: bool = False) -> None:
    """Add the console to `app`, whose `state.desk` is the desk. `secure`: the cookie is for https only, also when
    TLS ends before this process."""
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    words.install(templates)
    app.state.console = Site(templates, Throttle(app.state.desk.clock), secure)
    app.include_router(login.router)
    app.include_router(pages.router)
    app.include_router(files.router)
    app.include_router(imports.router)
    app.mount(f"{PREFIX}/static", StaticFiles(directory=HERE / "static"), name="console-static")
    app.add_middleware(Headers)


class Headers:
    """Bare ASGI: the console's headers on whatever is answered under its prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self._app(scope, receive, send)
            return
        fixed = dict(HEADERS)
        if path.startswith(f"{PREFIX}/static/"):
            fixed[b"cache-control"] = b"no-cache"  # kept, but asked for by its ETag each time
        elif path.startswith(f"{PREFIX}/arquivos/"):
            fixed[b"content-security-policy"] = ALONE

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message["headers"] if one[0].lower() not in fixed]
                message["headers"] = [*kept, *fixed.items()]
            await send(message)

        await self._app(scope, receive, signed)
