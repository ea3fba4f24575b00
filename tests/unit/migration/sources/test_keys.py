from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.dbref import DBRef
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from migration.documents import CODEC, Block, key_of
from migration.sources.keys import chosen, id_document, raw_key

IDS: list[Any] = [
    "a", "É" * 9, ObjectId(), 1, Int64(1), 1.5, True, Decimal128("1.0"), Binary(b"\x00\x01", 4 + 128), Timestamp(1, 2),
    datetime(2020, 1, 1, tzinfo=UTC), Regex("a.*", "i"), Code("x"), Code("x", {"a": 1}), MinKey(), MaxKey(),
    {"a": {"b": 1}}, DBRef("rooms", "r"),
]  # fmt: skip


def told(raw: bytes) -> str:
    document = bson.decode(raw, CODEC)
    return key_of(document)


@pytest.mark.parametrize("key", IDS, ids=lambda key: type(key).__name__)
def test_the_id_is_read_as_the_mappers_read_it(key: Any) -> None:
    for document in (
        {"_id": key},
        {"_id": key, "a": 1},
        {"a": 1, "_id": key},
        {"a": "_id", "b": 1, "_id": key},
    ):
        raw = bson.encode(document)
        assert id_document(raw) == bson.encode({"_id": key})
        assert raw_key(raw) == told(raw)


@pytest.mark.parametrize(
    "document", [{}, {"a": 1}, {"_id": None}, {"_id": ""}, {"_ida": 1}, {"a": {"_id": 1}}]
)
def test_without_an_id_there_is_no_key(document: dict[str, Any]) -> None:
    assert raw_key(bson.encode(document)) is None


def test_the_rest_need_not_be_bson() -> None:
    for key in ("text", 7, ObjectId()):
        raw = bytearray(bson.encode({"_id": key, "msg": "abc"}))
        raw[raw.index(b"abc")] = 0xFF  # not UTF-8
        assert raw_key(bytes(raw)) == told(bson.encode({"_id": key}))


@given(st.binary(max_size=60))
def test_any_bytes_have_a_key_or_none(junk: bytes) -> None:
    for raw in (junk, b"\x20\x00\x00\x00\x02_id\x00" + junk, b"\x20\x00\x00\x00\x03_id\x00" + junk):
        if len(raw) >= 5:
            raw_key(raw)
            id_document(raw)


def test_chosen_are_only_those_asked_for() -> None:
    raws = [bson.encode({"_id": key}) for key in ("a", "b", "c")]
    blocks = [Block(raws, [0, 17, 34], "51"), Block(raws[:1], [51], "68")]
    assert list(chosen(blocks, ["c", "b", "z"])) == [Block(raws[1:], [17, 34], "51")]
