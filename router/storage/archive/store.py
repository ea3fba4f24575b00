"""The archive: documents as Rocket.Chat had them, and how an import of them stands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.storage.archive.binary import BadRows
from router.storage.archive.checking import Checking
from router.storage.archive.indexes import Indexes
from router.storage.archive.mending import Mending
from router.storage.archive.refusals import Refusals
from router.storage.archive.rows import Rows
from router.storage.archive.runs import Runs
from router.storage.archive.stream import Stream

__all__ = ["Archive", "BadRows", "open_archive"]


class Archive(Runs, Rows, Refusals, Stream, Checking, Mending, Indexes):
    """Open it by `open_archive`. All methods raise Unavailable, and StoreError for what PostgreSQL refuses."""


@asynccontextmanager
async def open_archive(dsn: str, *, pool_size: int = 4) -> AsyncIterator[Archive]:
    """Open for the length of an `async with`. `dsn`: the owner's, as for `open_store`; `pool_size`: connections that
    write, and as many that read. Raises Unavailable."""
    archive = Archive(dsn, pool_size=pool_size)
    try:
        await archive.connect()
        yield archive
    finally:
        await archive.close()
