import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.rocketchat.webhook import TYPES, authentic, parse, place, visitor_aliases
from router.domain.channel import Channel
from router.domain.message import Alias
from router.domain.ports import RoomEvent, RoomInfo

TOKEN = "token-do-visitante"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
AT = datetime.fromtimestamp(1770000000, UTC)
ZAP = Channel("zap", "whatsapp", "sol")


def event(**document: Any) -> RoomEvent:
    events = parse(json.dumps(document).encode())
    assert events is not None
    (only,) = events
    return only


def visitor(**more: Any) -> dict[str, Any]:
    return {"_id": "v1", "token": TOKEN, "name": "Marina", "username": "guest-1", **more}


def session(kind: str, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"_id": "room1", "type": kind, "visitor": visitor(**more), "messages": list(messages)}


FROM_AGENT = {
    "_id": "m2",
    "username": "ana",
    "msg": "Bom dia",
    "ts": "2026-02-02T02:40:00.000Z",
    "agentId": "a1",
    "u": {"_id": "a1"},
}
FROM_VISITOR = {
    "_id": "m1",
    "msg": "Oi",
    "ts": "2026-02-02T02:40:00.000Z",
    "u": {"_id": "v1"},
    "token": TOKEN,
}


@pytest.mark.parametrize(("theirs", "ours"), [pair for pair in TYPES.items() if pair[1] != "offline"])
def test_omnichannel_types(theirs: str, ours: str) -> None:
    found = event(**session(theirs, FROM_VISITOR, FROM_AGENT))
    assert (found.type, found.room_id, found.visitor_id, found.visitor_name) == (
        ours,
        "room1",
        "v1",
        "Marina",
    )
    theirs_said, agents_said = found.messages
    assert (theirs_said.by_agent, theirs_said.author_id, theirs_said.source_id) == (False, "v1", "m1")
    assert (agents_said.by_agent, agents_said.author_id, agents_said.sent_at) == (True, "a1", AT)
    assert (agents_said.content.kind, agents_said.content.text) == ("text", "Bom dia")


def test_edits_closing_and_files() -> None:
    edited, closing, image, file = event(
        **session(
            "LivechatSession",
            {**FROM_AGENT, "editedAt": "2026-02-02T02:41:00Z"},
            {"_id": "m3", "msg": "fim", "closingMessage": True, "agentId": "a1"},
            {"_id": "m4", "msg": "", "file": {"type": "image/png"}, "attachments": [{"description": "foto"}]},
            {"_id": "m5", "fileUpload": {"type": "application/pdf", "publicFilePath": "x"}},
        )
    ).messages
    assert (edited.edited, closing.edited) == (True, False)
    assert (edited.closing, closing.closing) == (False, True)
    assert (image.content.kind, image.content.text) == ("image", "foto")
    assert file.content.kind == "document"


@pytest.mark.parametrize(
    ("phone", "lookups"),
    [
        ([{"phoneNumber": "+55 31 9688-0001"}], ["5531996880001"]),
        (["5531996880001", "553196880001", "551140028922"], ["5531996880001", "551140028922"]),
        ("553196880001", ["5531996880001"]),
        (None, []),
        ([], []),
        ([None, {"phoneNumber": None}, 7.5], []),
        ("a pedido", []),
    ],
)
def test_phones_in_every_form(phone: Any, lookups: list[str]) -> None:
    found = event(**session("Message", phone=phone))
    aliases = visitor_aliases(ZAP, found)
    assert [alias.lookup for alias in aliases if alias.kind == "wa_id"] == lookups
    assert aliases[-1] == Alias("rc_visitor", "sol", DIGEST, DIGEST)
    assert {alias.scope for alias in aliases} == {"sol"}


def test_the_visitors_token_goes_no_further() -> None:
    for document in (
        session("Message", FROM_VISITOR),
        {"token": TOKEN, "channel_id": "c", "message_id": "m", "room": {"v": {"token": TOKEN}}, "text": "x"},
        {
            "type": "LivechatOfflineMessage",
            "visitor": visitor(),
            "message": "oi",
            "sentAt": "2026-02-02T02:40:00Z",
        },
    ):
        assert TOKEN not in repr(event(**document))


def test_offline_form() -> None:
    document = {
        "type": "LivechatOfflineMessage",
        "sentAt": "2026-02-02T02:40:00Z",
        "visitor": {"name": "Marina", "email": "m@example.com"},
        "message": "Alguém?",
    }
    found = event(**document)
    (message,) = found.messages
    assert (found.type, found.room_id, found.visitor_name) == ("offline", None, "Marina")
    assert (message.by_agent, message.content.text, message.sent_at) == (False, "Alguém?", AT)
    assert message.source_id == event(**document).messages[0].source_id
    assert message.source_id != event(**{**document, "message": "Olá?"}).messages[0].source_id


def test_an_outgoing_integration() -> None:
    document = {
        "token": "t",
        "bot": False,
        "channel_id": "GENERAL",
        "channel_name": "general",
        "message_id": "m9",
        "timestamp": "2026-02-02T02:40:00.000Z",
        "user_id": "u1",
        "user_name": "drsol",
        "text": "Bom dia",
    }
    found = event(**document)
    (message,) = found.messages
    assert (found.type, found.room_id, found.visitor_id, found.channel) == ("message", "GENERAL", "u1", None)
    assert (message.source_id, message.by_agent, message.content.text, message.sent_at) == (
        "m9",
        False,
        "Bom dia",
        AT,
    )
    assert event(**{**document, "bot": {"i": "x"}, "isEdited": True}).messages[0].by_agent
    assert event(token="t", bot=False).type == "unknown"
    uploaded = event(**{**document, "text": "", "message": {"msg": "laudo", "file": {"type": "image/png"}}})
    assert (uploaded.messages[0].content.kind, uploaded.messages[0].content.text) == ("image", "laudo")


