"""The HTTP interface over control and a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from router.api.application import create_api
from router.control import access
from router.control.desk import Desk
from router.storage.postgres import PostgresStore
from tests.integration.control.desk_scene import make_desk

Key = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
async def desk(postgres_store: PostgresStore) -> Desk:
    return await make_desk(postgres_store)


@pytest.fixture
def app(desk: Desk) -> FastAPI:
    return create_api(desk, settings=SimpleNamespace(public_url=None))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://figueira") as client:
        yield client


@pytest.fixture
def key(desk: Desk) -> Key:
    """Make a key: `await key("sol", "flags:read")`; the headers that send it."""

    async def make(tenant: str | None, *scopes: str) -> dict[str, str]:
        made = await access.create_key(desk, "test", tenant, scopes)
        return {"Authorization": f"Bearer {made['key']}"}

    return make
