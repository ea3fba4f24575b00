from typing import Any

import bson
import orjson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from adapters.rocketchat.said import content
from migration.collections import messages
from migration.documents import CODEC, Reject
from tests.unit.migration.collections.shapes import (
    AT,
    ENCRYPTED,
    NAVIGATION,
    PHOTO,
    READER,
    TEXT,
    TOKEN,
    VALUE,
    row,
)

MESSAGE = "rocketchat_message"


def said(**fields: Any) -> dict[str, Any]:
    return row(MESSAGE, {**TEXT, **fields})


def refused(document: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        row(MESSAGE, document)
    return caught.value.code, caught.value.reason


def test_plain_words() -> None:
    assert row(MESSAGE, TEXT) == {
        "source_id": "m0000000000000001", "room_id": "room0000000000001", "kind": None, "sent_at": AT, "updated_at": AT + 5,
        "author_id": "agent00000000001a", "author": "ana.recepcao", "visitor": False, "content_kind": "text",
        "text": "Olá, bom dia!", "thread_id": None, "parent_id": None, "hidden": False, "edited_at": None, "files": None,
        "extra": None, "raw": bson.encode(TEXT),
    }  # fmt: skip


def test_a_visitor_and_nobody() -> None:
    visitor = said(token=TOKEN, alias="Maria", u={"_id": "vis1", "username": "guest-2"})
    assert (visitor["visitor"], visitor["author_id"], visitor["extra"]) == (
        True,
        "vis1",
        b'{"alias":"Maria"}',
    )
    assert TOKEN.encode() not in visitor["raw"]
    assert said(token="")["visitor"] is said(token=7)["visitor"] is False
    nobody = said(u=None)
    assert (nobody["author_id"], nobody["author"]) == (None, None)
    unnamed = {name: value for name, value in TEXT.items() if name != "u"}
    assert row(MESSAGE, unnamed)["author"] is None


def test_a_photo() -> None:
    photo = row(MESSAGE, PHOTO)
    assert (photo["content_kind"], photo["text"], photo["visitor"]) == ("image", "meu exame", True)
    assert orjson.loads(photo["files"]) == [
        {"id": "Up1", "ref": "/file-upload/Up1/exame%20de%20sangue.jpg", "name": "exame de sangue.jpg",
         "mime": "image/jpeg", "size": 71224},
    ]  # fmt: skip
    extra = orjson.loads(photo["extra"])
    assert set(extra) == {"alias", "file", "files", "fileUpload", "attachments"}
    assert extra["fileUpload"]["publicFilePath"] == "https://chat.example/file-upload/Up1/x.jpg?token="


def test_it_is_read_as_the_webhook_reads_it() -> None:
    told = orjson.loads(orjson.dumps({**PHOTO, "ts": AT, "_updatedAt": AT}))
    photo, heard = row(MESSAGE, PHOTO), content(told)
    assert (photo["content_kind"], photo["text"]) == (heard.kind, heard.text)


def test_a_quotation_is_text_and_has_no_file() -> None:
    quoted = said(attachments=[{"text": "antes", "author_name": "x", "ts": DatetimeMS(AT)}])
    assert (quoted["content_kind"], quoted["text"], quoted["files"]) == ("text", "Olá, bom dia!", None)
    assert orjson.loads(quoted["extra"])["attachments"][0]["ts"] == "2023-11-14T22:13:20.123Z"


def test_where_a_visitor_went() -> None:
    went = row(MESSAGE, NAVIGATION)
    assert (went["kind"], went["content_kind"]) == ("livechat_navigation_history", "navigation")
    assert TOKEN.encode() not in went["extra"]


def test_ciphertext_is_no_text() -> None:
    secret = row(MESSAGE, ENCRYPTED)
    assert (secret["kind"], secret["text"]) == ("e2e", None)
    extra = orjson.loads(secret["extra"])
    assert extra == {"msg": "kid0cGxhaW4=", "e2e": "pending", "content": {"algorithm": "rc.v1"}}


def test_edited_pinned_starred_answered() -> None:
    edited = said(
        editedAt=DatetimeMS(AT + 9), editedBy={"_id": "a"}, tmid="m0", pinned=True, reactions={":x.y:": {"usernames": ["a"]}}
    )  # fmt: skip
    assert (edited["edited_at"], edited["thread_id"]) == (AT + 9, "m0")
    assert orjson.loads(edited["extra"]) == {
        "editedBy": {"_id": "a"}, "pinned": True, "reactions": {":x.y:": {"usernames": ["a"]}},
    }  # fmt: skip


def test_the_three_deletions() -> None:
    former = said(_hidden=True, parent="m0")
    assert (former["hidden"], former["parent_id"], former["text"]) == (True, "m0", "Olá, bom dia!")
    removed = said(t="rm", msg="", attachments=[], reactions=[], editedAt=DatetimeMS(AT))
    assert (removed["kind"], removed["text"], removed["hidden"], removed["extra"]) == (
        "rm",
        None,
        False,
        None,
    )


@pytest.mark.parametrize("kind", ["uj", "command", "livechat-close", "rtc", "never_seen_before"])
def test_whatever_the_system_notes(kind: str) -> None:
    noted = said(t=kind, groupable=False)
    assert (noted["kind"], noted["extra"]) == (kind, None)


def test_words_that_are_missing() -> None:
    assert said(msg="")["text"] is said(msg=None)["text"] is None
    assert said(attachments=None, files=[], fileUpload=None)["extra"] is None


@pytest.mark.parametrize("room", [None, 7, "", ObjectId("a" * 24), ["r"]])
def test_a_message_without_a_room(room: Any) -> None:
    code, reason = refused({**TEXT, "rid": room})
    assert (code, reason.startswith("rid is")) == ("orphan", True)
    assert refused({name: value for name, value in TEXT.items() if name != "rid"}) == (
        "orphan",
        "rid is missing",
    )


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"ts": None}, "wrong_type", "ts"),
        ({"ts": "2024-01-01T00:00:00Z"}, "wrong_type", "ts"),
        ({"ts": DatetimeMS(253402300800000)}, "date_range", "ts"),
        ({"_updatedAt": DatetimeMS(-(2**60))}, "date_range", "_updatedAt"),
        ({"editedAt": "ontem"}, "wrong_type", "editedAt"),
        ({"msg": "a\x00b"}, "nul", "msg"),
        ({"msg": {"a": 1}}, "wrong_type", "msg"),
        ({"rid": "r\x00"}, "nul", "rid"),
        ({"t": 7}, "wrong_type", "t"),
        ({"u": "ana"}, "wrong_type", "u"),
        ({"u": {"_id": "a", "username": "\x00"}}, "nul", "username"),
        ({"_hidden": "yes"}, "wrong_type", "_hidden"),
        ({"tmid": ["m"]}, "wrong_type", "tmid"),
        ({"reactions": {":x:": ["\x00"]}}, "nul", "extra.reactions.:x:"),
        ({"file": {"_id": "Up1", "type": "image/png\x00"}}, "nul", "extra"),
        ({"msg": "", "attachments": [{"text": "a\x00"}]}, "nul", "attachments"),
        ({"_id": None}, "no_id", "the document"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], code: str, field: str) -> None:
    found, reason = refused({**TEXT, **fields})
    assert found == code
    assert reason.startswith(field)


NAMES = (
    "_id",
    "rid",
    "t",
    "ts",
    "_updatedAt",
    "u",
    "token",
    "msg",
    "alias",
    "urls",
    "files",
    "editedAt",
    "md",
    "x",
)
SHORT_OR_WHOLE = st.dictionaries(
    st.sampled_from(NAMES), VALUE | st.sampled_from(["é", "", "a\x00", "e2e", []]), max_size=3
)


@given(fields=SHORT_OR_WHOLE)
def test_the_short_way_says_what_the_whole_one_says(fields: dict[str, Any]) -> None:
    raw = bson.encode({**TEXT, **fields})
    document = bson.decode(raw, CODEC)
    try:
        short = messages._short(document, raw)
    except Reject as reject:
        with pytest.raises(Reject, match=f"^{reject.reason}$"):
            messages._whole(READER, document, raw)
    else:
        assert short is None or short == messages._whole(READER, document, raw)


def test_the_short_way_is_the_usual_one() -> None:
    for document in (
        TEXT,
        {**TEXT, "token": TOKEN, "alias": "Maria"},
        {**TEXT, "t": "uj", "groupable": False},
    ):
        decoded = bson.decode(bson.encode(document), CODEC)
        assert messages._short(decoded, b"") is not None
