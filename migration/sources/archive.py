"""What `mongodump --archive` makes, plain or with --gzip: collections interleaved in one file.

A prelude (versions, what is in it), then segments: a header that names a collection, documents of it, a mark. The last
header of a collection says EOF and the CRC-64 of all its documents.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from migration.documents import Block
from migration.sources import PART_DOCUMENTS, About, Found, SourceError
from migration.sources.databases import home, named
from migration.sources.folder import open_bytes, read_bytes
from migration.sources.frames import OVER, Damaged, blocks, borders
from migration.sources.inflate import MAGIC as GZIP
from migration.sources.inflate import Inflated
from migration.sources.keys import chosen
from migration.sources.walk import Stretch, Walk

Segment = tuple[int, int]
"""Where it begins in the archive (uncompressed), and how many bytes of documents it has."""


class ArchiveSource:
    """One pass finds where each collection's segments are and checks the CRCs. In a plain archive they are then sought
    out; a gzip one is inflated anew from its begin, so there a collection is one part."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._index: dict[str, Stretch] | None = None
        with open_bytes(path) as file:
            self._gzip = read_bytes(file, len(GZIP)) == GZIP
        with open_bytes(path) as file:
            self._prelude = Walk(_Bytes(file, self._gzip), self.name).prelude

    def about(self) -> About:
        """As the prelude says."""
        prelude = self._prelude
        return About("archive", prelude.server_version, prelude.tool_version, home(prelude.kinds))

    def collections(self) -> Sequence[Found]:
        """The first call reads the archive through."""
        return [Found(name, found.documents, found.size) for name, found in self._indexed().items()]

    def plan(self, collection: str, documents: int = PART_DOCUMENTS) -> Sequence[Mapping[str, Any]]:
        """{"from", "to"}: offsets in the collection's own bytes; "segments": [[offset, length], …] in the archive;
        "end": [code, reason] of what is wrong with the collection's end, or null."""
        found = self._stretch(collection)
        begins = [0]
        if not self._gzip:
            begins += borders(self.read(collection, _part(found, 0, found.size)), documents)
        ends = [*begins[1:], found.size]
        return [_part(found, begin, end) for begin, end in zip(begins, ends, strict=True)]

    def read(self, collection: str, part: Mapping[str, Any], after: str | None = None) -> Iterator[Block]:
        """`resume`: the offset in the collection's bytes after the block. A part needs no pass over the archive."""
        if after == OVER:
            return
        begin = part["from"] if after is None else int(after)
        segments = _clipped(part["segments"], begin - part["from"], part["to"] - part["from"])
        end = Damaged(*part["end"]) if part["end"] else None
        with open_bytes(self._path) as file:
            stream = _Segments(_Bytes(file, self._gzip), segments, end)
            yield from blocks(stream, begin, lambda at: _place(collection, part, at))

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        """Reads the whole collection."""
        found = self._stretch(collection)
        return chosen(self.read(collection, _part(found, 0, found.size)), ids)

    def close(self) -> None:
        """Nothing stays open between calls."""
        self._index = None

    def _stretch(self, collection: str) -> Stretch:
        try:
            return self._indexed()[collection]
        except KeyError:
            raise SourceError(f"{self.name} holds no collection {collection!r}") from None

    def _indexed(self) -> dict[str, Stretch]:
        if self._index is None:
            with open_bytes(self._path) as file:
                found = Walk(_Bytes(file, self._gzip), self.name).stretches()
            self._index = {name: found[namespace] for name, namespace in named(found).items()}
        return self._index


class _Bytes:
    """The archive's bytes without their compression, from any place that is not behind."""

    def __init__(self, file: BinaryIO, compressed: bool) -> None:
        self._file = file
        self._inflated = Inflated(lambda size: read_bytes(file, size)) if compressed else None
        self._at = 0

    def __call__(self, size: int) -> bytes:
        piece = self._inflated(size) if self._inflated else read_bytes(self._file, size)
        self._at += len(piece)
        return piece

    def move(self, offset: int) -> None:
        if self._inflated:
            self._inflated.skip(offset - self._at)
        else:
            self._file.seek(offset)
        self._at = offset


class _Segments:
    """Some segments one after the other, as a `Read`."""

    def __init__(self, source: _Bytes, segments: Sequence[Segment], end: Damaged | None) -> None:
        self._source = source
        self._segments = iter(segments)
        self._left = 0
        self._end = end

    def __call__(self, size: int) -> bytes:
        if not self._left:
            segment = next(self._segments, None)
            if segment is None:
                if self._end:
                    raise self._end
                return b""
            offset, self._left = segment
            self._source.move(offset)
        piece = self._source(min(size, self._left))
        self._left -= len(piece)
        if not piece:
            raise Damaged("truncated", "the archive has changed since the import was planned: it is shorter")
        return piece


def _part(found: Stretch, begin: int, end: int) -> Mapping[str, Any]:
    """What is wrong with the collection's end belongs to the last part."""
    damage = found.damage if end == found.size else None
    return {
        "from": begin,
        "to": end,
        "segments": [list(segment) for segment in _clipped(found.segments, begin, end)],
        "end": [damage.code, damage.reason] if damage else None,
    }


def _clipped(segments: Sequence[Sequence[int]], begin: int, end: int) -> list[Segment]:
    """What of them lies between two offsets in their concatenation."""
    found: list[Segment] = []
    at = 0
    for offset, length in segments:
        low, high = max(begin, at), min(end, at + length)
        if low < high:
            found.append((offset + low - at, high - low))
        at += length
    return found


def _place(collection: str, part: Mapping[str, Any], at: int) -> str:
    """A position in the collection's bytes, as a place in the archive."""
    where = f"byte {at} of {collection}"
    ahead = at - part["from"]
    place = None
    for offset, length in part["segments"]:
        place = offset + min(ahead, length)
        if ahead < length:
            break
        ahead -= length
    return where if place is None else f"byte {place} of the archive ({where})"
