"""BSON documents cut out of a stream of bytes, and what becomes of bytes that are none.

A document says its length first and ends in NUL. When one of both is wrong, the next document must begin where this one
says it ends: only then is the length believed, and reading goes on there. Otherwise the rest of the stream is one fault.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Final

from migration.documents import BLOCK_BYTES, KEPT_BYTES, MAX_DOCUMENT, Block, Fault

Read = Callable[[int], bytes]
"""A stream: about so many bytes, b"" at its end. Raises Damaged where it ends before its time: once, after all the bytes
that are good."""

OVER: Final = "over"
"""The `resume` after which nothing comes: a stream whose length is not known has no last position."""
MARK: Final = -1
"""What stands in a document's place where an archive's segment ends."""
_SMALLEST: Final = 5
_LARGEST: Final = 48_000_000
"""The largest message MongoDB takes: a length beyond it is none."""
_LENGTH: Final = Struct("<i")
_LEADS: Final = {"truncated": "truncated", "invalid_bson": "not BSON", "too_large": "too large"}


class Damaged(Exception):
    """The stream ends before its time. `code` as a Fault's."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Window:
    """A stream seen through a buffer. `buffer[at:]` comes next; `base` is where the buffer begins in the stream."""

    def __init__(self, read: Read, position: int = 0) -> None:
        self._read = read
        self._ended = False
        self.buffer = b""
        self.at = 0
        self.base = position
        self.damage: Damaged | None = None

    @property
    def position(self) -> int:
        """Where in the stream the next byte stands."""
        return self.base + self.at

    def fill(self, size: int) -> int:
        """How many bytes are ahead: `size` or more, or all that the stream still has."""
        have = len(self.buffer) - self.at
        if have >= size or self._ended:
            return have
        pieces = [self.buffer[self.at :]]
        while have < size and not self._ended:
            pieces.append(self._next(max(size - have, BLOCK_BYTES)))
            have += len(pieces[-1])
        self.base += self.at
        self.at = 0
        self.buffer = b"".join(pieces)
        return have

    def _next(self, size: int) -> bytes:
        piece = b""
        try:
            piece = self._read(size)
        except Damaged as damage:
            self.damage = damage
        self._ended = not piece
        return piece

    def length(self, ahead: int = 0) -> int:
        """The length that the document says which begins so many bytes ahead. They must be there."""
        said: int = _LENGTH.unpack_from(self.buffer, self.at + ahead)[0]
        return said

    def take(self, size: int) -> bytes:
        """The next bytes, at most those that `fill` has promised."""
        taken = self.buffer[self.at : self.at + size]
        self.at += len(taken)
        return taken


class Sight(Enum):
    """What stands next in a stream."""

    WHOLE = auto()
    MARK = auto()
    END = auto()
    ODD = auto()  # not to be taken, but the next document stands where this one ends
    LOST = auto()  # nothing after it can be read


@dataclass(frozen=True, slots=True)
class Look:
    """`length` of what can be passed over; code and reason of what is odd or lost."""

    sight: Sight
    length: int = 0
    code: str = ""
    reason: str = ""


def look(window: Window, *, marks: bool = False) -> Look:
    """What stands next. `marks`: an archive's segments end with MARK."""
    have = window.fill(_LENGTH.size)
    if not have:
        return Look(Sight.END)
    if have < _LENGTH.size:
        return Look(Sight.LOST, 0, "truncated", f"{have} bytes stand where a document's length should")
    length = window.length()
    if marks and length == MARK:
        return Look(Sight.MARK, _LENGTH.size)
    if not _SMALLEST <= length <= _LARGEST:
        return Look(Sight.LOST, 0, "invalid_bson", f"no document has a length of {length} bytes")
    if window.fill(length) < length:
        return Look(Sight.LOST, 0, "truncated", f"the document has {length} bytes, the source ends before")
    ended = window.buffer[window.at + length - 1] == 0
    if ended and length <= MAX_DOCUMENT:
        return Look(Sight.WHOLE, length)
    if not _follows(window, length, marks=marks):
        return Look(Sight.LOST, 0, "invalid_bson", f"no document ends after the {length} bytes this one says")
    if not ended:
        return Look(
            Sight.ODD, length, "invalid_bson", f"the document of {length} bytes has no NUL at its end"
        )
    return Look(
        Sight.ODD, length, "too_large", f"the document has {length} bytes, MongoDB's limit is {MAX_DOCUMENT}"
    )


