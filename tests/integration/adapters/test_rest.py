import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from adapters import transport
from adapters.rocketchat.rest import RocketChatRest, RocketChatSender
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.message import Content
from router.domain.ports import Outbound, Permit, RocketChat, RoomInfo
from tests.integration.adapters.raw import RawServer, Script, answer, reset, silence

PERMIT = Permit(UUID(int=1), "rocketchat", 1, expires=1000.0)
OUTBOUND = Outbound(
    Channel("zap", "whatsapp", "sol"), (), Content("text", "Olá"), "cb", room_id="room1", source_id="f" * 17
)
TOO_MANY = (
    "Error, too many requests. Please slow down. You must wait 23 seconds before trying this endpoint again."
    " [error-too-many-requests]"
)


@dataclass
class Hands:
    """A clock that stands still until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_770_000_000 + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def connect(
    monkeypatch: pytest.MonkeyPatch, clock: Hands
) -> AsyncIterator[Callable[[str], RocketChatRest]]:
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(0.3))
    async with httpx.AsyncClient() as client:
        yield lambda url: RocketChatRest(client, f"{url}/", "u1", "segredo", clock)


@pytest.fixture
def rest(server: RawServer, connect: Callable[[str], RocketChatRest]) -> RocketChatRest:
    return connect(server.url)


def reply(status: int, body: Any, **headers: object) -> Script:
    raw = json.dumps(body).encode()
    named = [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
    return answer(
        b"\r\n".join([b"HTTP/1.1 %d X" % status, *named, b"Content-Length: %d" % len(raw), b"", raw])
    )


async def test_a_send_carries_our_id(server: RawServer, rest: RocketChatRest, clock: Hands) -> None:
    server.script = reply(200, {"success": True, "message": {"_id": "f" * 17}})
    sender = RocketChatSender(rest, clock.monotonic)
    assert await sender.send(PERMIT, OUTBOUND) == Result(Outcome.OK)
    assert sender.idempotent
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/v1/chat.sendMessage HTTP/1.1\r\n")
    assert b"x-auth-token: segredo" in head.lower()
    assert b"x-user-id: u1" in head.lower()
    assert json.loads(body) == {"message": {"_id": "f" * 17, "rid": "room1", "msg": "Olá"}}


@pytest.mark.parametrize(
    ("permit", "outbound", "code"),
    [
        (PERMIT, replace(OUTBOUND, room_id=None), "no_room"),
        (replace(PERMIT, path="native"), OUTBOUND, "permit"),
        (replace(PERMIT, expires=0.0), OUTBOUND, "permit"),
        (PERMIT, replace(OUTBOUND, source_id=None), "no_source_id"),
        (PERMIT, replace(OUTBOUND, content=Content("location")), "unsupported"),
        (PERMIT, replace(OUTBOUND, content=Content("text", "x" * 5001)), "too_long"),
    ],
)
async def test_refused_without_a_request(
    server: RawServer, rest: RocketChatRest, clock: Hands, permit: Permit, outbound: Outbound, code: str
) -> None:
    result = await RocketChatSender(rest, clock.monotonic).send(permit, outbound)
    assert (result.code, result.asked) == (code, False)
    assert (result.outcome is Outcome.RETRY) == (code in {"no_room", "permit"})
    assert server.requests == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            reply(
                400, {"success": False, "error": "Room is closed [room-closed]", "errorType": "room-closed"}
            ),
            Result(Outcome.PERMANENT, code="room-closed"),
        ),
        (
            reply(400, {"success": False, "error": "error-invalid-room"}),
            Result(Outcome.PERMANENT, code="error-invalid-room"),
        ),
        (
            reply(400, {"success": False, "error": "In words only."}),
            Result(Outcome.PERMANENT, code="http_400"),
        ),
        (
            reply(401, {"status": "error", "message": "You must be logged in to do this."}),
            Result(Outcome.CHANNEL, code="unauthorized"),
        ),
        (
            reply(401, {"success": False, "error": "You must be logged in."}),
            Result(Outcome.CHANNEL, code="unauthorized"),
        ),
        (
            reply(403, {"success": False, "error": "x [error-forbidden]"}),
            Result(Outcome.CHANNEL, code="error-forbidden"),
        ),
        (
            reply(
                400,
                {"success": False, "error": "TOTP Required [totp-required]", "errorType": "totp-required"},
            ),
            Result(Outcome.CHANNEL, code="totp-required"),
        ),
        (
            reply(400, {"success": False, "error": "error-mac-limit-reached"}),
            Result(Outcome.CHANNEL, code="licence-limit"),
        ),
        (
            reply(400, {"success": False, "error": "Your license does not allow this."}),
            Result(Outcome.CHANNEL, code="licence-limit"),
        ),
        (
            reply(429, {"success": False, "error": TOO_MANY}),
            Result(Outcome.RETRY, code="error-too-many-requests", retry_after=23),
        ),
        (
            reply(400, {"success": False, "error": "E11000 duplicate key error collection: x"}),
            Result(Outcome.OK),
        ),
        (
            reply(200, {"success": False, "error": "x [error-not-allowed]"}),
            Result(Outcome.PERMANENT, code="error-not-allowed"),
        ),
        (reply(200, "hello"), Result(Outcome.UNKNOWN, code="no_document")),
        (reply(502, {}), Result(Outcome.UNKNOWN, code="http_502")),
        (reply(503, {}), Result(Outcome.RETRY, code="http_503")),
        (reset, Result(Outcome.UNKNOWN, code="broken")),
        (silence, Result(Outcome.UNKNOWN, code="timeout")),
    ],
)
async def test_answers_to_a_send(
    server: RawServer, rest: RocketChatRest, script: Script, expected: Result
) -> None:
    server.script = script
    assert await rest.send_message("room1", "id", "Olá") == expected


ROOM = {
    "_id": "room1",
    "t": "l",
    "open": True,
    "fname": "Marina",
    "source": {"type": "app", "id": "App1", "alias": "WhatsApp"},
    "v": {
        "_id": "v1",
        "token": "segredo-dela",
        "username": "guest-1",
        "phone": [{"phoneNumber": "553196880001"}],
    },
}


async def test_room_info(server: RawServer, rest: RocketChatRest) -> None:
    server.script = reply(200, {"success": True, "room": ROOM})
    port: RocketChat = rest
    result, info = await port.room_info("room1&x=1")
    assert result == Result(Outcome.OK)
    assert info == RoomInfo(
        "room1", "app", "App1", "v1", hashlib.sha256(b"segredo-dela").hexdigest(), ("553196880001",), "Marina",
        visitor_token="segredo-dela",
    )  # fmt: skip
    assert "segredo-dela" not in repr(info)
    assert server.requests[0].startswith(b"GET /api/v1/rooms.info?roomId=room1%26x%3D1 HTTP/1.1\r\n")
    server.script = reply(200, {"success": True, "room": {"_id": "room1", "t": "l", "v": None, "source": 7}})
    assert (await rest.room_info("room1"))[1] == RoomInfo("room1", None, None, open=False)
    server.script = reply(200, {"success": True, "room": {"_id": "GENERAL", "t": "c"}})
    assert (await rest.room_info("GENERAL"))[1] == RoomInfo("GENERAL", None, None)


@pytest.mark.parametrize("at", ["2026-02-02T10:00:00.000Z", {"$date": 1770026400000}])
async def test_when_the_visitor_last_wrote(server: RawServer, rest: RocketChatRest, at: Any) -> None:
    room = {**ROOM, "lm": "2026-02-02T11:00:00.000Z", "v": {"_id": "v1", "lastMessageTs": at}}
    for body in ({"room": room}, {"rooms": [room], "total": 1}):
        server.script = reply(200, {"success": True, **body})
        found = (await rest.room_info("room1"))[1] if "room" in body else (await rest.rooms(None, 0))[1][0]
        assert found is not None
        assert found.visitor_said_at == datetime(2026, 2, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (reply(400, {"success": False, "error": "x [error-room-not-found]"}), Outcome.PERMANENT),
        (reply(400, {"success": False, "error": "Not Allowed [error-not-allowed]"}), Outcome.RETRY),
        (reply(401, {"status": "error", "message": "You must be logged in to do this."}), Outcome.CHANNEL),
        (reply(200, {"success": True}), Outcome.RETRY),
        (reply(500, {}), Outcome.RETRY),
        (reset, Outcome.RETRY),
    ],
)
async def test_no_room_info(
    server: RawServer, rest: RocketChatRest, script: Script, outcome: Outcome
) -> None:
    server.script = script
    result, info = await rest.room_info("room1")
    assert (result.outcome, info) == (outcome, None)


async def test_closing_is_done_once_however_often(server: RawServer, rest: RocketChatRest) -> None:
    server.script = reply(200, {"success": True})
    assert await rest.close_room("room1", "movida") == Result(Outcome.OK)
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2]) == {"rid": "room1", "comment": "movida"}
    server.script = reply(400, {"success": False, "error": "error-room-already-closed"})
    assert await rest.close_room("room1", "movida") == Result(Outcome.OK)
    server.script = reset
    assert (await rest.close_room("room1", "movida")).outcome is Outcome.RETRY


async def test_user_info(server: RawServer, rest: RocketChatRest) -> None:
    server.script = reply(200, {"success": True, "user": {"_id": "u9", "username": "ana", "name": "Ana"}})
    _, user = await rest.user_info("u9")
    assert user is not None
    assert (user.id, user.username, user.name) == ("u9", "ana", "Ana")
    server.script = reply(400, {"success": False, "error": "User not found."})
    assert await rest.user_info("u9") == (Result(Outcome.PERMANENT, code="http_400"), None)


async def test_the_budget_spares_the_call(server: RawServer, rest: RocketChatRest, clock: Hands) -> None:
    limits = {"X_RateLimit_Limit": 2, "X_RateLimit_Remaining": 0, "X_RateLimit_Reset": 1_770_000_040_000}
    server.script = reply(200, {"success": True}, **limits)
    assert (await rest.send_message("r", "1", "x")).outcome is Outcome.OK
    clock.seconds = 10
    waiting = Result(Outcome.RETRY, code="error-too-many-requests", retry_after=30.0, asked=False)
    assert await rest.send_message("r", "2", "x") == waiting
    assert len(server.requests) == 1
    assert await rest.close_room("r", "x") == Result(Outcome.OK)  # another route
    clock.seconds = 41
    assert (await rest.send_message("r", "2", "x")).outcome is Outcome.OK


async def test_a_429_stops_its_route(server: RawServer, rest: RocketChatRest, clock: Hands) -> None:
    server.script = reply(429, {"success": False, "error": TOO_MANY})
    await rest.send_message("r", "1", "x")
    clock.seconds = 3
    assert (await rest.send_message("r", "1", "x")).retry_after == 20
    assert len(server.requests) == 1


async def test_nobody_there(connect: Callable[[str], RocketChatRest], nowhere: str) -> None:
    assert await connect(nowhere).send_message("r", "1", "x") == Result(Outcome.RETRY, code="connect")
