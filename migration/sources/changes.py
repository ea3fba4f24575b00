"""A database's change stream, as upserts and deletes with the documents' own bytes."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NoReturn, Self

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo.database import Database
from pymongo.errors import AutoReconnect, CursorNotFound, OperationFailure, PyMongoError

from migration.documents import MIB
from migration.sources import SourceError
from migration.sources.keys import raw_key

Op = Literal["upsert", "delete", "lost"]

_WAIT_SECONDS: Final = 0.25
"""How long the server holds a question to which there is no answer yet."""
_MOST_BYTES: Final = 8 * MIB
_TRIES: Final = 5
_FAILED_TO_PARSE: Final = 9
_LOST: Final = frozenset({136, 260, 280, 286, 10334, 40576, 40585, 40615})
"""CappedPositionLost, InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost, BSONObjectTooLarge (an event
beyond 16 MiB can never be passed), and what older servers say for the same."""
_UPSERTS: Final = frozenset({"insert", "update", "replace"})
_ENDS: Final = frozenset({"drop", "rename", "dropDatabase", "invalidate"})


class TokenLost(SourceError):
    """The place in the change stream is no longer there: history must be copied anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """`op`: upsert (`raw`: the document as it is now), delete, or lost: changed, but gone when it was looked up, so that
    its delete follows. `key`: as `key_of`, None when it has none. `at`: cluster time, whole seconds."""

    collection: str
    key: str | None
    op: Op
    raw: bytes | None = field(repr=False)
    at: datetime


class Changes:
    """An open change stream. Close it, or use it with `with`."""

    def __init__(
        self,
        database: Database[Any],
        collections: Collection[str],
        token: bytes | None,
        at: Timestamp | None,
        translated: Callable[[PyMongoError], SourceError],
    ) -> None:
        self._translated = translated
        self._resumed = token is not None
        self._end: TokenLost | None = None
        after = _document(token)
        try:
            self._stream = database.watch(
                _pipeline(collections), full_document="updateLookup", resume_after=after,
                start_at_operation_time=None if token else at, max_await_time_ms=int(_WAIT_SECONDS * 1000),
            )  # fmt: skip
        except PyMongoError as error:
            self._raise(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, timeout: float, most: int = 1000) -> Sequence[Event]:
        """Events in their order, up to `most` or some MiB; none after so many seconds without one. Raises TokenLost;
        SourceError when the server stays away: watch again from the last token that was kept."""
        if self._end:
            raise self._end
        until = time.monotonic() + timeout
        events: list[Event] = []
        size = 0
        while len(events) < most and size < _MOST_BYTES:
            change = self._change()
            if change is None:
                if events or time.monotonic() >= until:
                    break
                continue
            event = self._event(change)
            if event is None:
                if events:  # what came before the end is still good
                    break
                assert self._end is not None  # noqa: S101 - set beside every None
                raise self._end
            events.append(event)
            size += len(event.raw or b"")
        return events

    def token(self) -> bytes | None:
        """What to go on from after the events that `next` has given; moves on while nothing happens, too."""
        token = self._stream.resume_token
        if token is None:
            return None
        return bytes(token.raw) if isinstance(token, RawBSONDocument) else bson.encode(token)

    def close(self) -> None:
        """Tell the server that nobody listens any more."""
        self._stream.close()

    def _change(self) -> RawBSONDocument | None:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._stream.try_next()
            except (AutoReconnect, CursorNotFound) as error:
                if attempt == _TRIES:
                    raise self._translated(error) from error
                time.sleep(2 ** (attempt - 2))
            except PyMongoError as error:
                self._raise(error)
        return None

    def _event(self, change: Mapping[str, Any]) -> Event | None:
        """None: the stream is at its end."""
        kind = change["operationType"]
        collection = change.get("ns", {}).get("coll", "")
        if kind in _ENDS:
            what = f"{collection}: {kind}" if collection else kind
            self._end = TokenLost(
                f"the change stream ends with an event that no copy can follow ({what}): copy anew"
            )
            return None
        key = raw_key(bytes(change["documentKey"].raw))
        at = change["clusterTime"].as_datetime()
        if kind not in _UPSERTS:
            return Event(collection, key, "delete", None, at)
        document = change.get("fullDocument")
        if document is None:
            return Event(collection, key, "lost", None, at)
        return Event(collection, key, "upsert", bytes(document.raw), at)

    def _raise(self, error: PyMongoError) -> NoReturn:
        code = error.code if isinstance(error, OperationFailure) else None
        if code in _LOST or (self._resumed and code == _FAILED_TO_PARSE):
            raise TokenLost(
                f"the place in the change stream is no longer there (error {code}): copy anew, with a longer oplog"
            ) from error
        raise self._translated(error) from error


def _pipeline(collections: Collection[str]) -> list[Mapping[str, Any]]:
    """Only these collections, and what takes them away. `updateDescription` repeats what the document says."""
    names = sorted(collections)
    kinds = [*sorted(_UPSERTS), "delete", "drop", "rename"]
    return [
        {
            "$match": {
                "$or": [
                    {"ns.coll": {"$in": names}, "operationType": {"$in": kinds}},
                    {"to.coll": {"$in": names}, "operationType": "rename"},
                    {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
                ]
            }
        },
        {"$project": {"updateDescription": 0}},
    ]


def _document(token: bytes | None) -> RawBSONDocument | None:
    if token is None:
        return None
    try:
        found = RawBSONDocument(token)
        list(found)  # inflated now rather than in the driver
    except BSONError as error:
        raise TokenLost("the kept token of the change stream is none: copy anew") from error
    return found
