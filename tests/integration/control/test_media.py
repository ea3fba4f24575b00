import hashlib
import uuid
from typing import Any

import pytest

from router.control import media
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.media import Media, MediaState, Origin
from tests.integration.control.desk_scene import LUA, SOL, held, keep, open_conversation, say, stream

pytestmark = pytest.mark.postgres
WHOLE = b"%PDF" + bytes(range(60))


async def a_file(desk: Desk, slug: str = "wa-sol", whole: bytes | None = WHOLE, **fields: Any) -> Media:
    return await keep(desk, await say(desk, await open_conversation(desk, slug), "x"), whole, **fields)


async def refused(attempt: Any, code: str, status: int) -> None:
    with pytest.raises(Rejected) as raised:
        await attempt
    assert (raised.value.code, raised.value.status) == (code, status)


async def test_what_is_uploaded_is_stored_under_the_callers_tenant(desk: Desk) -> None:
    kept = await media.upload(desk, stream(WHOLE), name="a.pdf", tenant=SOL)
    assert kept == {
        "id": kept["id"], "mime": "application/pdf", "size": 64, "sha256": hashlib.sha256(WHOLE).hexdigest(),
    }  # fmt: skip
    found = await media.one(desk, kept["id"], SOL)
    assert (found.tenant, found.channel, found.origin, found.state) == (
        SOL, "", Origin.UPLOAD, MediaState.STORED,
    )  # fmt: skip
    assert media.shape(found)["message_id"] is None
    by_all = await media.upload(desk, stream(WHOLE), channel="wa-lua", tenant=None)
    assert (await media.one(desk, by_all["id"], LUA)).channel == "wa-lua"
    await refused(media.upload(desk, stream(WHOLE), tenant=None), "unknown_channel", 422)
    await refused(media.upload(desk, stream(WHOLE), channel="wa-lua", tenant=SOL), "unknown_channel", 422)
    await refused(media.upload(desk, stream(b""), tenant=SOL), "empty_file", 422)
    await refused(media.upload(desk, stream(bytes(desk.media_limit_bytes + 1)), tenant=SOL), "too_large", 413)
    assert await desk.store.engine.fetchval("select count(*) from media") == 2


@pytest.mark.parametrize(
    ("whole", "declared", "mime"),
    [
        (b"\x89PNG1", "application/pdf", "image/png"),
        (b"PK1", "application/vnd.openxmlformats-officedocument.wordprocessingml.document; x=1", None),
        (b"PK1", "text/html", "application/zip"),
        (b"<script>", "text/html", "application/octet-stream"),
        (b"a;b", "TEXT/PLAIN", "text/plain"),
        (b"a;b", None, "application/octet-stream"),
        (b"ftypisom", "audio/mp4", "audio/mp4"),
        (b"ftypisom", "image/png", "video/mp4"),
    ],
)
async def test_the_content_says_the_type_and_the_caller_only_what_it_cannot(
    desk: Desk, whole: bytes, declared: str | None, mime: str | None
) -> None:
    kept = await media.upload(desk, stream(whole), declared=declared, tenant=SOL)
    assert kept["mime"] == (mime or (declared or "").partition(";")[0])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, WHOLE), ((0, None), WHOLE), ((5, 9), WHOLE[5:10]), ((60, 999), WHOLE[60:]), ((63, 63), WHOLE[63:]),
        ((7, 13), WHOLE[7:14]),
    ],
)  # fmt: skip
async def test_the_bytes_and_parts_of_them(
    desk: Desk, wanted: tuple[int, int | None] | None, expected: bytes
) -> None:
    kept = await a_file(desk)
    file = await media.content(desk, kept.id, tenant=SOL, wanted=wanted)
    assert b"".join([chunk async for chunk in file.chunks]) == expected
    assert (file.length, file.size, file.mime) == (len(expected), 64, "application/pdf")


async def test_a_file_that_is_not_here_says_why(desk: Desk) -> None:
    for state, code in (("waiting", "media_waiting"), ("gone", "media_gone"), ("refused", "media_refused")):
        kept = await a_file(desk, whole=None, state=MediaState(state))
        await refused(media.content(desk, kept.id, tenant=SOL), code, 404)
    lost = await a_file(desk)
    await refused(media.content(desk, lost.id, wanted=(64, None)), "range", 416)
    held(desk).held.clear()
    await refused(media.content(desk, lost.id, tenant=SOL), "media_gone", 404)
    await refused(media.content(desk, uuid.uuid4(), tenant=SOL), "unknown_media", 404)
    await refused(media.content(desk, lost.id, tenant=LUA), "unknown_media", 404)
    await refused(media.one(desk, "nonsense"), "unknown_media", 404)


async def test_a_file_is_asked_for_again(desk: Desk) -> None:
    kept = await a_file(desk, whole=None, state=MediaState.REFUSED, error_code="address")
    assert (await media.fetch(desk, kept.id, SOL))["state"] == "waiting"
    shown = await media.one(desk, kept.id, SOL)
    assert (shown.state, shown.error_code) == (MediaState.WAITING, None)
    job = await desk.store.engine.fetchrow("select * from jobs")
    assert job is not None
    assert (job["kind"], job["channel"]) == ("fetch", "wa-sol")
    stored = await a_file(desk)
    assert (await media.fetch(desk, stored.id, SOL))["state"] == "stored"
    assert await desk.store.engine.fetchval("select count(*) from jobs") == 1
    upload = await a_file(desk, whole=None, state=MediaState.GONE, origin=Origin.UPLOAD)
    await refused(media.fetch(desk, upload.id, SOL), "media_gone", 409)
    await refused(media.fetch(desk, kept.id, LUA), "unknown_media", 404)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.pdf", "a.pdf"), ("C:\\x\\a.pdf", "a.pdf"), ("../../a.pdf", "a.pdf"), ("", None), ("..", None), ("a\r\nb", "ab"),
        ("é" * 300, "é" * 240), (None, None),
    ],
)  # fmt: skip
def test_a_name_is_only_a_name(given: str | None, name: str | None) -> None:
    assert media.file_name(given) == name
