import math
from typing import Any

import pytest

from adapters.native.whatsapp import CAPABILITIES, WhatsApp
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.message import Content
from router.domain.ports import Kind

KIND: Kind = WhatsApp()
CHANNEL = Channel("zap", "whatsapp", "sol")
MEDIA = {"media_id": "0198c0de"}


def button(title: str = "Sim", key: str = "s") -> dict[str, Any]:
    return {"type": "reply", "reply": {"id": key, "title": title}}


def buttons(*which: Any, **more: Any) -> dict[str, Any]:
    return {"type": "button", "body": {"text": "Confirma?"}, "action": {"buttons": list(which)}, **more}


def row(at: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": f"r{at}", "title": f"Horário {at}", **more}


def listed(*sections: Any, button: Any = "Ver horários", **more: Any) -> dict[str, Any]:
    action = {"button": button, "sections": list(sections)}
    return {"type": "list", "body": {"text": "Escolha"}, "action": action, **more}


def link(**parameters: Any) -> dict[str, Any]:
    return {
        "type": "cta_url",
        "body": {"text": "Pague"},
        "action": {"name": "cta_url", "parameters": parameters},
    }


def flow(**parameters: Any) -> dict[str, Any]:
    return {
        "type": "flow",
        "body": {"text": "Cadastro"},
        "action": {"name": "flow", "parameters": parameters},
    }


def interactive(given: Any, text: str | None = None) -> Content:
    return Content("interactive", text, {"interactive": given})


def template(**given: Any) -> Content:
    return Content(
        "template", None, {"template": {"name": "lembrete", "language": {"code": "pt_BR"}, **given}}
    )


def place(latitude: Any = -23.5, longitude: Any = -46.6, **more: Any) -> Content:
    return Content("location", None, {"location": {"latitude": latitude, "longitude": longitude, **more}})


def cards(*which: Any) -> Content:
    return Content("contacts", None, {"contacts": list(which)})


def reaction(text: Any = "👍", **data: Any) -> Content:
    return Content("reaction", text, {"message_id": "0198", **data})


GOOD = {
    "text": Content("text", "x" * 4096, {"preview_url": True}),
    "reply": Content("text", "oi", {"reply_to": "0198"}),
    "image": Content("image", "x" * 1024, MEDIA),
    "video": Content("video", None, MEDIA),
    "document": Content("document", "laudo", {**MEDIA, "filename": "laudo.pdf"}),
    "voice": Content("audio", None, {**MEDIA, "voice": True}),
    "sticker": Content("sticker", None, MEDIA),
    "template": template(components=[{"type": "body", "parameters": [{"type": "text", "text": "Júlia"}]}]),
    "bare template": template(),
    "three buttons": interactive(buttons(button("a" * 20, "1"), button("b", "2"), button("c", "3"))),
    "words as body": interactive({"type": "button", "action": {"buttons": [button()]}}, "Confirma?"),
    "edges": interactive(
        buttons(button(), header={"type": "text", "text": "h" * 60}, footer={"text": "f" * 60})
    ),
    "image above": interactive(buttons(button(), header={"type": "image", "image": {"id": "1"}})),
    "list": interactive(listed({"rows": [row(at, description="d" * 72) for at in range(10)]})),
    "sections": interactive(
        listed({"title": "Manhã", "rows": [row(1)]}, {"title": "Tarde", "rows": [row(2)]})
    ),
    "link": interactive(link(display_text="Pagar", url="https://pague.example/1")),
    "flow": interactive(flow(flow_cta="c" * 30, flow_id="77")),
    "ask for the place": interactive(
        {"type": "location_request_message", "body": {"text": "Onde?"}, "action": {"name": "send_location"}}
    ),
    "product": interactive({"type": "product", "action": {"catalog_id": "1", "product_retailer_id": "2"}}),
    "type of tomorrow": interactive({"type": "poll", "body": {"text": "?"}, "action": {"x": 1}}),
    "place": place(90, -180, name="Polo"),
    "named place": Content("location", "Clínica", {"location": {"latitude": 0, "longitude": 0.5}}),
    "cards": cards({"name": {"formatted_name": "Bia"}, "phones": [{"phone": "+55 11 98765-0001"}]}),
    "reaction": reaction("👨‍👩‍👧‍👦"),
    "reaction back": reaction(""),
    "emoji in data": reaction(None, emoji="❤️"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    KIND.check(CHANNEL, GOOD[name])


def test_every_kind_is_among_the_good() -> None:
    assert {content.kind for content in GOOD.values()} == set(CAPABILITIES["sends"])


BAD: list[tuple[Content, str]] = [
    (Content("text"), "text"),
    (Content("text", " \n"), "text"),
    (Content("text", "x" * 4097), "text"),
    (Content("text", 5), "text"),  # type: ignore[arg-type]
    (Content("text", "a", []), "data"),  # type: ignore[arg-type]
    (Content("text", "a", {"x": math.nan}), "data"),
    (Content("text", "a", {"x": {1, 2}}), "data"),
    (Content("text", "a", {"preview_url": "yes"}), "preview_url"),
    (Content("text", "a", {"reply_to": 5}), "reply_to"),
    (Content("image"), "media_id"),
    (Content("image", None, {"media_id": 5}), "media_id"),
    (Content("image", "x" * 1025, MEDIA), "text"),
    (Content("audio", "legenda", MEDIA), "text"),
    (Content("sticker", "legenda", MEDIA), "text"),
    (Content("audio", None, {**MEDIA, "voice": 1}), "voice"),
    (Content("document", None, {**MEDIA, "filename": "x" * 241}), "filename"),
    (Content("template"), "template"),
    (Content("template", "palavras", template().data), "text"),
    (template(name="Lembrete"), "template.name"),
    (template(name=""), "template.name"),
    (template(name="a" * 513), "template.name"),
    (template(language="pt_BR"), "template.language"),
    (template(language={"code": "português"}), "template.language.code"),
    (template(language={"code": "pt-BR"}), "template.language.code"),
    (template(components={"type": "body"}), "template.components"),
    (template(components=[{"parameters": []}]), "template.components[].type"),
    (template(components=[{"type": "body", "parameters": "x"}]), "template.components[].parameters"),
    (Content("interactive", "x"), "interactive"),
    (interactive({"body": {"text": "x"}}), "interactive.type"),
    (interactive({"type": "button", "action": {"buttons": [button()]}}), "interactive.body.text"),
    (interactive(buttons(button(), body=None)), "interactive.body"),
    (interactive(buttons(button(), body={"text": "x" * 1025})), "interactive.body.text"),
    (interactive({"type": "button", "action": {"buttons": [button()]}}, "x" * 1025), "interactive.body.text"),
    (interactive(buttons(button(), footer={"text": "f" * 61})), "interactive.footer.text"),
    (interactive(buttons(button(), footer="f")), "interactive.footer"),
    (interactive(buttons(button(), header={"type": ["text"]})), "interactive.header.type"),
    (interactive(buttons(button(), header={"type": "text", "text": "h" * 61})), "interactive.header.text"),
    (interactive({"type": "button", "body": {"text": "x"}}), "interactive.action"),
    (interactive(buttons()), "interactive.action.buttons"),
    (interactive(buttons(*(button(str(at), str(at)) for at in range(4)))), "interactive.action.buttons"),
    (interactive(buttons(button("t" * 21))), "interactive.action.buttons[].reply.title"),
    (interactive(buttons(button(key=""))), "interactive.action.buttons[].reply.id"),
    (interactive(buttons(button("Sim", "1"), button("Não", "1"))), "interactive.action.buttons"),
    (interactive(buttons(button("Sim", "1"), button("Sim", "2"))), "interactive.action.buttons"),
    (interactive(buttons({"type": "reply"})), "interactive.action.buttons[0].reply"),
    (interactive(listed()), "interactive.action.sections"),
    (interactive(listed({"rows": []})), "interactive.action.sections[].rows"),
    (interactive(listed({"rows": [row(at) for at in range(11)]})), "interactive.action.sections[].rows"),
    (
        interactive(
            listed(
                {"title": "a", "rows": [row(at) for at in range(6)]},
                {"title": "b", "rows": [row(at) for at in range(6, 12)]},
            )
        ),
        "interactive.action.sections",
    ),
    (interactive(listed({"rows": [row(1)]}, {"rows": [row(2)]})), "interactive.action.sections[].title"),
    (
        interactive(listed({"title": "t" * 25, "rows": [row()]})),
        "interactive.action.sections[].title",
    ),
    (interactive(listed({"rows": [row(title="t" * 25)]})), "interactive.action.sections[].rows[].title"),
    (
        interactive(listed({"rows": [row(description="d" * 73)]})),
        "interactive.action.sections[].rows[].description",
    ),
    (interactive(listed({"rows": [row(1), row(1)]})), "interactive.action.sections"),
    (interactive(listed({"rows": [row()]}, button="b" * 21)), "interactive.action.button"),
    (interactive(link(display_text="Pagar")), "interactive.action.parameters.url"),
    (interactive(link(display_text="Pagar", url="pague.example")), "interactive.action.parameters.url"),
    (interactive(link(url="https://a.example")), "interactive.action.parameters.display_text"),
    (interactive(flow(flow_cta="c" * 31, flow_id="7")), "interactive.action.parameters.flow_cta"),
    (interactive(flow(flow_cta="Abrir")), "interactive.action.parameters"),
    (
        interactive({"type": "location_request_message", "body": {"text": "?"}, "action": {"name": "x"}}),
        "interactive.action.name",
    ),
    (Content("location", "x"), "location"),
    (place(latitude=90.01), "location.latitude"),
    (place(longitude=-180.5), "location.longitude"),
    (place(latitude="-23.5"), "location.latitude"),
    (place(latitude=True), "location.latitude"),
    (place(latitude=10**400), "location.latitude"),
    (place(latitude=None), "location.latitude"),
    (place(name=7), "location.name"),
    (Content("contacts"), "contacts"),
    (cards(), "contacts"),
    (cards("Bia"), "contacts[0]"),
    (cards({"phones": []}), "contacts[].name"),
    (cards({"name": {"first_name": "Bia"}}), "contacts[].name.formatted_name"),
    (cards({"name": {"formatted_name": "Bia"}, "phones": {}}), "contacts[].phones"),
    (Content("reaction", "👍"), "message_id"),
    (reaction(None), "emoji"),
    (reaction("ok"), "emoji"),
    (reaction("👍" * 33), "emoji"),
]


@pytest.mark.parametrize(("content", "where"), BAD)
def test_bad(content: Content, where: str) -> None:
    with pytest.raises(Rejected) as caught:
        KIND.check(CHANNEL, content)
    assert caught.value.code == "invalid_content"
    assert caught.value.status == 422
    assert str(caught.value).startswith(f"`{where}` must ")


@pytest.mark.parametrize("kind", ["", "order", "edit", "unsupported", "text ", "TEXT"])
def test_kinds_that_do_not_leave(kind: str) -> None:
    with pytest.raises(Rejected) as caught:
        KIND.check(CHANNEL, Content(kind, "x"))
    assert caught.value.code == "unsupported"


def test_a_refusal_repeats_nothing_of_what_was_said() -> None:
    secret = "laudo-da-paciente"
    for content in (
        Content("text", secret * 400),
        interactive(buttons(button(secret * 2))),
        template(name=secret),
        Content("text", "a", {"preview_url": secret}),
    ):
        with pytest.raises(Rejected) as caught:
            KIND.check(CHANNEL, content)
        assert secret not in str(caught.value)


def test_nesting_past_the_stack_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Rejected) as caught:
        KIND.check(CHANNEL, Content("text", "a", {"x": deep}))
    assert caught.value.code == "invalid_content"
