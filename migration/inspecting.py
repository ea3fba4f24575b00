"""What is in a source and what an import would make of it, by the import's own code; nothing is written anywhere.

What only a database knows is left out: who was erased, what was copied before, and which documents the source has twice.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from migration.collections import Bytes, Copied, treatment
from migration.documents import Block, Reject, decode, key_of
from migration.load import Loader, Sorter
from migration.sources import Found, Source
from migration.spool import Meant, fits, meant, piece
from migration.uploads import UPLOADS
from router.control.progress import Bar, State, Watch
from router.domain.ports import RoomInfo
from router.storage.archive.model import Account, Chunk, Mark, Part, Refused, Standing
from router.storage.archive.shape import MESSAGES, ROOMS

EXAMPLES: Final = 3
"""Rejects of a code that are named, in each collection."""
WRITING_SHARE: Final = 2.0
"""Reading, mapping and writing take so many times as long as reading and mapping alone: measured with one worker."""
WEAVING_SHARE: Final = 4.0
"""And making a message of a conversation of one takes so many times as long as reading and mapping it."""
UNMAPPED: Final = "unmapped"
LIVECHAT: Final = "l"
_KEPT: Final = Standing(None, None)
_ROOM: Final = {name: ROOMS.names.index(name) for name in ("source_id", "kind", "source_type", "source_ref")}
_MESSAGE_ROOM: Final = MESSAGES.names.index("room_id")
_STATISTICS: Final = ("rocketchat_statistics", "rocketchat_migrations", "migrations")
_MOST_STATISTICS: Final = 10_000
_KINDS: Final = {
    "c": "channels",
    "p": "private",
    "d": "direct",
    "l": "livechat",
    "v": "voip",
    None: "unknown",
}

Place = Callable[[RoomInfo], str | None]
"""The slug of the channel that a livechat room belongs to; None: no mapping for its source."""


class Knowledge:
    """Instead of the archive: the rooms that were read, kept or not."""

    def __init__(self) -> None:
        self._rooms: dict[str, Standing] = {}
        self._livechat: set[str] = set()

    def learn(self, chunk: Chunk) -> None:
        """The rooms of a chunk."""
        for row in chunk.rows:
            self._rooms[row[_ROOM["source_id"]]] = _KEPT
            if row[_ROOM["kind"]] == LIVECHAT:
                self._livechat.add(row[_ROOM["source_id"]])
        for mark in chunk.marks:
            self._rooms[mark.room_id] = _standing(mark)

    def woven(self, chunk: Chunk) -> int:
        """How many of a chunk's messages will be messages of conversations."""
        return sum(row[_MESSAGE_ROOM] in self._livechat for row in chunk.rows)

    async def standing(self, room_ids: Collection[str]) -> Mapping[str, Standing]:
        """As `Landing`."""
        return {room_id: self._rooms[room_id] for room_id in room_ids if room_id in self._rooms}

    async def add(self, part: Part, chunk: Chunk, *, merge: bool) -> Part:
        """As `Landing`: never, here."""
        raise AssertionError(f"an inspection writes nothing: {part.collection} {len(chunk.rows)} {merge}")

    async def finish(self, part: Part) -> None:
        """As `Landing`."""

    async def renew(self, part: Part, lease: timedelta) -> None:
        """As `Landing`."""


def _standing(mark: Mark) -> Standing:
    return Standing(mark.skipped, mark.erased_at)


class Nobody:
    """Nobody was erased, as far as is known here."""

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        """As `migration.load.Erasures`."""
        return [None] * len(infos)


@dataclass(slots=True)
class Taken:
    """As `migration.load.Taken`."""

    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)


