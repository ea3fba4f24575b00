from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.rocketchat.documents import Documents
from adapters.rocketchat.rest.rooms import room_info, token_digest
from adapters.rocketchat.said import content, files

READER = Documents()
ROOM = {
    "_id": "r1", "t": "l", "open": True, "lm": {"$date": 1_700_000_000_123}, "source": {"type": "app", "id": "a1"},
    "v": {"_id": "v1", "token": "segredo", "phone": [{"phoneNumber": "+5511999990000"}], "name": "Maria",
          "lastMessageTs": {"$date": 1_700_000_000_000}},
}  # fmt: skip
PDF = {"_id": "A", "name": "laudo 1.pdf", "type": "application/pdf"}
SEVERAL = {
    "msg": "", "ts": {"$date": 1_700_000_000_123},
    "files": [PDF, {"_id": "B", "name": "b.jpg"}, {"_id": "C", "name": "thumb-b.jpg"}],
    "attachments": [{"title_link": "/file-upload/B/outro%2Fnome.jpg?x=1"}, {"title_link": "/file-upload/A/laudo%201.pdf"}],
}  # fmt: skip


def test_a_room_as_the_database_has_it() -> None:
    info = READER.info(ROOM)
    assert info == room_info(ROOM)
    assert (info.visitor_id, info.visitor_phones, info.source_id) == ("v1", ("+5511999990000",), "a1")
    assert info.visitor_token_digest == token_digest("segredo")
    assert info.visitor_said_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_message_as_the_database_has_it() -> None:
    assert READER.content(SEVERAL) == content(SEVERAL)
    assert READER.content(SEVERAL).kind == "document"
    assert READER.files(SEVERAL) == files(SEVERAL)


@pytest.mark.parametrize(
    ("message", "ids"),
    [
        (SEVERAL, ("A", "B")),
        ({"file": PDF}, ("A",)),
        ({"file": {"_id": "../x"}}, ()),
        ({"attachments": [{"image_url": "/ufs/GridFS:Uploads/D/x.png"}]}, ("D",)),
        (
            {"file": {"name": "x"}, "fileUpload": {"publicFilePath": "https://c/file-upload/E/x?token=s"}},
            ("E",),
        ),
        ({"msg": "oi"}, ()),
    ],
)
def test_the_uploads_of_its_files(message: dict[str, Any], ids: tuple[str, ...]) -> None:
    assert READER.file_ids(message) == ids


LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["/file-upload/A/b", "A"])
)
FILE = st.dictionaries(
    st.sampled_from(["_id", "name", "type", "size", "title", "title_link", "image_url"]), LEAF
)


@given(
    st.fixed_dictionaries({}, optional={
        "file": FILE | LEAF, "files": st.lists(FILE | LEAF, max_size=3), "attachments": st.lists(FILE | LEAF, max_size=3),
        "fileUpload": st.fixed_dictionaries({}, optional={"publicFilePath": LEAF}),
    })
)  # fmt: skip
def test_there_is_an_id_for_each_file(message: dict[str, Any]) -> None:
    found = READER.files(message)
    ids = READER.file_ids(message)
    assert len(ids) == len(found)
    assert all(one and f"/{one}/" in file.ref for one, file in zip(ids, found, strict=True))
