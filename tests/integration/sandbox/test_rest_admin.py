"""What `rocketchat check` and `setup` meet: users, second factor, seats, rights, settings, integrations."""

import pytest

from tests.integration.sandbox.process import API, Client, Receiver, until

USER = {"name": "Ana", "email": "ana@example.com", "username": "ana.silva", "password": "x"}


async def test_a_user_is_made_once_and_found(client: Client) -> None:
    status, answer = await client.rest("POST", "users.create", USER)
    user = answer["user"]
    assert (status, user["username"], user["emails"][0]["address"]) == (200, "ana.silva", "ana@example.com")
    for query in ("email=ANA@example.com", "username=ana.silva", f"userId={user['_id']}"):
        assert (await client.rest("GET", f"users.info?{query}"))[1]["user"]["_id"] == user["_id"]
    assert (await client.rest("GET", "users.info?email=b@example.com"))[0] == 400
    for change, field in (({"email": "b@example.com"}, "username"), ({"username": "b"}, "email")):
        status, answer = await client.rest("POST", "users.create", USER | change)
        assert (status, answer["errorType"]) == (400, "error-field-unavailable")
        assert answer["details"]["field"] == field
    status, answer = await client.rest("POST", "users.create", {"name": "Ana"})
    assert (status, answer["errorType"]) == (400, "invalid-params")


async def test_a_second_factor_is_asked_for(client: Client) -> None:
    await client.control("configure", {"rocketchat": {"users_create": "totp"}})
    status, answer = await client.rest("POST", "users.create", USER)
    assert (status, answer["errorType"]) == (400, "totp-required")
    assert answer["error"].endswith("[totp-required]")
    path = "/rocketchat/api/v1/users.create"
    wrong = {"x-2fa-code": "1", "x-2fa-method": "totp"}
    assert (await client.call("POST", path, USER, **API, **wrong))[1]["errorType"] == "totp-invalid"
    right = {"x-2fa-code": "123456", "x-2fa-method": "totp"}
    assert (await client.call("POST", path, USER, **API, **right))[0] == 200


async def test_no_seat_is_left(client: Client) -> None:
    await client.control("configure", {"rocketchat": {"users_create": "licence"}})
    status, answer = await client.rest("POST", "users.create", USER)
    assert (status, answer["errorType"]) == (400, "error-license-user-limit-reached")
    assert "license" in answer["error"]


@pytest.mark.parametrize(
    ("version", "expected"), [("7.10.0", "unauthorized"), ("8.0.0", "[error-forbidden]")]
)
async def test_rights_are_told_and_enforced(client: Client, version: str, expected: str) -> None:
    permissions = {"view-livechat-rooms": ["livechat-manager"], "create-user": ["admin"]}
    settings = {"version": version, "roles": ["bot", "livechat-manager"], "permissions": permissions}
    await client.control("configure", {"rocketchat": settings})
    assert (await client.rest("GET", "me"))[1]["roles"] == ["bot", "livechat-manager"]
    _, listed = await client.rest("GET", "permissions.listAll")
    assert {one["_id"]: one["roles"] for one in listed["update"]} == permissions
    assert (await client.rest("GET", "livechat/rooms"))[0] == 200
    status, answer = await client.rest("POST", "users.create", USER)
    assert status == 403
    assert expected in answer["error"]
    assert answer["success"] is False


async def test_the_webhook_is_set_over_rest_and_used(client: Client, receiver: Receiver) -> None:
    body = {
        "LivechatWebhookUrl": receiver.url + "/crm",
        "LivechatSecretToken": "novo",
        "LivechatWebhookOnStart": False,
        "LivechatWebhookOnVisitorMessage": True,
    }
    assert await client.rest("POST", "omnichannel/integrations", body) == (200, {"success": True})
    _, shown = await client.rest("GET", "livechat/integrations.settings")
    values = {one["_id"]: one["value"] for one in shown["settings"]}
    assert values["Livechat_webhookUrl"] == receiver.url + "/crm"
    assert values["Livechat_secret_token"] == "novo"
    assert (values["Livechat_webhook_on_start"], values["Livechat_webhook_on_close"]) == (False, True)
    await client.forward("oi")
    await client.control("close", {"wa_id": "5511900000001"})
    await until(receiver.got, 2)
    assert sorted(event["type"] for event in receiver.events()) == ["LivechatSession", "Message"]
    assert all(headers["X-RocketChat-Livechat-Token"] == "novo" for headers, _ in receiver.got)


async def test_settings(client: Client) -> None:
    await client.control("configure", {"rocketchat": {"settings": {"Message_AllowEditing": False}}})
    path = "settings/Message_AllowEditing"
    assert (await client.rest("GET", path))[1] == {
        "_id": "Message_AllowEditing",
        "value": False,
        "success": True,
    }
    assert (await client.rest("POST", path, {"value": True}))[0] == 200
    assert (await client.rest("GET", path))[1]["value"] is True
    assert (await client.rest("GET", "settings/nada"))[1] == {"success": True}
    await client.rest("POST", "settings/Livechat_webhookUrl", {"value": "http://127.0.0.1:1/"})
    assert (await client.rest("GET", "settings/Livechat_webhookUrl"))[1]["value"] == "http://127.0.0.1:1/"
    await client.control("reset", {})
    assert (await client.rest("GET", "settings/Livechat_webhookUrl"))[1]["value"] == ""


async def test_integrations(client: Client) -> None:
    body = {
        "type": "webhook-outgoing",
        "name": "figueira",
        "username": "rocket.cat",
        "event": "sendMessage",
        "urls": ["http://127.0.0.1:1/"],
        "channel": "all_direct_messages",
        "enabled": True,
        "scriptEnabled": False,
        "token": "segredo",
    }
    status, answer = await client.rest("POST", "integrations.create", body)
    made = answer["integration"]
    assert (status, made["channel"], made["token"]) == (200, ["all_direct_messages"], "segredo")
    _, listed = await client.rest("GET", "integrations.list?name=figueira")
    assert (listed["total"], listed["integrations"][0]["_id"]) == (1, made["_id"])
    assert (await client.rest("GET", "integrations.list?name=outra"))[1]["total"] == 0
    assert (await client.rest("POST", "integrations.create", {"name": "x"}))[1][
        "errorType"
    ] == "invalid-params"


async def test_faults_and_limits_are_those_of_all_routes(client: Client) -> None:
    await client.fault("status", "rocketchat.rest.users.create", status=500, times=1)
    assert (await client.rest("POST", "users.create", USER))[0] == 500
    await client.control("configure", {"rocketchat": {"rate_limit": {"calls": 1, "seconds": 60}}})
    assert (await client.rest("GET", "permissions.listAll"))[0] == 200
    assert (await client.rest("GET", "permissions.listAll"))[0] == 429
    assert (await client.rest("GET", "settings/Livechat_enabled"))[0] == 200
    assert (await client.rest("GET", "settings/Message_MaxAllowedSize"))[0] == 429, "one route, one count"
