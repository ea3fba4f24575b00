"""A running MongoDB, read in raw batches.

A find by `_id > last` finds only ids of the same type: with strings and ObjectIds mixed it loses documents without a
word. So ranges are ranges of the `_id` index (`hint`, `min`, `max`), whose order runs across all types.
"""

import base64
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference
from pymongo.cursor import Cursor
from pymongo.database import Database
from pymongo.errors import AutoReconnect, ConfigurationError, CursorNotFound, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from migration.documents import BLOCK_BYTES, CODEC, Block
from migration.sources import PART_DOCUMENTS, About, Found, SourceError
from migration.sources.changes import Changes, Event, TokenLost
from migration.sources.frames import cut
from migration.sources.keys import chosen, id_document

__all__ = ["Changes", "Event", "LiveSource", "TokenLost"]

DATABASE: Final = "rocketchat"
"""What Rocket.Chat calls its database when nobody says otherwise."""

_BY_ID: Final = [("_id", 1)]
_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_BATCH: Final = 4000  # documents; the server ends a batch at 16 MiB before that
_IDS: Final = 1000  # in one question
_SELECT_MS: Final = 10_000
_TRIES: Final = 5
_PASSING: Final = (AutoReconnect, CursorNotFound)
_KILLED: Final = frozenset(
    {175, 237, 11600, 11602}
)  # QueryPlanKilled, CursorKilled, interrupted by a change of state
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")
_TYPED: Final = re.compile(r"[A-Za-z]\w*:")
"""How `key_of` begins the key of an `_id` that is neither string nor ObjectId."""

_REFUSED: Final = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, Atlas' own
_ALONE: Final = 40573  # $changeStream is only supported on replica sets


