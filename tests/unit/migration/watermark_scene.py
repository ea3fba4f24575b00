"""A source, an archive and a copy in memory, where every call may be the moment at which something else happens."""

import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson

from migration.collections import Bytes, Copied, Left, Row
from migration.documents import Block, Mask, Reject
from migration.load import Loader, Options, Sorter
from migration.sources import SourceError
from migration.sources.live import TokenLost
from migration.watermark import Follow
from router.domain.errors import LeaseLost, Unavailable
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Change, Chunk, Refused, Run, RunState, Standing
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape

ROOM, MESSAGE, USER, UPLOAD = "rocketchat_room", "rocketchat_message", "users", "rocketchat_uploads"
COLLECTIONS = (ROOM, MESSAGE, USER, UPLOAD)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BAD = "refused by the database"


class CrashError(Exception):
    """The process is gone."""


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(days=1, seconds=self.seconds)

    def monotonic(self) -> float:
        self.seconds += 0.01
        return self.seconds


def row_of(shape: Shape, **values: Any) -> Row:
    return tuple(values.get(name) for name in shape.names)


def _message(_reader: Any, _collection: str, document: Mapping[str, Any], raw: bytes) -> Row:
    if "rid" not in document:
        raise Reject("orphan", "it names no room")
    return row_of(
        MESSAGES, source_id=document["_id"], room_id=document["rid"], sent_at=0, updated_at=document.get("at"),
        text=document.get("text"), raw=raw,
    )  # fmt: skip


def _room(_reader: Any, _collection: str, document: Mapping[str, Any], raw: bytes) -> Row:
    return row_of(
        ROOMS, source_id=document["_id"], kind=document["t"], updated_at=document.get("at"), raw=raw
    )


def _user(_reader: Any, collection: str, document: Mapping[str, Any], raw: bytes) -> Row:
    return row_of(
        RECORDS, collection=collection, source_id=document["_id"], updated_at=document.get("at"), raw=raw
    )


def _upload(_reader: Any, _collection: str, document: Mapping[str, Any], raw: bytes) -> Row:
    return row_of(
        FILES, source_id=document["_id"], room_id=document["rid"], complete=document.get("complete"), raw=raw
    )


REGISTER = {
    ROOM: Copied(ROOMS, _room),
    MESSAGE: Copied(MESSAGES, _message),
    USER: Copied(RECORDS, _user),
    UPLOAD: Copied(FILES, _upload),
}


def treat(collection: str) -> Copied | Left | Bytes:
    return REGISTER.get(collection) or Left("unknown_collection")


class _Reader:
    """No person in a room has an address."""

    def info(self, _room: Any) -> Any:
        return None


class Nobody:
    """Nobody was erased."""

    async def of(self, infos: Sequence[Any]) -> Sequence[None]:
        return [None] * len(infos)


def token(place: int) -> bytes:
    """As MongoDB's are: a keystring that begins with the cluster time."""
    return bson.encode({"_data": "82" + (place.to_bytes(4) + bytes(4)).hex() + "04"})


def placed(given: bytes | None) -> int:
    assert given is not None
    return int(bson.decode(given)["_data"][2:10], 16)


@dataclass(frozen=True)
class Event:
    collection: str
    key: str
    op: str
    raw: bytes | None
    at: datetime


class Source:
    """Documents and their operation log. An update's event brings the document as it is when it is read."""

    name = "mongodb://clinic/rocketchat"
    live = True

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, bytes]] = {name: {} for name in COLLECTIONS}
        self.log: list[tuple[str, str, str, bytes | None]] = []
        self.floor = 0
        self.page = 3
        self.happen: Callable[[], None] = lambda: None

    def put(self, collection: str, key: str, **fields: Any) -> bytes:
        raw = bson.encode({"_id": key, **fields})
        known = key in self.documents[collection]
        self.documents[collection][key] = raw
        self.log.append((collection, key, "update" if known else "insert", raw))
        return raw

    def cut(self, collection: str, key: str) -> None:
        if self.documents[collection].pop(key, None) is not None:
            self.log.append((collection, key, "delete", None))

    def drop(self, collection: str) -> None:
        self.documents[collection].clear()
        self.log.append((collection, "", "drop", None))

    def lose(self) -> None:
        self.floor = len(self.log)

    # ---- as migration.sources has it

    def at(self, place: int) -> datetime:
        return BEGIN + timedelta(seconds=place)

    def now(self) -> tuple[bytes, datetime]:
        self.happen()
        return token(len(self.log)), self.at(len(self.log))

    def watch(self, collections: Collection[str], token: bytes | None) -> "Stream":
        self.happen()
        place = placed(token)
        if place < self.floor:
            raise TokenLost("the change stream's place is no longer in the oplog")
        return Stream(self, place, collections)

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        self.happen()
        raws = [raw for key, raw in self.documents[collection].items() if key in ids]
        yield Block(raws, range(len(raws)), "")

    def history(self) -> timedelta | None:
        return None

    def read(self, collection: str, after: str) -> list[bytes]:
        self.happen()
        keys = [key for key in sorted(self.documents[collection]) if key > after][:2]
        return [self.documents[collection][key] for key in keys]


