import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.integration.sandbox.process import (
    BEARER,
    NUMBER,
    SECRET,
    SEND,
    WA_ID,
    Client,
    Receiver,
    until,
)


async def test_send_is_recorded_answered_and_reported_signed(client: Client, receiver: Receiver) -> None:
    await client.control("configure", {"read": True})
    status, answer = await client.send(biz_opaque_callback_data="tentativa-1")
    assert status == 200
    assert answer["contacts"] == [{"input": WA_ID, "wa_id": WA_ID}]
    wamid = answer["messages"][0]["id"]
    (row,) = await client.record("graph")
    assert (row["wamid"], row["to"], row["text"]) == (wamid, WA_ID, "Olá, tudo bem?")
    assert (row["by"], row["callback_data"], row["answered"]) == ("native", "tentativa-1", 200)
    assert json.loads(base64.b64decode(row["body"]))["to"] == WA_ID
    await until(receiver.got, 3)
    statuses = [value["statuses"][0] for value in receiver.values()]
    assert [status["status"] for status in statuses] == ["sent", "delivered", "read"]
    assert {status["id"] for status in statuses} == {wamid}
    assert {status["biz_opaque_callback_data"] for status in statuses} == {"tentativa-1"}
    assert {status["recipient_id"] for status in statuses} == {WA_ID}
    assert statuses[0]["pricing"]["category"] == "service"
    for headers, body in receiver.got:
        expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == expected


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messaging_product": "sms"}, 100),
        ({"to": ""}, 100),
        ({"type": "carta"}, 100),
        ({"text": {"body": ""}}, 100),
        ({"text": {"body": "x" * 4097}}, 100),
        ({"type": "image"}, 131008),
        ({"biz_opaque_callback_data": "x" * 513}, 100),
    ],
)
async def test_wrong_send_is_refused_as_meta_does(client: Client, change: dict[str, Any], code: int) -> None:
    status, answer = await client.send(**change)
    assert status == 400
    assert answer["error"]["code"] == code
    assert set(answer["error"]) == {"message", "type", "code", "error_data", "fbtrace_id"}
    assert await client.record("graph") == []
    assert [row["code"] for row in await client.record("refused")] == [code]


async def test_token_and_number_are_checked(client: Client) -> None:
    status, answer = await client.call("POST", f"/graph/v23.0/{NUMBER}/messages", SEND)
    assert (status, answer["error"]["code"]) == (401, 190)
    status, answer = await client.call("POST", "/graph/v23.0/999/messages", SEND, **BEARER)
    assert (status, answer["error"]["code"]) == (400, 100)
    await client.control("configure", {"numbers": {NUMBER: {"access_token": "outro"}}})
    assert (await client.send())[0] == 401


async def test_read_mark(client: Client) -> None:
    body = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.9"}
    assert await client.call("POST", f"/graph/v23.0/{NUMBER}/messages", body, **BEARER) == (
        200,
        {"success": True},
    )
    assert [row["wamid"] for row in await client.record("reads")] == ["wamid.9"]
    assert await client.record("graph") == []


async def test_callback_is_retried_on_503_with_the_same_bytes_and_not_on_401(
    client: Client, receiver: Receiver
) -> None:
    receiver.answers = [503, 429]
    patient = {"phone_number_id": NUMBER, "from": WA_ID, "name": "José", "text": "Olá/á"}
    answer = await client.control("patient", patient)
    assert answer["status"] == 503
    await until(receiver.got, 3)
    assert len({body for _, body in receiver.got}) == 1
    assert b"Ol\\u00e1\\/\\u00e1" in receiver.got[0][1]
    assert receiver.values()[0]["messages"][0]["id"] == answer["wamid"]
    receiver.answers = [401]
    assert (await client.control("patient", patient))["status"] == 401
    await asyncio.sleep(0.1)
    assert len(receiver.got) == 4
    rows = await client.record("webhooks")
    assert [(row["status"], row["final"]) for row in rows] == [
        (503, False),
        (429, False),
        (200, True),
        (401, True),
    ]


async def test_unreachable_callback_is_retried_and_given_up(client: Client) -> None:
    await client.control("configure", {"numbers": {NUMBER: {"callback_url": "http://127.0.0.1:1/"}}})
    answer = await client.control("patient", {"phone_number_id": NUMBER, "from": WA_ID, "text": "oi"})
    assert answer["status"] is None
    await asyncio.sleep(0.6)
    rows = await client.record("webhooks")
    assert [row["final"] for row in rows] == [False] * 4 + [True]


async def test_raw_post_and_handshake(client: Client, receiver: Receiver) -> None:
    raw = base64.b64encode(b'{"object": "x"}\xff').decode()
    given = {"phone_number_id": NUMBER, "body_base64": raw, "headers": {"X-Test": "1"}, "sign": True}
    assert (await client.control("post", given))["status"] == 200
    headers, body = receiver.got[0]
    assert body == b'{"object": "x"}\xff'
    assert headers["X-Test"] == "1"
    assert headers["X-Hub-Signature-256"].startswith("sha256=")
    assert await client.control("verify", {"phone_number_id": NUMBER}) == {"ok": True, "status": 200}
