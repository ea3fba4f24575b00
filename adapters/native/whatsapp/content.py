"""What a WhatsApp message object says, which files it carries, and what a status says it costs."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from adapters.payload import file_name, identifier, items, mapping, text
from router.domain import media
from router.domain.message import Attachment, Content

RECEIVES = (
    "text", "image", "audio", "video", "document", "sticker", "location", "contacts", "button",
    "interactive", "reaction", "edit", "delete", "order", "unsupported",
)  # fmt: skip
_KINDS = {kind: kind for kind in RECEIVES} | {
    "revoke": "delete",
    "voice": "audio",
    "live_location": "location",
}
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


def content(item: Mapping[str, Any]) -> Content:
    """What a message object says; a type nobody knows, or said in a group, is kept as "unsupported"."""
    if group_of(item):
        return Content("unsupported", None, item)
    given = _type(item)
    return Content(_KINDS.get(given, "unsupported"), _words(given, item), item)


def group_of(item: Mapping[str, Any]) -> str | None:
    """The group a message was said in."""
    return identifier(item.get("group_id") or (item.get("recipient_type") == "group" and item.get("to")))


def _type(item: Mapping[str, Any]) -> str:
    return text(item.get("type")) or next((key for key in _KINDS if key in item), "")


def attachments(item: Mapping[str, Any]) -> tuple[Attachment, ...]:
    """The file of a message object: one, or none without an id to ask for."""
    given = _type(item)
    if _KINDS.get(given) not in media.KINDS:
        return ()
    body = mapping(item.get(given))
    ref = identifier(body.get("id"))
    if ref is None:
        return ()
    mime, name = text(body.get("mime_type")), file_name(body.get("filename"))
    return (Attachment(ref, mime, name, _digest(body.get("sha256"))),)


def _digest(given: Any) -> str | None:
    """SHA-256 in hex, of hex or of base64; None for what is neither."""
    written = text(given) or ""
    if _HEX.fullmatch(written):
        return written.lower()
    try:
        raw = base64.b64decode(written.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 32 else None  # noqa: PLR2004 - the bytes of a SHA-256


def billed(pricing: Any) -> str | None:
    """The category a status says its message is billed under. Newer ones say `type` where older said `billable`."""
    given = mapping(pricing)
    billable = given.get("billable")
    if billable is None:
        billable = given.get("type") == "regular"
    return text(given.get("category")) if billable is True else None


def _words(kind: str, item: Mapping[str, Any]) -> str | None:
    body = item.get(kind)
    reader = _WORDS.get(kind, partial(_first, keys=("caption",)))
    return reader(body)


def _first(body: Any, keys: tuple[str, ...]) -> str | None:
    return next((found for key in keys if (found := text(mapping(body).get(key)))), None)


def _reply(body: Any) -> str | None:
    """The title of the button or row that was chosen; a flow says only that it was sent."""
    chosen = mapping(mapping(body).get(text(mapping(body).get("type")) or ""))
    return _first(chosen, ("title", "body"))


def _edited(body: Any) -> str | None:
    return content(mapping(mapping(body).get("message"))).text


def _names(body: Any) -> str | None:
    names = (text(mapping(mapping(card).get("name")).get("formatted_name")) for card in items(body))
    return ", ".join(filter(None, names)) or None


_WORDS: Mapping[str, Callable[[Any], str | None]] = {
    "text": partial(_first, keys=("body",)),
    "button": partial(_first, keys=("text",)),
    "order": partial(_first, keys=("text",)),
    "location": partial(_first, keys=("name", "address")),
    "live_location": partial(_first, keys=("caption", "name", "address")),
    "reaction": partial(_first, keys=("emoji",)),
    "interactive": _reply,
    "contacts": _names,
    "edit": _edited,
}
