"""flags.ports.FlagStore on PostgreSQL: flags, their history, their floors. One counter for all kinds, under one lock."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flags.ports import Flag, RevisionMoved, Snapshot, Strategy
from flags.stage import Stage
from router.storage.postgres import PostgresStore
from router.storage.postgres.conversations import LOCK_FLOOR
from router.storage.postgres.failures import translated

if TYPE_CHECKING:
    from router.storage.postgres.base import Link

_LOCK_FLAGS = 0x464C4147  # "FLAG"


def to_document(flag: Flag) -> dict[str, Any]:
    """A flag as JSON."""
    return {
        "kind": flag.kind,
        "stage": flag.stage.value,
        "percent": flag.percent,
        "base": flag.base.value,
        "strategies": [
            {"rule": s.rule, "values": list(s.values), "stage": s.stage.value, "percent": s.percent}
            for s in flag.strategies
        ],
        "override": None if flag.override is None else dict(flag.override),
        "revision": flag.revision,
        "updated_by": flag.updated_by,
        "updated_at": flag.updated_at.isoformat() if flag.updated_at else None,
        "reason": flag.reason,
    }


def from_document(document: dict[str, Any]) -> Flag:
    """The way back."""
    at = document["updated_at"]
    return Flag(
        kind=document["kind"],
        stage=Stage(document["stage"]),
        percent=document["percent"],
        base=Stage(document["base"]),
        strategies=tuple(
            Strategy(s["rule"], tuple(s["values"]), Stage(s["stage"]), s["percent"])
            for s in document["strategies"]
        ),
        override=document["override"],
        revision=document["revision"],
        updated_by=document["updated_by"],
        updated_at=datetime.fromisoformat(at) if at else None,
        reason=document["reason"],
    )


class PostgresFlagStore:
    """Works on the pools of a store that is open. Raises Unavailable and StoreError."""

    def __init__(self, store: PostgresStore) -> None:
        self._pool = store.engine
        self._ring = store.ring

    async def snapshot(self) -> Snapshot:
        """See FlagStore."""
        with translated():
            rows = await self._pool.fetch("select flag from flags order by kind")
        found = {flag.kind: flag for flag in (from_document(row["flag"]) for row in rows)}
        return Snapshot(max((flag.revision for flag in found.values()), default=0), found)

    async def save(self, flag: Flag, *, expected: int | None, floor: bool) -> Flag:
        """See FlagStore. With `floor` it waits for the decisions under way on this kind."""
        with translated():
            async with self._pool.acquire() as link, link.transaction():
                saved = await _save(link, flag, expected)
                if floor:
                    await _raise_floor(link, saved)
        self._ring(["flags"])
        return saved

    async def history(self, kind: str, limit: int = 100) -> Sequence[Flag]:
        """See FlagStore."""
        with translated():
            rows = await self._pool.fetch(
                "select flag from flag_history where kind = $1 order by revision desc limit $2", kind, limit
            )
        return [from_document(row["flag"]) for row in rows]


async def _save(link: "Link", flag: Flag, expected: int | None) -> Flag:
    await link.execute("select pg_advisory_xact_lock($1, 0)", _LOCK_FLAGS)
    row = await link.fetchrow(
        "select coalesce(max(revision), 0) + 1 as next, now() as at,"
        " coalesce((select revision from flags where kind = $1), 0) as stored from flag_history",
        flag.kind,
    )  # fmt: skip
    assert row is not None  # noqa: S101 - for the type checker: an aggregate is always one row
    if expected is not None and row["stored"] != expected:
        raise RevisionMoved(f"flag {flag.kind}: revision {expected} expected, {row['stored']} stored")
    saved = replace(flag, revision=row["next"], updated_at=flag.updated_at or row["at"])
    document = to_document(saved)
    await link.execute(
        "insert into flag_history (revision, kind, flag) values ($1, $2, $3)",
        saved.revision,
        saved.kind,
        document,
    )
    await link.execute(
        "insert into flags (kind, revision, flag) values ($1, $2, $3)"
        " on conflict (kind) do update set revision = excluded.revision, flag = excluded.flag",
        saved.kind, saved.revision, document,
    )  # fmt: skip
    return saved


async def _raise_floor(link: "Link", flag: Flag) -> None:
    await link.execute("select pg_advisory_xact_lock($1, hashtext($2))", LOCK_FLOOR, flag.kind)
    await link.execute(
        "insert into flag_floors (kind, revision) values ($1, $2)"
        " on conflict (kind) do update set revision = excluded.revision",
        flag.kind, flag.revision,
    )  # fmt: skip
