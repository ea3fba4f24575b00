"""Every kind of content as a caller writes it, down to the row; and what is refused."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from router.control import flags, media, messages
from router.control.contents import DEPTH, TEXT_LENGTH
from router.control.desk import Desk
from router.domain.conversation import Conversation
from router.domain.errors import Rejected
from router.domain.media import MediaState, Origin
from router.domain.message import Message
from router.domain.ports import Kind
from tests.integration.control.desk_scene import (
    LUA,
    SOL,
    Numbers,
    heard,
    keep,
    open_conversation,
    order,
    say,
    stream,
)

pytestmark = pytest.mark.postgres
KEY = str(uuid.uuid4())
PNG = b"\x89PNG" + bytes(20)
TEMPLATE = {"name": "lembrete", "language": {"code": "pt_BR"}}


@pytest.fixture
async def talk(desk: Desk) -> Conversation:
    await flags.set_stage(desk, "whatsapp", stage="native", reason="go", by="cli")
    return await open_conversation(desk)


async def send(desk: Desk, tenant: str | None = SOL, **body: Any) -> dict[str, Any]:
    _, answer = await messages.send(desk, key_id=KEY, tenant=tenant, idempotency_key=None, **order(**body))
    return answer


async def sent(desk: Desk, talk: Conversation, **body: Any) -> Message:
    answer = await send(desk, conversation_id=str(talk.id), **body)
    found = await desk.store.transact(lambda tx: tx.message(uuid.UUID(answer["id"])))
    assert found is not None
    return found


async def refused(desk: Desk, talk: Conversation, **body: Any) -> tuple[str, int]:
    with pytest.raises(Rejected) as raised:
        await send(desk, conversation_id=str(talk.id), **body)
    return raised.value.code, raised.value.status


async def test_each_kind_becomes_the_content_the_adapters_know(desk: Desk, talk: Conversation) -> None:
    template = {**TEMPLATE, "components": [{"type": "body", "parameters": []}]}
    found = (await sent(desk, talk, template=template)).content
    assert (found.kind, found.text, found.data) == ("template", None, {"template": template})

    buttons = {"type": "button", "body": {"text": "Que horas?"}, "action": {"buttons": []}}
    found = (await sent(desk, talk, interactive=buttons)).content
    assert (found.kind, found.text, found.data) == ("interactive", "Que horas?", {"interactive": buttons})

    place = {"latitude": -23.5, "longitude": -46, "name": "Clínica", "address": None}
    found = (await sent(desk, talk, location=place)).content
    assert (found.kind, found.text) == ("location", "Clínica")
    assert found.data == {"location": {"latitude": -23.5, "longitude": -46, "name": "Clínica"}}

    cards = [{"name": {"formatted_name": "Ana"}}]
    found = (await sent(desk, talk, contacts=cards)).content
    assert (found.kind, found.text, found.data) == ("contacts", None, {"contacts": cards})

    heard_ = await say(desk, talk, "oi", external_id="wamid.1")
    found = (await sent(desk, talk, reaction={"message_id": str(heard_.id), "emoji": "👍"})).content
    assert (found.kind, found.text) == ("reaction", "👍")
    assert found.data == {"message_id": str(heard_.id), "emoji": "👍"}
    found = (await sent(desk, talk, text="já vou", reply_to=str(heard_.id))).content
    assert (found.kind, found.data) == ("text", {"reply_to": str(heard_.id)})


async def test_a_file_by_its_address_waits_to_be_fetched(desk: Desk, talk: Conversation) -> None:
    url = "https://files.example:8443/a.png?x=1"
    made = await sent(desk, talk, media={"url": url, "kind": "image", "caption": "olhe", "filename": "a.png"})
    (file,) = await desk.store.transact(lambda tx: tx.media_of(made.id))
    assert (file.origin, file.ref, file.state, file.expires_at) == (
        Origin.URL, url, MediaState.WAITING, None,
    )  # fmt: skip
    assert (made.content.kind, made.content.text) == ("image", "olhe")
    assert made.content.data == {"media_id": str(file.id), "filename": "a.png"}


@pytest.mark.parametrize(
    ("whole", "kind"),
    [(PNG, "image"), (b"OggS1", "audio"), (b"%PDF1", "document"), (b"whatever", "document")],
)
async def test_an_uploaded_file_is_what_its_bytes_are(
    desk: Desk, talk: Conversation, whole: bytes, kind: str
) -> None:
    kept = await media.upload(desk, stream(whole), name="x/../Raio X.bin", tenant=SOL)
    made = await sent(desk, talk, media={"media_id": kept["id"]})
    assert made.content.kind == kind
    assert made.content.data == {"media_id": kept["id"], "filename": "Raio X.bin"}
    (file,) = await desk.store.transact(lambda tx: tx.media_of(made.id))
    assert (str(file.id), file.channel, file.sha256) == (kept["id"], "wa-sol", kept["sha256"])

    named = {"media_id": kept["id"], "kind": "document", "filename": "b.pdf", "voice": True}
    again = await sent(desk, talk, media=named)
    assert (again.content.kind, again.content.data["filename"], again.content.data["voice"]) == (
        "document", "b.pdf", True,
    )  # fmt: skip
    (second,) = await desk.store.transact(lambda tx: tx.media_of(again.id))
    assert (second.sha256, second.state) == (file.sha256, MediaState.STORED)
    assert len(await desk.store.transact(lambda tx: tx.media_of(made.id))) == 1


async def test_a_file_that_is_not_the_callers_to_send(desk: Desk, talk: Conversation) -> None:
    received = await keep(desk, await say(desk, talk, "foto"), PNG)
    theirs = await media.upload(desk, stream(PNG), tenant=LUA)
    gone = await media.upload(desk, stream(PNG), tenant=SOL)

    async def drop(tx: Any) -> None:
        await tx.save_media(replace(await tx.media(uuid.UUID(gone["id"])), state=MediaState.GONE))

    await desk.store.transact(drop)
    for unknown in (received.id, theirs["id"], gone["id"], uuid.uuid4()):
        assert await refused(desk, talk, media={"media_id": str(unknown)}) == ("unknown_media", 404)


def nested(levels: int) -> Any:
    """So many lists within one another."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


