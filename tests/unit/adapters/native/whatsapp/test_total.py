import json
from collections.abc import Iterable
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.native.whatsapp import WhatsApp, check, render
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.job import Outcome, Result
from router.domain.message import Alias, Content, Part, PartType
from router.domain.ports import Kind, Outbound

KIND: Kind = WhatsApp()
CHANNEL = Channel("zap", "whatsapp", "sol", {"phone_number_id": "700", "previous_phone_number_id": "699"})
LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8)
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
NAMES = st.sampled_from(
    [
        "id",
        "from",
        "from_user_id",
        "group_id",
        "to",
        "timestamp",
        "type",
        "text",
        "image",
        "audio",
        "voice",
        "document",
        "sticker",
        "location",
        "contacts",
        "button",
        "interactive",
        "reaction",
        "edit",
        "revoke",
        "order",
        "system",
        "status",
        "errors",
        "pricing",
        "sha256",
        "mime_type",
        "caption",
        "body",
        "recipient_id",
        "recipient_type",
        "profile",
        "wa_id",
        "user_id",
        "message",
    ]
)
ITEM = st.dictionaries(NAMES, VALUE | st.dictionaries(NAMES, VALUE, max_size=4), max_size=6)
LISTS = st.sampled_from(
    ["messages", "statuses", "message_echoes", "user_id_update", "errors", "contacts", "metadata"]
)
FLAT = st.dictionaries(LISTS, st.lists(ITEM | VALUE, max_size=3) | VALUE, max_size=4)
CHANGE = st.fixed_dictionaries({"field": VALUE, "value": FLAT | VALUE})
ENVELOPE = st.fixed_dictionaries(
    {"entry": st.lists(st.fixed_dictionaries({"id": VALUE, "changes": st.lists(CHANGE, max_size=2) | VALUE}))}
)
TOTAL = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)


def anything(raw: bytes) -> None:
    parts = KIND.parse(CHANNEL, raw).parts
    refs = [part.ref for part in parts]
    assert len(set(refs)) == len(refs)
    for part in parts:
        orjson.dumps([part.raw, part.content.data if part.content else None, part.name, part.billed])
        assert all(alias.lookup for alias in (*part.aliases, *part.new_aliases))
    KIND.divide(raw, refs[::2])
    assert told(KIND.parse(CHANNEL, KIND.divide(raw, refs)).parts) == told(parts)
    KIND.resign(CHANNEL, [(b"x-360dialog-signature", b"x")], raw)


def told(parts: Iterable[Part]) -> bytes:
    """All but what a body without any part is kept as."""
    return orjson.dumps([part.raw for part in parts if part.type is not PartType.OTHER])


@given(FLAT)
@TOTAL
def test_no_flat_body_makes_it_raise(document: dict[str, Any]) -> None:
    anything(json.dumps(document).encode())


@given(ENVELOPE)
@TOTAL
def test_no_envelope_makes_it_raise(document: dict[str, Any]) -> None:
    anything(json.dumps(document).encode())


@given(VALUE)
def test_no_json_makes_it_raise(document: Any) -> None:
    anything(json.dumps(document).encode())


@given(st.binary(max_size=200), st.lists(st.text(max_size=8), max_size=3))
def test_no_bytes_make_it_raise(raw: bytes, keep: list[str]) -> None:
    KIND.parse(CHANNEL, raw)
    KIND.divide(raw, keep)
    KIND.verify(CHANNEL, [(b"x-360dialog-signature", raw), (b"x-figueira-token", raw)], raw)


KINDS = [
    "text",
    "image",
    "audio",
    "sticker",
    "document",
    "template",
    "interactive",
    "location",
    "contacts",
    "reaction",
    "edit",
]
FIELDS = [
    "media_id",
    "filename",
    "voice",
    "preview_url",
    "template",
    "interactive",
    "location",
    "contacts",
    "message_id",
    "emoji",
    "reply_to",
    "name",
    "language",
    "code",
    "components",
    "type",
    "body",
    "action",
    "buttons",
    "reply",
    "title",
    "id",
    "sections",
    "rows",
    "latitude",
    "longitude",
    "parameters",
    "flow_cta",
    "url",
    "header",
    "footer",
    "text",
    "formatted_name",
]
DATA = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)


@given(
    st.sampled_from(KINDS) | st.text(max_size=5),
    LEAF,
    st.dictionaries(st.sampled_from(FIELDS), DATA, max_size=5),
    st.sampled_from([None, "wamid.1"]),
)
@TOTAL
def test_nothing_makes_a_check_raise_anything_else(
    kind: str, text: Any, data: dict[str, Any], context: str | None
) -> None:
    content = Content(kind, text, data)
    try:
        check(content)
    except Rejected as refused:
        assert refused.code in {"unsupported", "invalid_content"}  # noqa: PT017 - both ways are right
        return
    to = (Alias("wa_id", "sol", "5511987650001", "5511987650001"),)
    body = render(Outbound(CHANNEL, to, content, "cb", context_id=context, file_id="77"))
    if isinstance(body, Result):
        assert body == Result(Outcome.PERMANENT, code="no_context")
        assert kind == "reaction"
    else:
        json.dumps(body, allow_nan=False)
