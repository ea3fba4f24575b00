import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from adapters import KINDS, transport
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.message import Alias, Content
from router.domain.ports import Outbound, Permit, Sender
from tests.integration.adapters.raw import RawServer, Script, answer, reset, silence

PERMIT = Permit(UUID(int=1), "native", 1, expires=100.0)


@pytest.fixture
async def sender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(0.3))
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
    assert await sender.send(permit, outbound(server.url)) == Result(Outcome.RETRY, code="permit")
    assert server.requests == []


async def test_what_cannot_leave(server: RawServer, sender: Sender) -> None:
    image = replace(outbound(server.url), content=Content("image", "x"))
    assert await sender.send(PERMIT, image) == Result(Outcome.PERMANENT, code="unsupported")
    for wrong in (
        {"access_token": ""},
        {"access_token": "a\nb"},
        {"access_token": "chavé"},
        {"base_url": "x"},
    ):
        result = await sender.send(PERMIT, outbound(server.url, **wrong))
        assert (result.outcome, result.code) == (Outcome.CHANNEL, "configuration"), wrong
    assert server.requests == []
