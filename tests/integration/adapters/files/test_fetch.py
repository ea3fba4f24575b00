import asyncio
import base64
import gzip
import hashlib
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from aiohttp import web as aioweb

from adapters.files.address import origins
from adapters.files.fetch import Fetcher, Promise, Source
from adapters.files.store import ObjectFiles
from adapters.transport import open_client
from router.domain.job import Outcome, Result
from router.domain.media import Stored
from tests.integration.adapters.files.scene import names
from tests.integration.adapters.files.web import Web
from tests.integration.adapters.raw import RawServer, answer, reset
from tests.unit.adapters.files.samples import JPEG, PAGE, PDF

MB = 1024 * 1024
LIMIT = 4 * MB
SHA = hashlib.sha256(JPEG).hexdigest()
IMAGE = Promise("image/jpeg", (SHA,))
UNSAFE = (Result(Outcome.PERMANENT, code="address", asked=False), None)


@pytest.fixture
def fetcher(client: httpx.AsyncClient, store: ObjectFiles, web: Web) -> Fetcher:
    """The page's host is one of `allow_hosts`; so is `files.example`, a name of it."""
    look, _ = names(files_example="127.0.0.1", **{"127_0_0_1": "127.0.0.1"})
    hosts = [web.host, f"files.example:{web.port}"]
    return Fetcher(client, store, limit=LIMIT, allow_hosts=hosts, resolve=look)


async def get(fetcher: Fetcher, url: str, promise: Promise = IMAGE) -> tuple[Result, Stored | None]:
    return await fetcher.fetch(Source(url), promise)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_is_fetched_checked_and_kept(fetcher: Fetcher, web: Web, store: ObjectFiles) -> None:
    web.says("/a", JPEG, Set_Cookie="tracked=1")
    for _ in range(2):
        result, stored = await get(fetcher, f"http://files.example:{web.port}/a?x=%2F#part")
        assert (result, stored) == (Result(Outcome.OK), Stored(SHA, len(JPEG), "image/jpeg"))
    assert web.paths == ["/a?x=%2F"] * 2
    sent = web.asked[1].headers
    assert sent["Host"] == f"files.example:{web.port}"
    assert sent["Accept-Encoding"] == "identity"
    assert sent["Connection"] == "close"
    assert "Cookie" not in sent
    assert b"".join([chunk async for chunk in store.open(SHA)]) == JPEG


async def test_a_digest_in_base64_is_a_digest(fetcher: Fetcher, web: Web) -> None:
    web.says("/a", JPEG)
    written = base64.b64encode(bytes.fromhex(SHA)).decode()
    assert (await get(fetcher, f"{web.url}/a", Promise("image/jpeg", (written, None, "abc"))))[1] is not None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (404, {}, Result(Outcome.PERMANENT, code="gone")),
        (410, {}, Result(Outcome.PERMANENT, code="gone")),
        (403, {}, Result(Outcome.PERMANENT, code="http_403")),
        (418, {}, Result(Outcome.PERMANENT, code="http_418")),
        (304, {}, Result(Outcome.PERMANENT, code="http_304")),
        (429, {"Retry_After": "7"}, Result(Outcome.RETRY, code="http_429", retry_after=7.0)),
        (408, {}, Result(Outcome.RETRY, code="http_408")),
        (500, {}, Result(Outcome.RETRY, code="http_500")),
        (503, {"Retry_After": "9"}, Result(Outcome.RETRY, code="http_503", retry_after=9.0)),
    ],
)
async def test_answers(
    fetcher: Fetcher, web: Web, status: int, headers: dict[str, str], expected: Result
) -> None:
    web.says("/a", JPEG, status, **headers)
    assert await get(fetcher, f"{web.url}/a") == (expected, None)


async def test_a_refusal_of_our_credentials_is_the_channels(fetcher: Fetcher, web: Web) -> None:
    web.says("/a", status=401)
    given = Source(f"{web.url}/a", {"Authorization": "Bearer secret"})
    assert await fetcher.fetch(given, IMAGE) == (Result(Outcome.CHANNEL, code="http_401"), None)


