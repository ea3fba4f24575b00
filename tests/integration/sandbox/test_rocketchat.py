import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path

import aiohttp
import pytest

from tests.integration.sandbox.process import (
    API,
    APP_PATH,
    SECRET,
    WA_ID,
    Client,
    Receiver,
    inbound,
    until,
)


async def test_forward_is_recorded_as_it_came(client: Client, process: tuple[str, Path]) -> None:
    host, port = process[0].removeprefix("http://").split(":")
    body = json.dumps(inbound("Olá", "wamid.raw")).encode()
    sign = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    lines = [
        "POST /rocketchat/api/apps/public/app-1/we%62hook?a=%2F&b=&a=1 HTTP/1.1",
        f"Host: {host}:{port}",
        "X-Custom: um",
        "x-custom: dois",
        f"X-Hub-Signature-256: {sign}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    (row,) = await client.record("forwards")
    assert row["raw_path"] == "/rocketchat/api/apps/public/app-1/we%62hook"
    assert row["raw_query"] == "a=%2F&b=&a=1"
    assert row["headers"] == [line.split(": ", 1) for line in lines[1:]]
    assert base64.b64decode(row["body"]) == body
    assert (row["signature_ok"], row["wamids"], row["answered"]) == (True, ["wamid.raw"], 200)
    await client.forward("sem assinatura", "wamid.2")
    assert (await client.record("forwards"))[1]["signature_ok"] is False


async def test_compressed_body_keeps_its_bytes(client: Client) -> None:
    headers = {"Content-Encoding": "gzip"}
    url = client.base + APP_PATH
    async with client.session.post(url, data=b"\x1f\x8b not really", headers=headers) as response:
        assert response.status == 200
    assert base64.b64decode((await client.record("forwards"))[0]["body"]) == b"\x1f\x8b not really"


async def test_repeated_forward_makes_one_message(client: Client) -> None:
    await client.forward("oi", "wamid.1")
    await client.forward("oi", "wamid.1")
    assert len(await client.record("forwards")) == 2
    assert [row["wamid"] for row in await client.record("rocketchat")] == ["wamid.1"]


async def test_challenge_and_garbage(client: Client) -> None:
    async with client.session.get(f"{client.base}{APP_PATH}?hub.mode=subscribe&hub.challenge=42") as response:
        assert await response.text() == "42"
    async with client.session.post(client.base + APP_PATH, data=b"{") as response:
        assert response.status == 200
    rows = await client.record("forwards")
    assert [row["wamids"] for row in rows] == [[], []]


async def test_agents_answer_customer_and_webhook(client: Client, receiver: Receiver, crm: Receiver) -> None:
    await client.control("configure", {"rocketchat": {"agents": True}})
    await client.forward("Quanto custa o peeling?")
    await until(crm.got, 4)
    await until(receiver.got, 2)  # the statuses of Rocket.Chat's own send come to the number's callback
    by_type = [(event["type"], [message["msg"] for message in event["messages"]]) for event in crm.events()]
    (sent,) = await client.record("graph")
    assert sent["by"] == "rocketchat"
    assert sorted(by_type) == sorted(
        [
            ("LivechatSessionStart", []),
            ("LivechatSessionTaken", []),
            ("Message", ["Quanto custa o peeling?"]),
            ("Message", [sent["text"]]),
        ]
    )
    assert all(headers["X-RocketChat-Livechat-Token"] == "ficha" for headers, _ in crm.got)
    answer = next(
        event for event in crm.events() if event["messages"][:1] and "agentId" in event["messages"][0]
    )
    assert answer["visitor"]["phone"] == [{"phoneNumber": WA_ID}]
    rid = answer["_id"]
    _, history = await client.rest(
        "GET", f"livechat/messages.history/{rid}?token={answer['visitor']['token']}"
    )
    assert [message["msg"] for message in history["messages"]] == [sent["text"], "Quanto custa o peeling?"]
    _, whole = await client.call("GET", "/control/record/rocketchat")
    assert [row["by"] for row in whole["rooms"][rid]] == ["visitor", "agent"]
    assert whole["rooms"][rid][1]["wamid"] == sent["wamid"]
    await client.control("close", {"wa_id": WA_ID, "comment": "fim"})
    await until(crm.got, 5)
    assert (crm.events()[4]["type"], len(crm.events()[4]["messages"])) == ("LivechatSession", 3)


async def test_only_exactly_200_counts(client: Client, crm: Receiver) -> None:
    crm.answers = [204]
    await client.forward("oi")  # start and message: one of them is answered 204, which is final
    await until(crm.got, 2)
    await asyncio.sleep(0.15)
    assert len(crm.got) == 2
    crm.answers = [500] * 9
    await client.forward("de novo", "wamid.2")
    await until(crm.got, 7)
    await asyncio.sleep(0.15)
    assert len(crm.got) == 7
    rows = [row for row in await client.record("webhooks") if row["target"] == "omnichannel"]
    assert [row["attempt"] for row in rows][2:] == [1, 2, 3, 4, 5]
    assert rows[-1]["final"]


async def test_send_message_is_idempotent_by_id(client: Client, crm: Receiver) -> None:
    await client.forward("oi")
    _, listed = await client.rest("GET", "livechat/rooms?open=true&offset=0&count=10")
    (room,) = listed["rooms"]
    message = {"rid": room["_id"], "msg": "Seu horário está confirmado", "_id": "aaaaaaaaaaaaaaaaa"}
    first = await client.rest("POST", "chat.sendMessage", {"message": message})
    again = await client.rest("POST", "chat.sendMessage", {"message": message})
    assert first == again
    assert (first[0], first[1]["message"]["_id"], first[1]["success"]) == (200, "aaaaaaaaaaaaaaaaa", True)
    (sent,) = await client.record("graph")
    assert (sent["by"], sent["to"], sent["text"]) == ("rocketchat", WA_ID, message["msg"])
    await until(crm.got, 3)
    await asyncio.sleep(0.1)
    (event,) = [event for event in crm.events() if event["messages"] and "agentId" in event["messages"][0]]
    assert event["messages"][0]["_id"] == "aaaaaaaaaaaaaaaaa"
    await client.fault("reset_after", "rocketchat.rest.chat.sendMessage", match={"to": WA_ID}, times=1)
    second = message | {"_id": "bbbbbbbbbbbbbbbbb"}
    with pytest.raises(aiohttp.ClientError):
        await client.rest("POST", "chat.sendMessage", {"message": second})
    assert (await client.rest("POST", "chat.sendMessage", {"message": second}))[0] == 200
    assert len(await client.record("graph")) == 2


async def test_room_names_its_channel_and_closes_once(client: Client) -> None:
    await client.forward("oi")
    _, listed = await client.rest("GET", "livechat/rooms?open=true")
    rid = listed["rooms"][0]["_id"]
    _, answer = await client.rest("GET", f"rooms.info?roomId={rid}")
    room = answer["room"]
    assert (room["t"], room["open"], room["source"]["type"], room["source"]["id"]) == (
        "l",
        True,
        "app",
        "app-1",
    )
    assert {"_id", "token", "username"} <= set(room["v"])
    _, user = await client.rest("GET", "users.info?username=ana.recepcao")
    assert user["user"]["name"] == "Ana Recepção"
    body = {"rid": rid, "comment": "fim"}
    assert await client.rest("POST", "livechat/room.closeByUser", body) == (200, {"success": True})
    status, answer = await client.rest("POST", "livechat/room.closeByUser", body)
    assert (status, answer["errorType"]) == (400, "error-room-already-closed")
    assert (await client.rest("GET", "livechat/rooms?open=true"))[1]["total"] == 0
    assert (await client.rest("GET", "livechat/rooms?open=false"))[1]["total"] == 1
    status, answer = await client.rest("POST", "chat.sendMessage", {"message": {"rid": rid, "msg": "oi"}})
    assert (status, answer["errorType"]) == (400, "room-closed")
    await client.forward("voltei", "wamid.2")
    assert (await client.rest("GET", "livechat/rooms?open=true"))[1]["rooms"][0]["_id"] != rid


async def test_error_shapes_of_both_versions(client: Client) -> None:
    status, answer = await client.rest("GET", "rooms.info?roomId=nada")
    assert status == 400
    assert answer == {
        "success": False,
        "error": 'The required "roomId" does not match any channel [error-room-not-found]',
        "errorType": "error-room-not-found",
    }
    path = "/rocketchat/api/v1/livechat/rooms"
    message = "You must be logged in to do this."
    assert await client.call("GET", path) == (401, {"status": "error", "message": message})
    await client.control("configure", {"rocketchat": {"version": "8.0.0"}})
    assert await client.call("GET", path) == (401, {"success": False, "error": message})


async def test_login_gives_a_token_that_is_asked_for(client: Client) -> None:
    await client.control("configure", {"rocketchat": {"user_id": "u" * 17, "auth_token": "configurado"}})
    path = "/rocketchat/api/v1/me"
    assert (await client.call("GET", path, None, **API))[0] == 401
    body = {"user": "figueira.bot", "password": "figueira"}
    status, answer = await client.call("POST", "/rocketchat/api/v1/login", body)
    assert (status, answer["status"]) == (200, "success")
    data = answer["data"]
    headers = {"X-Auth-Token": data["authToken"], "X-User-Id": data["userId"]}
    assert (await client.call("GET", path, None, **headers))[0] == 200
    wrong = await client.call("POST", "/rocketchat/api/v1/login", body | {"password": "x"})
    assert wrong[0] == 401


async def test_rate_limit_is_per_route(client: Client) -> None:
    await client.control("configure", {"rocketchat": {"rate_limit": {"calls": 2, "seconds": 60}}})
    url = client.base + "/rocketchat/api/v1/livechat/rooms"
    for remaining in ("1", "0"):
        async with client.session.get(url, headers=API) as response:
            assert response.status == 200
            assert response.headers["X-RateLimit-Remaining"] == remaining
    async with client.session.get(url, headers=API) as response:
        assert response.status == 429
        assert len(response.headers["X-RateLimit-Reset"]) == 13
        assert (await response.json())["error"].endswith("[error-too-many-requests]")
    assert (await client.rest("GET", "info"))[0] == 200
