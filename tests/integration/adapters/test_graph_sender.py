import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from adapters import KINDS, transport
from adapters.native.whatsapp import endpoint
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.message import Alias, Content
from router.domain.ports import Outbound, Permit, Sender
from tests.integration.adapters.raw import RawServer, Script, answer, reset, silence

PERMIT = Permit(UUID(int=1), "native", 1, expires=100.0)


@pytest.fixture
async def sender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(1.0))
    async with httpx.AsyncClient() as client:
        yield KINDS["whatsapp"].sender(client, lambda: 99.0)


def outbound(url: str, **native: str) -> Outbound:
    settings = {"base_url": f"{url}/v23.0/", "phone_number_id": "700", "access_token": "chave", **native}
    return Outbound(
        Channel("zap", "whatsapp", "sol", settings),
        (Alias("wa_id", "sol", "5531996880001", "553196880001"),),
        Content("text", "Olá \ud83d 😀"),
        "cb-1",
    )


DIALOG = {"provider": "360dialog", "api_key": "chave-360"}


def reply(status: str, body: object, *headers: bytes) -> Script:
    raw = json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}".encode(), b"Content-Type: application/json", *headers]
    return answer(b"\r\n".join([*head, b"Content-Length: %d" % len(raw), b"", raw]))


async def test_a_send(server: RawServer, sender: Sender) -> None:
    server.script = reply("200 OK", {"contacts": [{"wa_id": "x"}], "messages": [{"id": "wamid.9"}]})
    assert await sender.send(PERMIT, outbound(server.url)) == Result(Outcome.OK, "wamid.9")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v23.0/700/messages HTTP/1.1\r\n")
    lines = [line.lower() for line in head.split(b"\r\n")]
    assert b"authorization: bearer chave" in lines
    assert b"user-agent: figueira/0.1.0" in lines
    assert b"content-type: application/json" in lines
    sent = json.loads(body)
    assert (sent["to"], sent["text"]["body"]) == ("553196880001", "Olá \ud83d 😀")
    assert (sent["recipient_type"], sent["biz_opaque_callback_data"]) == ("individual", "cb-1")
    assert sender.idempotent is False


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        (reply("429 Slow", {"error": {"code": 130429}}, b"Retry-After: 3"), Outcome.RETRY, "130429"),
        (reply("400 Bad", {"error": {"code": 131026}}), Outcome.PERMANENT, "131026"),
        (reply("401 No", {"error": {"code": 190}}), Outcome.CHANNEL, "190"),
        (reply("503 Later", {"error": {"code": 131016}}), Outcome.RETRY, "131016"),
        (reply("502 Proxy", {}), Outcome.UNKNOWN, "http_502"),
        (reply("200 OK", {"messages": []}), Outcome.UNKNOWN, "no_id"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"), Outcome.UNKNOWN, "broken"),
        (
            answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
            Outcome.UNKNOWN,
            "broken",
        ),
        (answer(b"HTTP/1.1 2"), Outcome.UNKNOWN, "broken"),
        (answer(b""), Outcome.UNKNOWN, "broken"),
        (reset, Outcome.UNKNOWN, "broken"),
        (silence, Outcome.UNKNOWN, "timeout"),
    ],
)
async def test_answers(
    server: RawServer, sender: Sender, script: Script, outcome: Outcome, code: str
) -> None:
    server.script = script
    result = await sender.send(PERMIT, outbound(server.url))
    assert (result.outcome, result.code) == (outcome, code)
    assert len(server.requests) == 1


