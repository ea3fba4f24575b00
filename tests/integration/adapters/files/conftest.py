import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from adapters.files.exchange import FileExchange
from adapters.files.rooms import Workspace
from adapters.files.store import ObjectFiles, open_store
from adapters.transport import open_client
from router.domain.ports import Files
from router.settings import MediaSettings, S3Settings
from tests.integration.adapters.files.web import Web


@dataclass(frozen=True)
class Bucket:
    """A bucket of a running S3 stand-in."""

    url: str
    name: str

    def settings(self, home: Path, **changed: str) -> MediaSettings:
        given = {"access_key_id": "testing", "secret_access_key": "testing", "bucket": self.name, **changed}
        return MediaSettings(home / "unused", s3=S3Settings(endpoint=self.url, region="us-east-1", prefix="figueira", allow_http=True, **given))  # fmt: skip


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """moto as a server of its own: the address."""
    if find_spec("moto") is None:
        if os.environ.get("FIGUEIRA_TEST_SERVERS") == "require":
            pytest.fail("moto is missing: pip install 'moto[server]'")
        pytest.skip("NOT TESTED: moto is missing")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    run = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_first_answer(f"http://127.0.0.1:{port}", process))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


async def _first_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(600):
            try:
                await client.get(f"{url}/moto-api/")
            except httpx.TransportError:
                assert process.poll() is None, "moto ended"
                await asyncio.sleep(0.05)
            else:
                return
    pytest.fail("moto does not answer")


@pytest.fixture
async def bucket(s3: str) -> Bucket:
    async with httpx.AsyncClient(trust_env=False) as client:
        made = Bucket(s3, f"bucket-{os.urandom(4).hex()}")
        (await client.put(f"{s3}/{made.name}")).raise_for_status()
    return made


@pytest.fixture
def store(tmp_path: Path) -> ObjectFiles:
    return open_store(MediaSettings(tmp_path / "media"))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(15.0) as opened:
        yield opened


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web() as running:
        yield running


@pytest.fixture
def files(client: httpx.AsyncClient, store: ObjectFiles, web: Web) -> Files:
    chat = Workspace(f"{web.url}/chat", "bot", "room-secret")
    return FileExchange(client, store, rocketchat=chat, limit=20 * 1024 * 1024, seconds=10.0)
