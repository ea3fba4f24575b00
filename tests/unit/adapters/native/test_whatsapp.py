import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import KINDS
from adapters.native.whatsapp import WhatsApp, render
from adapters.native.whatsapp.content import attachments
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.job import Result
from router.domain.message import Alias, Content, Part, PartType, Status
from router.domain.ports import Kind, Outbound

FIXTURES = Path(__file__).parents[3] / "fixtures/whatsapp"
SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared"))
CHANNEL = Channel("zap", "whatsapp", "sol", {"app_secret": "segredo", "phone_number_id": "700100200300400"})
KIND: Kind = WhatsApp()


def body(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def parts(name: str, channel: Channel = CHANNEL) -> tuple[Part, ...]:
    parsed = KIND.parse(channel, body(name))
    assert not parsed.malformed
    return parsed.parts


def wa(number: str, value: str | None = None) -> Alias:
    return Alias("wa_id", "sol", number, value or number)


def bsuid(value: str, scope: str = "880011223344556") -> Alias:
    return Alias("bsuid", scope, value, value)


def test_registered() -> None:
    assert isinstance(KINDS["whatsapp"].kind(), WhatsApp)
    assert KINDS["whatsapp"].kind().name == "whatsapp"


def test_a_text() -> None:
    (part,) = parts("text")
    assert part.ref == "entry/0/changes/0/value/messages/0"
    assert part.type is PartType.MESSAGE
    assert part.address == "700100200300400"
    assert part.external_id == "wamid.FIG1"
    assert part.aliases == (wa("5511988887777"),)
    assert part.name == "Marina Prado"
    assert part.sent_at == datetime.fromtimestamp(1770000001, UTC)
    assert part.content is not None
    assert (part.content.kind, part.content.text) == ("text", "Olá, há horário amanhã? 😀 a/b")
    assert part.content.data["id"] == "wamid.FIG1"


def test_every_kind_of_message() -> None:
    said = [(part.content.kind, part.content.text) for part in parts("every_kind") if part.content]
    assert said == [
        ("image", "minha pele"),
        ("audio", None),
        ("video", None),
        ("document", "exame"),
        ("sticker", None),
        ("location", "Clínica Sol"),
        ("contacts", "Rui, Eva"),
        ("button", "Sim"),
        ("interactive", "Confirmar"),
        ("interactive", "Botox"),
        ("interactive", "Sent"),
        ("reaction", "👍"),
        ("reaction", None),
        ("edit", "corrigido"),
        ("delete", None),
        ("order", "para sábado"),
        ("unsupported", None),
        ("unsupported", None),
        ("text", "sem tipo"),
    ]
    assert {part.type for part in parts("every_kind")} == {PartType.MESSAGE}
    voice = parts("every_kind")[1].content
    assert voice is not None
    assert voice.data["audio"]["voice"] is True


def test_a_batch_keeps_order_addresses_and_people() -> None:
    found = parts("batch")
    assert [(part.type.value, part.external_id, part.address) for part in found] == [
        ("message", "wamid.FIG40", "700100200300400"),
        ("message", "wamid.FIG41", "700100200300400"),
        ("message", "wamid.FIG42", "700100200300400"),
        ("status", "wamid.OUT1", "700100200300400"),
        ("status", "wamid.OUT1", "700100200300400"),
        ("message", "wamid.FIG43", "700100200300401"),
        ("other", None, None),
    ]
    assert [part.name for part in found[:3]] == ["Marina Prado", "Otávio", "Marina Prado"]
    assert found[6].ref == "entry/1/changes/1"
    assert found[6].raw["field"] == "message_template_status_update"


def test_statuses() -> None:
    sent, played, failed, unknown, group = parts("statuses")
    assert (sent.status, sent.callback_data) == (Status.SENT, "figueira-123")
    assert played.status is Status.READ
    assert played.aliases == (wa("5511988887777"), bsuid("BR.501"))
    assert played.sent_at == datetime.fromtimestamp(1770000101, UTC)
    assert (failed.status, failed.error_code) == (Status.FAILED, "131047")
    assert failed.sent_at == datetime.fromtimestamp(1770000000, UTC)
    assert (unknown.type, unknown.status, unknown.sent_at) == (PartType.STATUS, None, None)
    assert group.aliases == (wa("5511988887777"),)


def test_user_ids_join_the_person_they_belong_to() -> None:
    phone, scoped, in_from, nobody = parts("user_ids")
    # The contact's spelling of the number is another, its key is the same.
    assert phone.aliases == (wa("5531988887777"), bsuid("BR.600700"))
    assert scoped.aliases == (wa("5531988887777", "553188887777"), bsuid("BR.600700"))
    assert scoped.name == "Nara"
    assert in_from.aliases == (bsuid("BR.600800"),)
    assert in_from.name is None
    assert [(alias.kind, alias.scope) for alias in nobody.aliases] == [("message", "zap")]


def test_portfolio_is_the_scope_when_set() -> None:
    channel = Channel("zap", "whatsapp", "sol", {"portfolio": "P1"})
    assert bsuid("BR.600800", "P1") in parts("user_ids", channel)[2].aliases


def envelope(**value: Any) -> bytes:
    return json.dumps({"entry": [{"id": "W", "changes": [{"field": "messages", "value": value}]}]}).encode()


def one(**value: Any) -> Part:
    (part,) = KIND.parse(CHANNEL, envelope(**value)).parts
    return part


def test_a_lone_contact_belongs_to_a_lone_message() -> None:
    message = {"id": "1", "type": "text", "text": {"body": "oi"}}
    part = one(contacts=[{"wa_id": "5511988887777", "user_id": "BR.1"}], messages=[message])
    assert part.aliases == (wa("5511988887777"), bsuid("BR.1", "W"))
    parent = one(contacts=[{"profile": {"name": "Z"}, "parent_user_id": "BR.ENT.7"}], messages=[message])
    assert [alias.kind for alias in parent.aliases] == ["parent_bsuid"]


def test_a_lone_contact_with_another_number_is_another_person() -> None:
    message = {"from": "5511900001111", "id": "1", "type": "text", "text": {"body": "oi"}}
    part = one(
        contacts=[{"wa_id": "5511988887777", "user_id": "BR.1", "profile": {"name": "X"}}], messages=[message]
    )
    assert part.aliases == (wa("5511900001111"),)
    assert part.name is None


def test_changes_of_number_and_id() -> None:
    found = parts("changed")
    assert {part.type for part in found} == {PartType.IDENTITY}
    first, second, third, fourth, fifth = found
    for part in (first, second):
        assert part.aliases == (wa("5511988887777"),)
        assert part.new_aliases == (wa("5511944443333"),)
    assert (third.aliases, third.new_aliases) == ((bsuid("BR.1"),), (bsuid("BR.2"),))
    assert fourth.aliases == (wa("5531988887777"), bsuid("BR.1"))
    assert fourth.new_aliases == (bsuid("BR.2"),)
    assert fourth.ref == "entry/0/changes/3/value/user_id_update/0"
    assert (fifth.aliases, fifth.new_aliases) == ((wa("5511988887777"),), ())


def test_an_echo_is_addressed_to_the_contact() -> None:
    (part,) = parts("echo")
    assert part.type is PartType.ECHO
    assert part.aliases == (wa("5511988887777"), bsuid("BR.501"))
    assert part.content is not None
    assert part.content.text == "respondi do celular"


def test_what_is_no_message_is_one_part_a_change() -> None:
    found = parts("other")
    assert [part.ref for part in found] == [f"entry/0/changes/{at}" for at in range(6)]
    assert {part.type for part in found} == {PartType.OTHER}


def test_errors_beside_messages_make_no_part_of_their_own() -> None:
    part = one(
        messages=[{"from": "5511988887777", "id": "1", "type": "interactive"}], errors=[{"code": 131000}]
    )
    assert part.type is PartType.MESSAGE


def test_strange_shapes_are_kept_as_other() -> None:
    raw = b'{"entry":[1,{"id":2},{"changes":[null,{"value":{"messages":[7,{"from":true,"id":[],"timestamp":{}}]}}]}]}'
    found = KIND.parse(CHANNEL, raw).parts
    assert [(part.ref, part.type.value) for part in found] == [
        ("entry/0", "other"),
        ("entry/1", "other"),
        ("entry/2/changes/0", "other"),
        ("entry/2/changes/1/value/messages/0", "other"),
        ("entry/2/changes/1/value/messages/1", "message"),
    ]
    assert found[4].external_id is None
    assert len(found[4].aliases) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'"x"', b'{"entry":{}}', b"{}", b'{"entry":[' + b"[" * 9000]
)
def test_malformed(raw: bytes) -> None:
    assert KIND.parse(CHANNEL, raw).malformed


