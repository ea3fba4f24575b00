"""Source documents as bytes: keys, digests, what is masked, and how a block of them is decoded.

A document is kept as the source has it, byte for byte, but for what is a secret. A visitor's token opens the visitor's
chat, so every string field named `token`, and what stands behind `token=` in a link, is overwritten by a keyed digest of
the same length: lengths, order and all other bytes stay, and equal tokens stay equal.
"""

import gc
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any, Final

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

MIB: Final = 1024 * 1024
MAX_DOCUMENT: Final = 16 * MIB
"""MongoDB's own limit."""
BLOCK_BYTES: Final = 256 * 1024
"""Decoding in larger blocks is up to three times slower: the objects fall out of the cache."""
KEPT_BYTES: Final = MAX_DOCUMENT + 16 * 1024
"""How much of a rejected document's bytes is kept."""

CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_MS
)
"""Dates as milliseconds (`DatetimeMS`): MongoDB holds years that Python does not know."""

_TOKEN: Final = b"\x02token\x00"
_INT32: Final = 4
_LINK: Final = b"token="  # rc_token=, too
_IN_LINK: Final = re.compile(rb"token=([A-Za-z0-9_-]{10}[^\x00-\x20\x7f\xff&\"'#<>()\[\]]*)")
"""Ends where a link ends, or a value of BSON: the type of the next one is a control character, 0x7f or 0xff."""
_WORD: Final = b"token"
"""In both of them: most documents are looked through but once."""
_ID: Final = b"\x02_id\x00"
_FIRST: Final = 4  # where the first element begins
_BIGINT: Final = Struct(">q")


class Reject(Exception):
    """A document that is not written. `code` is stable: no_id, nul, date_range, wrong_type, invalid_bson, truncated,
    too_large, orphan, missing, server. `field` names the place."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fault:
    """Bytes of a source that are no document. `position` as in `Block`."""

    position: int
    code: str  # truncated | invalid_bson | too_large
    reason: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """Some documents of one collection in the source's order, about BLOCK_BYTES of them.

    `positions`: where each stands (byte offset in a file or in an archive's collection; ordinal in a live part).
    `resume`: what `Source.read(…, after=)` goes on from, after the last of them.
    """

    raws: Sequence[bytes]
    positions: Sequence[int]
    resume: str
    faults: Sequence[Fault] = ()


def decode(raws: Sequence[bytes]) -> list[dict[str, Any] | Reject]:
    """Each document, or why it is none. The whole block at once, and one by one only when that fails."""
    try:
        found: list[dict[str, Any] | Reject] = [*bson.decode_all(b"".join(raws), CODEC)]
    except (BSONError, RecursionError):
        found = []
    # One that is empty, or two in one, would move all that follow.
    return found if len(found) == len(raws) else [_decoded(raw) for raw in raws]


def _decoded(raw: bytes) -> dict[str, Any] | Reject:
    try:
        return bson.decode(raw, CODEC)
    except (BSONError, RecursionError) as error:
        return Reject("invalid_bson", f"{type(error).__name__}: not a valid BSON document")


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the cyclic garbage collector: a block's objects have no cycles, and it looks at all of them again and
    again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def key_of(document: Mapping[str, Any]) -> str:
    """The `_id` as text: Rocket.Chat's are strings, some collections have ObjectIds. Raises Reject."""
    found = document.get("_id")
    if type(found) is str:
        if "\x00" in found:
            raise Reject("nul", "_id holds a NUL character")
        if not found:
            raise Reject("no_id", "_id is empty")
        return found
    if found is None:
        raise Reject("no_id", "the document has no _id")
    if isinstance(found, ObjectId):
        return str(found)
    return f"{type(found).__name__}:{found}".replace("\x00", "\ufffd")


def digest(raw: bytes) -> int:
    """64 bits of MD5 as PostgreSQL computes them: ('x'||left(md5(raw), 16))::bit(64)::bigint. XOR of all of a set
    does not depend on their order."""
    found: int = _BIGINT.unpack_from(hashlib.md5(raw, usedforsecurity=False).digest())[0]
    return found


def digests(raws: Iterable[bytes]) -> int:
    """XOR of `digest` over all of them."""
    found, md5, number = 0, hashlib.md5, int.from_bytes
    for raw in raws:
        found ^= number(md5(raw, usedforsecurity=False).digest(), "big")
    return number((found >> 64).to_bytes(8, "big"), "big", signed=True)


class Mask:
    """Overwrites visitors' tokens. `key` is derived from the router's secret key. What is masked already must not be
    masked again: it would be another digest."""

    def __init__(self, key: bytes) -> None:
        self._veil = lru_cache(maxsize=4096)(lambda token: _veil(key, token))

    def all(self, raws: Iterable[bytes]) -> list[bytes]:
        """Each of them."""
        return [self(raw) if _WORD in raw else raw for raw in raws]

    def __call__(self, raw: bytes) -> bytes:
        """The document with each token overwritten; the very same object when it has none."""
        if _WORD not in raw:
            return raw
        at = raw.find(_TOKEN)
        while at >= 0:
            begin = at + len(_TOKEN) + _INT32
            length = int.from_bytes(raw[begin - _INT32 : begin], "little")
            end = begin + length - 1
            if 1 < length <= len(raw) - begin and raw[end] == 0:
                raw = raw[:begin] + self._veil(raw[begin:end]) + raw[end:]
            at = raw.find(_TOKEN, begin)
        return self._links(raw) if _LINK in raw else raw

    def _links(self, raw: bytes) -> bytes:
        """An `_id` stays as it is: documents are found by it."""
        begin = _FIRST
        if raw.startswith(_ID, _FIRST):
            at = _FIRST + len(_ID)
            begin = at + _INT32 + int.from_bytes(raw[at : at + _INT32], "little")
        made, count = _IN_LINK.subn(lambda found: _LINK + self._veil(found[1]), raw[begin:])
        return raw[:begin] + made if count else raw


def _veil(key: bytes, token: bytes) -> bytes:
    made = hmac.digest(key, token, "sha256").hex().encode()
    return (made * (len(token) // len(made) + 1))[: len(token)]
