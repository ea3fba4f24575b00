"""The sweep: what Rocket.Chat's webhook lost is found in its history, and nothing is added twice."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from flags.stage import Path, Stage
from router.domain.errors import StoreError
from router.domain.job import Outcome, Result
from router.domain.message import Content, Direction
from router.domain.ports import Fact, RoomInfo, RoomMessage, Tx
from router.ingest import Swept
from tests.unit.router.heart import ANA, Heart


def room(
    heart: Heart, room_id: str = "room-1", *, open_: bool = True, active_at: datetime | None = None
) -> RoomInfo:
    return RoomInfo(room_id, "app", "app", "v1", None, (ANA,), "Ana", open_, "segredo", active_at)


def told(
    heart: Heart, source_id: str, text: str, *, agent: bool = True, closing: bool = False
) -> RoomMessage:
    author = "agent1" if agent else "v1"
    return RoomMessage(source_id, agent, author, Content("text", text), heart.clock.now(), closing=closing)


async def in_rocketchat() -> Heart:
    """Ana's conversation is there, and its room is known."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("oi")
    await heart.run()
    heart.legacy.listed = [room(heart)]
    return heart


async def test_what_was_lost_is_added_once_and_what_is_known_stays() -> None:
    heart = await in_rocketchat()
    heart.legacy.told["room-1"] = [told(heart, "s1", "oi", agent=False), told(heart, "s2", "bom dia")]
    found = await heart.sweep.run(heart.clock.now() - timedelta(minutes=5))
    assert found == Swept(rooms=1, messages=2, added=1)
    rows = [(row.direction, row.content.text, row.source_id, row.matched_by) for row in heart.messages]
    assert rows == [
        (Direction.INBOUND, "oi", "s1", "digest"),
        (Direction.OUTBOUND, "bom dia", "s2", None),
    ]
    again = await heart.sweep.run(heart.clock.now() - timedelta(minutes=5))
    assert (again.added, len(heart.messages)) == (0, 2)


async def test_the_webhook_that_comes_after_the_sweep_adds_nothing() -> None:
    heart = await in_rocketchat()
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    await heart.sweep.run(None)
    await heart.accept(*heart.told("room-1", "bom dia", source_id="s2", agent="agent1"))
    await heart.run()
    assert [row.source_id for row in heart.messages].count("s2") == 1


async def test_a_close_that_was_lost_ends_the_conversation() -> None:
    heart = await in_rocketchat()
    heart.legacy.told["room-1"] = [told(heart, "s1", "oi", agent=False)]
    await heart.sweep.run(None)
    heart.legacy.listed = [room(heart, open_=False, active_at=heart.clock.now())]
    heart.legacy.told["room-1"] += [told(heart, "s9", "até logo", closing=True)]
    await heart.sweep.run(heart.clock.now())
    assert [(one.closed_by, one.open) for one in heart.conversations] == [("rocketchat", False)]
    await heart.sweep.run(heart.clock.now())
    assert len(heart.conversations) == 1


async def test_what_was_said_before_the_end_belongs_to_the_conversation_that_ended() -> None:
    heart = await in_rocketchat()
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    late = told(heart, "s5", "só uma coisa")
    heart.clock.seconds += 60
    await heart.store.transact(lambda tx: heart.facade.close(tx, heart.conversations[0], "idle"))
    heart.legacy.told["room-1"] = [late]
    await heart.sweep.run(heart.clock.now() - timedelta(hours=1))
    assert len(heart.conversations) == 1
    assert heart.messages[-1].content.text == "só uma coisa"
    assert heart.messages[-1].conversation_id == heart.conversations[0].id


async def test_a_room_of_an_unmapped_source_is_counted_and_harms_nobody() -> None:
    heart = await in_rocketchat()
    heart.legacy.listed.insert(0, RoomInfo("room-0", "app", "unknown-app", "v0", None, ("5511900000000",)))
    heart.legacy.told["room-0"] = [told(heart, "s0", "perdida")]
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    found = await heart.sweep.run(None)
    assert (found.unplaced, found.added, found.complete) == (1, 1, True)


async def test_a_send_of_an_agent_after_the_move_is_a_stray_also_when_the_sweep_finds_it() -> None:
    heart = await in_rocketchat()
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    await heart.move(Path.NATIVE)
    heart.legacy.told["room-1"] = [told(heart, "s7", "ainda por aqui")]
    await heart.sweep.run(heart.clock.now() - timedelta(minutes=1))
    assert ("stray_sends_total", 1, ("whatsapp",)) in heart.meter.facts


