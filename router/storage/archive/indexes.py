"""Secondary indexes of the copied documents: a first load is quicker without them."""

from typing import Final

import asyncpg

from router.storage.archive.base import Base
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape, Type
from router.storage.postgres.failures import translated

INDEXES: Final = {
    MESSAGES.table: {"archive_messages_room": "(room_id, sent_at)"},
    ROOMS.table: {
        "archive_rooms_unwoven": "(source_id) where kind = 'l' and not woven and skipped is null",
        "archive_rooms_visitor": "(visitor_id)",
    },
    FILES.table: {
        "archive_files_room": "(room_id)",
        "archive_files_waiting": "(source_id) where state = 'waiting'",
    },
    RECORDS.table: {
        "archive_records_room": "(collection, room_id)",
        "archive_records_user": "(collection, user_id)",
    },
}
"""By table: name and what it is on, as upgrade 0004 made them."""

# Shorter than a person's patience, longer than a chunk takes.
_SETTINGS = {
    "application_name": "figueira_import",
    "lock_timeout": "60s",
    "maintenance_work_mem": "256MB",
    "client_min_messages": "warning",
}


def _sought(shape: Shape) -> list[str]:
    """The key, rooms and persons, times; a row's number and size come with any of them."""
    return [
        name
        for name, kind in shape.columns
        if name in shape.key or kind is Type.TIME or name.endswith("_id") or name == "kind"
    ]


class Indexes(Base):
    """DDL is the owner's: each call opens a connection of its own."""

    async def empty(self, shape: Shape) -> bool:
        """No row at all, no mark either."""
        async with self._read() as link:
            return not await link.fetchval(f"select exists (select from {shape.table})")

    async def drop_indexes(self, shape: Shape) -> None:
        """Raises Unavailable when somebody holds the table for more than a minute."""
        await self._as_owner(*(f"drop index if exists {name}" for name in INDEXES[shape.table]))

    async def build_indexes(self, shape: Shape) -> None:
        """Those that are missing; and fresh statistics of what rows are sought by: of documents and texts they would cost more
        than the indexes, and tell nothing."""
        async with self._read() as link:
            there = await link.fetch("select indexname from pg_indexes where tablename = $1", shape.table)
        known = {row["indexname"] for row in there}
        make = [
            f"create index if not exists {name} on {shape.table} {on}"
            for name, on in INDEXES[shape.table].items()
            if name not in known
        ]
        await self._as_owner(*make, f"analyze {shape.table} ({', '.join(_sought(shape))})")

    async def _as_owner(self, *statements: str) -> None:
        with translated():
            link = await asyncpg.connect(self._dsn, server_settings=_SETTINGS)
            try:
                for statement in statements:
                    await link.execute(statement)
            finally:
                await link.close()