async def test_a_name_that_nobody_knows_is_not_repeated(desk: Desk, talk: Conversation) -> None:
    said = {"media_id": KEY, "5511988887777": 1}
    for body, where in (({"text": "a", "5511988887777": 1}, "the body"), ({"media": said}, "media")):
        with pytest.raises(Rejected) as raised:
            await send(desk, conversation_id=str(talk.id), **body)
        assert raised.value.code == "unknown_field"
        assert where in str(raised.value)
        assert "known are" in str(raised.value)
        assert "5511988887777" not in str(raised.value)


async def test_what_is_nested_as_messages_are(desk: Desk, talk: Conversation) -> None:
    deep = nested(DEPTH - 1)  # with the object around it
    assert (await sent(desk, talk, interactive={"type": "button", "x": deep})).content.data["interactive"][
        "x"
    ] == deep
    assert (await sent(desk, talk, text="a", metadata={"x": deep})).metadata == {"x": deep}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "empty"),
        ({"text": ""}, "empty"),
        ({"text": "a" * (TEXT_LENGTH + 1)}, "too_long"),
        ({"text": "a", "contacts": [{}]}, "invalid_content"),
        ({"media": {}}, "invalid_media"),
        ({"media": []}, "invalid_media"),
        ({"media": {"url": "https://x.example/a", "media_id": KEY, "kind": "image"}}, "invalid_media"),
        ({"media": {"url": "https://x.example/a"}}, "invalid_media"),
        ({"media": {"url": "https://x.example/a", "kind": "gif"}}, "invalid_media"),
        ({"media": {"url": "https://x.example/a", "kind": "audio", "voice": 1}}, "invalid_media"),
        ({"media": {"url": "https://x.example/a", "kind": "image", "caption": 5}}, "invalid_media"),
        ({"media": {"url": "https://x.example/a", "kind": "image", "size": 5}}, "unknown_field"),
        ({"media": {"media_id": "5"}}, "invalid_media"),
        ({"template": {"name": "x"}}, "invalid_content"),
        ({"template": {"name": "x", "language": {}}}, "invalid_content"),
        ({"template": {"name": "x", "language": "pt_BR"}}, "invalid_content"),
        ({"template": {**TEMPLATE, "components": {}}}, "invalid_content"),
        ({"template": {**TEMPLATE, "namespace": "x"}}, "unknown_field"),
        ({"template": {**TEMPLATE, "name": "Lembrete"}}, "invalid_content"),  # says the kind
        ({"interactive": {"body": {"text": "x"}}}, "invalid_content"),
        ({"location": {"latitude": 91, "longitude": 0}}, "invalid_content"),
        ({"location": {"latitude": True, "longitude": 0}}, "invalid_content"),
        ({"location": {"latitude": 1}}, "invalid_content"),
        ({"location": {"latitude": 1, "longitude": 1, "name": 5}}, "invalid_content"),
        ({"location": {"latitude": 1, "longitude": 1, "zoom": 5}}, "unknown_field"),
        ({"contacts": []}, "invalid_content"),
        ({"contacts": ["Ana"]}, "invalid_content"),
        ({"reaction": {"message_id": "1", "emoji": "x"}}, "invalid_content"),
        ({"reaction": {"message_id": KEY}}, "invalid_content"),
        ({"reaction": {"message_id": KEY, "emoji": "x" * 33}}, "invalid_content"),
        ({"text": "a", "reply_to": "1"}, "invalid_content"),
        ({"interactive": {"type": "button", "x": nested(DEPTH)}}, "invalid_content"),
        ({"template": {**TEMPLATE, "components": [{"x": nested(200)}]}}, "invalid_content"),
        ({"contacts": [{"x": nested(200)}]}, "invalid_content"),
        ({"text": "a", "metadata": {"x": nested(DEPTH)}}, "invalid_field"),
    ],
)
async def test_what_has_the_wrong_shape_changes_nothing(
    desk: Desk, talk: Conversation, body: dict[str, Any], code: str
) -> None:
    assert await refused(desk, talk, **body) == (code, 422)
    for table in ("messages", "jobs", "media"):
        assert await desk.store.engine.fetchval(f"select count(*) from {table}") == 0  # noqa: S608


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/a", "//x.example/a", "https:///a", "https://user:pass@x.example/a", "https://x.example:x/a",
        "https://x.example/a b", "https://x.example/\n", "https://x.example/" + "a" * 2048, "https://ex\u00e4mple/a",
    ],
)  # fmt: skip
async def test_an_address_that_is_none(desk: Desk, talk: Conversation, url: str) -> None:
    assert await refused(desk, talk, media={"url": url, "kind": "image"}) == ("invalid_media", 422)


