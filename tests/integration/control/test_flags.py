import asyncio
import uuid
from dataclasses import replace

import pytest

from flags.ports import Flag, Strategy
from flags.stage import Path, Stage
from router.control import audit, conversations, flags, processes
from router.control.desk import Desk
from router.domain.errors import Conflict, Rejected
from tests.integration.control.desk_scene import LUA, SOL, make_desk, open_conversation, told

pytestmark = pytest.mark.postgres


async def refused(awaitable: object) -> tuple[str, int]:
    with pytest.raises(Rejected) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code, raised.value.status


async def path_of(desk: Desk, conversation_id: uuid.UUID) -> str:
    return str((await conversations.one(desk, conversation_id))["path"])


async def floor(desk: Desk) -> int:
    found = await desk.store.engine.fetchval("select revision from flag_floors where kind = 'whatsapp'")
    return int(found or 0)


async def test_a_change_is_stored_audited_and_in_use(desk: Desk) -> None:
    changed = await flags.set_stage(desk, "whatsapp", stage="native", reason="ready", by="ana@sol.br")
    assert (changed.flag.stage, changed.flag.revision, changed.moved, changed.dry_run) == (
        Stage.NATIVE, 1, 0, None,
    )  # fmt: skip
    assert any("skips" in warning for warning in changed.warnings)
    assert await flags.show(desk, "whatsapp") == changed.flag
    assert (await open_conversation(desk)).path is Path.NATIVE
    row = (await audit.listing(desk))[0]
    assert (row["act"], row["subject"]) == ("flag.set", "channel.whatsapp")
    assert row["detail"]["revision"] == 1
    assert "ready" not in str(row)
    assert row["actor"].startswith("user:")
    assert [flag.kind for flag in await flags.listing(desk)] == ["sms", "whatsapp"]
    assert [flag.revision for flag in await flags.history(desk, "whatsapp")] == [1]


async def test_refusals(desk: Desk) -> None:
    assert await refused(flags.show(desk, "fax")) == ("unknown_kind", 404)
    assert await refused(flags.set_stage(desk, "fax", stage="native", reason="r", by="b")) == (
        "unknown_kind", 422,
    )  # fmt: skip
    assert await refused(flags.set_stage(desk, "sms", stage="native", reason="r", by="b")) == (
        "cannot_divide", 422,
    )  # fmt: skip
    assert await refused(flags.set_stage(desk, "whatsapp", stage="canary", reason="r", by="b")) == (
        "percent_missing", 422,
    )  # fmt: skip
    assert (await refused(flags.set_stage(desk, "whatsapp", stage="shadow", reason=" ", by="b")))[
        0
    ] == "reason_missing"
    assert await refused(
        flags.set_stage(desk, "whatsapp", stage="shadow", reason="r", by="b", expected=7)
    ) == ("revision_moved", 412)
    assert await refused(
        flags.set_stage(desk, "whatsapp", stage="shadow", reason="r", by="b", expected=7, dry_run=True)
    ) == ("revision_moved", 412)
    assert await refused(flags.clear(desk, "whatsapp", reason="r", by="b")) == ("no_such_rule", 422)
    assert await refused(flags.release(desk, "whatsapp", by="b")) == ("no_override", 422)
    assert await audit.listing(desk) == []
    assert (await flags.show(desk, "whatsapp")).revision == 0


async def test_changes_at_the_same_time_are_all_kept(desk: Desk) -> None:
    slugs = ["wa-sol", "wa-lua", "wa-lua-2"]
    await asyncio.gather(
        *(
            flags.set_stage(desk, "whatsapp", stage="native", channels=[slug], reason="r", by="b")
            for slug in slugs
        )
    )
    flag = await flags.show(desk, "whatsapp")
    assert flag.strategies == (Strategy("channel", tuple(sorted(slugs)), Stage.NATIVE),)
    assert flag.revision == 3
    assert await audit.verify(desk) is None
    cleared = await flags.clear(desk, "whatsapp", channels=["wa-lua"], reason="r", by="b", expected=3)
    assert cleared.flag.strategies[0].values == ("wa-lua-2", "wa-sol")


async def test_now_moves_the_open_conversations_concerned(desk: Desk) -> None:
    mine = [await open_conversation(desk) for _ in range(3)]
    theirs = await open_conversation(desk, "wa-lua")
    closed = await open_conversation(desk)
    await conversations.close(desk, closed.id, by="agent")
    planned = await flags.set_stage(
        desk, "whatsapp", stage="native", tenants=[SOL], reason="r", by="b", dry_run=True
    )
    assert planned.dry_run == {SOL: {"open": 3, "would_move": 3}}
    assert (await flags.show(desk, "whatsapp")).revision == 0
    change = await flags.set_stage(
        desk, "whatsapp", stage="native", tenants=[SOL], reason="r", by="b", now=True
    )
    assert change.moved == 3
    assert [await path_of(desk, one.id) for one in mine] == ["native"] * 3
    assert await path_of(desk, theirs.id) == await path_of(desk, closed.id) == "rocketchat"
    assert told(desk).count(("decisions_total", 1, ("whatsapp", "native", "native", "move"))) == 3
    again = await flags.set_stage(
        desk, "whatsapp", stage="native", tenants=[SOL], reason="r", by="b", now=True
    )
    assert again.moved == 0
    back = await flags.kill(desk, "whatsapp", reason="ill", by="b", now=True)
    assert back.moved == 3
    assert await path_of(desk, mine[0].id) == "rocketchat"
    last = (await conversations.explain(desk, mine[0].id))["decisions"][-1]
    assert (last["rule"], last["path"], last["revision"]) == ("move", "rocketchat", back.flag.revision)
    assert (await open_conversation(desk)).path is Path.ROCKETCHAT
    released = await flags.release(desk, "whatsapp", by="b")
    assert released.flag.override is None
    assert (await open_conversation(desk)).path is Path.NATIVE


