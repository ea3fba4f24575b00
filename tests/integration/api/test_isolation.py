"""Every route, as it is registered: nobody without a key, nothing without the scope, never another tenant's.

A new route fails here until it is guarded and stands in the table below.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from router.api.auth import Needs
from router.control.desk import Desk
from router.domain.conversation import Conversation
from router.domain.media import Media, Origin
from router.domain.message import Message
from tests.integration.api.conftest import Key
from tests.integration.control.desk_scene import LUA, SOL, keep, open_conversation, say

pytestmark = pytest.mark.postgres

PUBLIC = {"/openapi.json", "/health/live", "/health/ready", "/metrics"}
SECRET = "segredo da lua"

WHY = {"reason": "r"}
PUT = {"stage": "native", **WHY}
# What sol's key sends at what is lua's: (query, body, status).
FOREIGN: dict[tuple[str, str], list[tuple[str, Any, int]]] = {
    ("POST", "/v1/messages"): [
        ("", {"conversation_id": "{conversation}", "text": "t"}, 404),
        ("", {"channel": "wa-sol", "conversation_id": "{conversation}", "text": "t"}, 404),
        ("", {"channel": "wa-lua", "to": "5511999990000", "text": "t"}, 422),
        ("", {"channel": "wa-sol", "contact_id": "{contact}", "text": "t"}, 422),
        ("", {"channel": "wa-sol", "conversation_id": "{own}", "media": {"media_id": "{upload}"}}, 404),
        ("", {"channel": "wa-sol", "conversation_id": "{own}", "text": "t", "reply_to": "{message}"}, 404),
        ("", {"conversation_id": "{own}", "reaction": {"message_id": "{message}", "emoji": "x"}}, 404),
    ],
    ("GET", "/v1/messages/{message_id}"): [("", None, 404)],
    ("POST", "/v1/media"): [("?channel=wa-lua", b"bytes", 422)],
    ("GET", "/v1/media/{media_id}"): [("", None, 404)],
    ("GET", "/v1/media/{media_id}/content"): [("", None, 404)],
    ("POST", "/v1/media/{media_id}/fetch"): [("", None, 404)],
    ("GET", "/v1/conversations"): [("?tenant=clinica-lua", None, 403)],
    ("GET", "/v1/conversations/{conversation_id}"): [("", None, 404)],
    ("GET", "/v1/conversations/{conversation_id}/messages"): [("", None, 404)],
    ("GET", "/v1/conversations/{conversation_id}/decisions"): [("", None, 404)],
    ("POST", "/v1/conversations/{conversation_id}/messages"): [("", {"text": "t"}, 404)],
    ("POST", "/v1/conversations/{conversation_id}/move"): [("", {"path": "native", **WHY}, 404)],
    ("POST", "/v1/conversations/{conversation_id}/close"): [("", None, 404)],
    ("POST", "/v1/conversations/{conversation_id}/read"): [("", {"typing": True}, 404)],
    ("GET", "/v1/contacts"): [("?tenant=clinica-lua", None, 403)],
    ("GET", "/v1/contacts/{contact_id}"): [("", None, 404)],
    ("PUT", "/v1/contacts/{contact_id}/opt-out"): [("", {"opted_out": True, **WHY}, 404)],
    ("DELETE", "/v1/contacts/{contact_id}"): [("", None, 404)],
    ("PUT", "/v1/flags/{kind}"): [
        ("", PUT, 403),
        ("", {**PUT, "tenants": [LUA]}, 403),
        ("", {**PUT, "tenants": [SOL], "channels": ["wa-lua"]}, 403),
        ("", {**PUT, "tenants": [SOL], "class": "staff"}, 403),
    ],
    ("DELETE", "/v1/flags/{kind}"): [("", None, 403), ("?tenant=clinica-lua", None, 403)],
    ("POST", "/v1/flags/{kind}/kill"): [("", WHY, 403)],
    ("POST", "/v1/flags/{kind}/release"): [("", WHY, 403)],
    ("PUT", "/v1/users/{id_user}"): [("", {"tenant": LUA}, 403)],
    ("GET", "/v1/paths/compare"): [("?channel=wa-lua", None, 404)],
}
# Answers about the caller's own part of something shared.
OWN_PART = {
    ("GET", "/v1/conversations"), ("GET", "/v1/contacts"), ("GET", "/v1/paths/compare"),
    ("GET", "/v1/flags"), ("GET", "/v1/flags/{kind}"), ("GET", "/v1/flags/{kind}/history"), ("GET", "/v1/stream"),
}  # fmt: skip


@dataclass(frozen=True)
class Lua:
    """What belongs to the other tenant."""

    conversation: Conversation
    message: Message
    file: Media
    upload: Media
    own: Conversation  # sol's

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.filled(one) for name, one in value.items()}
        named = {
            "conversation": self.conversation.id, "contact": self.conversation.contact_id, "own": self.own.id,
            "message": self.message.id, "upload": self.upload.id,
        }  # fmt: skip
        return value.format(**named) if isinstance(value, str) else value

    def address(self, path: str) -> str:
        return path.format(
            conversation_id=self.conversation.id,
            message_id=self.message.id,
            contact_id=self.conversation.contact_id,
            media_id=self.file.id,
            id_user=self.conversation.contact_id,
            kind="whatsapp",
        )


@pytest.fixture
async def lua(desk: Desk) -> Lua:
    conversation = await open_conversation(desk, "wa-lua")
    message = await say(desk, conversation, SECRET)
    file = await keep(desk, message, SECRET.encode())
    upload = await keep(desk, message, SECRET.encode(), message_id=None, origin=Origin.UPLOAD)
    return Lua(conversation, message, file, upload, await open_conversation(desk, "wa-sol"))


def registered(app: FastAPI) -> dict[tuple[str, str], RouteContext]:
    return {
        (method, str(route.path)): route
        for route in iter_route_contexts(app.routes)
        for method in sorted((route.methods or set()) - {"HEAD"})
    }


def guarded(app: FastAPI) -> dict[tuple[str, str], RouteContext]:
    return {name: route for name, route in registered(app).items() if name[1] not in PUBLIC}


def scope_of(dependant: Dependant) -> str | None:
    for one in dependant.dependencies:
        if isinstance(one.call, Needs):
            return one.call.scope
    return None


async def rows(desk: Desk) -> list[Any]:
    """All that a caller could have changed."""
    tables = ("conversations", "messages", "jobs", "contacts", "identities", "decisions", "flags", "media")
    whole = "select * from {} order by 1, 2"
    return [await desk.store.engine.fetch(whole.format(table)) for table in tables]


def test_every_route_is_in_the_tables(app: FastAPI) -> None:
    assert set(guarded(app)) == set(FOREIGN) | OWN_PART
    assert {path for _, path in registered(app)} - {path for _, path in guarded(app)} == PUBLIC


def test_every_route_names_its_scope(app: FastAPI) -> None:
    for (method, path), route in guarded(app).items():
        noun = {"paths": "operations", "stream": "operations"}.get(path.split("/")[2], path.split("/")[2])
        if noun == "media":  # a file is sent with a message, and looked at in a conversation
            noun = "messages" if path == "/v1/media" else "conversations"
        act = "read" if method == "GET" else "write"
        assert scope_of(route.dependant) == f"{noun}:{act}", path


async def test_without_a_key_or_with_a_revoked_one(
    app: FastAPI, client: httpx.AsyncClient, desk: Desk, key: Key, lua: Lua
) -> None:
    revoked = await key(None, "all")
    await desk.store.engine.execute("update api_keys set revoked_at = now()")
    before = await rows(desk)
    for method, path in guarded(app):
        for headers in ({}, revoked, {"Authorization": "Bearer "}, {"Cookie": "figueira_session=x"}):
            answer = await client.request(method, lua.address(path), headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
    assert await rows(desk) == before


async def test_without_the_scope(
    app: FastAPI, client: httpx.AsyncClient, desk: Desk, key: Key, lua: Lua
) -> None:
    nouns = ("messages", "conversations", "contacts", "flags", "users", "operations")
    every = {f"{noun}:{act}" for noun in nouns for act in ("read", "write")} | {"webhook"}
    before = await rows(desk)
    keys: dict[str, dict[str, str]] = {}
    for (method, path), route in guarded(app).items():
        scope = str(scope_of(route.dependant))
        if scope not in keys:
            keys[scope] = await key(None, *(every - {scope}))
        answer = await client.request(method, lua.address(path), headers=keys[scope])
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope"), (method, path)
    assert await rows(desk) == before


async def test_another_tenants(client: httpx.AsyncClient, desk: Desk, key: Key, lua: Lua) -> None:
    sol, before = await key(SOL, "all"), await rows(desk)
    for (method, path), cases in FOREIGN.items():
        for query, body, status in cases:
            url = lua.address(path) + query
            sent = {"content": body} if isinstance(body, bytes) else {"json": lua.filled(body)}
            answer = await client.request(method, url, headers=sol, **sent)
            assert answer.status_code == status, (method, path, body, answer.text)
            assert SECRET not in answer.text
    assert await rows(desk) == before


async def test_the_same_calls_work_for_the_owner(
    client: httpx.AsyncClient, desk: Desk, key: Key, lua: Lua
) -> None:
    """Else the test above would pass on addresses that are wrong for everybody."""
    headers = await key(LUA, "all")
    for method, path in FOREIGN:
        if method == "GET":
            answer = await client.get(lua.address(path), headers=headers)
            assert answer.status_code == 200, path
    said = await client.get(lua.address("/v1/conversations/{conversation_id}/messages"), headers=headers)
    assert SECRET in said.text


async def test_shared_things_show_ones_own_part(
    client: httpx.AsyncClient, desk: Desk, key: Key, lua: Lua, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.api.operations.STREAM_SECONDS", 0.0)
    everybody, sol = await key(None, "all"), await key(SOL, "all")
    own = lua.own
    change = {**PUT, "tenants": [LUA], "reason": f"{LUA} is ready"}
    assert (await client.put("/v1/flags/whatsapp", headers=everybody, json=change)).status_code == 200
    for _, path in sorted(OWN_PART):
        whole = await client.get(lua.address(path), headers=everybody)
        part = await client.get(lua.address(path), headers=sol)
        assert (whole.status_code, part.status_code) == (200, 200), path
        if path != "/v1/paths/compare":
            assert "lua" in whole.text, path
        assert "lua" not in part.text, path
        assert str(lua.conversation.id) not in part.text
    listed = (await client.get("/v1/conversations", headers=sol)).json()["items"]
    assert [UUID(one["id"]) for one in listed] == [own.id]
    counted = (await client.get("/v1/paths/compare", headers=sol)).json()["paths"]
    assert counted["rocketchat"]["accepted"] == 0
    counted = (await client.get("/v1/paths/compare", headers=everybody)).json()["paths"]
    assert counted["rocketchat"]["accepted"] == 1
