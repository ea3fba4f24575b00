"""What an import brings: documents as Rocket.Chat had them, its runs and parts, what was refused."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    Interval,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape, Type
from router.storage.tables.columns import document, link, metadata, moment, sequence, uid, words

_TYPES: dict[Type, Any] = {
    Type.TEXT: Text,
    Type.TIME: DateTime(timezone=True),
    Type.BOOL: Boolean,
    Type.JSON: JSONB,
    Type.RAW: LargeBinary,
    Type.INT: BigInteger,
}


def _tenant() -> Column[str]:
    """Last, and nobody's yet: which clinic a document belongs to is known when it is woven."""
    return words("tenant_id", server_default=text("'*'"))


def _copied(shape: Shape, *more: Column[Any], filled: tuple[str, ...] = ("raw",)) -> Table:
    """The shape's columns, NULL but for the key and `filled`; then `more`."""
    columns = [
        Column(name, _TYPES[kind], primary_key=name in shape.key, nullable=name not in {*shape.key, *filled})
        for name, kind in shape.columns
    ]
    return Table(shape.table, metadata, *columns, *more, _tenant())


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def _tally(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


archive_messages = _copied(MESSAGES, filled=("room_id", "sent_at", "raw"))
Index("archive_messages_room", archive_messages.c.room_id, archive_messages.c.sent_at)

archive_rooms = _copied(
    ROOMS,
    words("skipped", nullable=True),  # why it is not kept; then `raw` is NULL
    moment("erased_at", nullable=True),
    _flag("woven"),
    filled=(),
)
_unwoven = text("kind = 'l' AND NOT woven AND skipped IS NULL")
Index("archive_rooms_unwoven", archive_rooms.c.source_id, postgresql_where=_unwoven)
Index("archive_rooms_visitor", archive_rooms.c.visitor_id)

archive_files = _copied(
    FILES,
    words("state", server_default=text("'waiting'")),
    words("sha256", nullable=True),
    Column("stored_size", BigInteger),
    words("error", nullable=True),
)
Index("archive_files_room", archive_files.c.room_id)
Index("archive_files_waiting", archive_files.c.source_id, postgresql_where=archive_files.c.state == "waiting")

archive_records = _copied(RECORDS)
Index("archive_records_room", archive_records.c.collection, archive_records.c.room_id)
Index("archive_records_user", archive_records.c.collection, archive_records.c.user_id)

archive_tombstones = Table(
    "archive_tombstones",
    metadata,
    words("collection", primary_key=True),
    words("source_id", primary_key=True),
    moment("deleted_at"),
    _tenant(),
)

imports = Table(
    "imports",
    metadata,
    uid("id", primary_key=True),
    sequence("import_seq"),
    words("source"),
    Column("live", Boolean, nullable=False),
    words("state"),
    document("options"),
    moment("started_at"),
    moment("ended_at", nullable=True),
    Column("token", LargeBinary),
    moment("token_at", nullable=True),
    moment("caught_up_at", nullable=True),
    _tenant(),
)
Index("imports_source", imports.c.source, imports.c.seq)

import_parts = Table(
    "import_parts",
    metadata,
    uid("run_id", link("imports.id"), primary_key=True),
    words("collection", primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    document("spec"),
    words("after", nullable=True),
    _flag("done"),
    _tally("fence"),
    uid("owner", nullable=True),
    Column("lease", Interval),
    moment("lease_until", nullable=True),
    moment("claimed_at", nullable=True),
    moment("updated_at", nullable=True),
    _tally("source"),
    _tally("written"),
    document("skipped"),
    _tally("rejected"),
    _tally("erased"),
    _tally("changed"),
    _tally("digest"),
    _tenant(),
)

import_notes = Table(
    "import_notes",
    metadata,
    uid("run_id", link("imports.id"), primary_key=True),
    words("name", primary_key=True),
    document("value"),
    _tenant(),
)

rejects = Table(
    "rejects",
    metadata,
    words("collection", primary_key=True),
    words("key", primary_key=True),
    words("source_id", nullable=True),
    words("position"),
    words("code"),
    words("reason"),
    Column("raw", LargeBinary, nullable=False),
    uid("run_id", nullable=True),
    moment("seen_at"),
    moment("resolved_at", nullable=True),
    _tenant(),
)
Index("rejects_open", rejects.c.collection, rejects.c.key, postgresql_where=text("resolved_at IS NULL"))
