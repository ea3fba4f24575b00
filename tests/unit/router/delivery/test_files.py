"""Files in and out, as the heart sees them: rows, jobs, placeholders; the bytes are the edges' business."""

from typing import Any

import pytest

from flags.stage import Path, Stage
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.media import Media, MediaState, Origin, Stored
from router.domain.message import Content, Status
from tests.unit.router.heart import OK, Heart

DAY = 86400.0
IMAGE: dict[str, Any] = {
    "type": "image",
    "image": {"id": "media-1", "mime_type": "image/jpeg", "caption": "foto"},
}


def files(heart: Heart) -> list[Media]:
    return list(heart.store.tables.media.values())


async def given(heart: Heart, **fields: Any) -> Media:
    """A file that the clinic's software named or uploaded."""
    values: dict[str, Any] = {"origin": Origin.URL, "ref": "https://clinic.example/a.jpg", **fields}
    media = Media(heart.ids.new(), "sol", "wa", created_at=heart.clock.now(), **values)
    await heart.store.transact(lambda tx: tx.add_media(media))
    return media


async def test_what_a_contact_sends_is_fetched_into_the_store() -> None:
    heart = Heart()
    await heart.hears("", **IMAGE)
    (waiting,) = files(heart)
    assert (waiting.state, waiting.ref, waiting.message_id) == (
        MediaState.WAITING, "media-1", heart.messages[0].id,
    )  # fmt: skip
    await heart.run()
    (stored,) = files(heart)
    assert (stored.state, stored.size, stored.sha256) == (MediaState.STORED, 3, "ab" * 32)
    assert not heart.store.tables.active
    assert ("media_total", 1, ("whatsapp", "inbound", "stored")) in heart.meter.facts


async def test_on_path_rocketchat_too_and_the_forward_does_not_wait_for_it() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.files.answer = (Result(Outcome.RETRY, code="connect"), None)
    await heart.hears("", **IMAGE)
    await heart.run()
    assert len(heart.legacy.received) == 1
    heart.files.answer = (OK, Stored("cd" * 32, 9, "image/png"))
    await heart.run(seconds=30)
    assert files(heart)[0].state is MediaState.STORED


async def test_a_file_that_cannot_be_had_is_asked_for_until_the_provider_forgets_it() -> None:
    heart = Heart()
    heart.files.answer = (Result(Outcome.RETRY, code="http_503"), None)
    await heart.hears("", **IMAGE)
    for _ in range(16):
        await heart.run(most=5)
        heart.clock.seconds += DAY / 2
    (media,) = files(heart)
    assert (media.state, media.error_code) == (MediaState.GONE, "expired")
    assert not heart.store.tables.active
    assert not heart.store.tables.dead_letters


@pytest.mark.parametrize(
    ("code", "state"),
    [("gone", MediaState.GONE), ("too_large", MediaState.REFUSED), ("hash", MediaState.REFUSED)],
)
async def test_what_will_never_come_leaves_a_placeholder_and_can_be_asked_for_again(
    code: str, state: MediaState
) -> None:
    heart = Heart()
    heart.files.answer = (Result(Outcome.PERMANENT, code=code), None)
    await heart.hears("", **IMAGE)
    await heart.run()
    (media,) = files(heart)
    assert (media.state, media.error_code) == (state, code)
    heart.files.answer = (OK, Stored("ab" * 32, 3, "image/jpeg"))
    await heart.store.transact(lambda tx: heart.compose.refetch(tx, media))
    await heart.run()
    assert (files(heart)[0].state, files(heart)[0].error_code) == (MediaState.STORED, None)


async def test_a_dead_file_host_holds_no_message() -> None:
    heart = Heart()
    heart.files.answer = (Result(Outcome.RETRY, code="connect"), None)
    for _ in range(7):
        await heart.hears("", **IMAGE)
    await heart.run(seconds=30)
    assert heart.store.tables.breakers["media:wa"].is_open
    await heart.says("oi")
    await heart.run()
    assert len(heart.native.sent) == 1