class Bodies:
    """Instead of the file store: what would become of GridFS documents. `limit` in bytes a file."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uploads: set[str] = set()
        self._files: dict[str, Meant] = {}

    def learn(self, chunk: Chunk) -> None:
        """The uploads of a chunk."""
        self._uploads.update(row[0] for row in chunk.rows)

    async def take(self, collection: str, raws: Sequence[bytes], positions: Sequence[int]) -> Taken:
        """As `migration.load.Sink`."""
        taken = Taken()
        take = self._file if collection.endswith(".files") else self._chunk
        for raw, position, document in zip(raws, positions, decode(raws), strict=True):
            key = None
            try:
                if isinstance(document, Reject):
                    raise document
                key = key_of(document)
                why = take(key, document)
            except Reject as reject:
                taken.refused.append(_refused(collection, key, position, reject, raw))
                continue
            if why is None:
                taken.written += 1
            else:
                taken.skipped[why] += 1
        return taken

    def _file(self, key: str, document: Mapping[str, Any]) -> str | None:
        file = meant(key, document)
        skip = "no_upload" if key not in self._uploads else "too_large" if file.length > self._limit else None
        self._files[key] = replace(file, skip=skip, md5=None)
        return skip if skip == "no_upload" else None

    def _chunk(self, _key: str, document: Mapping[str, Any]) -> str | None:
        one = piece(document)
        file = self._files.get(one.of)
        if file is None:
            return "orphan_chunk"
        if file.skip is None and not fits(file, one):
            raise Reject("wrong_type", f"chunk {one.number} does not fit its file of {file.length} bytes")
        return file.skip


def _refused(collection: str, key: str | None, position: int, reject: Reject, raw: bytes) -> Refused:
    name = f"at:{position}" if key is None else f"id:{key}"
    return Refused(collection, name, key, str(position), reject.code, reject.reason, raw)


@dataclass(slots=True)
class Seen:
    """What was found in one collection."""

    account: Account = field(default_factory=Account)
    size: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def take(self, chunk: Chunk, size: int) -> None:
        """Count a block."""
        self.account += chunk.account
        self.size += size
        for one in chunk.refused:
            self.codes[one.code] += 1
            if self.codes[one.code] <= EXAMPLES:
                self.examples.append(
                    {
                        "collection": one.collection,
                        "code": one.code,
                        "position": one.position,
                        "reason": one.reason,
                    }
                )

    def shape(self) -> dict[str, Any]:
        """As the report has it."""
        found = self.account
        return {
            "source": found.source,
            "written": found.written,
            "skipped": sum(found.skipped.values()),
            "rejected": found.rejected,
            "erased": found.erased,
            "skipped_by_reason": dict(found.skipped),
            "codes": dict(self.codes),
            "bytes": self.size,
        }


class Inspection:
    """`limit`: the largest file that is taken, in bytes. `channels`: the slugs that a source may be mapped to."""

    def __init__(
        self,
        source: Source,
        sorter: Sorter,
        place: Place,
        channels: Collection[str],
        watch: Watch,
        *,
        limit: int,
    ) -> None:
        self._source = source
        self._place = place
        self._channels = sorted(channels)
        self._watch = watch
        self._known = Knowledge()
        self._bodies = Bodies(limit)
        self._loader = Loader(self._known, sorter, Nobody(), sink=self._bodies)
        self._seen: dict[str, Seen] = {}
        self._kinds: Counter[str | None] = Counter()
        self._places: Counter[tuple[str | None, str | None, str | None]] = Counter()
        self._begun = time.monotonic()
        self._spent = 0.0
        self._woven = 0
        self._totals: dict[str, int | None] = {}

    async def run(self) -> dict[str, Any]:
        """The report; `ended` is False when it was stopped before it had read everything. Raises SourceError."""
        found = self._source.collections()
        self._totals = {one.name: one.documents for one in found}
        version = self._version({one.name for one in found})
        begun = time.perf_counter()
        ended = True
        for one in ordered(found):
            ended = ended and await self._read(one.name)
        self._spent = time.perf_counter() - begun
        return self._report(version, ended=ended)

    async def _read(self, name: str) -> bool:
        seen = self._seen[name] = Seen()
        for part in self._source.plan(name):
            for block in self._source.read(name, part):
                chunk = await self._loader.sort(name, block)
                seen.take(chunk, sum(map(len, block.raws)))
                if chunk.shape is ROOMS:
                    self._rooms(chunk)
                elif chunk.shape is MESSAGES:
                    self._woven += self._known.woven(chunk)
                if name == UPLOADS:
                    self._bodies.learn(chunk)
                self._watch.show(self._state(name))
                if self._watch.stopped():
                    return False
        self._totals[name] = seen.account.source
        return True

    def _rooms(self, chunk: Chunk) -> None:
        self._known.learn(chunk)
        for mark in chunk.marks:
            self._kinds[mark.kind] += 1
        for row in chunk.rows:
            kind, source_type, source_ref = (
                row[_ROOM[name]] for name in ("kind", "source_type", "source_ref")
            )
            self._kinds[kind] += 1
            if kind == LIVECHAT:
                info = RoomInfo(row[_ROOM["source_id"]], source_type, source_ref)
                self._places[source_type, source_ref, self._place(info)] += 1

    def _state(self, now: str) -> State:
        bars = {
            name: Bar(
                seen.account.source, self._totals.get(name), seen.account.rejected,
                ended=name != now and seen.account.source == self._totals.get(name),
            )
            for name, seen in self._seen.items()
        } | {name: Bar(0, total) for name, total in self._totals.items() if name not in self._seen}  # fmt: skip
        return State(self._watch.act, time.monotonic() - self._begun, bars)

    # ---- the report

    def _report(self, version: str | None, *, ended: bool) -> dict[str, Any]:
        about = self._source.about()
        unmapped: Counter[str] = Counter()
        for (source_type, source_ref, slug), rooms in self._places.items():
            if slug is None:
                unmapped[source_ref or source_type or "unknown"] += rooms
        return {
            "source": self._source.name,
            "kind": about.kind,
            "server_version": about.server_version,
            "tool_version": about.tool_version,
            "database": about.database,
            "rocketchat_version": version,
            "collections": {name: seen.shape() for name, seen in sorted(self._seen.items())},
            "changed": 0,
            "differences": 0,
            "ended": ended,
            "rooms": {_KINDS.get(kind, kind or "unknown"): number for kind, number in self._kinds.most_common()},
            "rooms_by_source": [
                {"source_type": source_type, "source_id": source_ref, "channel": slug or UNMAPPED, "rooms": rooms}
                for (source_type, source_ref, slug), rooms in self._places.most_common()
            ],
            "unmapped_sources": [
                {"source_id": name, "rooms": rooms, "toml": self._line(name)} for name, rooms in unmapped.most_common()
            ],
            "orphan_messages": sum(seen.codes["orphan"] for seen in self._seen.values()),
            "examples": [one for seen in self._seen.values() for one in seen.examples],
            **self._time(),
        }  # fmt: skip

    def _line(self, source_id: str) -> str:
        """What maps a source, to be written into the table `sources` of [rocketchat]: to the channel that the source's
        own name gives away, else to one that a person must name."""
        meant = [slug for slug in self._channels if slug.lower() in source_id.lower()]
        quoted = source_id.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" = "{meant[0] if len(meant) == 1 else "CHANNEL"}"'

    def _time(self) -> dict[str, Any]:
        documents = sum(seen.account.source for seen in self._seen.values())
        one = self._spent / documents if documents else 0.0
        needed = self._spent * WRITING_SHARE + one * WEAVING_SHARE * self._woven
        return {
            "documents_per_second": round(1 / one, 1) if one else 0.0,
            "seconds_needed": round(needed, 1),
            "seconds_told": f"from the {self._spent:.1f} s that reading and mapping {documents:,} documents took here, for one "
            f"worker; {self._woven:,} messages become messages of conversations; without files outside MongoDB",
        }

    def _version(self, names: Collection[str]) -> str | None:
        """Rocket.Chat's own, as its statistics tell it last; else the number of its last schema change."""
        newest: tuple[int, str] | None = None
        control: str | None = None
        for name in _STATISTICS:
            for document in self._documents(name) if name in names else ():
                at, version = _moment(document), document.get("version")
                if name != _STATISTICS[0]:
                    if document.get("_id") == "control" and version is not None:
                        control = control or f"migration {version}"
                elif isinstance(version, str) and (newest is None or at > newest[0]):
                    newest = (at, version)
        return newest[1] if newest is not None else control

    def _documents(self, name: str) -> Iterator[Mapping[str, Any]]:
        for document in _first(self._blocks(name)):
            if not isinstance(document, Reject):
                yield document

    def _blocks(self, name: str) -> Iterator[Block]:
        for part in self._source.plan(name):
            yield from self._source.read(name, part)


def ordered(found: Iterable[Found]) -> list[Found]:
    """Rooms before what is in them, uploads before `.files` before `.chunks`; else by name."""

    def rank(one: Found) -> tuple[int, str]:
        treated = treatment(one.name)
        if isinstance(treated, Bytes):
            return (3 if treated.role == "files" else 4), one.name
        if isinstance(treated, Copied):
            return (0 if treated.shape is ROOMS else 1), one.name
        return 2, one.name

    return sorted(found, key=rank)


def _first(blocks: Iterator[Block]) -> Iterator[dict[str, Any] | Reject]:
    number = 0
    for block in blocks:
        yield from decode(block.raws)
        number += len(block.raws)
        if number >= _MOST_STATISTICS:
            return


def _moment(document: Mapping[str, Any]) -> int:
    """Milliseconds since 1970 of a document of statistics."""
    at = document.get("createdAt")
    if isinstance(at, DatetimeMS):
        return int(at)
    key = document.get("_id")
    return int(key.generation_time.timestamp() * 1000) if isinstance(key, ObjectId) else 0
