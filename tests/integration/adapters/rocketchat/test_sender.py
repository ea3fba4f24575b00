"""Files and reactions into a room, and what happens when nobody knows whether they arrived."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from adapters.rocketchat.absent import Absent
from adapters.rocketchat.rest import RocketChatRest, RocketChatSender
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.message import Content
from router.domain.ports import Outbound, Permit, RocketChat, RoomInfo, Sender
from tests.integration.adapters.rocketchat.conftest import Hands
from tests.integration.adapters.rocketchat.workspace import Call, Workspace, failure

PERMIT = Permit(UUID(int=1), "rocketchat", 1, expires=1000.0)
ZAP = Channel("zap", "whatsapp", "sol")
PHOTO = Outbound(ZAP, (), Content("image", "seu exame"), "cb", room_id="room1", file_id="Up/1")
HEART = Outbound(ZAP, (), Content("reaction", "❤️"), "cb", room_id="room1", context_id="m1")
CONFIRM = "POST v1/rooms.mediaConfirm"
HISTORY = "GET v1/livechat/messages.history"
TOO_MANY = "You must wait 23 seconds [error-too-many-requests]"
DONE = {"success": True, "message": {"_id": "m9"}}


@pytest.fixture
def sender(rest: RocketChatRest, clock: Hands) -> Sender:
    return RocketChatSender(rest, clock.monotonic)


def shows(workspace: Workspace, *files: str) -> None:
    """The room's history shows these uploads."""
    workspace.routes["GET v1/rooms.info"] = lambda _: {
        "room": {"_id": "room1", "v": {"_id": "v1", "token": "t"}}
    }
    messages = [{"_id": f"m-{one}", "ts": "2026-02-02T11:00:00.000Z", "file": {"_id": one}} for one in files]
    workspace.routes[f"{HISTORY}/"] = lambda _: {"messages": messages, "success": True}


async def test_a_file_is_confirmed_with_its_caption(sender: Sender, workspace: Workspace) -> None:
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: DONE
    assert await sender.send(PERMIT, PHOTO) == Result(Outcome.OK)
    (call,) = workspace.calls
    assert call.route == f"{CONFIRM}/room1/Up%2F1"
    assert call.body == {"msg": "seu exame", "description": "seu exame"}
    await sender.send(PERMIT, replace(PHOTO, content=Content("document", None)))
    assert workspace.calls[-1].body == {"msg": ""}


@pytest.mark.parametrize("kind", ["image", "audio", "video", "document", "sticker"])
async def test_every_kind_of_file(sender: Sender, workspace: Workspace, kind: str) -> None:
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: DONE
    assert (await sender.send(PERMIT, replace(PHOTO, content=Content(kind)))).outcome is Outcome.OK


async def test_a_repeat_looks_first(sender: Sender, workspace: Workspace) -> None:
    shows(workspace, "another", "Up/1")
    assert await sender.send(PERMIT, replace(PHOTO, repeat=True)) == Result(Outcome.OK)
    assert workspace.to(CONFIRM) == []


async def test_a_repeat_of_what_did_not_arrive_is_confirmed(sender: Sender, workspace: Workspace) -> None:
    shows(workspace, "another")
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: DONE
    assert await sender.send(PERMIT, replace(PHOTO, repeat=True)) == Result(Outcome.OK)
    assert len(workspace.to(CONFIRM)) == 1


@pytest.mark.parametrize(
    "told", [None, (500, {}), failure("error-not-allowed"), failure("error-room-not-found")]
)
async def test_a_repeat_that_cannot_look_confirms_nothing(
    sender: Sender, workspace: Workspace, told: Any
) -> None:
    workspace.routes["GET v1/rooms.info"] = lambda _: told
    result = await sender.send(PERMIT, replace(PHOTO, repeat=True))
    assert result.outcome is Outcome.RETRY
    assert workspace.to(CONFIRM) == []


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (("Up/1",), Result(Outcome.OK)),
        (("another",), Result(Outcome.PERMANENT, code="invalid-file")),
    ],
)
async def test_an_upload_that_is_gone_may_have_been_confirmed(
    sender: Sender, workspace: Workspace, shown: tuple[str, ...], expected: Result
) -> None:
    shows(workspace, *shown)
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: failure("invalid-file", "")
    assert await sender.send(PERMIT, PHOTO) == expected


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("told", [{}, {"success": False, "error": "license needed"}, {"error": TOO_MANY}])
async def test_a_5xx_may_come_after_the_act(
    sender: Sender, workspace: Workspace, status: int, told: dict[str, Any]
) -> None:
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: (status, told)
    assert (await sender.send(PERMIT, PHOTO)).outcome is Outcome.UNKNOWN


async def test_looking_outlives_the_permit(sender: Sender, workspace: Workspace, clock: Hands) -> None:
    shows(workspace)
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: DONE
    history = workspace.routes[f"{HISTORY}/"]

    def slow(call: Call) -> Any:
        clock.seconds += 1001
        return history(call)

    workspace.routes[f"{HISTORY}/"] = slow
    result = await sender.send(PERMIT, replace(PHOTO, repeat=True))
    assert result == Result(Outcome.RETRY, code="permit", asked=False)
    assert workspace.to(CONFIRM) == []


