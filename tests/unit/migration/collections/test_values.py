from typing import Any

import orjson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from migration.collections.values import (
    DEPTH,
    FIRST,
    LAST,
    flag,
    identifier,
    inner,
    integer,
    iso,
    json,
    plain,
    rest,
    text,
    time,
)
from migration.documents import Reject


def refused(call: Any, value: Any) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        call({"f": value}, "f")
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    ("value", "found"), [(None, None), ("", None), ("olá 😀", "olá 😀"), ("2024-01-01", "2024-01-01")]
)
def test_text(value: Any, found: str | None) -> None:
    assert text({"f": value}, "f") == found


def test_text_that_postgresql_refuses() -> None:
    assert refused(text, "segredo\x00") == ("nul", "f holds a NUL character")
    assert refused(text, "\ud800") == ("wrong_type", "f is no valid Unicode")
    assert refused(text, 7) == ("wrong_type", "f is int and no string")
    assert refused(text, Code("x")) == ("wrong_type", "f is Code and no string")
    assert refused(text, ["segredo"]) == ("wrong_type", "f is list and no string")


@pytest.mark.parametrize(
    ("value", "found"),
    [("a", "a"), ("", None), (None, None), (ObjectId("a" * 24), "a" * 24), (7, "7"), (Int64(7), "7"), (7.0, "7")],
)  # fmt: skip
def test_identifier(value: Any, found: str | None) -> None:
    assert identifier({"f": value}, "f") == found


@pytest.mark.parametrize("value", [True, 1.5, float("nan"), {}, [], DatetimeMS(1)])
def test_what_is_no_identifier(value: Any) -> None:
    assert refused(identifier, value)[0] == "wrong_type"


def test_inner() -> None:
    assert inner({"f": {"a": 1}}, "f") == {"a": 1}
    assert inner({"f": None}, "f") == inner({}, "f") == {}
    assert refused(inner, [])[0] == "wrong_type"


@pytest.mark.parametrize("at", [FIRST, LAST, 0, -1, 1_700_000_000_123])
def test_time(at: int) -> None:
    assert time({"f": DatetimeMS(at)}, "f") == at


@pytest.mark.parametrize("at", [FIRST - 1, LAST + 1, 2**63 - 1, -(2**63)])
def test_a_year_that_postgresql_does_not_know(at: int) -> None:
    assert refused(time, DatetimeMS(at)) == ("date_range", "f is not between the years 1 and 9999")
    with pytest.raises(Reject, match="years"):
        time({"f": at}, "f", loose=True)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("2023-11-14T19:13:20.123-03:00", 1_700_000_000_123),
        ("1970-01-01", 0),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123.9, 1_700_000_000_123),
        (Int64(5), 5),
        (None, None),
    ],
)
def test_a_date_told_otherwise(value: Any, found: int | None) -> None:
    assert time({"f": value}, "f", loose=True) == found
    if value is not None:
        assert refused(time, value)[0] == "wrong_type"


@pytest.mark.parametrize("value", ["ontem", "", True, float("inf"), float("nan"), {}, ObjectId("a" * 24)])
def test_what_is_no_date(value: Any) -> None:
    with pytest.raises(Reject) as caught:
        time({"f": value}, "f", loose=True)
    assert caught.value.code == "wrong_type"


def test_flag() -> None:
    assert [flag({"f": one}, "f") for one in (True, False, None)] == [True, False, None]
    assert refused(flag, 1)[0] == refused(flag, "true")[0] == "wrong_type"


@pytest.mark.parametrize(
    ("value", "found"),
    [(7, 7), (Int64(7), 7), (7.0, 7), (Decimal128("7"), 7), (None, None), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)],
)  # fmt: skip
def test_integer(value: Any, found: int | None) -> None:
    assert integer({"f": value}, "f") == found
    assert type(integer({"f": value}, "f")) in {int, type(None)}


@pytest.mark.parametrize(
    "value",
    [1.5, float("nan"), float("inf"), 1e300, 2.0**63, True, "7", Decimal128("NaN"), Decimal128("sNaN")],
)
def test_what_is_no_integer(value: Any) -> None:
    assert refused(integer, value)[0] == "wrong_type"


