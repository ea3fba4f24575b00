import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.files.content import HEAD, mime_of, plain, settle
from tests.unit.adapters.files.samples import FILES, PAGE


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_tell(name: str) -> None:
    data, mime = FILES[name]
    assert mime_of(data) == mime


def test_a_letter_cut_at_the_end_is_no_reason_to_doubt() -> None:
    assert mime_of(("a" * (HEAD - 1) + "ã").encode()[:HEAD]) == "text/plain"


@given(st.binary(max_size=200))
def test_any_bytes_have_a_type(data: bytes) -> None:
    assert "/" in mime_of(data)


def test_many_comments_are_read_once() -> None:
    started = time.monotonic()
    assert mime_of((b"<!---->" * HEAD)[:HEAD]) == "text/plain"
    assert mime_of((b"<!--" * HEAD)[:HEAD]) == "text/plain"
    assert mime_of((b" " * HEAD)[:HEAD]) == "text/plain"
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(
    ("found", "promised", "settled"),
    [
        ("image/jpeg", "image/jpeg", "image/jpeg"),
        ("image/jpeg", "image/jpg", "image/jpeg"),
        ("image/png", "image/jpeg", "image/png"),
        ("image/jpeg", None, "image/jpeg"),
        ("text/html", "image/jpeg", None),
        ("text/plain", "video/mp4", None),
        ("application/pdf", "image/jpeg", None),
        ("application/octet-stream", "audio/aac", "audio/aac"),
        # One container, two contents.
        ("video/mp4", "audio/mp4", "audio/mp4"),
        ("audio/ogg", "audio/ogg; codecs=opus", "audio/ogg"),
        ("video/3gpp", "audio/3gpp", "audio/3gpp"),
        ("video/webm", "audio/webm", "audio/webm"),
        ("video/mp4", "image/gif", None),
        # A document may be anything; its content says more than its sender, unless it says less.
        ("application/pdf", "application/octet-stream", "application/pdf"),
        ("text/plain", "text/csv", "text/csv"),
        ("text/plain", "text/html", "text/plain"),
        ("text/html", "text/plain", "text/html"),
        ("text/html", "application/pdf", "text/html"),
        ("application/zip", "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        ("application/msword", "application/vnd.ms-excel", "application/vnd.ms-excel"),
    ],
)  # fmt: skip
def test_content_and_promise(found: str, promised: str | None, settled: str | None) -> None:
    assert settle(found, promised) == settled


def test_one_name_for_each_type() -> None:
    assert plain("Audio/MP3; rate=1") == "audio/mpeg"
    assert plain("  ") is None
    assert plain(None) is None


@pytest.mark.parametrize(
    "written",
    [
        "text/x\r\nset-cookie: a=b", "text/x\nb", "image/x\u20ac", "image", "/png", "image/", "a/b/c", "image /png", "a/b c",
        "text/\x00", "\u0131mage/png", "image/" + "a" * 122, "\ud83d/x", "*/*", "text/html, text/plain",
    ],
)  # fmt: skip
def test_what_is_no_type_goes_into_no_header(written: str) -> None:
    assert plain(written) is None
    assert settle("application/octet-stream", written) == "application/octet-stream"
    assert settle("application/zip", written) == "application/zip"


def test_a_type_as_long_as_may_be() -> None:
    assert plain("image/" + "a" * 121) == "image/" + "a" * 121


DRAWING = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
BOM = "\ufeff"


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        ((BOM + DRAWING).encode("utf-16-le"), "image/svg+xml"),
        ((BOM + DRAWING).encode("utf-16-be"), "image/svg+xml"),
        (f'<?xml version="1.0"?>{DRAWING}'.encode("utf-16-le"), "image/svg+xml"),
        (f'<?xml version="1.0"?>{DRAWING}'.encode("utf-16-be"), "image/svg+xml"),
        ((BOM + PAGE.decode()).encode("utf-16-le"), "text/html"),
        ((BOM + PAGE.decode()).encode("utf-16-be"), "text/html"),
        ("<html><body>é".encode("latin-1"), "text/html"),
        ((BOM + "Olá").encode("utf-16-le"), "text/plain"),
        ((BOM + "Olá 😀").encode("utf-16-le")[:-2], "text/plain"),
    ],
)
def test_pages_and_drawings_in_other_letters(data: bytes, mime: str) -> None:
    assert mime_of(data) == mime
    for promised in ("image/png", "image/jpeg", "video/mp4"):
        assert settle(mime, promised) == (mime if mime == "image/svg+xml" and promised[0] == "i" else None)


def test_a_drawing_is_never_taken_on_trust() -> None:
    for promised in ("image/svg+xml", "image/x+xml; charset=utf-16"):
        assert settle("application/octet-stream", promised) == "application/octet-stream"
