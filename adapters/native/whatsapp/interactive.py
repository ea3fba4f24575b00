"""What WhatsApp asks of interactive messages: buttons, lists, links, flows. A type it has and we do not know passes."""

from collections.abc import Callable, Mapping
from typing import Any

from adapters.native.whatsapp.shape import an_object, invalid, objects, required, unlike

_BODY_LENGTH = 1024
_EDGE_LENGTH = 60  # header and footer
_TITLE_LENGTH = 20  # of a button
_BUTTONS = 3
_ROWS = 10
_ROW_TITLE_LENGTH, _ROW_TOLD_LENGTH = 24, 72
_BUTTON_ID_LENGTH, _ROW_ID_LENGTH = 256, 200
_CTA_LENGTH = 30
_URL_LENGTH = 2000
_BODYLESS = {"product", "catalog_message"}
_HEADERS = ("text", "image", "video", "document", "gif")


def check_interactive(given: dict[str, Any], words: str | None) -> None:
    """Raises Rejected("invalid_content"). `words` is the body when the object has none of its own."""
    kind = required(given.get("type"), "interactive.type", 64)
    body = an_object(given["body"], "interactive.body").get("text") if "body" in given else words
    if body is not None or kind not in _BODYLESS:
        required(body, "interactive.body.text", _BODY_LENGTH)
    _edges(given)
    action = an_object(given.get("action"), "interactive.action")
    if kind in _ACTIONS:
        _ACTIONS[kind](action)


def _edges(given: Mapping[str, Any]) -> None:
    if "footer" in given:
        footer = an_object(given["footer"], "interactive.footer")
        required(footer.get("text"), "interactive.footer.text", _EDGE_LENGTH)
    if "header" not in given:
        return
    header = an_object(given["header"], "interactive.header")
    if header.get("type") not in _HEADERS:
        invalid("interactive.header.type", f"must be one of {', '.join(_HEADERS)}")
    if header["type"] == "text":
        required(header.get("text"), "interactive.header.text", _EDGE_LENGTH)


def _buttons(action: Mapping[str, Any]) -> None:
    where = "interactive.action.buttons"
    replies = [
        an_object(button.get("reply"), f"{where}[{at}].reply")
        for at, button in enumerate(objects(action.get("buttons"), where, _BUTTONS))
    ]
    unlike([required(reply.get("id"), f"{where}[].reply.id", _BUTTON_ID_LENGTH) for reply in replies], where)
    unlike(
        [required(reply.get("title"), f"{where}[].reply.title", _TITLE_LENGTH) for reply in replies], where
    )


def _list(action: Mapping[str, Any]) -> None:
    where = "interactive.action.sections"
    required(action.get("button"), "interactive.action.button", _TITLE_LENGTH)
    sections = objects(action.get("sections"), where, _ROWS)
    rows = [row for section in sections for row in objects(section.get("rows"), f"{where}[].rows", _ROWS)]
    if len(rows) > _ROWS:
        invalid(where, f"must hold at most {_ROWS} rows in all")
    for section in sections:
        if len(sections) > 1 or section.get("title") is not None:
            required(section.get("title"), f"{where}[].title", _ROW_TITLE_LENGTH)
    for row in rows:
        required(row.get("title"), f"{where}[].rows[].title", _ROW_TITLE_LENGTH)
        if row.get("description") is not None:
            required(row["description"], f"{where}[].rows[].description", _ROW_TOLD_LENGTH)
    unlike([required(row.get("id"), f"{where}[].rows[].id", _ROW_ID_LENGTH) for row in rows], where)


def _link(action: Mapping[str, Any]) -> None:
    where = "interactive.action.parameters"
    given = an_object(action.get("parameters"), where)
    required(given.get("display_text"), f"{where}.display_text", _TITLE_LENGTH)
    url = required(given.get("url"), f"{where}.url", _URL_LENGTH)
    if not url.startswith(("https://", "http://")):
        invalid(f"{where}.url", "must start with https:// or http://")


def _flow(action: Mapping[str, Any]) -> None:
    where = "interactive.action.parameters"
    given = an_object(action.get("parameters"), where)
    required(given.get("flow_cta"), f"{where}.flow_cta", _CTA_LENGTH)
    if not isinstance(given.get("flow_id") or given.get("flow_name"), str | int):
        invalid(where, "must name the flow: flow_id or flow_name")


def _ask_location(action: Mapping[str, Any]) -> None:
    if action.get("name") != "send_location":
        invalid("interactive.action.name", "must be send_location")


_ACTIONS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "button": _buttons,
    "list": _list,
    "cta_url": _link,
    "flow": _flow,
    "location_request_message": _ask_location,
}
