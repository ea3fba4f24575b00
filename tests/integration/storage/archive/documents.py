"""Documents and rows to put into an archive."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import bson

from migration.documents import digest
from router.storage.archive import Archive
from router.storage.archive.model import Account, Change, Chunk, Mark, Part, Refused, Run
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape

MESSAGE, ROOM, UPLOAD, USER = "rocketchat_message", "rocketchat_room", "rocketchat_uploads", "users"
SOURCE = "db.clinica.example/rocketchat"
MS = 1_767_225_600_000  # 2026-01-01
AT = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Row = tuple[Any, ...]


def row(shape: Shape, **values: Any) -> Row:
    """The shape's columns; `raw` is a document of what was given."""
    raw = values.pop("raw", None)
    if raw is None:
        raw = bson.encode({"_id": values["source_id"], **values})
    return tuple({**values, "raw": raw}.get(name) for name in shape.names)


def message(source_id: str, room: str = "r1", *, at: int = 0, updated: int | None = 0, **values: Any) -> Row:
    values = {"sent_at": MS + at, "room_id": room, "text": "oi", **values}
    return row(MESSAGES, source_id=source_id, updated_at=None if updated is None else MS + updated, **values)


def room(source_id: str, *, updated: int | None = 0, **values: Any) -> Row:
    values = {"kind": "l", "updated_at": None if updated is None else MS + updated, **values}
    return row(ROOMS, source_id=source_id, **values)


def upload(source_id: str, room_id: str | None = "r1", **values: Any) -> Row:
    return row(
        FILES, source_id=source_id, room_id=room_id, **{"size": 3, "store": "GridFS:Uploads", **values}
    )


def user(source_id: str, collection: str = USER, **values: Any) -> Row:
    return row(RECORDS, collection=collection, source_id=source_id, **values)


def account(rows: Sequence[Row], **more: Any) -> Account:
    total = 0
    for one in rows:
        total ^= digest(one[-1])
    return Account(**{"source": len(rows), "written": len(rows), "digest": total, **more})


def chunk(shape: Shape, *rows: Row, resume: str | None = "1", **more: Any) -> Chunk:
    return Chunk(shape, rows, account(rows), resume, **more)


def refused(key: str, collection: str = MESSAGE, **values: Any) -> Refused:
    source_id = key[3:] if key.startswith("id:") else None
    told = {"position": "17", "code": "nul", "reason": "text holds a NUL", "raw": b"\x05\x00\x00\x00\x00"}
    return Refused(collection, key, source_id, **{**told, **values})


def upsert(shape: Shape, made: Row, collection: str) -> Change:
    return Change(collection, made[shape.names.index("source_id")], shape, AT, row=made)


def gone(shape: Shape, source_id: str, collection: str, **more: Any) -> Change:
    return Change(collection, source_id, shape, AT, **{"deleted": True, **more})


def mark(room_id: str, skipped: str | None = None, erased_at: datetime | None = None) -> Mark:
    return Mark(room_id, "l", skipped, erased_at)


async def begun(archive: Archive) -> Run:
    return await archive.start(SOURCE, live=True, options={})


async def part_of(archive: Archive, collection: str = MESSAGE, run: Run | None = None) -> Part:
    """A claimed part of a run."""
    run = run or await begun(archive)
    await archive.plan(run.id, collection, [{}])
    found = await archive.claim(run.id, [collection], uuid.uuid4(), MINUTE)
    assert found is not None
    return found


async def landed(archive: Archive, shape: Shape, *rows: Row, collection: str, merge: bool = False) -> Part:
    """Rows added in a run of their own."""
    return await archive.add(await part_of(archive, collection), chunk(shape, *rows), merge=merge)
