"""`figueira rocketchat check` and `setup`, and the clinic's users, against a workspace that nobody has set up yet."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.acceptance.outside import Outside, eventually, outside
from tests.acceptance.scene import BOT, RC_TOKEN, WEBHOOK_TOKEN, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-rocketchat-setup")]
SOL = Line("sol", "100200300")
INTEGRATION_TOKEN = "token-plantado-da-integracao-2c6f"
CRM = "http://crm.clinica.example/ganchos?chave=segredo-do-crm"
PHONE = "5531996880001"
REST = {"X-User-Id": BOT, "X-Auth-Token": RC_TOKEN}
EVENTS = {
    f"Livechat_webhook_on_{name}": True
    for name in (
        "start", "close", "chat_taken", "forward", "offline_msg", "visitor_message", "agent_message",
    )
}  # fmt: skip

Item = dict[str, Any]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with staged([SOL], roles={"all": "all"}) as scene:
        settings = scene.folder / "figueira.toml"
        told = settings.read_text().replace(
            "[rocketchat]\n", f'[rocketchat]\nintegration_token = "{INTEGRATION_TOKEN}"\n', 1
        )
        settings.write_text(f'public_url = "{scene.url}"\n{told}')
        yield scene


@pytest.fixture
async def out(scene: Scene) -> AsyncIterator[Outside]:
    async with outside(scene) as out:
        await out.sandbox.control("configure", {"rocketchat": {"permissions": None, "users_create": "ok"}})
        yield out


async def rest(out: Outside, path: str) -> Item:
    status, answer = await out.sandbox.call("GET", f"/rocketchat/api/v1/{path}", **REST)
    assert status == 200, answer
    found: Item = answer
    return found


async def workspace(out: Outside) -> tuple[Item, list[Item]]:
    """Its settings by name, and its integrations."""
    shown = await rest(out, "livechat/integrations.settings")
    listed = await rest(out, "integrations.list")
    return {one["_id"]: one["value"] for one in shown["settings"]}, listed["integrations"]


async def asked(out: Outside, *argv: str, code: int = 0) -> dict[str, Item]:
    """The findings of a command by name; no secret is among what they say."""
    told = await asyncio.to_thread(out.scene.figueira, "rocketchat", *argv, code=code)
    written = json.dumps(told)
    assert told["ok"] is (code == 0)
    for secret in (WEBHOOK_TOKEN, INTEGRATION_TOKEN, RC_TOKEN, "segredo-do-crm"):
        assert secret not in written
    return {one["name"]: one for one in told["findings"]}


def failing(findings: dict[str, Item]) -> set[str]:
    wrong = {name for name, one in findings.items() if one["ok"] is False}
    assert all(findings[name]["mend"] for name in wrong)
    return wrong


async def changes(out: Outside) -> list[str]:
    """What was asked of Rocket.Chat that changes it."""
    return [row["method"] for row in await out.sandbox.record("rest") if row["http_method"] != "GET"]


async def test_setup_mends_what_check_finds_and_then_the_webhook_works(out: Outside) -> None:
    owner = {"webhook_url": CRM, "webhook_token": "", "settings": {"Livechat_webhook_on_close": False}}
    permissions = {one["_id"]: one["roles"] for one in (await rest(out, "permissions.listAll"))["update"]}
    permissions["create-user"] = ["admin"]
    await out.sandbox.control("configure", {"rocketchat": {**owner, "permissions": permissions}})
    before = await workspace(out)

    found = await asked(out, "check", code=1)
    mendable = {"webhook_url", "webhook_secret", "webhook_events", "integration"}
    assert failing(found) == mendable | {"permission create-user"}
    assert "http://crm.clinica.example/ganchos" in found["webhook_url"]["seen"]
    assert "create-user" in found["permission create-user"]["mend"]

    assert "--replace" in (await asked(out, "setup", "--dry-run", code=1))["webhook_url"]["mend"]
    assert await workspace(out) == before, "the CRM's webhook is the CRM's"
    would = await asked(out, "setup", "--dry-run", "--replace")
    assert all(would[name]["seen"].startswith("would be set") for name in mendable)
    assert await workspace(out) == before
    assert not await changes(out)

    await asked(out, "setup", "--replace")
    values, (made,) = await workspace(out)
    hook = f"{out.scene.url}/webhooks/rocketchat"
    assert (values["Livechat_webhookUrl"], values["Livechat_secret_token"]) == (hook, WEBHOOK_TOKEN)
    assert values.items() >= EVENTS.items()
    assert (made["urls"], made["token"], made["enabled"]) == ([hook], INTEGRATION_TOKEN, True)
    assert set(made["channel"]) == {"all_public_channels", "all_private_groups", "all_direct_messages"}
    done = await changes(out)
    assert sorted(done) == ["integrations.create", "omnichannel/integrations"]
    await asked(out, "setup")
    assert await changes(out) == done, "what is right is left alone"

    assert failing(await asked(out, "check", code=1)) == {"permission create-user"}
    permissions["create-user"] = ["bot"]
    await out.sandbox.control("configure", {"rocketchat": {"permissions": permissions}})
    assert not failing(await asked(out, "check"))
    await a_message_is_told(out)


async def a_message_is_told(out: Outside) -> None:
    """Rocket.Chat posts to the address it was given, and is believed."""
    wamid = await out.say(SOL, "5511990000009", "oi")

    async def told() -> list[Item]:
        rows = await out.sandbox.record("webhooks")
        return [row for row in rows if row["target"] == "omnichannel" and row["type"] == "Message"]

    (row,) = await eventually(told, "the webhook")
    assert row["status"] == 200
    await out.quiet()
    (said,) = [one for one in await out.messages("sol") if one["external_id"] == wamid]
    assert [said["source_id"]] == row["messages"]


async def test_a_user_is_made_once_in_rocketchat(out: Outside) -> None:
    user, body = str(uuid.uuid4()), {"name": "Ana", "phone": "+55 31 99688-0001", "email": "Ana@example.org"}
    status, first = await out.api("PUT", f"/v1/users/{user}", body)
    assert (status, first["id_user"], first["rocketchat"]["state"]) == (200, user, "mapped")
    assert await out.api("PUT", f"/v1/users/{user}", body) == (200, first)
    assert (await changes(out)).count("users.create") == 1
    known = (await rest(out, "users.info?email=ana@example.org"))["user"]
    assert first["rocketchat"]["rc_user_id"] == known["_id"]

    wamid = await out.say(SOL, PHONE, "sou eu")
    assert (await out.conversation_of("sol", wamid))["contact_id"] == first["contact_id"]


@pytest.mark.parametrize(("mode", "code"), [("totp", "two_factor"), ("licence", "licence_limit")])
async def test_a_user_rocketchat_refuses_is_kept_all_the_same(out: Outside, mode: str, code: str) -> None:
    user, email = str(uuid.uuid4()), f"{mode}@example.org"
    phone = {"totp": "5531996880002", "licence": "5531996880003"}[mode]
    body = {"name": "Bia", "phone": phone, "email": email}
    await out.sandbox.control("configure", {"rocketchat": {"users_create": mode}})
    status, refused = await out.api("PUT", f"/v1/users/{user}", body)
    assert (status, refused["rocketchat"]["state"], refused["rocketchat"]["code"]) == (200, "refused", code)
    assert refused["rocketchat"]["detail"]
    status, contact = await out.api("GET", f"/v1/contacts/{refused['contact_id']}")
    addresses = {one["value"] for way in contact["identities"] for one in way["addresses"]}
    assert (status, contact["user_id"], contact["name"]) == (200, user, "Bia")
    assert {phone, email} <= addresses

    await out.sandbox.control("configure", {"rocketchat": {"users_create": "ok"}})
    status, mapped = await out.api("PUT", f"/v1/users/{user}", body)
    assert (status, mapped["rocketchat"]["state"]) == (200, "mapped")
    assert mapped["contact_id"] == refused["contact_id"]