def test_json_of_everything_bson_has() -> None:
    written = json({
        "id": ObjectId("a" * 24), "at": DatetimeMS(1_700_000_000_123), "far": DatetimeMS(LAST + 1), "bytes": Binary(b"\xff\x00"),
        "number": Decimal128("1.50"), "regex": Regex("a+", "i"), "stamp": Timestamp(1, 2), "code": Code("x()"), "min": MinKey(),
        "long": Int64(2**62), "nan": float("nan"), "ref": DBRef("c", ObjectId("b" * 24)), "a.b": {"$c": [1, None, True]},
    })  # fmt: skip
    assert written is not None
    assert orjson.loads(written) == {
        "id": "a" * 24, "at": "2023-11-14T22:13:20.123Z", "far": LAST + 1, "bytes": "/wA=",
        "number": "1.50", "regex": "a+", "stamp": {"$timestamp": {"t": 1, "i": 2}}, "code": "x()", "min": "MinKey",
        "long": 2**62, "nan": None, "ref": {"$ref": "c", "$id": "b" * 24}, "a.b": {"$c": [1, None, True]},
    }  # fmt: skip


def test_nothing_is_no_json() -> None:
    assert json({}) is json([]) is json({"token": "x"}) is None
    assert rest({"a": 1, "b": None}, frozenset("a")) is None
    assert rest({"a": 1, "c": 0, "b": ""}, frozenset("a")) == b'{"c":0,"b":""}'


@pytest.mark.parametrize(
    "fields", [{"a": ["x\x00"]}, {"a": {"b\x00": 1}}, {"a": Code("\x00")}, {"a": DBRef("c", "\x00")}]
)
def test_a_nul_anywhere(fields: Any) -> None:
    with pytest.raises(Reject) as caught:
        json(fields)
    assert caught.value.code == "nul"
    assert caught.value.reason.startswith("extra")


def test_a_backslash_u_is_no_nul() -> None:
    assert json({"a": "\\u0000"}) == b'{"a":"\\\\u0000"}'


def test_no_token_in_json() -> None:
    link = "https://chat.example/file-upload/a/b.pdf?rc_token=SEGREDO&x=1#token=SEGREDO"
    fields = {
        "v": {"token": "SEGREDO", "_id": "v"},
        "l": [{"visitorToken": "SEGREDO"}, link],
        "s": "fala do token",
    }
    written = json(fields)
    assert written is not None
    assert b"SEGREDO" not in written
    assert orjson.loads(written) == {
        "v": {"_id": "v"}, "l": [{}, "https://chat.example/file-upload/a/b.pdf?rc_token=&x=1#token="], "s": "fala do token",
    }  # fmt: skip


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


def test_too_deep_is_refused() -> None:
    assert json(nested(DEPTH)) is not None
    for call in (json, plain):
        with pytest.raises(Reject) as caught:
            call(nested(5_000))
        assert caught.value.code == "wrong_type"


def test_what_json_cannot_hold_is_refused() -> None:
    for value in ({"a": "\ud800"}, {"a": 2**70}, {"a": object()}):
        with pytest.raises(Reject):
            json(value)


def test_plain_is_as_rest_writes_it() -> None:
    assert plain({
        "at": DatetimeMS(5), "n": 71224.0, "f": 1.5, "big": 1e300, "nan": float("nan"), "long": Int64(7), "id": ObjectId("a" * 24),
        "list": [Binary(b"\xff"), None, True, "\ud800"],
    }) == {
        "at": {"$date": 5}, "n": 71224, "f": 1.5, "big": 1e300, "nan": None, "long": 7, "id": "a" * 24,
        "list": ["/w==", None, True, "?"],
    }  # fmt: skip
    assert type(plain(Int64(7))) is int
    assert type(plain(Code("x"))) is str


def test_iso() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(FIRST) == "0001-01-01T00:00:00.000Z"
    assert iso(LAST) == "9999-12-31T23:59:59.999Z"
    assert iso(LAST + 1) == LAST + 1
