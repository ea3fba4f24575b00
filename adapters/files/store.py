"""Bytes by their SHA-256, in a directory of this machine or in a bucket of S3: one way of working for both."""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from adapters.files.content import HEAD, mime_of
from router.domain.errors import Rejected, Unavailable
from router.domain.media import Stored

CHUNK: Final = 64 * 1024
_PART: Final = 5 * 1024 * 1024  # the least S3 takes in a multipart upload; what is smaller is written at once
_PARALLEL: Final = 2  # parts under way: with one being filled, three in memory
_PARTIAL: Final = "partial"
_STALE_SECONDS: Final = 24 * 3600
_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Bucket(Protocol):
    """`[media.s3]`. Without keys, AWS's usual chain is asked for some."""

    @property
    def bucket(self) -> str: ...
    @property
    def region(self) -> str | None: ...
    @property
    def endpoint(self) -> str | None: ...
    @property
    def access_key_id(self) -> str | None: ...
    @property
    def secret_access_key(self) -> str | None: ...
    @property
    def prefix(self) -> str | None: ...
    @property
    def allow_http(self) -> bool: ...


class Place(Protocol):
    """`[media]`, as far as it says where files are kept."""

    @property
    def directory(self) -> Path: ...
    @property
    def s3(self) -> Bucket | None: ...


def open_store(place: Place) -> "ObjectFiles":
    """The bucket when there is one, else the directory. Nothing is made or asked before the first file."""
    bucket, directory = place.s3, place.directory.absolute()
    if bucket is None:
        return ObjectFiles(lambda: _local(directory), directory)
    return ObjectFiles(lambda: bucket_store(bucket), None)


class ObjectFiles:
    """Implements `router.domain.ports.FileStore`. Raises Unavailable when the store does not do its work.

    A file is written under a name of its own while it is hashed, then renamed: whole or not there. Two writers of
    the same bytes end at the same name; the later one changes nothing.
    """

    def __init__(self, connect: Callable[[], ObjectStore], directory: Path | None) -> None:
        self._connect, self._directory = connect, directory
        self._store: ObjectStore | None = None

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        store = await self._open()
        partial = f"{_PARTIAL}/{uuid4().hex}"
        stored = await self._write(store, partial, chunks, limit)
        try:
            with translated():
                await self._settle(store, partial, stored)
        except BaseException:
            await _drop(store, partial)
            raise
        return stored

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        if not _NAME.fullmatch(sha256):
            raise LookupError("that is no SHA-256")
        store = await self._open()
        with translated(reading=True):
            found = await obstore.get_async(store, _path(sha256))
            stream = found.stream(min_chunk_size=CHUNK)
        while True:
            with translated():
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def delete(self, sha256: str) -> None:
        if not _NAME.fullmatch(sha256):
            return
        store = await self._open()
        with translated(), suppress(FileNotFoundError):
            await obstore.delete_async(store, _path(sha256))

    async def _open(self) -> ObjectStore:
        if self._store is None:
            with translated():
                self._store = await asyncio.to_thread(self._connect)
        return self._store

    @staticmethod
    async def _write(store: ObjectStore, partial: str, chunks: AsyncIterator[bytes], limit: int) -> Stored:
        """Into `partial`, which is there only once all of it is. A writer that is let go leaves nothing behind."""
        digest, size, head = hashlib.sha256(), 0, b""
        writer = obstore.open_writer_async(store, partial, buffer_size=_PART, max_concurrency=_PARALLEL)
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise Rejected("too_large", f"the file has more than {limit} bytes", 413)
            digest.update(chunk)
            head += chunk[: HEAD - len(head)]
            with translated():
                await writer.write(chunk)
        if not size:
            raise Rejected("empty_file", "the file has no bytes")
        with translated():
            await writer.close()
        return Stored(digest.hexdigest(), size, mime_of(head))

    async def _settle(self, store: ObjectStore, partial: str, stored: Stored) -> None:
        name = _path(stored.sha256)
        with suppress(FileNotFoundError):
            there = await obstore.head_async(store, name)
            if there["size"] == stored.size:
                await obstore.delete_async(store, partial)
                return
        if self._directory is not None:
            await asyncio.to_thread(_to_disk, self._directory / partial)
        await obstore.rename_async(store, partial, name)
        if self._directory is not None:
            await asyncio.to_thread(_to_disk, (self._directory / name).parent)


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _local(directory: Path) -> ObjectStore:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # What a process that was killed had begun.
    for left in (directory / _PARTIAL).glob("*"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                left.unlink()
    return LocalStore(directory)


def bucket_store(bucket: Bucket) -> ObjectStore:
    """A connection to a bucket; nothing is asked yet."""
    given = {
        "region": bucket.region,
        "endpoint": bucket.endpoint,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
    }
    return S3Store(
        bucket.bucket,
        prefix=bucket.prefix,
        config={name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # built by name
        client_options={"allow_http": bucket.allow_http, "timeout": timedelta(seconds=60)},
        # Its own patience is short: whoever asks has a lease, and tries again later.
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def _to_disk(path: Path) -> None:
    """What the database is told of must outlive a power cut: the provider keeps it for days only."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _drop(store: ObjectStore, partial: str) -> None:
    with suppress(BaseError, OSError):
        await obstore.delete_async(store, partial)


@contextmanager
def translated(*, reading: bool = False) -> Iterator[None]:
    """The store's errors as ours. Their words may quote a key: only their names go on."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        # A bucket that is not there is no proof that the file is not.
        if reading and isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
            raise LookupError("there are no such bytes") from None
        raise Unavailable(f"the file store does not answer ({type(error).__name__})") from None
