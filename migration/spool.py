"""GridFS chunks on their way to being files: in a dump they come in any order, and a file may take several runs.

Each file has three files here, named by a digest of its id: what its `.files` document says of it (`.json`), its bytes,
each chunk at its own place (`.part`, sparse), and one byte for each chunk that is there (`.seen`, sparse). A chunk written
twice is written once, so a load that was cut off goes on, in other processes too.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final

from migration.documents import MAX_DOCUMENT, Reject

PIECE: Final = 256 * 1024
"""Bytes read at once."""
_REMEMBERED: Final = 4096
_MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Meant:
    """What a file is to become: `length` bytes in chunks of `chunk` bytes; `md5` (hex) None: the source does not say.
    `skip`: why its bytes are not taken; `kept`: they are in the file store already."""

    id: str
    length: int
    chunk: int
    md5: str | None = None
    skip: str | None = None
    kept: bool = False

    @property
    def chunks(self) -> int:
        """How many it has; a file without bytes has none."""
        return -(-self.length // self.chunk)


def meant(source_id: str, document: Mapping[str, Any]) -> Meant:
    """What a `.files` document says. Raises Reject."""
    length, chunk = (_count(document, name) for name in ("length", "chunkSize"))
    if not 0 < chunk <= MAX_DOCUMENT:
        raise Reject("wrong_type", f"chunkSize is {chunk}")
    md5 = document.get("md5")
    return Meant(source_id, length, chunk, md5.lower() if isinstance(md5, str) and md5 else None)


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk: `number` from 0."""

    of: str
    number: int
    data: bytes


def piece(document: Mapping[str, Any]) -> Piece:
    """What a `.chunks` document holds. Raises Reject."""
    of, data = document.get("files_id"), document.get("data")
    if of is None:
        raise Reject("orphan", "the chunk names no file")
    if not isinstance(data, bytes):
        raise Reject("wrong_type", "data is not binary")
    return Piece(str(of), _count(document, "n"), bytes(data))


def _count(document: Mapping[str, Any], name: str) -> int:
    found = document.get(name)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < _MOST:
        raise Reject("wrong_type", f"{name} is not a count")
    return int(found)


class Spool:
    """A folder of them. Synchronous; bounded memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: OrderedDict[str, Meant] = OrderedDict()

    def expect(self, file: Meant) -> None:
        """Learn of a file, before its chunks; what is here of another version of it goes."""
        before = self.file(file.id)
        if before == file:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if before is not None and (before.length, before.chunk) != (file.length, file.chunk):
            self.drop(file)
        path = self._path(file.id, "json")
        fresh = path.with_suffix(f".{os.getpid()}.new")
        with fresh.open("w", encoding="utf-8", errors="surrogatepass") as out:
            json.dump(asdict(file), out)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(path)
        self._remember(file)

    def file(self, source_id: str) -> Meant | None:
        """What is known of a file; None: no `.files` document was seen."""
        if (known := self._known.get(source_id)) is not None:
            return known
        try:
            found = _read(self._path(source_id, "json"))
        except FileNotFoundError:
            return None
        self._remember(found)
        return found

    def put(self, pieces: Iterable[tuple[Meant, Piece]]) -> None:
        """Chunks to their places; on the disk when this returns. Each fits its file (see `fits`)."""
        by_file: dict[str, list[tuple[Meant, Piece]]] = {}
        for file, one in pieces:
            by_file.setdefault(file.id, []).append((file, one))
        for (
            some
        ) in by_file.values():  # one file open at a time: a block may hold chunks of a thousand small ones
            self._put(some[0][0], [one for _, one in some])

    def _put(self, file: Meant, pieces: Sequence[Piece]) -> None:
        # The mark after the bytes: what is marked is there.
        with self._open(file, "part") as part:
            for one in pieces:
                part.seek(one.number * file.chunk)
                part.write(one.data)
            part.flush()
            os.fsync(part.fileno())
        with self._open(file, "seen") as seen:
            for one in pieces:
                seen.seek(one.number)
                seen.write(b"\x01")
            seen.flush()
            os.fsync(seen.fileno())

    def absent(self, file: Meant) -> int:
        """How many of its chunks are not here."""
        seen = 0
        with suppress(FileNotFoundError), self._path(file.id, "seen").open("rb") as marks:
            while some := marks.read(PIECE):
                seen += some.count(1)
        return file.chunks - seen

    def read(self, file: Meant) -> Iterator[bytes]:
        """Its bytes, in pieces."""
        with self._path(file.id, "part").open("rb") as part:
            while some := part.read(PIECE):
                yield some

    def files(self) -> Iterator[Meant]:
        """All that are expected here, in no order."""
        for path in sorted(self._folder.glob("*.json")):
            with suppress(FileNotFoundError):
                yield _read(path)

    def drop(self, file: Meant) -> None:
        """Forget one and its bytes."""
        self._known.pop(file.id, None)
        for kind in ("part", "seen", "json"):
            self._path(file.id, kind).unlink(missing_ok=True)

    def close(self) -> None:
        """Take away the folder, when nothing is left in it."""
        self._known.clear()
        with suppress(OSError):
            self._folder.rmdir()

    def _remember(self, file: Meant) -> None:
        self._known[file.id] = file
        self._known.move_to_end(file.id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _open(self, file: Meant, kind: str) -> BufferedWriter:
        return os.fdopen(os.open(self._path(file.id, kind), os.O_WRONLY | os.O_CREAT, 0o600), "wb")

    def _path(self, source_id: str, kind: str) -> Path:
        name = hashlib.sha256(source_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return self._folder / f"{name}.{kind}"


def fits(file: Meant, one: Piece) -> bool:
    """Whether a chunk is one of its file's: nothing is ever written beyond the file's length."""
    begin = one.number * file.chunk
    return begin < file.length and len(one.data) == min(file.chunk, file.length - begin)


def _read(path: Path) -> Meant:
    with path.open(encoding="utf-8", errors="surrogatepass") as given:
        return Meant(**json.load(given))
