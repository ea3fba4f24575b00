"""The HTTP interface over a desk without a database: keys are a table, control's acts are set by each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from router.api.application import create_api
from router.api.operations import Streams
from router.control import access
from router.control.desk import Desk
from router.domain.channel import Channel
from router.domain.job import Breaker


@dataclass
class FakeTx:
    shut: set[str] = field(default_factory=set)

    async def breaker(self, gate: str, *, lock: bool = True) -> Breaker:
        return Breaker(gate, opened_at=datetime.now(UTC) if gate in self.shut else None)


@dataclass
class FakeStore:
    tx: FakeTx = field(default_factory=FakeTx)
    error: Exception | None = None
    tenants: list[str | None] = field(default_factory=list)

    async def transact(self, work: Callable[[Any], Awaitable[Any]], *, tenant: str | None = None) -> Any:
        self.tenants.append(tenant)
        if self.error is not None:
            raise self.error
        return await work(self.tx)


@dataclass
class Scene:
    """`client` speaks to the application; `keys` by token; `session` is who the cookie "s" belongs to."""

    client: httpx.AsyncClient
    store: FakeStore
    app: FastAPI
    keys: dict[str, access.Key] = field(default_factory=dict)
    session: access.User | None = None

    def key(self, *scopes: str, tenant: str = "*") -> dict[str, str]:
        """A new key; the headers that send it."""
        token = f"token-{len(self.keys)}"
        self.keys[token] = access.Key(str(uuid4()), "k", tenant, scopes)
        return {"Authorization": f"Bearer {token}"}

    def by(self, headers: dict[str, str]) -> str:
        return f"key:{self.keys[headers['Authorization'].partition(' ')[2]].id}"


class HandClock:
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture(scope="session")
def built() -> FastAPI:
    """Building it takes longer than most tests: built once, set to a fresh desk by each."""
    return create_api(cast("Desk", None), settings=SimpleNamespace(public_url=None))


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch, built: FastAPI) -> AsyncIterator[Scene]:
    store = FakeStore()
    desk = SimpleNamespace(
        store=store,
        channels={"wa": Channel("wa", "whatsapp", "sol"), "wb": Channel("wb", "whatsapp", "lua")},
        kinds={"whatsapp": object()},
        clock=HandClock(),
        secrets=SimpleNamespace(session=b"k" * 32),
    )
    built.state.desk, built.state.streams = desk, Streams()
    transport = httpx.ASGITransport(built, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://figueira") as client:
        made = Scene(client, store, built)

        async def key(_: Desk, token: str) -> Any:
            return made.keys.get(token)

        async def session(_: Desk, token: str) -> Any:
            return made.session if token == "s" else None

        monkeypatch.setattr(access, "key", key)
        monkeypatch.setattr(access, "session", session)
        yield made
