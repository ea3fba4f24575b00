"""Giving an event to Rocket.Chat as it was received: same method, path, query, headers and bytes."""

import io
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from adapters.transport import retry_after
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Request

TIMEOUT = aiohttp.ClientTimeout(total=30.0, connect=3.0, sock_connect=3.0, sock_read=20.0)
ANSWER_BYTES = 64 * 1024
"""What is read of an answer so that its connection can be used again; nothing in it matters."""

# RFC 9110 §7.6.1, the two that are made anew, and `Expect`: a negotiation of one connection, already over
# when the body is here (aiohttp would wait for a 100 that may never come).
_NOT_PASSED = {
    b"host", b"content-length", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip
_ADDED_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_CERTAIN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_UNCERTAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}


def open_session(limit: int = 64) -> aiohttp.ClientSession:
    """A session that adds nothing of its own: no cookies kept, no environment read, no decompression."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=TIMEOUT,
        auto_decompress=False,
        trust_env=False,
    )


def within(seconds: float) -> aiohttp.ClientTimeout:
    """A forward takes at most so long, its answer included: less than the lease of its job."""
    return aiohttp.ClientTimeout(total=seconds, connect=TIMEOUT.connect, sock_connect=TIMEOUT.sock_connect)


class AiohttpForwarder:
    """Implements `router.domain.ports.Forwarder`. `session` is `open_session()`'s, shared by all channels."""

    def __init__(self, session: aiohttp.ClientSession, timeout: aiohttp.ClientTimeout = TIMEOUT) -> None:
        self._session, self._timeout = session, timeout

    async def forward(self, channel: Channel, request: Request) -> Result:
        if not channel.webhook_url:
            return Result(Outcome.PERMANENT, code="no_endpoint", asked=False)
        try:
            return await self._forward(
                endpoint(channel.webhook_url, request.raw_path, request.query), request
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Result(Outcome.RETRY, code="connect")
        except TimeoutError:
            return Result(Outcome.UNKNOWN, code="timeout")
        except (aiohttp.InvalidURL, ValueError):
            return Result(Outcome.PERMANENT, code="unwritable")
        except (aiohttp.ClientError, OSError, RuntimeError):
            return Result(Outcome.UNKNOWN, code="broken")

    async def _forward(self, url: URL, request: Request) -> Result:
        async with self._session.request(
            request.method,
            url,
            headers=passed(request.headers),
            skip_auto_headers=_ADDED_BY_AIOHTTP,
            # A file, because aiohttp warns about bytes above 1 MiB; its length is still declared.
            data=io.BytesIO(request.body) if request.body else None,
            allow_redirects=False,
            timeout=self._timeout,
        ) as response:
            await _drain(response)
            return _result(response.status, retry_after(response.headers))


def endpoint(webhook_url: str, raw_path: bytes, query: bytes) -> URL:
    """The endpoint with the received path and query appended, undecoded. Bytes no URL may hold are escaped."""
    base = urlsplit(webhook_url)
    tail = _ascii(raw_path)
    path = base.path.removesuffix("/") if tail.startswith("/") else base.path or "/"
    joined = "&".join(part for part in (base.query, _ascii(query)) if part)
    return URL(f"{base.scheme}://{base.netloc}{path}{tail}{'?' if joined else ''}{joined}", encoded=True)


def passed(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """The headers that go on, in their order, duplicates included."""
    pairs = list(headers)
    named = {
        token.strip().lower()
        for name, value in pairs
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = _NOT_PASSED | named
    spelled: dict[bytes, str] = {}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in pairs:
        lower = name.lower()
        if lower not in dropped:
            # aiohttp lets a second spelling of a name replace the first, so duplicates get one spelling.
            kept.add(spelled.setdefault(lower, name.decode("latin-1")), _text(value))
    return kept


def _text(value: bytes) -> str:
    """Headers are written as UTF-8, so that is how they must be read to come out the same.

    Raises ValueError for one that would end the header (no HTTP server hands such a value over).
    """
    if b"\r" in value or b"\n" in value:
        raise ValueError("a line break in a header")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _ascii(raw: bytes) -> str:
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E else f"%{byte:02X}" for byte in raw)  # noqa: PLR2004


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read and drop; the status has come, so a body that breaks changes nothing."""
    left = ANSWER_BYTES
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (aiohttp.ClientError, TimeoutError, OSError):
        response.close()


def _result(status: int, wait: float | None) -> Result:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Result(Outcome.OK)
    if status in _CERTAIN:
        return Result(Outcome.RETRY, code=str(status), retry_after=wait)
    if status in _UNCERTAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Result(Outcome.UNKNOWN, code=str(status))
    return Result(Outcome.PERMANENT, code=str(status))
