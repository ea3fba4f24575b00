"""A multipart form with one file, streamed: its length is known before its bytes are."""

import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

_NAME_LENGTH: Final = 200
# As browsers write them (HTML, "multipart/form-data"): nothing in a name ends the line or the quotes.
_ESCAPED: Final = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A", 0: None}


@dataclass(frozen=True, slots=True)
class Form:
    """What stands around the file's bytes. `size` of the file in bytes."""

    fields: Mapping[str, str]
    name: str
    mime: str
    size: int
    boundary: str

    @property
    def headers(self) -> Mapping[str, str]:
        """Content-Length too: Meta takes no body of unknown length."""
        length = len(self._before()) + self.size + len(self._after())
        return {
            "Content-Type": f"multipart/form-data; boundary={self.boundary}",
            "Content-Length": str(length),
        }

    async def stream(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The body. Raises ValueError when the file has another size than was said: it would never end right."""
        yield self._before()
        sent = 0
        async for chunk in chunks:
            sent += len(chunk)
            if sent > self.size:
                raise ValueError("the stored file is longer than its row says")
            yield chunk
        if sent != self.size:
            raise ValueError("the stored file is shorter than its row says")
        yield self._after()

    def _before(self) -> bytes:
        texts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.fields.items()
        ]
        file = (
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="file"; filename="{self.name}"\r\n'
            f"Content-Type: {self.mime}\r\n\r\n"
        )
        return ("".join(texts) + file).encode()

    def _after(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")


def form(fields: Mapping[str, str], *, name: str | None, mime: str, size: int) -> Form:
    """With a boundary of its own; a file without a name gets one that its type explains."""
    given = (name or "").encode("utf-8", "replace").decode().strip()[-_NAME_LENGTH:]
    shown = given or f"file{mimetypes.guess_extension(mime) or ''}"
    return Form(fields, shown.translate(_ESCAPED), mime, size, f"figueira-{uuid4().hex}")
