"""One message as Rocket.Chat writes it, in its webhooks and in a room's history: what was said, and which files.

What a patient sent comes here a second time, through Rocket.Chat; a claim compares the two by kind and text. So a file's
name, which Rocket.Chat likes to put where a caption stands, is no text.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_to_bytes

from adapters.payload import file_name, identifier, items, mapping, moment, text
from router.domain.message import Attachment, Content
from router.domain.ports import RoomMessage

_SECRET_KEYS: Final = {"token", "user", "room", "message"}
_LINKS: Final = ("title_link", "image_url", "audio_url", "video_url")
_FAMILIES: Final = ("image", "audio", "video")
_CLOSE: Final = "livechat-close"
_THUMB: Final = "thumb-"
# A file's own address, wherever the workspace is mounted: /file-upload/<id>/<name>, before 1.0 /ufs/<store>/<id>/<name>.
_PATH: Final = re.compile(r"/(?:file-upload|ufs/[\w:%-]{1,80})/([\w-]{1,100})/([^/?#\\\s]{1,500})", re.ASCII)
_ID: Final = re.compile(r"[\w-]{1,100}", re.ASCII)
_CLIMBS: Final = re.compile(r"[\\\x00-\x1f\x7f]|(?:^|/)\.{1,2}(?:[;/]|$)")
_DECODED: Final = 5  # times; whatever stands before Rocket.Chat decodes less often
_NAMELESS: Final = "file"


def message(item: Mapping[str, Any], *, by_agent: bool, author_id: str | None, closing: bool) -> RoomMessage:
    """A message object, once it is known whose it is."""
    return RoomMessage(
        source_id=identifier(item.get("_id")) or digest(item),
        by_agent=by_agent,
        author_id=author_id,
        content=content(item),
        sent_at=moment(item.get("ts")),
        edited=bool(item.get("editedAt")),
        closing=closing,
        files=files(item),
    )


def heard(item: Mapping[str, Any], visitor_id: str | None) -> RoomMessage | None:
    """A message of a room's history; None for what the system notes there, but not for a closing.

    The visitor's messages carry the visitor's token or author; everything else was said by the clinic's side.
    """
    kind = text(item.get("t"))
    if kind is not None and kind != _CLOSE:
        return None
    author = identifier(mapping(item.get("u")).get("_id"))
    visitor = text(item.get("token")) is not None or (author is not None and author == visitor_id)
    return message(item, by_agent=not visitor, author_id=author, closing=kind == _CLOSE)


def content(item: Mapping[str, Any], said: str = "msg") -> Content:
    """Kind and text as the channel's own adapter would tell them; `said` is the field of the text."""
    first = mapping(next(iter(items(item.get("attachments"))), None))
    kind = _kind(item, first)
    names = set() if kind == "text" else set(_names(item))
    candidates = (item.get(said), item.get("msg"), first.get("description"), first.get("text"))
    words = next((one for value in candidates if (one := text(value)) and _plain(one) not in names), None)
    return Content(kind, words, without_secrets(item))


def files(item: Mapping[str, Any]) -> tuple[Attachment, ...]:
    """The files of a message, without the small pictures Rocket.Chat makes of them. `ref` begins at the workspace's
    own address and holds no token."""
    attachments = [one for one in items(item.get("attachments")) if isinstance(one, dict)]
    told = list(_told(item))
    if not told:
        return tuple(found for one in attachments if (found := _linked(one)))
    links = {place[0]: one for one in attachments for name in _LINKS if (place := _place(one.get(name)))}
    upload = mapping(item.get("fileUpload"))
    return tuple(found for one in told if (found := _file(one, links, upload if len(told) == 1 else {})))


def without_secrets(item: Mapping[str, Any]) -> dict[str, Any]:
    """Integrations and visitors carry a token, so may the documents that come along whole, and so does the address of
    an uploaded file."""
    kept = {key: value for key, value in item.items() if key not in _SECRET_KEYS}
    upload = kept.get("fileUpload")
    if isinstance(upload, dict) and isinstance(upload.get("publicFilePath"), str):
        kept["fileUpload"] = {**upload, "publicFilePath": upload["publicFilePath"].partition("?")[0]}
    return kept


