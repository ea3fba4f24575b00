from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.native.whatsapp import content as whatsapp_content
from adapters.rocketchat.said import content, file_ids, files, heard
from adapters.rocketchat.webhook import parse
from router.domain.message import Attachment

NAME = "exame de sangue.jpg"
PATH = "/file-upload/Up1/exame%20de%20sangue.jpg"
UPLOAD = {"_id": "Up1", "name": NAME, "type": "image/jpeg", "size": 71224}
THUMB = {"_id": "Up2", "name": f"thumb-{NAME}", "type": "image/jpeg", "size": 13473}
SHOWN = {
    "title": NAME, "title_link": PATH, "title_link_download": True, "image_url": "/file-upload/Up2/exame.jpg",
    "image_type": "image/jpeg", "image_size": 71224, "type": "file",
}  # fmt: skip
CLIMBING = (
    "..", ".", "%2e%2e", "..%2f..%2fapi%2fv1%2fme", "a%2f..", "%252e%252e", "%2525252525252e", "..;x", "a%5c..", "a%00b",
)  # fmt: skip
"""Names that leave their folder once a proxy decodes them."""
PHOTO: dict[str, Any] = {
    "_id": "m1", "msg": "", "ts": "2026-02-02T02:40:00.000Z", "u": {"_id": "v1"},
    "file": UPLOAD, "files": [UPLOAD, THUMB], "attachments": [SHOWN],
}  # fmt: skip
FILE = Attachment(PATH, "image/jpeg", NAME, size=71224)


def test_a_photo_is_one_file_and_its_thumbnail_none() -> None:
    assert files(PHOTO) == (FILE,)
    assert files({"file": UPLOAD}) == (FILE,)
    assert file_ids(PHOTO) == {"Up1", "Up2"}


def test_a_files_name_is_cleaned_as_an_uploads_is() -> None:
    turned = "laudo\u202efdp.exe"
    # Where it is asked for, it is still called what Rocket.Chat calls it.
    quoted = "/file-upload/Up1/laudo%E2%80%AEfdp.exe"
    assert files({"file": {"_id": "Up1", "name": turned}}) == (Attachment(quoted, None, "laudofdp.exe"),)
    (inside,) = files({"file": {"_id": "Up1", "name": f"pasta/{turned}"}})
    assert inside.name == "laudofdp.exe"
    linked = {"attachments": [{"title_link": PATH, "title": f"..\\{turned}"}]}
    assert files(linked) == (Attachment(PATH, None, "laudofdp.exe"),)


@pytest.mark.parametrize(
    ("item", "refs"),
    [
        ({"file": {"_id": "Up1", "name": "a b.pdf"}}, ["/file-upload/Up1/a%20b.pdf"]),
        ({"file": {"_id": "Up1"}}, ["/file-upload/Up1/file"]),
        ({"file": {"type": "image/png"}}, []),
        ({"file": {"_id": "../../api"}}, []),
        (
            {
                "file": {"_id": "Up1", "name": "a.pdf"},
                "fileUpload": {"publicFilePath": "https://chat.example/rc/file-upload/Up1/a.pdf?token=jwt.a.b"},
            },
            ["/file-upload/Up1/a.pdf"],
        ),
        ({"fileUpload": {"publicFilePath": "x", "type": "application/pdf"}}, []),
        ({"attachments": [{"title_link": "/ufs/GridFS:Uploads/Up1/a.pdf"}]}, ["/ufs/GridFS:Uploads/Up1/a.pdf"]),
        ({"attachments": [{"image_url": "https://giphy.example/a.gif"}]}, []),
        *(({"attachments": [{"title_link": f"/file-upload/Up1/{name}"}]}, []) for name in CLIMBING),
        *(({"file": {"_id": "Up1", "name": name}}, ["/file-upload/Up1/file"]) for name in CLIMBING),
        ({"attachments": [{"title_link": "/ufs/%2e%2e/Up1/a.pdf"}]}, []),
        ({"attachments": [{"title_link": "/file-upload/Up1/laudo ü;v=1.pdf"}]}, ["/file-upload/Up1/laudo"]),
        ({"attachments": [{"title_link": "/file-upload/Up1/ü;v=1.pdf"}]}, ["/file-upload/Up1/%C3%BC%3Bv%3D1.pdf"]),
        ({"file": {"_id": "Up1", "name": "v1/a..b%.pdf"}}, ["/file-upload/Up1/v1%2Fa..b%25.pdf"]),
        ({"file": {"_id": "Üp1", "name": "a.pdf"}}, []),
        ({"attachments": [{"audio_url": "/file-upload/Up1/a.ogg", "audio_type": "audio/ogg"}]}, ["/file-upload/Up1/a.ogg"]),
        (
            {
                "files": [{"_id": "A", "name": "a.pdf"}, {"_id": "B", "name": "b.pdf"}],
                "attachments": [{"title_link": "/file-upload/A/a.pdf"}, {"title_link": "/file-upload/B/b.pdf"}],
            },
            ["/file-upload/A/a.pdf", "/file-upload/B/b.pdf"],
        ),
        ({"attachments": [None, 7, {}], "files": [None], "file": "x"}, []),
    ],
)  # fmt: skip
def test_where_a_file_is(item: dict[str, Any], refs: list[str]) -> None:
    assert [one.ref for one in files(item)] == refs


