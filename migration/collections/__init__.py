"""What is made of each collection of Rocket.Chat's: pure mappers, and the list of what is copied and what is not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from router.domain.message import Attachment, Content
from router.domain.ports import RoomInfo
from router.storage.archive.shape import Shape

Row = tuple[Any, ...]
"""Values in the order of the shape's columns. Times are integers: milliseconds since 1970. The last one is the raw
document, already without its secrets."""


class Reader(Protocol):
    """Rocket.Chat's own shapes, read by the same code as its webhooks and its REST history: what is claimed by content
    must be read the same way on every road. Documents have dates as {"$date": milliseconds}."""

    def info(self, room: Mapping[str, Any]) -> RoomInfo:
        """A room of type `l`."""
        ...

    def content(self, message: Mapping[str, Any]) -> Content:
        """Kind, text; `data` without secrets."""
        ...

    def files(self, message: Mapping[str, Any]) -> tuple[Attachment, ...]:
        """The message's files."""
        ...

    def file_ids(self, message: Mapping[str, Any]) -> tuple[str, ...]:
        """The `_id`s of the uploads it shows, in the order of `files`."""
        ...


Mapper = Callable[[Reader, str, Mapping[str, Any], bytes], Row]
"""(reader, mongo collection, document, raw without secrets) → row. Raises migration.documents.Reject."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A collection that is copied. `clean` takes secrets out of a document's bytes (in addition to Mask)."""

    shape: Shape
    map: Mapper
    clean: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """A collection that is not copied, and why: secret, trash, transient, presentation, unknown_collection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Bytes:
    """GridFS: `files` or `chunks` of the bucket; the bytes go into the file store."""

    role: str


def treatment(collection: str) -> "Copied | Left | Bytes":
    """What is done with a collection, by its name in the source."""
    from migration.collections.register import REGISTER

    return REGISTER.get(collection) or Left("unknown_collection")
