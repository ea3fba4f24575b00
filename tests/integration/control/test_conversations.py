from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from flags.stage import Path
from router.control import audit, conversations, flags, messages
from router.control.desk import Desk
from router.domain.conversation import Conversation
from router.domain.errors import Rejected
from router.domain.message import Content
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
    told,
)

pytestmark = pytest.mark.postgres


async def refused(awaitable: object, code: str) -> None:
    with pytest.raises(Rejected) as raised:
        await awaitable  # type: ignore[misc]
    assert raised.value.code == code


async def test_pages_hold_every_conversation_once(desk: Desk) -> None:
    made = [await open_conversation(desk) for _ in range(5)]
    await open_conversation(desk, "wa-lua")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        items, cursor = await conversations.listing(desk, tenant=SOL, cursor=cursor, limit=2)
        assert len(items) <= 2
        seen += [item["id"] for item in items]
        if cursor is None:
            break
    assert seen == [str(one.id) for one in reversed(made)]
    for broken in ("x", "WzFd", "WyJhIiwgMV0", "!!", "é"):
        await refused(conversations.listing(desk, cursor=broken), "invalid_cursor")
    await refused(conversations.listing(desk, limit=201), "invalid_limit")
    await refused(conversations.listing(desk, limit=0), "invalid_limit")


async def test_filters(desk: Desk) -> None:
    one = await open_conversation(desk)
    two = await open_conversation(desk, "sms-sol")
    three = await open_conversation(desk, "wa-lua")
    await say(desk, one, "Quero marcar 100% já_")
    await say(desk, two, "outra coisa 1000 jaz")
    await conversations.close(desk, two.id, by="agent")

    async def ids(**asked: object) -> list[str]:
        items, _ = await conversations.listing(desk, **asked)  # type: ignore[arg-type]
        return sorted(item["id"] for item in items)

    assert await ids(tenant=SOL) == sorted([str(one.id), str(two.id)])
    assert await ids() == await ids(tenant="*") == sorted(str(c.id) for c in (one, two, three))
    assert await ids(only_tenant=LUA) == [str(three.id)]
    assert await ids(tenant=SOL, only_tenant=LUA) == []
    assert await ids(kind="sms") == [str(two.id)]
    assert await ids(channel="wa-sol") == [str(one.id)]
    assert await ids(state="closed") == [str(two.id)]
    assert await ids(path="native") == []
    assert await ids(q="100%") == [str(one.id)]
    assert await ids(q="já_") == [str(one.id)]
    assert await ids(q="QUERO") == [str(one.id)]
    assert await ids(q="\\") == await ids(q="\x00") == []
    assert await ids(tenant=LUA, q="quero") == []
    assert await ids(since=datetime.now(UTC) + timedelta(hours=1)) == []
    await refused(conversations.listing(desk, path="fax"), "unknown_path")
    await refused(conversations.listing(desk, state="ajar"), "unknown_state")


