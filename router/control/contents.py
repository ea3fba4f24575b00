"""What a caller wants said, read: exactly one of text, media, template, interactive, location, contacts, reaction.

Only the shape is judged here; whether a channel can carry it, its kind says (`Kind.check`).
"""

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from router.control.desk import Desk
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.media import KINDS, Media, MediaState, Origin
from router.domain.message import Content
from router.domain.ports import Tx

TEXT_LENGTH: Final = 32_768
"""Characters; what is longer than a kind's limit goes out in several messages."""
_URL_LENGTH: Final = 2048
_NAME_LENGTH: Final = 240
_EMOJI_LENGTH: Final = 32
_CARDS: Final = 257
DEPTH: Final = 32
"""Objects and lists within one another; WhatsApp's own messages need ten."""

Object = Mapping[str, Any]


async def read(desk: Desk, tx: Tx, channel: Channel, body: Object) -> Content:
    """The content of a request's body. A file that is only named by its URL gets its row here, in the transaction of
    the message.

    Raises Rejected: 422 empty, too_long, invalid_content, invalid_media, unknown_field, unsupported; 404 unknown_media.
    """
    given = [name for name in READERS if body.get(name) is not None]
    if not given:
        raise Rejected("empty", f"say what to send: one of {', '.join(READERS)}")
    if len(given) > 1:
        raise Rejected("invalid_content", f"exactly one of {', '.join(READERS)} says what to send")
    if deep(body[given[0]]):
        raise Rejected("invalid_content", f"{given[0]} is nested deeper than {DEPTH} levels")
    content = await READERS[given[0]](desk, tx, channel, body[given[0]])
    if body.get("reply_to") is not None:
        answered = str(_uuid(body["reply_to"], "reply_to"))
        content = replace(content, data={**content.data, "reply_to": answered})
    rules = desk.kinds[channel.kind].rules(channel)
    if content.kind != "text" or rules.measure(content.text or "") <= rules.text_limit:
        desk.kinds[channel.kind].check(channel, content)  # a longer text is divided first
    return content


# the readers -----------------------------------------------------------------------------------------------


async def _text(_desk: Desk, _tx: Tx, _channel: Channel, text: Any) -> Content:
    if not isinstance(text, str) or not text.strip():
        raise Rejected("empty", "text says what to send")
    if len(text) > TEXT_LENGTH:
        raise Rejected("too_long", f"text has at most {TEXT_LENGTH} characters")
    return Content("text", text)


async def _media(desk: Desk, tx: Tx, channel: Channel, given: Any) -> Content:
    fields = _fields(
        given, "media", {"kind", "url", "media_id", "caption", "filename", "voice"}, "invalid_media"
    )
    if (fields.get("url") is None) == (fields.get("media_id") is None):
        raise Rejected("invalid_media", "exactly one of media.url, media.media_id says which file")
    kind = fields.get("kind")
    if kind is not None and (not isinstance(kind, str) or kind not in KINDS):
        raise Rejected("invalid_media", f"media.kind is one of {', '.join(sorted(KINDS))}")
    voice = fields.get("voice")
    if voice is not None and not isinstance(voice, bool):
        raise Rejected("invalid_media", "media.voice is true or false")
    caption = _words(fields, "caption", TEXT_LENGTH, "media", "invalid_media")
    name = _words(fields, "filename", _NAME_LENGTH, "media", "invalid_media")
    if fields.get("url") is not None:
        media = await _by_url(desk, tx, channel, fields["url"], kind, name)
    else:
        media = await _by_id(tx, channel, fields["media_id"])
    data: dict[str, Any] = {"media_id": str(media.id)}
    if name or media.name:
        data["filename"] = name or media.name
    if voice:
        data["voice"] = True
    return Content(kind or kind_of(media.mime), caption, data)


async def _by_url(
    desk: Desk, tx: Tx, channel: Channel, url: Any, kind: str | None, name: str | None
) -> Media:
    if kind is None:
        raise Rejected("invalid_media", "media.kind says what the file at media.url is")
    media = Media(
        desk.ids.new(), channel.tenant, channel.slug, Origin.URL, _address(url), await tx.now(), name=name
    )
    await tx.add_media(media)
    return media


async def _by_id(tx: Tx, channel: Channel, given: Any) -> Media:
    """An uploaded file: what others sent us is theirs."""
    found = await tx.media(_uuid(given, "media.media_id", "invalid_media"), lock=True)
    if found is None or found.tenant != channel.tenant or found.origin is not Origin.UPLOAD:
        raise Rejected("unknown_media", "no such file was uploaded", 404)
    if found.state is not MediaState.STORED:
        raise Rejected("unknown_media", "this file is not kept any more: upload it again", 404)
    return found


