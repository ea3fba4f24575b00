from datetime import UTC, datetime, timedelta

import pytest

from flags.stage import Path
from router.control import audit, conversations, flags, messages
from router.control.desk import Desk
from router.domain.errors import Rejected
from tests.integration.control.desk_scene import LUA, SOL, open_conversation, order, say, told

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