def test_lone_surrogates_and_nul_become_storable() -> None:
    raw = envelope(
        messages=[{"from": "5511988887777", "id": "a\x00b", "type": "text", "text": {"body": "x\ud800y\x00"}}]
    )
    (part,) = KIND.parse(CHANNEL, raw).parts
    assert part.external_id == "a\ufffdb"
    assert part.content is not None
    assert part.content.text == "x\ufffdy\ufffd"


# total -----------------------------------------------------------------------------------------------------

LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8)
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One of our payloads with a few of its values replaced by anything."""
    document = json.loads(body(draw(st.sampled_from(sorted(path.stem for path in FIXTURES.glob("*.json"))))))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(places(document))))
        holder[key] = draw(VALUE)
        if not list(places(document)):
            break
    return json.dumps(document).encode()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield value, key
        yield from places(item)


def storable(part: Part) -> None:
    orjson.dumps([part.raw, part.content.data if part.content else None, part.name])
    for alias in (*part.aliases, *part.new_aliases):
        assert alias.lookup
        alias.lookup.encode()


@given(mutated())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
def test_nothing_makes_it_raise(raw: bytes) -> None:
    parsed = KIND.parse(CHANNEL, raw)
    refs = [part.ref for part in parsed.parts]
    assert len(set(refs)) == len(refs)
    for part in parsed.parts:
        storable(part)
    KIND.divide(raw, refs[::2])


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    KIND.parse(CHANNEL, raw)
    KIND.divide(raw, ["entry/0"])


# addresses and rendering -----------------------------------------------------------------------------------


def test_addresses() -> None:
    assert KIND.addresses(CHANNEL, "553196880001") == (wa("5531996880001", "553196880001"),)
    assert KIND.addresses(CHANNEL, "+553196880001") == (wa("5531996880001", "553196880001"),)
    (alias,) = KIND.addresses(Channel("z", "whatsapp", "sol", {"portfolio": "P"}), "BR.600700")
    assert alias == bsuid("BR.600700", "P")
    # Without a portfolio the WABA an id belongs to is not known, and a guess would make a second person.
    for wrong in ("", "abc", "12", "+55 11", "a@b.c", "br.123", "BR.", "٥٥١١٩٨٨٨٨", "1" * 30, "BR.600700"):
        with pytest.raises(Rejected) as caught:
            KIND.addresses(CHANNEL, wrong)
        assert caught.value.code == "invalid_recipient"


def outbound(*to: Alias, text: str = "Olá", kind: str = "text") -> Outbound:
    return Outbound(CHANNEL, to, Content(kind, text), "cb-1")


def test_rendering() -> None:
    assert render(outbound(bsuid("BR.1"), wa("5531996880001", "553196880001"))) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "553196880001",
        "type": "text",
        "text": {"body": "Olá"},
        "biz_opaque_callback_data": "cb-1",
    }
    scoped = render(outbound(bsuid("BR.1")))
    assert not isinstance(scoped, Result)
    assert scoped["recipient"] == "BR.1"
    assert "to" not in scoped


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (outbound(wa("1"), text="x" * 4097), "too_long"),
        (outbound(wa("1"), kind="image"), "no_file"),
        (outbound(wa("1"), kind="edit"), "unsupported"),
        (outbound(wa("1"), text=""), "unsupported"),
        (outbound(Alias("message", "zap", "m", "m")), "no_address"),
    ],
)
def test_what_cannot_be_rendered(said: Outbound, code: str) -> None:
    refused = render(said)
    assert isinstance(refused, Result)
    assert (refused.outcome.value, refused.code) == ("permanent", code)


# shared samples --------------------------------------------------------------------------------------------


def counted(document: Any, key: str) -> list[Any]:
    """Every object in a list called `key`, found by walking, not by knowing the shape."""
    if isinstance(document, list):
        return [found for item in document for found in counted(item, key)]
    if not isinstance(document, dict):
        return []
    own = [item for item in document.get(key, []) if isinstance(document.get(key), list)]
    return own + [found for item in document.values() for found in counted(item, key)]


def test_shared_samples() -> None:
    folder = SHARED / "samples/whatsapp"
    if not folder.exists():
        pytest.skip(f"NO SHARED SAMPLES at {folder}: set FIGUEIRA_SHARED")
    paths = sorted(folder.glob("*.json"))
    assert len(paths) == 132
    known, messages, ids = set(), 0, set()
    for path in paths:
        raw = path.read_bytes()
        parsed = KIND.parse(CHANNEL, raw)
        assert parsed.parts, path.name
        assert not parsed.malformed
        said = [part for part in parsed.parts if part.content]
        system = [part for part in parsed.parts if part.type is PartType.IDENTITY]
        entries = json.loads(raw)["entry"]
        objects = counted(entries, "messages") + counted(entries, "message_echoes")
        assert len(said) + len(system) == len(objects), path.name
        messages += len(objects)
        ids |= {part.external_id for part in (*said, *system)}
        known |= {item["id"] for item in objects}
        for part in parsed.parts:
            storable(part)
            assert KIND.parse(CHANNEL, KIND.divide(raw, [part.ref])).parts[0].raw == part.raw
    assert (messages, len(ids), ids) == (80, 49, known)


@pytest.mark.parametrize(
    ("given", "name"),
    [("laudo\u202efdp.exe", "laudofdp.exe"), ("../a\r\nb.pdf", "ab.pdf"), ("\u2066\u2069", None), (7, None)],
)
def test_a_files_name_is_cleaned_as_an_uploads_is(given: object, name: str | None) -> None:
    item = {"type": "document", "document": {"id": "55", "filename": given}}
    assert [one.name for one in attachments(item)] == [name]
