"""What a benchmark runs on: a home of its own with an embedded PostgreSQL, databases in it, server processes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from benchmarks.bodies import NUMBER, SECRET
from router.storage.embedded import Embedded, attach
from router.storage.upgrade import upgrade

Process = subprocess.Popen[bytes]
ROOT = Path(__file__).parents[1]
SLUG = "whatsapp"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
SETTLE_SECONDS = 0.5
"""Between the last client's end and the server's: backends end a little after their clients."""
_SETTINGS = f"""
[rocketchat]
base_url = "http://127.0.0.1:9"
[channels.{SLUG}]
kind = "whatsapp"
tenant = "clinica-sol"
[channels.{SLUG}.native]
phone_number_id = "{NUMBER}"
app_secret = "{SECRET}"
[channels.{SLUG}.rocketchat]
webhook_url = "http://127.0.0.1:9/hook"
"""


async def execute(dsn: str, *statements: str) -> None:
    """Each in a transaction of its own."""
    link = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await link.execute(statement)
    finally:
        await link.close()


async def fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    """Rows of one query."""
    link = await asyncpg.connect(dsn)
    try:
        return list(await link.fetch(query, *values))
    finally:
        await link.close()


class Ground:
    """A home with figueira.toml, its server and its databases."""

    def __init__(self, home: Path, embedded: Embedded) -> None:
        self.home = home
        self.dsn = embedded.dsn
        self.tcp_dsn = embedded.tcp_dsn

    def database(self, name: str, template: str = "figueira") -> str:
        """A database like that one: with the same tables as Figueira's; its DSN."""
        asyncio.run(execute(self._any, f"create database {name} template {template}"))
        return self.dsn.replace("/figueira?", f"/{name}?")

    def drop(self, name: str) -> None:
        """Take a database away, if it is there."""
        asyncio.run(execute(self._any, f"drop database if exists {name} with (force)"))

    @property
    def _any(self) -> str:
        return self.dsn.replace("/figueira?", "/postgres?")

    def environment(self) -> dict[str, str]:
        """Of commands: the home, nothing else of ours."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FIGUEIRA_")}
        return {**kept, "FIGUEIRA_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def figueira(self, *argv: str) -> str:
        """Run a command to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", *argv], cwd=self.home, env=self.environment(), check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, text=True,
        )  # fmt: skip
        return done.stdout

    @contextmanager
    def process(self, *argv: str) -> Iterator[Process]:
        """A Python module as a process, gone after the block."""
        with (self.home / "log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", *argv], cwd=self.home, env=self.environment(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def wait(self, child: Process, port: int) -> None:
        """Until it listens."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        text = (self.home / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{child.args!r} did not come up:\n{text}")


def free_port() -> int:
    """A port nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ground(*, commit_times: bool = False) -> Iterator[Ground]:
    """A fresh home, its database upgraded; removed afterwards. `commit_times`: PostgreSQL keeps when each transaction
    was committed (pg_xact_commit_timestamp), which needs a restart."""
    home = Path(tempfile.mkdtemp(prefix="figueira-bench-"))
    try:
        (home / "figueira.toml").write_text(_SETTINGS)
        if commit_times:
            with attach(home) as embedded:
                asyncio.run(execute(embedded.dsn, "alter system set track_commit_timestamp = on"))
        with attach(home) as embedded:
            asyncio.run(upgrade(embedded.dsn))
            yield Ground(home, embedded)
            time.sleep(SETTLE_SECONDS)
    finally:
        shutil.rmtree(home)
