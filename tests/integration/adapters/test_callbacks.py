"""The callbacks' adapters against a socket that speaks as the providers do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import pytest

from adapters import transport
from adapters.handshake import handshake
from adapters.native.callbacks import WhatsAppCallbacks
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Callback, Callbacks
from tests.integration.adapters.provider import Provider, Reply, error
from tests.integration.adapters.raw import RawServer, answer, reset, silence

OK = Result(Outcome.OK)
URL = "https://figueira.example/webhooks/zap"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


@pytest.fixture
def edge(client: httpx.AsyncClient) -> Callbacks:
    return WhatsAppCallbacks(client)


@pytest.fixture
def provider(server: RawServer) -> Provider:
    return Provider(server)


@pytest.fixture
def channel(server: RawServer) -> Channel:
    native = {
        "base_url": f"{server.url}/v23.0/", "phone_number_id": "700", "access_token": "chave",
        "app_secret": "segredo", "verify_token": "prova", "waba_id": "900", "app_id": "800",
    }  # fmt: skip
    return Channel("zap", "whatsapp", "sol", native)


def without(channel: Channel, *names: str, **more: str) -> Channel:
    return replace(
        channel, native={key: value for key, value in channel.native.items() if key not in names} | more
    )


def dialog(channel: Channel, server: RawServer) -> Channel:
    return without(channel, provider="360dialog", base_url=server.url, webhook_token="senha")


def urls(seen: tuple[Result, Sequence[Callback]]) -> dict[str, str | None]:
    result, callbacks = seen
    assert result == OK
    return {one.level: one.url for one in callbacks}


def test_the_settings_decide_the_levels(edge: Callbacks, channel: Channel, server: RawServer) -> None:
    assert list(edge.levels(channel)) == ["number", "waba", "app"]
    assert list(edge.levels(without(channel, "waba_id", "app_id"))) == ["number"]
    assert list(edge.levels(without(channel, "access_token"))) == ["app"]
    assert list(edge.levels(without(channel, "access_token", "app_id"))) == []
    assert list(edge.levels(without(channel, provider="twilio"))) == []
    assert list(edge.levels(dialog(channel, server))) == ["number"]
    assert list(edge.missing(channel)) == []
    assert list(edge.missing(without(channel, "app_secret", "verify_token"))) == [
        "app_secret",
        "verify_token",
    ]
    assert list(edge.missing(without(channel, "app_secret", "access_token", provider="360dialog"))) == [
        "api_key | access_token", "app_secret | webhook_token",
    ]  # fmt: skip
    assert list(edge.missing(without(channel, "app_secret", provider="360dialog", webhook_token="x"))) == []


async def test_every_level_is_shown_narrowest_first(
    edge: Callbacks, channel: Channel, provider: Provider
) -> None:
    result, seen = await edge.show(channel)
    assert result == OK
    assert [(one.level, one.url) for one in seen] == [
        ("number", None), ("waba", None), ("app", "https://rc.example/hook"),
    ]  # fmt: skip
    assert seen[2].settings == {"fields": ["messages", "message_template_status_update"]}
    provider.number, provider.waba = "https://n.example/", "https://w.example/"
    assert urls(await edge.show(channel)) == {
        "number": "https://n.example/", "waba": "https://w.example/", "app": "https://rc.example/hook",
    }  # fmt: skip
    # What cannot be set from here is told all the same, from what the number says.
    bare = without(channel, "waba_id", "app_id")
    assert urls(await edge.show(bare))["app"] == "https://rc.example/hook"
    # Where the app's own list is silent, the number's word counts too.
    provider.fields = None
    assert urls(await edge.show(channel))["app"] == "https://rc.example/hook"
    # Two apps on the account and not known which is ours: the number's word counts.
    assert urls(await edge.show(without(channel, "app_id")))["waba"] == "https://w.example/"


@pytest.mark.parametrize("level", ["number", "waba", "app"])
async def test_set_and_set_back(edge: Callbacks, channel: Channel, provider: Provider, level: str) -> None:
    tokens: list[tuple[str, str]] = []

    def ask(url: str, token: str) -> bool:
        tokens.append((url, token))
        return True

    provider.handshake = ask
    _, before = await edge.show(channel)
    assert await edge.set(channel, level, URL) == OK
    assert urls(await edge.show(channel))[level] == URL
    assert tokens == [(URL, "prova")]
    previous = next(one for one in before if one.level == level)
    assert await edge.restore(without(channel, restore_verify_token="deles"), previous) == OK
    assert await edge.show(channel) == (OK, before)
    if previous.url:
        assert tokens[1:] == [(previous.url, "deles")]


async def test_the_account_is_cleared_by_subscribing_again_without_a_word(
    edge: Callbacks, channel: Channel, provider: Provider
) -> None:
    provider.waba = URL
    assert await edge.restore(channel, Callback("waba", None)) == OK
    assert provider.asked[-1] == ("POST", "/v23.0/900/subscribed_apps", None)
    assert provider.waba is None


async def test_an_app_keeps_its_fields_and_is_never_left_without_an_address(
    edge: Callbacks, channel: Channel, provider: Provider
) -> None:
    assert await edge.restore(channel, Callback("app", None)) == Result(
        Outcome.PERMANENT, code="cannot_clear"
    )
    provider.fields = None
    assert await edge.set(channel, "app", URL) == Result(Outcome.PERMANENT, code="not_subscribed")
    assert provider.app == "https://rc.example/hook"


@pytest.mark.parametrize(
    ("refusal", "outcome", "code"),
    [
        (error(100), Outcome.PERMANENT, "100"),
        (error(190, 401), Outcome.CHANNEL, "190"),
        (error(200, 403), Outcome.CHANNEL, "200"),
        (error(2200), Outcome.PERMANENT, "2200"),
        (error(4, 429), Outcome.RETRY, "4"),
        ((502, "bad gateway"), Outcome.UNKNOWN, "http_502"),
        ((200, "a page"), Outcome.UNKNOWN, "no_document"),
        ((200, {"success": False}), Outcome.PERMANENT, "refused"),
    ],
)
async def test_refusals(
    edge: Callbacks, channel: Channel, provider: Provider, refusal: Reply, outcome: Outcome, code: str
) -> None:
    provider.refuse = refusal
    result, seen = await edge.show(channel)
    assert (result.outcome, result.code, list(seen)) == (outcome, code, [])
    for level in ("number", "waba", "app"):
        given = await edge.set(channel, level, URL)
        assert (given.outcome, given.code) == (outcome, code)
        back = await edge.restore(channel, Callback(level, "https://rc.example/hook"))
        assert (back.outcome, back.code) == (outcome, code)
        assert "chave" not in repr((result, given, back))
        assert "segredo" not in repr((result, given, back))
    if outcome is not Outcome.RETRY and code not in {"http_502", "no_document", "refused"}:
        assert edge.mend(code)


async def test_a_handshake_that_fails_at_meta(edge: Callbacks, channel: Channel, provider: Provider) -> None:
    provider.handshake = lambda _url, token: token == "outra"
    assert (await edge.set(channel, "number", URL)).code == "2200"
    assert provider.number is None


async def test_what_no_provider_takes_is_not_sent(
    edge: Callbacks, channel: Channel, provider: Provider
) -> None:
    long = f"https://figueira.example/{'x' * 200}"
    assert await edge.set(channel, "number", long) == Result(Outcome.PERMANENT, code="url_too_long")
    assert await edge.set(channel, "waba", long) == Result(Outcome.PERMANENT, code="url_too_long")
    assert await edge.set(without(channel, "waba_id"), "waba", URL) == Result(
        Outcome.CHANNEL, code="configuration"
    )
    assert await edge.set(channel, "page", URL) == Result(Outcome.CHANNEL, code="configuration")
    assert await edge.set(without(channel, provider="twilio"), "number", URL) == Result(
        Outcome.PERMANENT, code="unsupported"
    )
    assert provider.asked == []


async def test_nobody_there(
    edge: Callbacks, channel: Channel, nowhere: str, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(0.3))
    away = without(channel, base_url=nowhere)
    assert (await edge.show(away))[0] == Result(Outcome.RETRY, code="connect")
    server.script = silence
    assert await edge.set(channel, "number", URL) == Result(Outcome.UNKNOWN, code="timeout")
    server.script = reset
    assert (await edge.set(channel, "number", URL)).outcome is Outcome.UNKNOWN


# 360dialog ---------------------------------------------------------------------------------------------------


async def test_360dialog(edge: Callbacks, channel: Channel, provider: Provider, server: RawServer) -> None:
    ours = dialog(channel, server)
    _, before = await edge.show(ours)
    assert urls(await edge.show(ours)) == {"number": "https://rc.example/hook"}
    assert "Bearer rc" not in repr(before)
    assert await edge.set(ours, "number", URL) == OK
    assert provider.d360 == {"url": URL, "headers": {"X-Figueira-Token": "senha"}}
    assert await edge.restore(ours, before[0]) == OK
    assert provider.d360 == {"url": "https://rc.example/hook", "headers": {"Authorization": "Bearer rc"}}
    assert await edge.restore(ours, Callback("number", None)) == Result(
        Outcome.PERMANENT, code="cannot_clear"
    )
    assert (
        await edge.set(without(ours, "webhook_token", "access_token", api_key="chave"), "number", URL) == OK
    )
    assert provider.d360 == {"url": URL, "headers": {}}  # its own signature is enough
    refused = await edge.set(without(ours, api_key="errada"), "number", URL)
    assert (refused.outcome, refused.code) == (Outcome.CHANNEL, "http_401")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://my_clinic.example/w", "host"),
        ("https://clinic.example:8443/w", "host"),
        ("https://clinic.example:x/w", "host"),
        ("https://clinic.example/my_path", None),
        ("http://127.0.0.1:8080/w", None),
    ],
)
async def test_hosts_360dialog_takes(
    edge: Callbacks, channel: Channel, provider: Provider, server: RawServer, url: str, code: str | None
) -> None:
    assert (await edge.set(dialog(channel, server), "number", url)).code == code


# our own address ---------------------------------------------------------------------------------------------


async def test_our_own_address_is_asked_as_meta_asks(client: httpx.AsyncClient, server: RawServer) -> None:
    async def echo(raw: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = httpx.QueryParams(raw.split(b" ")[1].decode().partition("?")[2])
        assert (query["hub.mode"], query["hub.verify_token"]) == ("subscribe", "prova + é")
        challenge = query["hub.challenge"].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(challenge), challenge))
        await writer.drain()

    server.script = echo
    assert await handshake(client, f"{server.url}/webhooks/zap", "prova + é") == OK
    assert server.requests[0].startswith(b"GET /webhooks/zap?")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "challenge"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "http_403"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "http_301"),
    ],
)
async def test_somebody_else_answers(
    edge: Callbacks, channel: Channel, server: RawServer, raw: bytes, code: str
) -> None:
    server.script = answer(raw)
    assert await edge.reaches(channel, server.url) == Result(Outcome.PERMANENT, code=code)
