"""Where Rocket.Chat's uploads are read: a folder nobody leads out of, and a bucket."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest

from adapters.files.store import bucket_store
from adapters.files.uploads import Folder, Objects, open_uploads
from router.domain.errors import ConfigurationError, Unavailable
from router.settings import S3Settings
from tests.integration.adapters.files.conftest import Bucket


async def read(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "uploads"
    (inside / "sub").mkdir(parents=True)
    (inside / "abc.png").write_bytes(b"png" * 300_000)
    (inside / "sub" / "deep").write_bytes(b"deep")
    (inside / "empty").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return inside


async def test_a_folder_is_read_in_pieces(folder: Path) -> None:
    place = open_uploads(str(folder), None)
    assert isinstance(place, Folder)
    sizes = [len(piece) async for piece in place.open("abc.png")]
    assert sum(sizes) == 900_000
    assert max(sizes) <= 1024 * 1024
    assert await read(place.open("sub/deep")) == b"deep"
    assert await read(place.open("empty")) == b""


@pytest.mark.parametrize(
    "name",
    ["nothing", "../secret", "sub/../../secret", "/etc/hostname", "sub", "link", "linked/secret", "sub/deep/x", "",
     ".", "a\x00b", "pipe", "x" * 5000],
)  # fmt: skip
async def test_nothing_leads_out_of_a_folder(folder: Path, name: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "linked").symlink_to(folder.parent / "outside")
    os.mkfifo(folder / "pipe")
    with pytest.raises(LookupError):
        await read(open_uploads(str(folder), None).open(name))


async def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(folder)
    assert await read(open_uploads(str(tmp_path / "mounted"), None).open("sub/deep")) == b"deep"


@pytest.mark.parametrize("given", ["/no/such/folder", "s3://", "s3:///prefix", "s3://key:secret@bucket/x"])
def test_what_is_no_place(given: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        open_uploads(given, None)
    assert "secret" not in str(told.value)


@pytest.mark.server
async def test_a_bucket_is_read_with_the_settings_keys(bucket: Bucket, tmp_path: Path) -> None:
    known = bucket.settings(tmp_path).s3
    assert isinstance(known, S3Settings)
    data = os.urandom(3_000_000)
    writer = bucket_store(
        S3Settings(**{name: getattr(known, name) for name in known.__slots__} | {"prefix": None})
    )
    await obstore.put_async(writer, "rc/uid/rid/upload1", data)
    place = open_uploads(f"s3://{bucket.name}/rc/", known)
    assert isinstance(place, Objects)
    assert await read(place.open("uid/rid/upload1")) == data
    for name in ("uid/rid/upload2", "../rc/uid/rid/upload1"):
        with pytest.raises(LookupError):
            await read(place.open(name))
    with pytest.raises(Unavailable):  # no bucket is no proof that the file is gone
        await read(open_uploads("s3://no-such-bucket/rc", known).open("uid/rid/upload1"))
