"""Whether a database is at this version's revision, asked without loading Alembic: every command asks it."""

from pathlib import Path

import asyncpg

VERSIONS = Path(__file__).with_name("upgrades") / "versions"


def newest() -> str:
    """The revision of the last upgrade script; their files are named after it (u0002_….py)."""
    return max(path.name[1:5] for path in VERSIONS.glob("u[0-9][0-9][0-9][0-9]_*.py"))


async def is_current(dsn: str) -> bool:
    """True when there is nothing to upgrade. Raises asyncpg's errors."""
    link = await asyncpg.connect(dsn)
    try:
        if await link.fetchval("select to_regclass('figueira_upgrades')") is None:
            return False
        return bool(await link.fetchval("select version_num from figueira_upgrades") == newest())
    finally:
        await link.close()
