"""Where WhatsApp's webhooks go: overrides at Meta, and Rocket.Chat's own app before the cut-in."""

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.integration.sandbox.process import (
    APP_PATH,
    BEARER,
    NUMBER,
    SECRET,
    WA_ID,
    Client,
    Receiver,
    until,
)

APP, WABA = "670843887433847", "102290129340398"
NUMBER_PATH, WABA_PATH = f"/graph/v23.0/{NUMBER}", f"/graph/v23.0/{WABA}/subscribed_apps"
APP_SUBSCRIPTIONS = f"/graph/v23.0/{APP}/subscriptions"
APP_TOKEN = {"Authorization": f"Bearer {APP}|{SECRET}"}


async def override(client: Client, url: str) -> tuple[int, Any]:
    body = {"webhook_configuration": {"override_callback_uri": url, "verify_token": "v"}}
    return await client.call("POST", NUMBER_PATH, body, **BEARER)


async def shown(client: Client) -> dict[str, str]:
    _, answer = await client.call("GET", NUMBER_PATH + "?fields=webhook_configuration", None, **BEARER)
    found: dict[str, str] = answer["webhook_configuration"]
    return found


async def said(client: Client, text: str = "oi") -> Any:
    return await client.control("patient", {"phone_number_id": NUMBER, "from": WA_ID, "text": text})


async def test_the_narrowest_callback_serves(client: Client, receiver: Receiver, crm: Receiver) -> None:
    assert await shown(client) == {"application": receiver.url + "/meta"}
    waba = {"override_callback_uri": crm.url + "/waba", "verify_token": "v"}
    assert await client.call("POST", WABA_PATH, waba, **BEARER) == (200, {"success": True})
    await said(client)
    assert (len(receiver.got), len(crm.got)) == (0, 1)
    assert crm.got[0][0]["X-Hub-Signature-256"].startswith("sha256=")
    assert await override(client, receiver.url + "/number") == (200, {"success": True})
    await said(client)
    assert (len(receiver.got), len(crm.got)) == (1, 1)
    assert await shown(client) == {
        "phone_number": receiver.url + "/number",
        "whatsapp_business_account": crm.url + "/waba",
        "application": receiver.url + "/meta",
    }
    _, listed = await client.call("GET", WABA_PATH, None, **BEARER)
    assert listed["data"][0]["override_callback_uri"] == crm.url + "/waba"
    assert listed["data"][0]["whatsapp_business_api_data"]["id"] == APP
    await override(client, "")
    await client.call("POST", WABA_PATH, {}, **BEARER)
    assert await shown(client) == {"application": receiver.url + "/meta"}
    rows = await client.record("callbacks")
    assert [(row["level"], row["action"]) for row in rows] == [
        ("waba", "set"),
        ("number", "set"),
        ("number", "clear"),
        ("waba", "subscribe"),
    ]


async def test_an_address_has_to_pass_the_handshake(client: Client, receiver: Receiver) -> None:
    await client.control("configure", {"rocketchat": {"app": {"app-1": {"verify_token": "outra"}}}})
    status, answer = await override(client, client.base + APP_PATH)
    assert (status, answer["error"]["code"]) == (400, 2200)
    status, answer = await override(client, "http://127.0.0.1:1/")
    assert (status, answer["error"]["code"]) == (400, 2200)
    assert (await override(client, receiver.url + "/" + "x" * 200))[1]["error"]["code"] == 100
    assert "phone_number" not in await shown(client)
    assert [row["code"] for row in await client.record("callbacks")] == [2200, 2200, 100]


async def test_who_is_not_subscribed_hears_nothing_and_overrides_nothing(
    client: Client, receiver: Receiver
) -> None:
    assert (await client.call("DELETE", WABA_PATH, None, **BEARER))[1] == {"success": True}
    assert (await client.call("GET", WABA_PATH, None, **BEARER))[1] == {"data": []}
    status, answer = await override(client, receiver.url + "/number")
    assert (status, answer["error"]["code"]) == (400, 100)
    assert "must be subscribed" in answer["error"]["message"]
    await client.send()
    await client.call("POST", WABA_PATH, None, **BEARER)
    assert (await override(client, receiver.url + "/number"))[0] == 200
    assert (await client.call("GET", "/graph/v23.0/9/subscribed_apps", None, **BEARER))[0] == 400
    assert receiver.got == []