async def test_rocketchat_going_away_ends_the_sweep_and_the_mark_stays() -> None:
    heart = await in_rocketchat()
    owner = heart.ids.new()
    heart.legacy.answer = Result(Outcome.RETRY, code="connect")
    found = await heart.sweep.turn(owner)
    assert found is not None
    assert (found.ended, found.reason) == (False, "connect")
    assert await heart.sweep.turn(heart.ids.new()) is None  # not yet
    heart.clock.seconds += heart.policy.sweep_seconds
    heart.legacy.answer = Result(Outcome.OK)
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    found = await heart.sweep.turn(heart.ids.new())
    assert found is not None
    assert found.added == 1


async def test_a_rate_limit_is_sat_out() -> None:
    heart = await in_rocketchat()
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    answers = [Result(Outcome.RETRY, code="error-too-many-requests", retry_after=30.0)]
    history = heart.legacy.history

    async def limited(info: RoomInfo, since: datetime | None) -> object:
        return (answers.pop(), ()) if answers else await history(info, since)

    heart.legacy.history = limited  # type: ignore[method-assign,assignment]
    before = heart.clock.seconds
    found = await heart.sweep.run(None)
    assert (found.added, found.complete) == (1, True)
    assert heart.clock.seconds - before == 30


async def test_a_quiet_room_is_not_read() -> None:
    heart = await in_rocketchat()
    heart.legacy.listed = [room(heart, active_at=heart.clock.now() - timedelta(days=2))]
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    assert (await heart.sweep.run(heart.clock.now() - timedelta(hours=1))).rooms == 0


async def test_open_rooms_are_pinned_where_they_live_before_the_callback_moves() -> None:
    heart = Heart()
    heart.flags.stage = Stage.NATIVE
    heart.legacy.listed = [room(heart), room(heart, "room-2", open_=False)]
    counted = await heart.sweep.learn(write=False)
    assert (counted.rooms, len(heart.conversations)) == (2, 0)
    found = await heart.sweep.learn()
    assert (found.rooms, found.added) == (2, 1)
    (conversation,) = heart.conversations
    assert (conversation.path, conversation.room_id) == (Path.ROCKETCHAT, "room-1")
    await heart.hears("continuando")
    await heart.run()
    assert len(heart.legacy.received) == 1
    assert len(heart.conversations) == 1
    await heart.sweep.learn()
    assert len(heart.conversations) == 1


async def in_a_second_room() -> Heart:
    """The end of Ana's room was lost; she wrote again, and Rocket.Chat opened another."""
    heart = await in_rocketchat()
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    heart.clock.seconds += 60
    await heart.hears("voltei")
    await heart.run()
    await heart.accept(*heart.told("room-2", "voltei", source_id="s2"))
    await heart.run()
    return heart


async def test_answers_go_to_the_room_that_followed_one_whose_end_was_lost() -> None:
    heart = await in_a_second_room()
    await heart.says("lembrete")
    await heart.run()
    assert [one.room_id for one in heart.room.sent] == ["room-2"]


async def test_the_late_end_of_a_room_spares_the_conversation_that_goes_on_in_the_next() -> None:
    heart = await in_a_second_room()
    now = heart.clock.now()
    heart.legacy.listed = [room(heart, open_=False, active_at=now), room(heart, "room-2", active_at=now)]
    heart.legacy.told["room-1"] = [told(heart, "s9", "até logo", closing=True)]
    heart.legacy.told["room-2"] = [told(heart, "s2", "voltei", agent=False)]
    await heart.sweep.run(now - timedelta(hours=1))
    assert [(one.room_id, one.open) for one in heart.conversations] == [("room-2", True)]


async def test_of_two_equal_messages_each_gets_its_own_source() -> None:
    heart = await in_rocketchat()
    await heart.accept(*heart.told("room-1", "oi", source_id="s0"))
    await heart.run()
    heart.clock.seconds = 10.2
    await heart.hears("ok", id="wamid.first")
    heart.clock.seconds = 10.9
    first = heart.told("room-1", "ok")  # Rocket.Chat has it, and answers a little later
    heart.clock.seconds = 11.1
    await heart.run()
    heart.clock.seconds = 11.3
    await heart.hears("ok", id="wamid.second")
    await heart.accept(*first)
    second = heart.told("room-1", "ok", source_id="s2")
    await heart.run()
    await heart.accept(*second)
    claimed = {row.external_id: row.source_id for row in heart.messages if row.content.text == "ok"}
    assert claimed == {"wamid.first": "s1", "wamid.second": "s2"}


