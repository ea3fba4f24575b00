"""The stream that COPY reads, byte by byte and piece by piece."""

import struct
from typing import Any

import pytest

from router.storage.archive.binary import MAX_KEY, BadRows, blocks, encode
from router.storage.archive.shape import MESSAGES, Shape, Type

SMALL = Shape(
    "t",
    ("source_id",),
    (
        ("source_id", Type.TEXT),
        ("at", Type.TIME),
        ("open", Type.BOOL),
        ("size", Type.INT),
        ("extra", Type.JSON),
        ("raw", Type.RAW),
    ),
)


def fields(stream: bytes) -> list[list[bytes | None]]:
    """The rows of a stream, read as PostgreSQL does."""
    assert stream.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
    found, at = [], 19
    while (count := struct.unpack_from(">h", stream, at)[0]) >= 0:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", stream, at)
            at += 4
            row.append(None if length < 0 else stream[at : at + length])
            at += max(length, 0)
        found.append(row)
    assert stream[at:] == b"\xff\xff"
    return found


def test_each_type_as_postgresql_reads_it() -> None:
    full = ("é", 946_684_800_001, True, -2, b"{}", b"\x00")
    assert fields(encode(SMALL, [full, ("b", None, False, None, None, b""), ("c", *[None] * 4, b"r")])) == [
        ["é".encode(), struct.pack(">q", 1000), b"\x01", struct.pack(">q", -2), b"\x01{}", b"\x00"],
        [b"b", None, b"\x00", None, None, b""],
        [b"c", None, None, None, None, b"r"],
    ]
    assert fields(encode(SMALL, [])) == []


def test_rows_of_many_blocks_keep_their_order() -> None:
    rows = [(f"{n}", None, None, n, None, b"r") for n in range(1000)]
    assert [row[0] for row in fields(encode(SMALL, rows))] == [b"%d" % n for n in range(1000)]


def test_no_piece_is_much_larger_than_a_row() -> None:
    large = 3 * 1024 * 1024
    sizes = [10, large, large, 10, *[200_000] * 9, large]
    rows = [(f"{n}", None, None, None, None, bytes(size)) for n, size in enumerate(sizes)]
    pieces = list(blocks(SMALL, rows))
    assert max(map(len, pieces)) < large + 1000
    assert len(pieces) > 6
    assert [len(row[-1] or b"") for row in fields(b"".join(pieces))] == sizes


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"text": 1}, "text"),
        ({"text": "\udc80"}, "text"),
        ({"sent_at": "2026"}, "sent_at"),
        ({"sent_at": 2**60}, "sent_at"),
        ({"extra": "{}"}, "extra"),
        ({"extra": {"a": 1}}, "extra"),
        ({"room_id": "é" * (MAX_KEY // 2) + "e"}, "room_id"),
        ({"raw": None}, "raw"),
    ],
)
def test_a_value_of_another_kind_is_named_by_its_column(values: dict[str, Any], column: str) -> None:
    def row(**given: Any) -> tuple[Any, ...]:
        return tuple({"source_id": "a", "raw": b"r", **given}.get(name) for name in MESSAGES.names)

    with pytest.raises(BadRows, match=f"^{column}"):
        encode(MESSAGES, [row(), row(**values), row()])
    assert len(fields(encode(MESSAGES, [row(room_id="é" * (MAX_KEY // 2))]))) == 1
