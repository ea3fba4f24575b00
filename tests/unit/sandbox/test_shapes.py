import asyncio
import json
from typing import Any

import pytest

from deploy.sandbox.configuration import Configuration, Retry
from deploy.sandbox.crm import payload
from deploy.sandbox.patients import FOLLOW_UPS, OPENINGS, PEOPLE, talk
from deploy.sandbox.posting import signature
from deploy.sandbox.replies import reply
from deploy.sandbox.shapes import meta_bytes, text_of
from deploy.sandbox.workspace import AGENTS, Workspace, new_id


def test_bytes_are_in_metas_style() -> None:
    raw = meta_bytes({"text": "Olá / \U0001f60a"})
    assert raw == b'{"text":"Ol\\u00e1 \\/ \\ud83d\\ude0a"}'
    assert json.loads(raw) == {"text": "Olá / \U0001f60a"}


def test_signature_is_the_known_vector() -> None:
    # RFC 4231, test case 2
    expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signature("Jefe", b"what do ya want for nothing?") == expected


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "text", "text": {"body": "oi"}}, "oi"),
        ({"text": {"body": "oi"}}, "oi"),
        ({"type": "image", "image": {"id": "1", "caption": "foto"}}, "foto"),
        ({"type": "button", "button": {"text": "Sim", "payload": "y"}}, "Sim"),
        (
            {
                "type": "interactive",
                "interactive": {"type": "button_reply", "button_reply": {"title": "Sim"}},
            },
            "Sim",
        ),
        (
            {"type": "interactive", "interactive": {"type": "button", "body": {"text": "Confirma?"}}},
            "Confirma?",
        ),
        ({"type": "template", "template": {"name": "lembrete"}}, "lembrete"),
        ({"type": "audio", "audio": {"id": "1"}}, ""),
        ({"type": "contacts", "contacts": []}, ""),
    ],
)
def test_text_of(message: dict[str, Any], text: str) -> None:
    assert text_of(message) == text


def test_configuration_takes_what_is_given_and_keeps_the_rest() -> None:
    config = Configuration()
    config.update(
        {"numbers": {"1": {"callback_url": "http://a"}}, "rocketchat": {"read": True, "app": {"x": {}}}}
    )
    config.update(
        {"numbers": {"2": {"app_secret": "s"}}, "rocketchat": {"version": "8.0.0", "app": {"y": {}}}}
    )
    assert set(config.numbers) == {"1", "2"}
    assert set(config.rocketchat.app) == {"x", "y"}
    assert (config.read, config.rocketchat.major) == (True, 8)


@pytest.mark.parametrize(
    "raw",
    [
        {"nubmers": {}},
        {"numbers": {"1": {"callback": ""}}},
        {"rocketchat": {"webhok_url": ""}},
        {"rocketchat": {"version": "new"}},
        {"rocketchat": {"rate_limit": {"seconds": 1}}},
        {"rocketchat": {"users_create": "maybe"}},
        {"numbers": {"1": {"provider": "twilio"}}},
        {"numbers": {"1": {"payload": "xml"}}},
        {"templates": {"a": {"bodies": 1}}},
        {"window_failure": "never"},
    ],
)
def test_a_misspelt_setting_is_refused_and_changes_nothing(raw: dict[str, Any]) -> None:
    config = Configuration()
    with pytest.raises(ValueError):
        config.update({"status_delay_seconds": 9, **raw})
    assert config == Configuration()


def test_limits_are_switched_on_and_off() -> None:
    config = Configuration()
    config.update({"window_hours": 24, "pair_seconds": 6, "templates": {"a": {"body": 2}}})
    config.update({"window_hours": None, "rocketchat": {"settings": {"x": 1}}})
    config.update({"templates": {"b": {}}, "rocketchat": {"settings": {"y": 2}}})
    assert (config.window_hours, config.pair_seconds) == (None, 6.0)
    assert set(config.templates) == {"a", "b"}
    assert config.rocketchat.settings == {"x": 1, "y": 2}


def test_retry_delays_grow_to_the_cap() -> None:
    retry = Retry(delay_seconds=0.5, factor=2, cap_seconds=3)
    assert [retry.delay(attempt) for attempt in (1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 3, 3]


def test_ids_are_meteors() -> None:
    ids = {new_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(one) == 17 and one.isalnum() for one in ids)


def test_one_open_room_a_customer_and_open_is_unset_on_close() -> None:
    workspace = Workspace()
    room = workspace.create_room("app", "WhatsApp", "5511900000001", "Mariana", None)
    assert workspace.open_room("app", "5511900000001") is room
    workspace.close(room, workspace.users[AGENTS[0][0]], "fim")
    assert workspace.open_room("app", "5511900000001") is None
    assert "open" not in room.document
    again = workspace.create_room("app", "WhatsApp", "5511900000001", "Mariana", None)
    assert again.visitor["_id"] == room.visitor["_id"]
    assert again.rid != room.rid
    assert workspace.last_room("5511900000001") is again


def test_payload_tells_agent_from_visitor_and_close_carries_all() -> None:
    workspace = Workspace()
    agent = workspace.users[AGENTS[0][0]]
    room = workspace.create_room("app", "WhatsApp", "5511900000001", "Mariana", agent)
    workspace.add_message(room, "oi", room.visitor)
    workspace.add_message(room, "olá!", agent)
    workspace.close(room, agent, "fim")
    event = payload("LivechatSession", room, room.messages, workspace.users)
    assert [message.get("agentId") for message in event["messages"]] == [None, agent["_id"], agent["_id"]]
    assert event["messages"][-1]["closingMessage"] is True
    assert event["visitor"]["phone"] == [{"phoneNumber": "5511900000001"}]
    assert (event["closer"], event["closedBy"]["username"]) == ("user", agent["username"])


def test_replies_fit_the_question_and_vary() -> None:
    assert "R$" in reply("Quanto custa?", 0)
    assert reply("Quanto custa?", 0) != reply("Quanto custa?", 1)
    assert reply("???", 3)


def test_patients_are_invented_and_varied() -> None:
    assert len({wa_id for wa_id, _ in PEOPLE}) == 12
    assert all(len(wa_id) == 13 and wa_id.startswith("551190000") for wa_id, _ in PEOPLE)
    assert len(set(OPENINGS + FOLLOW_UPS)) >= 40


async def test_talk_refuses_a_rate_of_nothing() -> None:
    with pytest.raises(ValueError, match="rate"):
        await talk("http://127.0.0.1:1", "1", 0, asyncio.Event())