async def test_a_file_is_looked_for_in_five_pages(sender: Sender, workspace: Workspace) -> None:
    shows(workspace)
    page: list[int] = []

    def busy(_: Call) -> Any:
        page.append(len(page))
        said = [
            {"_id": f"m{page[-1]}-{n}", "ts": f"2026-02-02T11:{59 - page[-1]:02}:00.{999 - n}Z"}
            for n in range(100)
        ]
        return {"messages": said, "success": True}

    workspace.routes[f"{HISTORY}/"] = busy
    result = await sender.send(PERMIT, replace(PHOTO, repeat=True))
    assert (result.outcome, result.code) == (Outcome.RETRY, "unfinished")
    assert (len(page), workspace.to(CONFIRM)) == (5, [])


async def test_gone_and_nowhere_to_look(sender: Sender, workspace: Workspace) -> None:
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: failure("invalid-file", "")
    workspace.routes["GET v1/rooms.info"] = lambda _: (503, {})
    assert (await sender.send(PERMIT, PHOTO)).outcome is Outcome.RETRY


async def test_no_answer_is_unknown(sender: Sender, workspace: Workspace) -> None:
    workspace.routes[f"{CONFIRM}/room1/"] = lambda _: None
    assert (await sender.send(PERMIT, PHOTO)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("outbound", "code"),
    [
        (replace(PHOTO, file_id=None), "no_file"),
        (replace(PHOTO, room_id=None), "no_room"),
        (replace(PHOTO, content=Content("image", "x" * 5001)), "too_long"),
        (replace(PHOTO, content=Content("location", "x")), "unsupported"),
        (replace(PHOTO, content=Content("template")), "unsupported"),
        (replace(HEART, context_id=None), "no_context"),
        (replace(HEART, content=Content("reaction", "🦄")), "unsupported"),
    ],
)
async def test_refused_without_a_request(
    sender: Sender, workspace: Workspace, outbound: Outbound, code: str
) -> None:
    refused = await sender.send(PERMIT, outbound)
    assert (refused.code, refused.asked) == (code, False)
    late = await sender.send(replace(PERMIT, expires=0.0), HEART)
    assert (late.code, late.asked) == ("permit", False)
    assert workspace.calls == []


@pytest.mark.parametrize(
    ("emoji", "name"),
    [("👍", "thumbsup"), ("👍🏽", "thumbsup"), ("❤️", "heart"), (":tada:", "tada"), ("🙏", "pray")],
)
async def test_a_reaction_by_its_name(sender: Sender, workspace: Workspace, emoji: str, name: str) -> None:
    workspace.routes["POST v1/chat.react"] = lambda _: {"success": True}
    assert await sender.send(PERMIT, replace(HEART, content=Content("reaction", emoji))) == Result(Outcome.OK)
    assert workspace.calls[0].body == {"messageId": "m1", "emoji": name, "shouldReact": True}


async def test_a_reaction_may_be_repeated(sender: Sender, workspace: Workspace) -> None:
    workspace.routes["POST v1/chat.react"] = lambda _: None
    assert (await sender.send(PERMIT, HEART)).outcome is Outcome.RETRY


async def test_a_reaction_is_taken_back(sender: Sender, workspace: Workspace) -> None:
    reactions: Mapping[str, Any] = {
        ":heart:": {"usernames": ["ana", "figueira"]},
        ":joy:": {"usernames": ["ana"]},
        ":x:": None,
    }
    workspace.routes["GET v1/me"] = lambda _: {"_id": "u1", "username": "figueira", "success": True}
    workspace.routes["GET v1/chat.getMessage"] = lambda _: {
        "message": {"_id": "m1", "reactions": reactions},
        "success": True,
    }
    workspace.routes["POST v1/chat.react"] = lambda _: {"success": True}
    assert await sender.send(PERMIT, replace(HEART, content=Content("reaction", ""))) == Result(Outcome.OK)
    assert [call.body for call in workspace.to("POST v1/chat.react")] == [
        {"messageId": "m1", "emoji": ":heart:", "shouldReact": False}
    ]
    assert workspace.to("GET v1/chat.getMessage")[0].query == {"msgId": "m1"}
    workspace.routes["GET v1/me"] = lambda _: (503, {})
    assert (
        await sender.send(PERMIT, replace(HEART, content=Content("reaction", "")))
    ).outcome is Outcome.RETRY


async def test_taking_back_ends_with_the_permit(sender: Sender, workspace: Workspace, clock: Hands) -> None:
    def slow(_: Call) -> Any:
        clock.seconds += 1001
        return {"message": {"reactions": {":heart:": {"usernames": ["figueira"]}}}, "success": True}

    workspace.routes["GET v1/me"] = lambda _: {"username": "figueira", "success": True}
    workspace.routes["GET v1/chat.getMessage"] = slow
    result = await sender.send(PERMIT, replace(HEART, content=Content("reaction", "")))
    assert (result.code, workspace.to("POST v1/chat.react")) == ("permit", [])


async def test_marks_are_rocketchats_own(sender: Sender) -> None:
    refused = Result(Outcome.PERMANENT, code="unsupported", asked=False)
    assert await sender.mark(ZAP, "wamid", typing=True) == refused


async def test_without_a_rocketchat() -> None:
    nobody = Absent()
    port: RocketChat = nobody
    way: Sender = nobody
    assert (await way.send(PERMIT, PHOTO)).outcome is Outcome.PERMANENT
    assert not (await way.send(PERMIT, PHOTO)).asked
    assert (await way.mark(ZAP, "x", typing=False)).outcome is Outcome.PERMANENT
    assert (await port.rooms(None, 0))[0].outcome is Outcome.RETRY
    assert (await port.history(RoomInfo("r", None, None), None))[0].outcome is Outcome.RETRY
