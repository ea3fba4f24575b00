import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from router.control import conversations, flags, messages
from router.control.contents import TEXT_LENGTH
from router.control.desk import Desk
from router.domain.errors import Rejected
from tests.integration.control.desk_scene import LUA, SOL, open_conversation, order, told

pytestmark = pytest.mark.postgres
KEY = str(uuid.uuid4())
HERE = {"latitude": -23.5, "longitude": -46.6}


async def count(desk: Desk, table: str) -> int:
    return len(await desk.store.engine.fetch(f"table {table}"))


async def send(desk: Desk, tenant: str | None = SOL, idem: str | None = None, **body: Any) -> dict[str, Any]:
    status, answer = await messages.send(
        desk, key_id=KEY, tenant=tenant, idempotency_key=idem, **order(**body)
    )
    assert status == 202
    return answer


async def refused(desk: Desk, tenant: str | None = SOL, **body: Any) -> tuple[str, int]:
    with pytest.raises(Rejected) as raised:
        await send(desk, tenant, **body)
    return raised.value.code, raised.value.status


async def to_native(desk: Desk) -> None:
    await flags.set_stage(desk, "whatsapp", stage="native", reason="go", by="cli")


async def test_queues_a_message_and_shows_it(desk: Desk) -> None:
    await to_native(desk)
    answer = await send(desk, channel="wa-sol", to="+5511988887777", text="Olá", metadata={"n": 1})
    assert (answer["path"], answer["status"]) == ("native", "queued")
    shown = await messages.one(desk, answer["id"], SOL)
    assert shown["contact_id"] == answer["contact_id"]
    assert (shown["text"], shown["direction"], shown["kind"]) == ("Olá", "outbound", "whatsapp")
    assert (shown["attempts"], shown["external_id"], shown["metadata"]) == ([], None, {"n": 1})
    made, _ = await conversations.decisions(desk, answer["conversation_id"], tenant=SOL)
    assert shown["decision_id"] == made[0]["id"]
    again = await send(desk, conversation_id=answer["conversation_id"], text="mais")
    assert again["conversation_id"] == answer["conversation_id"]
    assert (await messages.one(desk, again["id"], SOL))["decision_id"] == made[0]["id"]
    assert ("messages_total", 1, ("whatsapp", "outbound", "native")) in told(desk)
    assert await count(desk, "jobs") == 2


async def test_the_clinic_sends_by_user_id_and_kind(desk: Desk) -> None:
    await to_native(desk)
    first = await send(desk, channel="wa-sol", to="5511988887777", text="a")
    user_id = await desk.store.engine.fetchval(
        "select user_id from contacts where id = $1", uuid.UUID(first["contact_id"])
    )
    second = await send(desk, user_id=str(user_id), text="b", channel="whatsapp")
    assert second["conversation_id"] == first["conversation_id"]
    assert (await refused(desk, LUA, user_id=str(user_id), text="b", channel="wa-lua"))[0] == "not_mapped"


async def test_refuses_what_it_cannot_send(desk: Desk) -> None:
    someone = {"to": "5511988887777", "text": "a"}
    assert await refused(desk, LUA, channel="whatsapp", **someone) == ("ambiguous_channel", 422)
    assert await refused(desk, None, channel="whatsapp", **someone) == ("ambiguous_channel", 422)
    assert await refused(desk, SOL, channel="wa-lua", **someone) == ("unknown_channel", 422)
    assert await refused(desk, SOL, channel="fax", **someone) == ("unknown_channel", 422)
    assert await refused(desk, SOL, **someone) == ("unknown_channel", 422)
    assert await refused(desk, channel="wa-sol", text="a") == ("invalid_recipient", 422)
    assert await refused(desk, channel="wa-sol", user_id="x", text="a") == ("invalid_recipient", 422)
    assert await refused(desk, channel="wa-sol", to=5, text="a") == ("invalid_recipient", 422)
    assert await refused(desk, channel="wa-sol", to="abc", text="a") == ("invalid_recipient", 422)
    both = {**someone, "user_id": str(uuid.uuid4())}
    assert await refused(desk, channel="wa-sol", **both) == ("invalid_recipient", 422)
    assert await refused(desk, channel="wa-sol", to="1", text="a" * (TEXT_LENGTH + 1)) == ("too_long", 422)
    assert await refused(desk, channel="wa-sol", to="1", text=" ") == ("empty", 422)
    assert await refused(desk, channel="wa-sol", to="1", text=["a"]) == ("empty", 422)
    assert await refused(desk, channel="sms-sol", to="1", location=HERE) == ("unsupported", 422)
    assert await refused(desk, channel="wa-sol", metadata=[], **someone) == ("invalid_field", 422)
    assert await refused(desk, channel="wa-sol", metadata={"a": "b" * 4096}, **someone) == (
        "invalid_field",
        422,
    )
    assert await refused(desk, channel="wa-sol", txet="x", **someone) == ("unknown_field", 422)
    for ours in ("chunks", "chunk_of", "chunk"):
        answer = await refused(desk, channel="wa-sol", metadata={ours: 1}, **someone)
        assert answer == ("invalid_field", 422)
    unknown = str(uuid.uuid4())
    assert await refused(desk, conversation_id=unknown, text="a") == ("unknown_conversation", 404)
    assert await refused(desk, channel="wa-sol", conversation_id=unknown, text="a") == (
        "unknown_conversation", 404,
    )  # fmt: skip
    assert await refused(desk, channel="wa-sol", **someone) == ("no_room_on_path", 409)
    assert await count(desk, "messages") == await count(desk, "contacts") == 0


