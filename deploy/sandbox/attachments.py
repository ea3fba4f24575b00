"""Files in Rocket.Chat's messages, in its own words."""

from collections.abc import Mapping
from typing import Any

from deploy.sandbox.workspace import Document, Upload

_SENT_AS_THEY_ARE = frozenset({"image/jpeg", "image/png"})


def of_message(upload: Upload, description: str = "") -> Document:
    """What a message says of its file: file, files, attachments."""
    file = {
        "_id": upload.id,
        "name": upload.name,
        "type": upload.mime,
        "size": len(upload.data),
        "format": upload.name.rpartition(".")[2],
    }
    attachment: Document = {
        "title": upload.name,
        "title_link": upload.path,
        "title_link_download": True,
        "type": "file",
        "description": description,
    }
    kind = upload.mime.partition("/")[0]
    if kind in {"image", "audio", "video"}:
        attachment |= {
            f"{kind}_url": upload.path,
            f"{kind}_type": upload.mime,
            f"{kind}_size": len(upload.data),
        }
    return {"file": file, "files": [file], "attachments": [attachment]}


def with_public_path(message: Mapping[str, Any], uploads: Mapping[str, Upload]) -> Document:
    """A message as webhooks and visitors are shown it: with fileUpload, whose path opens without a login."""
    upload = uploads.get(str((message.get("file") or {}).get("_id")))
    if upload is None:
        return dict(message)
    shown = {
        "publicFilePath": f"{upload.path}?token={upload.token}",
        "type": upload.mime,
        "size": len(upload.data),
    }
    return {**message, "fileUpload": shown}


def kind_of(upload: Upload) -> str:
    """As what WhatsApp's app sends a file."""
    kind = upload.mime.partition("/")[0]
    if kind in {"audio", "video"} or upload.mime in _SENT_AS_THEY_ARE:
        return kind
    return "sticker" if upload.mime == "image/webp" else "document"


def extension(mime: str) -> str:
    """The end of a name for a file that came without one."""
    ends = {"image/jpeg": "jpg", "audio/ogg": "ogg", "audio/mpeg": "mp3", "text/plain": "txt"}
    kind = mime.partition(";")[0]
    return ends.get(kind, kind.rpartition("/")[2])
