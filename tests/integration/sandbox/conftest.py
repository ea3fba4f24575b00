import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.integration.sandbox.process import NUMBER, SECRET, Client, Receiver

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    log = tmp_path_factory.mktemp("sandbox") / "record.jsonl"
    command = [sys.executable, "-m", "deploy.sandbox", "--port", "0", "--record", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)) as running:
        assert running.stdout is not None
        port = json.loads(running.stdout.readline())["port"]
        yield f"http://127.0.0.1:{port}", log
        running.terminate()
        assert running.wait(5) == 0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def client(process: tuple[str, Path], receiver: Receiver) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        client = Client(process[0], session)
        await client.control("reset", {})
        number = {"callback_url": receiver.url + "/meta", "app_secret": SECRET, "verify_token": "v"}
        await client.control(
            "configure",
            {
                "numbers": {NUMBER: number},
                "status_delay_seconds": 0.01,
                "callback_retry": {"attempts": 5, "delay_seconds": 0.02},
                "rocketchat": {
                    "app": {"app-1": {"phone_number_id": NUMBER, "app_secret": SECRET}},
                    "retry_delay_seconds": 0.02,
                    "agent_delay_seconds": 0.01,
                },
            },
        )
        yield client
        assert await client.record("errors") == []
        await client.control("reset", {})


@pytest.fixture
async def crm(client: Client) -> AsyncIterator[Receiver]:
    """The receiver of the omnichannel webhook, apart from the Meta callback."""
    crm = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", crm.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}/crm"
    await client.control("configure", {"rocketchat": {"webhook_url": crm.url, "webhook_token": "ficha"}})
    yield crm
    await client.control("reset", {})
    await runner.cleanup()
