"""What is cut out of bytes is what decoding says, or nothing."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from migration.documents import CODEC, Reject, decode, key_of
from migration.sources.keys import raw_key
from migration.verify.cut import id_of, room_of

NAMES = st.one_of(
    st.sampled_from(["_id", "rid", "msg", "u", "x_id", "_idx", "ridx", "xrid", ""]),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6),
)
TRAPS = st.sampled_from(
    [
        "\x02rid\x00\x05\x00\x00\x00nope\x00",
        "\x02_id\x00\x05\x00\x00\x00nope\x00",
        "rid\x00",
        "_id\x00",
        "",
        "a\x00b",
        "é",
    ]
)
SCALARS = st.one_of(
    TRAPS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=20),
    st.binary(max_size=20).map(lambda raw: Binary(raw, 2)),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.just(datetime(2024, 5, 6, tzinfo=UTC)),
    st.sampled_from([
        Regex("rid\\x00", "i"), Regex("a", "mx"), Code("rid"), Code("rid", {"rid": "no"}), Decimal128("1.5"), MinKey(),
        MaxKey(), Timestamp(1, 2), DBRef("c", "rid"), Binary.from_uuid(UUID(int=7)),
    ]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=8)
ROOMS = st.tuples(st.none() | st.text(min_size=1, max_size=17), st.none() | st.text(min_size=1, max_size=17))


def key(document: dict[str, Any]) -> str | None:
    try:
        return key_of(document)
    except Reject:
        return None


@given(DOCUMENTS, ROOMS)
def test_cuts_what_decoding_says_or_nothing(
    document: dict[str, Any], common: tuple[str | None, str | None]
) -> None:
    first = {name: value for name, value in zip(("_id", "rid"), common, strict=True) if value is not None}
    raw = bson.encode({**first, **{name: value for name, value in document.items() if name not in first}})
    decoded = bson.decode(raw, CODEC)

    expected = (
        key(decoded) if type(decoded.get("_id")) in {str, ObjectId} else None
    )  # code is text, but no id
    assert id_of(raw) == (None if expected is None else expected.encode())

    room = decoded.get("rid")
    sound = type(room) is str and room and "\x00" not in room
    assert room_of(raw) == (str(room).encode() if sound else None)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_never_fails_over_any_bytes(noise: bytes, at: int) -> None:
    whole = bson.encode({"_id": "m1", "rid": "r1", "u": {"_id": "u1", "rid": "no"}, "msg": "rid\x00"})
    for raw in (noise, whole[:at], whole[:at] + noise):
        for cut in (id_of(raw), room_of(raw)):
            assert cut is None or (cut and b"\x00" not in cut)


def test_a_field_of_another_place_is_never_taken() -> None:
    nested = bson.encode(
        {"_id": "m", "u": {"rid": "nested", "_id": "u"}, "msg": "\x02rid\x00\x05\x00\x00\x00text\x00"}
    )
    assert (id_of(nested), room_of(nested)) == (b"m", None)
    late = bson.encode({"u": {"rid": "nested"}, "msg": "\x02rid\x00", "rid": "room", "_id": "late"})
    assert (id_of(late), room_of(late)) == (b"late", b"room")


def element(name: str, value: str) -> bytes:
    return bson.encode({name: value})[4:-1]


def document(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\x00"


def test_the_last_of_two_rooms_counts_as_decoding_has_it() -> None:
    raw = document(
        element("_id", "m"), element("rid", "first"), element("msg", "hi"), element("rid", "second")
    )
    (decoded,) = decode([raw])
    assert not isinstance(decoded, Reject)
    assert (decoded["rid"], room_of(raw)) == ("second", b"second")


@pytest.mark.parametrize("value", [ObjectId(), "abc", "ação"])
def test_the_key_is_the_one_that_sources_and_archive_use(value: Any) -> None:
    raw = bson.encode({"_id": value, "n": 1})
    assert id_of(raw) == key_of({"_id": value}).encode() == (raw_key(raw) or "").encode()
