import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiohttp import web as aioweb

from adapters.files.exchange import FileExchange
from adapters.files.store import ObjectFiles
from adapters.files.whatsapp import Located, MediaApi, media_api
from router.domain.channel import Channel
from router.domain.errors import Unavailable
from router.domain.job import Outcome, Result
from router.domain.media import Origin, Stored
from router.domain.ports import Files
from tests.integration.adapters.files.scene import (
    CHAT,
    KEPT,
    MB,
    MEDIA,
    OK,
    SHA,
    chunks,
    cloud,
    dialog,
    media_of,
    sent,
    told,
)
from tests.integration.adapters.files.web import Web
from tests.unit.adapters.files.samples import JPEG, PAGE

NOWHERE = Result(Outcome.PERMANENT, code="address", asked=False)

# from the provider -------------------------------------------------------------------------------------------


async def test_metas_two_steps(files: Files, web: Web, store: ObjectFiles) -> None:
    web.json("/v23.0/15", told(web))
    web.says("/bytes", JPEG)
    assert await files.fetch(cloud(web), MEDIA) == (OK, KEPT)
    assert web.paths == ["/v23.0/15?phone_number_id=700", "/bytes"]
    assert sent(web, "Authorization") == ["Bearer meta-secret"] * 2
    assert b"".join([chunk async for chunk in store.open(SHA)]) == JPEG


async def test_an_id_is_a_single_step_of_the_path(files: Files, web: Web) -> None:
    await files.fetch(cloud(web), replace(MEDIA, ref="../../me?fields=x#y"))
    assert web.asked[0].rel_url.raw_path == "/v23.0/..%2F..%2Fme%3Ffields%3Dx%23y"


async def test_a_medium_without_a_digest(files: Files, web: Web) -> None:
    document = told(web)
    del document["sha256"]
    web.json("/v23.0/15", document)
    web.says("/bytes", JPEG)
    assert await files.fetch(cloud(web), replace(MEDIA, sha256=None)) == (OK, KEPT)


@pytest.mark.parametrize("claimed", ["the webhook", "the API"])
async def test_either_digest_must_hold(files: Files, web: Web, claimed: str) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    web.json("/v23.0/15", told(web, **({"sha256": wrong} if claimed == "the API" else {})))
    web.says("/bytes", JPEG)
    media = replace(MEDIA, sha256=wrong if claimed == "the webhook" else SHA)
    assert await files.fetch(cloud(web), media) == (Result(Outcome.PERMANENT, code="hash"), None)


async def test_an_address_that_ran_out_is_asked_for_again_once(files: Files, web: Web) -> None:
    for status in (401, 403, 404):
        web.json("/v23.0/15", told(web, url=f"{web.url}/old"), told(web))
        web.says("/old", b"expired", status)
        web.says("/bytes", JPEG)
        assert await files.fetch(cloud(web), MEDIA) == (OK, KEPT)
        assert [request.path for request in web.asked] == ["/v23.0/15", "/old", "/v23.0/15", "/bytes"]
        web.asked.clear()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, Result(Outcome.PERMANENT, code="gone")),
        (403, Result(Outcome.RETRY, code="http_403")),
        (503, Result(Outcome.RETRY, code="http_503")),
    ],
)
async def test_an_address_that_never_serves(files: Files, web: Web, status: int, expected: Result) -> None:
    web.json("/v23.0/15", told(web))
    web.says("/bytes", b"", status)
    assert await files.fetch(cloud(web), MEDIA) == (expected, None)
    assert len(web.asked) == (2 if status == 503 else 4)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, {"error": {"code": 190, "message": "expired"}}, Result(Outcome.CHANNEL, code="190")),
        (403, {"error": {"code": 10}}, Result(Outcome.CHANNEL, code="10")),
        (401, {}, Result(Outcome.CHANNEL, code="http_401")),
        (400, {"error": {"code": 100, "error_subcode": 33}}, Result(Outcome.PERMANENT, code="gone")),
        (404, {"meta": {"developer_message": "no"}}, Result(Outcome.PERMANENT, code="gone")),
        (400, {"error": {"code": 80007}}, Result(Outcome.RETRY, code="80007")),
        (500, {}, Result(Outcome.RETRY, code="http_500")),
        (429, {}, Result(Outcome.RETRY, code="http_429")),
        (200, {"id": "15"}, Result(Outcome.RETRY, code="no_url")),
        (200, {"url": "https://[::1", "id": "15"}, Result(Outcome.PERMANENT, code="address")),
        (200, {"url": "x", "file_size": 21 * MB}, Result(Outcome.PERMANENT, code="too_large")),
    ],
)
async def test_what_the_media_api_says(
    files: Files, web: Web, status: int, body: dict[str, Any], expected: Result
) -> None:
    web.json("/v23.0/15", body, status=status)
    assert await files.fetch(cloud(web), MEDIA) == (expected, None)
    assert len(web.asked) == 1


