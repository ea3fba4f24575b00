from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from migration.collections.secrets import without
from migration.documents import CODEC
from tests.unit.migration.collections.shapes import CHANNEL, SUBSCRIPTION, UPLOAD, USER, VALUE, copied

clean = without("services", "e2e")
EVERY_TYPE = {
    "double": 1.5, "string": "é", "document": {"services": 1}, "array": [1, "x"], "binary": Binary(b"services\x00", 5),
    "id": ObjectId(), "yes": True, "at": DatetimeMS(2**62), "null": None, "regex": Regex("a", "i"), "code": Code("x"),
    "scoped": Code("x", {"a": 1}), "int": 1, "stamp": Timestamp(1, 2), "long": Int64(2), "decimal": Decimal128("1.5"),
    "min": MinKey(), "max": MaxKey(), "ref": DBRef("c", 1), "empty": {}, "old": Binary(b"x", 2),
}  # fmt: skip


@pytest.mark.parametrize("place", [0, 5, len(EVERY_TYPE)])
def test_a_secret_is_cut_out_and_the_rest_stays_as_it_is(place: int) -> None:
    fields = list(EVERY_TYPE.items())
    with_secret = dict([*fields[:place], ("services", {"password": "x"}), *fields[place:], ("e2e", "k")])
    assert clean(bson.encode(with_secret)) == bson.encode(EVERY_TYPE)


def test_types_that_no_encoder_writes_any_more() -> None:
    element = {
        0x06: b"", 0x0C: b"\x02\x00\x00\x00a\x00" + b"i" * 12, 0x0E: b"\x02\x00\x00\x00s\x00", 0xFF: b"", 0x7F: b"",
    }  # fmt: skip
    kept = b"".join(bytes([kind]) + b"k%d\x00" % kind + value for kind, value in element.items())
    secret = b"\x02services\x00\x02\x00\x00\x00x\x00"

    def document(body: bytes) -> bytes:
        return (len(body) + 5).to_bytes(4, "little") + body + b"\x00"

    assert clean(document(kept + secret + kept)) == document(kept + kept)


def test_without_a_secret_it_is_the_very_same() -> None:
    for document in (EVERY_TYPE, {}, {"a": {"services": {"b": 1}}, "services2": 1, "x": "services"}):
        raw = bson.encode(document)
        assert clean(raw) is raw


@given(st.dictionaries(st.sampled_from(["a", "services", "e2e", "_id", "b.c"]), VALUE, max_size=5))
def test_any_document(document: dict[str, Any]) -> None:
    kept = {name: value for name, value in document.items() if name not in {"services", "e2e"}}
    assert clean(bson.encode(document)) == bson.encode(kept)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 200))
def test_it_raises_for_no_bytes(noise: bytes, cut: int) -> None:
    clean(noise)
    raw = bson.encode({"a": 1, "services": {"bcrypt": "SEGREDO"}, "b": "x"})
    cut %= len(raw)
    for broken in (raw[:cut], raw[:cut] + noise + raw[cut:], raw + noise):
        assert b"services\x00" not in clean(broken)


def test_a_broken_document_keeps_no_secret() -> None:
    raw = bson.encode({"_id": "u", "services": {"bcrypt": "SEGREDO"}, "name": "Ana"})
    for end in range(20, len(raw)):
        assert b"SEGRED" not in clean(raw[:end])
    odd = raw.replace(b"\x02_id\x00", b"\x77_id\x00")
    assert b"SEGREDO" not in clean(odd)
    whole = bson.encode({"_id": "u", "name": "Ana"})
    assert clean(whole[:-3]) == whole[:-3]


@pytest.mark.parametrize(
    ("collection", "document", "secrets"),
    [
        ("users", USER, ["services", "e2e", "oauth", "inviteToken"]),
        ("rocketchat_room", CHANNEL, ["joinCode", "e2eKeyId"]),
        ("rocketchat_subscription", SUBSCRIPTION, ["E2EKey", "E2ESuggestedKey", "oldRoomKeys"]),
        ("rocketchat_uploads", UPLOAD, ["visitorToken"]),
    ],
)
def test_what_each_collection_loses(collection: str, document: dict[str, Any], secrets: list[str]) -> None:
    cleaner = copied(collection).clean
    assert cleaner is not None
    kept = bson.decode(cleaner(bson.encode(document)), CODEC)
    assert list(kept) == [name for name in document if name not in secrets]
    assert set(secrets) <= set(document)
