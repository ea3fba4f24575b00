from collections.abc import Sequence
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest

from adapters.files.store import ObjectFiles
from router.domain.job import Outcome, Result
from router.domain.ports import Files
from tests.integration.adapters.files.scene import CHAT, KEPT, MB, MEDIA, chunks, cloud, dialog, media_of
from tests.integration.adapters.files.web import Web
from tests.unit.adapters.files.samples import JPEG, OPUS, PDF


def parts(web: Web, at: int = -1) -> dict[str, Message]:
    head = f"Content-Type: {web.asked[at].headers['Content-Type']}\r\n\r\n".encode()
    read: Sequence[Any] = message_from_bytes(head + web.bodies[at]).get_payload()  # type: ignore[assignment]
    return {str(one.get_param("name", header="content-disposition")): one for one in read}


@pytest.mark.parametrize("kind", ["cloud", "360dialog"])
async def test_an_upload_to_the_provider(files: Files, web: Web, store: ObjectFiles, kind: str) -> None:
    stored = await store.save(chunks(OPUS), limit=MB)
    path, channel = ("/v23.0/700/media", cloud(web)) if kind == "cloud" else ("/media", dialog(web))
    web.json(path, {"id": "4490709327384033"})
    expected = Result(Outcome.OK, "4490709327384033")
    assert await files.upload("native", channel, media_of(stored, name="áudio.ogg"), None) == expected
    assert web.paths == [path]
    sent_parts = parts(web)
    assert sent_parts["messaging_product"].get_payload() == "whatsapp"
    assert sent_parts["type"].get_payload() == "audio/ogg"
    assert sent_parts["file"].get_content_type() == "audio/ogg"
    assert sent_parts["file"].get_payload(decode=True) == OPUS
    assert 'filename="áudio.ogg"'.encode() in web.bodies[0]
    assert web.asked[0].headers["Content-Length"] == str(len(web.bodies[0]))
    assert "Transfer-Encoding" not in web.asked[0].headers
    secret = ("Authorization", "Bearer meta-secret") if kind == "cloud" else ("D360-API-KEY", "dialog-secret")
    assert web.asked[0].headers[secret[0]] == secret[1]


async def test_a_large_upload_of_unknown_size(files: Files, web: Web, store: ObjectFiles) -> None:
    data = PDF + bytes(12 * MB)
    stored = await store.save(chunks(data), limit=20 * MB)
    web.json("/v23.0/700/media", {"id": "1"})
    result = await files.upload("native", cloud(web), media_of(stored, size=None), None)
    assert result == Result(Outcome.OK, "1")
    assert data in web.bodies[0]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {}, Result(Outcome.RETRY, code="no_id")),
        (400, {"error": {"code": 100}}, Result(Outcome.PERMANENT, code="100")),
        (400, {"error": {"code": 131053}}, Result(Outcome.PERMANENT, code="131053")),
        (401, {"error": {"code": 190}}, Result(Outcome.CHANNEL, code="190")),
        (413, {}, Result(Outcome.PERMANENT, code="too_large")),
        (500, {"error": {"code": 2, "is_transient": True}}, Result(Outcome.RETRY, code="2")),
        (502, {}, Result(Outcome.RETRY, code="http_502")),
    ],
)
async def test_what_the_provider_says_of_an_upload(
    files: Files, web: Web, store: ObjectFiles, status: int, body: dict[str, Any], expected: Result
) -> None:
    stored = await store.save(chunks(JPEG), limit=MB)
    web.json("/v23.0/700/media", body, status=status)
    assert await files.upload("native", cloud(web), media_of(stored), None) == expected


async def test_an_upload_to_a_room(files: Files, web: Web, store: ObjectFiles) -> None:
    stored = await store.save(chunks(PDF), limit=MB)
    web.json(
        "/chat/api/v1/rooms.media/r 1",
        {"success": True, "file": {"_id": "f1", "url": "/file-upload/f1/l.pdf"}},
    )
    result = await files.upload("rocketchat", cloud(web), media_of(stored, name="laudo.pdf"), "r 1")
    assert result == Result(Outcome.OK, "f1")
    assert {name: web.asked[0].headers[name] for name in CHAT} == CHAT
    (file,) = parts(web).values()
    assert file.get_filename() == "laudo.pdf"
    assert file.get_payload(decode=True) == PDF
    assert await files.upload("rocketchat", cloud(web), media_of(stored), None) == Result(
        Outcome.RETRY, code="no_room", asked=False
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"success": False, "errorType": "error-file-too-large"}, Result(Outcome.PERMANENT, code="too_large")),
        (400, {"success": False, "error": "No [error-invalid-file-type]"}, Result(Outcome.PERMANENT, code="type")),
        (200, {"success": False, "error": "invalid [error-invalid-room]"}, Result(Outcome.PERMANENT, code="error-invalid-room")),
        (404, {}, Result(Outcome.PERMANENT, code="http_404")),
        (413, {}, Result(Outcome.PERMANENT, code="too_large")),
        (429, {"success": False, "error": "please wait 9 seconds [error-too-many-requests]"}, Result(Outcome.RETRY, code="error-too-many-requests", retry_after=9.0)),
        (200, {"success": True}, Result(Outcome.RETRY, code="no_id")),
        (503, {}, Result(Outcome.RETRY, code="http_503")),
    ],
)  # fmt: skip
async def test_what_rocketchat_says_of_an_upload(
    files: Files, web: Web, store: ObjectFiles, status: int, body: dict[str, Any], expected: Result
) -> None:
    stored = await store.save(chunks(JPEG), limit=MB)
    web.json("/chat/api/v1/rooms.media/r1", body, status=status)
    assert await files.upload("rocketchat", cloud(web), media_of(stored), "r1") == expected


async def test_what_is_not_stored_is_not_sent(files: Files, web: Web) -> None:
    missing = Result(Outcome.PERMANENT, code="not_stored", asked=False)
    assert await files.upload("native", cloud(web), replace(MEDIA, sha256=None, size=3), None) == missing
    assert await files.upload("native", cloud(web), media_of(KEPT), None) == missing
    assert await files.upload("native", cloud(web), media_of(KEPT, size=None), None) == missing
    assert web.bodies == []


async def test_what_whatsapp_would_refuse_is_not_sent(files: Files, web: Web) -> None:
    large = media_of(KEPT, size=100 * MB + 1)
    refused = Result(Outcome.PERMANENT, code="too_large", asked=False)
    assert await files.upload("native", cloud(web), large, None) == refused
    assert web.asked == []


async def test_a_row_that_is_wrong_about_the_size_sends_no_whole_file(
    files: Files, web: Web, store: ObjectFiles
) -> None:
    stored = await store.save(chunks(JPEG), limit=MB)
    for size in (len(JPEG) - 1, len(JPEG) + 1):
        result = await files.upload("native", cloud(web), media_of(stored, size=size), None)
        assert result == Result(Outcome.RETRY, code="broken")