async def test_the_key_never_leaves_in_the_clear(files: Files, client: httpx.AsyncClient, store: ObjectFiles, web: Web) -> None:  # fmt: skip
    async with Web() as other:
        other.says("/bytes", JPEG)
        web.json("/v23.0/15", told(web, url=f"{other.url}/bytes"))
        assert await files.fetch(cloud(web), MEDIA) == (NOWHERE, None)
        assert other.asked == []
        trusting = FileExchange(
            client, store, rocketchat=None, limit=MB, seconds=5.0, allow_hosts=[other.host]
        )
        assert await trusting.fetch(cloud(web), MEDIA) == (OK, KEPT)
        assert sent(other, "Authorization") == [None]


@pytest.mark.parametrize(
    ("url", "told_key"),
    [
        ("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", True),
        ("https://scontent.xx.fbcdn.net/m", False),
        ("https://graph.facebook.com/v23.0/1", True),
        ("https://FACEBOOK.com/1", True),
        ("https://mmg.whatsapp.net/1", True),
        ("https://mmg.whatsapp.net:8443/1", False),
        ("http://lookaside.fbsbx.com/1", False),
        ("https://evilfbsbx.com/1", False),
        ("https://fbsbx.com.evil.example/1", False),
        ("https://fbsbx.com@evil.example/1", False),
        ("https://files.example/1", False),
    ],
)
async def test_the_key_goes_to_metas_own_hosts(web: Web, client: httpx.AsyncClient, url: str, told_key: bool) -> None:  # fmt: skip
    web.json("/v23.0/15", told(web, url=url))
    api = media_api(cloud(web))
    assert isinstance(api, MediaApi)
    located = await api.locate(client, MEDIA)
    assert isinstance(located, Located)
    assert located.source.url == str(httpx.URL(url))
    assert dict(located.source.headers) == ({"Authorization": "Bearer meta-secret"} if told_key else {})


async def test_an_id_nobody_knows_is_gone_and_a_number_nobody_knows_is_ill(
    files: Files, web: Web, store: ObjectFiles
) -> None:
    unknown = {"error": {"code": 100, "error_subcode": 33}}
    web.json("/v23.0/15", unknown, status=400)
    web.json("/v23.0/700/media", unknown, status=400)
    assert await files.fetch(cloud(web), MEDIA) == (Result(Outcome.PERMANENT, code="gone"), None)
    stored = await store.save(chunks(JPEG), limit=MB)
    ill = Result(Outcome.CHANNEL, code="100")
    assert await files.upload("native", cloud(web), media_of(stored), None) == ill


async def test_an_html_page_is_no_image(files: Files, web: Web) -> None:
    web.json("/v23.0/15", told(web, sha256=None, file_size=None))
    web.says("/bytes", PAGE, mime="image/jpeg")
    assert (await files.fetch(cloud(web), replace(MEDIA, sha256=None)))[0] == Result(
        Outcome.PERMANENT, code="type"
    )


async def test_360dialog_serves_metas_address_itself(files: Files, web: Web) -> None:
    meta = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=15&ext=1&hash=A-b_c"
    web.json("/15", told(web, url=meta, sha256="abc"))
    web.says("/whatsapp_business/attachments/", JPEG)
    assert await files.fetch(dialog(web), MEDIA) == (OK, KEPT)
    assert web.paths == ["/15", "/whatsapp_business/attachments/?mid=15&ext=1&hash=A-b_c"]
    assert sent(web, "D360-API-KEY") == ["dialog-secret"] * 2


async def test_360dialogs_own_refusals(files: Files, web: Web) -> None:
    web.json("/15", {"meta": {"developer_message": "no key"}}, status=401)
    assert await files.fetch(dialog(web), MEDIA) == (Result(Outcome.CHANNEL, code="http_401"), None)
    web.json("/15", {"errors": [{"code": 100, "title": "x"}]}, status=400)
    assert await files.fetch(dialog(web), MEDIA) == (Result(Outcome.PERMANENT, code="gone"), None)


async def test_channels_that_cannot(files: Files, web: Web) -> None:
    ill = Result(Outcome.CHANNEL, code="configuration", asked=False)
    assert await files.fetch(cloud(web, access_token=""), MEDIA) == (ill, None)
    unsupported = Result(Outcome.PERMANENT, code="unsupported", asked=False)
    assert await files.fetch(cloud(web, provider="twilio"), MEDIA) == (unsupported, None)
    assert await files.fetch(Channel("m", "email", "sol"), MEDIA) == (unsupported, None)
    assert await files.fetch(cloud(web), replace(MEDIA, origin=Origin.UPLOAD)) == (unsupported, None)
    assert await files.upload("native", cloud(web, provider="twilio"), MEDIA, None) == unsupported
    assert await files.upload("native", cloud(web, access_token=""), MEDIA, None) == ill
    assert web.asked == []


async def test_the_whole_has_its_time(client: httpx.AsyncClient, store: ObjectFiles, web: Web) -> None:
    async def drips(request: aioweb.Request) -> aioweb.StreamResponse:
        response = aioweb.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    web.pages["/bytes"] = web.pages["/v23.0/700/media"] = drips
    web.json("/v23.0/15", told(web))
    hurried = FileExchange(client, store, rocketchat=None, limit=MB, seconds=0.5)
    late = Result(Outcome.RETRY, code="timeout")
    assert await hurried.fetch(cloud(web), replace(MEDIA, mime=None)) == (late, None)
    stored = await store.save(chunks(JPEG), limit=MB)
    assert await hurried.upload("native", cloud(web), media_of(stored), None) == late


