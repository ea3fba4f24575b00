"""What the clinic's software and the console do over HTTP, down to the rows."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import pytest

from router.control import access, csrf
from router.control.desk import Desk
from router.storage.queries import talk
from tests.integration.api.conftest import Key
from tests.integration.control.desk_scene import LUA, SOL, open_conversation, say

pytestmark = pytest.mark.postgres


async def test_a_message_and_its_repeats(client: httpx.AsyncClient, key: Key) -> None:
    headers = await key(SOL, "all")
    native = {"stage": "native", "tenants": [SOL], "reason": "ready"}
    assert (await client.put("/v1/flags/whatsapp", headers=headers, json=native)).status_code == 200
    body = {"channel": "whatsapp", "to": "+5511988887777", "text": "Olá", "metadata": {"n": 1}}
    idem = headers | {"Idempotency-Key": "one"}
    first = await client.post("/v1/messages", headers=idem, json=body)
    assert first.status_code == 202, first.text
    assert first.json()["path"] == "native"
    assert first.json()["status"] == "queued"
    assert (await client.post("/v1/messages", headers=idem, json=body)).json() == first.json()
    other = await client.post("/v1/messages", headers=idem, json={**body, "text": "Oi"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    stranger = (await key(SOL, "all")) | {"Idempotency-Key": "one"}
    assert (await client.post("/v1/messages", headers=stranger, json=body)).json()["id"] != first.json()["id"]
    shown = (await client.get(f"/v1/messages/{first.json()['id']}", headers=headers)).json()
    assert (shown["status"], shown["attempts"], shown["text"]) == ("queued", [], "Olá")
    assert shown["decision_id"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"channel": "whatsapp", "to": "nobody", "text": "t"}', 422, "invalid_recipient"),
        ('{"channel": "whatsapp", "to": "5511988887777"}', 422, "empty"),
        ('{"channel": "whatsapp", "to": "5511988887777", "template": {"name": "n"}}', 422, "invalid_content"),
        ('{"channel": "whatsapp", "to": "5511988887777", "text": "t", "contacts": [{}]}', 422, "invalid_content"),
        ('{"channel": "whatsapp", "to": "5511988887777", "location": 5}', 422, "invalid"),
        ('{"channel": "whatsapp", "to": "5511988887777", "media": {"url": "https://x.example/a.png"}}', 422, "invalid_media"),
        ('{"channel": "sms", "to": "5511988887777", "location": {"latitude": 1, "longitude": 1}}', 422, "unsupported"),
        ('{"channel": "whatsapp", "to": "5511988887777", "media": {"media_id": "0198c0de-0000-7000-8000-000000000001"}}', 404, "unknown_media"),
        ('{"channel": "whatsapp", "user_id": "0198c0de-0000-7000-8000-000000000001", "text": "t"}', 422, "not_mapped"),
        ('{"channel": "whatsapp", "to": "5511988887777", "text": "t"}', 409, "no_room_on_path"),
        ('{"channel": "whatsapp", "to": "5511988887777", "text": "t", "metadata": {"n": NaN}}', 422, "invalid"),
        ('{"channel": "whatsapp", "to": "5511988887777", "text": "\\ud800"}', 422, "invalid"),
    ],
)  # fmt: skip
async def test_messages_that_cannot_be(
    client: httpx.AsyncClient, key: Key, body: str, status: int, code: str
) -> None:
    headers = (await key(SOL, "all")) | {"Content-Type": "application/json"}
    answer = await client.post("/v1/messages", headers=headers, content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_kind_with_two_channels(client: httpx.AsyncClient, key: Key) -> None:
    body = {"channel": "whatsapp", "to": "5511988887777", "text": "t"}
    answer = await client.post("/v1/messages", headers=await key(LUA, "all"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "ambiguous_channel")


async def test_a_conversation_from_list_to_close(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    headers = await key(SOL, "conversations:read", "conversations:write")
    made = [await open_conversation(desk, "wa-sol") for _ in range(3)]
    for text in ("bom dia", "quero marcar", "obrigada"):
        await say(desk, made[0], text)
    pages: list[Any] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.get("/v1/conversations", headers=headers, params=query)).json()
        pages.append([one["id"] for one in page["items"]])
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [len(page) for page in pages] == [2, 1]
    assert {one for page in pages for one in page} == {str(one.id) for one in made}
    found = (await client.get("/v1/conversations?q=marcar&state=open", headers=headers)).json()["items"]
    assert [one["id"] for one in found] == [str(made[0].id)]

    at = f"/v1/conversations/{made[0].id}"
    said = (await client.get(f"{at}/messages?limit=2", headers=headers)).json()
    assert [one["text"] for one in said["items"]] == ["bom dia", "quero marcar"]
    query = {"cursor": said["next_cursor"]}
    rest = (await client.get(f"{at}/messages", headers=headers, params=query)).json()
    assert [one["text"] for one in rest["items"]] == ["obrigada"]

    answered = await client.post(f"{at}/messages", headers=headers, json={"text": "Às ordens"})
    assert answered.status_code == 202
    row = await desk.store.transact(lambda tx: talk.message(tx, UUID(answered.json()["id"])))
    assert row is not None
    assert (row["author"], row["text"], row["path"]) == ("human", "Às ordens", "rocketchat")

    moved = await client.post(f"{at}/move", headers=headers, json={"path": "native", "reason": "trial"})
    assert (moved.json()["path"], moved.json()["pin_version"]) == ("native", 2)
    why = (await client.get(f"{at}/decisions", headers=headers)).json()["items"]
    assert [one["path"] for one in why] == ["rocketchat", "native"]
    assert why[1]["rule"] == "move"
    assert why[1]["reason"] == "trial"
    for _ in range(2):
        closed = await client.post(f"{at}/close", headers=headers)
        assert (closed.json()["state"], closed.json()["closed_by"]) == ("closed", "api")
    late = await client.post(f"{at}/move", headers=headers, json={"path": "rocketchat", "reason": "r"})
    assert (late.status_code, late.json()["code"]) == (409, "conversation_closed")


async def test_a_flag_from_canary_to_release(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    headers = await key(None, "flags:read", "flags:write")
    at = "/v1/flags/whatsapp"
    fresh = await client.get(at, headers=headers)
    assert (fresh.headers["etag"], fresh.json()["stage"]) == ('"0"', "rocketchat")
    conversation = await open_conversation(desk, "wa-sol")
    canary = {"stage": "canary", "percent": 10, "reason": "first"}
    seen = headers | {"If-Match": fresh.headers["etag"]}
    put = await client.put(at, headers=seen, json=canary)
    assert (put.status_code, put.json()["percent"]) == (200, 10)
    moved = await client.put(at, headers=seen, json=canary)
    assert (moved.status_code, moved.json()["code"]) == (412, "revision_moved")
    dry = {"stage": "native", "reason": "all", "dry_run": True}
    forecast = (await client.put(at, headers=headers, json=dry)).json()
    assert forecast["dry_run"] == {SOL: {"open": 1, "would_move": 1}}
    assert (await client.get(at, headers=headers)).headers["etag"] == put.headers["etag"]
    rule = {"stage": "native", "tenants": [SOL], "now": True, "reason": "sol"}
    assert (await client.put(at, headers=headers, json=rule)).json()["moved"] == 1
    path = await desk.store.engine.fetchval("select path from conversations where id = $1", conversation.id)
    assert path == "native"
    cleared = await client.delete(f"{at}?tenant={SOL}", headers=headers)
    assert cleared.json()["strategies"] == []
    killed = await client.post(f"{at}/kill", headers=headers, json={"reason": "trouble", "now": True})
    assert (killed.json()["override"]["stage"], killed.json()["moved"]) == ("rocketchat", 1)
    released = await client.post(f"{at}/release", headers=headers, json={"reason": "mended"})
    assert released.json()["override"] is None
    past = (await client.get(f"{at}/history", headers=headers)).json()["items"]
    assert [one["reason"] for one in past] == ["mended", "trouble", "cleared over HTTP", "sol", "first"]
    wrong = await client.put(at, headers=headers, json={"stage": "retired", "reason": "r"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "gated")


async def test_contacts(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    headers = await key(SOL, "contacts:read")
    made = [await open_conversation(desk, "wa-sol", number=f"551198888000{n}") for n in range(3)]
    first = (await client.get("/v1/contacts?limit=2", headers=headers)).json()
    query = {"cursor": first["next_cursor"]}
    rest = (await client.get("/v1/contacts", headers=headers, params=query)).json()
    listed = [one["id"] for one in first["items"] + rest["items"]]
    assert listed == [str(one.contact_id) for one in reversed(made)]
    assert rest["next_cursor"] is None
    one = (await client.get(f"/v1/contacts/{made[0].contact_id}", headers=headers)).json()
    assert (one["name"], one["tenant"], one["contact_class"]) == ("Ana", SOL, "patient")
    assert one["identities"][0]["addresses"] == [{"kind": "wa_id", "value": "5511988880000"}]


async def test_a_contact_is_erased_once_and_by_its_own_clinic(
    client: httpx.AsyncClient, desk: Desk, key: Key
) -> None:
    conversation = await open_conversation(desk, "wa-sol", number="5511988881234")
    await say(desk, conversation, "meu segredo")
    at = f"/v1/contacts/{conversation.contact_id}"
    for headers, status in (
        (await key(LUA, "contacts:write"), 404),
        (await key(SOL, "contacts:read"), 403),
        (await key(SOL, "contacts:write"), 204),
    ):
        answer = await client.delete(at, headers=headers)
        assert (answer.status_code, answer.content == b"") == (status, status == HTTPStatus.NO_CONTENT)
    headers = await key(SOL, "contacts:read", "conversations:read")
    assert (await client.get(at, headers=headers)).status_code == 404
    assert (await client.get("/v1/contacts", headers=headers)).json()["items"] == []
    said = (await client.get(f"/v1/conversations/{conversation.id}/messages", headers=headers)).json()[
        "items"
    ]
    assert [(one["content_kind"], one["text"]) for one in said] == [("erased", None)]


async def test_a_person_at_the_console(client: httpx.AsyncClient, desk: Desk) -> None:
    password = await access.create_user(desk, "ana@sol.example", SOL, "agent")
    session = await access.login(desk, "ana@sol.example", password)
    assert session is not None
    conversation = await open_conversation(desk, "wa-sol")
    headers = {"Cookie": f"figueira_session={session}"}
    listed = (await client.get("/v1/conversations", headers=headers)).json()["items"]
    assert [one["id"] for one in listed] == [str(conversation.id)]
    at = f"/v1/conversations/{conversation.id}"
    assert (await client.post(f"{at}/close", headers=headers)).status_code == 403
    headers |= {csrf.HEADER: csrf.token(desk, session), "Idempotency-Key": "once"}
    for _ in range(2):
        answer = await client.post(f"{at}/messages", headers=headers, json={"text": "Olá"})
        assert answer.status_code == 202
    assert await desk.store.engine.fetchval("select count(*) from messages") == 1
    assert (await client.post(f"{at}/close", headers=headers)).json()["closed_by"] == "agent"
    assert (await client.get("/v1/flags", headers=headers)).status_code == 403
    await access.logout(desk, session)
    assert (await client.get("/v1/conversations", headers=headers)).status_code == 401


async def test_ready_tells_the_open_breaker(client: httpx.AsyncClient, desk: Desk) -> None:
    assert (await client.get("/health/ready")).json() == {"status": "ready", "degraded": []}
    await desk.store.engine.execute(
        "insert into breakers (gate, failures, opened_at) values ('rocketchat', 5, now())"
    )
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["rocketchat"])
    await desk.store.close()
    gone = await client.get("/health/ready")
    assert (gone.status_code, gone.json()["degraded"]) == (503, ["database"])
