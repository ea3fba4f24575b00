"""One person's parts out of a webhook."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.native.whatsapp import WhatsApp
from router.control.excision import Person, about, cut, shares_left
from router.domain.channel import Channel
from router.domain.job import Share
from router.storage.queries.erasure import Traces

CHANNEL = Channel("wa", "whatsapp", "sol")
KIND = WhatsApp()
MARIA, JOAO, ANA = "5511987654321", "5521976543210", "5531965432109"


def person(**traces: Any) -> Person:
    return Person("sol", Traces(**traces), tuple(KIND.addresses(CHANNEL, MARIA)))


def body(*writers: str, statuses: tuple[tuple[str, str], ...] = ()) -> bytes:
    value: dict[str, Any] = {"metadata": {"phone_number_id": "1"}}
    value["contacts"] = [
        {"wa_id": one, "profile": {"name": f"nome de {one}"}} for one in dict.fromkeys(writers)
    ]
    value["messages"] = [
        {"from": one, "id": f"wamid.{at}", "timestamp": "1770000000", "type": "text", "text": {"body": f"disse {one}"}}
        for at, one in enumerate(writers)
    ]  # fmt: skip
    value["statuses"] = [
        {"id": wamid, "status": "read", "timestamp": "1770000000", "recipient_id": to}
        for wamid, to in statuses
    ]
    entry = {"id": "waba", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def test_what_others_said_is_left_under_new_names() -> None:
    whole = body(MARIA, JOAO, MARIA, ANA, statuses=(("wamid.a", MARIA), ("wamid.b", JOAO)))
    done = cut(KIND, CHANNEL, whole, person())
    assert done is not None
    assert done.body is not None
    assert MARIA.encode() not in done.body
    before = {part.ref: part for part in KIND.parse(CHANNEL, whole).parts}
    after = {part.ref: part for part in KIND.parse(CHANNEL, done.body).parts}
    assert set(done.names.values()) == set(after)
    for old, new in done.names.items():
        assert before[old].external_id == after[new].external_id
        assert before[old].content == after[new].content
    assert done.external_ids == {"wamid.0", "wamid.2", "wamid.a"}


@given(st.lists(st.sampled_from([MARIA, JOAO, ANA]), min_size=1, max_size=8))
def test_any_batch_loses_hers_and_nothing_else(writers: list[str]) -> None:
    done = cut(KIND, CHANNEL, body(*writers), person())
    others = [one for one in writers if one != MARIA]
    if len(others) == len(writers):
        assert done is None
        return
    assert done is not None
    said = KIND.parse(CHANNEL, done.body).parts if done.body is not None else ()
    assert [part.content.text for part in said if part.content] == [f"disse {one}" for one in others]
    assert MARIA.encode() not in (done.body or b"")


def test_an_event_that_is_all_hers_or_nobodys_is_dropped() -> None:
    for whole in (body(MARIA, MARIA), b"{not json " + MARIA.encode(), b""):
        done = cut(KIND, CHANNEL, whole, person())
        assert done is not None
        assert done.body is None
    assert cut(KIND, CHANNEL, body(JOAO), person()) is None


def test_a_message_is_hers_by_its_id_too() -> None:
    done = cut(KIND, CHANNEL, body(JOAO, ANA), person(external_ids=("wamid.0",)))
    assert done is not None
    assert len(done.names) == 1


def test_what_another_says_of_her_stays_and_a_report_that_names_her_goes() -> None:
    whole = json.loads(body(JOAO))
    value = whole["entry"][0]["changes"][0]["value"]
    value["messages"][0]["text"]["body"] = f"ligue para {MARIA}"
    assert cut(KIND, CHANNEL, json.dumps(whole).encode(), person()) is None
    value["statuses"] = [
        {"id": "wamid.g", "status": "read", "timestamp": "1", "recipient_type": "group", "recipient_id": "GRUPO",
         "recipient_participant_id": MARIA},
    ]  # fmt: skip
    done = cut(KIND, CHANNEL, json.dumps(whole).encode(), person())
    assert done is not None
    assert done.body is not None
    assert b"GRUPO" not in done.body


def test_the_shares_of_a_forward() -> None:
    hers, his = uuid4(), uuid4()
    shares = (Share("a", hers, uuid4()), Share("b", his, uuid4()), Share("c"))
    whose = person(conversations=(hers,))
    assert shares_left(shares, whose, None) == shares[1:]
    left = shares_left(shares, whose, {"b": "a"})
    assert [(one.ref, one.conversation_id) for one in left] == [("a", his)]


@pytest.mark.parametrize(
    ("given_body", "room"),
    [
        (b'{"_id": "r1", "type": "Message"}', "r1"),
        (b'{"channel_id": "r2"}', "r2"),
        (b'{"message_id": "m"}', None),
        (b'{"_id": 7}', None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
def test_which_room_an_event_is_about(given_body: bytes, room: str | None) -> None:
    assert about(given_body) == room


def test_short_addresses_are_not_looked_for() -> None:
    whose = Person("sol", Traces(rooms=("r",)), tuple(KIND.addresses(CHANNEL, "12345")))
    assert whose.needles == ()
