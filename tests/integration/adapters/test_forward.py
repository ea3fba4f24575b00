from collections.abc import AsyncIterator

import aiohttp
import pytest

from adapters.rocketchat.forward import AiohttpForwarder, open_session
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Request
from tests.integration.adapters.raw import RawServer, Script, answer, reset, silence

SHORT = aiohttp.ClientTimeout(total=1.0, sock_connect=0.5, sock_read=0.3)


@pytest.fixture
async def forwarder() -> AsyncIterator[AiohttpForwarder]:
    async with open_session() as session:
        yield AiohttpForwarder(session, SHORT)


def channel(url: str) -> Channel:
    return Channel("zap", "whatsapp", "sol", webhook_url=f"{url}/api/apps/public/x/webhook?dept=1")


def request(body: bytes = b'{"a":"\\u00e1"}', **more: object) -> Request:
    fields: dict[str, object] = {"method": "POST", "raw_path": b"", "query": b"", "headers": (), "body": body}
    return Request(**{**fields, **more})  # type: ignore[arg-type]


async def test_byte_for_byte(server: RawServer, forwarder: AiohttpForwarder) -> None:
    body = bytes(range(256)) * 5000  # above 1 MiB, where aiohttp starts to warn
    headers = (
        (b"host", b"router.example"),
        (b"x-first", b"1"),
        (b"user-agent", b"facebookexternalua"),
        (b"content-type", b'application/json; charset="utf-8"'),
        (b"x-dup", b"a"),
        (b"accept", b"*/*"),
        (b"X-Dup", b"b"),
        (b"content-length", str(len(body)).encode()),
        (b"x-hub-signature-256", b"sha256=abc"),
        (b"connection", b"keep-alive, x-hop"),
        (b"x-hop", b"1"),
        (b"x-forwarded-for", b"203.0.113.7, 10.0.0.1"),
        (b"cookie", b"a=b"),
        (b"x-utf", "João".encode()),
        (b"expect", b"100-continue"),
        (b"x-empty", b""),
    )
    given = request(body, raw_path=b"/t%2Ft", query=b"hub.x=%20&hub.x=2", headers=headers)
    assert await forwarder.forward(channel(server.url), given) == Result(Outcome.OK)
    (raw,) = server.requests
    head, _, received = raw.partition(b"\r\n\r\n")
    assert received == body
    line, *fields = head.split(b"\r\n")
    assert line == b"POST /api/apps/public/x/webhook/t%2Ft?dept=1&hub.x=%20&hub.x=2 HTTP/1.1"
    pairs = [(name.lower(), value) for name, _, value in (field.partition(b": ") for field in fields)]
    assert (b"host", server.url.removeprefix("http://").encode()) in pairs
    assert (b"content-length", str(len(body)).encode()) in pairs
    rest = [pair for pair in pairs if pair[0] not in {b"host", b"content-length"}]
    dropped = {b"host", b"content-length", b"connection", b"x-hop", b"expect"}
    assert rest == [(name.lower(), value) for name, value in headers if name not in dropped]


async def test_nothing_is_added(server: RawServer, forwarder: AiohttpForwarder) -> None:
    server.script = answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    for _ in range(2):  # the second would carry the cookie
        await forwarder.forward(channel(server.url), request(b"", method="GET"))
    for raw in server.requests:
        names = {line.partition(b":")[0].lower() for line in raw.split(b"\r\n")[1:] if line}
        assert names == {b"host"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answer(b"HTTP/1.1 204 No Content\r\n\r\n"), Result(Outcome.OK)),
        # Rocket.Chat said yes; what it says after that changes nothing.
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"), Result(Outcome.OK)),
        (
            answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
            Result(Outcome.OK),
        ),
        (answer(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"), Result(Outcome.PERMANENT, code="302")),
        (answer(b"HTTP/1.1 404 Not Found\r\n\r\n"), Result(Outcome.PERMANENT, code="404")),
        (answer(b"HTTP/1.1 408 Slow\r\n\r\n"), Result(Outcome.UNKNOWN, code="408")),
        (
            answer(b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\n"),
            Result(Outcome.RETRY, code="429", retry_after=7.0),
        ),
        (answer(b"HTTP/1.1 500 Oops\r\n\r\n"), Result(Outcome.UNKNOWN, code="500")),
        (answer(b"HTTP/1.1 503 Later\r\n\r\n"), Result(Outcome.RETRY, code="503")),
        (answer(b"HTTP/1.1 2"), Result(Outcome.UNKNOWN, code="broken")),
        (answer(b"garbage\r\n\r\n"), Result(Outcome.UNKNOWN, code="broken")),
        (reset, Result(Outcome.UNKNOWN, code="broken")),
        (silence, Result(Outcome.UNKNOWN, code="timeout")),
    ],
)
async def test_answers(
    server: RawServer, forwarder: AiohttpForwarder, script: Script, expected: Result
) -> None:
    server.script = script
    assert await forwarder.forward(channel(server.url), request()) == expected
    assert len(server.requests) == 1


async def test_nobody_there(forwarder: AiohttpForwarder, nowhere: str) -> None:
    assert await forwarder.forward(channel(nowhere), request()) == Result(Outcome.RETRY, code="connect")


async def test_what_cannot_be_sent(forwarder: AiohttpForwarder) -> None:
    assert (await forwarder.forward(Channel("z", "whatsapp", "sol"), request())).code == "no_endpoint"
    wrong = Channel("z", "whatsapp", "sol", webhook_url="not a url")
    assert (await forwarder.forward(wrong, request())).outcome is Outcome.PERMANENT
    split = request(headers=((b"x", b"a\r\nb: c"),))
    assert (await forwarder.forward(channel("http://127.0.0.1:9"), split)).outcome is Outcome.PERMANENT
