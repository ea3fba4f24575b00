"""One pass over a mongodump archive (mongo-tools: common/archive/spec.md): what it holds, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import bson
from bson.errors import BSONError
from fastcrc import crc64

from migration.documents import BLOCK_BYTES, CODEC, KEPT_BYTES
from migration.sources import SourceError
from migration.sources.databases import Namespace
from migration.sources.frames import Damaged, Look, Read, Sight, Window, look, stride

MAGIC: Final = (0x8199E26D).to_bytes(4, "little")
_DATALESS: Final = frozenset({"view", "timeseries"})
"""Kinds of collection without documents of their own: a time series' are in `system.buckets.…`."""


@dataclass(frozen=True, slots=True)
class Prelude:
    """`kinds`: each collection the archive says it holds, and its kind."""

    server_version: str | None
    tool_version: str | None
    kinds: Mapping[Namespace, str]


@dataclass(slots=True)
class Stretch:
    """One collection: its segments as (offset in the archive, bytes), and what is wrong with its end."""

    segments: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    documents: int = 0
    crc: int = 0
    closed: bool = False
    damage: Damaged | None = None

    def add(self, offset: int, data: bytes, documents: int) -> None:
        """More of it, found at that offset."""
        if self.segments and sum(self.segments[-1]) == offset:
            offset, length = self.segments.pop()
            self.segments.append((offset, length + len(data)))
        else:
            self.segments.append((offset, len(data)))
        self.size += len(data)
        self.documents += documents
        self.crc = crc64.xz(data, self.crc)


