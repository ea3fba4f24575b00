"""What the parts of the transaction share: the connection, its clock, bells to ring after the commit."""

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Link = PoolConnectionProxy[Record]


WORK = "work"
"""The doorbell's topic: some job became runnable."""

FOR_UPDATE = {True: " for update", False: ""}


def placeholders(columns: tuple[str, ...]) -> str:
    """`$1, $2, …`, one for each column."""
    return ", ".join(f"${place}" for place in range(1, len(columns) + 1))


def insert(table: str, columns: tuple[str, ...]) -> str:
    """An INSERT of one row."""
    return f"insert into {table} ({', '.join(columns)}) values ({placeholders(columns)})"


class Base:
    """One transaction on one connection."""

    def __init__(self, link: "Link", tombstone_key: bytes) -> None:
        self._link = link
        self._tombstone_key = tombstone_key
        self._now: datetime | None = None
        self.bells: set[str] = set()
        """Topics to ring once this is committed. Not pg_notify in the transaction: that makes commits queue for one
        lock of the whole server, and a shared fsync would be lost."""

    async def now(self) -> datetime:
        if self._now is None:
            self._now = await self._link.fetchval("select now()")
        assert self._now is not None  # noqa: S101 - for the type checker: now() is never NULL
        return self._now
