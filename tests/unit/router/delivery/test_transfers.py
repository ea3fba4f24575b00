"""Files under way while the world goes on: moves, falls, slow hosts, our own store down; and what else holds no message."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flags.stage import Path, Stage
from router.domain.channel import Channel
from router.domain.errors import Unavailable
from router.domain.job import JobKind, Outcome, Result
from router.domain.media import Media, MediaState, Origin
from router.domain.message import Attachment, Content, Message, Status
from router.domain.ports import Outbound, RoomInfo, RoomMessage
from tests.unit.router.delivery.test_files import IMAGE, files, given
from tests.unit.router.heart import ANA, OK, Heart

BIA = "5511977776666"
UPLOADED: dict[str, Any] = {"origin": Origin.UPLOAD, "state": MediaState.STORED, "sha256": "ef" * 32}
HOUR = 3600.0


async def in_a_room() -> Heart:
    """Ana's conversation is in Rocket.Chat, in room-1."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("oi")
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    return heart


async def shows(heart: Heart, *, wa: str = ANA, **fields: Any) -> Message:
    """The clinic's software sends a file, one that it uploaded unless `fields` say otherwise."""
    media = await given(heart, **{**UPLOADED, **fields})
    return await heart.says(Content("image", None, {"media_id": str(media.id)}), wa=wa)


def texts(sent: list[Outbound]) -> list[str | None]:
    return [one.content.text for one in sent]


def is_open(heart: Heart, gate: str) -> bool:
    breaker = heart.store.tables.breakers.get(gate)
    return breaker is not None and breaker.is_open


def moving(heart: Heart, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The conversation moves while the first file is being handed over."""
    upload = heart.files.upload

    async def slow(side: str, channel: Channel, media: Media, room_id: str | None) -> Result:
        if not heart.files.uploaded:
            await heart.move(path)
        return await upload(side, channel, media, room_id)

    monkeypatch.setattr(heart.files, "upload", slow)


async def falls(*_: object) -> Result:
    raise Unavailable("the worker falls over")


async def run_over(heart: Heart, leases: int) -> None:
    """Work for as long as so many leases of a transfer; whoever carries one out may fall."""
    for _ in range(leases):
        with suppress(Unavailable):
            await heart.run()
        heart.clock.seconds += heart.policy.transfer_seconds + 1


# moves --------------------------------------------------------------------------------------------------------


async def test_a_move_to_rocketchat_during_an_upload_takes_the_send_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = Heart()
    await heart.hears("oi")
    moving(heart, monkeypatch, Path.ROCKETCHAT)
    heart.room.answer = Result(Outcome.RETRY, code="no_room")
    message = await shows(heart)
    await heart.run(seconds=5)
    heart.room.answer = OK
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run(seconds=60, most=500)
    assert (heart.native.sent, heart.room.sent[-1].room_id) == ([], "room-1")
    row = heart.store.tables.messages[message.id]
    assert (row.path, row.status) == (Path.ROCKETCHAT, Status.SENT)


async def test_a_move_to_native_during_an_upload_takes_the_send_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = await in_a_room()
    moving(heart, monkeypatch, Path.NATIVE)
    await shows(heart)
    await heart.run(seconds=5)
    assert heart.legacy.closed == ["room-1"]
    assert (len(heart.room.sent), len(heart.native.sent)) == (0, 1)


async def test_a_transfer_that_was_lost_binds_no_send_to_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the file had left: a lease that ran out then is not a send that may have arrived."""
    heart = Heart()
    await heart.hears("oi")
    with monkeypatch.context() as patched:
        patched.setattr(heart.files, "upload", falls)
        await shows(heart)
        await run_over(heart, 1)
    heart.files.taken = Result(Outcome.RETRY, code="connect")
    await heart.run(most=1)
    await heart.move(Path.ROCKETCHAT)
    heart.files.taken = Result(Outcome.OK, "file-1")
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run(seconds=60, most=100)
    assert (len(heart.native.sent), len(heart.room.sent)) == (0, 1)


# ends ---------------------------------------------------------------------------------------------------------


async def test_an_upload_that_fells_its_worker_is_given_up_and_frees_the_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = Heart()
    await heart.hears("oi")
    monkeypatch.setattr(heart.files, "upload", falls)
    message = await shows(heart)
    await heart.says("depois")
    await run_over(heart, heart.policy.max_attempts + 3)
    row = heart.store.tables.messages[message.id]
    assert (row.status, row.error_code) == (Status.FAILED, "abandoned")
    assert texts(heart.native.sent) == ["depois"]
    assert not heart.store.tables.active


async def test_a_fetch_that_fells_its_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heart()
    monkeypatch.setattr(heart.files, "fetch", falls)
    await heart.hears("", **IMAGE)
    await run_over(heart, heart.policy.max_attempts + 3)
    assert [(one.state, one.error_code) for one in files(heart)] == [(MediaState.REFUSED, "abandoned")]
    assert not heart.store.tables.active


async def test_a_file_of_rocketchat_that_cannot_be_had_is_not_asked_for_for_ever() -> None:
    heart = await in_a_room()
    heart.files.answer = (Result(Outcome.RETRY, code="http_500"), None)
    photo = (Attachment("/file-upload/f1/a.jpg"),)
    heart.legacy.listed = [RoomInfo("room-1", "app", "app", "v1", None, (ANA,))]
    heart.legacy.told["room-1"] = [
        RoomMessage("s5", True, "agent1", Content("image"), heart.clock.now(), files=photo)
    ]
    await heart.sweep.run(None)
    for _ in range(8 * 24):
        await heart.run()
        heart.clock.seconds += HOUR
    assert [one.state for one in files(heart)] == [MediaState.GONE]
    assert not heart.store.tables.active


async def test_a_strangers_host_that_says_retry_after_frees_the_lane_in_the_end() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.files.answer = (Result(Outcome.RETRY, code="http_503", retry_after=60.0), None)
    await shows(heart, origin=Origin.URL, state=MediaState.WAITING, sha256=None)
    await heart.says("sem foto")
    for _ in range(60):
        await heart.run()
        heart.clock.seconds += 60
    assert len(heart.files.fetched) == heart.policy.max_attempts
    assert texts(heart.native.sent) == ["sem foto"]


async def test_a_provider_that_says_too_fast_for_ever_is_obeyed_for_a_day() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.PACED, code="131056")
    message = await heart.says("a")
    for _ in range(26 * 6):
        await heart.run()
        heart.clock.seconds += 600
    row = heart.store.tables.messages[message.id]
    assert (row.status, row.error_code) == (Status.FAILED, "131056")
    assert not heart.store.tables.active


