import hashlib
import json
from functools import reduce
from operator import xor
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.rocketchat.documents import Documents
from migration.collections import Copied, Reader, Row
from migration.documents import Block, Fault, Reject, digest
from migration.load import Batch, Sorter
from migration.load.sorting import Options
from router.storage.archive.shape import MESSAGES, RECORDS, ROOMS
from tests.unit.migration.load_scene import (
    CHUNKS,
    CONTACT,
    MASK,
    MESSAGE,
    ROOM,
    SETTINGS,
    USER,
    VISITOR,
    at,
    broken,
    message,
    ms,
    room,
    sorter,
)  # fmt: skip


def block(*raws: bytes, faults: tuple[Fault, ...] = ()) -> Block:
    return Block(raws, range(len(raws)), "end", faults)


def sort(collection: str, *raws: bytes, faults: tuple[Fault, ...] = (), **options: Any) -> Batch:
    return sorter(**options).sort(collection, block(*raws, faults=faults))


def test_each_document_becomes_a_row_a_refusal_or_is_left_out() -> None:
    found = sort(
        MESSAGE, message("a", "r"), broken(message("b", "r")), bson.encode({"_id": "c", "ts": at(0)})
    )
    assert [row[0] for row in found.rows] == ["a"]
    assert {refused.key: refused.code for refused in found.refused} == {
        "id:b": "invalid_bson",
        "id:c": "orphan",
    }
    assert (found.source, found.resume, found.positions) == (3, "end", [0])
    assert found.account().balanced


def test_a_document_without_an_id_is_known_by_its_place() -> None:
    found = sort(MESSAGE, message("a", "r"), bson.encode({"rid": "r", "ts": at(0)}))
    assert [(refused.key, refused.source_id, refused.position) for refused in found.refused] == [
        ("at:1", None, "1")
    ]


def test_an_id_that_no_index_holds_does_not_name_its_refusal() -> None:
    found = sort(MESSAGE, bson.encode({"_id": "x" * 3000, "ts": at(0)}))
    assert [(refused.key, refused.source_id) for refused in found.refused] == [("at:0", None)]


def test_bytes_that_are_no_document_are_refused_where_they_stand() -> None:
    fault = Fault(77, "truncated", "the file ends in the middle", message("a", "r")[:40])
    cut = Fault(99, "truncated", "the file ends in the middle", message("a" * 40, "r")[:30])
    found = sort(MESSAGE, faults=(fault, cut))
    assert [(one.key, one.code, one.position) for one in found.refused] == [
        ("id:a", "truncated", "77"),
        ("at:99", "truncated", "99"),
    ]
    assert found.refused[0].raw == fault.raw
    assert (found.source, found.account().rejected) == (2, 2)


@given(st.binary(max_size=60))
def test_no_bytes_stop_it(raw: bytes) -> None:
    for collection in (MESSAGE, ROOM, USER, SETTINGS, VISITOR, CONTACT):
        found = sort(collection, raw, faults=(Fault(5, "truncated", "", raw),))
        assert found.account().balanced
        assert found.source == 2


def test_a_visitors_token_is_kept_nowhere_but_its_person_is_known() -> None:
    token = "a-token-that-opens-a-chat"
    visitor = bson.encode({"_id": "v", "token": token, "ts": at(0), "phone": None})
    for collection, raw in (
        (ROOM, room("r", token=token)),
        (VISITOR, visitor),
        (MESSAGE, message("m", "r", token=token)),
    ):
        found = sort(collection, raw)
        assert token not in repr(found.rows)
        assert len(found.rows[0][-1]) == len(raw)
    digest_of_it = hashlib.sha256(token.encode()).hexdigest()
    found = sort(ROOM, room("r", token=token))
    assert json.loads(found.rows[0][ROOMS.names.index("info")])["token_digest"] == digest_of_it
    info, last = found.people[0]
    assert info is not None
    assert info.visitor_token_digest == digest_of_it
    assert last == ms(at(60))


def test_a_visitor_is_as_old_as_the_last_chat() -> None:
    raw = {"_id": "v", "token": "t", "ts": at(0), "lastChat": {"_id": "r", "ts": at(9)}}
    assert sort(VISITOR, bson.encode(raw)).people[0][1] == ms(at(9))
    assert sort(VISITOR, bson.encode({"_id": "v", "ts": at(3)})).people[0][1] == ms(at(3))


def test_a_contact_is_known_by_its_phones() -> None:
    raw = bson.encode({"_id": "c", "phones": [{"phoneNumber": "5511988887777"}], "createdAt": at(0)})
    info, last = sort(CONTACT, raw).people[0]
    assert info is not None
    assert info.visitor_phones == ("5511988887777",)
    assert last == ms(at(0))