# what it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "promise", "code"),
    [
        (JPEG + b"x", IMAGE, "hash"),
        (PAGE, Promise("image/jpeg"), "type"),
        (PAGE + b" " * 40_000, Promise("image/jpeg"), "type"),
        (PDF, Promise("audio/ogg"), "type"),
        (b"", Promise("image/jpeg"), "empty_file"),
        (bytes(LIMIT + 1), Promise(), "too_large"),
    ],
    ids=["a byte more", "a page", "a long page", "a document", "nothing", "too much"],
)
async def test_what_is_not_what_was_promised_is_not_kept(
    fetcher: Fetcher, web: Web, tmp_path: Path, body: bytes, promise: Promise, code: str
) -> None:
    web.says("/a", body, mime="image/jpeg")
    assert await get(fetcher, f"{web.url}/a", promise) == (Result(Outcome.PERMANENT, code=code), None)
    await asyncio.sleep(0.1)
    assert files(tmp_path) == []


async def test_a_document_is_what_its_bytes_say(fetcher: Fetcher, web: Web) -> None:
    web.says("/a", PAGE, mime="application/pdf")
    _, stored = await get(fetcher, f"{web.url}/a", Promise("application/pdf"))
    assert stored is not None
    assert stored.mime == "text/html"


async def test_a_packed_body_is_never_unpacked(fetcher: Fetcher, web: Web, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 * MB))
    web.says("/a", bomb, Content_Encoding="gzip")
    assert await get(fetcher, f"{web.url}/a", Promise()) == (Result(Outcome.PERMANENT, code="type"), None)
    assert files(tmp_path) == []


# how it comes ------------------------------------------------------------------------------------------------


@pytest.fixture
def raw_fetcher(client: httpx.AsyncClient, store: ObjectFiles, server: RawServer) -> Fetcher:
    return Fetcher(client, store, limit=LIMIT, allow_hosts=[server.url.removeprefix("http://")])


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        # It says more than there is, less than there is, too much, or nothing sensible.
        (b"Content-Length: 500", JPEG, Result(Outcome.RETRY, code="broken")),
        (b"Content-Length: 20", JPEG, Result(Outcome.PERMANENT, code="hash")),
        (b"Content-Length: 99999999999", b"", Result(Outcome.PERMANENT, code="too_large")),
        (b"Content-Length: -5", JPEG, Result(Outcome.RETRY, code="broken")),
        (b"Transfer-Encoding: chunked", b"ffffffff\r\n" + JPEG, Result(Outcome.RETRY, code="broken")),
    ],
    ids=["more", "less", "too much", "negative", "chunk"],
)
async def test_a_length_that_lies(
    raw_fetcher: Fetcher, server: RawServer, head: bytes, body: bytes, expected: Result
) -> None:
    server.script = answer(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
    assert await get(raw_fetcher, f"{server.url}/a") == (expected, None)


async def test_a_body_without_an_end_is_cut_at_the_limit(raw_fetcher: Fetcher, server: RawServer) -> None:
    sent = 0

    async def endless(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    server.script = endless
    assert (await get(raw_fetcher, f"{server.url}/a", Promise()))[0].code == "too_large"
    assert sent < LIMIT + 16 * MB  # what stood in the sockets' buffers


async def test_what_breaks_may_be_tried_again(
    raw_fetcher: Fetcher, server: RawServer, fetcher: Fetcher, nowhere: str, client: httpx.AsyncClient, store: ObjectFiles
) -> None:  # fmt: skip
    server.script = reset
    assert (await get(raw_fetcher, f"{server.url}/a"))[0] == Result(Outcome.RETRY, code="broken")
    assert (await get(fetcher, "https://unknown.example/a"))[0] == Result(Outcome.RETRY, code="connect")
    alone = Fetcher(client, store, limit=LIMIT, allow_hosts=[nowhere.removeprefix("http://")])
    assert (await get(alone, f"{nowhere}/a"))[0] == Result(Outcome.RETRY, code="connect")


async def test_memory_does_not_grow_with_the_file(
    client: httpx.AsyncClient, store: ObjectFiles, web: Web
) -> None:
    async def large(request: aioweb.Request) -> aioweb.StreamResponse:
        response = aioweb.StreamResponse()
        await response.prepare(request)
        for _ in range(60 * 16):
            await response.write(bytes(65536))
        return response

    web.pages["/a"] = large
    fetcher = Fetcher(client, store, limit=100 * MB, allow_hosts=[web.host])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted from here
    before = resident("VmRSS")
    tracemalloc.start()
    try:
        result, stored = await get(fetcher, f"{web.url}/a", Promise())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.outcome is Outcome.OK
    assert stored is not None
    assert stored.size == 60 * MB
    # The store's parts of 5 MiB: one that fills, two on their way.
    assert peak < 20 * MB
    assert resident("VmHWM") - before < 40 * MB


def resident(name: str) -> int:
    line = next(
        one for one in Path("/proc/self/status").read_text("ascii").splitlines() if one.startswith(name)
    )
    return int(line.split()[1]) * 1024


# where it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://10.0.0.1/",
        "https://intern.example/",
        "https://mixed.example/",
        "https://public.example:8443/",
        "http://public.example/",
        "https://user:password@public.example/",
        "https://files.example\\@public.example/",
        "ftp://public.example/",
        "file:///etc/passwd",
        "//public.example/a",
        "public.example/a",
        "https:///a",
        "https://[::1/",
        "https://a b/",
        "",
        "x" * 70_000,
    ],
)
async def test_unsafe_addresses_are_never_asked(
    client: httpx.AsyncClient, store: ObjectFiles, url: str
) -> None:
    async def look(host: str, _: int) -> Sequence[str]:
        known = {
            "intern.example": ["127.0.0.1"],
            "mixed.example": ["93.184.215.14", "192.168.0.1"],
            "public.example": ["93.184.215.14"],
        }
        return known.get(host, [host])

    client = httpx.AsyncClient(transport=httpx.MockTransport(unexpected))
    fetcher = Fetcher(client, store, limit=LIMIT, resolve=look)
    assert await get(fetcher, url) == UNSAFE