# what is no sign of health ------------------------------------------------------------------------------------


async def test_our_own_file_store_being_down_holds_no_forward() -> None:
    heart = await in_a_room()
    heart.files.taken = Result(Outcome.RETRY, code="store")
    await shows(heart)
    await heart.run(seconds=60, most=500)
    assert not is_open(heart, "rocketchat")
    before = len(heart.legacy.received)
    await heart.hears("oi?")
    await heart.run()
    assert len(heart.legacy.received) == before + 1


async def test_our_own_file_store_being_down_holds_no_text() -> None:
    heart = Heart()
    await heart.hears("oi")
    heart.files.taken = Result(Outcome.RETRY, code="store")
    await shows(heart)
    await heart.run(seconds=60, most=500)
    await heart.hears("oi", wa=BIA)
    await heart.says("urgente", wa=BIA)
    await heart.run()
    assert texts(heart.native.sent) == ["urgente"]


async def ill(heart: Heart) -> Message:
    """The channel of a message is ill; its next probe is due, and that send is not it."""
    await heart.hears("oi")
    heart.native.answer = Result(Outcome.CHANNEL, code="190")
    message = await heart.says("a")
    await heart.run()
    assert is_open(heart, "native:wa")
    return message


async def mark(heart: Heart, message: Message) -> None:
    """The clinic's software has read it."""
    conversation = heart.store.tables.conversations[message.conversation_id]
    await heart.store.transact(lambda tx: heart.compose.mark(tx, conversation, message, typing=False))


def put_off(heart: Heart, message: Message) -> None:
    for job in list(heart.store.tables.jobs.values()):
        if job.message_id == message.id and job.kind is JobKind.SEND:
            later = heart.clock.now() + timedelta(hours=1)
            heart.store.tables.jobs[job.id] = replace(job, due_at=later)
    heart.clock.seconds += heart.policy.channel_ill_seconds + 1


