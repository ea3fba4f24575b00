"""A folder that mongodump made: `collection.bson` or `collection.bson.gz`, there or one level down in a folder a database."""

import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote

from migration.documents import Block
from migration.sources import PART_DOCUMENTS, About, Found, SourceError
from migration.sources.databases import Namespace, home, named
from migration.sources.frames import OVER, Damaged, Read, blocks, borders
from migration.sources.inflate import Inflated
from migration.sources.keys import chosen

SUFFIXES: Final = (".bson", ".bson.gz")
_LONG: Final = "%24"
"""mongodump shortens a collection's name that makes no file name: its begin, this, a hash. The name is in the metadata."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    gzip: bool


class FolderSource:
    """Parts of a plain file are ranges of bytes; a compressed one is one part, inflated anew from its begin."""

    live = False

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        files = _files(folder)
        if not files:
            inner = folder / "dump"
            place = str(inner) if inner.is_dir() else "the folder that mongodump made"
            raise SourceError(f"{folder} holds no .bson file, nor does a folder in it: give {place}")
        self._home = home(files)
        self._files = {name: files[namespace] for name, namespace in named(files).items()}

    def about(self) -> About:
        """Versions as newer tools write them down beside the collections."""
        said = self._prelude()
        server, tool = said.get("ServerVersion"), said.get("ToolVersion")
        return About(
            "folder",
            server if isinstance(server, str) else None,
            tool if isinstance(tool, str) else None,
            self._home,
        )

    def collections(self) -> Sequence[Found]:
        """Counts are not known without reading."""
        return [
            Found(name, None, None if file.gzip else _size(file.path)) for name, file in self._files.items()
        ]

    def plan(self, collection: str, documents: int = PART_DOCUMENTS) -> Sequence[Mapping[str, Any]]:
        """{"from", "to"}: offsets; "to" null is the end, wherever that is."""
        file = self._file(collection)
        if file.gzip:
            return [{"from": 0, "to": None}]
        size = _size(file.path)
        begins = [0, *borders(self.read(collection, {"from": 0, "to": size}), documents)]
        return [
            {"from": begin, "to": end} for begin, end in zip(begins, [*begins[1:], size], strict=True)
        ]  # fmt: skip

    def read(self, collection: str, part: Mapping[str, Any], after: str | None = None) -> Iterator[Block]:
        """`resume`: the offset (uncompressed) after the block."""
        if after == OVER:
            return
        file = self._file(collection)
        begin = part["from"] if after is None else int(after)
        with open_bytes(file.path) as opened:
            stream = _inflated(opened, begin) if file.gzip else Extent(opened, begin, part["to"])
            yield from blocks(stream, begin, lambda at: f"byte {at} of {file.path.name}")

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        """Reads the whole file."""
        file = self._file(collection)
        whole = {"from": 0, "to": None if file.gzip else _size(file.path)}
        return chosen(self.read(collection, whole), ids)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _file(self, collection: str) -> _File:
        try:
            return self._files[collection]
        except KeyError:
            raise SourceError(f"{self.name} holds no collection {collection!r}") from None

    def _prelude(self) -> Mapping[str, Any]:
        for folder in (self._folder, *(file.path.parent for file in self._files.values())):
            for path in (folder / "prelude.json", folder / "prelude.json.gz"):
                if path.is_file():
                    return _json(path)
        return {}


class Extent:
    """The bytes from `begin` to `end` of an open file, as a `Read`. A file shorter than that is damaged."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        file.seek(begin)
        self._file = file
        self._left = end - begin

    def __call__(self, size: int) -> bytes:
        piece = read_bytes(self._file, max(0, min(size, self._left)))
        self._left -= len(piece)
        if not piece and self._left > 0:
            raise Damaged(
                "truncated", f"the file lacks {self._left} bytes that it had when the import was planned"
            )
        return piece


def open_bytes(path: Path) -> BinaryIO:
    """Unbuffered: what is read is read in large pieces."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def read_bytes(file: BinaryIO, size: int) -> bytes:
    """`file.read`, in the sources' words."""
    try:
        return file.read(size)
    except OSError as error:
        raise SourceError(f"{file.name} cannot be read: {error.strerror}") from error


def _inflated(file: BinaryIO, begin: int) -> Read:
    stream = Inflated(lambda size: read_bytes(file, size))
    stream.skip(begin)
    return stream


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def _files(folder: Path) -> dict[Namespace, _File]:
    """What the folder holds by database and collection. The oplog stands beside the databases."""
    found: dict[Namespace, _File] = {}
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        for place in (folder, *below):
            for path in sorted(path for path in place.iterdir() if path.is_file()):
                suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
                if suffix is None:
                    continue
                namespace = (place.name, _collection(path, suffix))
                if namespace in found:
                    raise SourceError(
                        f"{path} and {found[namespace].path} are the same collection: take one away"
                    )
                found[namespace] = _File(path, suffix.endswith(".gz"))
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error
    oplog = (folder.name, "oplog")
    if len({database for database, _ in found}) > 1 and oplog in found:
        found["", "oplog"] = found.pop(oplog)
    return found


def _collection(path: Path, suffix: str) -> str:
    """Special characters of a collection's name are escaped in the file's name."""
    stem = path.name.removesuffix(suffix)
    if _LONG in stem:
        for metadata in (path.with_name(f"{stem}.metadata.json"), path.with_name(f"{stem}.metadata.json.gz")):
            name = _json(metadata).get("collectionName") if metadata.is_file() else None
            if isinstance(name, str) and name:
                return name
    return unquote(stem)


def _json(path: Path) -> Mapping[str, Any]:
    """The file's object; empty when it is none: nothing of the import hangs on it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            found = json.loads(opened.read(16 * 1024 * 1024))
    except (OSError, EOFError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
