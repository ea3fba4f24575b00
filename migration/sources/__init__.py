"""Where history comes from: a live MongoDB, a mongodump folder, a mongodump archive. One Protocol, bounded memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from migration.documents import Block
from router.domain.errors import FigueiraError

PART_DOCUMENTS = 100_000
"""About how many documents a part holds: well under a minute of work."""


class SourceError(FigueiraError):
    """The source cannot be read: what, where, the mend, in one line. Never holds a password."""


@dataclass(frozen=True, slots=True)
class Found:
    """A collection of the source. `documents` None: not known without reading it. `bytes` uncompressed where known."""

    name: str
    documents: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class About:
    """What a source says of itself."""

    kind: str  # mongodb | folder | archive
    server_version: str | None = None
    tool_version: str | None = None
    database: str | None = None


class Source(Protocol):
    """Synchronous: the reader of a part does nothing else meanwhile. All methods raise SourceError."""

    name: str
    """How people know it: a path, or host and database without user and password."""
    live: bool

    def about(self) -> About:
        """Kind and versions."""
        ...

    def collections(self) -> Sequence[Found]:
        """Every collection, by name; GridFS's `.files` and `.chunks` are collections too."""
        ...

    def plan(self, collection: str, documents: int = PART_DOCUMENTS) -> Sequence[Mapping[str, Any]]:
        """The collection cut into parts of about so many documents; each a JSON object that `read` understands in
        another process too. Parts are disjoint and leave nothing out; the same source gives the same parts, and a
        live one's parts cover what is inserted later as well."""
        ...

    def read(self, collection: str, part: Mapping[str, Any], after: str | None = None) -> Iterator[Block]:
        """The part's documents. `after`: the `resume` of the last block that was taken in. A file that is cut off or
        damaged ends with a Fault and without an exception."""
        ...

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        """Only the documents with these `_id`s (as `migration.documents.key_of` writes them), in any order; those
        that are not there are left out."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def open_source(given: str) -> Source:
    """SOURCE as the commands take it. Raises SourceError: it is none of the three, or is not there."""
    from migration.sources.opening import opened

    return opened(given)