def unexpected(request: httpx.Request) -> httpx.Response:
    raise AssertionError("it was asked")


async def test_a_host_is_trusted_at_its_port_only(
    client: httpx.AsyncClient, store: ObjectFiles, web: Web
) -> None:
    web.says("/a", JPEG)
    fetcher = Fetcher(client, store, limit=LIMIT, allow_hosts=["127.0.0.1"])
    assert await get(fetcher, f"{web.url}/a") == UNSAFE
    given = Source(f"{web.url}/a", trusted=origins(web.url))
    assert (await fetcher.fetch(given, IMAGE))[0].outcome is Outcome.OK


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest", "https://intern.example/", "//127.0.0.1:1/", "file:///etc/passwd", "https://[::1]/"],
)  # fmt: skip
async def test_a_redirect_is_checked_like_the_first_address(
    client: httpx.AsyncClient, store: ObjectFiles, web: Web, target: str
) -> None:
    look, _ = names(
        intern_example="10.1.2.3",
        **{"127_0_0_1": "127.0.0.1", "169_254_169_254": "169.254.169.254", "::1": "::1"},
    )
    fetcher = Fetcher(client, store, limit=LIMIT, allow_hosts=[web.host], resolve=look)
    web.says("/a", status=302, Location=target)
    assert await get(fetcher, f"{web.url}/a") == UNSAFE
    assert len(web.asked) == 1


async def test_three_redirects_are_followed_and_no_more(fetcher: Fetcher, web: Web) -> None:
    web.says("/a", JPEG)
    for at, status in enumerate((301, 302, 307, 308)):
        web.says(f"/{at}", status=status, Location=f"/{at + 1}" if at < 3 else "a")
    assert (await get(fetcher, f"{web.url}/1"))[0].outcome is Outcome.OK
    assert await get(fetcher, f"{web.url}/0") == UNSAFE


async def test_credentials_stay_with_their_origin(fetcher: Fetcher, web: Web) -> None:
    web.says("/a", status=302, Location="/b")
    web.says("/b", status=302, Location=f"http://files.example:{web.port}/c")
    web.says("/c", JPEG)
    given = Source(f"{web.url}/a", {"Authorization": "Bearer secret", "X-Auth-Token": "secret"})
    assert (await fetcher.fetch(given, IMAGE))[0].outcome is Outcome.OK
    told = [("Authorization" in one.headers, "X-Auth-Token" in one.headers) for one in web.asked]
    assert told == [(True, True), (True, True), (False, False)]


async def test_a_host_is_looked_up_once_and_its_next_address_tried(
    client: httpx.AsyncClient, store: ObjectFiles, web: Web
) -> None:
    look, asked = names(files_example=["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
    fetcher = Fetcher(client, store, limit=LIMIT, allow_hosts=[f"files.example:{web.port}"], resolve=look)
    web.says("/a", JPEG)
    assert (await get(fetcher, f"http://files.example:{web.port}/a"))[0].outcome is Outcome.OK
    assert asked == [f"files.example:{web.port}"]


async def test_a_strangers_cookie_is_not_kept(web: Web) -> None:
    web.says("/a", Set_Cookie="tracked=1")
    async with open_client(5.0) as client:
        await client.get(f"{web.url}/a")
        assert not client.cookies