async def test_a_named_file_is_fetched_then_uploaded_then_sent() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart)
    await heart.says(Content("image", "legenda", {"media_id": str(media.id)}))
    await heart.says("depois da foto")
    await heart.run()
    assert [one.ref for one in heart.files.fetched] == [media.ref]
    assert [(path, one.sha256) for path, one, _ in heart.files.uploaded] == [(Path.NATIVE, "ab" * 32)]
    assert [(sent.content.kind, sent.file_id) for sent in heart.native.sent] == [
        ("image", "file-1"),
        ("text", None),
    ]


async def test_the_same_bytes_are_uploaded_once_while_the_provider_keeps_them() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32)
    same = await given(heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32)
    for one in (media, same):
        await heart.says(Content("image", None, {"media_id": str(one.id)}))
    await heart.run()
    assert (len(heart.native.sent), len(heart.files.uploaded)) == (2, 1)
    heart.clock.seconds += 30 * DAY
    await heart.hears("oi")
    await heart.says(Content("image", None, {"media_id": str(media.id)}))
    await heart.run()
    assert (len(heart.native.sent), len(heart.files.uploaded)) == (3, 2)


async def test_a_file_for_rocketchat_is_uploaded_to_its_room_for_this_message() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("oi")
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run()
    media = await given(heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32)
    for _ in range(2):
        await heart.says(Content("document", None, {"media_id": str(media.id)}))
    await heart.run()
    assert [room for _, _, room in heart.files.uploaded] == ["room-1", "room-1"]
    assert [sent.file_id for sent in heart.room.sent] == ["file-1", "file-1"]


async def test_a_file_that_is_refused_fails_its_message_and_frees_the_lane() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart)
    heart.files.answer = (Result(Outcome.PERMANENT, code="address"), None)
    message = await heart.says(Content("image", None, {"media_id": str(media.id)}))
    await heart.says("sem foto")
    await heart.run()
    stored = heart.store.tables.messages[message.id]
    assert (stored.status, stored.error_code) == (Status.FAILED, "address")
    assert [sent.content.text for sent in heart.native.sent] == ["sem foto"]


async def test_an_upload_that_fails_for_a_while_is_tried_again_and_makes_no_attempt_of_the_send() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32)
    heart.files.taken = Result(Outcome.RETRY, code="http_500")
    message = await heart.says(Content("image", None, {"media_id": str(media.id)}))
    await heart.run(seconds=3)
    assert not heart.native.sent
    assert not heart.store.tables.attempts.get(message.id)
    heart.files.taken = Result(Outcome.OK, "file-2")
    await heart.run(seconds=30)
    assert [sent.file_id for sent in heart.native.sent] == ["file-2"]


async def test_a_move_between_upload_and_send_uploads_to_the_other_side() -> None:
    heart = Heart()
    await heart.hears("oi")
    media = await given(heart, origin=Origin.UPLOAD, state=MediaState.STORED, sha256="ef" * 32)
    heart.native.answer = Result(Outcome.RETRY, code="131000")
    await heart.says(Content("image", None, {"media_id": str(media.id)}))
    await heart.run()
    await heart.move(Path.ROCKETCHAT)
    heart.room.answer = Result(Outcome.RETRY, code="no_room")
    await heart.run(seconds=5)
    assert not heart.files.uploaded[1:]  # no room yet: it waits for one
    heart.room.answer = OK
    await heart.accept(*heart.told("room-1", "oi"))
    await heart.run(seconds=60, most=200)
    assert [(path, room) for path, _, room in heart.files.uploaded] == [
        (Path.NATIVE, None), (Path.ROCKETCHAT, "room-1"),
    ]  # fmt: skip
    assert heart.room.sent[-1].file_id == "file-1"


async def test_an_unknown_file_is_refused_at_once() -> None:
    heart = Heart()
    await heart.hears("oi")
    with pytest.raises(Rejected) as refused:
        await heart.says(Content("image", None, {"media_id": "nada"}))
    assert refused.value.code == "unknown_media"
    other = await given(heart, state=MediaState.STORED)
    foreign = heart.store.tables.media[other.id]
    heart.store.tables.media[other.id] = foreign.__class__(
        **{**{name: getattr(foreign, name) for name in foreign.__slots__}, "tenant": "lua"}
    )
    with pytest.raises(Rejected):
        await heart.says(Content("image", None, {"media_id": str(other.id)}))
