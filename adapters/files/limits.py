"""What WhatsApp takes: the types and the largest size of each kind of content."""

from collections.abc import Mapping
from typing import Final

from adapters.files.content import plain

_MB: Final = 1024 * 1024

_KINDS: Final[Mapping[str, tuple[frozenset[str], int]]] = {
    "image": (frozenset({"image/jpeg", "image/png"}), 5 * _MB),
    "audio": (frozenset({"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"}), 16 * _MB),
    "video": (frozenset({"video/mp4", "video/3gpp"}), 16 * _MB),
    "sticker": (frozenset({"image/webp"}), 500 * 1024),  # one that does not move: 100 KB; only its bytes tell
    "document": (frozenset(), 100 * _MB),  # any type
}


def whatsapp_refuses(mime: str | None, size: int, kind: str = "document") -> str | None:
    """Why a file cannot go out as `kind`: "type", "too_large", or None when it can."""
    types, largest = _KINDS[kind]
    if types and plain(mime) not in types:
        return "type"
    return "too_large" if size > largest else None