def test_the_flat_form() -> None:
    document = {
        "message_id": "abc",
        "user": {"id": "u1", "name": "Marina"},
        "channel": "zap",
        "text": "Oi",
        "timestamp": "2026-02-02T02:40:00Z",
        "source": "customer",
    }
    found = event(**document)
    (message,) = found.messages
    assert (found.channel, found.room_id, found.visitor_id, found.visitor_name) == (
        "zap",
        None,
        "u1",
        "Marina",
    )
    assert (message.source_id, message.by_agent, message.content.text, message.sent_at) == (
        "abc",
        False,
        "Oi",
        AT,
    )
    for by, ours in (("agent", True), ("bot", True), (None, False), ([], False)):
        assert event(**{**document, "source": by}).messages[0].by_agent is ours


def test_types_of_tomorrow_and_no_shape_at_all() -> None:
    assert event(**session("LivechatSomething")).type == "unknown"
    for body in (b"", b"[]", b"{}", b'{"type":"x"}', b'{"channel":"zap"}', b"\xff", b'{"a":' * 9999):
        assert parse(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "_id",
    "type",
    "visitor",
    "messages",
    "token",
    "channel",
    "channel_id",
    "message_id",
    "user",
    "text",
    "timestamp",
    "source",
    "bot",
    "message",
    "sentAt",
    "user_id",
    "isEdited",
    "room",
]
INNER = [
    "_id",
    "token",
    "phone",
    "name",
    "msg",
    "ts",
    "agentId",
    "u",
    "file",
    "fileUpload",
    "attachments",
    "editedAt",
    "id",
    "phoneNumber",
    "$date",
]
ANY = (
    JSON
    | st.dictionaries(st.sampled_from(INNER), JSON)
    | st.lists(st.dictionaries(st.sampled_from(INNER), JSON))
)


@given(st.dictionaries(st.sampled_from(KEYS), ANY | st.sampled_from(["x", *TYPES])))
@settings(max_examples=60, deadline=None)
def test_nothing_makes_it_raise(document: dict[str, Any]) -> None:
    for found in parse(json.dumps(document).encode()) or ():
        orjson.dumps([message.content.data for message in found.messages])
        visitor_aliases(ZAP, found)


# who is speaking -------------------------------------------------------------------------------------------


def test_authentic() -> None:
    header = [(b"X-RocketChat-Livechat-Token", b"segredo")]
    body = b'{"token":"integra"}'

    def ask(
        headers: list[tuple[bytes, bytes]], raw: bytes, ours: str | None, integration: str | None
    ) -> bool:
        return authentic(headers, raw, webhook_token=ours, integration_token=integration)

    assert ask(header, b"{}", "segredo", None)
    assert ask([], body, None, "integra")
    assert ask(header, b"not json", "segredo", "integra")
    assert not ask(header, body, None, None)
    assert not ask(header, body, "", "")
    assert not ask([], b'{"token":""}', "", "")
    assert not ask([], b"{}", "segredo", "integra")
    assert not ask(header, b"{}", "outro", "segredo")  # a secret is good in its own place only
    assert not ask([], b'{"token":"segredo"}', "segredo", "integra")
    assert not ask([], b'{"token":["integra"]}', None, "integra")
    assert not ask([], b"\xff", None, "integra")


# whose it is -----------------------------------------------------------------------------------------------

CHANNELS = {
    channel.slug: channel
    for channel in (
        ZAP,
        Channel("insta", "instagram", "sol"),
        Channel("sms", "sms", "sol"),
        Channel("site-a", "webchat", "sol"),
        Channel("site-b", "webchat", "lua"),
    )
}
SOURCES: dict[str, Any] = {
    "App1": "insta",
    "App2": {"channel": "zap", "department": "vendas"},
    "App3": "gone",
}


@pytest.mark.parametrize(
    ("source_type", "source_id", "slug"),
    [
        ("app", "App1", "insta"),
        ("app", "App2", "zap"),
        ("app", "App3", None),
        ("app", "App9", None),
        ("app", None, None),
        ("sms", None, "sms"),
        ("email", None, None),
        ("widget", None, None),  # two of that kind
        (None, None, None),
    ],
)
def test_place(source_type: str | None, source_id: str | None, slug: str | None) -> None:
    assert place(RoomInfo("r", source_type, source_id), SOURCES, CHANNELS) == slug


def test_widget_with_one_web_chat() -> None:
    assert place(RoomInfo("r", "widget", None), {}, {"site": Channel("site", "webchat", "sol")}) == "site"


def test_aliases_of_a_room() -> None:
    info = RoomInfo("r", "app", "App1", visitor_token_digest=DIGEST, visitor_phones=("+553196880001",))
    assert visitor_aliases(ZAP, info) == (
        Alias("wa_id", "sol", "5531996880001", "553196880001"),
        Alias("rc_visitor", "sol", DIGEST, DIGEST),
    )
    assert visitor_aliases(CHANNELS["sms"], info)[0].kind == "phone"
    assert visitor_aliases(ZAP, RoomInfo("r", "app", "App1")) == ()
