"""The two passes over the source: one that counts everything without decoding, one that looks at the buckets that differ.

A bucket is the first 12 bits of MD5 over a message's room, or over any other document's `_id`, as PostgreSQL computes
them too: `Archive.sums`. Equal numbers and equal XORs of 64-bit digests prove a bucket.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from migration.collections import Copied
from migration.documents import Block, Fault, Mask, Reject, decode, digest, key_of
from migration.sources.keys import raw_key
from migration.verify.cut import id_of, room_of
from router.storage.archive.shape import MESSAGES

BITS: Final = 12
ODD: Final = 1 << BITS
"""The bucket of documents whose key only decoding can tell: they are all looked at."""
_ROOMS_KNOWN: Final = 100_000
_LEFT: Final = 2_000
UNREADABLE: Final = (
    Reject,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

Keep = Callable[[bytes], bytes]


def keeping(mask: Mask, treated: Copied) -> Keep:
    """A document's bytes as the import keeps them; none of those whose secrets cannot be taken out."""
    clean = treated.clean
    if clean is None:
        return mask

    def keep(raw: bytes) -> bytes:
        try:
            return clean(mask(raw))
        except UNREADABLE:
            return b""

    return keep


def bucket_of(key: bytes) -> int:
    """Of a room or an `_id`, in UTF-8."""
    return int.from_bytes(hashlib.md5(key, usedforsecurity=False).digest()[:2], "big") >> (16 - BITS)


class Buckets:
    """A collection's documents told to buckets."""

    def __init__(self, *, by_room: bool) -> None:
        self._by_room = by_room
        self._known: dict[bytes, int] = {}

    def __call__(self, raw: bytes) -> int:
        if not self._by_room:
            key = id_of(raw)
            return ODD if key is None else bucket_of(key)
        room = room_of(raw)
        if room is None:
            return ODD
        known = self._known.get(room)
        if known is None:
            if len(self._known) >= _ROOMS_KNOWN:
                self._known.clear()
            known = self._known[room] = bucket_of(room)
        return known


@dataclass(slots=True)
class Sums:
    """What the first pass found: documents and XOR of their digests by bucket. `parts`: (documents, XOR) of each part
    read to its end, faults counted in."""

    counts: list[int] = field(default_factory=lambda: [0] * (ODD + 1))
    xors: list[int] = field(default_factory=lambda: [0] * (ODD + 1))
    parts: list[tuple[int, int]] = field(default_factory=list)
    faults: int = 0

    def differing(self, here: Mapping[int, tuple[int, int]]) -> list[int]:
        """The buckets that are not proven."""
        return [
            bucket
            for bucket, (count, xor) in enumerate(zip(self.counts, self.xors, strict=True))
            if (count, xor) != here.get(bucket, (0, 0)) or (bucket == ODD and (count or self.faults))
        ]

    def kept(self) -> dict[str, Any]:
        """For `Archive.note`."""
        return {"counts": self.counts, "xors": self.xors, "parts": self.parts, "faults": self.faults}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Sums":
        """What `kept` gave."""
        parts = [(int(count), int(xor)) for count, xor in kept["parts"]]
        return cls(list(kept["counts"]), list(kept["xors"]), parts, int(kept["faults"]))


class Count:
    """The first pass over one part: about 3 µs a document."""

    def __init__(self, blocks: Iterator[Block], sums: Sums, keep: Keep, mask: Mask, buckets: Buckets) -> None:
        self._blocks, self._sums, self._keep, self._mask, self._bucket = blocks, sums, keep, mask, buckets
        self._documents = self._xor = 0

    def step(self, blocks: int = 64) -> int | None:
        """Some more: how many documents; None: the part is at its end, and noted."""
        before = self._documents
        taken = 0
        for block in islice(self._blocks, blocks):
            taken += 1
            self._take(block)
        if taken:
            return self._documents - before
        self._sums.parts.append((self._documents, self._xor))
        return None

    def _take(self, block: Block) -> None:
        counts, xors = self._sums.counts, self._sums.xors
        keep, bucket_of_raw = self._keep, self._bucket
        whole = 0
        for raw in block.raws:
            found = digest(keep(raw))
            bucket = bucket_of_raw(raw)
            counts[bucket] += 1
            xors[bucket] ^= found
            whole ^= found
        for fault in block.faults:
            whole ^= digest(self._mask(fault.raw))
        self._sums.faults += len(block.faults)
        self._documents += len(block.raws) + len(block.faults)
        self._xor ^= whole


@dataclass(frozen=True, slots=True)
class Here:
    """A row of the archive, as far as a bucket tells it."""

    room_id: str | None
    digest: int


@dataclass(slots=True)
class Sieve:
    """The second pass over one part: what stands in the archive as it stands in the source goes through; the rest is left
    for others to judge. `matched` and `rooms` are shared by the parts of a collection."""

    blocks: Iterator[Block]
    buckets: Collection[int]
    here: Mapping[str, Here]
    keep: Keep
    bucket: Buckets
    by_room: bool
    matched: set[str]
    rooms: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    duplicates: int = 0

    def step(self) -> Block | None:
        """Some documents (and faults) that did not go through, as the source has them; None: the part is at its end."""
        raws: list[bytes] = []
        positions: list[int] = []
        faults: list[Fault] = []
        for block in self.blocks:
            for raw, position in zip(block.raws, block.positions, strict=True):
                if self.bucket(raw) in self.buckets:
                    self.documents += 1
                    if not self._through(raw):
                        raws.append(raw)
                        positions.append(position)
            if ODD in self.buckets:
                faults += block.faults
                self.documents += len(block.faults)
            if len(raws) + len(faults) >= _LEFT:
                return Block(raws, positions, block.resume, faults)
        return Block(raws, positions, "", faults) if raws or faults else None

    def _through(self, raw: bytes) -> bool:
        room = text(room_of(raw)) if self.by_room else None
        if room is not None:
            self.rooms[room] += 1
        key = text(id_of(raw))
        return key is not None and self.matches(key, room, raw)

    def matches(self, key: str, room: str | None, raw: bytes) -> bool:
        """Whether the archive has this very document; a second copy of it is a duplicate."""
        row = self.here.get(key)
        if row is None or (self.by_room and row.room_id != room) or row.digest != digest(self.keep(raw)):
            return False
        if key in self.matched:
            self.duplicates += 1
        self.matched.add(key)
        return True


def text(cut: bytes | None) -> str | None:
    """What was cut, as text; None: it is not UTF-8."""
    if cut is None:
        return None
    try:
        return cut.decode()
    except UnicodeDecodeError:
        return None


def keys_of(raws: Sequence[bytes]) -> list[str | None]:
    """Each document's id, also when the rest of it cannot be decoded; None: it has none."""
    return [
        raw_key(raw) if isinstance(document, Reject) else _key(document)
        for raw, document in zip(raws, decode(raws), strict=True)
    ]


def _key(document: Mapping[str, Any]) -> str | None:
    try:
        return key_of(document)
    except Reject:
        return None


def is_by_room(treated: Copied) -> bool:
    """Whether the collection's buckets go by room."""
    return treated.shape is MESSAGES
