"""Documents of GridFS: each file's length against what is stored, each chunk told as the import tells it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from migration.documents import Block, Reject, decode, key_of
from migration.verify.desk import Desk, apart
from migration.verify.report import Difference, Tally
from router.storage.archive.refusals import key_of as refusal_key
from router.storage.archive.shape import FILES

UPLOADS: Final = "rocketchat_uploads"
_STORED: Final = "stored"
_NO_UPLOAD: Final = "no_upload"
_ORPHAN: Final = "orphan_chunk"
_TOO_LARGE: Final = "too_large"
_KNOWN: Final = 10_000
_WAITS: Final = "waiting"
_WAITING: Final = 10_000


class Checked(Protocol):
    """`wrong`: (source_id, code) of stored files whose bytes are gone or are others."""

    @property
    def wrong(self) -> Sequence[tuple[str, str]]: ...


class Files(Protocol):
    """`migration.uploads.Uploads`."""

    async def check(self) -> Checked:
        """Read every stored file back."""
        ...

    async def again(self, upload_id: str, code: str) -> None:
        """Its bytes are wrong: they go, and are waited for."""
        ...

    async def take(self, collection: str, raws: Sequence[bytes], positions: Sequence[int]) -> object: ...
    async def finish(self) -> object: ...
    async def one(self, source: Any, upload_id: str) -> object: ...


class GridCheck:
    """Of the bucket's `.files`, and then of its `.chunks`. The bytes themselves are compared when they are stored
    (length and MD5 of GridFS) and read back by their SHA-256."""

    def __init__(self, desk: Desk, files: Files | None = None) -> None:
        self._desk, self._bytes = desk, files
        self._again: dict[str, str] = {}
        self._repair = False
        self._files: set[str] = set()
        self._why: dict[str, str | None] = {}

    async def stored(self, *, repair: bool) -> None:
        """Read all stored bytes back. `repair`: those that are wrong are asked for anew, from GridFS while its documents
        are checked."""
        if self._bytes is None:
            return
        self._again = dict((await self._bytes.check()).wrong)
        if not self._desk.source.live:
            for row in await self._desk.archive.files_waiting(None, _WAITING):
                self._again[row["source_id"]] = _WAITS
        self._repair = repair
        if not repair:
            return
        for source_id, code in self._again.items():
            await self._bytes.again(source_id, code)

    async def settled(self, *, repair: bool) -> list[Difference]:
        """What is wrong with stored bytes, mended where it could be."""
        found = [
            Difference(UPLOADS, "bytes", source_id, detail=code) for source_id, code in self._again.items()
        ]
        if not found or not repair or self._bytes is None:
            return found
        if self._desk.source.live:
            for source_id in self._again:
                await self._bytes.one(self._desk.source, source_id)
        else:
            await self._bytes.finish()
        wrong = {source_id for source_id, _ in (await self._bytes.check()).wrong}
        return [
            each.mended() if await self._whole(each.source_id or "") and each.source_id not in wrong else each
            for each in found
        ]

    async def _whole(self, source_id: str) -> bool:
        row = await self._desk.archive.row(FILES, UPLOADS, source_id)
        return row is not None and row["state"] == _STORED

    async def check(self, collection: str, specs: Sequence[Mapping[str, Any]]) -> Tally:
        """Every document of one of the two."""
        tally = Tally()
        refused = await self._desk.refused(collection)
        for spec in specs:
            step = partial(next, self._desk.source.read(collection, spec), None)
            while (block := await apart(step)) is not None:
                await self._take(tally, collection, block, refused)
        return tally

    async def _take(self, tally: Tally, collection: str, block: Block, refused: set[str]) -> None:
        tally.source += len(block.raws) + len(block.faults)
        faults = [fault.position for fault in block.faults]
        for position in faults:
            self._refused(tally, collection, f"at:{position}", refused)
        for raw, position, document in zip(block.raws, block.positions, decode(block.raws), strict=True):
            key = _key(document)
            named = f"at:{position}" if key is None else refusal_key(key)
            if key is None or isinstance(document, Reject) or named in refused:
                self._refused(tally, collection, named, refused)
            elif collection.endswith(".files"):
                await self._copy(collection, key, raw, position)
                await self._file(tally, collection, key, document)
            else:
                await self._copy(collection, str(document.get("files_id")), raw, position)
                await self._chunk(tally, document)

    async def _copy(self, collection: str, of: str, raw: bytes, position: int) -> None:
        """Of a file whose bytes are wrong; in `stored` it was told to be waiting, or else this does nothing."""
        if self._repair and self._bytes is not None and of in self._again:
            await self._bytes.take(collection, [raw], [position])

    def _refused(self, tally: Tally, collection: str, key: str, refused: set[str]) -> None:
        if key in refused:
            tally.rejected += 1
        else:
            tally.differ(Difference(collection, "missing", detail=key))

    async def _file(self, tally: Tally, collection: str, key: str, document: Mapping[str, Any]) -> None:
        self._files.add(key)
        row = await self._desk.archive.row(FILES, UPLOADS, key)
        if row is None:
            tally.skip(_NO_UPLOAD)
            return
        length = document.get("length")
        if row["state"] == _STORED and row["stored_size"] != length:
            tally.differ(Difference(collection, "bytes", key, row["room_id"], ("length",)))
            return
        tally.written += 1

    async def _chunk(self, tally: Tally, document: Mapping[str, Any]) -> None:
        of = str(document.get("files_id"))
        if of not in self._files:
            tally.skip(_ORPHAN)
            return
        if of not in self._why:
            if len(self._why) >= _KNOWN:
                self._why.clear()
            self._why[of] = await self._skipped(of)
        why = self._why[of]
        if why is None:
            tally.written += 1
        else:
            tally.skip(why)

    async def _skipped(self, source_id: str) -> str | None:
        """Why an upload's bytes are not taken."""
        row = await self._desk.archive.row(FILES, UPLOADS, source_id)
        if row is None:
            return _NO_UPLOAD
        return _TOO_LARGE if row.get("error") == _TOO_LARGE else None


def _key(document: Mapping[str, Any] | Reject) -> str | None:
    if isinstance(document, Reject):
        return None
    try:
        return key_of(document)
    except Reject:
        return None
