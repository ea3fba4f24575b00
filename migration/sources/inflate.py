"""gzip as a stream of bytes that loses nothing: what can be inflated before damage is given before the damage is told."""

import zlib
from collections.abc import Callable
from typing import Final

from migration.documents import BLOCK_BYTES
from migration.sources.frames import Damaged

MAGIC: Final = b"\x1f\x8b"
_COMPRESSED: Final = 64 * 1024
_GZIP: Final = 31  # zlib's window bits: a gzip header, the largest window


class Inflated:
    """One gzip member after the other, zeros between them passed over. Call it to read, as any `Read`."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._inflate = zlib.decompressobj(_GZIP)
        self._inside = True  # a member; else between two
        self._ahead = b""  # compressed bytes
        self._ended = False
        self._consumed = 0  # compressed bytes taken from `read`
        self._damage: Damaged | None = None

    def __call__(self, size: int) -> bytes:
        """At most about so many bytes, b"" at the end. Raises Damaged."""
        while True:
            if self._damage:
                raise self._damage
            if not self._ahead and not self._ended:
                self._ahead = self._read(_COMPRESSED)
                self._consumed += len(self._ahead)
                self._ended = not self._ahead
            piece = self._piece(size)
            if piece:
                return piece
            if self._ended and not self._ahead:
                return self._last(size)

    def skip(self, size: int) -> None:
        """Pass over so many bytes, or all there are. Damage among them is told by the next call."""
        try:
            while size > 0:
                piece = self(min(size, BLOCK_BYTES))
                if not piece:
                    return
                size -= len(piece)
        except Damaged as damage:
            self._damage = damage

    def _piece(self, size: int) -> bytes:
        if not self._inside:
            self._ahead = self._ahead.lstrip(b"\x00")
            if not self._ahead:
                return b""
            self._inflate = zlib.decompressobj(_GZIP)
            self._inside = True
        before = self._inflate.copy()
        try:
            piece = self._inflate.decompress(self._ahead, size)
        except zlib.error:
            begin = self._consumed - len(self._ahead)
            piece, stopped = _salvaged(before, self._ahead)
            self._damage = Damaged("invalid_bson", f"the gzip data is damaged at its byte {begin + stopped}")
            return piece
        self._ahead = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._ahead = self._inflate.unused_data
            self._inside = False
        return piece

    def _last(self, size: int) -> bytes:
        piece = self._inflate.decompress(b"", size) if self._inside else b""
        if self._inside and not piece:
            raise Damaged("truncated", f"the gzip data ends at its byte {self._consumed}, in the middle")
        return piece


def _salvaged(inflate: "zlib._Decompress", ahead: bytes) -> tuple[bytes, int]:
    """All that comes out before the error, and how many compressed bytes were good: zlib gives nothing of a call that
    fails, so the calls are made small."""
    pieces: list[bytes] = []
    for at in range(len(ahead)):
        try:
            pieces.append(inflate.decompress(ahead[at : at + 1]))
        except zlib.error:
            return b"".join(pieces), at
    return b"".join(pieces), len(ahead)