async def test_another_tenants_conversation_and_message_do_not_exist(desk: Desk) -> None:
    await to_native(desk)
    theirs = await open_conversation(desk, "wa-lua")
    assert await refused(desk, SOL, conversation_id=str(theirs.id), text="a") == ("unknown_conversation", 404)
    assert (
        await refused(desk, SOL, channel="wa-sol", conversation_id=str(theirs.id), text="a")
        == ("unknown_conversation", 404)
    )  # fmt: skip
    assert (await refused(desk, SOL, channel="wa-sol", contact_id=str(theirs.contact_id), text="a"))[
        0
    ] == "not_mapped"
    sent = await send(desk, LUA, conversation_id=str(theirs.id), text="a")
    with pytest.raises(Rejected, match="no such message"):
        await messages.one(desk, sent["id"], SOL)
    with pytest.raises(Rejected, match="no such message"):
        await messages.one(desk, "nonsense", None)
    assert (await messages.one(desk, sent["id"], "*"))["tenant"] == LUA


async def test_twenty_requests_with_one_key_make_one_message(desk: Desk) -> None:
    await to_native(desk)
    body = {"channel": "wa-sol", "to": "5511988887777", "text": "uma vez"}
    answers = await asyncio.gather(*(send(desk, idem="k1", **body) for _ in range(20)))
    assert len({answer["id"] for answer in answers}) == 1
    assert (await count(desk, "messages"), await count(desk, "jobs")) == (1, 1)
    assert sum(fact[0] == "messages_total" for fact in told(desk)) == 1
    with pytest.raises(Rejected) as raised:
        await send(desk, idem="k1", **{**body, "text": "outra"})
    assert (raised.value.code, raised.value.status) == ("idempotency_conflict", 409)
    assert (await send(desk, idem="k2", **body))["id"] != answers[0]["id"]
    other_key = await messages.send(
        desk, key_id=str(uuid.uuid4()), tenant=SOL, idempotency_key="k1", **order(**body)
    )
    assert other_key[1]["id"] != answers[0]["id"]


async def test_a_refusal_is_not_kept_for_its_key(desk: Desk) -> None:
    with pytest.raises(Rejected):
        await send(desk, idem="k", channel="wa-sol", to="5511988887777", text="a")
    await to_native(desk)
    await send(desk, idem="k", channel="wa-sol", to="5511988887777", text="a")
    for broken in ("", "k" * 256, "a\x00"):
        with pytest.raises(Rejected, match="1 to 255"):
            await send(desk, idem=broken, channel="wa-sol", to="5511988887777", text="a")


async def test_a_key_for_all_tenants_has_one_idempotency(desk: Desk) -> None:
    await to_native(desk)
    first = await send(desk, "*", idem="k", channel="wa-sol", to="5511988887777", text="a")
    again = await send(desk, "*", idem="k", channel="wa-sol", to="5511988887777", text="a")
    assert first == again
    with pytest.raises(Rejected) as raised:
        await send(desk, "*", idem="k", channel="wa-lua", to="5511988887777", text="a")
    assert raised.value.code == "idempotency_conflict"


async def test_flags_that_moved_elsewhere_are_loaded_again(desk: Desk) -> None:
    stored = await flags.show(desk, "whatsapp")
    await desk.flags.save(replace(stored, reason="another process"), expected=None, floor=True)
    answer = await refused(desk, channel="wa-sol", to="5511988887777", text="a")
    assert answer == ("no_room_on_path", 409)  # decided, by flags no older than the floor
