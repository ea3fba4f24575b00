"""What a message shows: its words, files, places and cards, and what became of it, in Portuguese."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from router.console.words import CONTENTS, FAILURES, FEMININE, PLACEHOLDERS

QUOTED: Final = 80  # characters
PLAYED: Final = {
    "image/jpeg": "image", "image/png": "image", "image/gif": "image", "image/webp": "image",
    "audio/aac": "audio", "audio/mp4": "audio", "audio/mpeg": "audio", "audio/ogg": "audio",
    "audio/wav": "audio", "audio/webm": "audio", "audio/x-wav": "audio",
    "video/mp4": "video", "video/3gpp": "video", "video/webm": "video", "video/ogg": "video",
}  # fmt: skip
"""Types a page shows in itself, and as what; all others are downloads."""
_FAILED: Final = frozenset({"failed", "rejected"})

Message = Mapping[str, Any]
Shown = dict[str, Any]


def shown(messages: Sequence[Message]) -> list[Shown]:
    """The messages of a page with all their template needs: `words`, `said` (a line about what it is), `quote`,
    `files`, `place`, `cards`, `choices`, `marks`, `failure`."""
    by_id = {one["id"]: one for one in messages} | {
        one["external_id"]: one for one in messages if one["external_id"]
    }
    changed = {
        one["about"]: one["content_kind"] for one in messages if one["content_kind"] in ("edit", "delete")
    }
    return [_shown(one, by_id, changed) for one in messages]


def _shown(one: Message, by_id: Mapping[str, Message], changed: Mapping[str | None, str]) -> Shown:
    target = one["data"].get("reply_to") or one["data"].get("message_id") or one["about"]
    files = [_file(one, file) for file in one["media"]]
    said, words = _said(one)
    if not (files or said or words):
        said = CONTENTS.get(one["content_kind"], one["content_kind"])
    return {
        **one,
        "words": words,
        "said": said,
        "quote": _quote(by_id.get(target)) if target else None,
        "files": files,
        "place": _place(one),
        "cards": _cards(one),
        "choices": _choices(one),
        "marks": _marks(one, changed),
        "failure": failure(one["error_code"]) if one["status"] in _FAILED else None,
    }


def failure(code: str | None) -> str | None:
    """Why something did not arrive, for a person; the code itself where nobody has told it better."""
    return FAILURES.get(code, code) if code is not None else None


def paused(code: str | None) -> str:
    """Why a channel rests: `token recusado pelo provedor (190)`."""
    if code is None:
        return "provedor fora do ar"
    return f"{FAILURES.get(code, 'provedor fora do ar')} ({code})"


# what it is ------------------------------------------------------------------------------------------------


def _said(one: Message) -> tuple[str | None, str | None]:
    """A line about what it is, and its words."""
    reader = _LINES.get(one["content_kind"])
    return reader(one) if reader else (None, one["text"])


def _reaction(one: Message) -> tuple[str | None, str | None]:
    return (f"reagiu com {one['text']}" if one["text"] else "retirou a reação"), None


def _template(one: Message) -> tuple[str | None, str | None]:
    template = _object(one["data"].get("template"))
    filled = [
        parameter["text"]
        for component in _objects(template.get("components"))
        for parameter in _objects(component.get("parameters"))
        if isinstance(parameter.get("text"), str)
    ]
    words = one["text"] or "\n".join(filled) or None
    return f"Modelo: {template.get('name') or 'sem nome'}", words


def _reply(one: Message) -> tuple[str | None, str | None]:
    if one["direction"] == "outbound":
        return None, one["text"]
    if _object(one["data"].get("interactive")).get("type") == "nfm_reply":
        return "respondeu o formulário", one["text"]
    return "escolheu", one["text"]


def _order(one: Message) -> tuple[str | None, str | None]:
    items = len(_objects(_object(one["data"].get("order")).get("product_items")))
    return f"pedido com {items} {'item' if items == 1 else 'itens'}", one["text"]


def _edit(one: Message) -> tuple[str | None, str | None]:
    return "editou a mensagem", one["text"]


def _delete(_: Message) -> tuple[str | None, str | None]:
    return "apagou a mensagem", None


def _contacts(_: Message) -> tuple[str | None, str | None]:
    return "cartão de contato", None  # the names stand on the cards


def _location(_: Message) -> tuple[str | None, str | None]:
    return "localização", None


_LINES: Final = {
    "reaction": _reaction, "template": _template, "interactive": _reply, "button": _reply, "order": _order,
    "edit": _edit, "delete": _delete, "contacts": _contacts, "location": _location,
}  # fmt: skip


def _quote(target: Message | None) -> str | None:
    """The first words of the message it answers, when it stands on the same page."""
    if target is None:
        return None
    words = str(target["text"] or CONTENTS.get(target["content_kind"], target["content_kind"]))
    return f"{words[:QUOTED]}…" if len(words) > QUOTED else words


def _marks(one: Message, changed: Mapping[str | None, str]) -> list[str]:
    found = []
    piece = one["metadata"].get("chunk")
    if isinstance(piece, list) and len(piece) == 2:  # noqa: PLR2004 - [number, of how many]
        found.append(f"parte {piece[0]} de {piece[1]}")
    word = {"edit": "editada depois", "delete": "apagada depois"}.get(changed.get(one["external_id"]) or "")
    if word and one["external_id"]:
        found.append(word)
    return found


# what it carries -------------------------------------------------------------------------------------------


def _file(one: Message, file: Mapping[str, Any]) -> Shown:
    """`show` image, audio, video, download, or nothing: then `placeholder` says what is missing, and why."""
    stored = file["state"] == "stored"
    name = file["name"] or CONTENTS.get(one["content_kind"], "arquivo")
    return {
        "id": file["id"],
        "name": name,
        "size": file["size"],
        "show": PLAYED.get(file["mime"] or "", "download") if stored else None,
        "placeholder": None if stored else _placeholder(one["content_kind"], file),
    }


def _placeholder(kind: str, file: Mapping[str, Any]) -> str:
    noun = CONTENTS.get(kind, "arquivo")
    if file["state"] == "waiting":
        return f"[{noun}: ainda não {'baixada' if kind in FEMININE else 'baixado'}]"
    if file["state"] == "refused":
        code = file["error_code"]
        return f"[arquivo recusado: {PLACEHOLDERS.get(code, code or 'sem motivo conhecido')}]"
    return f"[{noun} indisponível]"


def _place(one: Message) -> Shown | None:
    place = _object(one["data"].get("location"))
    latitude, longitude = _degrees(place.get("latitude"), 90), _degrees(place.get("longitude"), 180)
    if one["content_kind"] != "location" or latitude is None or longitude is None:
        return None
    at = f"mlat={latitude}&mlon={longitude}#map=17/{latitude}/{longitude}"
    told = [place.get(name) for name in ("name", "address")]
    return {
        "words": [words for words in told if isinstance(words, str)],
        "at": f"{latitude}, {longitude}",
        "link": f"https://www.openstreetmap.org/?{at}",
    }


def _degrees(value: Any, most: int) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most
    return round(float(value), 6) if known else None


def _cards(one: Message) -> list[Shown]:
    return [
        {
            "name": _object(card.get("name")).get("formatted_name") or "sem nome",
            "ways": [
                way
                for key, field in (("phones", "phone"), ("emails", "email"))
                for entry in _objects(card.get(key))
                if isinstance(way := entry.get(field), str)
            ],
        }
        for card in _objects(one["data"].get("contacts"))
    ]


def _choices(one: Message) -> list[str]:
    """What an interactive message of ours offers."""
    if one["direction"] != "outbound" or one["content_kind"] != "interactive":
        return []
    action = _object(_object(one["data"].get("interactive")).get("action"))
    rows = [row for section in _objects(action.get("sections")) for row in _objects(section.get("rows"))]
    titles = [_object(button.get("reply")).get("title") for button in _objects(action.get("buttons"))]
    link = _object(action.get("parameters")).get("display_text")
    found = [*titles, *(row.get("title") for row in rows), link]
    return [title for title in found if isinstance(title, str)]


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
