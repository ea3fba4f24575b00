import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpcore
import httpx
import pytest
from aiohttp import web as aioweb

from adapters.files.fetch import Fetcher, Promise, Source
from adapters.files.store import ObjectFiles
from router.domain.job import Outcome, Result
from tests.integration.adapters.files.scene import names
from tests.unit.adapters.files.samples import JPEG


class Network(httpcore.AsyncNetworkBackend):
    """The Internet: every connection is noted, and ends at one port of loopback."""

    def __init__(self, port: int) -> None:
        self.port, self.asked = port, list[str]()
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, *args: object, **more: object
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append(f"{host}:{port}")
        return await self._real.connect_tcp("127.0.0.1", self.port)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


Secure = Callable[[str], Awaitable[tuple[httpx.AsyncClient, Network]]]


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    """An https server with a certificate for one name, and a client that believes its issuer."""
    pytest.importorskip("cryptography", reason="NOT TESTED: cryptography is missing")
    from tests.integration.adapters.files.certificate import issue

    open_things: list[object] = []

    async def page(request: aioweb.Request) -> aioweb.Response:
        return aioweb.Response(body=JPEG, headers={"X-Host": request.host})

    async def start(name: str) -> tuple[httpx.AsyncClient, Network]:
        authority, chain = issue(tmp_path, name)
        offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        offered.load_cert_chain(chain)
        application = aioweb.Application()
        application.router.add_get("/{path:.*}", page)
        runner = aioweb.AppRunner(application)
        await runner.setup()
        await aioweb.TCPSite(runner, "127.0.0.1", 0, ssl_context=offered).start()
        transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=authority))
        network = Network(runner.addresses[0][1])
        transport._pool._network_backend = network
        client = httpx.AsyncClient(transport=transport)
        open_things.extend([client, runner])
        return client, network

    yield start
    for thing in open_things:
        await (thing.aclose() if isinstance(thing, httpx.AsyncClient) else thing.cleanup())  # type: ignore[attr-defined]


async def test_the_certificate_must_name_the_host_not_the_address(secure: Secure, store: ObjectFiles) -> None:
    client, network = await secure("files.example")
    look, asked = names(files_example="93.184.215.14", other_example="93.184.215.14")
    fetcher = Fetcher(client, store, limit=1_000_000, resolve=look)
    assert (await fetcher.fetch(Source("https://files.example/a"), Promise("image/jpeg")))[0] == Result(
        Outcome.OK
    )
    # The same address under another name: the connection that was verified for the first one does not serve it.
    assert (await fetcher.fetch(Source("https://other.example/a"), Promise("image/jpeg")))[0] == Result(
        Outcome.RETRY, code="connect"
    )
    assert network.asked == ["93.184.215.14:443"] * 2
    assert asked == ["files.example:443", "other.example:443"]
