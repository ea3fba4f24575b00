from typing import Any

import orjson
import pytest
from bson.datetime_ms import DatetimeMS

from adapters.rocketchat.rest.rooms import token_digest
from migration.documents import Reject
from tests.unit.migration.collections.shapes import AT, CHANNEL, LIVECHAT, TOKEN, row

ROOM = "rocketchat_room"


def test_a_room_with_a_visitor() -> None:
    room = row(ROOM, LIVECHAT)
    told = {name: room[name] for name in room if name not in {"info", "extra", "raw"}}
    assert told == {
        "source_id": "room0000000000001", "kind": "l", "name": "Maria", "created_at": AT, "updated_at": AT + 200,
        "active_at": AT + 100, "closed_at": None, "open": True, "source_type": "app", "source_ref": "app-uuid",
        "visitor_id": "vis1", "agent_id": "agent00000000001a", "department_id": "dep1", "contact_ref": "con1",
    }  # fmt: skip
    assert orjson.loads(room["info"]) == {
        "visitor_id": "vis1", "token_digest": token_digest(TOKEN), "phones": ["+5511999990000"], "name": "Maria",
        "source_type": "app", "source_id": "app-uuid", "open": True, "visitor_said_at": AT + 90,
    }  # fmt: skip
    assert "lastMessage" not in orjson.loads(room["extra"])
    assert TOKEN.encode() not in b"".join((room["info"], room["extra"], room["raw"]))


def test_a_closed_one_has_no_open() -> None:
    closed = {name: value for name, value in LIVECHAT.items() if name != "open"}
    room = row(ROOM, {**closed, "closedAt": DatetimeMS(AT + 300)})
    assert (room["open"], room["closed_at"], room["active_at"]) == (False, AT + 300, AT + 300)
    assert orjson.loads(room["info"])["open"] is False


def test_a_channel_keeps_no_secret() -> None:
    room = row(ROOM, CHANNEL)
    assert (room["kind"], room["name"], room["open"], room["info"]) == ("c", "General", True, None)
    extra = orjson.loads(room["extra"])
    assert extra["name"] == "general"
    assert extra["customFields"] == {"a.b": 1, "$c": "0" * 24}
    for secret in (b"s3nha", b"k3yid"):
        assert secret not in room["extra"]
        assert secret not in room["raw"]


def test_between_two() -> None:
    room = row(ROOM, {"_id": "ab", "t": "d", "usernames": ["a", "b"], "ts": DatetimeMS(AT)})
    assert (room["name"], room["active_at"], room["extra"]) == (None, AT, b'{"usernames":["a","b"]}')


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({"sms": {"from": "+1"}}, "sms"),
        ({"email": {"inbox": "x"}}, "email"),
        ({"facebook": {"page": {"id": "1"}}}, "facebook"),
        ({}, None),
        ({"source": {"type": "widget"}, "sms": {"from": "+1"}}, "widget"),
    ],
)
def test_where_it_came_from_before_that_was_noted(fields: dict[str, Any], source: str | None) -> None:
    old = {name: value for name, value in LIVECHAT.items() if name != "source"}
    assert row(ROOM, {**old, **fields})["source_type"] == source


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"t": 7}, "wrong_type"),
        ({"ts": DatetimeMS(2**62)}, "date_range"),
        ({"fname": "\x00"}, "nul"),
        ({"v": "guest"}, "wrong_type"),
        ({"v": {"_id": "v", "phone": "1\x00"}}, "nul"),
        ({"topic": "a\x00"}, "nul"),
        ({"servedBy": []}, "wrong_type"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Reject) as caught:
        row(ROOM, {**LIVECHAT, **fields})
    assert caught.value.code == code
