"""A download on a stranger's word: from public addresses only, checked once and asked at that very address."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

import httpx

from adapters.files.address import PORTS, Origin, Resolve, allowed_origins, is_public, origin_of, resolve
from adapters.files.content import HEAD, mime_of, settle
from adapters.transport import USER_AGENT, retry_after
from router.domain.errors import Rejected, Unavailable
from router.domain.job import Outcome, Result
from router.domain.media import Stored
from router.domain.ports import FileStore

REDIRECTS: Final = 3
PHASES: Final = httpx.Timeout(connect=3.0, read=20.0, write=20.0, pool=3.0)
_ADDRESSES: Final = 4  # of one host that are tried
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_GONE: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_NOT_US: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_LATER: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class Stopped(Exception):
    """A fetch that is over, with its Result."""

    def __init__(
        self, outcome: Outcome, code: str, retry_after: float | None = None, *, asked: bool = True
    ) -> None:
        super().__init__(code)
        self.result = Result(outcome, code=code, retry_after=retry_after, asked=asked)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the sender said of a file: its type, its digests (hex or base64; others say nothing)."""

    mime: str | None = None
    digests: tuple[str | None, ...] = ()

    def expected(self) -> frozenset[str]:
        """The digests in hex."""
        return frozenset(found for one in self.digests if (found := hex_digest(one)))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is asked for. `headers` go to the origin of `url` alone; `trusted` are origins an operator
    configured: asked over http, at any port and on private addresses too."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: frozenset[Origin] = frozenset()


class Fetcher:
    """Downloads into the file store. `allow_hosts`: "host" or "host:port" that are trusted for every source."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: FileStore,
        *,
        limit: int,
        allow_hosts: Collection[str] = (),
        resolve: Resolve = resolve,
    ) -> None:
        self._client, self._store, self._limit, self._resolve = client, store, limit, resolve
        self._allowed = allowed_origins(allow_hosts)

    async def fetch(self, source: Source, promise: Promise) -> tuple[Result, Stored | None]:
        """OK with what was stored. PERMANENT: "gone", "too_large", "empty_file", "hash", "address", "type" or
        "http_<status>". CHANNEL "http_401" or "http_403": our credentials are refused. RETRY: anything that may pass.
        Raises nothing; the time of the whole is the caller's to limit. Not asked: "address" (there nobody was) and RETRY
        "store", which is ours.
        """
        try:
            return Result(Outcome.OK), await self._follow(source, promise)
        except Stopped as stopped:
            return stopped.result, None
        except Rejected as rejected:
            return Result(Outcome.PERMANENT, code=rejected.code), None
        except Unavailable:
            return Result(Outcome.RETRY, code="store", asked=False), None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            return Result(Outcome.PERMANENT, code="address", asked=False), None
        except httpx.TimeoutException:
            return Result(Outcome.RETRY, code="timeout"), None
        except httpx.ConnectError:
            return Result(Outcome.RETRY, code="connect"), None
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, RuntimeError):
            return Result(Outcome.RETRY, code="broken"), None

    async def _follow(self, source: Source, promise: Promise) -> Stored:
        url = httpx.URL(source.url)
        first = origin_of(url)
        for _ in range(REDIRECTS + 1):
            headers = source.headers if origin_of(url) == first else {}
            addresses = await self._addresses(url, source.trusted)
            async with self._asked(url, addresses, headers) as response:
                location = response.headers.get("Location")
                if not (response.is_redirect and location):
                    return await self._kept(response, promise, credentials=bool(headers))
                url = url.join(location)
        raise Stopped(Outcome.PERMANENT, "address", asked=False)

    async def _addresses(self, url: httpx.URL, trusted: frozenset[Origin]) -> Sequence[str]:
        """The addresses of the host, all of them checked. Raises Stopped."""
        origin = origin_of(url)
        scheme, host, port = origin
        refused = Stopped(Outcome.PERMANENT, "address", asked=False)
        if scheme not in PORTS or not host or url.userinfo:
            raise refused
        known = origin in trusted or origin in self._allowed
        if not known and (scheme != "https" or port not in PORTS.values()):
            raise refused
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise Stopped(Outcome.RETRY, "connect") from None
        if not known and not all(map(is_public, found)):
            raise refused
        return found

    @asynccontextmanager
    async def _asked(
        self, url: httpx.URL, addresses: Sequence[str], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """The answer of the first address that takes a connection; its body unread."""
        response: httpx.Response | None = None
        for address in addresses[:_ADDRESSES]:
            try:
                response = await self._client.send(
                    self._request(url, address, headers), stream=True, follow_redirects=False
                )
                break
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        if response is None:
            raise Stopped(Outcome.RETRY, "connect")
        try:
            yield response
        finally:
            await response.aclose()

    def _request(self, url: httpx.URL, address: str, headers: Mapping[str, str]) -> httpx.Request:
        """To the checked address, in the name of the host: nothing is looked up a second time.

        The connection is closed after it: kept, it would serve another host at the same address, whose certificate
        nobody saw.
        """
        return self._client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={
                "Host": url.netloc.decode("ascii"),
                "User-Agent": USER_AGENT,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
                **headers,
            },
            extensions={"sni_hostname": url.raw_host.decode("ascii")} if url.host != address else {},
            timeout=PHASES,
        )

    async def _kept(self, response: httpx.Response, promise: Promise, *, credentials: bool) -> Stored:
        if not response.is_success:
            raise _refusal(response, credentials=credentials)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Stopped(
                Outcome.PERMANENT, "type"
            )  # packed though we asked for it plain: it may unpack to anything
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self._limit:
            raise Stopped(Outcome.PERMANENT, "too_large")
        # Raw: never unpacked, whatever the server says of it.
        async with aclosing(_checked(response.aiter_raw(), promise)) as chunks:
            stored = await self._store.save(chunks, limit=self._limit)
        return replace(stored, mime=settle(stored.mime, promise.mime) or stored.mime)


async def _checked(chunks: AsyncIterator[bytes], promise: Promise) -> AsyncGenerator[bytes, None]:
    """The same chunks. Stops before the store keeps what is not what was promised."""
    digest, head, judged = hashlib.sha256(), b"", False
    async for chunk in chunks:
        digest.update(chunk)
        if not judged:
            head += chunk[: HEAD - len(head)]
            judged = len(head) == HEAD
            if judged:
                _judge(head, promise)
        yield chunk
    if not judged and head:
        _judge(head, promise)
    if promise.expected() - {digest.hexdigest()}:
        raise Stopped(Outcome.PERMANENT, "hash")


def _judge(head: bytes, promise: Promise) -> None:
    if settle(mime_of(head), promise.mime) is None:
        raise Stopped(Outcome.PERMANENT, "type")


def _refusal(response: httpx.Response, *, credentials: bool) -> Stopped:
    status = response.status_code
    if status in _GONE:
        return Stopped(Outcome.PERMANENT, "gone")
    code = f"http_{status}"
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Stopped(Outcome.RETRY, code, retry_after(response.headers))
    if status in _NOT_US and credentials:
        return Stopped(Outcome.CHANNEL, code)
    return Stopped(Outcome.PERMANENT, code)


def hex_digest(claimed: str | None) -> str | None:
    """A SHA-256 as WhatsApp's webhooks (base64) and its API (hex) write it; None for anything else."""
    written = (claimed or "").strip()
    if _HEX.fullmatch(written.lower()):
        return written.lower()
    try:
        found = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found.hex() if len(found) == hashlib.sha256().digest_size else None
