"""One arm in a process of its own: `python -m benchmarks.imports.arms ARM JSON` prints what it took."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import bson
from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from adapters.rocketchat.documents import Documents
from benchmarks.imports.meter import metered
from migration.collections import Copied, treatment
from migration.documents import Block, Mask, Reject, decode, uncollected
from migration.load import Loader, Options, Sorter
from migration.load.landing import CHUNK_BYTES, CHUNK_DOCUMENTS
from migration.run import Import
from migration.sources import Source, open_source
from migration.verify import Verify
from router.domain.ports import RoomInfo
from router.storage.archive import Archive, open_archive
from router.storage.archive.binary import encode
from router.storage.archive.indexes import INDEXES
from router.storage.archive.shape import MESSAGES

NAME = "rocketchat_message"
MASK = Mask(b"an-invented-key-of-thirty-two-by")
POOL = 4
Found = dict[str, float]

_COLUMNS = ", ".join(MESSAGES.names)
_PLACES = ", ".join(f"${number}" for number in range(1, len(MESSAGES.names) + 1))
NAIVE = f"insert into {MESSAGES.table} ({_COLUMNS}) values ({_PLACES}) on conflict (source_id) do nothing"  # noqa: S608
MANY = 1000
"""Rows of one executemany."""


@dataclass(frozen=True)
class Given:
    """`source`: a folder, or a live one's address. `rows`: where the prebuilt streams are. `server`: its process."""

    source: str
    dsn: str = ""
    rows: str = ""
    server: int | None = None


class Nobody:
    """Nobody was erased."""

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        return [None] * len(infos)


def _loaders(archive: Archive, options: Options, direct: frozenset[str]) -> tuple[Sorter, Loader]:
    sorter = Sorter(Documents(), MASK, options)
    return sorter, Loader(archive, sorter, Nobody(), direct=direct)


def _import(source: Source, archive: Archive) -> Import:
    async def unwoven() -> None:
        """Conversations are made of rooms; what is measured here is documents."""

    return Import(source, archive, lambda options, direct: _loaders(archive, options, direct), weave=unwoven)


async def ours(given: Given) -> Found:
    """As `figueira migrate import` copies: planned in parts, masked, digested, told by rooms, checkpoints, indexes last."""
    async with open_archive(given.dsn, pool_size=POOL) as archive:
        with closing(open_source(given.source)) as source:
            with metered(given.server) as found:
                outcome = await _import(source, archive).run()
            account = outcome.counts[NAME]
            kept = await archive.kept(NAME, MESSAGES)
    assert account.balanced and kept == account.written == account.changed, account  # noqa: PT018
    return {**found, "documents": account.source}


async def verify(given: Given) -> Found:
    """All that `ours` has copied, proven."""
    async with open_archive(given.dsn, pool_size=POOL) as archive:
        with closing(open_source(given.source)) as source:
            run = await archive.latest(source.name)
            assert run is not None
            sorter, loader = _loaders(archive, Options.of(run.options), frozenset())
            del sorter
            with metered(given.server) as found:
                report = await Verify(
                    source, archive, run, sorts=loader, mask=MASK, reader=Documents()
                ).run(again=True)  # fmt: skip
    told = report.as_json()
    assert not told["differences"], told
    return {**found, "documents": told["collections"][NAME]["source"]}


# ---- limits


def _rows(block: Block) -> list[tuple[Any, ...]]:
    what, reader = treatment(NAME), Documents()
    assert isinstance(what, Copied)
    rows = []
    for raw, document in zip(block.raws, decode(block.raws), strict=True):
        assert not isinstance(document, Reject), document
        rows.append(what.map(reader, NAME, document, raw))
    return rows


def _blocks(source: Source) -> Iterator[Block]:
    for part in source.plan(NAME):
        yield from source.read(NAME, part)


async def decoding(given: Given) -> Found:
    """Read, decoded, mapped, encoded as binary rows; no mask, no digest, no database."""
    documents = 0
    with closing(open_source(given.source)) as source, metered(None) as found, uncollected():
        for block in _blocks(source):
            rows = _rows(block)
            documents += len(rows)
            encode(MESSAGES, rows)
    return {**found, "documents": documents}