async def test_an_answer_that_drips_or_never_ends(
    server: RawServer, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES", 100)
    server.script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
    assert (await sender.send(PERMIT, outbound(server.url))).code == "answer_too_large"
    monkeypatch.setattr(transport, "TOTAL_SECONDS", 0.1)
    server.script = silence
    assert await sender.send(PERMIT, outbound(server.url)) == Result(Outcome.UNKNOWN, code="timeout")


async def test_nobody_there(sender: Sender, nowhere: str) -> None:
    assert await sender.send(PERMIT, outbound(nowhere)) == Result(Outcome.RETRY, code="connect")


@pytest.mark.parametrize("permit", [replace(PERMIT, path="rocketchat"), replace(PERMIT, expires=99.0)])
async def test_no_permit_no_request(server: RawServer, sender: Sender, permit: Permit) -> None:
    refused = Result(Outcome.RETRY, code="permit", asked=False)
    assert await sender.send(permit, outbound(server.url)) == refused
    assert server.requests == []


async def test_what_cannot_leave(server: RawServer, sender: Sender) -> None:
    image = replace(outbound(server.url), content=Content("image", "x"))
    assert await sender.send(PERMIT, image) == Result(Outcome.PERMANENT, code="no_file", asked=False)
    endless = replace(
        outbound(server.url), content=Content("contacts", None, {"contacts": [{"n": math.nan}]})
    )
    refused = Result(Outcome.PERMANENT, code="invalid_content", asked=False)
    assert await sender.send(PERMIT, endless) == refused
    for wrong in (
        {"access_token": ""},
        {"access_token": "a\nb"},
        {"access_token": "chavé"},
        {"base_url": "x"},
    ):
        result = await sender.send(PERMIT, outbound(server.url, **wrong))
        assert result == Result(Outcome.CHANNEL, code="configuration", asked=False), wrong
    assert server.requests == []


async def test_a_send_through_360dialog(server: RawServer, sender: Sender) -> None:
    server.script = reply("200 OK", {"messages": [{"id": "wamid.9"}]})
    for native in (DIALOG, {**DIALOG, "phone_number_id": "", "api_key": "", "access_token": "chave-360"}):
        said = outbound(server.url, **native)
        assert await sender.send(PERMIT, said) == Result(Outcome.OK, "wamid.9")
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v23.0/messages HTTP/1.1\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        assert b"d360-api-key: chave-360" in lines
        assert not any(line.startswith(b"authorization") for line in lines)
        assert json.loads(body)["text"]["body"] == "Olá \ud83d 😀"
    bare = outbound(server.url, provider="360dialog", access_token="")
    refused = Result(Outcome.CHANNEL, code="configuration", asked=False)
    assert await sender.send(PERMIT, bare) == refused


def own(status: int, code: object = None) -> dict[str, object]:
    """360dialog's own way to say that something is wrong."""
    errors = [] if code is None else [{"code": code, "title": "x", "details": "y"}]
    return {"meta": {"success": False, "http_code": status, "developer_message": "x"}, "errors": errors}


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        (reply("400 Bad", {"error": {"code": 131056}}), Outcome.PACED, "131056"),
        (reply("400 Bad", {"error": {"code": 131047}}), Outcome.PERMANENT, "131047"),
        (reply("401 No", {"error": {"code": 190}}), Outcome.CHANNEL, "190"),
        (reply("400 Bad", own(400)), Outcome.PERMANENT, "http_400"),
        (reply("400 Bad", {"errors": [{"code": "131026"}]}), Outcome.PERMANENT, "131026"),
        (reply("400 Bad", own(400, 130429)), Outcome.RETRY, "130429"),
        (reply("400 Bad", own(400, 470)), Outcome.PERMANENT, "470"),
        (reply("400 Bad", own(400, 471), b"Retry-After: 9"), Outcome.RETRY, "471"),
        (reply("400 Bad", own(400, "words")), Outcome.PERMANENT, "http_400"),
        (reply("401 No", own(401)), Outcome.CHANNEL, "http_401"),
        (reply("403 No", own(403, 1005)), Outcome.CHANNEL, "1005"),
        (reply("429 Slow", own(429), b"Retry-After: 3"), Outcome.RETRY, "http_429"),
        (reply("500 Oops", own(500)), Outcome.UNKNOWN, "http_500"),
        (reply("500 Oops", own(500, 1016)), Outcome.RETRY, "1016"),
        (reply("502 Proxy", []), Outcome.UNKNOWN, "http_502"),
        (reply("200 OK", own(200)), Outcome.UNKNOWN, "no_id"),
    ],
)
async def test_answers_of_360dialog(
    server: RawServer, sender: Sender, script: Script, outcome: Outcome, code: str
) -> None:
    server.script = script
    result = await sender.send(PERMIT, outbound(server.url, **DIALOG))
    assert (result.outcome, result.code) == (outcome, code)
    waits = {"471": 9, "http_429": 3}
    assert result.retry_after == waits.get(code)


@pytest.mark.parametrize("typing", [False, True])
@pytest.mark.parametrize(("native", "path"), [({}, b"/v23.0/700/messages"), (DIALOG, b"/v23.0/messages")])
async def test_marking(
    server: RawServer, sender: Sender, native: dict[str, str], path: bytes, typing: bool
) -> None:
    server.script = reply("200 OK", {"success": True})
    channel = outbound(server.url, **native).channel
    assert await sender.mark(channel, "wamid.IN/1", typing=typing) == Result(Outcome.OK)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST " + path + b" HTTP/1.1\r\n")
    shown = {"typing_indicator": {"type": "text"}} if typing else {}
    assert json.loads(body) == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.IN/1",
        **shown,
    }


async def test_a_mark_that_fails(server: RawServer, sender: Sender, nowhere: str) -> None:
    server.script = reply("400 Bad", {"error": {"code": 131009}})
    told = await sender.mark(outbound(server.url).channel, "wamid.1", typing=False)
    assert told == Result(Outcome.PERMANENT, code="131009")
    told = await sender.mark(outbound(nowhere).channel, "wamid.1", typing=False)
    assert told == Result(Outcome.RETRY, code="connect")
    told = await sender.mark(outbound(server.url, access_token="").channel, "wamid.1", typing=True)
    assert told == Result(Outcome.CHANNEL, code="configuration", asked=False)


def test_where_a_number_is_by_default() -> None:
    settings = {"phone_number_id": "700", "access_token": "chave"}
    cloud = endpoint(Channel("zap", "whatsapp", "sol", settings))
    assert cloud is not None
    assert cloud.url == "https://graph.facebook.com/v23.0/700/messages"
    dialog = endpoint(Channel("zap", "whatsapp", "sol", {**settings, **DIALOG}))
    assert dialog is not None
    assert dialog.url == "https://waba-v2.360dialog.io/messages"
    assert "chave" not in repr((cloud, dialog))
