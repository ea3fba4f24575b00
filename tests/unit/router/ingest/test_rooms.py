"""Rocket.Chat's own webhook, where it could do harm."""

from dataclasses import replace
from datetime import UTC, datetime

from flags.stage import Path, Stage
from router.domain.channel import RESERVED
from router.domain.conversation import Room
from router.domain.job import Outcome, Result
from router.domain.message import Status
from tests.simulation.payloads import room_event
from tests.unit.router.heart import ANA, OK, Heart


async def test_the_flat_form_reaches_no_message_of_another_channel() -> None:
    """Its message_id is the caller's word."""
    heart = Heart()
    heart.channels["other"] = replace(heart.channels["wa"], slug="other", tenant="lua", native={})
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    (conversation,) = heart.conversations
    heart.store.tables.conversations[conversation.id] = replace(conversation, room_id="room-1")
    message = await heart.says("Bom dia!")
    assert message.path is Path.ROCKETCHAT
    await heart.accept(*heart.flat(message_id=message.source_id, channel="other", source="agent"))
    assert heart.store.tables.messages[message.id].status is Status.QUEUED
    assert heart.store.tables.unsplit == {}
    await heart.run()
    assert [sent.source_id for sent in heart.room.sent] == [message.source_id]


async def test_only_the_provider_spells_an_address() -> None:
    """The key is one for both spellings of a Brazilian mobile; what is sent to is the provider's."""
    heart = Heart()
    given, typed = "553188887777", "5531988887777"
    await heart.hears("Oi", wa=given)
    await heart.says("Bom dia!", wa=typed)
    await heart.run()
    assert [alias.value for alias in heart.native.sent[0].to] == [given]
    await heart.hears("Mudei", wa=typed)
    await heart.says("Certo", wa=given)
    await heart.run()
    assert [alias.value for alias in heart.native.sent[1].to] == [typed]
    assert len(heart.conversations) == 1


async def test_a_room_learned_after_the_move_is_closed_once() -> None:
    """Rocket.Chat's rate limit lets few rooms be learned a minute; its agents must not go on in the others."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    await heart.run()
    await heart.move(Path.NATIVE)
    for number in range(2):
        at = f"2026-01-01T00:00:0{number}Z"
        await heart.accept(room_event("Message", "r1", ANA, f"s{number}", "Oi", None, at), RESERVED)
    await heart.run(seconds=1)
    assert heart.legacy.closed == ["r1"]
    (conversation,) = heart.conversations
    assert (conversation.open, conversation.path, conversation.room_id) == (True, Path.NATIVE, None)


async def test_what_was_held_for_long_is_still_one_row() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.legacy.answer = Result(Outcome.RETRY, code="connect")
    await heart.hears("Oi, tudo bem?")
    await heart.run(seconds=1500)
    heart.legacy.answer = OK
    await heart.run(seconds=60)
    at = heart.clock.now().isoformat()
    await heart.accept(room_event("Message", "room1", ANA, "src1", "Oi, tudo bem?", None, at), RESERVED)
    await heart.run(seconds=1)
    assert [(one.content.text, one.source_id) for one in heart.messages] == [("Oi, tudo bem?", "src1")]


async def test_a_room_of_an_imports_channel_is_placed_anew() -> None:
    """An import may weave a room that is still open before anybody wrote in it."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.store.tables.rooms["room1"] = Room(
        "room1", "sol", "history-webchat", None, datetime(2025, 1, 1, tzinfo=UTC)
    )
    at = heart.clock.now().isoformat()
    await heart.accept(room_event("Message", "room1", ANA, "src1", "Oi", None, at), RESERVED)
    await heart.run(seconds=1)
    assert [(one.content.text, one.channel) for one in heart.messages] == [("Oi", "wa")]
    assert heart.store.tables.rooms["room1"].channel == "wa"