def _follows(window: Window, length: int, *, marks: bool) -> bool:
    """Whether after so many bytes the stream ends or a whole document begins."""
    have = window.fill(length + _LENGTH.size) - length
    if not have:
        return True
    if have < _LENGTH.size:
        return False
    said = window.length(length)
    if marks and said == MARK:
        return True
    if not _SMALLEST <= said <= _LARGEST or window.fill(length + said) < length + said:
        return False
    return window.buffer[window.at + length + said - 1] == 0


def cut(buffer: bytes, at: int, base: int) -> tuple[list[bytes], list[int], int]:
    """Whole documents one after the other from `at` on, their positions, and where in the buffer the last one ends."""
    raws: list[bytes] = []
    positions: list[int] = []
    size = len(buffer)
    length_at = _LENGTH.unpack_from
    while at + _SMALLEST <= size:
        stop = at + length_at(buffer, at)[0]
        if stop > size or stop < at + _SMALLEST or buffer[stop - 1] or stop - at > MAX_DOCUMENT:
            break
        raws.append(buffer[at:stop])
        positions.append(base + at)
        at = stop
    return raws, positions, at


def stride(buffer: bytes, at: int) -> tuple[int, int]:
    """As `cut`, without cutting: how many documents, and where the last one ends."""
    count = 0
    size = len(buffer)
    length_at = _LENGTH.unpack_from
    while at + _SMALLEST <= size:
        stop = at + length_at(buffer, at)[0]
        if stop > size or stop < at + _SMALLEST or buffer[stop - 1] or stop - at > MAX_DOCUMENT:
            break
        count += 1
        at = stop
    return count, at


def blocks(read: Read, position: int, where: Callable[[int], str]) -> Iterator[Block]:
    """The stream's documents. `position`: where in the collection's bytes the stream begins; `where`: how people are told
    of a position."""
    window = Window(read, position)
    while True:
        window.fill(BLOCK_BYTES)
        raws, positions, window.at = cut(window.buffer, window.at, window.base)
        if raws:
            yield Block(raws, positions, str(window.position))
            continue
        seen = look(window)
        if seen.sight is Sight.WHOLE:  # and now in the buffer
            continue
        if seen.sight is Sight.ODD:
            fault = _fault(window, seen, where)
            window.at += seen.length
            yield Block((), (), str(window.position), (fault,))
            continue
        if seen.sight is Sight.LOST or window.damage:
            yield Block((), (), OVER, (_fault(window, seen, where),))
        return


def _fault(window: Window, seen: Look, where: Callable[[int], str]) -> Fault:
    position = window.position
    if seen.sight is Sight.ODD:
        raw = window.buffer[window.at : window.at + min(seen.length, KEPT_BYTES)]
    else:
        window.fill(KEPT_BYTES)
        raw = window.buffer[window.at : window.at + KEPT_BYTES]
    damage = window.damage
    code, reason = seen.code, seen.reason
    if damage and not raw:
        code, reason = damage.code, damage.reason
    elif damage and code == "truncated":
        code, reason = damage.code, f"{reason}; {damage.reason}"
    return Fault(position, code, f"{_LEADS[code]} at {where(position)}: {reason}", raw)


def borders(read: Iterable[Block], documents: int) -> list[int]:
    """Where a new part begins, when each has so many documents; the first begin is not among them."""
    step = max(1, documents)
    found: list[int] = []
    ahead = step  # how many documents stand before the next begin, from this block's first on
    for block in read:
        found += block.positions[ahead::step]
        ahead -= len(block.positions)
        if ahead < 0:
            ahead %= step
    return found