async def prebuild(given: Given) -> Found:
    """The streams of `copying`: what `ours` sends, chunk by chunk."""
    place, rows, documents, size, number = Path(given.rows), [], 0, 0, 0
    with closing(open_source(given.source)) as source, metered(None) as found:
        for block in (*_blocks(source), None):
            if block is not None:
                rows += _rows(Block([MASK(raw) for raw in block.raws], block.positions, block.resume))
                size += sum(map(len, block.raws))
            if rows and (block is None or len(rows) >= CHUNK_DOCUMENTS or size >= CHUNK_BYTES):
                (place / f"{number:05d}").write_bytes(encode(MESSAGES, rows))
                documents, number, rows, size = documents + len(rows), number + 1, [], 0
    return {**found, "documents": documents}


async def copying(given: Given) -> Found:
    """Prebuilt streams by COPY, a transaction each; the primary key is there, other indexes come last."""
    link = await asyncpg.connect(given.dsn, server_settings={"maintenance_work_mem": "256MB"})
    documents, streams = 0, sorted(Path(given.rows).iterdir())  # noqa: ASYNC240  nobody else waits
    try:
        for name in INDEXES[MESSAGES.table]:
            await link.execute(f"drop index {name}")
        with metered(given.server) as found:
            for stream in streams:
                with stream.open("rb") as opened:
                    done = await link.copy_to_table(
                        MESSAGES.table, source=opened, columns=list(MESSAGES.names), format="binary"
                    )
                documents += int(done.split()[-1])
            for name, on in INDEXES[MESSAGES.table].items():
                await link.execute(f"create index {name} on {MESSAGES.table} {on}")
    finally:
        await link.close()
    return {**found, "documents": documents}


# ---- as it is usually written


def _plainly(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same columns; the document as JSON in `extra`, so no bytes in `raw`."""
    user = document.get("u") or {}
    return (
        document["_id"], document["rid"], document.get("t"), document["ts"], document.get("_updatedAt"),
        user.get("_id"), user.get("username"), bool(document.get("token")), "text", document.get("msg"),
        document.get("tmid"), document.get("parent"), bool(document.get("_hidden")), document.get("editedAt"),
        json.dumps(document["files"]) if document.get("files") else None, json_util.dumps(document), b"",
    )  # fmt: skip


async def naive(given: Given) -> Found:
    """The file read and decoded whole, json_util, executemany with ON CONFLICT; indexes live."""
    link = await asyncpg.connect(given.dsn)
    options = bson.CodecOptions[dict[str, Any]](tz_aware=True)
    try:
        with metered(given.server) as found:
            documents = bson.decode_all((Path(given.source) / f"{NAME}.bson").read_bytes(), options)
            rows = [_plainly(document) for document in documents]
            for begin in range(0, len(rows), MANY):
                await link.executemany(NAIVE, rows[begin : begin + MANY])
        kept = await link.fetchval(f"select count(*) from {MESSAGES.table}")  # noqa: S608
    finally:
        await link.close()
    assert kept == len(documents), kept
    return {**found, "documents": len(documents)}


# ---- what the arms stand on


async def rooms(given: Given) -> Found:
    """The rooms of the messages, copied first as an import does it."""
    name = "rocketchat_room"
    async with open_archive(given.dsn, pool_size=POOL) as archive:
        with closing(open_source(given.source)) as source, metered(given.server) as found:
            outcome = await _import(source, archive).run()
    return {**found, "documents": outcome.counts[name].written}


async def serve(given: Given) -> Found:
    """Put the folder's messages into the live server at `dsn`, byte for byte."""
    with closing(open_source(given.source)) as source, MongoClient[dict[str, Any]](given.dsn) as client:
        into, documents = client.get_default_database()[NAME], 0
        with metered(None) as found:
            for block in _blocks(source):
                into.insert_many([RawBSONDocument(raw) for raw in block.raws])
                documents += len(block.raws)
    return {**found, "documents": documents}


ARMS: dict[str, Callable[[Given], Awaitable[Found]]] = {
    arm.__name__: arm for arm in (ours, verify, decoding, prebuild, copying, naive, rooms, serve)
}


async def _run(name: str, given: Given) -> Found:
    return await ARMS[name](given)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(sys.argv[1], Given(**json.loads(sys.argv[2]))))))
