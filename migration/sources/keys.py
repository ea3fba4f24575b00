"""The `_id` of a document that is still bytes, also when the rest of it cannot be decoded."""

from collections.abc import Collection, Iterable, Iterator
from struct import Struct
from typing import Final

import bson
from bson.errors import BSONError

from migration.documents import CODEC, Block, Reject, key_of

_LENGTH: Final = Struct("<i")
_FIRST: Final = 4  # where the first element begins
_STRING: Final = b"\x02_id\x00"
_OBJECT_ID: Final = b"\x07_id\x00"
_NAME: Final = b"_id\x00"
_VALUE: Final = _FIRST + len(_STRING)
_FIXED: Final = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
"""Bytes of a value by its BSON type."""
_PREFIXED: Final = {2: 4, 3: 0, 4: 0, 5: 5, 13: 4, 14: 4, 15: 0}
"""Types whose value begins with a length, and how many bytes that length leaves out."""


def id_document(raw: bytes) -> bytes | None:
    """{"_id": value} as BSON, the value byte for byte; None without an `_id` that can be read."""
    size = _size(raw) if raw[_FIRST + 1 : _VALUE] == _NAME else None
    if size is not None:
        element = raw[_FIRST : _VALUE + size]
        return _LENGTH.pack(len(element) + _FIRST + 1) + element + b"\x00"
    try:
        document = bson.decode(raw, CODEC)
        return bson.encode({"_id": document["_id"]}, codec_options=CODEC)
    except (BSONError, RecursionError, KeyError):
        return None


def _size(raw: bytes) -> int | None:
    kind = raw[_FIRST]
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _PREFIXED and len(raw) > _VALUE + _LENGTH.size:
        size: int = _LENGTH.unpack_from(raw, _VALUE)[0] + _PREFIXED[kind]
        return size if 0 < size < len(raw) - _VALUE else None
    return None


def raw_key(raw: bytes) -> str | None:
    """As `key_of` writes it; None without one."""
    head = raw[_FIRST:_VALUE]
    if head == _OBJECT_ID and len(raw) > _VALUE + 12:
        return raw[_VALUE : _VALUE + 12].hex()
    size = _size(raw) if head == _STRING else None
    if size is not None:
        text = raw[_VALUE + 4 : _VALUE + size - 1]
        try:
            return None if b"\x00" in text else text.decode() or None
        except UnicodeDecodeError:
            return None
    found = id_document(raw)
    if found is None:
        return None
    try:
        document = bson.decode(found, CODEC)
        return key_of(document)
    except (BSONError, RecursionError, Reject):
        return None


def chosen(read: Iterable[Block], ids: Collection[str]) -> Iterator[Block]:
    """Only the documents with these ids, without the faults around them."""
    wanted = frozenset(ids)
    for block in read:
        picked = [at for at, raw in enumerate(block.raws) if raw_key(raw) in wanted]
        if picked:
            raws = [block.raws[at] for at in picked]
            yield Block(raws, [block.positions[at] for at in picked], block.resume)
