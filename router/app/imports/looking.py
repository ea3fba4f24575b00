"""Look, and write nothing: what is in a source, how the last import stands, what was refused."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from adapters.rocketchat.documents import Documents
from migration.inspecting import Inspection
from migration.load import Sorter
from migration.weave.places import Places
from router.app.imports.parts import Outcome, mask_of, opened, options_of, webhook_of
from router.app.parts import SystemClock, database
from router.control import imports as control
from router.control.progress import Watch
from router.domain.ports import RoomInfo
from router.settings import Settings
from router.storage.archive import Archive, open_archive


async def inspect(settings: Settings, given: str, chosen: Mapping[str, Any], watch: Watch) -> Outcome:
    """What is there, and what would become of it. Needs no database. Raises SourceError."""
    places = Places(webhook_of(settings), settings.channels)

    def place(info: RoomInfo) -> str | None:
        channel = places.of(info)
        return None if channel is None else channel.slug

    with opened(given) as source:
        sorter = Sorter(Documents(), mask_of(settings), options_of(chosen))
        limit = settings.policy.media_limit_bytes
        found = await Inspection(source, sorter, place, settings.channels, watch, limit=limit).run()
    return Outcome(found, stopped=not found["ended"])


@asynccontextmanager
async def _archive(settings: Settings) -> AsyncIterator[Archive]:
    async with database(settings) as dsn, open_archive(dsn, pool_size=1) as archive:
        yield archive


async def status(settings: Settings, run_id: UUID | None = None) -> dict[str, Any]:
    """See `router.control.imports.status`."""
    async with _archive(settings) as archive:
        return await control.status(archive, SystemClock().now(), run_id)


async def rejects(settings: Settings) -> dict[str, Any]:
    """See `router.control.imports.rejects`."""
    async with _archive(settings) as archive:
        return await control.rejects(archive)
