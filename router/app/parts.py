"""Everything put together once: database, store, flags, heart, edges."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom

from adapters import KINDS
from flags.local import LocalSource
from router import metrics
from router.control.desk import Desk
from router.delivery import Compose
from router.domain.channel import RESERVED, Channel
from router.domain.errors import ConfigurationError
from router.domain.ids import Ids
from router.domain.ports import Kind
from router.facade import Facade
from router.identity import Resolver
from router.settings import Settings
from router.storage.embedded import attach
from router.storage.flags import PostgresFlagStore
from router.storage.postgres import open_store
from router.storage.revision import is_current

COMMAND_POOL = 2
"""Connections of each role a command opens; a process that serves opens more."""


class SystemClock:
    """The clock port."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic()


class SystemDice:
    """The random port."""

    def __init__(self) -> None:
        self._random = SystemRandom()

    def bytes(self, count: int) -> bytes:
        """From the operating system."""
        return secrets.token_bytes(count)

    def fraction(self) -> float:
        """In [0, 1)."""
        return self._random.random()


@dataclass(frozen=True, slots=True)
class Core:
    """What both a command and a server need."""

    desk: Desk
    source: LocalSource
    resolver: Resolver
    clock: SystemClock
    dice: SystemDice
    dsn: str


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The owner's DSN of the database, upgraded: the outside one, or the embedded server held while the block runs."""
    if settings.database_url is not None:
        await _upgraded(settings.database_url)
        yield settings.database_url
        return
    embedded = await asyncio.to_thread(attach, settings.home)
    try:
        await _upgraded(embedded.dsn)
        yield embedded.dsn
    finally:
        await asyncio.to_thread(embedded.release)


async def _upgraded(dsn: str) -> None:
    if not await is_current(dsn):
        from router.storage.upgrade import upgrade  # loads Alembic: not for every command

        await upgrade(dsn)


@asynccontextmanager
async def open_core(settings: Settings, pool_size: int) -> AsyncIterator[Core]:
    """Database, store, flags and the acts over them."""
    if settings.flags != "local":
        raise ConfigurationError(
            "FIGUEIRA_FLAGS=unleash is not available yet: leave it unset or set it to local"
        )
    async with database(settings) as dsn, open_store(
        dsn, tombstone_key=settings.keys.tombstone, pool_size=pool_size
    ) as store:  # fmt: skip
        await store.sync_channels(settings.channels.values())
        clock, dice = SystemClock(), SystemDice()
        ids = Ids(clock, dice)
        kinds = kinds_in_use()
        flag_store = PostgresFlagStore(store)
        source = LocalSource(flag_store, monotonic=clock.monotonic)
        await source.refresh()
        facade = Facade(source, ids)
        resolver = Resolver(ids, settings.keys.cohort)
        compose = Compose(pins=facade, resolver=resolver, ids=ids, kinds=kinds)
        desk = Desk(
            store=store, flags=flag_store, facade=facade, compose=compose, channels=settings.channels, kinds=kinds,
            ids=ids, clock=clock, meter=metrics.Recorder(), secrets=settings.keys,
        )  # fmt: skip
        yield Core(desk, source, resolver, clock, dice, dsn)


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """A desk for one command."""
    async with open_core(settings, COMMAND_POOL) as core:
        yield core.desk


def kinds_in_use() -> dict[str, Kind]:
    """Every kind of the register."""
    return {name: adapter.kind() for name, adapter in KINDS.items()}


def declared(channels: Mapping[str, Channel]) -> list[tuple[str, str]]:
    """(channel, kind) of every series that begins at zero."""
    return [(channel.slug, channel.kind) for channel in channels.values()] + [(RESERVED, "rocketchat")]
