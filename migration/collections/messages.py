"""Messages. Most are plain words: they go a short way, the import's time is spent here."""

from collections.abc import Mapping
from typing import Any, Final

from bson.datetime_ms import DatetimeMS

from migration.collections import Reader, Row
from migration.collections.values import (
    FIRST,
    LAST,
    clean,
    flag,
    identifier,
    inner,
    json,
    plain,
    rest,
    sound,
    time,
)
from migration.documents import Reject, key_of

_COLUMNS: Final = frozenset(
    ("_id", "rid", "t", "ts", "_updatedAt", "u", "token", "msg", "tmid", "parent", "_hidden", "editedAt")
)
_EMPTY: Final = ("urls", "mentions", "channels", "reactions", "attachments", "files")
"""Rocket.Chat writes these empty as often as not."""
_LEFT: Final = frozenset(("md", "groupable"))
"""`md` repeats `msg`; `groupable` is how it was drawn. The raw document has them."""
_PLAIN: Final = _COLUMNS | _LEFT | {*_EMPTY}
"""A message with no other field, and with these empty, has nothing to be read but its words."""
_SHORT: Final = frozenset(
    ("_id", "rid", "t", "ts", "_updatedAt", "u", "token", "msg", "alias", *_LEFT, *_EMPTY)
)
"""What a message has that was neither edited nor deleted, answers none and is shown as it is. `alias`: a visitor's name."""
_FILED: Final = ("file", "files", "attachments", "fileUpload", "navigation")
_ENCRYPTED: Final = "e2e"


def message(reader: Reader, collection: str, document: Mapping[str, Any], raw: bytes) -> Row:  # noqa: ARG001
    """A row of MESSAGES."""
    return _short(document, raw) or _whole(reader, document, raw)


def _short(document: Mapping[str, Any], raw: bytes) -> Row | None:
    """The row of words that somebody said, when every value is what it always is: a third of the work. None: to be looked
    at closely."""
    get = document.get
    if not document.keys() <= _SHORT or get("t") == _ENCRYPTED:
        return None
    if (
        get("urls")
        or get("mentions")
        or get("channels")
        or get("reactions")
        or get("attachments")
        or get("files")
    ):
        return None
    user, sent, updated, token, alias = get("u"), get("ts"), get("_updatedAt"), get("token"), get("alias")
    if not type(sent) is type(updated) is DatetimeMS or type(user) is not dict:
        return None
    source_id, room_id, said, kind = get("_id"), get("rid"), get("msg"), get("t")
    author_id, author = user.get("_id"), user.get("username")
    if not type(source_id) is type(room_id) is type(author_id) is type(author) is type(said) is str:
        return None
    if kind is not None and type(kind) is not str:
        return None
    sent_at, updated_at = int(sent), int(updated)
    if not (source_id and room_id and FIRST <= sent_at <= LAST and FIRST <= updated_at <= LAST):
        return None
    if not clean("".join((source_id, room_id, said, author_id, author, kind or ""))):
        return None
    return (
        source_id,
        room_id,
        kind or None,
        sent_at,
        updated_at,
        author_id or None,
        author or None,
        type(token) is str and bool(token),
        "text",
        said or None,
        None,
        None,
        False,
        None,
        None,
        json({"alias": alias}) if alias is not None else None,
        raw,
    )


def _whole(reader: Reader, document: Mapping[str, Any], raw: bytes) -> Row:
    """The row of any message."""
    get = document.get
    source_id, room_id = key_of(document), get("rid")
    if type(room_id) is not str or not room_id or "\x00" in room_id:
        raise _roomless(room_id)
    sent_at = time(document, "ts")
    if sent_at is None:
        raise Reject("wrong_type", "ts is missing")
    kind = get("t")
    if kind is not None:
        kind = sound(kind, "t") or None
    said = get("msg")
    said = (sound(said, "msg") or None) if said is not None else None
    content_kind, files, extra = "text", None, None
    more = get("urls") or get("mentions") or get("channels") or get("reactions") or get("attachments")
    if more or get("files") or kind == _ENCRYPTED or not document.keys() <= _PLAIN:
        content_kind, said, files, extra = _rich(reader, kind, said, document)
    token = get("token")
    user = get("u")
    if type(user) is not dict:
        user = inner(document, "u")
    return (
        source_id,
        room_id,
        kind,
        sent_at,
        time(document, "_updatedAt"),
        identifier(user, "_id"),
        identifier(user, "username"),
        type(token) is str and bool(token),
        content_kind,
        said,
        identifier(document, "tmid") if "tmid" in document else None,
        identifier(document, "parent") if "parent" in document else None,
        flag(document, "_hidden") is True,
        time(document, "editedAt", loose=True) if "editedAt" in document else None,
        files,
        extra,
        raw,
    )


def _roomless(room_id: Any) -> Reject:
    """Before 0.6 what a visitor looked at was a message without a room."""
    if type(room_id) is str and room_id:
        return Reject("nul", "rid holds a NUL character")
    return Reject("orphan", "rid is missing" if room_id is None else "rid is no string with something in it")


def _rich(
    reader: Reader, kind: str | None, said: str | None, document: Mapping[str, Any]
) -> tuple[str, str | None, bytes | None, bytes | None]:
    """Kind and text of the content, files, what has no column."""
    content_kind, files = "text", None
    if any(document.get(name) for name in _FILED):
        told = plain({name: value for name, value in document.items() if name != "md"})
        content = reader.content(told)
        content_kind, said = content.kind, content.text
        if said is not None:
            said = sound(said, "attachments")
        files = _files(reader, told)
    taken = _COLUMNS | _LEFT | {name for name in _EMPTY if not document.get(name)}
    if kind == _ENCRYPTED:
        # Ciphertext is no text; it stays as it is, for whoever holds the key.
        taken, said = taken - {"msg"}, None
    return content_kind, said, files, rest(document, taken)


def _files(reader: Reader, told: Mapping[str, Any]) -> bytes | None:
    pairs = zip(reader.file_ids(told), reader.files(told), strict=True)
    return json([
        {"id": file_id, "ref": one.ref, "name": one.name, "mime": one.mime, "size": one.size} for file_id, one in pairs
    ])  # fmt: skip
