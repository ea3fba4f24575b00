"""What the other side reports of a message: which row it is about, or that it is none of ours."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters.rocketchat.said import heard
from flags.stage import Path, Stage
from router.domain.job import Outcome, Result
from router.domain.media import MediaState, Origin
from router.domain.message import Attachment, Content, Direction, Message, Status
from router.domain.ports import RoomInfo, RoomMessage
from tests.simulation.payloads import meta
from tests.unit.router.delivery.test_files import given
from tests.unit.router.heart import ANA, Heart

MINUTE = 60.0
QUARTER = timedelta(minutes=15)


def room(room_id: str, *, open_: bool = True, active_at: datetime | None = None) -> RoomInfo:
    return RoomInfo(room_id, "app", "app", "v1", None, (ANA,), "Ana", open_, "segredo", active_at)


def text(
    heart: Heart, source_id: str, words: str, *, agent: bool = True, at: datetime | None = None
) -> RoomMessage:
    author = "agent1" if agent else "v1"
    return RoomMessage(source_id, agent, author, Content("text", words), at or heart.clock.now())


def photo(heart: Heart, source_id: str, file_id: str, author: str = "agent1") -> RoomMessage:
    """A file without words, as a room's history tells it."""
    shown = (Attachment(f"/file-upload/{file_id}/foto.jpg", "image/jpeg", "foto.jpg"),)
    return RoomMessage(source_id, True, author, Content("image"), heart.clock.now(), files=shown)


async def in_a_room(*, at: float = 0) -> Heart:
    """Ana's conversation is in Rocket.Chat, in room-1."""
    heart = Heart()
    heart.clock.seconds = at
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("oi")
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    heart.legacy.listed = [room("room-1")]
    return heart


async def shows(heart: Heart, kind: str = "image") -> Message:
    """The clinic's software sends a file that it uploaded, without words."""
    media = await given(
        heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32, mime="image/jpeg"
    )
    return await heart.says(Content(kind, None, {"media_id": str(media.id)}))


# files --------------------------------------------------------------------------------------------------------


async def test_an_agents_photo_is_not_ours_that_may_not_have_arrived() -> None:
    heart = await in_a_room()
    heart.room.answer = Result(Outcome.UNKNOWN, code="timeout")
    ours = await shows(heart)
    await heart.run()
    assert len(heart.room.sent) == 1
    heart.legacy.told["room-1"] = [photo(heart, "s8", "another")]
    await heart.sweep.run(None)
    row = heart.store.tables.messages[ours.id]
    assert (row.status, row.source_id) == (Status.UNKNOWN, None)
    heart.legacy.told["room-1"] += [photo(heart, "s9", "file-1", "bot")]
    await heart.sweep.run(None)
    row = heart.store.tables.messages[ours.id]
    assert (row.status, row.source_id) == (Status.SENT, "s9")
    assert [one.source_id for one in heart.messages] == ["s1", "s9", "s8"]


async def test_a_photo_from_the_phone_is_not_ours_that_may_not_have_arrived() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.UNKNOWN, code="timeout")
    ours = await shows(heart)
    await heart.run()
    echo = {
        "from": "551130000000", "to": ANA, "id": "wamid.HUMAN", "timestamp": str(int(heart.clock.now().timestamp())),
        "type": "image", "image": {"id": "m-9", "mime_type": "image/jpeg"},
    }  # fmt: skip
    await heart.accept(meta("100", [("smb_message_echoes", "message_echoes", echo)], 99))
    row = heart.store.tables.messages[ours.id]
    assert (row.status, row.external_id) == (Status.UNKNOWN, None)
    assert heart.messages[-1].external_id == "wamid.HUMAN"


async def test_our_document_that_rocketchat_shows_as_an_image_is_one_row() -> None:
    heart = await in_a_room()
    ours = await shows(heart, "document")
    await heart.run()
    heart.legacy.told["room-1"] = [photo(heart, "s7", "file-1", "bot")]
    await heart.sweep.run(None)
    assert [(one.content.kind, one.source_id) for one in heart.messages] == [
        ("text", "s1"),
        ("document", "s7"),
    ]
    assert heart.messages[-1].id == ours.id


async def test_a_photo_that_a_patient_sent_as_a_document_is_one_row() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    document = {"id": "m1", "mime_type": "image/jpeg", "filename": "foto.jpg"}
    await heart.hears("", type="document", document=document)
    await heart.run()
    link = "/file-upload/f1/foto.jpg"
    file = {"_id": "f1", "name": "foto.jpg", "type": "image/jpeg"}
    attachment = {"type": "file", "title": "foto.jpg", "title_link": link, "image_url": link}
    told: dict[str, Any] = {
        "_id": "s1", "msg": "", "ts": heart.clock.now().isoformat(), "u": {"_id": "v1"}, "file": file,
        "files": [file], "attachments": [{**attachment, "image_type": "image/jpeg"}],
    }  # fmt: skip
    said = heard(told, "v1")
    assert said is not None
    assert said.content.kind == "image"
    heart.legacy.listed = [room("room-1")]
    heart.legacy.told["room-1"] = [said]
    await heart.sweep.run(None)
    assert [(one.content.kind, one.source_id) for one in heart.messages] == [("document", "s1")]


