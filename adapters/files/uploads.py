"""Where Rocket.Chat put its uploads, to be read once: a folder of its server, or a bucket of S3."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import obstore
from obstore.store import ObjectStore

from adapters.files.store import CHUNK, Bucket, bucket_store, translated
from router.domain.errors import ConfigurationError, Unavailable

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = _FLAGS | os.O_DIRECTORY
_FILE: Final = _FLAGS | os.O_NONBLOCK  # a pipe of that name is not waited for


def open_uploads(given: str, bucket: Bucket | None) -> "Folder | Objects":
    """`--uploads`: a folder, or `s3://bucket/prefix`. `bucket`: the settings' own, whose endpoint and keys serve here
    too; without one, AWS's usual chain. Raises ConfigurationError."""
    if not given.startswith("s3://"):
        folder = Path(given)
        if not folder.is_dir():
            raise ConfigurationError(
                "--uploads: there is no such folder; name a folder or s3://bucket/prefix"
            )
        return Folder(folder)
    address = urlsplit(given)
    name, prefix = address.netloc, address.path.strip("/")
    if not name or "@" in name or address.query or address.fragment:
        raise ConfigurationError("--uploads: write a bucket as s3://bucket/prefix")
    return Objects(bucket_store(_Named.like(bucket, name, prefix or None)))


@dataclass(frozen=True, slots=True)
class _Named:
    """A bucket asked with the settings of another."""

    bucket: str
    prefix: str | None
    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    allow_http: bool = False

    @classmethod
    def like(cls, known: Bucket | None, name: str, prefix: str | None) -> "_Named":
        if known is None:
            return cls(name, prefix)
        return cls(
            name, prefix, known.region, known.endpoint, known.access_key_id, known.secret_access_key,
            known.allow_http,
        )  # fmt: skip


def _parts(path: str) -> list[str]:
    """A name's steps, none of which leads up or elsewhere. Raises LookupError."""
    parts = path.split("/")
    if "\x00" in path or any(part in {"", ".", ".."} for part in parts):
        raise LookupError("that is no name of a file in there")
    return parts


class Objects:
    """Implements `migration.uploads.Place` on a bucket. Raises Unavailable when it does not answer."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def open(self, path: str) -> AsyncIterator[bytes]:
        """See Place."""
        name = "/".join(_parts(path))
        with translated(reading=True):
            found = await obstore.get_async(self._store, name)
            stream = found.stream(min_chunk_size=CHUNK)
        while True:
            with translated():
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


class Folder:
    """Implements `migration.uploads.Place` on a folder. A link in it, of a file or a folder, is not followed: whoever
    may upload must not choose what of this machine is taken for an upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, path: str) -> AsyncIterator[bytes]:
        """See Place. Raises Unavailable when it is there and cannot be read."""
        parts = _parts(path)
        descriptor = await asyncio.to_thread(self._find, parts)
        try:
            while chunk := await asyncio.to_thread(_read, descriptor):
                yield chunk
        finally:
            os.close(descriptor)

    def _find(self, parts: list[str]) -> int:
        try:
            at = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for place, part in enumerate(parts, 1):
                above = at
                try:
                    at = os.open(part, _FILE if place == len(parts) else _DIRECTORY, dir_fd=above)
                finally:
                    os.close(above)
        except PermissionError:
            raise Unavailable("the folder of uploads holds a file that may not be read") from None
        except OSError:
            raise LookupError("there is no such file") from None
        if not stat.S_ISREG(os.fstat(at).st_mode):
            os.close(at)
            raise LookupError("that is no file")
        return at


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4 * CHUNK)
    except OSError as error:
        raise Unavailable(f"a file of the uploads cannot be read ({type(error).__name__})") from None
