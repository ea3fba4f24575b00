"""The files that customers, the router and Rocket.Chat's app give to WhatsApp."""

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# So that a file made up by its size looks like what it says it is.
_BEGINNINGS = {
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "audio/ogg": b"OggS\x00\x02",
    "audio/mpeg": b"ID3\x03\x00",
    "video/mp4": b"\x00\x00\x00\x18ftypmp42",
    "application/pdf": b"%PDF-1.7\n",
}


@dataclass
class File:
    """A file as WhatsApp holds it. `by`: patient, native or rocketchat, whoever brought it."""

    id: str
    number_id: str
    data: bytes = field(repr=False)
    mime: str
    by: str
    filename: str | None = None

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.data).digest()

    @property
    def sha256(self) -> str:
        """In hex, as GET /{media-id} has it."""
        return self.digest.hex()

    @property
    def sha256_base64(self) -> str:
        """As webhooks have it."""
        return base64.b64encode(self.digest).decode("ascii")


class FileStore:
    """Files by their media id, and the addresses they can be fetched from for a while."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._links: dict[str, tuple[str, float]] = {}

    def clear(self) -> None:
        self._files.clear()
        self._links.clear()

    def add(self, number_id: str, data: bytes, mime: str, by: str, filename: str | None = None) -> File:
        file = File(str(secrets.randbelow(9 * 10**15) + 10**15), number_id, data, mime, by, filename)
        self._files[file.id] = file
        return file

    def find(self, media_id: str) -> File | None:
        return self._files.get(media_id)

    def remove(self, file: File) -> None:
        self._files.pop(file.id, None)

    def link(self, file: File, seconds: float) -> str:
        """The query of an address that serves `seconds`: mid, ext (when it ends), hash."""
        key, ends = secrets.token_urlsafe(24), time.time() + seconds
        self._links[key] = file.id, ends
        return f"mid={file.id}&ext={int(ends)}&hash={key}"

    def linked(self, media_id: str, key: str) -> File | None:
        """The file an address leads to; None once it has run out."""
        found, ends = self._links.get(key, ("", 0.0))
        return self.find(media_id) if found == media_id and time.time() < ends else None


def content(given: Mapping[str, Any]) -> tuple[bytes, str]:
    """The bytes and type of a file told to control: {content_base64 | size, mime}. Raises ValueError."""
    mime = str(given.get("mime") or "application/octet-stream")
    if "content_base64" in given:
        try:
            return base64.b64decode(given["content_base64"], validate=True), mime
        except binascii.Error as error:
            raise ValueError(f"content_base64: {error}") from None
    if "size" not in given:
        raise ValueError("a file needs content_base64 or size")
    size = int(given["size"])
    start = _BEGINNINGS.get(mime.partition(";")[0], b"")[:size]
    return start + secrets.token_bytes(min(size - len(start), 1024)).ljust(size - len(start), b"."), mime
