"""What stands between the product and the provider: hands requests on, and spoils those it is told to."""

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

Spoil = Callable[[bytes], bytes | None]
"""The bytes to answer a request with, in the provider's stead; None: it is handed on."""


class Gate:
    """A server that is nothing but a socket on `port`; one request a connection."""

    def __init__(self, port: int, behind: str, spoil: Spoil) -> None:
        target = urlsplit(behind)
        self._host, self._port = target.hostname or "", target.port or 80
        self._listen, self._spoil = port, spoil

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self._listen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            request = await _request(reader)
            answer = self._spoil(request)
            writer.write(await self._handed_on(request) if answer is None else answer)
            await writer.drain()

    async def _handed_on(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        with contextlib.closing(writer):
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            writer.write(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            return await reader.read()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    named = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + await reader.readexactly(int(named[0].split(b":")[1]) if named else 0)


def once(words: str, status: str, body: str, *headers: str) -> Spoil:
    """Answer the first request that holds these words so."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", body]
    left = ["\r\n".join(lines).encode()]

    def spoil(request: bytes) -> bytes | None:
        return left.pop() if left and words.encode() in request else None

    return spoil


async def plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A port that knows no TLS, asked for it."""
    with contextlib.suppress(ConnectionError), contextlib.closing(writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
