"""Everything put together once: database, store, flags, heart, edges."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import SystemRandom

from adapters import KINDS
from adapters.files.store import open_store as open_files
from adapters.rocketchat.admin import Admin
from adapters.rocketchat.rest import RocketChatRest
from adapters.rocketchat.webhook import Webhook
from adapters.transport import HttpClient, open_client
from flags.local import LocalSource
from router import metrics
from router.control.desk import Desk
from router.delivery import Compose
from router.domain.channel import RESERVED, Channel
from router.domain.errors import ConfigurationError, Rejected
from router.domain.ids import Ids
from router.domain.ports import Kind
from router.facade import Facade
from router.identity import Resolver
from router.ingest import Rooms, Sweep
from router.settings import Settings
from router.storage.archive import Archive, open_archive
from router.storage.embedded import attach
from router.storage.flags import PostgresFlagStore
from router.storage.postgres import PostgresStore, open_store
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
    client: HttpClient
    rest: RocketChatRest | None  # None: Rocket.Chat's REST may not be used
    rooms: Rooms


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
async def _history(dsn: str, *, wanted: bool) -> AsyncIterator[Archive | None]:
    """What is known of imports; None: nobody asks here."""
    if not wanted:
        yield None
        return
    async with open_archive(dsn, pool_size=1) as archive:
        yield archive


@asynccontextmanager
async def open_core(settings: Settings, pool_size: int, *, history: bool = False) -> AsyncIterator[Core]:
    """Database, store, flags and the acts over them; `history`: and what imports of Rocket.Chat's history did."""
    if settings.flags != "local":
        raise ConfigurationError(
            "FIGUEIRA_FLAGS=unleash is not available yet: leave it unset or set it to local"
        )
    async with (
        database(settings) as dsn,
        open_store(dsn, tombstone_key=settings.keys.tombstone, pool_size=pool_size) as store,
        open_client(settings.policy.request_timeout_seconds) as client,
        _history(dsn, wanted=history) as archive,
    ):
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
        rest = rest_client(settings, client, clock)
        rooms = rooms_of(settings, facade, resolver, ids)
        meter = metrics.Recorder()
        sweep = sweep_of(settings, store, rooms, rest, meter)
        desk = Desk(
            store=store, flags=flag_store, facade=facade, compose=compose, channels=settings.channels, kinds=kinds,
            ids=ids, clock=clock, meter=meter, secrets=settings.keys, files=open_files(settings.media),
            admin=admin_of(settings, rest), history=archive, public_url=settings.public_url,
            callbacks={name: made(client) for name, adapter in KINDS.items() if (made := adapter.callbacks)},
            media_limit_bytes=settings.policy.media_limit_bytes, sweep=sweep,
            learn_rooms=partial(learn_rooms, sweep) if sweep is not None else None,
        )  # fmt: skip
        yield Core(desk, source, resolver, clock, dice, dsn, client, rest, rooms)


class Patience:
    """Waiting, where nothing rings."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """As `router.ingest.sweep.Pause`."""
        del topic
        await asyncio.sleep(seconds)
        return False


def rest_client(settings: Settings, client: HttpClient, clock: SystemClock) -> RocketChatRest | None:
    """Rocket.Chat's REST as our user; None without its id and token."""
    known = settings.rocketchat
    if known is None or not known.user_id or not known.auth_token:
        return None
    return RocketChatRest(client, known.base_url, known.user_id, known.auth_token, clock)


def admin_of(settings: Settings, rest: RocketChatRest | None) -> Admin | None:
    """Rocket.Chat's settings and users."""
    known = settings.rocketchat
    if known is None or rest is None:
        return None
    return Admin(
        rest.client,
        webhook_token=known.webhook_token,
        integration_token=known.integration_token,
        bot_user_id=known.bot_user_id,
    )


async def learn_rooms(sweep: Sweep, count: bool) -> Mapping[str, int]:
    """Rocket.Chat's open rooms, learned and pinned, or only counted. Raises Rejected."""
    found = await sweep.learn(write=not count)
    if not found.complete:
        raise Rejected("rocketchat_unreachable", found.reason or "no answer", 409)
    return {"rooms": found.rooms, "pinned": found.added, "unplaced": found.unplaced}


def rooms_of(settings: Settings, facade: Facade, resolver: Resolver, ids: Ids) -> Rooms:
    """What hears Rocket.Chat."""
    known, channels = settings.rocketchat, settings.channels
    sources = {name: source.channel for name, source in known.sources.items()} if known is not None else {}
    return Rooms(
        pins=facade, resolver=resolver, ids=ids, channels=channels, webhook=Webhook(sources, channels),
        bot_user_id=known.bot_user_id if known is not None else None,
    )  # fmt: skip


def sweep_of(
    settings: Settings,
    store: PostgresStore,
    rooms: Rooms,
    rest: RocketChatRest | None,
    meter: metrics.Recorder,
) -> Sweep | None:
    """What reads Rocket.Chat's history; None without its REST."""
    if rest is None:
        return None
    return Sweep(
        store=store, rooms=rooms, rocketchat=rest, meter=meter, policy=settings.policy,
        pause=Patience(),
    )  # fmt: skip


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
