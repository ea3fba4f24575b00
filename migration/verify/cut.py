"""`_id` and `rid` cut out of a document's bytes without decoding it: only the top level is walked, so that a nested
field of that name, or text that looks like one, is never taken for it. None: not certain; decode."""

import struct
from typing import Final

_length = struct.Struct("<i").unpack_from
_STRING: Final = 2
_OBJECT_ID: Final = 7
_REGEX: Final = 11
_FIXED: Final = {
    1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0,
}  # fmt: skip
"""BSON types whose values always have so many bytes."""
_COUNTED: Final = {2: 4, 13: 4, 14: 4, 3: 0, 4: 0, 15: 0, 5: 5, 12: 16}
"""BSON types that begin with a length: how many bytes the value has beyond it."""
_FIRST_ID: Final = b"\x02_id\x00"
_FIRST_OBJECT_ID: Final = b"\x07_id\x00"
_ROOM: Final = b"\x02rid\x00"
_BEGIN: Final = 4
_HEAD: Final = 9
"""Where the value of a first field `_id` begins."""


def id_of(raw: bytes) -> bytes | None:
    """What `documents.key_of` says, in UTF-8. MongoDB refuses a second `_id`; in a file that has one anyway the first is
    cut here, and whoever misses it in the archive decodes."""
    head = raw[_BEGIN:_HEAD]
    if head == _FIRST_ID:
        return _text(raw, _HEAD)
    kind, at = (_OBJECT_ID, _HEAD) if head == _FIRST_OBJECT_ID else _last(raw, b"_id")
    if kind == _OBJECT_ID:
        return raw[at : at + 12].hex().encode() if at + 12 < len(raw) else None
    return _text(raw, at) if kind == _STRING else None


def room_of(raw: bytes) -> bytes | None:
    """The message's `rid` when it is a string that is not empty."""
    if raw[_BEGIN:_HEAD] == _FIRST_ID and len(raw) > _HEAD + 4:
        # As nearly all of them have it: `_id`, then `rid`.
        at = _HEAD + 4 + int(_length(raw, _HEAD)[0])
        if raw[at : at + 5] == _ROOM and raw.find(b"rid\x00", at + 5) < 0:
            return _text(raw, at + 5)
    kind, at = _last(raw, b"rid")
    return _text(raw, at) if kind == _STRING else None


def _last(raw: bytes, name: bytes) -> tuple[int, int]:
    """Type and place of the last top-level field of that name, as decoding has it; type 0: none is certain."""
    again = name + b"\x00"
    found = (0, 0)
    at, end = _BEGIN, len(raw) - 1
    try:
        while at < end:
            kind = raw[at]
            stop = raw.index(0, at + 1)
            if raw[at + 1 : stop] == name:
                found = (kind, stop + 1)
                if raw.find(again, stop) < 0:
                    return found
            at = _past(raw, kind, stop + 1)
    except (IndexError, KeyError, ValueError, struct.error):
        return (0, 0)
    return found


def _past(raw: bytes, kind: int, at: int) -> int:
    """Where the value of this type that begins at `at` ends. Raises KeyError: no such type."""
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return at + fixed
    if kind == _REGEX:
        return raw.index(0, raw.index(0, at) + 1) + 1
    length = int(_length(raw, at)[0])
    if length < 0:
        raise ValueError(length)
    return at + length + _COUNTED[kind]


def _text(raw: bytes, at: int) -> bytes | None:
    """The string whose length stands at `at`; None: empty, or holds a NUL, or does not fit."""
    if at + 4 > len(raw):
        return None
    length = int(_length(raw, at)[0])
    text = raw[at + 4 : at + 3 + length]
    if length < 2 or len(text) != length - 1 or 0 in text:  # noqa: PLR2004
        return None
    return text
