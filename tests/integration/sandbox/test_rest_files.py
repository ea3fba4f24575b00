"""Files through Rocket.Chat, both ways; edits, reactions, history, and events that are lost."""

import base64
import hashlib
from typing import Any

import aiohttp
import pytest

from tests.integration.sandbox.process import API, NUMBER, WA_ID, Client, Receiver, inbound, until

PDF = b"%PDF-1.7 exame"
DIGEST = hashlib.sha256(PDF).hexdigest()
TOLD = {"content_base64": base64.b64encode(PDF).decode(), "mime": "application/pdf", "name": "exame.pdf"}
REST = "/rocketchat/api/v1/"


async def room(client: Client) -> dict[str, Any]:
    await client.forward("oi")
    _, listed = await client.rest("GET", "livechat/rooms?open=true")
    found: dict[str, Any] = listed["rooms"][0]
    return found


async def put(client: Client, rid: str, mime: str = "application/pdf") -> str:
    status, answer = await client.upload(f"{REST}rooms.media/{rid}", PDF, mime, **API)
    assert status == 200, answer
    assert answer["file"]["url"] == f"/file-upload/{answer['file']['_id']}/foto%201.jpg"
    return str(answer["file"]["_id"])


async def test_a_file_reaches_the_customer_once(client: Client, crm: Receiver) -> None:
    rid = (await room(client))["_id"]
    file_id = await put(client, rid)
    assert await client.record("graph") == []
    path = f"rooms.mediaConfirm/{rid}/{file_id}"
    status, answer = await client.rest("POST", path, {"msg": "seu exame"})
    message = answer["message"]
    assert (status, message["msg"], message["file"]["_id"]) == (200, "seu exame", file_id)
    assert message["attachments"][0]["title_link"] == f"/file-upload/{file_id}/foto%201.jpg"
    (sent,) = await client.record("graph")
    assert (sent["by"], sent["type"], sent["media_sha256"]) == ("rocketchat", "document", DIGEST)
    assert (sent["text"], sent["media_size"]) == ("seu exame", len(PDF))
    gone = {"success": False, "error": "[invalid-file]", "errorType": "invalid-file"}
    assert await client.rest("POST", path) == (400, gone)
    assert await client.rest("POST", f"rooms.mediaConfirm/{rid}/nada") == (400, gone)
    await until(crm.got, 3)
    (told,) = [one for event in crm.events() for one in event["messages"] if "file" in one]
    assert (told["file"]["name"], told["fileUpload"]["size"]) == ("foto 1.jpg", len(PDF))
    assert told["agentId"] == "figueiraBotAgnt23"


async def test_files_are_read_with_a_login_or_the_webhooks_path(client: Client, crm: Receiver) -> None:
    rid = (await room(client))["_id"]
    file_id = await put(client, rid)
    await client.rest("POST", f"rooms.mediaConfirm/{rid}/{file_id}")
    path = f"/rocketchat/file-upload/{file_id}/foto%201.jpg"
    assert await client.fetch(path, **API) == (200, PDF)
    assert (await client.fetch(path))[0] == 403
    assert (await client.fetch("/rocketchat/file-upload/nada/x", **API))[0] == 404
    await until(crm.got, 3)
    public = crm.events()[-1]["messages"][0]["fileUpload"]["publicFilePath"]
    assert await client.fetch("/rocketchat" + public) == (200, PDF)
    await client.fault("status", "rocketchat.file", status=502, times=1)
    assert (await client.fetch(path, **API))[0] == 502
    rows = [row for row in await client.record("rest") if row["method"] == "file-upload"]
    assert [row["answered"] for row in rows] == [200, 403, 404, 200, 502]


async def test_what_rocketchat_does_not_take(client: Client) -> None:
    rid = (await room(client))["_id"]
    path = f"{REST}rooms.media/{rid}"
    assert (await client.upload(f"{REST}rooms.media/nada", PDF, "text/plain", **API))[0] == 400
    assert (await client.upload(path, PDF, "text/plain"))[0] == 401
    status, answer = await client.upload(path, PDF, "image/svg+xml", **API)
    assert (status, answer["errorType"]) == (400, "error-invalid-file-type")
    await client.control("configure", {"rocketchat": {"max_file_bytes": 3}})
    assert (await client.upload(path, PDF, "text/plain", **API))[1]["errorType"] == "error-file-too-large"
    assert (await client.rest("POST", f"rooms.media/{rid}", {}))[1]["errorType"] == "invalid-field"
    await client.control("configure", {"rocketchat": {"max_file_bytes": 99, "media_confirm_seconds": 0}})
    late = await put(client, rid)
    assert (await client.rest("POST", f"rooms.mediaConfirm/{rid}/{late}"))[1]["errorType"] == "invalid-file"
    await client.control("configure", {"rocketchat": {"media_confirm_seconds": 60}})
    await client.control("close", {"rid": rid})
    kept = await put(client, rid)
    assert (await client.rest("POST", f"rooms.mediaConfirm/{rid}/{kept}"))[1]["errorType"] == "room-closed"
    assert await client.record("graph") == []


