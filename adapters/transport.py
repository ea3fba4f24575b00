"""One HTTP exchange; every way it can fail is sorted by the one question that matters: whether it left."""

import asyncio
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx

from adapters.payload import Malformed, load, mapping
from router.domain.job import Outcome, Result

USER_AGENT = "figueira/0.1.0"  # Meta's specification wants name/number.number.number
TIMEOUT = httpx.Timeout(connect=3.0, read=10.0, write=10.0, pool=3.0)
TOTAL_SECONDS = 25.0
"""The whole exchange: an answer that drips must not outlive the lease of its job."""
ANSWER_BYTES = 4 * 1024 * 1024

# Nothing left this machine, and it may later.
_NOT_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Nothing left and nothing ever will: a header or an address that cannot be written.
_UNWRITABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


HttpClient = httpx.AsyncClient
"""What `open_client` opens, for those who only hand it on."""


def open_client(seconds: float) -> httpx.AsyncClient:
    """The client all providers share; `seconds` for each phase but connecting. Reads nothing of the environment."""
    client = httpx.AsyncClient(timeout=httpx.Timeout(seconds, connect=TIMEOUT.connect), trust_env=False)
    # No cookie is ours: one that a stranger's file server sets must not travel further.
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer. `headers` compares names without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the class of success

    def document(self) -> Mapping[str, Any]:
        """The JSON object of the body; empty when there is none."""
        try:
            return mapping(load(self.body))
        except Malformed:
            return {}


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
    content: bytes | AsyncIterable[bytes] | None = None,
    timeout: httpx.Timeout | None = None,  # noqa: ASYNC109 - of each phase; the whole has `seconds`
    seconds: float | None = None,
) -> Answer | Result:
    """Send and read the whole answer, or the Result of not getting one. Raises nothing but what `content` raises.

    RETRY: no connection was made. CHANNEL "configuration": the address or a header cannot be written
    (not asked).
    UNKNOWN: it was (perhaps partly) written and no whole answer came.
    """
    try:
        request = client.build_request(
            method,
            url,
            headers={"User-Agent": USER_AGENT, **headers},
            params=params,
            content=content,
            timeout=timeout or TIMEOUT,
        )
    except (httpx.InvalidURL, ValueError, TypeError):
        return Result(Outcome.CHANNEL, code="configuration", asked=False)
    try:
        # The client's own limit is the policy's: no request outlives the permit and the lease it was made under.
        async with asyncio.timeout(seconds or min(TOTAL_SECONDS, client.timeout.read or TOTAL_SECONDS)):
            return await _exchange(client, request)
    except _NOT_LEFT:
        return Result(Outcome.RETRY, code="connect")
    except _UNWRITABLE:
        return Result(Outcome.CHANNEL, code="configuration", asked=False)
    except (httpx.TimeoutException, TimeoutError):
        return Result(Outcome.UNKNOWN, code="timeout")
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError, RuntimeError):
        return Result(Outcome.UNKNOWN, code="broken")


async def _exchange(client: httpx.AsyncClient, request: httpx.Request) -> Answer | Result:
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ANSWER_BYTES:
                return Result(Outcome.UNKNOWN, code="answer_too_large")
        return Answer(response.status_code, response.headers, bytes(body))
    finally:
        await response.aclose()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None when there is none, or it names a date."""
    written = headers.get("Retry-After", "")
    return float(written) if written.isascii() and written.isdigit() and len(written) < 7 else None  # noqa: PLR2004


def repeatable(result: Result) -> Result:
    """Of what may be done again freely: not knowing is as good as not done."""
    if result.outcome is Outcome.UNKNOWN:
        return Result(Outcome.RETRY, code=result.code, retry_after=result.retry_after)
    return result
