"""How rows of documents get into their tables: copied straight in, or merged with what is there; and which rooms are to
be woven again because of it."""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg

from router.domain.errors import Conflict
from router.storage.archive.binary import BadRows, blocks
from router.storage.archive.model import Mark
from router.storage.archive.shape import FILES, MESSAGES, ROOMS, Shape

if TYPE_CHECKING:
    from router.storage.archive.base import Link

Row = tuple[Any, ...]

_LOCK = 0x46494741  # "FIGA"
# Of a table of copied documents, what else changes with a new version of a row.
_BESIDE = {
    ROOMS.table: ", skipped = null, woven = false",
    # The bytes of an upload never change; one that was not there yet, or not complete, is looked for again.
    FILES.table: ", state = case when t.state = 'stored' and t.size is not distinct from excluded.size"
    " then t.state else 'waiting' end, error = null",
}
_COLUMN = re.compile(r", column (\w+)")


@dataclass(frozen=True, slots=True)
class Landed:
    """`rows`: inserted or updated. `rooms`: theirs. `dropped`: those the source has deleted since."""

    rows: int
    rooms: Sequence[str]
    dropped: int = 0


@contextmanager
def judged() -> Iterator[None]:
    """What PostgreSQL has against a value, as BadRows."""
    try:
        yield
    except (
        asyncpg.DataError,
        asyncpg.NotNullViolationError,
        asyncpg.CheckViolationError,
        asyncpg.ProgramLimitExceededError,
    ) as error:
        # Never the error's own text: it may quote the value.
        where = _COLUMN.search(getattr(error, "context", None) or "")
        column = error.column_name or (where[1] if where else "a value")
        raise BadRows(f"{column}: {type(error).__name__} {error.sqlstate}") from None


async def share(link: "Link", collection: str) -> None:
    """Chunks of a collection may come in side by side, but not while its changes are applied: else a chunk would miss a
    deletion that is not committed yet, and bring the row back."""
    await link.execute("select pg_advisory_xact_lock_shared($1, hashtext($2))", _LOCK, collection)


async def alone(link: "Link", collections: Iterable[str]) -> None:
    """The other side of `share`."""
    for collection in sorted(set(collections)):
        await link.execute("select pg_advisory_xact_lock($1, hashtext($2))", _LOCK, collection)


async def _stream(shape: Shape, rows: Sequence[Row]) -> AsyncIterator[bytes]:
    for block in blocks(shape, rows):
        yield block


async def _copy(link: "Link", table: str, shape: Shape, rows: Sequence[Row]) -> None:
    with judged():
        await link.copy_to_table(
            table, source=_stream(shape, rows), columns=list(shape.names), format="binary"
        )


# ---- straight in


async def copy(link: "Link", shape: Shape, collection: str, rows: Sequence[Row]) -> Landed:
    """Raises Conflict when a row is there already, or the collection has tombstones: merge then. Raises BadRows."""
    if await link.fetchval(
        "select exists (select from archive_tombstones where collection = $1)", collection
    ):
        raise Conflict("the source has deleted documents of this collection since")
    try:
        await _copy(link, shape.table, shape, rows)
    except asyncpg.UniqueViolationError:
        raise Conflict("a document of this chunk is there already") from None
    return Landed(len(rows), _rooms(shape, rows))


def _rooms(shape: Shape, rows: Sequence[Row]) -> list[str]:
    """Rooms that rows belong to; rooms themselves are new here, and so not woven."""
    if shape not in {MESSAGES, FILES}:
        return []
    place = shape.names.index("room_id")
    return sorted({row[place] for row in rows} - {None})


# ---- merged


def unique(shape: Shape, rows: Sequence[Row]) -> list[Row]:
    """The last row of each key."""
    places = [shape.names.index(name) for name in shape.key]
    return list({tuple(row[place] for place in places): row for row in rows}.values())


def _staged(shape: Shape) -> str:
    return f"staged_{shape.table}"


@lru_cache
def _staging(shape: Shape) -> str:
    # Made once for a connection: made and dropped for each chunk it would fill the catalogue with dead rows.
    columns = ", ".join(f"{name} {kind.value}" for name, kind in shape.columns)
    return f"create temporary table if not exists {_staged(shape)} ({columns}) on commit delete rows"


