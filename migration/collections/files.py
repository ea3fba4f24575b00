"""Uploads: what is known of a file. Its bytes are elsewhere."""

from collections.abc import Mapping
from typing import Any, Final

from migration.collections import Reader, Row
from migration.collections.secrets import without
from migration.collections.values import flag, identifier, inner, integer, rest, text, time
from migration.documents import key_of

SECRETS: Final = ("visitorToken", "encryption")
"""The token that `Mask` does not know by this name; the key of an encrypted file."""

clean = without(*SECRETS)

_STORES: Final = ("AmazonS3", "s3", "GoogleStorage", "googleCloudStorage", "Webdav")
"""Fields that hold the place in a store of that kind, in old and new spelling."""
_TAKEN: Final = frozenset(
    ("_id", "rid", "userId", "name", "type", "size", "store", "path", "uploadedAt", "_updatedAt", "complete", "token",
     *SECRETS)
)  # fmt: skip


def upload(reader: Reader, collection: str, document: Mapping[str, Any], raw: bytes) -> Row:  # noqa: ARG001
    """A row of FILES."""
    placed = next((name for name in _STORES if document.get(name)), None)
    path = text(inner(document, placed), "path") if placed else None
    return (
        key_of(document),
        identifier(document, "rid"),
        identifier(document, "userId"),
        text(document, "name"),
        text(document, "type"),
        integer(document, "size"),
        text(document, "store"),
        path or text(document, "path"),
        time(document, "uploadedAt", loose=True),
        time(document, "_updatedAt", loose=True),
        flag(document, "complete"),
        rest(document, _TAKEN - {"path"} if path else _TAKEN),
        raw,
    )
