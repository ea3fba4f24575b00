"""Every call the router makes of Rocket.Chat's REST API before Rocket.Chat's own OpenAPI files.

Those files are checked for what a request must hold. They describe no state, and they ask for no credentials: a call
without them is answered 400, as one without any other required header.

In none of the files: `/api/info` and `/api/v1/info` (the version), `/api/v1/settings/{id}` (the rate limit's switch).
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from adapters.files.exchange import FileExchange
from adapters.files.rooms import Workspace
from adapters.rocketchat.admin import Admin
from adapters.rocketchat.rest import RocketChatRest, RocketChatSender
from flags.stage import Path
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.message import Content
from router.domain.ports import Outbound, Permit, RoomInfo
from tests.contract.prism.kept import Kept, picture
from tests.contract.prism.prism import NOWHERE, ByRoute, Prisms, Witness, open_client

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prism")]
FILES = [
    f"rocketchat/{name}.yaml"
    for name in ("omnichannel", "rooms", "messaging", "user-management", "integrations", "authentication")
]
SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOM = RoomInfo("GCP6GR8DDZT2DBARB", "app", "App1", "v1", visitor_token="iwefbvibibvre78")
PERMIT = Permit(UUID(int=1), Path.ROCKETCHAT, 1, expires=100.0)


class Hands:
    """A clock that stands still."""

    def now(self) -> datetime:
        return SINCE

    def monotonic(self) -> float:
        return 1.0


@pytest.fixture
async def http(prism: Prisms, witness: Witness) -> AsyncIterator[httpx.AsyncClient]:
    prism.start(*FILES)
    async with open_client(witness, transport=ByRoute(prism, FILES)) as client:
        yield client


@pytest.fixture
def rest(http: httpx.AsyncClient) -> RocketChatRest:
    return RocketChatRest(http, "http://rocketchat.example", "u1", "segredo", Hands())


def outbound(content: Content) -> Outbound:
    return Outbound(
        Channel("zap", "whatsapp", "sol"), (), content, "cb", room_id=ROOM.room_id, source_id="f" * 17,
        file_id="67109d6c25682c7469486008", context_id="m" * 17,
    )  # fmt: skip


async def test_rooms(rest: RocketChatRest, witness: Witness) -> None:
    assert (await rest.room_info(ROOM.room_id))[0] == Result(Outcome.OK)
    assert (await rest.close_room(ROOM.room_id, "movida")) == Result(Outcome.OK)
    for offset in range(3):  # open, on hold, closed since
        result, found, _ = await rest.rooms(SINCE, offset)
        assert result == Result(Outcome.OK)
        assert found or offset == 1
    listing = ["GET /api/v1/livechat/rooms"] * 3
    witness.assert_allowed("GET /api/v1/rooms.info", "POST /api/v1/livechat/room.closeByUser", *listing)


async def test_what_was_said(rest: RocketChatRest, witness: Witness) -> None:
    assert (await rest.history(ROOM, SINCE))[0] == Result(Outcome.OK)
    witness.assert_allowed(f"GET /api/v1/livechat/messages.history/{ROOM.room_id}")


async def test_people(rest: RocketChatRest, witness: Witness) -> None:
    result, user = await rest.user_info("u9")
    assert result == Result(Outcome.OK)
    assert user
    witness.assert_allowed("GET /api/v1/users.info")


@pytest.mark.parametrize(
    ("content", "calls"),
    [
        (Content("text", "Olá"), ["POST /api/v1/chat.sendMessage"]),
        (
            Content("image", "O mapa", {"media_id": "x"}),
            [f"POST /api/v1/rooms.mediaConfirm/{ROOM.room_id}/67109d6c25682c7469486008"],
        ),
        (
            Content("document", None, {"media_id": "x"}),
            [f"POST /api/v1/rooms.mediaConfirm/{ROOM.room_id}/67109d6c25682c7469486008"],
        ),
        (Content("reaction", "👍"), ["POST /api/v1/chat.react"]),
        (Content("reaction", ""), ["GET /api/v1/me", "GET /api/v1/chat.getMessage"]),
    ],
    ids=["text", "image", "document", "reaction", "reaction taken back"],
)
async def test_a_send(rest: RocketChatRest, witness: Witness, content: Content, calls: list[str]) -> None:
    result = await RocketChatSender(rest, lambda: 1.0).send(PERMIT, outbound(content))
    witness.assert_allowed(*calls)
    assert result == Result(Outcome.OK)


async def test_an_upload(http: httpx.AsyncClient, witness: Witness) -> None:
    workspace = Workspace("http://rocketchat.example", "u1", "segredo")
    files = FileExchange(http, Kept(), rocketchat=workspace, limit=1024, seconds=10)
    asked = Channel("zap", "whatsapp", "sol")
    result = await files.upload(Path.ROCKETCHAT, asked, picture(), ROOM.room_id)
    witness.assert_allowed(f"POST /api/v1/rooms.media/{ROOM.room_id}")
    assert result.outcome is Outcome.OK
    assert result.external_id


@pytest.fixture
def admin(rest: RocketChatRest) -> Admin:
    return Admin(rest.client, webhook_token="palavra-do-webhook", integration_token="palavra-da-integra")


OURS = "https://figueira.example/webhooks/rocketchat"
UNDESCRIBED = {"GET /api/info", "GET /api/v1/info", "GET /api/v1/settings/API_Enable_Rate_Limiter"}


async def test_a_check(admin: Admin, witness: Witness) -> None:
    found = await admin.check(OURS)
    assert len(found) > 5
    strangers = {verdict.call for verdict in witness.verdicts if verdict.wrong == [NOWHERE]}
    assert strangers == UNDESCRIBED
    witness.verdicts = [verdict for verdict in witness.verdicts if verdict.call not in strangers]
    witness.assert_allowed(
        "GET /api/v1/me",
        "GET /api/v1/permissions.listAll",
        "GET /api/v1/livechat/integrations.settings",
        "GET /api/v1/integrations.list",
    )


async def test_a_setup(admin: Admin, witness: Witness) -> None:
    await admin.setup(OURS, dry_run=False)
    settings, listing = "GET /api/v1/livechat/integrations.settings", "GET /api/v1/integrations.list"
    witness.assert_allowed(
        "GET /api/v1/me", settings, "POST /api/v1/omnichannel/integrations", settings,
        listing, "POST /api/v1/integrations.create", listing,
    )  # fmt: skip


async def test_a_new_user(http: httpx.AsyncClient, admin: Admin, witness: Witness) -> None:
    async def nobody_yet(request: httpx.Request) -> None:
        if request.url.path.endswith("users.info"):
            request.headers["Prefer"] = "code=400"

    http.event_hooks = {**http.event_hooks, "request": [nobody_yet]}
    made = await admin.create_user(name="Marina Reis", email="marina@clinica.example", username="marina.reis")
    assert isinstance(made, str), made
    asked, made_of = witness.verdicts
    assert (asked.call, asked.status, asked.wrong) == ("GET /api/v1/users.info", 400, [])
    assert (made_of.call, made_of.status, made_of.wrong) == ("POST /api/v1/users.create", 200, [])


async def test_validation_is_on(http: httpx.AsyncClient, witness: Witness) -> None:
    client = RocketChatRest(http, "http://rocketchat.example", "u1", "segredo", Hands()).client
    await client.call("POST", "chat.sendMessage", body={"message": {"msg": "sem sala"}})
    await client.call("POST", "livechat/room.closeByUser", body={"comment": "sem sala"})
    await client.call("POST", "chat.inventada", body={})
    assert [bool(verdict.wrong) for verdict in witness.verdicts] == [True, True, True]
    assert {verdict.status for verdict in witness.verdicts} <= {400, 404, 422}
