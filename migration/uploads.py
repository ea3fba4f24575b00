"""The bytes of Rocket.Chat's uploads, into the product's file store.

They are where the upload's document says: in GridFS (the source's own collections, chunk by chunk), in a folder of
Rocket.Chat's server, or in a bucket. Whatever becomes of an upload stands on its row: stored under its SHA-256, missing
and why, or skipped and why. Bytes that are not what the source says of them are kept out, and said to be so.

An upload without a row (its room is left out, or its person erased) brings no bytes: documents of uploads land first,
then `.files`, then `.chunks`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from migration.documents import KEPT_BYTES, Reject, decode, key_of
from migration.spool import Meant, Piece, Spool, fits, meant, piece
from router.domain.errors import Rejected
from router.domain.ports import FileStore
from router.storage.archive.model import Refused
from router.storage.archive.shape import FILES, Shape

UPLOADS: Final = "rocketchat_uploads"
STORED, MISSING, SKIPPED, WAITING = "stored", "missing", "skipped", "waiting"
_GRIDFS: Final = "GridFS"
_PAGE: Final = 500
_BUCKETS: Final = 4096  # that a digest of the id falls into
_AT_ONCE: Final = 64
_ERASED_OR_LEFT: Final = "no_upload"


class Place(Protocol):
    """Where Rocket.Chat put what is not in GridFS: a folder, or a bucket."""

    def open(self, path: str) -> AsyncIterator[bytes]:
        """The bytes under a name, in pieces. Raises LookupError: there is none of that name, or it leads out of the
        place; Unavailable."""
        ...


class Grid(Protocol):
    """A live source, as far as it hands out single files."""

    def gridfs(self, bucket: str, file_id: str) -> Iterator[bytes]:
        """The bytes of a file of GridFS, in pieces. Raises LookupError: `args[0]` says why it has none, or not all;
        SourceError."""
        ...


class Rows(Protocol):
    """What is needed of `router.storage.archive.Archive`."""

    async def files_again(self) -> None: ...
    async def files_waiting(self, after: str | None, limit: int) -> Sequence[Mapping[str, Any]]: ...
    async def file_done(
        self, source_id: str, state: str, sha256: str | None = None, size: int | None = None, error: str | None = None
    ) -> None: ...  # fmt: skip
    async def row(self, shape: Shape, collection: str, source_id: str) -> Mapping[str, Any] | None: ...
    def rows_of(
        self, shape: Shape, collection: str, buckets: Sequence[int]
    ) -> AsyncIterator[tuple[str, str | None, int]]: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of documents of `.files` or `.chunks`: written + skipped + refused = documents."""

    written: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    refused: Sequence[Refused] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What became of uploads: by state, and by the reason of those that are not stored."""

    states: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """`wrong`: (source_id, code) of stored files whose bytes are gone or are others."""

    files: int = 0
    size: int = 0
    wrong: Sequence[tuple[str, str]] = ()


class _BrokenError(Exception):
    """The bytes are not what the source says. `args[0]`: length_differs or md5_differs."""


class Uploads:
    """`spool`: a folder of this import's own, the same for all its processes and when it is resumed. `limit` in bytes a
    file. `place` None: only GridFS can be read."""

    def __init__(
        self, rows: Rows, store: FileStore, spool: Path, *, limit: int, place: Place | None = None
    ) -> None:
        self._rows, self._store, self._place, self._limit = rows, store, place, limit
        self._spool = Spool(spool)

    # ---- documents of GridFS

    async def take(self, collection: str, raws: Sequence[bytes], positions: Sequence[int]) -> Taken:
        """Take documents of `<bucket>.files` or `<bucket>.chunks` in; on the disk when this returns, so that a
        checkpoint may follow. Raises Unavailable, StoreError, OSError."""
        tally = _Tally(collection)
        chunks: list[tuple[Meant, Piece]] = []
        for raw, position, document in zip(raws, positions, decode(raws), strict=True):
            key = None
            try:
                if isinstance(document, Reject):
                    raise document
                key = key_of(document)
                if collection.endswith(".files"):
                    tally.count(await self._expect(meant(key, document)))
                else:
                    tally.count(await self._chunk(piece(document), chunks))
            except Reject as reject:
                tally.refuse(key, position, reject, raw)
        await asyncio.to_thread(self._spool.put, chunks)
        return tally.taken()

    async def _expect(self, file: Meant) -> str | None:
        """Why it is skipped, or None."""
        row = await self._rows.row(FILES, UPLOADS, file.id)
        skip = _ERASED_OR_LEFT if row is None else "too_large" if file.length > self._limit else None
        kept = row is not None and row["state"] == STORED and row["stored_size"] == file.length
        expected = Meant(file.id, file.length, file.chunk, file.md5, skip, kept)
        await asyncio.to_thread(self._spool.expect, expected)
        return _ERASED_OR_LEFT if row is None else None

    async def _chunk(self, one: Piece, chunks: list[tuple[Meant, Piece]]) -> str | None:
        """Likewise; what is to be written goes on to `chunks`."""
        file = self._spool.file(one.of)
        if file is None:
            return "orphan_chunk"
        if file.skip is not None:
            return file.skip
        if not fits(file, one):
            raise Reject("wrong_type", f"chunk {one.number} does not fit its file of {file.length} bytes")
        if not file.kept:
            chunks.append((file, one))
        return None

    # ---- bytes

    async def finish(self) -> Found:
        """After all documents: every file that is waiting is stored, or is told to be missing or skipped. What was missing
        before and whose chunks have come now is stored too; where there is a place, what was missing there is looked for
        again. Cut off, it goes on where it was. Raises Unavailable,
        StoreError."""
        found: dict[str, int] = {}
        reasons: dict[str, int] = {}
        for file in self._spool.files():
            row = None if file.kept else await self._rows.row(FILES, UPLOADS, file.id)
            if row is not None and _of(row, _GRIDFS) and row["state"] in {WAITING, MISSING}:
                _note(found, reasons, await self._settle(row))
            self._spool.drop(file)
        if self._place is not None:
            await self._rows.files_again()
        after: str | None = None
        while page := await self._rows.files_waiting(after, _PAGE):
            for row in page:
                _note(found, reasons, await self._settle(row))
            after = page[-1]["source_id"]
        self._spool.close()
        return Found(found, reasons)

    async def one(self, source: Grid, upload_id: str) -> tuple[str, str | None] | None:
        """One upload of a live source, as its row says now: its state and the reason; None: it has no row, or is stored
        already. Raises SourceError, Unavailable, StoreError."""
        row = await self._rows.row(FILES, UPLOADS, upload_id)
        if row is None or row["state"] == STORED:
            return None
        return await self._settle(row, source)

    async def _settle(self, row: Mapping[str, Any], source: Grid | None = None) -> tuple[str, str | None]:
        upload_id = row["source_id"]
        if (why := _left(row)) is not None:
            return await self._done(upload_id, SKIPPED, why)
        try:
            stored = await self._store.save(self._bytes(row, source), limit=self._limit)
        except Rejected as refused:
            return await self._done(upload_id, SKIPPED, refused.code)
        except _BrokenError as broken:
            return await self._done(upload_id, MISSING, str(broken))
        except LookupError as absent:
            return await self._done(upload_id, MISSING, str(absent.args[0]) if absent.args else "not_found")
        await self._rows.file_done(upload_id, STORED, stored.sha256, stored.size)
        return STORED, None

    async def _done(self, upload_id: str, state: str, why: str) -> tuple[str, str]:
        await self._rows.file_done(upload_id, state, error=why)
        return state, why

    async def _bytes(self, row: Mapping[str, Any], source: Grid | None) -> AsyncIterator[bytes]:
        """The upload's bytes; _BrokenError instead of the end when they were not what they should be."""
        if not _of(row, _GRIDFS):
            stream, length, md5 = self._outside(row), row["size"], None
        elif source is not None:
            stream, length, md5 = _threaded(source.gridfs(UPLOADS, row["source_id"])), row["size"], None
        else:
            file = self._spooled(row["source_id"])
            stream, length, md5 = _threaded(self._spool.read(file)), file.length, file.md5
            if not length:
                return
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        async for some in stream:
            size += len(some)
            digest.update(some)
            yield some
        if length is not None and size != length:
            raise _BrokenError("length_differs")
        if md5 is not None and digest.hexdigest() != md5:
            raise _BrokenError("md5_differs")

    def _spooled(self, upload_id: str) -> Meant:
        file = self._spool.file(upload_id)
        if file is None:
            raise LookupError("no_gridfs_file")
        if file.skip is not None:
            raise Rejected(file.skip, "its bytes are not taken")
        if self._spool.absent(file):
            raise LookupError("chunks_missing")
        return file

    async def _outside(self, row: Mapping[str, Any]) -> AsyncIterator[bytes]:
        if self._place is None:
            raise LookupError("no_place")  # mended by --uploads
        for name in names(row):
            pieces = self._place.open(name)
            try:
                first = await anext(pieces)
            except StopAsyncIteration:
                return
            except LookupError:
                continue
            yield first
            async for some in pieces:
                yield some
            return
        raise LookupError("not_found")

    # ---- verify

    async def again(self, upload_id: str, code: str) -> None:
        """Its bytes are wrong: they go, for a store keeps what it has under their name, and are waited for anew. `code`:
        what is wrong with them. Raises Unavailable, StoreError."""
        row = await self._rows.row(FILES, UPLOADS, upload_id)
        if row is not None and row["sha256"] is not None:
            await self._store.delete(row["sha256"])
        await self._rows.file_done(upload_id, WAITING, error=code)

    async def check(self) -> Checked:
        """Read every stored file back: there, as long as noted, and what its name says. Raises Unavailable, StoreError."""
        files, size = 0, 0
        wrong: list[tuple[str, str]] = []
        async for source_id in self._ids():
            row = await self._rows.row(FILES, UPLOADS, source_id)
            if row is None or row["state"] != STORED:
                continue
            files += 1
            digest, length = hashlib.sha256(), 0
            try:
                async for some in self._store.open(row["sha256"]):
                    digest.update(some)
                    length += len(some)
            except LookupError:
                wrong.append((source_id, "bytes_gone"))
                continue
            size += length
            if digest.hexdigest() != row["sha256"] or length != row["stored_size"]:
                wrong.append((source_id, "bytes_differ"))
        return Checked(files, size, wrong)

    async def _ids(self) -> AsyncIterator[str]:
        """Some at a time: while their bytes are read, no cursor of the database is held."""
        for first in range(0, _BUCKETS, _AT_ONCE):
            some = self._rows.rows_of(FILES, UPLOADS, range(first, first + _AT_ONCE))
            for source_id in [source_id async for source_id, _, _ in some]:
                yield source_id