async def beside_a_bad_room() -> Heart:
    """Ana's room, listed after one that something is wrong with."""
    heart = await in_rocketchat()
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    heart.legacy.listed = [RoomInfo("room-0", "app", "app", "v0", None, ("5511900000001",)), room(heart)]
    heart.legacy.told = {"room-0": [told(heart, "bad", "x")], "room-1": [told(heart, "s2", "bom dia")]}
    return heart


@pytest.mark.parametrize(
    "answer", [Result(Outcome.RETRY, code="http_500"), Result(Outcome.CHANNEL, code="error-not-allowed")]
)
async def test_a_room_that_cannot_be_read_stops_no_neighbour(
    answer: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = await beside_a_bad_room()
    history = heart.legacy.history

    async def some(info: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        return (answer, ()) if info.room_id == "room-0" else await history(info, since)

    monkeypatch.setattr(heart.legacy, "history", some)
    found = await heart.sweep.turn(heart.ids.new())
    assert found is not None
    assert (found.unread, found.reason, found.ended, found.complete) == (1, answer.code, True, False)
    assert heart.messages[-1].source_id == "s2"


async def test_rooms_that_cannot_be_read_one_after_the_other_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = await in_rocketchat()
    heart.legacy.listed = [
        RoomInfo(f"room-{number}", "app", "app", f"v{number}", None, (f"551198888000{number}",))
        for number in range(9)
    ]

    async def none(info: RoomInfo, since: datetime | None) -> tuple[Result, Sequence[RoomMessage]]:
        return Result(Outcome.CHANNEL, code="http_401"), ()

    monkeypatch.setattr(heart.legacy, "history", none)
    found = await heart.sweep.turn(heart.ids.new())
    assert found is not None
    assert (found.unread, found.reason, found.ended) == (3, "http_401", False)


async def test_a_room_that_cannot_be_stored_stops_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    heart = await beside_a_bad_room()
    rooms = heart.sweep._rooms
    swept = rooms.swept

    async def some(tx: Tx, info: RoomInfo, said: Sequence[RoomMessage]) -> list[Fact] | None:
        if info.room_id == "room-0":
            raise StoreError("the database refused a statement")
        return await swept(tx, info, said)

    monkeypatch.setattr(rooms, "swept", some)
    found = await heart.sweep.turn(heart.ids.new())
    assert found is not None
    assert (found.unread, found.reason, found.ended) == (1, "StoreError", True)
    assert heart.messages[-1].source_id == "s2"


async def test_many_rooms_end_no_sweep() -> None:
    heart = await in_rocketchat()
    now = heart.clock.now()
    quiet = [room(heart, f"room-{number}", active_at=now - timedelta(days=9)) for number in range(10, 1000)]
    heart.legacy.listed = [*quiet, room(heart, active_at=now)]
    heart.legacy.told["room-1"] = [told(heart, "s2", "bom dia")]
    found = await heart.sweep.turn(heart.ids.new())
    assert found is not None
    assert (found.added, found.complete) == (1, True)


async def test_the_lease_outlives_the_waits_for_the_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two sweeps at once each would use up what Rocket.Chat lets the other ask."""
    heart = await in_rocketchat()
    other = heart.ids.new()
    heart.legacy.answer = Result(Outcome.RETRY, code="error-too-many-requests", retry_after=89.0)
    taken: list[bool] = []
    pause = heart.sweep._pause
    wait = pause.wait

    async def waiting(topic: str, seconds: float) -> bool:
        await wait(topic, seconds)
        duty = await heart.store.transact(lambda tx: tx.take_duty("sweep", other, timedelta(seconds=180)))
        taken.append(duty is not None)
        return False

    monkeypatch.setattr(pause, "wait", waiting)
    await heart.sweep.turn(heart.ids.new())
    assert taken == [False] * len(taken)
    assert len(taken) > 1


async def test_all_open_rooms_are_learned_though_some_close_while_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = Heart()
    heart.legacy.listed = [
        RoomInfo(f"room-{number}", "app", "app", f"v{number}", None, (f"551198888000{number}",))
        for number in range(4)
    ]
    rooms = heart.legacy.rooms

    async def listing(since: datetime | None, offset: int) -> tuple[Result, Sequence[RoomInfo], int | None]:
        answer = await rooms(since, offset)
        if offset == 0 and heart.legacy.listed[0].room_id == "room-0":
            heart.legacy.listed.pop(0)  # an agent closes it, and each later room moves up by one
        return answer

    monkeypatch.setattr(heart.legacy, "rooms", listing)
    await heart.sweep.learn()
    assert {one.room_id for one in heart.conversations} == {f"room-{number}" for number in range(4)}