@lru_cache
def _merging(shape: Shape, always: bool) -> str:
    """Ordered by key, so that two workers that meet wait for each other and do not deadlock. Rows that would change
    nothing are left out before they are locked; a row that came between is judged again."""

    def wins(old: str, new: str) -> str:
        if always:
            return f"{old}.raw is distinct from {new}.raw"
        newer = (
            f"({new}.updated_at >= {old}.updated_at or {new}.updated_at is null or {old}.updated_at is null)"
        )
        return f"({old}.raw is null or {old}.raw <> {new}.raw and {newer})"

    same = " and ".join(f"o.{name} = s.{name}" for name in shape.key)
    room = {ROOMS: "source_id", MESSAGES: "room_id", FILES: "room_id"}.get(shape)
    return f"""
with merged as (
    insert into {shape.table} as t ({", ".join(shape.names)})
    select {", ".join(f"s.{name}" for name in shape.names)}
    from {_staged(shape)} s left join {shape.table} o on {same}
    where o.{shape.key[0]} is null or {wins("o", "s")}
    order by {", ".join(f"s.{name}" for name in shape.key)}
    on conflict ({", ".join(shape.key)}) do update set
        {", ".join(f"{name} = excluded.{name}" for name in shape.names if name not in shape.key)}
        {_BESIDE.get(shape.table, "")}
    where {wins("t", "excluded")}
    returning {"t." + room if room else "null::text"} as room
) select count(*) as changed, array_agg(distinct room) filter (where room is not null) as rooms from merged
"""


async def merge(
    link: "Link", shape: Shape, rows: Sequence[Row], *, collection: str = "", always: bool = False
) -> Landed:
    """Rows whose keys differ from each other. A row of another version wins when it is not older, or `always`: then
    tombstones do not matter either. Raises BadRows."""
    await link.execute(_staging(shape))
    await _copy(link, _staged(shape), shape, rows)
    dropped = 0
    with judged():
        if not always:
            done = await link.execute(
                f"delete from {_staged(shape)} s using archive_tombstones d"
                " where d.collection = $1 and d.source_id = s.source_id",
                collection,
            )
            dropped = int(done.split()[-1])
        found = await link.fetchrow(_merging(shape, always))
    assert found is not None  # noqa: S101 - for the type checker: a count has one row
    return Landed(found["changed"], found["rooms"] or [], dropped)


# ---- rooms


async def unweave(link: "Link", rooms: Collection[str]) -> None:
    """These rooms are to be woven again. In order, as everybody takes them."""
    if rooms:
        await link.execute(
            "with held as (select source_id from archive_rooms where source_id = any($1) and woven"
            " order by source_id for no key update)"
            " update archive_rooms r set woven = false from held where r.source_id = held.source_id",
            sorted(set(rooms)),
        )


async def mark(link: "Link", marks: Sequence[Mark]) -> None:
    """Rooms that are not kept. Of a room that is kept, only `erased_at` is taken over, and never taken back."""
    last = {one.room_id: one for one in marks if one.skipped is not None or one.erased_at is not None}
    if not last:
        return
    ordered = [last[room] for room in sorted(last)]
    await link.execute(
        """
        insert into archive_rooms as t (source_id, kind, skipped, erased_at)
        select m.* from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
            as m (source_id, kind, skipped, erased_at) left join archive_rooms o on o.source_id = m.source_id
        where o.source_id is null or o.erased_at is distinct from greatest(o.erased_at, m.erased_at)
            or o.raw is null and o.skipped is distinct from m.skipped
        order by m.source_id
        on conflict (source_id) do update set
            kind = case when t.raw is null then coalesce(excluded.kind, t.kind) else t.kind end,
            skipped = case when t.raw is null then excluded.skipped end,
            erased_at = greatest(t.erased_at, excluded.erased_at), woven = false
        where t.erased_at is distinct from greatest(t.erased_at, excluded.erased_at)
            or t.raw is null and t.skipped is distinct from excluded.skipped
        """,
        [one.room_id for one in ordered], [one.kind for one in ordered],
        [one.skipped for one in ordered], [one.erased_at for one in ordered],
    )  # fmt: skip