async def test_now_by_class_and_share(desk: Desk) -> None:
    staff, patient = await open_conversation(desk), await open_conversation(desk)
    await desk.store.engine.execute(
        "update contacts set contact_class = 'staff' where id = $1", staff.contact_id
    )
    change = await flags.set_stage(
        desk, "whatsapp", stage="canary", contact_class="staff", reason="r", by="b", now=True
    )
    assert change.moved == 1
    assert [await path_of(desk, one.id) for one in (staff, patient)] == ["native", "rocketchat"]
    others = [await open_conversation(desk, "wa-lua") for _ in range(12)]
    planned = await flags.set_stage(
        desk, "whatsapp", stage="canary", percent=50, reason="r", by="b", dry_run=True
    )
    done = await flags.set_stage(desk, "whatsapp", stage="canary", percent=50, reason="r", by="b", now=True)
    forecast = planned.dry_run or {}
    assert done.moved == sum(told["would_move"] for told in forecast.values())
    assert forecast[LUA]["open"] == len(others)
    assert 0 < forecast[LUA]["would_move"] < len(others)


async def test_what_lowers_native_raises_the_floor(desk: Desk) -> None:
    await flags.set_stage(desk, "whatsapp", stage="canary", percent=10, reason="r", by="b")
    await flags.set_stage(desk, "whatsapp", stage="native", reason="r", by="b")
    assert await floor(desk) == 0
    await flags.set_stage(desk, "whatsapp", stage="canary", percent=50, reason="r", by="b")
    assert await floor(desk) == 3
    await flags.kill(desk, "whatsapp", reason="r", by="b")
    assert await floor(desk) == 4
    late = await make_desk(desk.store)
    await flags.release(desk, "whatsapp", by="b")
    await flags.kill(desk, "whatsapp", reason="r", by="b")
    assert (await open_conversation(late)).path is Path.ROCKETCHAT  # it had to load them first


def test_lowers() -> None:
    native = Flag("x", Stage.NATIVE, base=Stage.NATIVE)
    ten = Flag("x", Stage.CANARY, 10)
    ruled = replace(ten, strategies=(Strategy("tenant", ("a",), Stage.NATIVE),))
    assert flags.lowers(native, ten)
    assert flags.lowers(replace(ten, percent=20), ten)
    assert flags.lowers(ruled, ten)
    assert flags.lowers(ten, replace(ten, strategies=(Strategy("tenant", ("a",), Stage.SHADOW),)))
    assert flags.lowers(native, replace(native, override={"stage": "rocketchat"}))
    assert not flags.lowers(Flag("x"), ten)
    assert not flags.lowers(ten, ruled)
    assert not flags.lowers(ten, native)


async def test_waits_for_processes_that_have_older_flags(desk: Desk) -> None:
    ready, late, gone = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    await processes.beat(desk, ready, "web", 4)
    await processes.beat(desk, late, "worker", 3)
    await processes.beat(desk, gone, "worker", 1)
    await desk.store.engine.execute(
        "update processes set heartbeat_at = now() - interval '6 s' where id = $1", gone
    )
    assert await flags.laggards(desk, 4) == [f"worker {late}"]
    assert await flags.wait(desk, 4, seconds=0.2) == [f"worker {late}"]
    waiting = asyncio.create_task(flags.wait(desk, 4, seconds=10))
    await processes.beat(desk, late, "worker", 4)
    assert await waiting == []
    assert {one["id"] for one in await processes.listing(desk)} == {str(ready), str(late)}
    await processes.leave(desk, late)
    assert len(await processes.listing(desk)) == 1


async def test_now_goes_through_every_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "_PAGE", 2)
    for _ in range(5):
        await open_conversation(desk)
    change = await flags.set_stage(desk, "whatsapp", stage="native", reason="r", by="b", now=True)
    assert change.moved == 5


async def test_a_kill_that_meets_decisions_under_way_is_tried_again(desk: Desk) -> None:
    """PostgreSQL may end either side of a deadlock: an emergency must not be told to come back later."""
    store, met = desk.flags, iter([Conflict(), None])

    class Meeting:
        async def save(self, flag: Flag, *, expected: int | None, floor: bool) -> Flag:
            if (error := next(met)) is not None:
                raise error
            return await store.save(flag, expected=expected, floor=floor)

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    killed = await flags.kill(replace(desk, flags=Meeting()), "whatsapp", by="ana@sol.br")  # type: ignore[arg-type]
    assert killed.flag.override is not None
    assert await floor(desk) == killed.flag.revision
