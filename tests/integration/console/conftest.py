"""The console over the real application and a real database."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from router import console
from router.api.application import create_api
from router.control import access
from router.control.desk import Desk
from router.storage.postgres import PostgresStore
from tests.integration.control.desk_scene import make_desk

Enter = Callable[..., Awaitable["Visit"]]


class Visit:
    """Somebody's browser: cookies, and the token the pages carry."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def page(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def csrf(self) -> str:
        found = re.search(r'name="figueira-csrf" content="([0-9a-f]+)"', await self.page("/console"))
        assert found is not None
        return found[1]


@pytest.fixture
async def desk(postgres_store: PostgresStore) -> Desk:
    return await make_desk(postgres_store)


@pytest.fixture
def app(desk: Desk) -> FastAPI:
    app = create_api(desk, settings=SimpleNamespace(public_url=None))
    console.mount(app)
    return app


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://figueira") as client:
        yield client


@pytest.fixture
async def enter(app: FastAPI, desk: Desk) -> AsyncIterator[Enter]:
    """Make a user and log in through the form: `await enter("clinica-sol", "agent")`."""
    async with AsyncExitStack() as stack:

        async def enter(tenant: str, role: str) -> Visit:
            email = f"{role}@{tenant}.example"
            password = await access.create_user(desk, email, tenant, role)
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://figueira")
            await stack.enter_async_context(client)
            answer = await client.post("/console/login", data={"email": email, "password": password})
            assert (answer.status_code, answer.headers["location"]) == (303, "/console")
            return Visit(client)

        yield enter