async def test_somebody_elses_message_cannot_be_answered(desk: Desk, talk: Conversation) -> None:
    other = await say(desk, await open_conversation(desk), "oi", external_id="wamid.9")
    about = {"message_id": str(other.id), "emoji": "x"}
    assert await refused(desk, talk, reaction=about) == ("unknown_message", 404)
    assert await refused(desk, talk, text="a", reply_to=str(other.id)) == ("unknown_message", 404)


async def test_the_window_and_the_wish_are_kept(desk: Desk, talk: Conversation) -> None:
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = Numbers("whatsapp", window_hours=24)
    assert await refused(desk, talk, text="oi") == ("window_closed", 422)
    await sent(desk, talk, template=TEMPLATE)
    await heard(desk, talk, datetime.now(UTC) - timedelta(hours=23))
    await sent(desk, talk, text="oi")
    await heard(desk, talk, datetime.now(UTC) - timedelta(hours=25))
    assert await refused(desk, talk, text="oi") == ("window_closed", 422)


async def test_a_long_text_names_its_pieces(desk: Desk, talk: Conversation) -> None:
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = Numbers("whatsapp", text_limit=20)
    answer = await send(desk, conversation_id=str(talk.id), text="uma frase. outra frase. e mais uma frase.")
    assert len(answer["chunks"]) > 1
    assert answer["chunks"][0] == answer["id"]
    shown = [await messages.one(desk, one, SOL) for one in answer["chunks"]]
    assert [one["metadata"]["chunk"][0] for one in shown] == list(range(1, len(shown) + 1))
    assert "chunks" not in await send(desk, conversation_id=str(talk.id), text="curta")
