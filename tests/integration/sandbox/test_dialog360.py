"""360dialog: its key, its errors, its webhooks in both shapes, its media."""

import base64
import hashlib
import hmac
import json

import pytest

from tests.integration.sandbox.process import BEARER, SEND, WA_ID, Client, Receiver, until

LINE = "360100200"
KEY = {"D360-API-KEY": "chave-360"}
JPEG = b"\xff\xd8\xff photo"


@pytest.fixture
async def line(client: Client, receiver: Receiver) -> str:
    await configure(client, receiver)
    return LINE


async def configure(client: Client, receiver: Receiver, **extra: object) -> None:
    number = {
        "provider": "360dialog",
        "api_key": KEY["D360-API-KEY"],
        "callback_url": receiver.url + "/d360",
        "webhook_headers": {"X-Clinic": "figo"},
        **extra,
    }
    await client.control("configure", {"numbers": {LINE: number}})


async def said(client: Client) -> None:
    await client.control("patient", {"phone_number_id": LINE, "from": WA_ID, "text": "Olá"})


async def test_a_send_and_its_errors(client: Client, receiver: Receiver, line: str) -> None:
    status, answer = await client.call("POST", "/d360/messages", SEND, **KEY)
    assert (status, answer["contacts"]) == (200, [{"input": WA_ID, "wa_id": WA_ID}])
    (row,) = await client.record("graph")
    assert (row["phone_number_id"], row["by"]) == (line, "native")
    await until(receiver.got, 2)
    status, answer = await client.call("POST", "/d360/messages", SEND, **BEARER)
    meta = {"http_code": 401, "success": False, "developer_message": "Invalid api_key"}
    assert (status, answer) == (401, {"meta": meta})
    status, answer = await client.call("POST", "/d360/messages", SEND | {"to": ""}, **KEY)
    assert (status, answer["error"]["code"]) == (400, 100)
    await client.fault("status", "graph.send", status=502, times=1)
    status, answer = await client.call("POST", "/d360/messages", SEND, **KEY)
    assert (status, answer["meta"]["http_code"]) == (502, 502)
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"}
    assert (await client.call("POST", "/d360/messages", read, **KEY))[1] == {"success": True}
    path = f"/graph/v23.0/{line}/messages"
    assert (await client.call("POST", path, SEND, **BEARER))[1]["error"]["code"] == 100


async def test_webhooks_carry_the_configured_headers_and_no_signature_of_metas(
    client: Client, receiver: Receiver, line: str
) -> None:
    await said(client)
    headers, body = receiver.got[0]
    assert headers["X-Clinic"] == "figo"
    assert not any("signature" in name.lower() for name in headers)
    assert json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"] == "Olá"


@pytest.mark.parametrize("encoding", ["hex", "base64"])
async def test_a_platform_signs(client: Client, receiver: Receiver, encoding: str) -> None:
    await configure(client, receiver, platform_secret="plataforma", signature_encoding=encoding)
    await said(client)
    headers, body = receiver.got[0]
    digest = hmac.new(b"plataforma", body, hashlib.sha256).digest()
    expected = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert headers["x-360dialog-signature"] == expected


async def test_the_flat_shape(client: Client, receiver: Receiver) -> None:
    await configure(client, receiver, payload="flat")
    await said(client)
    await client.call("POST", "/d360/messages", SEND, **KEY)
    await until(receiver.got, 3)
    first, second, _ = receiver.events()
    assert set(first) == {"contacts", "messages"}
    assert first["messages"][0]["from"] == WA_ID
    assert [one["status"] for one in second["statuses"]] == ["sent"]


async def test_the_webhook_is_set_and_shown(client: Client, receiver: Receiver, line: str) -> None:
    path = "/d360/v1/configs/webhook"
    _, shown = await client.call("GET", path, None, **KEY)
    assert shown == {"url": receiver.url + "/d360", "headers": {"X-Clinic": "figo"}}
    new = {"url": receiver.url + "/novo", "headers": {"Authorization": "s3"}}
    assert await client.call("POST", path, new, **KEY) == (200, new)
    assert (await client.call("GET", path, None, **KEY))[1] == new
    await said(client)
    assert receiver.got[0][0]["Authorization"] == "s3"
    assert "X-Clinic" not in receiver.got[0][0]
    assert (await client.call("POST", path, {"url": "nada"}, **KEY))[0] == 400
    assert (await client.call("GET", path))[0] == 401
    rows = await client.record("callbacks")
    assert [(row["level"], row["action"]) for row in rows] == [("360dialog", "set"), ("360dialog", "refused")]


async def test_media_by_its_own_host(client: Client, line: str) -> None:
    fields = {"messaging_product": "whatsapp"}
    status, made = await client.upload("/d360/media", JPEG, "image/jpeg", fields, **KEY)
    assert status == 200
    _, known = await client.call("GET", f"/d360/{made['id']}", None, **KEY)
    host = "https://lookaside.fbsbx.com"
    assert known["url"].startswith(f"{host}/whatsapp_business/attachments/?mid={made['id']}&ext=")
    for prefix in ("", "/d360"):
        assert await client.fetch(known["url"].replace(host, client.base + prefix), **KEY) == (200, JPEG)
    assert (await client.fetch(known["url"].replace(host, client.base), **BEARER))[0] == 401
    body = SEND | {"type": "image", "image": {"id": made["id"]}}
    assert (await client.call("POST", "/d360/messages", body, **KEY))[0] == 200
    assert (await client.record("graph"))[0]["media_sha256"] == hashlib.sha256(JPEG).hexdigest()
    assert (await client.call("DELETE", f"/d360/{made['id']}", None, **KEY))[1] == {"success": True}
    assert (await client.call("GET", f"/d360/{made['id']}", None, **KEY))[0] == 400