# from Rocket.Chat and from anywhere ------------------------------------------------------------------------------


ROOM_FILE = replace(MEDIA, origin=Origin.ROCKETCHAT, ref="/file-upload/abc/foto%20a.jpg", sha256=None)


async def test_a_file_of_rocketchat(files: Files, web: Web) -> None:
    web.says("/chat/file-upload/abc/foto a.jpg", JPEG)
    assert await files.fetch(cloud(web), ROOM_FILE) == (OK, KEPT)
    assert {name: web.asked[0].headers[name] for name in CHAT} == CHAT
    elsewhere = replace(ROOM_FILE, ref="https://evil.example/file-upload/abc/a.jpg")
    assert await files.fetch(cloud(web), elsewhere) == (NOWHERE, None)


@pytest.mark.parametrize(
    ("me", "expected"),
    [
        (401, Result(Outcome.CHANNEL, code="unauthorized")),
        (200, Result(Outcome.PERMANENT, code="forbidden")),
        (500, Result(Outcome.RETRY, code="forbidden")),
    ],
)
async def test_rocketchats_403_is_the_tokens_or_the_rooms(
    files: Files, web: Web, store: ObjectFiles, me: int, expected: Result
) -> None:
    web.says("/chat/file-upload/abc/foto a.jpg", b"Forbidden", 403)
    web.json("/chat/api/v1/me", {"_id": "bot"}, status=me)
    assert await files.fetch(cloud(web), ROOM_FILE) == (expected, None)
    stored = await store.save(chunks(JPEG), limit=MB)
    web.json("/chat/api/v1/rooms.media/r1", {"success": False, "error": "unauthorized"}, status=403)
    assert await files.upload("rocketchat", cloud(web), media_of(stored), "r1") == expected


async def test_without_rocketchat(client: httpx.AsyncClient, store: ObjectFiles, web: Web) -> None:
    alone = FileExchange(client, store, rocketchat=None, limit=MB, seconds=5.0)
    refused = Result(Outcome.PERMANENT, code="rocketchat_not_configured", asked=False)
    assert await alone.fetch(cloud(web), ROOM_FILE) == (refused, None)
    assert await alone.upload("rocketchat", cloud(web), MEDIA, "r1") == refused


async def test_a_callers_address_gets_no_credentials_and_no_way_inside(
    files: Files, client: httpx.AsyncClient, store: ObjectFiles, web: Web
) -> None:
    web.says("/a", JPEG)
    media = replace(MEDIA, origin=Origin.URL, ref=f"{web.url}/a", sha256=None)
    # Rocket.Chat's and the provider's own origin: configured for us, not for callers.
    assert await files.fetch(cloud(web), media) == (NOWHERE, None)
    assert web.asked == []
    open_to = FileExchange(client, store, rocketchat=None, limit=MB, seconds=5.0, allow_hosts=[web.host])
    assert await open_to.fetch(cloud(web), media) == (OK, KEPT)
    assert sent(web, "Authorization") == sent(web, "X-Auth-Token") == [None]


class Down:
    """A file store that does not answer."""

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        async for _ in chunks:
            break
        raise Unavailable("the file store does not answer")

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        yield b"\xff"
        raise Unavailable("the file store does not answer")

    async def delete(self, sha256: str) -> None:
        raise Unavailable("the file store does not answer")


async def test_a_store_that_is_down_is_waited_for(client: httpx.AsyncClient, web: Web) -> None:
    down = FileExchange(client, Down(), rocketchat=None, limit=MB, seconds=5.0)
    web.json("/v23.0/15", told(web))
    web.says("/bytes", JPEG)
    # It is ours: neither the provider nor its breaker is to blame.
    ours = Result(Outcome.RETRY, code="store", asked=False)
    assert await down.fetch(cloud(web), MEDIA) == (ours, None)
    assert await down.upload("native", cloud(web), media_of(KEPT), None) == ours


async def test_nobody_there(files: Files, nowhere: str, web: Web, store: ObjectFiles) -> None:
    stored = await store.save(chunks(JPEG), limit=MB)
    away = cloud(web, base_url=nowhere)
    assert await files.fetch(away, MEDIA) == (Result(Outcome.RETRY, code="connect"), None)
    assert await files.upload("native", away, media_of(stored), None) == Result(Outcome.RETRY, code="connect")


def test_without_an_address_the_providers_own(web: Web) -> None:
    for channel, host in (
        (cloud(web, base_url=""), "graph.facebook.com"),
        (dialog(web), "waba-v2.360dialog.io"),
    ):
        native = {name: value for name, value in channel.native.items() if name != "base_url"}
        api = media_api(replace(channel, native=native))
        assert isinstance(api, MediaApi)
        assert api.trusted == {("https", host, 443)}


def test_secrets_are_in_no_repr(web: Web) -> None:
    assert "secret" not in repr(media_api(cloud(web))) + repr(media_api(dialog(web)))
