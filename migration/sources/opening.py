"""SOURCE as the commands take it: what it is, and what it should be when it is nothing we know."""

import gzip
import zlib
from pathlib import Path
from typing import Final

from migration.sources import Source, SourceError
from migration.sources.archive import ArchiveSource
from migration.sources.folder import SUFFIXES, FolderSource, open_bytes, read_bytes
from migration.sources.inflate import MAGIC as GZIP
from migration.sources.walk import MAGIC

_MONGO: Final = ("mongodb://", "mongodb+srv://")
_EXPECTED: Final = (
    "a mongodb:// URI, a folder made by mongodump, or a file made by mongodump --archive is expected"
)


def opened(given: str) -> Source:
    """A path is made absolute: however it is written, it is the same source. Raises SourceError: it is none of the
    three, or is not there."""
    if given.startswith(_MONGO):
        from migration.sources.live import LiveSource

        return LiveSource(given)
    if "://" in given:  # the rest of it may be a password
        raise SourceError(f"{given.partition('://')[0]}:// is no source: {_EXPECTED}")
    try:
        path = Path(given).resolve()
        if path.is_dir():
            return FolderSource(path)
        if path.is_file():
            return _file(path)
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # links that go round are a RuntimeError
        raise SourceError(f"{given!r} cannot be read: {_EXPECTED}") from error
    what = "is neither a file nor a folder" if there else "is not there"
    raise SourceError(f"{given} {what}: {_EXPECTED}")


def _file(path: Path) -> Source:
    if path.name.endswith(SUFFIXES):
        raise SourceError(f"{path} is one collection of a dump: give its folder, {path.parent}")
    with open_bytes(path) as file:
        begin = read_bytes(file, len(MAGIC))
    if begin.startswith(GZIP):
        begin = _inflated(path)
    if begin != MAGIC:
        raise SourceError(f"{path} is no mongodump archive: {_EXPECTED}")
    return ArchiveSource(path)


def _inflated(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(len(MAGIC))
    except (OSError, EOFError, zlib.error):
        return b""
