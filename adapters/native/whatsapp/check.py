"""Refusing, before anything is queued, what WhatsApp would certainly refuse (its limits, in characters)."""

import json
import re
from collections.abc import Callable, Mapping

from adapters.native.whatsapp.interactive import check_interactive
from adapters.native.whatsapp.render import SENDS, TEXT_LENGTH
from adapters.native.whatsapp.shape import an_object, flag, invalid, objects, optional, required
from router.domain.errors import Rejected
from router.domain.media import KINDS
from router.domain.message import Content

_CAPTION_LENGTH = 1024
_FILENAME_LENGTH = 240
_ID_LENGTH = 200
_CONTACTS = 257
_COMPONENTS = 20
_EMOJI_LENGTH = 32  # a family of four with skin tones is eleven code points
_PLACE_LENGTH = 1000
_TEMPLATE = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?")
_NO_EMOJI = re.compile(r"[A-Za-z\s]")


def check(content: Content) -> None:
    """Raises Rejected "unsupported" or "invalid_content", and nothing else whatever `content` holds."""
    if content.kind not in SENDS:
        raise Rejected("unsupported", "WhatsApp does not send messages of this kind")
    if not isinstance(content.data, Mapping):
        invalid("data", "must be an object")
    optional(content.text, "text", TEXT_LENGTH)
    if content.data.get("reply_to") is not None:
        required(content.data["reply_to"], "reply_to", _ID_LENGTH)
    _writable(content)
    _CHECKS[content.kind](content)


def _writable(content: Content) -> None:
    try:
        json.dumps(dict(content.data), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        invalid("data", "must be JSON: no NaN, nothing endless")


def _text(content: Content) -> None:
    required(content.text, "text", TEXT_LENGTH)
    flag(content.data.get("preview_url"), "preview_url")


def _media(content: Content) -> None:
    required(content.data.get("media_id"), "media_id", _ID_LENGTH)
    optional(content.data.get("filename"), "filename", _FILENAME_LENGTH)
    flag(content.data.get("voice"), "voice")
    optional(content.text, "text", _CAPTION_LENGTH)


def _bare(content: Content) -> None:
    _media(content)
    if content.text:
        invalid("text", "must be empty: audio and stickers carry no caption")


def _template(content: Content) -> None:
    given = an_object(content.data.get("template"), "template")
    if not _TEMPLATE.fullmatch(required(given.get("name"), "template.name", 512)):
        invalid("template.name", "must be of lower-case letters, digits and _")
    language = an_object(given.get("language"), "template.language")
    if not _LANGUAGE.fullmatch(required(language.get("code"), "template.language.code", 8)):
        invalid("template.language.code", "must be like pt_BR")
    if content.text:
        invalid("text", "must be empty: a template has its own")
    components = given.get("components")
    if components is None or components == []:
        return
    for part in objects(components, "template.components", _COMPONENTS):
        required(part.get("type"), "template.components[].type", 64)
        if not isinstance(part.get("parameters", []), list):
            invalid("template.components[].parameters", "must be a list")


def _interactive(content: Content) -> None:
    check_interactive(an_object(content.data.get("interactive"), "interactive"), content.text)


def _location(content: Content) -> None:
    given = an_object(content.data.get("location"), "location")
    for name, most in (("latitude", 90), ("longitude", 180)):
        value = given.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not -most <= value <= most:
            invalid(f"location.{name}", f"must be a number from -{most} to {most}")
    for name in ("name", "address"):
        optional(given.get(name), f"location.{name}", _PLACE_LENGTH)
    optional(content.text, "text", _PLACE_LENGTH)


def _contacts(content: Content) -> None:
    for card in objects(content.data.get("contacts"), "contacts", _CONTACTS):
        name = an_object(card.get("name"), "contacts[].name")
        required(name.get("formatted_name"), "contacts[].name.formatted_name", _PLACE_LENGTH)
        for key in ("phones", "emails", "addresses", "urls"):
            if not isinstance(card.get(key, []), list):
                invalid(f"contacts[].{key}", "must be a list")


def _reaction(content: Content) -> None:
    required(content.data.get("message_id"), "message_id", _ID_LENGTH)
    emoji = content.text if content.text is not None else content.data.get("emoji")
    if not isinstance(emoji, str) or len(emoji) > _EMOJI_LENGTH or _NO_EMOJI.search(emoji):
        invalid("emoji", "must be one emoji, or empty to take it back")


_CHECKS: Mapping[str, Callable[[Content], None]] = {
    "text": _text,
    **dict.fromkeys(KINDS, _media),
    "audio": _bare,
    "sticker": _bare,
    "template": _template,
    "interactive": _interactive,
    "location": _location,
    "contacts": _contacts,
    "reaction": _reaction,
}
