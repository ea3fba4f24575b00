"""One channel, one file, and what Meta says of it."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from adapters.files.address import Resolve
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.media import Media, MediaState, Origin, Stored
from tests.integration.adapters.files.web import Web
from tests.unit.adapters.files.samples import JPEG

MB = 1024 * 1024
SHA = hashlib.sha256(JPEG).hexdigest()
KEPT = Stored(SHA, len(JPEG), "image/jpeg")
OK = Result(Outcome.OK)
MEDIA = Media(
    UUID(int=1), "sol", "zap", Origin.PROVIDER, "15", datetime.now(UTC), mime="image/jpeg", sha256=SHA
)
CHAT = {"X-User-Id": "bot", "X-Auth-Token": "room-secret"}


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 65536):
        yield data[at : at + 65536]


def cloud(web: Web, **changed: str) -> Channel:
    native = {
        "base_url": f"{web.url}/v23.0/",
        "phone_number_id": "700",
        "access_token": "meta-secret",
        **changed,
    }
    return Channel("zap", "whatsapp", "sol", native)


def dialog(web: Web) -> Channel:
    return Channel(
        "zap", "whatsapp", "sol", {"provider": "360dialog", "base_url": web.url, "api_key": "dialog-secret"}
    )


def told(web: Web, **more: object) -> dict[str, object]:
    """What Meta says of media 15."""
    said = {"url": f"{web.url}/bytes", "mime_type": "image/jpeg", "sha256": SHA, "file_size": str(len(JPEG))}
    return {**said, "id": "15", "messaging_product": "whatsapp", **more}


def sent(web: Web, name: str) -> list[str | None]:
    return [request.headers.get(name) for request in web.asked]


def media_of(stored: Stored, **more: Any) -> Media:
    given = {
        "mime": stored.mime,
        "size": stored.size,
        "sha256": stored.sha256,
        "state": MediaState.STORED,
        **more,
    }
    return replace(MEDIA, origin=Origin.UPLOAD, ref="", **given)


def names(**known: str | list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that knows these names (with _ for a dot), and what it was asked."""
    asked: list[str] = []

    async def look(host: str, port: int) -> Sequence[str]:
        asked.append(f"{host}:{port}")
        found = known.get(host.replace(".", "_"))
        if found is None:
            raise OSError("no such name")
        return [found] if isinstance(found, str) else found

    return look, asked