def digest(item: Mapping[str, Any]) -> str:
    """What stands for an id where there is none."""
    return f"sha256:{hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()}"


def file_ids(item: Mapping[str, Any]) -> set[str]:
    """The ids of the uploads a message shows."""
    told = (item.get("file"), *items(item.get("files")))
    return {found for one in told if (found := identifier(mapping(one).get("_id")))}


# files -----------------------------------------------------------------------------------------------------


def _told(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The originals among `files`, else `file`."""
    given = [one for one in items(item.get("files")) or [item.get("file")] if isinstance(one, dict)]
    names = {text(one.get("name")) for one in given}
    for one in given:
        name = text(one.get("name")) or ""
        if not (name.startswith(_THUMB) and name.removeprefix(_THUMB) in names):
            yield one


def _file(
    file: Mapping[str, Any], links: Mapping[str, Mapping[str, Any]], upload: Mapping[str, Any]
) -> Attachment | None:
    file_id, name = identifier(file.get("_id")), text(file.get("name"))
    link = links.get(file_id or "", {})
    told = _place(link.get("title_link")) or _place(upload.get("publicFilePath"))
    if told is None and file_id is not None and _ID.fullmatch(file_id):
        # Rocket.Chat finds it by its id: a name that climbs is not needed.
        called = quote(name, safe="", errors="replace") if name and not _climbs(name) else _NAMELESS
        told = file_id, f"/file-upload/{file_id}/{called}"
    if told is None:
        return None
    mime = text(file.get("type")) or text(upload.get("type")) or _of(link, "type")
    size = _size(file.get("size")) or _size(upload.get("size")) or _size(_any(link, "size"))
    return Attachment(told[1], mime, file_name(name or link.get("title")), size=size)


def _linked(attachment: Mapping[str, Any]) -> Attachment | None:
    """An attachment that links to an upload, in a message that names no file."""
    told = next((found for name in _LINKS if (found := _place(attachment.get(name)))), None)
    if told is None:
        return None
    name, size = file_name(attachment.get("title")), _size(_any(attachment, "size"))
    return Attachment(told[1], _of(attachment, "type"), name, size=size)


def _place(link: Any) -> tuple[str, str] | None:
    """Id and path of an uploaded file, its name quoted; None for any other address, and for a path that leads elsewhere
    once a proxy on its way decodes it."""
    found = _PATH.search(text(link) or "")
    if found is None or _climbs(found[0]):
        return None
    folder, _, name = found[0].rpartition("/")
    return found[1], f"{folder}/{quote(unquote_to_bytes(name.encode('utf-8', 'replace')), safe='')}"


def _climbs(path: str) -> bool:
    """Whether a path leaves its folder (or is none), however often it is decoded."""
    for _ in range(_DECODED):
        if _CLIMBS.search(path):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _any(attachment: Mapping[str, Any], what: str) -> Any:
    return next((found for kind in _FAMILIES if (found := attachment.get(f"{kind}_{what}"))), None)


def _of(attachment: Mapping[str, Any], what: str) -> str | None:
    return text(_any(attachment, what))


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


# words -----------------------------------------------------------------------------------------------------


def _kind(item: Mapping[str, Any], attachment: Mapping[str, Any]) -> str:
    if item.get("navigation"):
        return "navigation"
    file = next(_told(item), None) or mapping(item.get("fileUpload"))
    by_link = next((f"{kind}/" for kind in _FAMILIES if f"{kind}_url" in attachment), "")
    given = text(file.get("type")) or _of(attachment, "type") or by_link
    family = given.partition("/")[0]
    if family in _FAMILIES:
        return family
    return "document" if file or _linked(attachment) else "text"


def _names(item: Mapping[str, Any]) -> Iterator[str]:
    """How the files are called."""
    told = (item.get("file"), *items(item.get("files")))
    titles = (mapping(one).get("title") for one in items(item.get("attachments")))
    for name in (*(mapping(one).get("name") for one in told), *titles):
        if found := text(name):
            yield _plain(found)


def _plain(words: str) -> str:
    return unquote(words.strip())
