"""Writing the body of POST /messages."""

from collections.abc import Callable, Mapping
from typing import Any

from adapters.files.limits import whatsapp_refuses
from adapters.payload import mapping, text
from router.domain.job import Outcome, Result
from router.domain.media import KINDS
from router.domain.ports import Outbound

TEXT_LENGTH = 4096
CALLBACK_LENGTH = 512
SENDS = (
    "text", "image", "audio", "video", "document", "sticker", "template", "interactive", "location", "contacts",
    "reaction",
)  # fmt: skip

_Body = Mapping[str, Any]
_CAPTIONED = KINDS - {"audio", "sticker"}


def render(outbound: Outbound) -> Mapping[str, Any] | Result:
    """The body of POST /messages, or PERMANENT when this content or this address cannot be sent to."""
    said = outbound.content
    writer = _WRITERS.get(said.kind)
    if writer is None or (said.kind == "text" and not said.text):
        return _refused("unsupported")
    if len(said.text or "") > TEXT_LENGTH or len(outbound.callback_data) > CALLBACK_LENGTH:
        return _refused("too_long")
    address = _address(outbound)
    if address is None:
        return _refused("no_address")
    written = writer(outbound)
    if isinstance(written, Result):
        return written
    answers = outbound.context_id and said.kind != "reaction"
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **address,
        "type": said.kind,
        said.kind: written,
        **({"context": {"message_id": outbound.context_id}} if answers else {}),
        "biz_opaque_callback_data": outbound.callback_data,
    }


def _refused(code: str) -> Result:
    return Result(Outcome.PERMANENT, code=code, asked=False)


def _address(outbound: Outbound) -> _Body | None:
    """Given both, Meta would take the number."""
    number = next((alias.value for alias in outbound.to if alias.kind == "wa_id"), None)
    user = next((alias.value for alias in outbound.to if alias.kind in {"bsuid", "parent_bsuid"}), None)
    if number:
        return {"to": number}
    return {"recipient": user} if user else None


def _text(outbound: Outbound) -> _Body:
    preview = outbound.content.data.get("preview_url") is True
    return {"body": outbound.content.text, **({"preview_url": True} if preview else {})}


def _media(outbound: Outbound) -> _Body | Result:
    if not outbound.file_id:
        return _refused("no_file")
    said, stored = outbound.content, outbound.media
    if stored is not None and (why := whatsapp_refuses(stored.mime, stored.size or 0, said.kind)):
        return _refused(why)  # Meta would take the file's id and report the failure later
    name = text(said.data.get("filename")) or (stored.name if stored else None)
    return {
        "id": outbound.file_id,
        **({"caption": said.text} if said.text and said.kind in _CAPTIONED else {}),
        **({"filename": name} if name and said.kind == "document" else {}),
        **({"voice": True} if said.kind == "audio" and said.data.get("voice") is True else {}),
    }


def _template(outbound: Outbound) -> _Body | Result:
    return mapping(outbound.content.data.get("template")) or _refused("invalid_content")


def _interactive(outbound: Outbound) -> _Body | Result:
    given, words = mapping(outbound.content.data.get("interactive")), outbound.content.text
    if not given:
        return _refused("invalid_content")
    return {"body": {"text": words}, **given} if words else given


def _location(outbound: Outbound) -> _Body | Result:
    given, name = mapping(outbound.content.data.get("location")), outbound.content.text
    if not given:
        return _refused("invalid_content")
    return {"name": name, **given} if name else given


def _contacts(outbound: Outbound) -> Any:
    cards = outbound.content.data.get("contacts")
    return cards if isinstance(cards, list) and cards else _refused("invalid_content")


def _reaction(outbound: Outbound) -> _Body | Result:
    if not outbound.context_id:
        return _refused("no_context")
    said = outbound.content
    emoji = said.text if said.text is not None else text(said.data.get("emoji"))
    return {"message_id": outbound.context_id, "emoji": emoji or ""}


_WRITERS: Mapping[str, Callable[[Outbound], Any]] = {
    "text": _text,
    **dict.fromkeys(KINDS, _media),
    "template": _template,
    "interactive": _interactive,
    "location": _location,
    "contacts": _contacts,
    "reaction": _reaction,
}