class LiveSource:
    """Beside what every source does: `now`, `watch`, `gridfs`."""

    live = True

    def __init__(self, uri: str) -> None:
        """Connects. The URI's database is read, `rocketchat` if it names none. Raises SourceError."""
        self._client = _client(uri)
        self._counts: dict[str, int] = {}
        self._name = self._client.get_default_database(DATABASE).name
        hosts = uri.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]
        self.name = f"mongodb://{hosts}/{self._name}"
        try:
            hello = self._client.admin.command("hello")
            self._cluster = "setName" in hello or hello.get("msg") == "isdbgrid"
            self._version = str(self._client.admin.command("buildInfo").get("version"))
            # From the primary: a secondary that lags may show less than a token that another one gave.
            concern = ReadConcern("majority") if self._cluster else None
            self._database: Database[Any] = self._client.get_database(
                self._name, codec_options=_RAW, read_preference=ReadPreference.PRIMARY, read_concern=concern
            )
            listed = self._listed()
        except PyMongoError as error:
            self._client.close()
            raise self._unreadable(error) from error
        if not listed:
            self._client.close()
            raise SourceError(
                f"{self.name}: the database is empty or not there: name Rocket.Chat's at the URI's end"
            )

    def about(self) -> About:
        """The server's version."""
        return About("mongodb", self._version, None, self._name)

    def collections(self) -> Sequence[Found]:
        """Counts and sizes as the server keeps them. Views and `system.…` have no history of Rocket.Chat's."""
        try:
            return [self._found(name) for name in self._listed()]
        except PyMongoError as error:
            raise self._unreadable(error) from error

    def plan(self, collection: str, documents: int = PART_DOCUMENTS) -> Sequence[Mapping[str, Any]]:
        """{"from", "to"}: {"_id": …} as BSON in base64, "to" not included; null is open. Borders are found by stepping
        along the `_id` index on the server, in a collection that is large enough to need some."""
        found: list[str] = []
        at = None
        try:
            if self._documents(collection) <= documents:
                return [{"from": None, "to": None}]
            while at := self._step(collection, at, max(1, documents)):
                found.append(_text(at))
        except PyMongoError as error:
            raise self._unreadable(error) from error
        return [{"from": low, "to": high} for low, high in zip([None, *found], [*found, None], strict=True)]

    def read(self, collection: str, part: Mapping[str, Any], after: str | None = None) -> Iterator[Block]:
        """`resume`: ordinal and last `_id`. A lost cursor or connection is opened again there, a few times."""
        ordinal, last = _resumed(after)
        low, high = _bytes(part["from"]), _bytes(part["to"])
        failures = 0
        while True:
            try:
                for raws in self._batches(collection, low, high, last):
                    for piece in _pieces(raws):
                        positions = range(ordinal, ordinal + len(piece))
                        ordinal += len(piece)
                        last = id_document(piece[-1])
                        failures = 0
                        yield Block(piece, positions, f"{ordinal}:{_text(last)}")
            except PyMongoError as error:
                failures += 1
                if failures == _TRIES or not _passing(error):
                    raise self._unreadable(error) from error
                time.sleep(2 ** (failures - 2))
            else:
                return

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        """By the `_id` index; keys of other types than string and ObjectId by a look at all ids of those types."""
        wanted = sorted(set(ids))
        questions = [
            {"_id": {"$in": [value for key in wanted[at : at + _IDS] for value in _values(key)]}}
            for at in range(0, len(wanted), _IDS)
        ]
        typed = {key for key in wanted if _TYPED.match(key)}
        odd = {"_id": {"$not": {"$type": ["string", "objectId"]}}}
        for question in questions:
            yield from self._blocks(collection, question)
        if typed:
            yield from chosen(self._blocks(collection, odd), typed)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    # ------------------------------------------------------------------------ only a live source can do

    def now(self) -> tuple[bytes, datetime]:
        """This moment of the change stream: a token to watch from, and the cluster's time. Take it before a copy."""
        try:
            at = self._client.admin.command("hello").get("operationTime")
        except PyMongoError as error:
            raise self._unreadable(error) from error
        if not self._cluster or not isinstance(at, Timestamp):
            raise SourceError(_no_stream(self.name))
        with self.watch([]) as changes:
            changes.next(0)
            token = changes.token()
        if token is None:
            raise SourceError(
                f"{self.name}: the server gives no place in its change stream: it needs MongoDB 4.4 or newer"
            )
        return token, at.as_datetime()

    def watch(
        self, collections: Collection[str], token: bytes | None = None, at: Timestamp | None = None
    ) -> Changes:
        """The change stream of these collections from a token, else from a cluster time, else from now. Raises
        TokenLost: history must be copied anew."""
        return Changes(self._database, collections, token, at, self._unreadable)

    def history(self) -> timedelta | None:
        """How far back the change stream can be read; None: the user may not see that. Raises SourceError."""
        oplog = self._client["local"]["oplog.rs"]
        try:
            ends = [oplog.find_one({}, {"ts": 1}, sort=[("$natural", way)]) for way in (1, -1)]
        except OperationFailure:
            return None
        except PyMongoError as error:
            raise self._unreadable(error) from error
        first, last = (None if end is None else end.get("ts") for end in ends)
        if not isinstance(first, Timestamp) or not isinstance(last, Timestamp):
            return None
        return timedelta(seconds=last.time - first.time)

    def gridfs(self, bucket: str, file_id: str) -> Iterator[bytes]:
        """A file's pieces in their order. Raises LookupError: `args[0]` is no_gridfs_file, or chunks_missing when there are
        others; SourceError."""
        due = 0
        chunks = self._database[f"{bucket}.chunks"]
        while True:
            question = {"files_id": {"$in": _values(file_id)}, "n": {"$gte": due}}
            try:
                for chunk in chunks.find(question, sort=[("n", 1)], batch_size=8):
                    if chunk["n"] < due:  # twice the same
                        continue
                    if chunk["n"] > due:
                        raise LookupError("chunks_missing")
                    due += 1
                    yield bytes(chunk["data"])
                if not due:
                    self._empty(bucket, file_id)
            except CursorNotFound:
                continue
            except PyMongoError as error:
                raise self._unreadable(error) from error
            return

    def _empty(self, bucket: str, file_id: str) -> None:
        """Raises LookupError: a file without pieces is not there, or should have some."""
        file = self._database[f"{bucket}.files"].find_one({"_id": {"$in": _values(file_id)}}, {"length": 1})
        if file is None:
            raise LookupError("no_gridfs_file")
        if file.get("length"):
            raise LookupError("chunks_missing")

    # --------------------------------------------------------------------------------------- questions

    def _listed(self) -> list[str]:
        found = self._database.list_collections(filter={"type": "collection"})
        return sorted(one["name"] for one in found if not one["name"].startswith("system."))

    def _found(self, name: str) -> Found:
        collection = self._database[name]
        try:
            stats = list(collection.aggregate([{"$collStats": {"storageStats": {}}}]))  # one a shard
        except OperationFailure:  # not every role may ask
            stats = []
        if not stats:
            return Found(name, self._documents(name), None)
        size, documents = (
            sum(int(one["storageStats"].get(what, 0)) for one in stats) for what in ("size", "count")
        )
        self._counts[name] = documents
        return Found(name, documents, size)

    def _documents(self, name: str) -> int:
        """About how many there are; not asked twice."""
        if name not in self._counts:
            self._counts[name] = self._database[name].estimated_document_count()
        return self._counts[name]

    def _step(self, collection: str, low: bytes | None, documents: int) -> bytes | None:
        """The id that stands so many behind `low`."""
        found = self._database[collection].find(
            {}, {"_id": 1}, hint=_BY_ID, sort=_BY_ID, skip=documents, limit=1
        )
        for document in _bounded(found, low, None):
            return id_document(bytes(document.raw))
        return None

    def _batches(
        self, collection: str, low: bytes | None, high: bytes | None, last: bytes | None
    ) -> Iterator[list[bytes]]:
        found = self._database[collection].find_raw_batches({}, hint=_BY_ID, sort=_BY_ID, batch_size=_BATCH)
        batches: Iterator[Any] = _bounded(found, last or low, high)
        with ThreadPoolExecutor(1) as ahead:  # the server works on the next one while this one is taken in
            coming = ahead.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, batches, None)
                raws = _documents(batch)
                if raws and last is not None and id_document(raws[0]) == last:
                    raws = raws[1:]  # `min` is included
                last = None
                yield raws

    def _blocks(self, collection: str, question: Mapping[str, Any]) -> Iterator[Block]:
        try:
            ordinal = 0
            for batch in self._database[collection].find_raw_batches(question, batch_size=_BATCH):
                for piece in _pieces(_documents(batch)):
                    positions = range(ordinal, ordinal + len(piece))
                    ordinal += len(piece)
                    yield Block(piece, positions, str(ordinal))
        except PyMongoError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: PyMongoError) -> SourceError:
        """In our words: the driver's may repeat what stands in the URI."""
        code = error.code if isinstance(error, OperationFailure) else None
        if code in _REFUSED:
            return SourceError(
                f"{self.name}: the server refuses user or password, or the user may not read there"
            )
        if code == _ALONE:
            return SourceError(_no_stream(self.name))
        if isinstance(error, ConfigurationError) and "wire version" in str(error):
            return SourceError(
                f"{self.name}: the server is older than MongoDB 4.4: "
                "run `mongodump --archive=FILE` with its own tools and give that file"
            )
        if isinstance(error, AutoReconnect):
            return SourceError(
                f"{self.name}: no answer: does it run, is the port open, does TLS (tls=true) fit?"
            )
        said = "" if code is None else f" {code}"
        return SourceError(f"{self.name}: the server cannot go on ({type(error).__name__}{said})")


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    rest = uri.partition("://")[2].partition("?")[0]
    broken = SourceError(
        "the mongodb:// URI is malformed: percent-escape special characters of user and password"
    )
    if "@" in rest.partition("/")[2]:
        raise broken
    options: dict[str, Any] = {"appname": "figueira"}
    if "serverselectiontimeoutms=" not in uri.lower():
        options["serverSelectionTimeoutMS"] = _SELECT_MS
    try:
        return MongoClient(uri, **options)
    except (PyMongoError, ValueError, TypeError) as error:
        # Without its cause: the driver's message may hold a piece of the password.
        if uri.lower().startswith("mongodb+srv://") and type(error) is ConfigurationError:
            raise SourceError(
                "mongodb+srv:// finds no server: its host must be a DNS name with an SRV record, without a port; "
                "mongodb://HOST:PORT needs none"
            ) from None
        raise broken from None


