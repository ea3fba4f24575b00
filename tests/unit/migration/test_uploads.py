"""Uploads' bytes on their way into the file store."""

import hashlib
import os
import random
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from migration.uploads import Checked, Found, Place, Taken, Uploads
from router.domain.errors import Rejected, Unavailable
from router.domain.media import Stored
from router.storage.archive.shape import Shape

FILES, CHUNKS = "rocketchat_uploads.files", "rocketchat_uploads.chunks"
DUMP = Path(os.environ.get("FIGUEIRA_SHARED", "../shared")) / "data" / "rocketchat-dump"
LIMIT = 1_000_000


class Store:
    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.largest = 0

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        whole = b""
        async for chunk in chunks:
            self.largest = max(self.largest, len(chunk))
            whole += chunk
            if len(whole) > limit:
                raise Rejected("too_large", "too large", 413)
        if not whole:
            raise Rejected("empty_file", "no bytes")
        digest = hashlib.sha256(whole).hexdigest()
        self.held[digest] = whole
        return Stored(digest, len(whole), "application/octet-stream")

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        if sha256 not in self.held:
            raise LookupError(sha256)
        yield self.held[sha256]

    async def delete(self, sha256: str) -> None:
        self.held.pop(sha256, None)


class Rows:
    """archive_files, as far as uploads see it."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, Any]] = {}

    def add(self, source_id: str, **more: Any) -> None:
        row = {
            "source_id": source_id, "name": "foto.png", "store": "GridFS:Uploads", "path": None, "size": None,
            "complete": True, "extra": None, "state": "waiting", "sha256": None, "stored_size": None, "error": None,
        }  # fmt: skip
        self.table[source_id] = row | more

    def told(self, source_id: str) -> tuple[str, str | None]:
        return self.table[source_id]["state"], self.table[source_id]["error"]

    async def files_again(self) -> None:
        for row in self.table.values():
            if row["state"] == "missing" and not row["store"].startswith("GridFS"):
                row["state"] = "waiting"

    async def files_waiting(self, after: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        names = sorted(name for name, row in self.table.items() if row["state"] == "waiting")
        return [dict(self.table[name]) for name in names if name > (after or "")][:limit]

    async def file_done(
        self, source_id: str, state: str, sha256: str | None = None, size: int | None = None, error: str | None = None
    ) -> None:  # fmt: skip
        self.table[source_id] |= {"state": state, "sha256": sha256, "stored_size": size, "error": error}

    async def row(self, shape: Shape, collection: str, source_id: str) -> Mapping[str, Any] | None:
        assert (shape.table, collection) == ("archive_files", "rocketchat_uploads")
        return self.table.get(source_id)

    async def rows_of(
        self, shape: Shape, collection: str, buckets: Sequence[int]
    ) -> AsyncIterator[tuple[str, str | None, int]]:
        for name in self.table:
            if zlib.crc32(name.encode()) % 4096 in buckets:
                yield name, None, 0


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def uploads(rows: Rows, store: Store, tmp_path: Path) -> Uploads:
    return Uploads(rows, store, tmp_path / "spool", limit=LIMIT)


def file_of(source_id: str, data: bytes, chunk: int = 100, **more: Any) -> bytes:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return bson.encode({"_id": source_id, "length": Int64(len(data)), "chunkSize": chunk, "md5": md5, **more})


def chunks_of(source_id: str, data: bytes, chunk: int = 100) -> list[bytes]:
    return [
        bson.encode({"_id": ObjectId(), "files_id": source_id, "n": n, "data": data[at : at + chunk]})
        for n, at in enumerate(range(0, len(data), chunk))
    ]


async def take(uploads: Uploads, collection: str, raws: Sequence[bytes]) -> Taken:
    return await uploads.take(collection, raws, list(range(len(raws))))


async def test_chunks_in_any_order_become_their_files(uploads: Uploads, rows: Rows, store: Store) -> None:
    seeded = random.Random(7)
    files = {f"upload{size}": seeded.randbytes(size) for size in (1, 99, 100, 101, 12_345)}
    for source_id in files:
        rows.add(source_id)
    assert await take(uploads, FILES, [file_of(*item) for item in files.items()]) == Taken(5)
    raws = [raw for item in files.items() for raw in chunks_of(*item)]
    seeded.shuffle(raws)
    for at in range(0, len(raws), 10):
        some = raws[at : at + 10]
        assert await take(uploads, CHUNKS, some) == Taken(len(some))
    assert await uploads.finish() == Found({"stored": 5}, {})
    for source_id, data in files.items():
        row = rows.table[source_id]
        assert (row["state"], row["stored_size"]) == ("stored", len(data))
        assert store.held[row["sha256"]] == data


async def test_a_load_cut_off_goes_on_in_another_process(
    uploads: Uploads, rows: Rows, store: Store, tmp_path: Path
) -> None:
    data = os.urandom(1000)
    rows.add("one")
    chunks = chunks_of("one", data)
    await take(uploads, FILES, [file_of("one", data)])
    await take(uploads, CHUNKS, chunks[4:9])
    again = Uploads(rows, store, tmp_path / "spool", limit=LIMIT)
    assert await take(again, CHUNKS, chunks[:6]) == Taken(6)  # two of them a second time
    assert await take(again, CHUNKS, chunks[9:]) == Taken(1)
    assert await again.finish() == Found({"stored": 1}, {})
    assert list(store.held.values()) == [data]
    assert not (tmp_path / "spool").exists()


async def test_a_second_run_finds_the_bytes_kept_and_writes_nothing(
    uploads: Uploads, rows: Rows, store: Store, tmp_path: Path
) -> None:
    data = os.urandom(250)
    rows.add("one")
    for _ in range(2):
        assert await take(uploads, FILES, [file_of("one", data)]) == Taken(1)
        assert await take(uploads, CHUNKS, chunks_of("one", data)) == Taken(3)
        assert bool(list((tmp_path / "spool").glob("*.part"))) is (rows.told("one")[0] == "waiting")
        await uploads.finish()
    assert rows.told("one") == ("stored", None)


async def test_what_was_missing_is_stored_when_its_chunks_come(
    uploads: Uploads, rows: Rows, store: Store
) -> None:
    data = os.urandom(250)
    rows.add("one")
    await take(uploads, FILES, [file_of("one", data)])
    await take(uploads, CHUNKS, chunks_of("one", data)[:2])
    assert await uploads.finish() == Found({"missing": 1}, {"chunks_missing": 1})
    assert rows.told("one") == ("missing", "chunks_missing")
    await take(uploads, FILES, [file_of("one", data)])
    await take(uploads, CHUNKS, chunks_of("one", data))
    assert await uploads.finish() == Found({"stored": 1}, {})


async def test_chunks_without_a_file_and_files_without_an_upload_are_skipped(
    uploads: Uploads, rows: Rows, store: Store, tmp_path: Path
) -> None:
    data = b"erased or left out"
    assert await take(uploads, CHUNKS, chunks_of("nobody", data)) == Taken(0, {"orphan_chunk": 1})
    assert await take(uploads, FILES, [file_of("gone", data)]) == Taken(0, {"no_upload": 1})
    assert await take(uploads, CHUNKS, chunks_of("gone", data)) == Taken(0, {"no_upload": 1})
    assert not list((tmp_path / "spool").glob("*.part"))
    await uploads.finish()
    assert not store.held


@pytest.mark.parametrize(
    "wrong",
    [
        {"files_id": "one", "n": 0, "data": "text"},
        {"files_id": "one", "n": -1, "data": b"x" * 100},
        {"files_id": "one", "n": 2**52, "data": b"x" * 100},  # a hole of petabytes
        {"files_id": "one", "n": 0, "data": b"x" * 101},  # would run into the next
        {"files_id": "one", "n": 2, "data": b"x" * 100},  # past the end
        {"files_id": "one", "n": 0.5, "data": b"x" * 100},
        {"n": 0, "data": b"x" * 100},
    ],
)
async def test_a_broken_chunk_is_rejected_and_its_neighbours_go_in(
    uploads: Uploads, rows: Rows, wrong: Mapping[str, Any]
) -> None:
    data = os.urandom(250)
    rows.add("one")
    await take(uploads, FILES, [file_of("one", data)])
    bad = bson.encode({"_id": ObjectId(), **wrong})
    taken = await take(uploads, CHUNKS, [*chunks_of("one", data), bad])
    assert taken.written == 3
    (refused,) = taken.refused
    assert (refused.collection, refused.position, refused.raw) == (CHUNKS, "3", bad)
    assert refused.code in {"wrong_type", "orphan"}
    assert refused.key.startswith("id:")
    assert await uploads.finish() == Found({"stored": 1}, {})


async def test_bytes_that_are_no_document_are_rejected(uploads: Uploads) -> None:
    whole = file_of("one", b"x")
    taken = await take(uploads, FILES, [whole[:-1] + b"\x01", file_of("two", b"x", chunk=0)])
    assert taken.written == 0
    assert [one.code for one in taken.refused] == ["invalid_bson", "wrong_type"]
    assert taken.refused[0].key == "at:0"


@pytest.mark.parametrize(
    ("more", "why"),
    [({"md5": "0" * 32}, "md5_differs"), ({}, None), ({"md5": None}, None)],
)
async def test_bytes_that_are_others_are_not_kept(
    uploads: Uploads, rows: Rows, store: Store, more: Mapping[str, Any], why: str | None
) -> None:
    data = os.urandom(250)
    rows.add("one")
    await take(uploads, FILES, [file_of("one", data, **more)])
    await take(uploads, CHUNKS, chunks_of("one", data))
    await uploads.finish()
    assert rows.told("one") == (("missing", why) if why else ("stored", None))
    assert bool(store.held) is (why is None)


async def test_skipped_files_say_why(uploads: Uploads, rows: Rows, store: Store) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).timestamp() * 1000
    rows.add("cut", complete=False)
    rows.add("over", extra={"expiresAt": {"$date": past}})
    rows.add("later", extra={"expiresAt": {"$date": past + 2 * 86_400_000}})
    rows.add("empty")
    rows.add("huge")
    rows.add("lost")
    big = file_of("huge", b"", length=Int64(LIMIT + 1))
    await take(uploads, FILES, [file_of("empty", b""), big, file_of("later", b"ok")])
    await take(uploads, CHUNKS, chunks_of("later", b"ok"))
    taken = await take(uploads, CHUNKS, chunks_of("huge", b"x" * 100))
    assert taken == Taken(0, {"too_large": 1})
    await uploads.finish()
    assert {name: rows.told(name) for name in rows.table} == {
        "cut": ("skipped", "incomplete"),
        "over": ("skipped", "expired"),
        "later": ("stored", None),
        "empty": ("skipped", "empty_file"),
        "huge": ("skipped", "too_large"),
        "lost": ("missing", "no_gridfs_file"),
    }


class Shelf:
    """A Place."""

    def __init__(self, **held: bytes) -> None:
        self.held = held
        self.asked: list[str] = []

    async def open(self, path: str) -> AsyncIterator[bytes]:
        self.asked.append(path)
        if path == "down":
            raise Unavailable("away")
        if path not in self.held:
            raise LookupError(path)
        for at in range(0, len(self.held[path]), 5):
            yield self.held[path][at : at + 5]


@pytest.mark.parametrize(
    ("kept_as", "store_name", "path"),
    [
        ("id1.png", "FileSystem:Uploads", "/ufs/FileSystem:Uploads/id1/foto.png"),
        ("id1", "FileSystem", None),
        ("foto_x", "FileSystem:Uploads", "/somewhere/foto_x"),
        ("uid/rid/id1", "AmazonS3:Uploads", "uid/rid/id1"),
        ("uid/rid/id1", "GoogleCloudStorage:Uploads", "/uid/rid/id1"),
        ("id1", "Webdav:Uploads", "gone/elsewhere"),
    ],
)
async def test_a_place_is_asked_by_the_names_a_store_uses(
    rows: Rows, store: Store, tmp_path: Path, kept_as: str, store_name: str, path: str | None
) -> None:
    data = b"bytes of a file outside"
    rows.add("id1", store=store_name, path=path, size=len(data))
    place: Place = Shelf(**{kept_as: data})
    assert await Uploads(rows, store, tmp_path, limit=LIMIT, place=place).finish() == Found({"stored": 1}, {})
    assert list(store.held.values()) == [data]


async def test_a_place_without_the_file_or_with_another_one(rows: Rows, store: Store, tmp_path: Path) -> None:
    for name, size in (("short", 4), ("away", None), ("empty", None)):
        rows.add(name, store="FileSystem:Uploads", size=size, name=None)
    found = await Uploads(rows, store, tmp_path, limit=LIMIT, place=Shelf(short=b"abc", empty=b"")).finish()
    assert found == Found(
        {"missing": 2, "skipped": 1}, {"length_differs": 1, "not_found": 1, "empty_file": 1}
    )
    assert rows.told("short") == ("missing", "length_differs")
    assert not store.held


async def test_without_a_place_and_with_one_that_is_down(rows: Rows, store: Store, tmp_path: Path) -> None:
    rows.add("down", store="AmazonS3:Uploads", path="down")
    with pytest.raises(Unavailable):  # it may come back: nothing is said of the file
        await Uploads(rows, store, tmp_path, limit=LIMIT, place=Shelf()).finish()
    assert rows.told("down") == ("waiting", None)
    await Uploads(rows, store, tmp_path, limit=LIMIT).finish()
    assert rows.told("down") == ("missing", "no_place")


async def test_what_was_missing_is_looked_for_again(rows: Rows, store: Store, tmp_path: Path) -> None:
    rows.add("late", store="AmazonS3:Uploads", path="late")
    rows.add("grid")
    for place in (None, Shelf(late=b"abc")):
        await Uploads(rows, store, tmp_path, limit=LIMIT, place=place).finish()
    assert (rows.told("late"), rows.told("grid")) == (("stored", None), ("missing", "no_gridfs_file"))


class Live:
    def gridfs(self, bucket: str, file_id: str) -> Iterator[bytes]:
        assert bucket == "rocketchat_uploads"
        if file_id != "there":
            raise LookupError("no_gridfs_file" if file_id == "away" else "chunks_missing")
        yield b"ab"
        yield b"c"


async def test_one_upload_of_a_live_source(uploads: Uploads, rows: Rows, store: Store) -> None:
    rows.add("there", size=3)
    rows.add("away", size=3)
    rows.add("torn", size=3)
    assert await uploads.one(Live(), "there") == ("stored", None)
    assert await uploads.one(Live(), "there") is None
    assert await uploads.one(Live(), "away") == ("missing", "no_gridfs_file")
    assert await uploads.one(Live(), "torn") == ("missing", "chunks_missing")
    assert await uploads.one(Live(), "never") is None
    assert list(store.held.values()) == [b"abc"]


async def test_check_reads_every_stored_file_back(uploads: Uploads, rows: Rows, store: Store) -> None:
    for name in ("good", "gone", "other"):
        rows.add(name)
        data = name.encode() * 50
        await take(uploads, FILES, [file_of(name, data)])
        await take(uploads, CHUNKS, chunks_of(name, data))
    rows.add("lost")
    await uploads.finish()
    assert await uploads.check() == Checked(3, 650, [])
    del store.held[rows.table["gone"]["sha256"]]
    store.held[rows.table["other"]["sha256"]] = b"x" * 250
    checked = await uploads.check()
    assert sorted(checked.wrong) == [("gone", "bytes_gone"), ("other", "bytes_differ")]


async def test_a_real_dump(uploads: Uploads, rows: Rows, store: Store) -> None:
    if not DUMP.is_dir():
        pytest.skip(f"NOT TESTED: no sample dump at {DUMP}")
    for document in bson.decode_all((DUMP / "rocketchat_uploads.bson").read_bytes()):
        rows.add(document["_id"], store=document["store"], size=document["size"])
    md5s = {}
    for collection in (FILES, CHUNKS):
        raws = [bytes(raw) for raw in _raws((DUMP / f"{collection}.bson").read_bytes())]
        await take(uploads, collection, raws)
        if collection == FILES:
            md5s = {one["_id"]: one["md5"] for one in map(bson.decode, raws)}
    assert await uploads.finish() == Found({"stored": 4}, {})
    kept = {name: store.held[row["sha256"]] for name, row in rows.table.items()}
    assert {name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name, data in kept.items()} == md5s
    assert store.largest <= 1024 * 1024


def _raws(whole: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(whole):
        length = int.from_bytes(whole[at : at + 4], "little")
        yield whole[at : at + length]
        at += length