async def test_a_file_refused_on_our_side_does_not_heal_the_channel() -> None:
    heart = Heart()
    message = await ill(heart)
    await heart.hears("oi", wa=BIA)
    heart.files.taken = Result(Outcome.PERMANENT, code="too_large")
    await shows(heart, wa=BIA)
    put_off(heart, message)
    await heart.run()
    assert len(heart.files.uploaded) == 1
    assert is_open(heart, "native:wa")


async def test_a_mark_that_asks_nobody_does_not_heal_the_channel() -> None:
    heart = Heart()
    message = await ill(heart)
    heard = heart.messages[0]
    await mark(heart, heard)
    heart.store.tables.messages.pop(heard.id)  # erased meanwhile
    put_off(heart, message)
    await heart.run()
    assert not heart.native.marked
    assert is_open(heart, "native:wa")


async def test_read_marks_that_fail_hold_no_message() -> None:
    heart = Heart()
    for number in range(heart.policy.breaker_failures + 1):
        await heart.hears("oi", wa=f"551198888000{number}")
    heart.native.answer = Result(Outcome.UNKNOWN, code="timeout")
    for message in heart.messages:
        await mark(heart, message)
    await heart.run(most=heart.policy.breaker_failures + 1)
    assert len(heart.native.marked) == heart.policy.breaker_failures + 1
    heart.native.answer = OK
    await heart.says("urgente", wa="5511988880000")
    await heart.run()
    assert texts(heart.native.sent) == ["urgente"]


# names of files -----------------------------------------------------------------------------------------------


async def test_an_upload_serves_the_account_it_was_given_to_only() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart, **UPLOADED)
    photo = Content("image", None, {"media_id": str(media.id)})
    await heart.says(photo)
    await heart.run()
    former = heart.channels["wa"]
    native = {**former.native, "provider": "360dialog", "api_key": "k", "phone_number_id": "200"}
    heart.channels["wa"] = replace(former, native={**native, "previous_phone_number_id": "100"})
    heart.files.taken = Result(Outcome.OK, "file-of-360dialog")
    await heart.says(photo)
    await heart.run()
    assert [one.file_id for one in heart.native.sent] == ["file-1", "file-of-360dialog"]


async def test_a_file_that_may_have_arrived_keeps_its_name_over_a_long_outage() -> None:
    """Under another name it could not be found there, and would be shown twice."""
    heart = await in_a_room()
    heart.room.answer = Result(Outcome.UNKNOWN, code="timeout")
    message = await shows(heart)
    await heart.run()
    heart.room.answer = heart.files.taken = Result(Outcome.RETRY, code="connect")
    for _ in range(21 * 2):  # longer than Rocket.Chat keeps a file that nothing shows
        await heart.run(most=20)
        heart.clock.seconds += HOUR / 2
    heart.room.answer, heart.files.taken = OK, Result(Outcome.OK, "file-2")
    await heart.run(seconds=600, most=2000)
    assert {(one.file_id, one.repeat) for one in heart.room.sent[1:]} == {("file-1", True)}
    assert heart.store.tables.messages[message.id].status is Status.SENT


async def test_a_file_that_may_have_arrived_goes_to_no_other_room() -> None:
    heart = await in_a_room()
    heart.room.answer = Result(Outcome.UNKNOWN, code="timeout")
    await shows(heart)
    await heart.run()
    await heart.move(Path.NATIVE)
    await heart.run(seconds=1)
    await heart.move(Path.ROCKETCHAT)
    heart.files.taken = Result(Outcome.OK, "file-2")
    await heart.hears("oi?")
    await heart.run()
    await heart.accept(*heart.told("room-2", "oi?", source_id="s2"))
    heart.room.answer = OK
    await heart.run(seconds=60, most=500)
    assert {(one.room_id, one.file_id) for one in heart.room.sent} == {("room-1", "file-1")}


# pace ---------------------------------------------------------------------------------------------------------


async def test_no_second_sees_many_more_sends_than_the_provider_takes() -> None:
    heart = Heart(per_second=80)
    people = [f"55119{number:08d}" for number in range(200)]
    for wa in people:
        await heart.hears("oi", wa=wa)
        await heart.says("lembrete", wa=wa)
    left: list[float] = []
    while len(left) < len(people) and heart.clock.seconds < 10:
        before = len(heart.native.sent)
        await heart.run(most=1000)
        left += [heart.clock.seconds] * (len(heart.native.sent) - before)
        heart.clock.seconds += 0.1
    assert len(left) == len(people)
    assert max(sum(1 for at in left if 0 <= at - first < 1) for first in left) <= 90
