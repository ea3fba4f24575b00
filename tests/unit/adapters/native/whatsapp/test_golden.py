"""Whole payloads against what stands written beside them; nothing here is written by the parser itself."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from adapters.native.whatsapp import WhatsApp
from router.domain.channel import Channel
from router.domain.message import Alias, Part
from router.domain.ports import Kind

FIXTURES = Path(__file__).parents[4] / "fixtures/whatsapp"
CASES = sorted(path.stem for path in (FIXTURES / "kinds").glob("*.json"))
SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared"))
SETTINGS = {"app_secret": "segredo", "phone_number_id": "700100200300400"}
CHANNEL = Channel("zap", "whatsapp", "sol", {**SETTINGS, "previous_phone_number_id": "700100200300399"})
KIND: Kind = WhatsApp()


def told(part: Part) -> dict[str, Any]:
    """A part as plain JSON, without what it does not say."""
    content = part.content
    found = {
        "ref": part.ref,
        "type": part.type.value,
        "address": part.address,
        "external_id": part.external_id,
        "aliases": [written(alias) for alias in part.aliases],
        "name": part.name,
        "kind": content.kind if content else None,
        "text": content.text if content else None,
        "sent_at": part.sent_at.isoformat() if part.sent_at else None,
        "status": part.status.value if part.status else None,
        "error_code": part.error_code,
        "callback_data": part.callback_data,
        "new_aliases": [written(alias) for alias in part.new_aliases],
        "files": [
            {key: value for key in ("ref", "mime", "name", "sha256", "size") if (value := getattr(file, key))}
            for file in part.files
        ],
        "billed": part.billed,
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def written(alias: Alias) -> list[str]:
    return [alias.kind, alias.scope, alias.lookup, alias.value]


def test_there_is_something_to_compare() -> None:
    assert len(CASES) == 60
    assert sorted(path.stem for path in (FIXTURES / "kinds").glob("*.expected")) == CASES


@pytest.mark.parametrize("name", CASES)
def test_kinds(name: str) -> None:
    parsed = KIND.parse(CHANNEL, (FIXTURES / f"kinds/{name}.json").read_bytes())
    assert not parsed.malformed
    expected = json.loads((FIXTURES / f"kinds/{name}.expected").read_text("utf-8"))
    assert [told(part) for part in parsed.parts] == expected


@pytest.mark.parametrize("name", CASES)
def test_a_message_keeps_what_the_provider_said(name: str) -> None:
    for part in KIND.parse(CHANNEL, (FIXTURES / f"kinds/{name}.json").read_bytes()).parts:
        if part.content is not None:
            assert part.content.data == part.raw
            assert part.raw["id"] == part.external_id


@pytest.mark.parametrize("name", CASES)
def test_dividing_changes_no_part(name: str) -> None:
    raw = (FIXTURES / f"kinds/{name}.json").read_bytes()
    whole = KIND.parse(CHANNEL, raw).parts
    kept = KIND.parse(CHANNEL, KIND.divide(raw, {part.ref for part in whole})).parts
    assert [(part.content, part.raw) for part in kept] == [(part.content, part.raw) for part in whole]
    for part in whole:
        (alone,) = KIND.parse(CHANNEL, KIND.divide(raw, {part.ref})).parts
        assert (alone.type, alone.raw, alone.files) == (part.type, part.raw, part.files)


def test_dividing_a_flat_body_takes_the_others_contact_out() -> None:
    raw = (FIXTURES / "kinds/flat_document_of_two_people.json").read_bytes()
    divided = json.loads(KIND.divide(raw, {"messages/1"}))
    assert [contact["wa_id"] for contact in divided["contacts"]] == ["5511987650001"]
    assert [message["id"] for message in divided["messages"]] == ["ABEG4"]
    assert KIND.parse(CHANNEL, KIND.divide(raw, [])).parts[0].type.value == "other"


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"1", b'{"messages": {}}', b'{"entry": {}}', b'{"calls": []}'])
def test_what_is_neither_shape_is_malformed(raw: bytes) -> None:
    parsed = KIND.parse(CHANNEL, raw)
    assert (parsed.malformed, parsed.parts) == (True, ())


# Per shared sample its parts, as `summary` gives them: of what was said only the digest.
SUMMARIES = FIXTURES / "shared/summaries.json"


def summary(part: Part) -> list[Any]:
    """Type, content kind, SHA-256 of the text, status, error code, files, billed, aliases (files, aliases: how many)."""
    text = part.content.text if part.content else None
    return [
        part.type.value,
        part.content.kind if part.content else None,
        hashlib.sha256(text.encode()).hexdigest() if text is not None else None,
        part.status.value if part.status else None,
        part.error_code,
        len(part.files),
        part.billed,
        len(part.aliases),
    ]


def test_shared_samples() -> None:
    folder = SHARED / "samples/whatsapp"
    if not folder.exists():
        pytest.skip(f"NO SHARED SAMPLES at {folder}: set FIGUEIRA_SHARED")
    expected = json.loads(SUMMARIES.read_text("utf-8"))
    found = {
        path.name: [summary(part) for part in KIND.parse(CHANNEL, path.read_bytes()).parts]
        for path in sorted(folder.glob("*.json"))
    }
    assert len(expected) == 132
    assert found == expected