def kind_of(mime: str | None) -> str:
    """The content kind of a file by its type."""
    family, _, precise = (mime or "").partition("/")
    if family == "image":
        return "sticker" if precise == "webp" else "image"
    return family if family in ("audio", "video") else "document"


def _address(url: Any) -> str:
    """The shape only: which hosts are asked, the fetch decides. Raises Rejected invalid_media."""
    refused = Rejected("invalid_media", "media.url is an address that begins with https://")
    if not isinstance(url, str) or len(url) > _URL_LENGTH or not url.isascii() or not url.isprintable():
        raise refused
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for what is no port
    except ValueError:
        raise refused from None
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or " " in url:
        raise refused
    return url


async def _template(_desk: Desk, _tx: Tx, _channel: Channel, given: Any) -> Content:
    fields = _fields(given, "template", {"name", "language", "components"})
    language = fields.get("language")
    if not _filled(fields.get("name")):
        raise Rejected("invalid_content", "template.name is the name of an approved template")
    if not isinstance(language, dict) or not _filled(language.get("code")):
        raise Rejected("invalid_content", 'template.language is {"code": "pt_BR"}')
    components = fields.get("components")
    if components is not None and not _objects(components):
        raise Rejected("invalid_content", "template.components is a list of objects")
    return Content("template", None, {"template": dict(fields)})


async def _interactive(_desk: Desk, _tx: Tx, _channel: Channel, given: Any) -> Content:
    if not isinstance(given, dict) or not _filled(given.get("type")):
        raise Rejected("invalid_content", "interactive is an object with a type")
    body = given.get("body")
    text = body.get("text") if isinstance(body, dict) else None
    return Content("interactive", text if isinstance(text, str) else None, {"interactive": dict(given)})


async def _location(_desk: Desk, _tx: Tx, _channel: Channel, given: Any) -> Content:
    fields = _fields(given, "location", {"latitude", "longitude", "name", "address"})
    for axis, most in (("latitude", 90), ("longitude", 180)):
        if not _degrees(fields.get(axis), most):
            raise Rejected("invalid_content", f"location.{axis} is a number from -{most} to {most}")
    name = _words(fields, "name", _NAME_LENGTH, "location")
    _words(fields, "address", _NAME_LENGTH, "location")
    kept = {key: value for key, value in fields.items() if value is not None}
    return Content("location", name, {"location": kept})


async def _contacts(_desk: Desk, _tx: Tx, _channel: Channel, given: Any) -> Content:
    if not _objects(given) or not 1 <= len(given) <= _CARDS:
        raise Rejected("invalid_content", f"contacts is a list of 1 to {_CARDS} objects")
    return Content("contacts", None, {"contacts": list(given)})


async def _reaction(_desk: Desk, _tx: Tx, _channel: Channel, given: Any) -> Content:
    fields = _fields(given, "reaction", {"message_id", "emoji"})
    emoji = fields.get("emoji")
    if not isinstance(emoji, str) or len(emoji) > _EMOJI_LENGTH:
        raise Rejected("invalid_content", "reaction.emoji is one emoji, or empty to take it back")
    target = str(_uuid(fields.get("message_id"), "reaction.message_id"))
    return Content("reaction", emoji, {"message_id": target, "emoji": emoji})


Reader = Callable[[Desk, Tx, Channel, Any], Awaitable[Content]]
READERS: Final[Mapping[str, Reader]] = {
    "text": _text, "media": _media, "template": _template, "interactive": _interactive, "location": _location,
    "contacts": _contacts, "reaction": _reaction,
}  # fmt: skip


# pieces ----------------------------------------------------------------------------------------------------


def _fields(given: Any, where: str, known: set[str], code: str = "invalid_content") -> Object:
    if not isinstance(given, dict):
        raise Rejected(code, f"{where} is an object")
    only_known(given, known, where)
    return given


def only_known(given: Object, known: Collection[str], where: str) -> None:
    """Raises Rejected unknown_field, which tells where the field stands: its name is the caller's own text."""
    place = next((number for number, name in enumerate(given, 1) if name not in known), None)
    if place is not None:
        raise Rejected(
            "unknown_field", f"field {place} of {where} is unknown; known are {', '.join(sorted(known))}"
        )


def deep(value: Any) -> bool:
    """Whether JSON is nested deeper than DEPTH; what reads it later may recurse."""
    level = [value]
    for _ in range(DEPTH):
        level = [one for each in level for one in _inside(each) if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _words(fields: Object, name: str, most: int, where: str, code: str = "invalid_content") -> str | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > most):
        raise Rejected(code, f"{where}.{name} is a text of at most {most} characters")
    return value or None


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _degrees(value: Any, most: int) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        and -most <= value <= most
    )  # fmt: skip


def _uuid(value: Any, where: str, code: str = "invalid_content") -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Rejected(code, f"{where} is a UUID") from None