async def test_the_apps_own_callback(client: Client, receiver: Receiver, crm: Receiver) -> None:
    body = {
        "object": "whatsapp_business_account",
        "callback_url": crm.url + "/app",
        "verify_token": "v",
        "fields": "messages,account_update",
    }
    assert (await client.call("POST", APP_SUBSCRIPTIONS, body, **BEARER))[0] == 401
    assert (await client.call("POST", APP_SUBSCRIPTIONS, body, **APP_TOKEN))[1] == {"success": True}
    _, listed = await client.call("GET", APP_SUBSCRIPTIONS, None, **APP_TOKEN)
    (subscription,) = listed["data"]
    assert subscription["callback_url"] == crm.url + "/app"
    assert [one["name"] for one in subscription["fields"]] == ["messages", "account_update"]
    await override(client, receiver.url + "/number")
    event = {"event": "APPROVED", "message_template_name": "lembrete"}
    given = {"phone_number_id": NUMBER, "field": "message_template_status_update", "value": event}
    told = await client.control("account_event", given)
    assert told == {"url": crm.url + "/app", "status": 200}
    assert crm.events()[0]["entry"][0]["changes"] == [
        {"value": event, "field": "message_template_status_update"}
    ]
    await said(client)
    assert (len(receiver.got), len(crm.got)) == (1, 1)


async def test_an_echo_of_the_clinics_phone(client: Client, receiver: Receiver) -> None:
    given = {"phone_number_id": NUMBER, "to": WA_ID, "text": "respondi do celular"}
    told = await client.control("phone_echo", given)
    change = json.loads(receiver.got[0][1])["entry"][0]["changes"][0]
    (echo,) = change["value"]["message_echoes"]
    assert (change["field"], told["status"]) == ("smb_message_echoes", 200)
    assert (echo["from"], echo["to"], echo["id"]) == ("551130000001", WA_ID, told["wamid"])


@pytest.mark.parametrize("level", ["number", "app"])
async def test_before_the_cut_in_all_of_it_runs_without_a_router(
    client: Client, receiver: Receiver, crm: Receiver, level: str
) -> None:
    """Patient → Rocket.Chat's app → agent → WhatsApp → statuses, with nothing of ours between."""
    url = client.base + APP_PATH
    if level == "number":
        assert (await override(client, url))[0] == 200
    else:
        body = {"object": "whatsapp_business_account", "callback_url": url, "verify_token": "v"}
        assert (await client.call("POST", APP_SUBSCRIPTIONS, body, **APP_TOKEN))[0] == 200
    assert (await said(client, "bom dia"))["status"] == 200
    photo = {"content_base64": base64.b64encode(b"\xff\xd8\xff").decode(), "mime": "image/jpeg"}
    message = {"type": "image", "image": {"caption": "olha"}}
    given = {"phone_number_id": NUMBER, "from": WA_ID, "message": message, "media": photo}
    assert (await client.control("patient", given))["status"] == 200
    await client.control("agent", {"wa_id": WA_ID, "text": "bom dia, Mariana"})
    (sent,) = await client.record("graph")
    assert (sent["by"], sent["text"]) == ("rocketchat", "bom dia, Mariana")
    forwards = [row for row in await client.record("forwards") if row["method"] == "POST"]
    assert all(row["signature_ok"] for row in forwards)
    await until(crm.got, 4)
    _, history = await client.call("GET", "/control/rocketchat/history")
    (messages,) = history.values()
    assert [(one["msg"], one["by"], one["by_agent"]) for one in messages] == [
        ("bom dia", "visitor", False),
        ("olha", "visitor", False),
        ("bom dia, Mariana", "agent", True),
    ]
    assert messages[1]["file"]["type"] == "image/jpeg"
    assert [row["by"] for row in await client.record("media")] == ["rocketchat", "rocketchat"]
    assert receiver.got == []
    await delivered(client, sent["wamid"])


async def delivered(client: Client, wamid: str) -> None:
    for _ in range(100):
        statuses = [tuple(one) for row in await client.record("forwards") for one in row["statuses"]]
        if (wamid, "delivered") in statuses:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(wamid)
