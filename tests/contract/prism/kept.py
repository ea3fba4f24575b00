"""A file store with one file in it."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

from router.domain.media import Media, MediaState, Origin, Stored

BYTES = b"\xff\xd8\xff\xe0 um retrato"
SHA256 = hashlib.sha256(BYTES).hexdigest()


class Kept:
    """Implements `router.domain.ports.FileStore`."""

    def __init__(self) -> None:
        self.saved: list[bytes] = []

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        body = b"".join([chunk async for chunk in chunks])
        assert len(body) <= limit
        self.saved.append(body)
        return Stored(hashlib.sha256(body).hexdigest(), len(body), "application/octet-stream")

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        assert sha256 == SHA256
        yield BYTES

    async def delete(self, sha256: str) -> None:
        raise AssertionError("nobody erases here")


def picture(origin: Origin = Origin.UPLOAD, ref: str = "") -> Media:
    """A row of the one file; `ref` is what its origin calls it."""
    return Media(
        UUID(int=7), "sol", "zap", origin, ref, datetime(2026, 3, 1, tzinfo=UTC), MediaState.STORED,
        mime="image/jpeg", name="retrato.jpg", size=len(BYTES), sha256=SHA256,
    )  # fmt: skip