def names(row: Mapping[str, Any]) -> list[str]:
    """What an upload may be called where its store put it, the likeliest first."""
    upload_id, path = row["source_id"], row["path"] or ""
    extension = PurePosixPath(row["name"] or "").suffix
    own = [f"{upload_id}{extension}", upload_id] if extension else [upload_id]
    base = path.rstrip("/").rpartition("/")[2]
    found = [*own, base] if _of(row, "FileSystem") else [path.lstrip("/"), base, *own]
    return list(dict.fromkeys(name for name in found if name))


def _of(row: Mapping[str, Any], store: str) -> bool:
    """By prefix: "GridFS:Uploads", and "GridFS" of older versions."""
    named: str = row["store"] or _GRIDFS
    return named == store or named.startswith(f"{store}:")


def _left(row: Mapping[str, Any]) -> str | None:
    """Why an upload's bytes are not asked for."""
    if row["complete"] is False:
        return "incomplete"
    extra = row["extra"]
    ends = extra.get("expiresAt") if isinstance(extra, Mapping) else None
    if isinstance(ends, Mapping):
        ends = ends.get("$date")
    now = datetime.now(UTC).timestamp() * 1000
    return "expired" if isinstance(ends, int | float) and ends < now else None


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read beside the loop, a piece at a time."""
    while (some := await asyncio.to_thread(next, pieces, None)) is not None:
        yield some


def _note(found: dict[str, int], reasons: dict[str, int], outcome: tuple[str, str | None]) -> None:
    state, why = outcome
    found[state] = found.get(state, 0) + 1
    if why is not None:
        reasons[why] = reasons.get(why, 0) + 1


class _Tally:
    def __init__(self, collection: str) -> None:
        self._collection = collection
        self._written = 0
        self._skipped: dict[str, int] = {}
        self._refused: list[Refused] = []

    def count(self, skipped: str | None) -> None:
        if skipped is None:
            self._written += 1
        else:
            self._skipped[skipped] = self._skipped.get(skipped, 0) + 1

    def refuse(self, key: str | None, position: int, reject: Reject, raw: bytes) -> None:
        named = f"at:{position}" if key is None else f"id:{key}"
        self._refused.append(
            Refused(
                self._collection,
                named,
                key,
                str(position),
                reject.code,
                reject.reason,
                bytes(raw[:KEPT_BYTES]),
            )
        )

    def taken(self) -> Taken:
        return Taken(self._written, self._skipped, tuple(self._refused))
