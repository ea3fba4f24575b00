"""Dumps as mongodump writes them, made by code."""

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bson
from fastcrc import crc64

from migration.documents import Fault
from migration.sources import Source

MAGIC = bytes.fromhex("6de29981")
MARK = b"\xff\xff\xff\xff"
Segment = tuple[str, str, Sequence[bytes]]


def documents(count: int, prefix: str = "m", size: int = 20) -> list[bytes]:
    return [bson.encode({"_id": f"{prefix}{n:05}", "msg": "x" * (n % size)}) for n in range(count)]


def write(path: Path, raws: Sequence[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(raws)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def large(size: int) -> bytes:
    """A document of so many bytes."""
    empty = len(bson.encode({"_id": "large", "data": b""}))
    return bson.encode({"_id": "large", "data": bytes(size - empty)})


def archive(
    segments: Sequence[Segment],
    *,
    metadata: Sequence[tuple[str, str, str]] | None = None,
    crcs: Mapping[str, int] | None = None,
    ends: bool = True,
) -> bytes:
    """Segments as given, each collection closed after its last one. `crcs`: wrong ones, by collection."""
    seen = list(dict.fromkeys((database, collection) for database, collection, _ in segments))
    kinds = [(*namespace, "collection") for namespace in seen] if metadata is None else metadata
    out = [MAGIC, bson.encode({"concurrent_collections": 4, "version": "0.1", "server_version": "6.0.1",
                               "tool_version": "100.9.0"})]  # fmt: skip
    for database, collection, kind in kinds:
        out.append(
            bson.encode({"db": database, "collection": collection, "metadata": "{}", "size": 0, "type": kind})
        )
    out.append(MARK)
    for at, (database, collection, raws) in enumerate(segments):
        if raws:
            out += [_header(database, collection, eof=False, crc=0), *raws, MARK]
        if ends and all(later[:2] != (database, collection) for later in segments[at + 1 :]):
            data = b"".join(raw for one in segments if one[:2] == (database, collection) for raw in one[2])
            crc = (crcs or {}).get(collection, crc64.xz(data))
            out += [_header(database, collection, eof=True, crc=crc), MARK]
    return b"".join(out)


def _header(database: str, collection: str, *, eof: bool, crc: int) -> bytes:
    signed = struct.unpack("<q", struct.pack("<Q", crc))[0]
    return bson.encode({"db": database, "collection": collection, "EOF": eof, "CRC": bson.Int64(signed)})


def read(source: Source, collection: str, count: int = 100_000) -> tuple[list[bytes], list[Fault]]:
    """Everything in a collection's parts."""
    raws: list[bytes] = []
    faults: list[Fault] = []
    for part in source.plan(collection, count):
        for block in source.read(collection, part):
            assert len(block.raws) == len(block.positions)
            raws += block.raws
            faults += block.faults
    return raws, faults


def resumes(source: Source, collection: str, part: Mapping[str, Any]) -> int:
    """Reads on after each block, checks that it is the rest; how many blocks there were."""
    blocks = list(source.read(collection, part))
    for done, block in enumerate(blocks, 1):
        rest = list(source.read(collection, part, block.resume))
        later = blocks[done:]
        assert [raw for one in rest for raw in one.raws] == [raw for one in later for raw in one.raws]
        assert [at for one in rest for at in one.positions] == [at for one in later for at in one.positions]
        assert [one.faults for one in rest if one.faults] == [one.faults for one in later if one.faults]
    return len(blocks)
