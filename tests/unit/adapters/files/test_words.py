"""What goes between us and others as text: forms, digests, limits."""

import base64
import hashlib
from collections.abc import AsyncIterator
from email import message_from_bytes

import pytest

from adapters.files.fetch import hex_digest
from adapters.files.form import form
from adapters.files.limits import whatsapp_refuses
from adapters.files.rooms import Workspace

MB = 1024 * 1024


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_form_is_as_long_as_it_says() -> None:
    made = form({"type": "image/png"}, name='lau"do\r\nX: y.png', mime="image/png", size=6)
    body = b"".join([part async for part in made.stream(pieces(b"abc", b"def"))])
    assert made.headers["Content-Length"] == str(len(body))
    read = message_from_bytes(f"Content-Type: {made.headers['Content-Type']}\r\n\r\n".encode() + body)
    first, second = [one for one in read.walk() if not one.is_multipart()]
    assert first.get_param("name", header="content-disposition") == "type"
    assert first.get_payload() == "image/png"
    assert second.get_filename() == "lau%22do%0D%0AX: y.png"
    assert second.get_content_type() == "image/png"
    assert second.get_payload() == "abcdef"


@pytest.mark.parametrize("size", [5, 7])
async def test_a_file_of_another_size_never_ends_right(size: int) -> None:
    made = form({}, name=None, mime="image/png", size=size)
    with pytest.raises(ValueError, match="than its row says"):
        _ = [part async for part in made.stream(pieces(b"abc", b"def"))]


def test_a_file_without_a_name_gets_one() -> None:
    assert form({}, name=None, mime="image/png", size=1).name == "file.png"
    assert form({}, name=" ", mime="application/x-unheard-of", size=1).name == "file"
    assert len(form({}, name="ã" * 900 + ".pdf", mime="application/pdf", size=1).name) <= 200


def test_digests_as_they_are_written() -> None:
    digest = hashlib.sha256(b"x")
    assert hex_digest(digest.hexdigest().upper()) == digest.hexdigest()
    assert hex_digest(base64.b64encode(digest.digest()).decode()) == digest.hexdigest()
    assert [hex_digest(one) for one in (None, "", "abc", "YWJj", "não")] == [None] * 5


@pytest.mark.parametrize(
    ("mime", "size", "kind", "refused"),
    [
        ("image/jpeg", 5 * MB, "image", None),
        ("image/jpg", 5 * MB, "image", None),
        ("image/jpeg", 5 * MB + 1, "image", "too_large"),
        ("image/webp", 1, "image", "type"),
        ("image/webp", 500 * 1024 + 1, "sticker", "too_large"),
        ("audio/ogg; codecs=opus", 16 * MB, "audio", None),
        ("audio/wav", 1, "audio", "type"),
        ("video/3gpp", 16 * MB + 1, "video", "too_large"),
        ("video/quicktime", 1, "video", "type"),
        (None, 1, "image", "type"),
        ("application/x-anything", 100 * MB, "document", None),
        ("image/jpeg", 100 * MB + 1, "document", "too_large"),
    ],
)
def test_what_whatsapp_takes(mime: str | None, size: int, kind: str, refused: str | None) -> None:
    assert whatsapp_refuses(mime, size, kind) == refused


def test_only_files_of_this_rocketchat_are_its_files() -> None:
    chat = Workspace("https://chat.example", "u", "secret-token")
    assert "secret-token" not in repr(chat)
    for ref in ("/file-upload/1/a.png", "file-upload/1/a.png", "https://chat.example/file-upload/1/a.png"):
        source = chat.source(ref)
        assert source is not None
        assert source.url == "https://chat.example/file-upload/1/a.png"
        assert "secret-token" not in repr(source)
    for ref in ("https://evil.example/a", "http://chat.example/a", "https://chat.example:444/a"):
        assert chat.source(ref) is None
    tricked = chat.source("//evil.example/a")
    assert tricked is not None
    assert tricked.url == "https://chat.example/evil.example/a"