async def test_one_with_its_messages_in_order(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    now = datetime.now(UTC)
    for number in range(5):  # the provider's times go backwards; seq does not
        await say(desk, conversation, str(number), sent_at=now - timedelta(hours=number))
    shown = await conversations.one(desk, conversation.id, SOL)
    assert shown | {"kind": "whatsapp", "tenant": SOL, "path": "rocketchat", "state": "open"} == shown
    assert (shown["pin_version"], shown["closed_at"], shown["last_text"]) == (1, None, "4")
    first, cursor = await conversations.messages(desk, conversation.id, tenant=SOL, limit=3)
    rest, end = await conversations.messages(desk, str(conversation.id), tenant=SOL, limit=3, cursor=cursor)
    assert ([m["text"] for m in first + rest], end) == (list("01234"), None)
    last, older = await conversations.messages(desk, conversation.id, limit=2, newest=True)
    before, _ = await conversations.messages(desk, conversation.id, limit=2, newest=True, cursor=older)
    assert [m["text"] for m in last + before] == list("4321")
    for asked in (conversations.one, conversations.explain):
        await refused(asked(desk, conversation.id, LUA), "unknown_conversation")
        await refused(asked(desk, "nonsense", SOL), "unknown_conversation")
    await refused(conversations.messages(desk, conversation.id, tenant=LUA), "unknown_conversation")
    await refused(conversations.decisions(desk, conversation.id, tenant=LUA), "unknown_conversation")


async def test_move_and_explain(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    moved = await conversations.move(
        desk, conversation.id, "native", reason="try", by="ana@sol.br", tenant=SOL
    )
    assert (moved.path, moved.pin_version) == (Path.NATIVE, 2)
    assert await conversations.move(desk, conversation.id, "native", reason="again", by="x") == moved
    told_why = await conversations.explain(desk, conversation.id, SOL)
    assert (told_why["path"], told_why["pin_version"]) == ("native", 2)
    assert [d["rule"] for d in told_why["decisions"]] == ["last_known_good", "move"]
    assert told_why["decisions"][1]["reason"] == "try"
    assert set(told_why["decisions"][0]) == {"stage", "path", "rule", "revision", "reason", "guard", "at"}
    page, cursor = await conversations.decisions(desk, conversation.id, limit=1)
    rest, _ = await conversations.decisions(desk, conversation.id, limit=1, cursor=cursor)
    assert [d["pin_version"] for d in page + rest] == [1, 2]
    assert told(desk) == [("decisions_total", 1, ("whatsapp", "rocketchat", "native", "move"))]
    log = await audit.listing(desk)
    assert [(row["act"], row["subject"], row["tenant"]) for row in log] == [
        ("conversation.move", str(conversation.id), SOL)
    ]
    assert "ana@sol.br" not in str(log)
    assert log[0]["detail"] | {"path": "native", "pin_version": 2} == log[0]["detail"]
    room_closing = await desk.store.engine.fetchval("select count(*) from jobs where kind = 'close_room'")
    assert room_closing == 1


async def test_a_move_takes_queued_messages_along(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    _, sent = await messages.send(
        desk, key_id="", tenant=SOL, idempotency_key=None,
        **order(conversation_id=str(conversation.id), text="a"),
    )  # fmt: skip
    assert sent["path"] == "rocketchat"
    await conversations.move(desk, conversation.id, "native", reason="try", by="cli", tenant=SOL)
    assert (await messages.one(desk, sent["id"], SOL))["path"] == "native"


async def test_moves_that_cannot_be(desk: Desk) -> None:
    mine, texts = await open_conversation(desk), await open_conversation(desk, "sms-sol")
    await refused(conversations.move(desk, mine.id, "fax", reason="r", by="b"), "unknown_path")
    await refused(conversations.move(desk, mine.id, "native", reason=" ", by="b"), "reason_missing")
    await refused(
        conversations.move(desk, mine.id, "native", reason="r", by="b", tenant=LUA), "unknown_conversation"
    )
    await refused(conversations.move(desk, texts.id, "native", reason="r", by="b"), "cannot_divide")
    await conversations.close(desk, mine.id, by="agent", tenant=SOL)
    await refused(conversations.move(desk, mine.id, "native", reason="r", by="b"), "conversation_closed")
    assert await audit.listing(desk) == []


async def test_close_ends_the_pin_and_the_room(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    await refused(conversations.close(desk, conversation.id, by="api", tenant=LUA), "unknown_conversation")
    closed = await conversations.close(desk, conversation.id, by="api", tenant=SOL)
    again = await conversations.close(desk, conversation.id, by="agent", tenant=SOL)
    assert closed.closed_by == again.closed_by == "api"
    assert (await conversations.one(desk, conversation.id))["state"] == "closed"
    jobs = await desk.store.engine.fetch("select kind, room_id from jobs")
    assert [job["kind"] for job in jobs] == ["close_room"]
    await flags.set_stage(desk, "whatsapp", stage="native", reason="r", by="b")
    number = await desk.store.engine.fetchval("select value from identity_aliases")
    assert (await open_conversation(desk, number=number)).path is Path.NATIVE


async def test_read_and_unread(desk: Desk) -> None:
    await flags.set_stage(desk, "whatsapp", stage="native", reason="go", by="cli")
    fresh, quiet = await open_conversation(desk), await open_conversation(desk)
    await say(desk, fresh, "oi", external_id="wamid.1")
    await say(desk, fresh, "👍", external_id="wamid.2", content=Content("reaction", "👍"))
    await heard(desk, fresh, datetime.now(UTC) + timedelta(seconds=30))  # the provider's clock is ahead

    async def unread(asked: bool) -> list[str]:
        items, _ = await conversations.listing(desk, tenant=SOL, unread=asked)
        assert all(one["unread"] is asked for one in items)
        return [one["id"] for one in items]

    async def jobs() -> list[tuple[str, object]]:
        found = await desk.store.engine.fetch("select kind, message_id from jobs order by seq")
        return [(one["kind"], one["message_id"]) for one in found]

    assert (await unread(True), await unread(False)) == ([str(fresh.id)], [str(quiet.id)])
    for _ in range(2):  # the second time there is nothing new to tell
        await conversations.read(desk, fresh.id, tenant=SOL)
    await conversations.read(desk, quiet.id, typing=True, tenant=SOL)
    assert await unread(True) == []
    told = await jobs()
    said = (await conversations.messages(desk, fresh.id))[0][0]["id"]
    assert [(kind, str(message)) for kind, message in told] == [("mark", said)]
    await conversations.read(desk, fresh.id, typing=True, tenant=SOL)
    assert len(await jobs()) == 2
    await refused(conversations.read(desk, fresh.id, tenant=LUA), "unknown_conversation")


async def test_on_rocketchat_nobody_is_told_of_the_reading(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    await say(desk, conversation, "oi", external_id="wamid.1")
    await heard(desk, conversation, datetime.now(UTC))
    await conversations.read(desk, conversation.id, typing=True, tenant=SOL)
    assert (await conversations.one(desk, conversation.id))["unread"] is False
    assert await desk.store.engine.fetchval("select count(*) from jobs") == 0


async def test_the_window(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    assert (await conversations.one(desk, conversation.id))["window_open"] is None
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = Numbers("whatsapp", window_hours=24)
    now = datetime.now(UTC)
    for hours, is_open in ((None, False), (25, False), (23, True)):
        await heard(desk, conversation, None if hours is None else now - timedelta(hours=hours))
        items, _ = await conversations.listing(desk, tenant=SOL)
        for one in (items[0], await conversations.one(desk, conversation.id)):
            assert one["window_open"] is is_open
            assert (one["window_until"] is None) == (hours is None)
    # What the contact wrote in a conversation that has ended opens the window for the next one, too.
    await conversations.close(desk, conversation.id, by="agent")
    following = await open_conversation(desk, number=await _number(desk, conversation))
    assert following.identity_id == conversation.identity_id
    assert (await conversations.one(desk, following.id))["window_open"] is True


async def _number(desk: Desk, conversation: Conversation) -> str:
    aliases = await desk.store.transact(lambda tx: tx.aliases(conversation.identity_id))
    return aliases[0].value


async def test_a_message_shows_its_files_and_of_its_data_only_what_is_meant_to_be(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    secret = {"from": "5511999990000", "context": {"id": "wamid.0"}}
    picture = await say(
        desk, conversation, "", content=Content("image", "olhe", {**secret, "image": {"id": "1"}})
    )
    file = await keep(desk, picture, b"\x89PNG1", name="a.png")
    place = {"location": {"latitude": 1, "longitude": 2}}
    await say(desk, conversation, "", content=Content("location", None, {**secret, **place}))
    first, second = (await conversations.messages(desk, conversation.id))[0]
    assert first["media"] == [
        {
            "id": str(file.id), "state": "stored", "mime": "image/png", "name": "a.png", "size": 5, "error_code": None,
            "url": f"/v1/media/{file.id}/content",
        }
    ]  # fmt: skip
    assert (first["data"], second["data"], second["media"]) == ({}, place, [])
    assert (first["about"], second["about"]) == ("wamid.0", "wamid.0")
    assert "55119" not in str((first, second))
