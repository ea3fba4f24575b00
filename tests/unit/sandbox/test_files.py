import base64
import hashlib

import pytest

from deploy.sandbox.attachments import kind_of, of_message, with_public_path
from deploy.sandbox.files import FileStore, content
from deploy.sandbox.workspace import Upload


def test_an_address_serves_its_own_file_until_it_ends() -> None:
    files = FileStore()
    one, two = files.add("1", b"a", "text/plain", "native"), files.add("1", b"b", "text/plain", "native")
    key = files.link(one, 60).rpartition("hash=")[2]
    assert files.linked(one.id, key) is one
    assert files.linked(two.id, key) is None
    ended = files.link(one, 0).rpartition("hash=")[2]
    assert files.linked(one.id, ended) is None
    files.remove(one)
    assert files.linked(one.id, key) is None
    assert files.find(one.id) is None


def test_digests_are_written_in_both_ways() -> None:
    file = FileStore().add("1", b"abc", "image/png", "patient")
    assert file.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert base64.b64decode(file.sha256_base64).hex() == file.sha256


@pytest.mark.parametrize("size", [0, 3, 2_000, 300_000])
def test_a_file_made_up_by_its_size_looks_like_its_type(size: int) -> None:
    data, mime = content({"size": size, "mime": "image/png"})
    assert (len(data), mime) == (size, "image/png")
    assert data[:8] == b"\x89PNG\r\n\x1a\n"[:size]


def test_files_made_up_differ() -> None:
    told = {"size": 5_000, "mime": "audio/ogg"}
    assert content(told) != content(told)


@pytest.mark.parametrize("told", [{}, {"content_base64": "%"}, {"mime": "image/png"}])
def test_a_file_needs_its_bytes_or_its_size(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="content_base64"):
        content(told)


@pytest.mark.parametrize(
    ("mime", "kind"),
    [
        ("image/jpeg", "image"),
        ("image/gif", "document"),
        ("image/webp", "sticker"),
        ("audio/ogg", "audio"),
        ("video/mp4", "video"),
        ("application/pdf", "document"),
    ],
)
def test_how_a_file_is_sent(mime: str, kind: str) -> None:
    assert kind_of(Upload("f", "r", "u", "a", mime, b"")) == kind


def test_a_message_names_its_file_and_webhooks_where_to_read_it() -> None:
    upload = Upload("f", "r", "u", "minha foto.jpg", "image/jpeg", b"abc")
    message = of_message(upload, "antes")
    assert message["file"] == {
        "_id": "f",
        "name": "minha foto.jpg",
        "type": "image/jpeg",
        "size": 3,
        "format": "jpg",
    }
    (attachment,) = message["attachments"]
    assert attachment["image_url"] == attachment["title_link"] == "/file-upload/f/minha%20foto.jpg"
    shown = with_public_path(message, {"f": upload})
    assert shown["fileUpload"]["publicFilePath"] == f"{upload.path}?token={upload.token}"
    assert "fileUpload" not in with_public_path(message, {})