def _no_stream(name: str) -> str:
    return f"{name}: a server that stands alone has no change stream: restart it with --replSet, or import a dump"


def _passing(error: PyMongoError) -> bool:
    code = error.code if isinstance(error, OperationFailure) else None
    return isinstance(error, _PASSING) or code in _KILLED


def _bounded(cursor: Cursor[Any], low: bytes | None, high: bytes | None) -> Cursor[Any]:
    """From `low` on, up to `high` and without it: by the methods, the driver sends its own arguments `min` and `max` as
    lists, which servers refuse."""
    if low is not None:
        cursor = cursor.min(list(bson.decode(low, CODEC).items()))
    if high is not None:
        cursor = cursor.max(list(bson.decode(high, CODEC).items()))
    return cursor


def _documents(batch: bytes) -> list[bytes]:
    raws, _, stop = cut(batch, 0, 0)
    if stop < len(batch):
        raise SourceError("the server's answer is no BSON")
    return raws


def _pieces(raws: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut into pieces of about BLOCK_BYTES."""
    begin = size = 0
    for at, raw in enumerate(raws):
        size += len(raw)
        if size >= BLOCK_BYTES:
            yield raws[begin : at + 1]
            begin, size = at + 1, 0
    if begin < len(raws):
        yield raws[begin:]


def _values(key: str) -> list[Any]:
    """What `_id` can have this key, as far as a key tells."""
    return [key, ObjectId(key)] if _OBJECT_ID.fullmatch(key) else [key]


def _text(at: bytes | None) -> str:
    return base64.b64encode(at or b"").decode()


def _bytes(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text else None


def _resumed(after: str | None) -> tuple[int, bytes | None]:
    if after is None:
        return 0, None
    ordinal, _, last = after.partition(":")
    return int(ordinal), _bytes(last)