@pytest.mark.parametrize(
    "pressed",
    [
        {"type": "button", "button": {"text": "Sim", "payload": "p"}},
        {
            "type": "interactive",
            "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Sim"}},
        },
    ],
)
async def test_a_pressed_button_that_rocketchat_tells_as_its_words_is_one_row(
    pressed: dict[str, Any],
) -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("", **pressed)
    await heart.run()
    await heart.accept(*heart.told("room-1", "Sim"))
    await heart.run()
    assert [(one.content.text, one.source_id) for one in heart.messages] == [("Sim", "s1")]


# of several conversations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [Stage.NATIVE, Stage.ROCKETCHAT])
async def test_a_late_report_is_about_the_nearest_message_not_the_newest_conversation(later: Stage) -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("oi")
    await heart.run()
    said = text(heart, "s1", "oi", agent=False)
    heart.clock.seconds += MINUTE
    await heart.store.transact(lambda tx: heart.facade.close(tx, heart.conversations[0], "idle"))
    heart.flags.stage = later
    heart.clock.seconds += MINUTE
    await heart.hears("oi")
    await heart.run()
    heart.legacy.listed = [room("room-1", open_=later is Stage.NATIVE)]
    heart.legacy.told["room-1"] = [said]
    await heart.sweep.run(None)
    assert [one.source_id for one in heart.messages] == ["s1", None]


async def test_a_lost_close_of_an_earlier_room_spares_the_conversation_that_goes_on_in_the_next() -> None:
    heart = await in_a_room()
    heart.clock.seconds += MINUTE
    await heart.hears("mais uma coisa")
    await heart.run()
    await heart.accept(*heart.told("room-2", "mais uma coisa", source_id="s2"))
    await heart.run()
    await heart.accept(*heart.told("room-2", "pois não?", source_id="s3", agent="agent1"))
    await heart.run()
    heart.legacy.listed = [room("room-2"), room("room-1", open_=False)]
    heart.legacy.told = {"room-1": [text(heart, "s1", "oi", agent=False)], "room-2": []}
    heart.flags.stage = Stage.NATIVE  # for new conversations: this one is not new
    await heart.sweep.run(heart.clock.now() - QUARTER)
    await heart.hears("obrigada")
    assert [(one.open, one.path, one.room_id) for one in heart.conversations] == [
        (True, Path.ROCKETCHAT, "room-2")
    ]


async def test_a_closed_room_nobody_knew_neither_ends_nor_houses_what_began_later() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    early = heart.clock.now()
    heart.clock.seconds += 10 * MINUTE
    await heart.hears("oi de novo")  # its own room is not known yet
    await heart.run()
    (began,) = heart.conversations
    heart.legacy.listed = [room("room-0", open_=False, active_at=heart.clock.now())]
    heart.legacy.told = {"room-0": [text(heart, "old1", "até logo", at=early)]}
    await heart.sweep.run(heart.clock.now() - QUARTER)
    row = heart.store.tables.conversations[began.id]
    assert (row.open, row.room_id) == (True, None)
    assert [one.source_id for one in heart.messages] == [None, "old1"]


async def test_what_an_agent_said_before_a_native_conversation_began_is_no_stray() -> None:
    heart = Heart()
    early = heart.clock.now()
    heart.clock.seconds += 10 * MINUTE
    await heart.hears("oi")
    await heart.run()
    heart.legacy.listed = [room("room-0", open_=False, active_at=heart.clock.now())]
    heart.legacy.told = {"room-0": [text(heart, "old1", "até logo", at=early)]}
    await heart.sweep.run(heart.clock.now() - QUARTER)
    assert [one.source_id for one in heart.messages if one.direction is Direction.OUTBOUND] == ["old1"]
    assert not [fact for fact in heart.meter.facts if fact[0] == "stray_sends_total"]


async def test_what_an_agent_said_before_the_move_is_no_stray() -> None:
    heart = await in_a_room()
    heart.legacy.told["room-1"] = [text(heart, "s2", "bom dia")]
    heart.clock.seconds += MINUTE
    await heart.move(Path.NATIVE)
    await heart.sweep.run(heart.clock.now() - QUARTER)
    assert heart.messages[-1].source_id == "s2"
    assert not [fact for fact in heart.meter.facts if fact[0] == "stray_sends_total"]


async def test_a_conversation_learned_before_the_move_can_be_answered_after_it() -> None:
    """Its window is the visitor's last word, which Rocket.Chat's listing tells."""
    heart = Heart(window_hours=24)
    now = heart.clock.now()
    heart.legacy.listed = [replace(room("room-1", active_at=now), visitor_said_at=now - timedelta(hours=3))]
    await heart.sweep.learn()
    await heart.move(Path.NATIVE)
    await heart.says("olá")
    await heart.run()
    assert [one.content.text for one in heart.native.sent] == ["olá"]
