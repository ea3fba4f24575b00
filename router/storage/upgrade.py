"""Bring a database to this version's tables and roles, and say how it stands."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

_LOCK = 0x46494755  # "FIGU": one upgrade of a database at a time
_ROLES = ("figueira_engine", "figueira_tenant")
_EXTENSIONS = ("vector",)
_SPLIT_MEMBERSHIP = 160000  # since PostgreSQL 16 being a member does not mean SET ROLE is allowed


@dataclass(frozen=True, slots=True)
class Condition:
    """How a database stands. `revision` None: never upgraded. `roles`: those that this login may take on."""

    revision: str | None
    head: str
    server_version: int  # 180006
    roles: tuple[str, ...]
    extensions: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """This version of the product can work on it."""
        return self.revision == self.head and set(self.roles) == set(_ROLES)


async def upgrade(dsn: str, revision: str = "head") -> None:
    """Upgrade as the owner; several processes may call it at once, one does it and the others find it done.

    No statement waits longer than 4 s for a lock (and holds up traffic behind it): then it fails, and is to be
    repeated at a quieter time. Raises asyncpg's or SQLAlchemy's errors: this is the operator's own command.
    """

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(dsn)

    # Of the URL nothing but the driver is used: asyncpg reads the DSN itself, as it does for the pools.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as link:
            await _take_turn(link)
            await link.exec_driver_sql("set lock_timeout = '4s'")
            await link.commit()
            await link.run_sync(_run, revision)
            await link.commit()
    finally:
        await engine.dispose()


async def _take_turn(link: AsyncConnection) -> None:
    # Polled: a process blocked inside a statement would hold a snapshot, for which `create index concurrently` waits.
    while True:
        got = (await link.exec_driver_sql(f"select pg_try_advisory_lock({_LOCK})")).scalar_one()
        await link.commit()
        if got:
            return
        await asyncio.sleep(0.1)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("upgrades")).replace("%", "%%"))
    return config


def _run(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def head() -> str:
    """The revision that this version of the product wants."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise LookupError("no upgrades in the package")
    return found


async def check(dsn: str) -> Condition:
    """Read only."""
    link = await asyncpg.connect(dsn)
    try:
        number = int(await link.fetchval("show server_version_num"))
        known = await link.fetchval("select to_regclass('figueira_upgrades')")
        revision = await link.fetchval("select version_num from figueira_upgrades") if known else None
        right = "SET" if number >= _SPLIT_MEMBERSHIP else "MEMBER"
        roles = await link.fetch(
            "select rolname from pg_roles where rolname = any($1) and pg_has_role(current_user, oid, $2)"
            " order by rolname", list(_ROLES), right,
        )  # fmt: skip
        extensions = await link.fetch(
            "select extname from pg_extension where extname = any($1) order by extname", list(_EXTENSIONS)
        )
    finally:
        await link.close()
    return Condition(
        revision, head(), number, tuple(r["rolname"] for r in roles), tuple(e["extname"] for e in extensions)
    )
