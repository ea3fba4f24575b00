"""Rows as PostgreSQL's binary COPY reads them. The hot loop of an import: a column at a time, so that what is done for
each value is one list comprehension's step.

A row: its number of columns (int16), then for each value its length (int32, -1 for NULL) and its bytes.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Final

from router.domain.errors import StoreError
from router.storage.archive.shape import Shape, Type

_HEAD: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_TRUE, _FALSE = b"\x00\x00\x00\x01\x01", b"\x00\x00\x00\x01\x00"
_EPOCH: Final = 946_684_800_000
"""Milliseconds from 1970 to 2000, where PostgreSQL's times begin; it counts microseconds."""
_BLOCK_ROWS: Final = 256
_BLOCK_BYTES: Final = 512 * 1024
_PROBE: Final = 16
"""So many values that all differ: the others will, too."""
MAX_KEY: Final = 1024
"""Bytes of a value that an index holds: PostgreSQL takes 2,704 for a whole entry, MongoDB itself long took 1,024."""

_length = struct.Struct(">i").pack
_number = struct.Struct(">iq").pack
_lengths: Final = tuple(_length(size) for size in range(4096))
"""Looked up, not packed anew for each value."""


class BadRows(StoreError):
    """Rows hold a value that PostgreSQL does not take. Nothing of their chunk was written."""


def _texts(values: Sequence[str | None]) -> list[bytes]:
    lengths = _lengths
    try:
        return [_NULL if v is None else lengths[len(b := v.encode())] + b for v in values]
    except IndexError:
        return [_NULL if v is None else _length(len(b := v.encode())) + b for v in values]


def _words(values: Sequence[str | None]) -> list[bytes]:
    """Texts that often repeat: a block's rooms, authors, kinds."""
    if len(set(values[:_PROBE])) == _PROBE:
        return _texts(values)
    distinct = set(values)
    if 4 * len(distinct) > len(values):
        return _texts(values)
    known = dict(zip(distinct, _texts(list(distinct)), strict=True))
    return [known[v] for v in values]


def _keys(values: Sequence[str | None]) -> list[bytes]:
    made = _words(values)
    if max(map(len, made)) > MAX_KEY + 4:
        raise ValueError("longer than an index can hold")
    return made


def _times(values: Sequence[int | None]) -> list[bytes]:
    pack = _number
    return [_NULL if v is None else pack(8, (v - _EPOCH) * 1000) for v in values]


def _numbers(values: Sequence[int | None]) -> list[bytes]:
    pack = _number
    return [_NULL if v is None else pack(8, v) for v in values]


def _truths(values: Sequence[bool | None]) -> list[bytes]:
    return [_NULL if v is None else (_TRUE if v else _FALSE) for v in values]


def _documents(values: Sequence[bytes | None]) -> list[bytes]:
    pack = _length
    return [_NULL if v is None else pack(len(v) + 1) + b"\x01" + v for v in values]


def _raws(values: Sequence[bytes | None]) -> list[bytes]:
    lengths = _lengths
    try:
        return [_NULL if v is None else lengths[len(v)] + v for v in values]
    except IndexError:
        return [_NULL if v is None else _length(len(v)) + v for v in values]


_ENCODERS: Final[dict[Type, Callable[[Sequence[Any]], list[bytes]]]] = {
    Type.TEXT: _words,
    Type.TIME: _times,
    Type.BOOL: _truths,
    Type.JSON: _documents,
    Type.RAW: _raws,
    Type.INT: _numbers,
}
_INDEXED: Final = frozenset({"source_id", "room_id", "visitor_id", "user_id", "collection"})


Encoder = Callable[[Sequence[Any]], list[bytes]]


def _encoders(shape: Shape) -> list[tuple[str, Encoder]]:
    return [(name, _keys if name in _INDEXED else _ENCODERS[kind]) for name, kind in shape.columns]


def encode(shape: Shape, rows: Sequence[tuple[Any, ...]]) -> bytes:
    """The whole stream for rows of a shape. Raises BadRows."""
    return b"".join(blocks(shape, rows))


def blocks(shape: Shape, rows: Sequence[tuple[Any, ...]]) -> Iterator[bytes]:
    """The stream in pieces of about half a MiB, or one row where that is larger. Raises BadRows."""
    yield _HEAD
    encoders = _encoders(shape)
    begin = 0
    while begin < len(rows):
        end = _block_end(rows, begin)
        yield _block(encoders, rows[begin:end])
        begin = end
    yield _END


def _block_end(rows: Sequence[tuple[Any, ...]], begin: int) -> int:
    end = min(begin + _BLOCK_ROWS, len(rows))
    try:
        sizes = [len(row[-1]) for row in rows[begin:end]]
    except TypeError:
        raise BadRows("raw: a row without its document") from None
    if sum(sizes) <= _BLOCK_BYTES:
        return end
    total = 0
    for place, size in enumerate(sizes):
        total += size
        if total > _BLOCK_BYTES:
            return begin + max(place, 1)
    return end


def _block(encoders: list[tuple[str, Encoder]], rows: Sequence[tuple[Any, ...]]) -> bytes:
    count = len(rows)
    made: list[list[bytes]] = []
    try:
        for (_, encoder), values in zip(encoders, zip(*rows, strict=True), strict=True):
            made.append([_NULL] * count if values.count(None) == count else encoder(values))
    except (AttributeError, TypeError, ValueError, OverflowError, struct.error) as error:
        # The error's own text may quote the value.
        column = encoders[len(made)][0] if len(made) < len(encoders) else "a row's length"
        raise BadRows(f"{column}: {type(error).__name__}") from None
    width = len(encoders).to_bytes(2, "big")
    return b"".join(chain.from_iterable(zip(repeat(width, count), *made, strict=True)))