class _Broken(Exception):
    """From here on the archive cannot be followed."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Walk:
    """Reads the prelude at once, the rest when asked. Offsets are those of the archive, uncompressed."""

    def __init__(self, read: Read, name: str) -> None:
        self._window = Window(read)
        self._name = name
        self._current: Stretch | None = None
        self._stretches: dict[Namespace, Stretch] = {}
        self.prelude = self._begin()

    def stretches(self) -> Mapping[Namespace, Stretch]:
        """Reads to the end. A damaged archive gives what stands before the damage, and each collection without its end
        says so."""
        kinds = self.prelude.kinds
        self._stretches = {namespace: Stretch() for namespace, kind in kinds.items() if kind not in _DATALESS}
        why = "it ends without"
        try:
            while self._segment():
                pass
        except _Broken as broken:
            why = f"{broken.reason}; it has not"
            if self._current:
                self._current.damage = Damaged(broken.code, f"the archive is damaged: {broken.reason}")
            elif not self._stretches:
                raise SourceError(f"{self._name} is damaged: {broken.reason}") from broken
        for (database, collection), stretch in self._stretches.items():
            if not stretch.closed and not stretch.damage:
                stretch.damage = Damaged(
                    "truncated", f"the archive is cut off: {why} the end of {database}.{collection}"
                )
        return self._stretches

    # ------------------------------------------------------------------------------------ the prelude

    def _begin(self) -> Prelude:
        window = self._window
        window.fill(len(MAGIC))
        if window.take(len(MAGIC)) != MAGIC:
            raise SourceError(f"{self._name} is no mongodump archive: it does not begin with {MAGIC.hex()}")
        try:
            header = self._document("the archive's header")
            kinds: dict[Namespace, str] = {}
            while look(window, marks=True).sight is not Sight.MARK:
                said = self._document("a collection's metadata")
                kinds[_namespace(said)] = _kind(said)
        except _Broken as broken:
            raise SourceError(f"{self._name} is damaged: {broken.reason}") from broken
        window.take(len(MAGIC))
        return Prelude(_text(header.get("server_version")), _text(header.get("tool_version")), kinds)

    # ----------------------------------------------------------------------------------- the segments

    def _segment(self) -> bool:
        """One segment, or the end of a collection. False: the archive ends here, as it should."""
        window = self._window
        if not window.fill(1):
            if window.damage:
                raise _Broken(window.damage.code, f"at byte {window.position}: {window.damage.reason}")
            return False
        begin = window.position
        header = self._document("a segment's header")
        namespace = _namespace(header)
        stretch = self._current = self._stretches.setdefault(namespace, Stretch())
        if header.get("EOF"):
            self._close(namespace, stretch, header.get("CRC"), begin)
            self._mark()
        else:
            stretch.closed = False
            self._documents(stretch)
        return True

    def _mark(self) -> None:
        window = self._window
        at = window.position
        seen = look(window, marks=True)
        if seen.sight is Sight.MARK:
            window.take(len(MAGIC))
        elif window.damage:
            raise _Broken(window.damage.code, f"at byte {at}: {window.damage.reason}")
        elif window.fill(len(MAGIC)) < len(MAGIC):
            raise _Broken("truncated", f"it ends at byte {at}, before a collection's last mark")
        else:
            raise _Broken("invalid_bson", f"at byte {at} a collection's last mark is missing")

    def _documents(self, stretch: Stretch) -> None:
        window = self._window
        while True:
            window.fill(BLOCK_BYTES)
            count, stop = stride(window.buffer, window.at)
            if count:
                self._pass(stretch, stop - window.at, count)
                continue
            seen = look(window, marks=True)
            if seen.sight is Sight.MARK:
                window.take(len(MAGIC))
                return
            if seen.sight is Sight.ODD:
                self._pass(stretch, seen.length, 1)
            elif seen.sight is not Sight.WHOLE:
                raise self._lost(stretch, seen)

    def _pass(self, stretch: Stretch, size: int, documents: int) -> None:
        offset = self._window.position
        stretch.add(offset, self._window.take(size), documents)

    def _lost(self, stretch: Stretch, seen: Look) -> _Broken:
        """What cannot be followed is left to the collection it stands in, so that its reader meets it too."""
        window = self._window
        at = window.position
        ahead = min(window.fill(KEPT_BYTES), KEPT_BYTES)
        if ahead:
            self._pass(stretch, ahead, 0)
        if window.damage:
            return _Broken(window.damage.code, f"at byte {at}: {window.damage.reason}")
        if seen.sight is Sight.END:
            return _Broken("truncated", f"it ends at byte {at}, in a segment")
        return _Broken(seen.code, f"at byte {at}: {seen.reason}")

    @staticmethod
    def _close(namespace: Namespace, stretch: Stretch, said: Any, at: int) -> None:
        stretch.closed = True
        if not isinstance(said, int) or said % 2**64 != stretch.crc:
            wrong = f"its end at byte {at} of the archive says {said}, its documents have"
            crc = stretch.crc - 2**64 if stretch.crc >= 2**63 else stretch.crc
            stretch.damage = Damaged(
                "invalid_bson", f"the CRC-64 of {'.'.join(namespace)} is wrong: {wrong} {crc}"
            )

    def _document(self, what: str) -> Mapping[str, Any]:
        window = self._window
        at = window.position
        seen = look(window)
        if seen.sight is not Sight.WHOLE:
            damage = window.damage
            reason = damage.reason if damage else seen.reason or "it ends"
            code = damage.code if damage else seen.code or "truncated"
            raise _Broken(code, f"{what} should stand at byte {at}: {reason}")
        try:
            return bson.decode(window.take(seen.length), CODEC)
        except (BSONError, RecursionError) as error:
            raise _Broken("invalid_bson", f"{what} at byte {at} is not valid BSON") from error


def _namespace(said: Mapping[str, Any]) -> Namespace:
    database, collection = said.get("db"), said.get("collection")
    if not isinstance(database, str) or not isinstance(collection, str) or not collection:
        raise _Broken("invalid_bson", "a header names no collection")
    return database, collection


def _kind(said: Mapping[str, Any]) -> str:
    """Older tools do not write it, but a view's options."""
    old = "view" if '"viewOn"' in str(said.get("metadata")) else "collection"
    return str(said.get("type") or old)


def _text(said: Any) -> str | None:
    return said if isinstance(said, str) else None
