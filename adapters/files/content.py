"""What a file is, by its first bytes. What its name or its sender says decides only where the bytes cannot."""

import codecs
import re
from typing import Final

import puremagic

HEAD: Final = 32 * 1024
"""How many first bytes are looked at."""

UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
HTML: Final = "text/html"

_SURE: Final = 0.4  # puremagic's measure: it grows with the length of the matching bytes
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_OFFICE_FOLDERS: Final = {
    b"word/": f"{_OFFICE}wordprocessingml.document",
    b"xl/": f"{_OFFICE}spreadsheetml.sheet",
    b"ppt/": f"{_OFFICE}presentationml.presentation",
}
_ENTRY, _ENTRY_HEAD = b"PK\x03\x04", 30
_NAMED: Final = re.compile(rb"mimetype(application/[a-z0-9.+-]{3,80})")  # OpenDocument and EPUB say it first
# What may stand before the first element. A comment ends at its first end, or many of them would be tried in every way.
_BEFORE: Final = r"\s*(?:<\?xml[^>]*>\s*|<!--(?:(?!-->).)*-->\s*|<!doctype\s+svg[^>]*>\s*)*"
_PAGE: Final = re.compile(rf"{_BEFORE}<(!doctype\s+html|html|head|body|script)\b", re.IGNORECASE | re.DOTALL)
_DRAWING: Final = re.compile(rf"{_BEFORE}<svg\b", re.IGNORECASE | re.DOTALL)
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_TYPE_LENGTH: Final = 127
_NO_TEXT: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")

_LETTERS: Final = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    ("<?".encode("utf-16-le"), "utf-16-le"),
    ("<?".encode("utf-16-be"), "utf-16-be"),
)

_STARTS: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"#!AMR-WB\n", "audio/amr-wb"),
    (b"#!AMR\n", "audio/amr"),
    (b"ID3", "audio/mpeg"),
)
_BRANDS: Final = {b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"qt  ": "video/quicktime"}
_STILL: Final = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif"}

# The first bytes of all in one set may be the same: among them the sender's word decides.
_FAMILIES: Final = (
    frozenset({"video/mp4", "audio/mp4", "video/3gpp", "audio/3gpp", "video/3gpp2", "video/quicktime"}),
    frozenset({"audio/ogg", "video/ogg", "application/ogg"}),
    frozenset({"video/webm", "audio/webm", "video/x-matroska"}),
    frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"}),
)
_CLASSES: Final = frozenset({"image", "audio", "video"})
_SAME: Final = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/opus": "audio/ogg",
    "audio/x-aac": "audio/aac",
}


def mime_of(head: bytes) -> str:
    """By the first HEAD bytes of a file; UNKNOWN when nothing tells."""
    for look in (_start, _riff, _iso, _ogg, _matroska, _frames, _zipped, _text, _magic):
        if found := look(head):
            return found
    return UNKNOWN


def plain(mime: str | None) -> str | None:
    """A media type as it is compared and may stand in a header: without parameters, in small letters, one name for
    each. None for what is no type (RFC 6838)."""
    bare = (mime or "").partition(";")[0].strip().lower()
    return _SAME.get(bare, bare) if len(bare) <= _TYPE_LENGTH and _TYPE.fullmatch(bare) else None


def settle(found: str, promised: str | None) -> str | None:
    """The type of a file whose content says `found` and whose sender said `promised`. None: it is something else
    than was promised (an HTML page where an image was to be)."""
    said = plain(promised)
    if said is None or said == found:
        return found
    if any(found in family and said in family for family in _FAMILIES):
        return said
    if said.partition("/")[0] not in _CLASSES:
        return said if _vaguer(found, said) else found
    if found == UNKNOWN:
        return found if said.endswith("+xml") else said  # a drawing runs scripts: its own word, or none
    return found if found.partition("/")[0] == said.partition("/")[0] else None


def _vaguer(found: str, said: str) -> bool:
    """The content says less than the sender: any text, any archive. Never believed: that it is a page."""
    if found == TEXT:
        return said.startswith("text/") and said != HTML
    return found == "application/zip" and (said.startswith("application/vnd.") or said.endswith("+zip"))


def _start(head: bytes) -> str | None:
    return next((mime for start, mime in _STARTS if head.startswith(start)), None)


def _riff(head: bytes) -> str | None:
    if head[:4] != b"RIFF":
        return None
    return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12])


def _iso(head: bytes) -> str | None:
    """ISO base media: the brand tells, as far as it goes (`isom` may hold sound alone)."""
    if head[4:8] != b"ftyp":
        return None
    brand = head[8:12]
    if brand[:3] in {b"3gp", b"3g2"}:
        return "video/3gpp" if brand[:3] == b"3gp" else "video/3gpp2"
    return _STILL.get(brand) or _BRANDS.get(brand, "video/mp4")


def _ogg(head: bytes) -> str | None:
    if head[:4] != b"OggS":
        return None
    return "video/ogg" if b"\x80theora" in head[:256] else "audio/ogg"


def _matroska(head: bytes) -> str | None:
    if head[:4] != b"\x1aE\xdf\xa3":
        return None
    return "video/webm" if b"webm" in head[:64] else "video/x-matroska"


def _frames(head: bytes) -> str | None:
    """MPEG audio without a tag: the sync bits, then a layer, a bit rate and a sampling rate that exist."""
    if len(head) < 4 or head[0] != 0xFF:  # noqa: PLR2004 - a frame's header
        return None
    if head[1] & 0xF6 == 0xF0:  # noqa: PLR2004 - ADTS: layer 0
        return "audio/aac"
    layer_three = head[1] & 0xE6 == 0xE2  # noqa: PLR2004 - the sync bits and layer III
    rates = 0 < head[2] >> 4 < 15 and head[2] >> 2 & 3 != 3  # noqa: PLR2004 - 15 and 3 are no rates
    return "audio/mpeg" if layer_three and rates else None


def _zipped(head: bytes) -> str | None:
    if not head.startswith(_ENTRY):
        return None
    if named := _NAMED.match(head, _ENTRY_HEAD):
        return named[1].decode("ascii")
    at = 0
    while at >= 0:
        length = int.from_bytes(head[at + 26 : at + 28], "little")
        name = head[at + _ENTRY_HEAD : at + _ENTRY_HEAD + length]
        for folder, mime in _OFFICE_FOLDERS.items():
            if name.startswith(folder):
                return mime
        at = head.find(_ENTRY, at + 4)
    return "application/zip"


def _text(head: bytes) -> str | None:
    written = _decoded(head, _letters(head))
    if written is None:
        old = _decoded(head, "latin-1")
        return _marked(old) if old else None
    return _marked(written) or ("text/vcard" if written.upper().startswith("BEGIN:VCARD") else TEXT)


def _marked(written: str) -> str | None:
    """What a browser would run."""
    if _PAGE.match(written):
        return HTML
    return "image/svg+xml" if _DRAWING.match(written) else None


def _letters(head: bytes) -> str:
    """As browsers and readers of XML find it."""
    return next((name for start, name in _LETTERS if head.startswith(start)), "utf-8-sig")


def _decoded(head: bytes, letters: str) -> str | None:
    try:
        written = codecs.getincrementaldecoder(letters)().decode(head)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return None
    return written if written and not _NO_TEXT.search(written) else None


def _magic(head: bytes) -> str | None:
    try:
        found = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return None
    sure = (plain(one.mime_type) for one in found if one.confidence >= _SURE)
    return next((mime for mime in sure if mime), None)
