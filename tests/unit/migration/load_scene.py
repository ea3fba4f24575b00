"""An archive and a source in memory: every call of the archive may be the one at which the process dies."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import bson

from adapters.rocketchat.documents import Documents
from migration.documents import Block, Fault, Mask
from migration.load import Loader, Options, Sorter
from migration.sources import About, Found
from migration.sources.keys import raw_key
from router.domain.errors import Conflict, LeaseLost
from router.domain.ports import RoomInfo
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Account, Chunk, Part, Refused, Run, RunState, Standing
from router.storage.archive.shape import ROOMS, SHAPES, Shape

ROOM, MESSAGE, USER, VISITOR = "rocketchat_room", "rocketchat_message", "users", "rocketchat_livechat_visitor"
CONTACT, UPLOAD, SETTINGS = "rocketchat_livechat_contact", "rocketchat_uploads", "rocketchat_settings"
CHUNKS = "rocketchat_uploads.chunks"
BEGAN = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
MASK = Mask(b"m" * 32)
ENDLESS = timedelta(days=1)

Row = tuple[Any, ...]


class CrashError(BaseException):
    """The process is gone: nothing after this line happens."""


def at(minutes: int) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def room(
    room_id: str, kind: str = "l", *, token: str = "secret-token", active: int = 60, **more: Any
) -> bytes:
    document = {"_id": room_id, "t": kind, "ts": at(0), "lm": at(active), "_updatedAt": at(active)}
    if kind == "l":
        visitor = {"_id": f"v-{room_id}", "token": token, "phone": [{"phoneNumber": "5511988887777"}]}
        document |= {"v": visitor, "open": True, "source": {"type": "widget"}}
    return bson.encode({**document, **more})


def message(message_id: str, room_id: str, minutes: int = 1, text: str = "oi", **more: Any) -> bytes:
    user = {"_id": "u1", "username": "ana"}
    document = {
        "_id": message_id,
        "rid": room_id,
        "msg": text,
        "ts": at(minutes),
        "u": user,
        "_updatedAt": at(minutes),
    }
    return bson.encode({**document, **more})


def broken(raw: bytes) -> bytes:
    """As long as it says, and no BSON: its last element has a type that does not exist."""
    return len(raw + b"\x66x\x00").to_bytes(4, "little") + raw[4:-1] + b"\x66x\x00\x00"


@dataclass
class MemorySource:
    """`collections`: documents, and Faults where there is none."""

    documents: dict[str, list[bytes | Fault]]
    live: bool = False
    name: str = "memory"
    part: int = 5
    block: int = 2
    taken: list[str] = field(default_factory=list)

    def about(self) -> About:
        return About("folder")

    def collections(self) -> Sequence[Found]:
        self.taken.append("collections")
        return [Found(name, len(found), None) for name, found in sorted(self.documents.items())]

    def plan(self, collection: str, documents: int = 0) -> Sequence[Mapping[str, Any]]:
        several = len(self.documents[collection])
        return [{"begin": n, "end": min(n + self.part, several)} for n in range(0, several, self.part)]

    def read(self, collection: str, part: Mapping[str, Any], after: str | None = None) -> Iterator[Block]:
        begin = int(after) if after else part["begin"]
        for low in range(begin, part["end"], self.block):
            high = min(low + self.block, part["end"])
            some = list(enumerate(self.documents[collection][low:high], low))
            raws = [(raw, place) for place, raw in some if isinstance(raw, bytes)]
            faults = [fault for _, fault in some if isinstance(fault, Fault)]
            yield Block([raw for raw, _ in raws], [place for _, place in raws], str(high), faults)

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        for place, raw in enumerate(self.documents.get(collection, ())):
            if isinstance(raw, bytes) and raw_key(raw) in ids:
                yield Block([raw], [place], "")

    def now(self) -> tuple[bytes, datetime]:
        self.taken.append("now")
        return b"token", BEGAN

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class MemoryArchive:
    """`router.storage.archive.Archive` as its contract says. `fault` is called with the name of a call before and after
    it has taken effect; `bad`: ids that the database does not take; `deleted`: ids that the source has deleted since."""

    fault: Callable[[str], None] = lambda _name: None
    bad: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    merges: list[bool] = field(default_factory=list)
    tables: dict[str, dict[tuple[str, ...], Row]] = field(default_factory=lambda: defaultdict(dict))
    marks: dict[str, Standing] = field(default_factory=dict)
    all_runs: list[Run] = field(default_factory=list)
    all_parts: dict[tuple[UUID, str, int], Part] = field(default_factory=dict)
    leases: dict[tuple[UUID, str, int], bool] = field(default_factory=dict)
    refused: dict[tuple[str, str], tuple[Refused, UUID, bool]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    now: "itertools.count[int]" = field(default_factory=itertools.count)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.fault(name)

    # ---- runs

    async def start(
        self, source: str, *, live: bool, options: Mapping[str, Any], token: bytes | None = None,
        token_at: datetime | None = None,
    ) -> Run:  # fmt: skip
        self._call("start")
        run = Run(uuid4(), source, live, RunState.RUNNING, dict(options), BEGAN, None, token, token_at)
        self.all_runs.append(run)
        return run

    async def latest(self, source: str) -> Run | None:
        return next((run for run in reversed(self.all_runs) if run.source == source), None)

    async def set_state(self, run_id: UUID, state: RunState) -> None:
        self._call("set_state")
        self.all_runs = [replace(run, state=state) if run.id == run_id else run for run in self.all_runs]

    async def plan(self, run_id: UUID, collection: str, specs: Sequence[Mapping[str, Any]]) -> None:
        self._call("plan")
        for number, spec in enumerate(specs):
            part = Part(run_id, collection, number, spec, None, False, 0, Account())
            self.all_parts.setdefault((run_id, collection, number), part)

    async def claim(
        self, run_id: UUID, collections: Sequence[str] | None, owner: UUID, lease: timedelta
    ) -> Part | None:
        self._call("claim")
        for key, part in sorted(self.all_parts.items(), key=lambda item: item[0][1:]):
            wanted = part.run_id == run_id and (collections is None or part.collection in collections)
            if wanted and not part.done and not self.leases.get(key):
                self.leases[key] = True
                self.all_parts[key] = replace(part, fence=part.fence + 1)
                return self.all_parts[key]
        return None

    def expire(self) -> None:
        """As time does."""
        self.leases.clear()

    def _held(self, part: Part) -> tuple[UUID, str, int]:
        key = (part.run_id, part.collection, part.number)
        if self.all_parts[key].fence != part.fence or self.all_parts[key].done:
            raise LeaseLost
        return key

    async def renew(self, part: Part, lease: timedelta) -> None:
        self.leases[self._held(part)] = True

    async def release(self, part: Part) -> None:
        self.leases.pop(self._held(part), None)

    async def finish(self, part: Part) -> None:
        self._call("finish")
        key = self._held(part)
        self.all_parts[key] = replace(self.all_parts[key], done=True)

    async def parts(self, run_id: UUID) -> Sequence[Part]:
        return [
            part for key, part in sorted(self.all_parts.items(), key=lambda i: i[0][1:]) if key[0] == run_id
        ]

    async def counts(self, run_id: UUID) -> Mapping[str, Account]:
        summed: dict[str, Account] = defaultdict(Account)
        for part in await self.parts(run_id):
            summed[part.collection] += part.account
        return summed

    # ---- rows

    async def add(self, part: Part, chunk: Chunk, *, merge: bool) -> Part:
        self._call("add")
        self.merges.append(merge)
        key = self._held(part)
        account = chunk.account
        if chunk.shape is not None and chunk.rows:
            account = self._land(chunk, chunk.shape, merge)
        for one in chunk.marks:
            self.marks[one.room_id] = Standing(one.skipped, one.erased_at)
        for refused in chunk.refused:
            self.refused[refused.collection, refused.key] = refused, part.run_id, True
        for row in chunk.rows:
            self._resolve(part.collection, f"id:{_key(chunk.shape, row)[-1]}")
        before = self.all_parts[key]
        after = before.after if chunk.resume is None else chunk.resume
        self.all_parts[key] = replace(before, after=after, account=before.account + account)
        self._call("added")
        return self.all_parts[key]

    def _land(self, chunk: Chunk, shape: Shape, merge: bool) -> Account:
        if any(_key(shape, row)[-1] in self.bad for row in chunk.rows):
            raise BadRows("text: DataError 22000")
        table = self.tables[shape.table]
        rows = {_key(shape, row): row for row in chunk.rows}
        if not merge and (self.deleted or len(rows) < len(chunk.rows) or rows.keys() & table.keys()):
            raise Conflict
        doubled = len(chunk.rows) - len(rows)
        gone = [key for key in rows if key[-1] in self.deleted]
        for key in gone:
            del rows[key]
        updated = shape.names.index("updated_at")
        changed = 0
        for key, row in rows.items():
            old = table.get(key)
            newer = old is None or None in {old[updated], row[updated]} or row[updated] >= old[updated]
            if old is None or (old[-1] != row[-1] and newer):
                table[key] = row
                changed += 1
                if shape is ROOMS:
                    self.marks.pop(key[0], None)
        skipped = dict(chunk.account.skipped)
        for reason, count in (("duplicate", doubled), ("deleted", len(gone))):
            if count:
                skipped[reason] = skipped.get(reason, 0) + count
        return replace(
            chunk.account,
            written=chunk.account.written - doubled - len(gone),
            skipped=skipped,
            changed=changed,
        )

    async def standing(self, room_ids: Collection[str]) -> Mapping[str, Standing]:
        assert all(isinstance(room_id, str) for room_id in room_ids)
        kept = {key[0]: Standing(None, None) for key in self.tables[ROOMS.table]} | self.marks
        return {room_id: kept[room_id] for room_id in room_ids if room_id in kept}

    async def empty(self, shape: Shape) -> bool:
        return not self.tables[shape.table] and not (shape is ROOMS and self.marks)

    async def drop_indexes(self, shape: Shape) -> None:
        self._call(f"drop {shape.table}")

    async def build_indexes(self, shape: Shape) -> None:
        self._call(f"build {shape.table}")

    # ---- refusals

    def _resolve(self, collection: str, key: str) -> None:
        if (collection, key) in self.refused:
            refused, run_id, _ = self.refused[collection, key]
            self.refused[collection, key] = refused, run_id, False

    async def refusals(
        self, run_id: UUID | None, *, collection: str | None = None, code: str | None = None, limit: int = 100,
        after: tuple[str, str] | None = None, open_only: bool = True,
    ) -> Sequence[Refused]:  # fmt: skip
        return [
            refused
            for key, (refused, of, open_) in sorted(self.refused.items())
            if (after is None or key > after) and (run_id in {None, of}) and (open_ or not open_only)
            and collection in {None, refused.collection} and code in {None, refused.code}
        ][:limit]  # fmt: skip

    async def settle(self, collection: str, keys: Sequence[str]) -> None:
        for key in keys:
            self._resolve(collection, key)

    # ---- what a test asks

    def ids(self, shape: Shape) -> set[str]:
        return {key[-1] for key in self.tables[shape.table]}

    def open(self) -> dict[str, str]:
        """Key → code."""
        return {key: refused.code for (_, key), (refused, _, open_) in self.refused.items() if open_}

    def everything(self) -> Any:
        """All that an interrupted run must have in common with one that was not."""
        tables = {name: dict(self.tables[name]) for name in SHAPES}
        return (
            tables,
            self.marks,
            {key: (refused, open_) for key, (refused, _, open_) in self.refused.items()},
        )


def _key(shape: Shape | None, row: Row) -> tuple[str, ...]:
    assert shape is not None
    return tuple(row[shape.names.index(name)] for name in shape.key)


class Erased:
    """`tokens` by the digest of what they are: erased at."""

    def __init__(self, of: Callable[[RoomInfo], datetime | None] = lambda _info: None) -> None:
        self._of = of
        self.asked: list[RoomInfo] = []

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        self.asked += infos
        return [self._of(info) for info in infos]


@dataclass
class Taken:
    written: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    refused: Sequence[Refused] = ()


class Files:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.raws: list[tuple[str, bytes]] = []

    async def take(self, collection: str, raws: Sequence[bytes], positions: Sequence[int]) -> Taken:
        self.raws += [(collection, raw) for raw in raws]
        return Taken(len(raws))


def sorter(**options: Any) -> Sorter:
    return Sorter(Documents(), MASK, Options(**options))


def loaders(
    archive: MemoryArchive, erased: Erased | None = None, sink: Files | None = None, documents: int = 3
) -> Callable[[Options, frozenset[str]], tuple[Sorter, Loader]]:
    def made(options: Options, direct: frozenset[str]) -> tuple[Sorter, Loader]:
        sorts = Sorter(Documents(), MASK, options)
        return sorts, Loader(
            archive, sorts, erased or Erased(), sink=sink or Files(), direct=direct, documents=documents, lease=ENDLESS
        )  # fmt: skip

    return made
