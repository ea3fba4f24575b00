from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from aiohttp import web

from adapters import transport
from adapters.rocketchat.rest import RocketChatRest
from tests.integration.adapters.rocketchat.workspace import Workspace

NOW = datetime(2026, 2, 2, 12, tzinfo=UTC)


@dataclass
class Hands:
    """A clock that stands still until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(NOW.timestamp() + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def workspace() -> AsyncIterator[Workspace]:
    """Mounted under /rc, as workspaces may be."""
    made = Workspace()
    app = web.Application()
    app.router.add_route("*", "/rc/api/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/rc"
    yield made
    await runner.cleanup()


@pytest.fixture
async def rest(
    monkeypatch: pytest.MonkeyPatch, clock: Hands, workspace: Workspace
) -> AsyncIterator[RocketChatRest]:
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(0.5))
    async with httpx.AsyncClient() as client:
        yield RocketChatRest(client, f"{workspace.url}/", "u1", "segredo", clock)