def test_what_is_not_copied_is_counted_and_its_bytes_are_not_kept() -> None:
    secret = bson.encode({"_id": "smtp", "value": "a-password"})
    found = sort(SETTINGS, secret, broken(secret), faults=(Fault(3, "truncated", "", secret[:-3]),))
    assert found.skipped == {"secret": 1}
    assert [refused.code for refused in found.refused] == ["invalid_bson", "truncated"]
    assert "a-password" not in repr([refused.raw for refused in found.refused])


def test_a_refused_user_is_kept_without_password() -> None:
    user = {"_id": "u", "createdAt": True, "services": {"password": {"bcrypt": "a-hash"}}}
    found = sort(USER, bson.encode(user), broken(bson.encode(user)))
    assert [refused.code for refused in found.refused] == ["wrong_type", "invalid_bson"]
    assert "a-hash" not in repr([refused.raw for refused in found.refused])


def test_the_digest_is_of_all_documents_as_they_are_kept() -> None:
    raws = [message("a", "r", token="t"), message("b", "r"), broken(message("c", "r"))]
    expected = reduce(xor, (digest(MASK(raw)) for raw in raws))
    assert sort(MESSAGE, *raws, until=0).digest == expected
    assert sort(MESSAGE, *reversed(raws)).digest == expected


def test_bytes_of_files_are_not_touched() -> None:
    raw = bson.encode({"_id": bson.ObjectId(), "data": b"\x02token\x00\x05\x00\x00\x00abcd\x00"})
    assert sort(CHUNKS, raw).digest == digest(raw)


def test_since_and_until_are_about_messages_alone() -> None:
    messages = [message(str(minute), "r", minute) for minute in range(5)]
    found = sort(MESSAGE, *messages, since=ms(at(1)), until=ms(at(3)))
    assert [row[0] for row in found.rows] == ["1", "2"]
    assert found.skipped == {"filtered": 3}
    assert len(sort(ROOM, room("r"), until=0).rows) == 1


def test_rooms_of_other_kinds_are_left_out_and_remembered() -> None:
    found = sort(ROOM, room("a"), room("b", "c"), rooms="l")
    assert [row[0] for row in found.rows] == ["a"]
    assert [(mark.room_id, mark.kind, mark.skipped) for mark in found.marks] == [("b", "c", "filtered")]
    assert found.skipped == {"filtered": 1}


@pytest.mark.parametrize("error", [KeyError("text of a message"), OverflowError(), RecursionError()])
def test_a_document_that_no_mapper_was_made_for_is_refused_in_our_words(error: Exception) -> None:
    def failing(_reader: Reader, _collection: str, _document: Any, _raw: bytes) -> Row:
        raise error

    sorts = Sorter(Documents(), MASK, Options(), lambda _name: Copied(MESSAGES, failing))
    (refused,) = sorts.sort("any", block(message("a", "r"))).refused
    assert refused.code == "wrong_type"
    assert "text of a message" not in refused.reason


def test_secrets_that_cannot_be_found_are_not_kept_with_the_rest() -> None:
    def clean(raw: bytes) -> bytes:
        if b"odd" in raw:
            raise Reject("invalid_bson", "what is this")
        return raw

    def mapped(_reader: Reader, _collection: str, document: Any, raw: bytes) -> Row:
        return (document["_id"], raw)

    sorts = Sorter(Documents(), MASK, Options(), lambda _name: Copied(RECORDS, mapped, clean))
    found = sorts.sort("any", block(message("a", "r"), message("b", "r", text="odd"), message("c", "r")))
    assert [row[0] for row in found.rows] == ["a", "c"]
    assert [(refused.key, refused.raw) for refused in found.refused] == [("id:b", b"")]


def test_what_was_kept_is_not_masked_again() -> None:
    once = MASK(message("a", "r", token="secret"))
    assert sorter().sort(MESSAGE, block(once), kept=True).rows[0][-1] == once


def test_a_person_whose_token_was_overwritten_is_not_taken_for_another() -> None:
    for collection, raw in (
        (ROOM, room("r")),
        (VISITOR, bson.encode({"_id": "v", "token": "t", "ts": at(0)})),
    ):
        found = sorter().sort(collection, block(MASK(raw)), kept=True)
        assert [refused.code for refused in found.refused] == ["missing"]
        assert found.account().balanced
    team = sorter().sort(ROOM, block(room("c", "c")), kept=True)
    assert len(team.rows) == 1
