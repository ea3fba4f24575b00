"""The FastAPI application of the HTTP interface (interfaces.md, section HTTP)."""

from importlib.metadata import version
from typing import Protocol

from fastapi import FastAPI

from router.api import contacts, conversations, flags, media, messages, operations, users
from router.api.errors import Problem, register
from router.api.limits import Limits
from router.control.desk import Desk


class Published(Protocol):
    """What is asked of the settings."""

    @property
    def public_url(self) -> str | None:
        """Where the outside reaches this router, for the OpenAPI document."""
        ...


def create_api(desk: Desk, *, settings: Published, operations_only: bool = False) -> FastAPI:
    """Everything of HTTP but the webhooks and the console. No pages of documentation: they load scripts from afar.

    `operations_only`: health and metrics alone, for a worker. `app.state.desk` is the desk; routers of the console may
    be included and find it there.
    """
    app = FastAPI(
        title="Figueira",
        version=version("figueira"),
        docs_url=None,
        redoc_url=None,
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        responses={
            status: {"model": Problem, "content": {"application/problem+json": {}}}
            for status in (401, 403, 404, 413, 422, 503)
        },
    )
    app.state.desk = desk
    app.state.streams = operations.Streams()
    app.add_middleware(Limits)
    register(app)
    app.include_router(operations.public)
    for noun in (
        () if operations_only else (messages, media, conversations, contacts, users, flags, operations)
    ):
        app.include_router(noun.router)
    return app
