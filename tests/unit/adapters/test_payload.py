import contextlib
import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.payload import DEPTH, Malformed, file_name, identifier, load, moment
from router.control import media

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_bytes_are_read_or_malformed(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        load(body)


@given(JSON)
def test_what_is_read_can_be_stored(value: object) -> None:
    try:
        read = load(json.dumps(value).encode())
    except Malformed:  # NaN, Infinity
        return
    stored = orjson.dumps(read)
    assert b"\\u0000" not in stored


@pytest.mark.parametrize(
    "body", [b"", b"NaN", b"{", b"\xff", b'{"a":' * 5000, b"1" * 5000 + b"e", b"[" * 100_000]
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        load(body)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"[" * depth + b"]" * depth

    assert load(nested(DEPTH))
    with pytest.raises(Malformed):
        load(nested(DEPTH + 2))


def test_what_postgresql_refuses_is_replaced() -> None:
    assert load(rb'{"a\u0000":"x\u0000y","b":"\ud83d!","c":1e999,"d":99999999999999999999}') == {
        "a\ufffd": "x\ufffdy",
        "b": "\ufffd!",
        "c": None,
        "d": 1e20,
    }


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1770000000, 1770000000),
        ("1770000000", 1770000000),
        (1770000000123, 1770000000.123),
        ("1770000000123", 1770000000.123),
        ("2026-02-02T02:40:00Z", 1770000000),
        ("2026-02-01T23:40:00-03:00", 1770000000),
        ("2026-02-02T02:40:00", 1770000000),
        ({"$date": 1770000000000}, 1770000000),
    ],
)
def test_moment(value: object, seconds: float) -> None:
    assert moment(value) == datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -5, "", "never", "nan", "inf", 1e300, 10**400, [], {}, "0001-01-01T00:00:00+14:00"],
)
def test_no_moment(value: object) -> None:
    assert moment(value) is None


def test_identifiers() -> None:
    assert identifier(12) == "12"
    assert identifier(True) is None
    assert identifier("") is None
    long = identifier("x" * 9000)
    assert long is not None
    assert long.startswith("sha256:")
    assert long != identifier("y" * 9000)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Exame de Sangue, março.pdf", "Exame de Sangue, março.pdf"),
        ("laudo\u202efdp.exe", "laudofdp.exe"),
        ("a\u2066b\u2069\u200fc\u200e.pdf", "abc.pdf"),
        ("a\r\nb\x00\x1b[0m.pdf", "ab[0m.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ana\\foto.jpg", "foto.jpg"),
        ("lone\ud83d.pdf", "lone.pdf"),
        (" .pdf. ", "pdf"),
        ("x" * 300, "x" * 240),
        ("a/", None),
        ("..", None),
        ("\u202e", None),
        ("", None),
        (None, None),
        (5, None),
        ({"a": 1}, None),
    ],
)
def test_a_name_that_came_from_outside(given: object, name: str | None) -> None:
    assert file_name(given) == name


@given(st.text(st.characters(codec=None)))
def test_names_are_cleaned_as_those_of_uploads_are(given: str) -> None:
    assert file_name(given) == media.file_name(given)
