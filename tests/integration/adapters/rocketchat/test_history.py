"""Rooms and their histories over a real socket."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.rocketchat.rest import RocketChatRest
from adapters.rocketchat.rest.history import PAGE, PAGES, written
from router.domain.job import Outcome, Result
from router.domain.ports import RoomInfo
from tests.integration.adapters.rocketchat.workspace import Call, Workspace, failure

AT = datetime(2026, 2, 2, 8, tzinfo=UTC)
TOKEN = "token-dela"
ROOM = RoomInfo("room/1", "app", "App1", "v1", visitor_token=TOKEN)
HISTORY = "GET v1/livechat/messages.history"


def room(number: int, **more: Any) -> dict[str, Any]:
    visitor = {"_id": f"v{number}", "token": f"t{number}", "username": "guest"}
    return {"_id": f"r{number}", "t": "l", "open": True, "v": visitor, **more}


def message(number: int, **more: Any) -> dict[str, Any]:
    ts = written(AT + timedelta(seconds=number))
    return {"_id": f"m{number}", "msg": str(number), "ts": ts, "u": {"_id": "v1"}, **more}


# rooms -----------------------------------------------------------------------------------------------------


def listing(workspace: Workspace, opened: int, held: int, closed: int) -> None:
    kinds = {
        "open": [room(n) for n in range(opened)],
        "onhold": [room(1000 + n, onHold=True) for n in range(held)],
        "closedAt": [room(2000 + n, open=None, closedAt=written(AT)) for n in range(closed)],
    }

    def page(call: Call) -> Any:
        (kind,) = set(kinds) & set(call.query)
        first, count = int(call.query["offset"]), int(call.query["count"])
        found = kinds[kind]
        return {
            "rooms": found[first : first + count],
            "count": count,
            "offset": first,
            "total": len(found),
            "success": True,
        }

    workspace.routes["GET v1/livechat/rooms"] = page


async def all_rooms(rest: RocketChatRest, since: datetime | None) -> list[RoomInfo]:
    found: list[RoomInfo] = []
    offset: int | None = 0
    while offset is not None:
        result, page, offset = await rest.rooms(since, offset)
        assert result == Result(Outcome.OK)
        found += page
    return found


async def test_open_then_held_then_closed(rest: RocketChatRest, workspace: Workspace) -> None:
    listing(workspace, opened=120, held=3, closed=60)
    found = await all_rooms(rest, AT)
    assert [one.room_id for one in found] == [
        *(f"r{n}" for n in range(120)),
        *(f"r{1000 + n}" for n in range(3)),
        *(f"r{2000 + n}" for n in range(60)),
    ]
    assert [one.open for one in found] == [True] * 123 + [False] * 60
    asked = [call.query for call in workspace.to("GET v1/livechat/rooms")]
    assert len(asked) == 6
    assert asked[0] == {"open": "true", "count": "50", "offset": "0"}
    assert json.loads(asked[-1]["closedAt"]) == {"start": "2026-02-02T08:00:00.000Z"}
    assert workspace.calls[0].headers["X-Auth-Token"] == "segredo"


async def test_without_since_no_closed_ones(rest: RocketChatRest, workspace: Workspace) -> None:
    listing(workspace, opened=1, held=0, closed=5)
    assert [one.room_id for one in await all_rooms(rest, None)] == ["r0"]


async def test_a_version_without_on_hold_lists_nothing_twice(
    rest: RocketChatRest, workspace: Workspace
) -> None:
    everything = [room(n) for n in range(50)]
    workspace.routes["GET v1/livechat/rooms"] = lambda call: {
        "rooms": everything if "onhold" in call.query else [room(1)],
        "total": 5000 if "onhold" in call.query else 1,
        "success": True,
    }
    assert [one.room_id for one in await all_rooms(rest, None)] == ["r1"]
    assert len(workspace.calls) == 2


async def test_what_a_room_says(rest: RocketChatRest, workspace: Workspace) -> None:
    told = room(
        7,
        lm="2026-02-02T08:00:00.000Z",
        _updatedAt="2026-02-02T08:05:00.000Z",
        source={"type": "app", "id": "App1"},
    )
    workspace.routes["GET v1/livechat/rooms"] = lambda _: {
        "rooms": [told, {"t": "l"}, None],
        "success": True,
    }
    _, (info,), _ = await rest.rooms(None, 0)
    assert (info.visitor_token, info.source_id, info.visitor_id) == ("t7", "App1", "v7")
    assert info.active_at == datetime(2026, 2, 2, 8, 5, tzinfo=UTC)
    assert "t7" not in repr(info)


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (failure("error-unauthorized", status=403), Outcome.CHANNEL),
        ((401, {"status": "error", "message": "You must be logged in to do this."}), Outcome.CHANNEL),
        ((502, {}), Outcome.RETRY),
        (None, Outcome.RETRY),
        ((429, {"success": False, "error": "x. You must wait 9 seconds [error-too-many-requests]"}), Outcome.RETRY),
    ],
)  # fmt: skip
async def test_no_rooms(rest: RocketChatRest, workspace: Workspace, told: Any, outcome: Outcome) -> None:
    workspace.routes["GET v1/livechat/rooms"] = lambda _: told
    result, page, following = await rest.rooms(AT, 0)
    assert (result.outcome, list(page), following) == (outcome, [], None)


# histories -------------------------------------------------------------------------------------------------


def keep(workspace: Workspace, messages: list[dict[str, Any]]) -> None:
    """Newest first, `end` exclusive, `limit`; `offset` is not known, as in older versions."""

    def page(call: Call) -> Any:
        if call.query.get("token") != TOKEN:
            return failure("invalid-token")
        assert call.route == f"{HISTORY}/room%2F1"
        end = call.query.get("end", "9")
        found = [one for one in reversed(messages) if one["ts"] < end]
        return {"messages": found[: int(call.query["limit"])], "success": True}

    workspace.routes[f"{HISTORY}/"] = page


async def test_oldest_first_and_all_of_it(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(workspace, [message(n) for n in range(250)])
    result, said = await rest.history(ROOM, None)
    assert result == Result(Outcome.OK)
    assert [one.source_id for one in said] == [f"m{n}" for n in range(250)]
    assert len(workspace.calls) == 3


async def test_only_what_came_after(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(workspace, [message(n) for n in range(1000)])
    _, said = await rest.history(ROOM, AT + timedelta(seconds=989))
    assert [one.source_id for one in said] == [f"m{n}" for n in range(990, 1000)]
    assert len(workspace.calls) == 1


async def test_messages_of_one_millisecond_across_a_page(rest: RocketChatRest, workspace: Workspace) -> None:
    same = [{**message(n), "ts": written(AT)} for n in range(3)]
    later = [message(n) for n in range(10, 10 + PAGE - 1)]
    keep(workspace, [*same, *later])
    _, said = await rest.history(ROOM, None)
    assert len({one.source_id for one in said}) == len(said) == PAGE + 2


async def test_a_page_that_brings_nothing_new_ends_it(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(workspace, [{**message(n), "ts": written(AT)} for n in range(2 * PAGE)])
    _, said = await rest.history(ROOM, None)
    assert len(said) == PAGE
    assert len(workspace.calls) == 2


async def test_a_room_without_end_is_bounded(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(workspace, [message(n) for n in range((PAGES + 3) * PAGE)])
    _, said = await rest.history(ROOM, None)
    assert len(workspace.calls) == PAGES
    assert said[-1].source_id == f"m{(PAGES + 3) * PAGE - 1}"


async def test_who_said_it_and_what_is_left_out(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(
        workspace,
        [
            message(1, t="livechat-started"),
            message(2, token=TOKEN, u={"_id": "another"}),
            message(3, u={"_id": "a1"}),
            message(4, u={"_id": "a1"}, file={"_id": "Up1", "name": "a.pdf", "type": "application/pdf"}),
            message(5, t="livechat-close", u={"_id": "a1"}),
        ],
    )
    _, said = await rest.history(ROOM, None)
    assert [(one.source_id, one.by_agent, one.closing, len(one.files)) for one in said] == [
        ("m2", False, False, 0),
        ("m3", True, False, 0),
        ("m4", True, False, 1),
        ("m5", True, True, 0),
    ]
    assert TOKEN not in repr(said)


async def test_an_edit_after_it_counts(rest: RocketChatRest, workspace: Workspace) -> None:
    edited = message(1, editedAt=written(AT + timedelta(hours=1)))
    keep(workspace, [message(0), edited, message(2)])
    _, said = await rest.history(ROOM, AT + timedelta(minutes=30))
    assert [(one.source_id, one.edited) for one in said] == [("m1", True)]


async def test_a_token_that_is_not_known_is_asked_for(rest: RocketChatRest, workspace: Workspace) -> None:
    keep(workspace, [message(1)])
    visitor = {"_id": "v1", "token": TOKEN}
    workspace.routes["GET v1/rooms.info"] = lambda _: {
        "room": {"_id": "room/1", "v": visitor},
        "success": True,
    }
    _, said = await rest.history(replace(ROOM, visitor_token=None, visitor_id=None), None)
    assert [(one.source_id, one.by_agent) for one in said] == [("m1", False)]


async def test_no_token_at_all(rest: RocketChatRest, workspace: Workspace) -> None:
    workspace.routes["GET v1/rooms.info"] = lambda _: {
        "room": {"_id": "room/1", "v": {"_id": "v1"}},
        "success": True,
    }
    workspace.routes["GET v1/chat.syncMessages"] = lambda _: {
        "result": {"updated": [message(9), message(3), message(5)], "deleted": []},
        "success": True,
    }
    _, said = await rest.history(replace(ROOM, visitor_token=None), AT + timedelta(seconds=4))
    assert [one.source_id for one in said] == ["m5", "m9"]
    (asked,) = workspace.to("GET v1/chat.syncMessages")
    assert asked.query == {"roomId": "room/1", "lastUpdate": "2026-02-02T08:00:04.000Z"}


async def test_a_token_that_no_longer_opens(rest: RocketChatRest, workspace: Workspace) -> None:
    workspace.routes[f"{HISTORY}/"] = lambda _: failure("invalid-token")
    workspace.routes["GET v1/chat.syncMessages"] = lambda _: {"result": {"updated": [message(1)]}}
    assert [one.source_id for one in (await rest.history(ROOM, None))[1]] == ["m1"]


async def test_a_page_that_fails_gives_nothing(rest: RocketChatRest, workspace: Workspace) -> None:
    pages = iter([{"messages": [message(n) for n in range(PAGE)], "success": True}, None])
    workspace.routes[f"{HISTORY}/"] = lambda _: next(pages)
    result, said = await rest.history(ROOM, None)
    assert result.outcome is Outcome.RETRY
    assert said == []
    assert TOKEN not in repr(result)


async def test_the_budget_of_the_route_is_one_for_all_rooms(rest: RocketChatRest, workspace: Workspace) -> None:  # fmt: skip
    limits = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1770033640000"}
    workspace.routes[f"{HISTORY}/"] = lambda _: (200, {"messages": [], "success": True}, limits)
    await rest.history(ROOM, None)
    result, _ = await rest.history(replace(ROOM, room_id="room2"), None)
    assert result.code == "error-too-many-requests"
    assert len(workspace.calls) == 1
