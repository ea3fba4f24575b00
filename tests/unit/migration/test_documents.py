"""What is overwritten in a document's bytes, and the digest that PostgreSQL computes too."""

import hashlib
from typing import Any

import bson
import pytest

from migration.documents import CODEC, Mask, digest, digests

MASK = Mask(b"k" * 32)
SECRET = "Ab3_-" * 4
CALL = f"https://chat.example/livechat?token={SECRET}"


def masked(**fields: Any) -> dict[str, Any]:
    """Of the document with these fields, and an `_id`."""
    raw = bson.encode({"_id": "m1", **fields})
    made = MASK(raw)
    assert len(made) == len(raw)
    assert [made] == MASK.all([raw])
    return bson.decode(made, CODEC)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://chat.example/livechat?token=", ""),
        ("https://chat.example/f.pdf?download&token=", "&rid=r1"),
        ("/file-upload/f1/laudo.pdf?rc_uid=u1&rc_token=", "&rc_rid=r1"),
        ("[laudo](https://chat.example/x?token=", ") e o resto\nda fala"),
        ("ver https://chat.example/x?token=", "\nna outra linha"),
        ('<a href="https://chat.example/x?token=', '">é aqui</a>'),
    ],
)
def test_a_token_in_a_link_is_overwritten_and_nothing_else(before: str, after: str) -> None:
    said = masked(msg=before + SECRET + after)["msg"]
    digested = masked(token=SECRET)["token"]
    assert said == before + digested + after
    assert SECRET not in said


def test_links_anywhere_and_more_than_one() -> None:
    found = masked(urls=[{"url": CALL}, {"url": CALL + ".tail%3D"}], msg=f"{CALL} {CALL}", token=SECRET)
    assert SECRET not in str(found)
    assert ".tail" not in str(found)  # all of it, up to where the link ends
    assert len(set(found["msg"].split())) == 1


@pytest.mark.parametrize(
    "said", ["token=curto", "token= " + SECRET, "o token é " + SECRET, "token=" + "á" * 20, "token="]
)
def test_words_that_are_no_token_stay(said: str) -> None:
    raw = bson.encode({"_id": "m1", "msg": said, "n": 1})
    assert MASK(raw) is raw
    assert MASK.all([raw])[0] is raw


def test_an_id_stays_as_it_is() -> None:
    raw = bson.encode({"_id": CALL, "msg": CALL})
    made = bson.decode(MASK(raw), CODEC)
    assert made["_id"] == CALL
    assert SECRET not in made["msg"]


@pytest.mark.parametrize("next_one", [1, 1.5, "x", None, True, {}, [], b"x", bson.MinKey(), bson.MaxKey()])
def test_bytes_that_no_nul_ends_leave_their_neighbour_whole(next_one: Any) -> None:
    found = masked(data=b"?token=" + SECRET.encode(), neighbour=next_one)
    assert found["neighbour"] == next_one
    assert SECRET.encode() not in found["data"]


def test_cut_off_bytes_do_no_harm() -> None:
    raw = bson.encode({"_id": "m1", "msg": CALL})
    for end in range(len(raw)):
        assert len(MASK(raw[:end])) == end


def test_the_digest_is_the_first_eight_bytes_with_their_sign() -> None:
    raws = [str(n).encode() for n in range(50)]
    expected = 0
    for raw in raws:
        one = int.from_bytes(hashlib.md5(raw, usedforsecurity=False).digest()[:8], "big", signed=True)
        assert digest(raw) == one
        expected ^= one
    assert digests(raws) == expected
    assert {digest(raw) < 0 for raw in raws} == {True, False}
