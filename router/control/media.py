"""Files: taken in, looked at, handed out, asked for again."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from router.control.desk import Desk, id_of
from router.control.messages import channel_named
from router.domain.errors import Rejected
from router.domain.media import Media, MediaState, Origin, Stored
from router.domain.ports import FileStore, Tx

NAME_LENGTH: Final = 240
PLAIN: Final = "application/octet-stream"
_ID = ("unknown_media", "file")
_OFFICE = "application/vnd.openxmlformats-officedocument."
_OLD_OFFICE = frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"})
_FINER: Final = {
    "application/zip": frozenset(
        f"{_OFFICE}{name}"
        for name in ("wordprocessingml.document", "spreadsheetml.sheet", "presentationml.presentation")
    ),
    PLAIN: _OLD_OFFICE | {"text/plain"},
    **dict.fromkeys(_OLD_OFFICE, _OLD_OFFICE),
    "text/plain": frozenset({"text/csv"}),
    "video/mp4": frozenset({"audio/mp4"}),
    "video/webm": frozenset({"audio/webm"}),
}
"""What the content cannot tell apart, and the caller may: none of these is run by a browser."""
_MISSING: Final = {
    MediaState.WAITING: ("media_waiting", "the file has not been fetched yet"),
    MediaState.GONE: ("media_gone", "whoever had the file has it no more"),
    MediaState.REFUSED: ("media_refused", "the file was refused: see error_code"),
}


@dataclass(frozen=True, slots=True)
class File:
    """A file that is here: its bytes begin at `first` and are `length` long, out of `size`."""

    media: Media
    size: int
    first: int
    length: int
    chunks: AsyncIterator[bytes]

    @property
    def mime(self) -> str:
        """As its content says."""
        return self.media.mime or PLAIN


def shape(media: Media) -> dict[str, Any]:
    """A file as HTTP shows it."""
    return {
        "id": str(media.id),
        "state": media.state.value,
        "mime": media.mime,
        "name": media.name,
        "size": media.size,
        "message_id": str(media.message_id) if media.message_id else None,
        "error_code": media.error_code,
    }


async def upload(
    desk: Desk, chunks: AsyncIterator[bytes], *, declared: str | None = None, name: str | None = None,
    channel: str | None = None, tenant: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keep a caller's file: {id, mime, size, sha256}. `channel` may be left out by a caller of one tenant.

    Raises Rejected: 503 no_file_store, 413 too_large, 422 empty_file, unknown_channel, ambiguous_channel.
    """
    if channel is not None or tenant in (None, "*"):
        chosen = channel_named(desk, channel, tenant)
        slug, owner = chosen.slug, chosen.tenant
    else:
        slug, owner = "", tenant or ""
    stored = await _store(desk).save(chunks, limit=desk.media_limit_bytes)

    async def work(tx: Tx) -> Media:
        now = await tx.now()
        media = Media(
            desk.ids.new(), owner, slug, Origin.UPLOAD, stored.sha256, now, MediaState.STORED,
            mime=_type(stored, declared), name=file_name(name), size=stored.size, sha256=stored.sha256, stored_at=now,
        )  # fmt: skip
        await tx.add_media(media)
        return media

    media = await desk.store.transact(work, tenant=owner)
    return {"id": str(media.id), "mime": media.mime, "size": media.size, "sha256": media.sha256}


async def one(desk: Desk, media_id: UUID | str, tenant: str | None = None) -> Media:
    """Raises Rejected unknown_media (404), also when it is another tenant's."""
    wanted = id_of(media_id, *_ID)
    return await desk.store.transact(lambda tx: _media(tx, wanted), tenant=tenant)


async def content(
    desk: Desk,
    media_id: UUID | str,
    *,
    tenant: str | None = None,
    wanted: tuple[int, int | None] | None = None,
) -> File:
    """The bytes; of them `wanted` (first, last) alone. Raises Rejected: 404 unknown_media, media_waiting, media_gone,
    media_refused; 416 range; 503 no_file_store."""
    media = await one(desk, media_id, tenant)
    if media.state is not MediaState.STORED or media.sha256 is None:
        raise Rejected(*_MISSING.get(media.state, _MISSING[MediaState.GONE]), 404)
    size = media.size or 0
    first, last = wanted or (0, None)
    last = size - 1 if last is None else min(last, size - 1)
    if wanted is not None and first > last:
        raise Rejected("range", "the file is shorter than that", 416)
    store = _store(desk)
    try:
        chunks = store.open(media.sha256)
        head = await anext(chunks, b"")
    except LookupError:
        raise Rejected(*_MISSING[MediaState.GONE], 404) from None
    return File(media, size, first, last - first + 1, _cut(head, chunks, first, last + 1))


async def fetch(desk: Desk, media_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """Ask for a file again that is not here; one that is stays as it is. Raises Rejected: unknown_media (404),
    media_gone (409) for an uploaded one, which nobody else has."""
    wanted = id_of(media_id, *_ID)

    async def work(tx: Tx) -> Media:
        media = await _media(tx, wanted, lock=True)
        if media.state is MediaState.STORED:
            return media
        if media.origin is Origin.UPLOAD:
            raise Rejected(
                "media_gone", "this file was uploaded and is not kept any more: upload it again", 409
            )
        await desk.compose.refetch(tx, media)
        return replace(media, state=MediaState.WAITING, error_code=None)

    return shape(await desk.store.transact(work, tenant=tenant))


def file_name(name: str | None) -> str | None:
    """The last part of a path, without what no file is called by; None when nothing is left."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip(" .")[:NAME_LENGTH] or None


def _type(stored: Stored, declared: str | None) -> str:
    given = (declared or "").partition(";")[0].strip().lower()
    return given if given in _FINER.get(stored.mime, ()) else stored.mime


def _store(desk: Desk) -> FileStore:
    if desk.files is None:
        raise Rejected("no_file_store", "this installation keeps no files", 503)
    return desk.files


async def _media(tx: Tx, media_id: UUID, *, lock: bool = False) -> Media:
    found = await tx.media(media_id, lock=lock)
    if found is None:
        raise Rejected(_ID[0], "no such file", 404)
    return found


async def _cut(head: bytes, chunks: AsyncIterator[bytes], first: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from `first` up to `end`; the store is read no further."""
    at, chunk = 0, head
    try:
        while chunk and at < end:
            kept = chunk[max(0, first - at) : end - at]
            if kept:
                yield kept
            at += len(chunk)
            chunk = await anext(chunks, b"") if at < end else b""
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
