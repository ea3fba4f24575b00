"""Databases for tests: one server per test process, one upgraded template, a fresh copy of it for each test."""

import asyncio
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from router.storage.embedded import attach
from router.storage.postgres import PostgresStore, open_store
from router.storage.upgrade import upgrade

# Every run tries a share of what `make faults` tries; each run another one.
settings.register_profile("short", max_examples=50)
if os.environ.get("FIGUEIRA_TEST_LENGTH") != "full":
    settings.load_profile("short")

TOMBSTONE_KEY = b"k" * 32
OWNER = "clinic_owner"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
ENOUGH = 2 * 1024**3
_numbers = itertools.count()


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL that trusts its socket."""

    host: str
    port: int
    superuser: str

    def dsn(self, database: str, user: str | None = None) -> str:
        return f"postgresql://{user or self.superuser}@/{database}?host={self.host}&port={self.port}"

    async def run(self, *statements: str) -> None:
        link = await asyncpg.connect(self.dsn("postgres"))
        try:
            for statement in statements:
                await link.execute(statement)
        finally:
            await link.close()

    async def create(self, name: str, template: str = "template1") -> str:
        """A database of an owner who is no superuser, as production has it."""
        await self.run(f"create database {name} owner {OWNER} template {template}")
        return self.dsn(name, OWNER)

    async def drop(self, name: str) -> None:
        await self.run(f"drop database {name} with (force)")


def fresh_name() -> str:
    return f"test_{os.getpid()}_{next(_numbers)}"


def _home(prefix: str) -> Path:
    """In memory where there is room: no test cuts the machine's power, and to make a database for each of a thousand
    tests is mostly waiting for the disk."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH
    return Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if roomy else None))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The wheel's server in a home of its own, reachable for the system user that runs it."""
    home = _home("figueira-test-")
    try:
        with attach(home) as embedded:
            where, port = embedded.dsn.partition("?host=")[2].split("&port=")
            server = Server(where, int(port), "figueira")
            asyncio.run(server.run(f"create role {OWNER} login createrole"))
            yield server
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_template(postgres: Server) -> str:
    name = f"template_{os.getpid()}"

    async def make() -> None:
        await upgrade(await postgres.create(name))

    asyncio.run(make())
    return name


@pytest.fixture
async def dsn(postgres: Server, postgres_template: str) -> AsyncIterator[str]:
    """An upgraded, empty database; the DSN of its owner."""
    name = fresh_name()
    yield await postgres.create(name, postgres_template)
    await postgres.drop(name)


@pytest.fixture
async def postgres_store(dsn: str) -> AsyncIterator[PostgresStore]:
    async with open_store(dsn, tombstone_key=TOMBSTONE_KEY) as store:
        yield store


DEBIAN = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def postgres_15() -> Iterator[Server]:
    """Debian's server, on a socket in a directory of its own."""
    if not (DEBIAN / "postgres").exists():
        if os.environ.get("FIGUEIRA_TEST_SERVERS") == "require":
            pytest.fail(f"PostgreSQL 15 is missing: {DEBIAN}")
        pytest.skip(f"NOT TESTED: PostgreSQL 15 is missing ({DEBIAN})")
    home = _home("figueira-pg15-")
    user = None
    if os.geteuid() == 0:
        user = "postgres"
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    run = [str(DEBIAN / "initdb"), "-D", str(home / "pg"), "-A", "trust", "-U", "figueira", "-E", "UTF8"]
    subprocess.run(run, check=True, capture_output=True, user=user, cwd="/")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = (home / "log").open("wb")
    start = [str(DEBIAN / "postgres"), "-D", str(home / "pg"), "-k", str(home), "-h", "", "-p", str(port)]
    process = subprocess.Popen(start, stdout=log, stderr=log, user=user, cwd="/")
    try:
        server = Server(str(home), port, "figueira")
        asyncio.run(_first_answer(server))
        yield server
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(home)


async def _first_answer(server: Server) -> None:
    for _ in range(200):
        try:
            await server.run(f"create role {OWNER} login createrole")
        except (OSError, asyncpg.CannotConnectNowError):
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("PostgreSQL 15 does not answer")


@pytest.fixture(scope="session")
def postgres_15_template(postgres_15: Server) -> str:
    name = f"template_{os.getpid()}"

    async def make() -> None:
        await upgrade(await postgres_15.create(name))

    asyncio.run(make())
    return name


@pytest.fixture
async def postgres_15_store(postgres_15: Server, postgres_15_template: str) -> AsyncIterator[PostgresStore]:
    name = fresh_name()
    dsn = await postgres_15.create(name, postgres_15_template)
    async with open_store(dsn, tombstone_key=TOMBSTONE_KEY) as store:
        yield store
    await postgres_15.drop(name)
