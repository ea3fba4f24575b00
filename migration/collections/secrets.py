"""Taking fields out of a document's bytes. Everything else stays byte for byte: decoding and encoding anew would not
keep deprecated types, flags or the bits of a NaN."""

from collections.abc import Callable, Iterator
from typing import Final

_INT32: Final = 4
_FIXED: Final = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0,
}  # fmt: skip
"""Bytes of a value, by its type."""
_COUNTED: Final = {
    0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0,
}  # fmt: skip
"""Bytes of a value beside those that its own first int32 counts."""
_REGEX: Final = 0x0B


def without(*names: str) -> Callable[[bytes], bytes]:
    """What takes these fields of the top level out of a document; the very same object when it has none of them.
    Total: bytes that are no BSON end where one of the names still stands in them."""
    marks = frozenset(name.encode() + b"\x00" for name in names)

    def clean(raw: bytes) -> bytes:
        if not any(mark in raw for mark in marks):
            return raw
        kept, count, end = [], 0, _INT32
        for begin, name_end, after in _elements(raw):
            count, end = count + 1, after
            if raw[begin + 1 : name_end] not in marks:
                kept.append(raw[begin:after])
        whole = raw[end:] == b"\x00" and int.from_bytes(raw[:_INT32], "little") == len(raw)
        if whole and len(kept) == count:
            return raw
        body = b"".join((*kept, raw[end:]))
        if not whole:
            body = body[: min((at for mark in marks if (at := body.find(mark)) >= 0), default=None)]
        return (len(body) + _INT32).to_bytes(_INT32, "little") + body

    return clean


def _elements(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Begin, end of the name (its NUL included) and end of each element, as far as they can be told apart."""
    at = _INT32
    while at < len(raw) - 1 and raw[at]:
        name_end = raw.find(b"\x00", at + 1) + 1
        end = _end(raw, raw[at], name_end) if name_end else 0
        if not name_end <= end <= len(raw) or not end:
            return
        yield at, name_end, end
        at = end


def _end(raw: bytes, kind: int, at: int) -> int:
    """Where a value ends; 0: it does not."""
    if kind in _FIXED:
        return at + _FIXED[kind]
    if kind in _COUNTED:
        counted = int.from_bytes(raw[at : at + _INT32], "little", signed=True)
        return at + _COUNTED[kind] + counted if counted >= 0 else 0
    if kind == _REGEX:
        pattern = raw.find(b"\x00", at)
        return raw.find(b"\x00", pattern + 1) + 1 if pattern >= 0 else 0
    return 0
