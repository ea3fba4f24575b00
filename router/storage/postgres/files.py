"""Files of messages, and what the receiving sides call those they were given."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from router.domain.channel import EVERY_TENANT
from router.domain.media import Media, MediaState, Origin
from router.storage.postgres.base import FOR_UPDATE, Base, insert
from router.storage.postgres.codec import clean, clean_or_none

if TYPE_CHECKING:
    from asyncpg import Record

_COLUMNS = (
    "id", "tenant_id", "channel", "message_id", "origin", "ref", "created_at", "state", "mime", "name", "size",
    "sha256", "expires_at", "stored_at", "error_code",
)  # fmt: skip
_SELECT = f"select {', '.join(_COLUMNS)} from media"
_INSERT = insert("media", _COLUMNS)
_UPDATE = (
    "update media set "
    + ", ".join(f"{name} = ${place}" for place, name in enumerate(_COLUMNS[1:], 2))
    + " where id = $1"
)
_BIGINT = 2**63


def _values(m: Media) -> tuple[object, ...]:
    # A size is what the other side claims: what no bigint holds is no size.
    size = m.size if m.size is not None and -_BIGINT <= m.size < _BIGINT else None
    return (
        m.id, m.tenant, m.channel, m.message_id, m.origin, clean(m.ref), m.created_at, m.state, clean_or_none(m.mime),
        clean_or_none(m.name), size, clean_or_none(m.sha256), m.expires_at, m.stored_at, m.error_code,
    )  # fmt: skip


def _media(row: "Record") -> Media:
    return Media(
        id=row["id"],
        tenant=row["tenant_id"],
        channel=row["channel"],
        message_id=row["message_id"],
        origin=Origin(row["origin"]),
        ref=row["ref"],
        created_at=row["created_at"],
        state=MediaState(row["state"]),
        mime=row["mime"],
        name=row["name"],
        size=row["size"],
        sha256=row["sha256"],
        expires_at=row["expires_at"],
        stored_at=row["stored_at"],
        error_code=row["error_code"],
    )


class Files(Base):
    """The file part of Tx."""

    async def add_media(self, media: Media) -> None:
        await self._link.execute(_INSERT, *_values(media))

    async def media(self, media_id: UUID, *, lock: bool = False) -> Media | None:
        row = await self._link.fetchrow(f"{_SELECT} where id = $1{FOR_UPDATE[lock]}", media_id)
        return _media(row) if row else None

    async def media_of(self, message_id: UUID) -> Sequence[Media]:
        rows = await self._link.fetch(f"{_SELECT} where message_id = $1 order by seq", message_id)
        return [_media(row) for row in rows]

    async def save_media(self, media: Media) -> None:
        await self._link.execute(_UPDATE, *_values(media))

    async def uploaded(self, slug: str, target: str, sha256: str, *, expired: bool = False) -> str | None:
        found: str | None = await self._link.fetchval(
            "select file_id from media_uploads"
            " where channel = $1 and target = $2 and sha256 = $3 and (expires_at > now() or $4)",
            slug, target, sha256, expired,
        )  # fmt: skip
        return found

    async def save_upload(
        self, slug: str, target: str, sha256: str, file_id: str, expires_at: datetime
    ) -> None:
        await self._link.execute(
            "insert into media_uploads (channel, target, sha256, tenant_id, file_id, expires_at)"
            " values ($1, $2, $3, coalesce((select tenant_id from channels where slug = $1), $6), $4, $5)"
            " on conflict (channel, target, sha256) do update set tenant_id = excluded.tenant_id,"
            " file_id = excluded.file_id, expires_at = excluded.expires_at",
            slug, target, sha256, file_id, expires_at, EVERY_TENANT,
        )  # fmt: skip
