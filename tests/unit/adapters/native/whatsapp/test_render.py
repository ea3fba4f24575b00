from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from adapters.native.whatsapp import CAPABILITIES, WhatsApp, render
from adapters.payload import moment
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.media import Media, Origin
from router.domain.message import Alias, Content
from router.domain.ports import Kind, Outbound, Rules

KIND: Kind = WhatsApp()
CHANNEL = Channel("zap", "whatsapp", "sol", {"phone_number_id": "700"})
JULIA = Alias("wa_id", "sol", "5511987650001", "5511987650001")


def outbound(
    kind: str, text: str | None = None, data: Mapping[str, Any] | None = None, **more: Any
) -> Outbound:
    return Outbound(CHANNEL, (JULIA,), Content(kind, text, data or {}), "cb-1", **more)


def file(name: str | None) -> Media:
    at = moment(1772452800)
    assert at
    return Media(UUID(int=7), "sol", "zap", Origin.UPLOAD, "r", at, name=name)


LIST = {"type": "list", "action": {"button": "Ver", "sections": []}}
TEMPLATE = {"name": "lembrete", "language": {"code": "pt_BR"}, "components": [{"type": "body"}]}
CARDS = [{"name": {"formatted_name": "Dra. Bia"}}]
PLACE = {"latitude": -23.5, "longitude": -46.6, "address": "Rua A"}


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (outbound("text", "Olá"), {"body": "Olá"}),
        (outbound("text", "veja", {"preview_url": True}), {"body": "veja", "preview_url": True}),
        (outbound("text", "veja", {"preview_url": False}), {"body": "veja"}),
        (outbound("image", "antes", file_id="55"), {"id": "55", "caption": "antes"}),
        (outbound("image", None, {"filename": "a.jpg"}, file_id="55"), {"id": "55"}),
        (outbound("video", "", file_id="55"), {"id": "55"}),
        (
            outbound("document", "laudo", {"filename": "laudo.pdf"}, file_id="55", media=file("x")),
            {"id": "55", "caption": "laudo", "filename": "laudo.pdf"},
        ),
        (
            outbound("document", file_id="55", media=file("preparo.pdf")),
            {"id": "55", "filename": "preparo.pdf"},
        ),
        (outbound("document", file_id="55", media=file(None)), {"id": "55"}),
        (outbound("audio", None, {"voice": True}, file_id="55"), {"id": "55", "voice": True}),
        (outbound("audio", None, {"voice": False}, file_id="55"), {"id": "55"}),
        (outbound("sticker", file_id="55"), {"id": "55"}),
        (outbound("audio", "não cabe", file_id="55"), {"id": "55"}),
        (outbound("template", None, {"template": TEMPLATE}), TEMPLATE),
        (outbound("interactive", "Escolha", {"interactive": LIST}), {"body": {"text": "Escolha"}, **LIST}),
        (
            outbound("interactive", "x", {"interactive": {**LIST, "body": {"text": "seu"}}}),
            {**LIST, "body": {"text": "seu"}},
        ),
        (outbound("location", "Clínica Sol", {"location": PLACE}), {"name": "Clínica Sol", **PLACE}),
        (outbound("location", None, {"location": PLACE}), PLACE),
        (outbound("contacts", None, {"contacts": CARDS}), CARDS),
        (outbound("reaction", "👍", context_id="wamid.9"), {"message_id": "wamid.9", "emoji": "👍"}),
        (outbound("reaction", "", context_id="wamid.9"), {"message_id": "wamid.9", "emoji": ""}),
        (
            outbound("reaction", None, {"emoji": "❤️"}, context_id="wamid.9"),
            {"message_id": "wamid.9", "emoji": "❤️"},
        ),
    ],
)
def test_bodies(said: Outbound, body: Any) -> None:
    assert render(said) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511987650001",
        "type": said.content.kind,
        said.content.kind: body,
        "biz_opaque_callback_data": "cb-1",
    }


def test_a_reply_names_what_it_answers_and_goes_without_when_that_is_unknown() -> None:
    said = render(outbound("image", None, {"reply_to": "x"}, file_id="55", context_id="wamid.9"))
    assert not isinstance(said, Result)
    assert said["context"] == {"message_id": "wamid.9"}
    alone = render(outbound("text", "oi", {"reply_to": "x"}))
    assert not isinstance(alone, Result)
    assert "context" not in alone


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (outbound("reaction", "👍"), "no_context"),
        (outbound("image", "x"), "no_file"),
        (outbound("template"), "invalid_content"),
        (outbound("interactive", "x", {"interactive": []}), "invalid_content"),
        (outbound("location", None, {"location": 5}), "invalid_content"),
        (outbound("contacts", None, {"contacts": {}}), "invalid_content"),
        (outbound("contacts", None, {"contacts": []}), "invalid_content"),
        (outbound("order", "x"), "unsupported"),
        (outbound("image", "x" * 4097, file_id="5"), "too_long"),
    ],
)
def test_what_cannot_be_written(said: Outbound, code: str) -> None:
    assert render(said) == Result(Outcome.PERMANENT, code=code, asked=False)


def test_rules() -> None:
    assert KIND.rules(CHANNEL) == Rules(
        sends=frozenset(CAPABILITIES["sends"]),
        text_limit=4096,
        window_hours=24,
        per_second=80,
        pair_seconds=6,
        pair_burst=45,
        media_days=7,
        upload_days=29,
    )
    own = Channel("z", "whatsapp", "sol", {"throughput": "20", "pair_seconds": "1.5", "pair_burst": "3"})
    rules = KIND.rules(own)
    assert (rules.per_second, rules.pair_seconds, rules.pair_burst) == (20, 1.5, 3)
    for wrong in ("", "x", "-1", "0", "nan", "inf"):
        rules = KIND.rules(Channel("z", "whatsapp", "sol", {"throughput": wrong, "pair_burst": wrong}))
        assert (rules.per_second, rules.pair_burst) == (80, 45), wrong
    assert "template" in rules.outside_window


@pytest.mark.parametrize(
    ("kind", "mime", "size", "code"),
    [
        ("image", "image/jpeg", 5 * 1024 * 1024, None),
        ("image", "image/jpeg", 5 * 1024 * 1024 + 1, "too_large"),
        ("image", "image/webp", 9, "type"),
        ("sticker", "image/webp", 9, None),
        ("audio", "audio/ogg; codecs=opus", 9, None),
        ("video", "application/pdf", 9, "type"),
        ("document", "image/webp", 60 * 1024 * 1024, None),
    ],
)
def test_a_file_of_another_type_or_size_is_refused_before_it_leaves(
    kind: str, mime: str, size: int, code: str | None
) -> None:
    stored = replace(file("a"), mime=mime, size=size)
    written = render(outbound(kind, file_id="55", media=stored))
    assert (written.code if isinstance(written, Result) else None) == code