class Stream:
    def __init__(self, source: Source, place: int, collections: Collection[str]) -> None:
        self._source, self._place, self._collections = source, place, collections
        self.closed = False

    def next(self, timeout: float) -> list[Event]:
        assert timeout > 0
        assert not self.closed
        source = self._source
        source.happen()
        if self._place < source.floor:
            raise TokenLost("the change stream's place is no longer in the oplog")
        begin = self._place
        some = source.log[begin : begin + source.page]
        self._place += len(some)
        if any(op == "drop" for _, _, op, _ in some):
            raise TokenLost("the change stream ends with an event that no copy can follow: copy anew")
        return [self._event(begin + number + 1, *entry) for number, entry in enumerate(some)]

    def _event(self, place: int, collection: str, key: str, op: str, raw: bytes | None) -> Event:
        at = self._source.at(place)
        if op == "delete":
            return Event(collection, key, "delete", None, at)
        seen = self._source.documents[collection].get(key) if op == "update" else raw
        return Event(collection, key, "lost" if seen is None else "upsert", seen, at)

    def token(self) -> bytes:
        return token(self._place)

    def close(self) -> None:
        self.closed = True


class Archive:
    """`router.storage.archive.Archive` as far as a follow and a copy need it. A hook before and after each transaction."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.marks: dict[str, str] = {}
        self.tombs: set[tuple[str, str]] = set()
        self.open: dict[tuple[str, str], Refused] = {}
        self.chain: list[Run] = []
        self.unwoven: set[str] = set()
        self.waiting: list[str] = []
        self.applied: list[Sequence[Change]] = []
        self.happen: Callable[[], Awaitable[None]] = _nothing

    def raw(self, collection: str, key: str) -> bytes | None:
        row = self.rows.get((collection, key))
        return None if row is None else row[-1]

    @property
    def run(self) -> Run:
        return self.chain[-1]

    def _change(self, run_id: uuid.UUID, **fields: Any) -> Run:
        for number, run in enumerate(self.chain):
            if run.id == run_id:
                self.chain[number] = replace(run, **fields)
                return self.chain[number]
        raise LookupError(run_id)

    async def start(self, source: str, token: bytes, at: datetime) -> Run:
        run = Run(uuid.uuid4(), source, True, RunState.RUNNING, {}, BEGIN, None, token, at)
        self.chain.append(run)
        self.tombs.clear()
        return run

    async def latest(self, source: str) -> Run | None:
        await self.happen()
        return next((run for run in reversed(self.chain) if run.source == source), None)

    async def runs(self, limit: int = 20) -> Sequence[Run]:
        return list(reversed(self.chain))[:limit]

    async def set_state(self, run_id: uuid.UUID, state: RunState) -> None:
        self._change(run_id, state=state)

    async def standing(self, room_ids: Collection[str]) -> dict[str, Standing]:
        await self.happen()
        kept = {room: Standing(None, None) for room in room_ids if (ROOM, room) in self.rows}
        return {room: Standing(self.marks[room], None) for room in room_ids if room in self.marks} | kept

    async def refusals(
        self, run_id: Any, *, collection: str | None = None, code: str | None = None, limit: int = 100,
        after: tuple[str, str] | None = None, open_only: bool = True,
    ) -> list[Refused]:  # fmt: skip
        return [
            one
            for key, one in sorted(self.open.items())
            if one.collection == collection and one.code == code and (after is None or key > after)
        ][:2]

    async def refusal_counts(self) -> dict[tuple[str, str], int]:
        return {(one.collection, one.code): 1 for one in self.open.values()}

    async def refuse(self, refused: Sequence[Refused], run_id: uuid.UUID) -> None:
        self.open.update({(one.collection, one.key): one for one in refused})

    async def settle(self, collection: str, keys: Sequence[str]) -> None:
        for key in keys:
            self.open.pop((collection, key), None)

    async def files_waiting(self, after: str | None, limit: int) -> list[Mapping[str, Any]]:
        return [{"source_id": one} for one in self.waiting]

    async def apply(
        self, run_id: uuid.UUID, changes: Sequence[Change], token: bytes, token_at: datetime | None, *,
        after: bytes | None = None, caught_up: bool = False,
    ) -> int:  # fmt: skip
        await self.happen()
        run = next(run for run in self.chain if run.id == run_id)
        if run.token != after:
            raise LeaseLost
        if any(change.row is not None and BAD in change.row for change in changes):
            raise BadRows(BAD)
        for change in changes:
            self._apply(change)
        self._change(run_id, token=token, token_at=token_at, caught_up_at=BEGIN if caught_up else None)
        self.applied.append(changes)
        await self.happen()
        return len(changes)

    def _apply(self, change: Change) -> None:
        key = (change.collection, change.source_id)
        self.open.pop((change.collection, f"id:{change.source_id}"), None)
        before = self.rows.pop(key, None)
        if change.shape is MESSAGES and before is not None:
            self.unwoven.add(before[1])
        if change.row is not None:
            self.put(change.collection, change.shape, change.row)
            self.tombs.discard(key)
        if change.deleted:
            self.tombs.add(key)
        if change.mark is not None:
            self.marks[change.source_id] = change.mark.skipped or ""
        if change.refused is not None:
            self.open[change.collection, change.refused.key] = change.refused

    def put(self, collection: str, shape: Shape, row: Row) -> None:
        key = row[shape.names.index("source_id")]
        self.rows[collection, key] = row
        if shape is ROOMS:
            self.marks.pop(key, None)
        if shape in {ROOMS, MESSAGES}:
            self.unwoven.add(key if shape is ROOMS else row[1])

    def merge(self, collection: str, chunk: Chunk) -> None:
        """What a copy does with a chunk: tombstones win, newer rows stay."""
        for mark in chunk.marks:
            self.marks[mark.room_id] = mark.skipped or ""
        for one in chunk.refused:
            self.open[collection, one.key] = one
        assert chunk.shape is not None
        at = chunk.shape.names.index("updated_at")
        for row in chunk.rows:
            key = (collection, row[chunk.shape.names.index("source_id")])
            old = self.rows.get(key)
            newer = old is None or None in {row[at], old[at]} or row[at] >= old[at]
            self.open.pop((collection, f"id:{key[1]}"), None)
            if key not in self.tombs and newer:
                self.put(collection, chunk.shape, row)


async def _nothing() -> None:
    pass


class Scene:
    """All of it, wired. `copied`: up to where the unfinished copy is."""

    def __init__(self, options: Options | None = None) -> None:
        self.clock = HandClock()
        self.source, self.archive = Source(), Archive()
        self.loader = Loader(
            self.archive,  # type: ignore[arg-type]  # a block is sorted by it, and nothing written
            Sorter(_Reader(), Mask(b"k" * 32), options or Options(), treat),  # type: ignore[arg-type]
            Nobody(),
        )
        self.copied: dict[uuid.UUID, tuple[int, str]] = {}
        self.said: list[str] = []
        self.woven: list[Collection[str] | None] = []
        self.uploads: Uploads | None = None
        self.repairs = 0
        self.stops = False

    def follow(self) -> Follow:
        return Follow(
            self.source, self.archive, self.loader, collections=COLLECTIONS, copy=self.copy, repair=self.repair,
            weave=self.weave, uploads=self.uploads, clock=self.clock, report=self.said.append, jitter=lambda: 0.5,
            treat=treat,
        )  # fmt: skip

    async def caught_up(self) -> None:
        found = await self.follow().run(until_caught_up=True)
        assert found.caught_up

    async def copy(self, *, anew: bool) -> Run:
        run = await self.archive.latest(self.source.name)
        if run is None or run.state is RunState.DONE or anew:
            run = await self.archive.start(self.source.name, *self.source.now())
        number, after = self.copied.get(run.id, (0, ""))
        while number < len(COLLECTIONS):
            if self.stops:
                await self.archive.set_state(run.id, RunState.STOPPED)
                return self.archive.run
            name = COLLECTIONS[number]
            raws = self.source.read(name, after)
            await self.archive.happen()
            if raws:
                self.archive.merge(name, await self.loader.sort(name, Block(raws, range(len(raws)), "")))
                after = bson.decode(raws[-1])["_id"]
            else:
                number, after = number + 1, ""
            self.copied[run.id] = number, after
            await self.archive.happen()
        await self.archive.set_state(run.id, RunState.DONE)
        return next(one for one in self.archive.chain if one.id == run.id)

    async def repair(self) -> None:
        await self.archive.happen()
        self.repairs += 1
        for collection, key in list(self.archive.rows):
            if key not in self.source.documents[collection]:
                del self.archive.rows[collection, key]

    async def weave(self, rooms: Collection[str] | None) -> None:
        await self.archive.happen()
        self.woven.append(None if rooms is None else sorted(rooms))
        self.archive.unwoven -= self.archive.unwoven if rooms is None else set(rooms)
        await self.archive.happen()


class Uploads:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there: set[str] = set()

    async def one(self, _source: Any, upload_id: str) -> tuple[str, str | None] | None:
        self.asked.append(upload_id)
        return ("stored", None) if upload_id in self.there else ("missing", "no_gridfs_file")


def outage() -> Exception:
    return SourceError("mongodb://clinic/rocketchat cannot be reached")


def no_database() -> Exception:
    return Unavailable()
