"""Files over HTTP: in, out, asked for again; and what goes along with a conversation and a contact."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router.control.desk import Desk
from router.domain.media import MediaState
from tests.integration.api.conftest import Key
from tests.integration.control.desk_scene import SOL, heard, held, keep, open_conversation, say

pytestmark = pytest.mark.postgres
PDF = b"%PDF" + bytes(300)
NATIVE = {"stage": "native", "tenants": [SOL], "reason": "ready"}


async def test_a_file_goes_in_and_out_with_a_message(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    headers = await key(SOL, "all")
    await client.put("/v1/flags/whatsapp", headers=headers, json=NATIVE)
    raw = await client.post(
        "/v1/media?filename=exame%20%C3%A9.pdf",
        headers=headers | {"Content-Type": "application/pdf"},
        content=PDF,
    )
    assert raw.status_code == 201, raw.text
    assert (raw.json()["mime"], raw.json()["size"]) == ("application/pdf", 304)
    form = await client.post("/v1/media", headers=headers, files={"file": ("b.pdf", PDF, "application/pdf")})
    assert form.json()["sha256"] == raw.json()["sha256"]
    at = f"/v1/media/{form.json()['id']}"
    assert (await client.get(at, headers=headers)).json()["name"] == "b.pdf"

    body = {
        "channel": "whatsapp",
        "to": "5511988887777",
        "media": {"media_id": raw.json()["id"], "caption": "aqui"},
    }
    idem = headers | {"Idempotency-Key": "one"}
    sent = await client.post("/v1/messages", headers=idem, json=body)
    assert sent.status_code == 202, sent.text
    assert "chunks" not in sent.json()
    assert (await client.post("/v1/messages", headers=idem, json=body)).json() == sent.json()
    said = await client.get(f"/v1/conversations/{sent.json()['conversation_id']}/messages", headers=headers)
    (message,) = said.json()["items"]
    (file,) = message["media"]
    assert (message["content_kind"], message["text"], file["state"]) == ("document", "aqui", "stored")
    assert file["id"] == raw.json()["id"]
    one = await client.get(f"/v1/messages/{message['id']}", headers=headers)
    assert one.json()["media"] == message["media"]

    bytes_ = await client.get(file["url"], headers=headers)
    assert bytes_.content == PDF
    assert bytes_.headers["content-type"] == "application/pdf"
    assert bytes_.headers["content-length"] == "304"
    assert bytes_.headers["content-disposition"] == "attachment; filename*=UTF-8''exame%20%C3%A9.pdf"
    assert bytes_.headers["x-content-type-options"] == "nosniff"
    assert bytes_.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("multipart", [False, True])
async def test_a_file_that_is_too_large(
    client: httpx.AsyncClient, desk: Desk, key: Key, multipart: bool
) -> None:
    headers, large = await key(SOL, "messages:write"), bytes(desk.media_limit_bytes + 1)
    sent: dict[str, Any] = {"files": {"file": ("a", large)}} if multipart else {"content": large}
    answer = await client.post("/v1/media", headers=headers, **sent)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    fits: dict[str, Any] = {"files": {"file": ("a", large[1:])}} if multipart else {"content": large[1:]}
    assert (await client.post("/v1/media", headers=headers, **fits)).status_code == 201
    assert await desk.store.engine.fetchval("select count(*) from media") == 1


async def test_an_upload_without_a_file_or_a_place_for_it(
    client: httpx.AsyncClient, app: FastAPI, desk: Desk, key: Key
) -> None:
    headers, everybody = await key(SOL, "all"), await key(None, "all")
    form = await client.post("/v1/media", headers=headers, files={"x": (None, "only words")})
    assert (form.status_code, form.json()["code"]) == (422, "invalid_media")
    assert (await client.post("/v1/media", headers=headers)).json()["code"] == "empty_file"
    broken = headers | {"Content-Type": "multipart/form-data"}
    assert (await client.post("/v1/media", headers=broken, content=b"x")).status_code in {400, 422}
    without = await client.post("/v1/media", headers=everybody, content=PDF)
    assert (without.status_code, without.json()["code"]) == (422, "unknown_channel")
    object.__setattr__(desk, "files", None)
    none = await client.post("/v1/media", headers=headers, content=PDF)
    assert (none.status_code, none.json()["code"]) == (503, "no_file_store")


async def test_a_file_that_is_not_here(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    headers = await key(SOL, "conversations:read", "conversations:write")
    message = await say(desk, await open_conversation(desk), "x")
    for state in ("waiting", "gone", "refused"):
        file = await keep(desk, message, state=MediaState(state), error_code="too_large")
        at = f"/v1/media/{file.id}"
        assert "secret-ref" not in (await client.get(at, headers=headers)).text
        missing = await client.get(f"{at}/content", headers=headers)
        assert (missing.status_code, missing.json()["code"]) == (404, f"media_{state}")
        assert missing.headers["content-type"] == "application/problem+json"
        again = await client.post(f"{at}/fetch", headers=headers)
        assert (again.status_code, again.json()["state"], again.json()["error_code"]) == (
            202,
            "waiting",
            None,
        )
    stored = await keep(desk, message, PDF)
    held(desk).held.clear()
    lost = await client.get(f"/v1/media/{stored.id}/content", headers=headers)
    assert (lost.status_code, lost.json()["code"]) == (404, "media_gone")


async def test_a_conversation_is_read_and_an_answer_quotes(
    client: httpx.AsyncClient, desk: Desk, key: Key
) -> None:
    headers = await key(SOL, "conversations:read", "conversations:write")
    conversation = await open_conversation(desk)
    said = await say(desk, conversation, "oi", external_id="wamid.1")
    await heard(desk, conversation, datetime.now(UTC))
    listed = (await client.get("/v1/conversations?unread=true", headers=headers)).json()["items"]
    assert [(one["id"], one["unread"]) for one in listed] == [(str(conversation.id), True)]
    at = f"/v1/conversations/{conversation.id}"
    for body in (None, {"typing": True}):
        read = await client.post(f"{at}/read", headers=headers, json=body)
        assert (read.status_code, read.json()["unread"]) == (200, False)
    assert (await client.post(f"{at}/read", headers=headers, json={"typing": 1})).status_code == 422
    assert (await client.get("/v1/conversations?unread=true", headers=headers)).json()["items"] == []

    answer = await client.post(
        f"{at}/messages", headers=headers, json={"text": "olá", "reply_to": str(said.id)}
    )
    assert answer.status_code == 202, answer.text
    items = (await client.get(f"{at}/messages", headers=headers)).json()["items"]
    assert items[-1]["data"] == {"reply_to": str(said.id)}
    for wrong in ({}, {"text": "a", "to": "5511"}, {"text": "a", "location": {}}):
        refused = await client.post(f"{at}/messages", headers=headers, json=wrong)
        assert refused.status_code == 422


async def test_an_opt_out(client: httpx.AsyncClient, desk: Desk, key: Key) -> None:
    writer, reader = await key(SOL, "contacts:write"), await key(SOL, "contacts:read")
    conversation = await open_conversation(desk)
    at = f"/v1/contacts/{conversation.contact_id}"
    assert (await client.get(at, headers=reader)).json()["opted_out"] is False
    for body in ({"opted_out": True}, {"opted_out": "yes", "reason": "r"}, {"reason": "r"}):
        assert (await client.put(f"{at}/opt-out", headers=writer, json=body)).status_code == 422
    out = await client.put(f"{at}/opt-out", headers=writer, json={"opted_out": True, "reason": "pediu"})
    assert (out.status_code, out.json()["opted_out"]) == (200, True)
    shown = (await client.get(at, headers=reader)).json()
    assert [one["opted_out"] for one in shown["identities"]] == [True]
    body = {"channel": "wa-sol", "conversation_id": str(conversation.id), "text": "oi"}
    refused = await client.post("/v1/messages", headers=await key(SOL, "messages:write"), json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "opted_out")


async def test_the_shapes_are_in_the_document(client: httpx.AsyncClient) -> None:
    told = (await client.get("/openapi.json")).json()
    content = told["components"]["schemas"]["MessageRequest"]["properties"]
    assert {
        "text",
        "media",
        "template",
        "interactive",
        "location",
        "contacts",
        "reaction",
        "reply_to",
    } <= set(content)
    body = told["paths"]["/v1/media"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/octet-stream", "multipart/form-data"}