# What WhatsApp tells of it, and what Rocket.Chat tells of it later.
CAPTIONED = {"type": "image", "image": {"id": "1", "mime_type": "image/jpeg", "caption": "meu exame"}}
BARE = {"type": "image", "image": {"id": "1", "mime_type": "image/jpeg"}}
PDF = {"type": "document", "document": {"id": "1", "filename": "laudo.pdf", "mime_type": "application/pdf"}}
VOICE = {"type": "audio", "audio": {"id": "1", "voice": True, "mime_type": "audio/ogg; codecs=opus"}}
LAUDO = {"_id": "Up3", "name": "laudo.pdf", "type": "application/pdf"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CAPTIONED, {**PHOTO, "msg": "meu exame"}),
        (CAPTIONED, {**PHOTO, "attachments": [{**SHOWN, "description": "meu exame "}]}),
        (CAPTIONED, {**PHOTO, "msg": NAME, "attachments": [{**SHOWN, "description": "meu exame"}]}),
        (BARE, PHOTO),
        (BARE, {**PHOTO, "msg": NAME}),
        (BARE, {**PHOTO, "msg": "exame%20de%20sangue.jpg"}),
        (BARE, {**PHOTO, "attachments": [{**SHOWN, "description": NAME}]}),
        (PDF, {"msg": "laudo.pdf", "file": LAUDO}),
        (PDF, {"file": LAUDO, "attachments": [{"title": "laudo.pdf", "type": "file"}]}),
        (PDF, {"attachments": [{"title": "laudo.pdf", "title_link": "/file-upload/Up3/laudo.pdf", "type": "file"}]}),
        (VOICE, {"msg": "", "file": {"_id": "Up4", "name": "voz.ogg", "type": "audio/ogg"}}),
        ({"type": "text", "text": {"body": "oi"}}, {"msg": "oi"}),
    ],
)  # fmt: skip
def test_the_same_message_has_the_same_digest_on_both_sides(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert content(theirs).digest() == whatsapp_content(ours).digest()


def test_another_caption_is_another_message() -> None:
    assert content({**PHOTO, "msg": "outro"}).digest() != whatsapp_content(CAPTIONED).digest()
    assert content({"msg": NAME}).text == NAME  # words that look like a file, without a file


def test_no_token_stays_in_what_is_kept() -> None:
    item = {**PHOTO, "token": "segredo", "fileUpload": {"publicFilePath": f"https://c{PATH}?token=segredo", "type": "image/png"}}  # fmt: skip
    kept = content(item).data
    assert "segredo" not in repr(kept)
    assert kept["fileUpload"]["type"] == "image/png"
    assert "segredo" not in repr(files(item))


def test_the_webhook_tells_the_files() -> None:
    body = {
        "type": "Message",
        "_id": "r",
        "visitor": {"_id": "v1"},
        "messages": [PHOTO, {**PHOTO, "agentId": "a1"}],
    }
    (event,) = parse(_json(body)) or ()
    assert [said.files for said in event.messages] == [(FILE,), (FILE,)]
    assert [said.by_agent for said in event.messages] == [False, True]
    team = {
        "token": "t",
        "channel_id": "c",
        "message_id": "m",
        "text": "",
        "message": {"msg": "laudo", **PHOTO},
    }
    (event,) = parse(_json(team)) or ()
    assert event.messages[0].files == (FILE,)


def _json(value: Any) -> bytes:
    import orjson

    return orjson.dumps(value)


@pytest.mark.parametrize(
    ("item", "by_agent"),
    [
        ({"u": {"_id": "v1"}}, False),
        ({"u": {"_id": "other"}, "token": "x"}, False),
        ({"u": {"_id": "a1"}}, True),
        ({}, True),
        ({"u": None}, True),
    ],
)
def test_whose_a_message_of_the_history_is(item: dict[str, Any], by_agent: bool) -> None:
    said = heard({"_id": "m", "msg": "oi", **item}, "v1")
    assert said is not None
    assert said.by_agent is by_agent


def test_without_a_visitor_nobody_is_taken_for_them() -> None:
    said = heard({"_id": "m", "msg": "oi"}, None)
    assert said is not None
    assert said.by_agent


@pytest.mark.parametrize("kind", ["livechat-started", "uj", "livechat_navigation_history", "rm", "command"])
def test_what_the_system_notes_is_no_message(kind: str) -> None:
    assert heard({"_id": "m", "t": kind, "msg": "x"}, None) is None


def test_a_closing_and_an_edit() -> None:
    closing = heard({"_id": "m", "t": "livechat-close", "msg": "obrigado", "u": {"_id": "a1"}}, "v1")
    assert closing is not None
    assert (closing.closing, closing.by_agent) == (True, True)
    edited = heard(
        {"_id": "m", "msg": "x", "ts": "2026-02-02T02:40:00Z", "editedAt": "2026-02-02T02:41:00Z"}, None
    )
    assert edited is not None
    assert (edited.edited, edited.closing) == (True, False)
    assert edited.sent_at == datetime(2026, 2, 2, 2, 40, tzinfo=UTC)


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["_id", "name", "type", "size", "title_link", "publicFilePath"]), inner
        )
    ),
    max_leaves=8,
)
KEYS = ["_id", "msg", "file", "files", "attachments", "fileUpload", "t", "u", "ts", "editedAt", "token"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUE))
@settings(max_examples=60, deadline=None)
def test_nothing_makes_it_raise(item: dict[str, Any]) -> None:
    heard(item, "v1")
    content(item, said="text")
