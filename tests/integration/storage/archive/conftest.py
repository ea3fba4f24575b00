"""An archive on an upgraded, empty database: the wheel's server, and Debian's 15."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from router.storage.archive import Archive, open_archive
from tests.conftest import Server, fresh_name


@dataclass(frozen=True)
class Place:
    """The DSN of the database's owner."""

    dsn: str

    async def fetch(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """What somebody beside the archive sees, or does, as the engine."""
        link = await asyncpg.connect(self.dsn, server_settings={"role": "figueira_engine"})
        try:
            return [tuple(row) for row in await link.fetch(sql, *values)]
        finally:
            await link.close()


@pytest.fixture(params=["wheel", pytest.param("debian", marks=pytest.mark.server)])
def upgraded(request: pytest.FixtureRequest) -> tuple[Server, str]:
    """A server and its template; asked for outside the loop, which starting a server has one of its own for."""
    end = {"wheel": "", "debian": "_15"}[request.param]
    server, template = (request.getfixturevalue(f"postgres{end}{more}") for more in ("", "_template"))
    assert isinstance(server, Server)
    return server, template


@pytest.fixture
async def place(upgraded: tuple[Server, str]) -> AsyncIterator[Place]:
    server, template = upgraded
    name = fresh_name()
    yield Place(await server.create(name, template))
    await server.drop(name)


@pytest.fixture
async def archive(place: Place) -> AsyncIterator[Archive]:
    async with open_archive(place.dsn) as opened:
        yield opened
