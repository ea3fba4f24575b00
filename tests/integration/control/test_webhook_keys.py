"""Who may post to Rocket.Chat's webhook with an API key."""

import orjson
import pytest

from router.app.serve import may_post
from router.control import access
from router.control.desk import Desk
from tests.integration.control.desk_scene import LUA, SOL

pytestmark = pytest.mark.postgres


def flat(channel: str) -> bytes:
    return orjson.dumps({"message_id": "m1", "user": {"id": "u1"}, "channel": channel, "text": "oi"})


async def test_a_tenants_key_writes_to_its_own_channels_only(desk: Desk) -> None:
    async def key(tenant: str, scopes: str) -> str:
        return str((await access.create_key(desk, "n", tenant, scopes))["key"])

    sol, every = await key(SOL, "webhook"), await key("all", "webhook")
    assert await may_post(desk, sol, flat("wa-sol"))
    assert await may_post(desk, sol, flat("sms"))  # the only channel of its kind is the tenant's
    assert not await may_post(desk, sol, flat("wa-lua"))
    assert not await may_post(desk, sol, flat("whatsapp"))
    assert not await may_post(desk, sol, b'{"type": "Message", "_id": "room", "messages": []}')
    assert not await may_post(desk, await key(LUA, "webhook"), flat("wa-sol"))
    assert not await may_post(desk, await key(SOL, "messages:write"), flat("wa-sol"))
    assert await may_post(desk, every, flat("wa-lua"))
    assert await may_post(desk, every, b"no JSON")
