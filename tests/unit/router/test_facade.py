"""Which path a new conversation gets, and what a move takes along."""

from dataclasses import replace

import pytest

from flags.stage import Path, Stage
from router.domain.channel import RESERVED
from router.domain.job import ROCKETCHAT_GATE, Breaker, Outcome, Result
from tests.simulation.payloads import SECRET, room_event
from tests.unit.router.heart import ANA, Heart


@pytest.mark.parametrize(("secret", "path"), [(SECRET, Path.NATIVE), ("", Path.ROCKETCHAT)])
async def test_rocketchat_down_opens_natively_only_where_a_batch_can_be_divided(
    secret: str, path: Path
) -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.channels["wa"] = replace(
        heart.channels["wa"],
        on_rocketchat_down="native",
        native={"phone_number_id": "100", "app_secret": secret},
    )
    now = heart.clock.now()
    heart.store.tables.breakers[ROCKETCHAT_GATE] = Breaker(ROCKETCHAT_GATE, 5, now, now.replace(year=2027))
    await heart.hears("Oi")
    assert [one.path for one in heart.conversations] == [path]


async def test_no_conversation_opens_natively_without_the_secret() -> None:
    heart = Heart()
    heart.channels["wa"] = replace(heart.channels["wa"], native={"phone_number_id": "100"})
    await heart.hears("Oi")
    assert [one.path for one in heart.conversations] == [Path.ROCKETCHAT]


async def _in_a_room(heart: Heart) -> None:
    """A conversation on Rocket.Chat whose room is known."""
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    await heart.run()
    await heart.accept(
        room_event("Message", "room1", ANA, "src1", "Oi", None, heart.clock.now().isoformat()), RESERVED
    )
    await heart.run()
    assert [one.room_id for one in heart.conversations] == ["room1"]


async def test_a_closing_that_waits_for_rocketchat_holds_no_native_answer() -> None:
    heart = Heart()
    await _in_a_room(heart)
    heart.legacy.answer = Result(Outcome.RETRY, code="connect")
    await heart.move(Path.NATIVE)
    await heart.run(seconds=5)
    await heart.says("Bom dia!")
    await heart.run(seconds=1)
    assert [one.content.text for one in heart.native.sent] == ["Bom dia!"]


async def test_back_before_the_room_was_closed_keeps_it_and_calls_the_closing_off() -> None:
    heart = Heart()
    await _in_a_room(heart)
    await heart.move(Path.NATIVE)
    await heart.move(Path.ROCKETCHAT)
    await heart.run(seconds=5)
    assert (heart.legacy.closed, heart.conversations[0].room_id) == ([], "room1")
    await heart.says("Bom dia!")
    await heart.run(seconds=1)
    assert [one.room_id for one in heart.room.sent] == ["room1"]


async def test_back_after_the_room_was_closed_forgets_it() -> None:
    heart = Heart()
    await _in_a_room(heart)
    await heart.move(Path.NATIVE)
    await heart.run(seconds=1)
    await heart.move(Path.ROCKETCHAT)
    assert (heart.legacy.closed, heart.conversations[0].room_id) == (["room1"], None)
