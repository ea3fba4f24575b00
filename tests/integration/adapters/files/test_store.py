import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from adapters.files.store import CHUNK, ObjectFiles, open_store
from router.domain.errors import Rejected, Unavailable
from router.domain.media import Stored
from router.domain.ports import FileStore
from router.settings import MediaSettings
from tests.integration.adapters.files.conftest import Bucket
from tests.unit.adapters.files.samples import JPEG, PDF

MB = 1024 * 1024


async def chunks(data: bytes, size: int = CHUNK) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(store: FileStore, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in store.open(sha256)])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.server)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectFiles:
    """Both kinds of store; what follows holds for both."""
    if request.param == "directory":
        return open_store(MediaSettings(tmp_path / "home" / "media"))
    bucket: Bucket = request.getfixturevalue("bucket")
    return open_store(bucket.settings(tmp_path))


async def test_what_is_saved_is_read_back_by_its_digest(kept: FileStore) -> None:
    assert await kept.save(chunks(JPEG), limit=MB) == Stored(sha(JPEG), len(JPEG), "image/jpeg")
    assert await read(kept, sha(JPEG)) == JPEG


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(kept: FileStore) -> None:
    await kept.save(chunks(JPEG), limit=MB)
    await kept.save(chunks(PDF), limit=MB)
    for _ in range(2):
        await kept.delete(sha(JPEG))
    await kept.delete("../" + sha(PDF))
    with pytest.raises(LookupError):
        await read(kept, sha(JPEG))
    assert await read(kept, sha(PDF)) == PDF


async def test_a_large_file_comes_and_goes_in_chunks(kept: FileStore) -> None:
    data = PDF + os.urandom(20 * MB)  # more than two parts of a multipart upload
    stored = await kept.save(chunks(data), limit=len(data))
    assert stored == Stored(sha(data), len(data), "application/pdf")
    sizes = [len(chunk) async for chunk in kept.open(stored.sha256)]
    assert sum(sizes) == len(data)
    assert max(sizes) <= 4 * MB


async def test_two_writers_of_the_same_bytes_do_no_harm(kept: FileStore) -> None:
    both = await asyncio.gather(*(kept.save(chunks(PDF, 7), limit=MB) for _ in range(4)))
    assert set(both) == {Stored(sha(PDF), len(PDF), "application/pdf")}
    assert await read(kept, sha(PDF)) == PDF


async def test_a_file_too_large_is_refused_while_it_comes(kept: FileStore) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += CHUNK
            yield bytes(CHUNK)

    with pytest.raises(Rejected) as refused:
        await kept.save(endless(), limit=MB)
    assert (refused.value.code, refused.value.status) == ("too_large", 413)
    assert taken == MB + CHUNK
    assert (await kept.save(chunks(bytes(MB)), limit=MB)).size == MB  # the limit itself is allowed


async def test_a_file_of_nothing_is_refused(kept: FileStore) -> None:
    with pytest.raises(Rejected) as refused:
        await kept.save(chunks(b""), limit=MB)
    assert (refused.value.code, refused.value.status) == ("empty_file", 422)


@pytest.mark.parametrize("name", [sha(b"never"), "", "../../etc/passwd", "A" * 64, "partial"])
async def test_what_is_not_there_is_a_lookup_error(kept: FileStore, name: str) -> None:
    with pytest.raises(LookupError):
        await read(kept, name)


async def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(MediaSettings(tmp_path / "media"))

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield bytes(CHUNK)
        raise ConnectionResetError("half way")

    with pytest.raises(ConnectionResetError):
        await store.save(broken(), limit=100 * MB)
    await asyncio.sleep(0.2)
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]


async def test_a_save_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(MediaSettings(tmp_path / "media"))

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(20 * MB)
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await store.save(slow(), limit=100 * MB)
    await asyncio.sleep(0.2)
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]


async def test_the_directory_is_made_with_the_first_file_and_is_the_owners(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "media"
    store = open_store(MediaSettings(place))
    assert not place.exists()
    await store.save(chunks(PDF), limit=MB)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    digest = sha(PDF)
    assert [str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()] == [
        f"{digest[:2]}/{digest[2:4]}/{digest}"
    ]


async def test_what_a_killed_process_had_begun_is_cleared(tmp_path: Path) -> None:
    partial = tmp_path / "media" / "partial"
    partial.mkdir(parents=True)
    for name, age in (("old#1", 48), ("young#1", 1)):
        (partial / name).write_bytes(b"x")
        os.utime(partial / name, (time.time() - age * 3600,) * 2)
    await open_store(MediaSettings(tmp_path / "media")).save(chunks(PDF), limit=MB)
    assert [path.name for path in partial.iterdir()] == ["young#1"]


async def test_a_copy_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    store = open_store(MediaSettings(tmp_path / "media"))
    await store.save(chunks(PDF), limit=MB)
    digest = sha(PDF)
    (tmp_path / "media" / digest[:2] / digest[2:4] / digest).write_bytes(b"%PDF")
    await store.save(chunks(PDF), limit=MB)
    assert await read(store, digest) == PDF


async def test_a_store_that_fails_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the directory should be")
    store = open_store(MediaSettings(tmp_path / "media"))
    with pytest.raises(Unavailable, match="file store"):
        await store.save(chunks(PDF), limit=MB)
    with pytest.raises(Unavailable, match="file store"):
        await read(store, sha(PDF))


@pytest.mark.server
async def test_a_bucket_that_is_not_there_is_unavailable(bucket: Bucket, tmp_path: Path) -> None:
    store = open_store(bucket.settings(tmp_path, bucket="bucket-of-nobody"))
    with pytest.raises(Unavailable, match="file store") as caught:
        await store.save(chunks(PDF), limit=MB)
    assert "bucket-of-nobody" not in str(caught.value)
    with pytest.raises(Unavailable, match="file store"):
        await read(store, sha(PDF))


@pytest.mark.server
async def test_in_the_bucket_only_the_file_is_left(bucket: Bucket, tmp_path: Path) -> None:
    store = open_store(bucket.settings(tmp_path))
    for _ in range(2):
        await store.save(chunks(PDF), limit=MB)
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"{bucket.url}/{bucket.name}?list-type=2")).text
    digest = sha(PDF)
    assert listed.count("<Key>") == 1
    assert f"<Key>figueira/{digest[:2]}/{digest[2:4]}/{digest}</Key>" in listed
    assert not (tmp_path / "unused").exists()