async def test_a_confirmation_whose_answer_is_lost_is_not_done_twice(client: Client) -> None:
    rid = (await room(client))["_id"]
    path = f"rooms.mediaConfirm/{rid}/{await put(client, rid)}"
    await client.fault("reset_after", "rocketchat.rest.rooms.mediaConfirm", match={"to": WA_ID}, times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.rest("POST", path)
    assert (await client.rest("POST", path))[1]["errorType"] == "invalid-file"
    assert len(await client.record("graph")) == 1


async def test_a_customers_file_becomes_a_message_with_a_file(client: Client, crm: Receiver) -> None:
    url = f"{client.base}/rocketchat/api/apps/public/app-1/webhook"
    await client.control("configure", {"numbers": {NUMBER: {"callback_url": url}}})
    message = {"type": "document", "document": {"caption": "meu exame"}}
    media = TOLD | {"filename": "exame.pdf"}
    media.pop("name")
    given = {"phone_number_id": NUMBER, "from": WA_ID, "message": message, "media": media}
    told = await client.control("patient", given)
    await until(crm.got, 2)
    (shown,) = next(event for event in crm.events() if event["type"] == "Message")["messages"]
    assert (shown["msg"], shown["file"]["name"], "agentId" in shown) == ("meu exame", "exame.pdf", False)
    assert shown["attachments"][0]["title_link"] == f"/file-upload/{shown['file']['_id']}/exame.pdf"
    assert await client.fetch(f"/control/rocketchat/upload/{shown['file']['_id']}") == (200, PDF)
    rows = await client.record("media")
    assert [(row["by"], row["media_id"]) for row in rows] == [("rocketchat", told["media_id"])] * 2
    await client.fault("status", "graph.media.get", match={"by": "rocketchat"})
    await client.control("patient", given)
    assert (await client.record("rocketchat"))[-1]["file"] is None


async def test_an_agent_sends_a_file_and_edits_a_message(client: Client, crm: Receiver) -> None:
    await room(client)
    said = await client.control("agent", {"wa_id": WA_ID, "text": "segue", "file": TOLD})
    (sent,) = await client.record("graph")
    assert (sent["media_sha256"], sent["text"]) == (DIGEST, "segue")
    edited = await client.control("edit", {"_id": said["_id"], "text": "segue o exame"})
    await until(crm.got, 4)
    # Events are posted side by side: which comes first is not told.
    (event,) = [one for one in crm.events() if one["messages"] and "editedAt" in one["messages"][0]]
    assert event["messages"][0]["msg"] == "segue o exame"
    assert event["messages"][0]["editedAt"] == edited["editedAt"]
    assert len(await client.record("graph")) == 1
    await client.control("configure", {"rocketchat": {"webhook_edits": False}})
    await client.control("edit", {"_id": said["_id"], "text": "outra vez"})
    assert len([row for row in await client.record("webhooks") if row["target"] == "omnichannel"]) == 4


async def test_rooms_are_paged_and_bounded_by_closing(client: Client) -> None:
    for at in range(1, 5):
        await client.forward("oi", f"wamid.{at}", f"551190000000{at}")
    for at in (1, 2):
        await client.control("close", {"wa_id": f"551190000000{at}"})
    _, closed = await client.rest("GET", "livechat/rooms?open=false")
    assert (closed["total"], len(closed["rooms"])) == (2, 2)
    start = max(one["closedAt"] for one in closed["rooms"])
    _, since = await client.rest("GET", f'livechat/rooms?closedAt={{"start":"{start}"}}')
    assert [one["v"]["phone"] for one in since["rooms"]] == ["5511900000002"] or since["total"] == 2
    _, none = await client.rest("GET", 'livechat/rooms?closedAt={"start":"2099-01-01T00:00:00.000Z"}')
    assert none["total"] == 0
    _, page = await client.rest("GET", "livechat/rooms?offset=3&count=2")
    assert (page["total"], page["offset"], page["count"]) == (4, 3, 1)
    assert (await client.rest("GET", "livechat/rooms?closedAt=ontem"))[0] == 400


async def test_history_is_for_the_visitors_token(client: Client) -> None:
    found = await room(client)
    path, token = f"livechat/messages.history/{found['_id']}", found["v"]["token"]
    for at in range(4):
        await client.control("agent", {"wa_id": WA_ID, "text": f"resposta {at}"})
    assert (await client.rest("GET", path))[1]["errorType"] == "invalid-params"
    assert await client.rest("GET", path + "?token=x") == (400, {"success": False, "error": "invalid-token"})
    await client.forward("sou outra", "wamid.2", "5511900000002")
    _, listed = await client.rest("GET", "livechat/rooms")
    other = next(one for one in listed["rooms"] if one["_id"] != found["_id"])
    status, answer = await client.rest("GET", f"{path}?token={other['v']['token']}")
    assert (status, answer["error"]) == (400, "invalid-room")
    _, first = await client.call("GET", f"{REST}{path}?token={token}&limit=2")
    assert [one["msg"] for one in first["messages"]] == ["resposta 3", "resposta 2"]
    _, second = await client.call("GET", f"{REST}{path}?token={token}&limit=9&offset=2")
    assert [one["msg"] for one in second["messages"]] == ["resposta 1", "resposta 0", "oi"]
    end, since = first["messages"][1]["ts"], second["messages"][0]["ts"]
    _, before = await client.call("GET", f"{REST}{path}?token={token}&end={end}&ls={since}")
    assert all(one["ts"] < end for one in before["messages"])
    assert before["messages"][-1]["msg"] == "oi", "ls is no lower bound"


async def test_sync_messages_tells_what_changed(client: Client) -> None:
    found = await room(client)
    said = await client.control("agent", {"wa_id": WA_ID, "text": "um"})
    path = f"chat.syncMessages?roomId={found['_id']}"
    assert (await client.rest("GET", path))[1]["errorType"] == "error-lastUpdate-param-not-provided"
    _, answer = await client.rest("GET", path + "&lastUpdate=2020-01-01T00:00:00.000Z")
    assert [one["msg"] for one in answer["result"]["updated"]] == ["oi", "um"]
    last = answer["result"]["updated"][1]["_updatedAt"]
    edited = await client.control("edit", {"_id": said["_id"], "text": "dois"})
    if edited["editedAt"] > last:  # within one millisecond it could not be seen
        _, answer = await client.rest("GET", f"{path}&lastUpdate={last}")
        assert [one["msg"] for one in answer["result"]["updated"]] == ["dois"]


async def test_reactions(client: Client) -> None:
    await room(client)
    said = await client.control("agent", {"wa_id": WA_ID, "text": "um"})
    body = {"messageId": said["_id"], "emoji": "thumbsup", "shouldReact": True}
    assert await client.rest("POST", "chat.react", body) == (200, {"success": True})
    _, answer = await client.rest(
        "GET", f"chat.syncMessages?roomId={said['rid']}&lastUpdate=2020-01-01T00:00:00Z"
    )
    assert answer["result"]["updated"][-1]["reactions"] == {":thumbsup:": {"usernames": ["figueira.bot"]}}
    _, alone = await client.rest("GET", f"chat.getMessage?msgId={said['_id']}")
    assert alone["message"]["reactions"] == {":thumbsup:": {"usernames": ["figueira.bot"]}}
    assert (await client.rest("GET", "chat.getMessage?msgId=x"))[0] == 400
    unknown = await client.rest("POST", "chat.react", {"messageId": "x", "emoji": "a"})
    assert unknown[1]["errorType"] == "error-message-not-found"
    assert len(await client.record("graph")) == 1


async def test_events_are_lost_for_ever_and_the_history_is_not(client: Client, crm: Receiver) -> None:
    await client.fault("drop", "rocketchat.webhook", share=0.3, seed=7)
    for at in range(40):
        await client.call("POST", "/rocketchat/api/apps/public/app-1/webhook", inbound("oi", f"wamid.{at}"))
    rows = [row for row in await client.record("webhooks") if row["target"] == "omnichannel"]
    dropped = [row for row in rows if row["dropped"]]
    assert 4 <= len(dropped) <= 22
    await until(crm.got, 41 - len(dropped))
    told = {one["_id"] for event in crm.events() for one in event["messages"]}
    lost = {one for row in dropped for one in row["messages"]}
    _, history = await client.call("GET", "/control/rocketchat/history")
    (messages,) = history.values()
    assert {one["_id"] for one in messages} == told | lost
    assert not told & lost
    assert len(crm.got) == 41 - len(dropped)


async def test_a_fault_of_all_of_rocketchat_is_not_about_its_events(client: Client, crm: Receiver) -> None:
    await room(client)
    await client.fault("down", "rocketchat")
    await client.control("agent", {"wa_id": WA_ID, "text": "ainda aqui"})
    await until(crm.got, 3)
    assert not any(row["dropped"] for row in await client.record("webhooks"))
