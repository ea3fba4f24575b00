"""What a message shows: nothing a stranger wrote breaks a page, and nothing is silently left out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.console.talk import paused, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = (
    "text", "image", "location", "contacts", "interactive", "button", "template", "reaction", "order", "edit", "delete",
    "unsupported", "something_new",
)  # fmt: skip
OWN = ("location", "contacts", "interactive", "template", "order")


def message(**fields: Any) -> dict[str, Any]:
    return {
        "id": "m", "external_id": None, "direction": "inbound", "content_kind": "text", "text": None, "data": {},
        "about": None, "media": [], "metadata": {}, "status": "received", "error_code": None, **fields,
    }  # fmt: skip


def file(**fields: Any) -> dict[str, Any]:
    return {
        "id": "f",
        "state": "stored",
        "mime": None,
        "name": None,
        "size": None,
        "error_code": None,
        **fields,
    }


def one(**fields: Any) -> dict[str, Any]:
    return shown([message(**fields)])[0]


@given(kind=st.sampled_from(KINDS), own=JSON, outbound=st.booleans(), chunk=JSON)
def test_no_content_breaks_the_page(kind: str, own: Any, outbound: bool, chunk: Any) -> None:
    told = one(
        content_kind=kind, data=dict.fromkeys(OWN, own), direction="outbound" if outbound else "inbound",
        metadata={"chunk": chunk},
    )  # fmt: skip
    assert told["said"] or told["words"] or told["files"]  # something stands there


@pytest.mark.parametrize(
    ("kind", "mime", "show"),
    [
        ("image", "image/jpeg", "image"), ("image", "image/svg+xml", "download"), ("document", "text/html", "download"),
        ("audio", "audio/ogg", "audio"), ("audio", "audio/amr", "download"), ("video", "video/mp4", "video"),
        ("document", "application/pdf", "download"), ("document", None, "download"), ("document", "image/png", "image"),
    ],
)  # fmt: skip
def test_only_what_a_browser_shows_without_running_it_is_shown(
    kind: str, mime: str | None, show: str
) -> None:
    assert one(content_kind=kind, media=[file(mime=mime)])["files"][0]["show"] == show


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("image", {"state": "waiting"}, "[imagem: ainda não baixada]"),
        ("video", {"state": "waiting"}, "[vídeo: ainda não baixado]"),
        ("sticker", {"state": "gone"}, "[figurinha indisponível]"),
        ("video", {"state": "refused", "error_code": "too_large"}, "[arquivo recusado: grande demais]"),
        ("video", {"state": "refused", "error_code": "new"}, "[arquivo recusado: new]"),
        ("video", {"state": "refused"}, "[arquivo recusado: sem motivo conhecido]"),
        ("brandnew", {"state": "gone"}, "[arquivo indisponível]"),
    ],
)
def test_a_missing_file_says_why(kind: str, fields: dict[str, Any], words: str) -> None:
    (told,) = one(content_kind=kind, media=[file(**fields)])["files"]
    assert (told["show"], told["placeholder"]) == (None, words)


@pytest.mark.parametrize(
    ("place", "at"),
    [
        ({"latitude": -23.5, "longitude": -46}, "-23.5, -46.0"),
        ({"latitude": 91, "longitude": 0}, None),
        ({"latitude": True, "longitude": 0}, None),
        ({"latitude": '"><script>', "longitude": 0}, None),
        ({"latitude": float("nan"), "longitude": 0}, None),
        ("here", None),
    ],
)
def test_a_place_is_two_numbers_or_none(place: Any, at: str | None) -> None:
    told = one(content_kind="location", data={"location": place})["place"]
    assert (told["at"] if told else None) == at


def test_edits_and_deletions_mark_what_they_are_about_and_answers_quote_it() -> None:
    told = shown(
        [
            message(id="a", external_id="w1", text="x" * 100),
            message(id="b", external_id="w2", text="fica"),
            message(id="c", content_kind="edit", about="w1", text="y"),
            message(id="d", content_kind="delete", about="w2"),
            message(id="e", direction="outbound", data={"reply_to": "b"}, text="ok"),
            message(id="f", content_kind="reaction", about="w9", text=""),
        ]
    )
    assert [one["marks"] for one in told] == [["editada depois"], ["apagada depois"], [], [], [], []]
    assert [one["quote"] for one in told[3:]] == ["fica", "fica", None]
    assert told[2]["quote"] == "x" * 80 + "…"
    assert told[5]["said"] == "retirou a reação"


def test_what_a_menu_offers_and_what_was_chosen() -> None:
    menu = {
        "action": {
            "buttons": [{"reply": {"title": "Sim"}}, {"reply": {}}],
            "sections": [{"rows": [{"title": "10h"}, {"title": "11h"}]}],
            "parameters": {"display_text": "Abrir"},
        }
    }
    ours = one(
        content_kind="interactive", direction="outbound", data={"interactive": menu}, text="Que horas?"
    )
    assert (ours["words"], ours["choices"]) == ("Que horas?", ["Sim", "10h", "11h", "Abrir"])
    theirs = one(content_kind="interactive", data={"interactive": menu}, text="10h")
    assert (theirs["said"], theirs["words"], theirs["choices"]) == ("escolheu", "10h", [])
    flow = one(content_kind="interactive", data={"interactive": {"type": "nfm_reply"}}, text="Sent")
    assert flow["said"] == "respondeu o formulário"


def test_why_something_failed_is_told_only_where_it_failed() -> None:
    assert one(status="failed", error_code="opted_out")["failure"] == "pediu para não receber mensagens"
    assert one(status="rejected", error_code="x1")["failure"] == "x1"
    assert one(status="delivered", error_code="131047")["failure"] is None
    assert one(status="failed")["failure"] is None
    assert paused("190") == "token recusado pelo provedor (190)"
    assert paused("timeout") == "provedor fora do ar (timeout)"
    assert paused(None) == "provedor fora do ar"
