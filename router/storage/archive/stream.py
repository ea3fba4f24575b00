"""The change stream's events, applied: the stream wins over what is there, a deletion leaves a tombstone, and the place
in the stream is kept in the same transaction."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from router.domain.errors import LeaseLost, StoreError
from router.storage.archive import landing, refusals
from router.storage.archive.base import Base
from router.storage.archive.model import Change
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS, Shape

if TYPE_CHECKING:
    from router.storage.archive.base import Link

# A room whose person was erased stays known as that: what is left of its messages must not come in again.
_BLANK = f"""
update archive_rooms set {", ".join(f"{name} = null" for name in ROOMS.names if name not in {"source_id", "kind"})}
where source_id = any($1) and erased_at is not null and raw is not null
"""


class Stream(Base):
    """What happens in a live source."""

    async def apply(
        self, run_id: UUID, changes: Sequence[Change], token: bytes, token_at: datetime | None, *,
        after: bytes | None = None, caught_up: bool = False,
    ) -> int:  # fmt: skip
        """Of several changes of one document the last counts. How many rows were inserted, updated or deleted. `after`:
        the token these follow; `caught_up`: nothing is waiting beyond `token`. Raises LeaseLost (the run's token is not
        `after`: somebody else follows), BadRows, StoreError (no such run), Unavailable; then nothing was applied, and
        the token is the old one."""
        last = {(one.collection, one.source_id): one for one in changes}
        ordered = [last[key] for key in sorted(last)]

        async def work(link: "Link") -> int:
            await landing.alone(link, {one.collection for one in ordered})
            await _advance(link, run_id, token, token_at, after, caught_up=caught_up)
            changed = await _upsert(link, [one for one in ordered if one.row is not None])
            changed += await _take_away(link, [one for one in ordered if one.row is None])
            await landing.mark(link, [one.mark for one in ordered if one.mark is not None])
            await refusals.refuse(link, [one.refused for one in ordered if one.refused is not None], run_id)
            return changed

        return await self._write(work)

    async def tombstones(self, collection: str, ids: Collection[str]) -> set[str]:
        """Which of these documents the source has deleted since."""
        async with self._read() as link:
            rows = await link.fetch(
                "select source_id from archive_tombstones where collection = $1 and source_id = any($2)",
                collection, list(ids),
            )  # fmt: skip
        return {row["source_id"] for row in rows}


async def _advance(
    link: "Link",
    run_id: UUID,
    token: bytes,
    token_at: datetime | None,
    after: bytes | None,
    *,
    caught_up: bool,
) -> None:
    """Move the run's place in the stream."""
    if await link.fetchval(
        "update imports set token = $2, token_at = coalesce($3, token_at),"
        " caught_up_at = case when $5 then now() else caught_up_at end"
        " where id = $1 and ($4::bytea is null or token = $4) returning true",
        run_id, token, token_at, after, caught_up,
    ):  # fmt: skip
        return
    if await link.fetchval("select exists (select from imports where id = $1)", run_id):
        raise LeaseLost("another process follows this source")
    raise StoreError(f"there is no import run {run_id}")


def _by_collection(changes: Sequence[Change]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in changes:
        found[one.collection].append(one.source_id)
    return found


async def _upsert(link: "Link", changes: Sequence[Change]) -> int:
    for collection, ids in _by_collection(changes).items():
        await link.execute(
            "delete from archive_tombstones where collection = $1 and source_id = any($2)", collection, ids
        )
        await refusals.resolve(link, collection, ids)
    shapes: dict[Shape, list[landing.Row]] = defaultdict(list)
    for one in changes:
        if one.row is not None:
            shapes[one.shape].append(one.row)
    changed = 0
    for shape, rows in shapes.items():
        landed = await landing.merge(link, shape, rows, always=True)
        await landing.unweave(link, landed.rooms)
        changed += landed.rows
    return changed


async def _take_away(link: "Link", changes: Sequence[Change]) -> int:
    for collection, ids in _by_collection(changes).items():
        await refusals.resolve(link, collection, ids)
    gone: dict[tuple[Shape, str], list[str]] = defaultdict(list)
    for one in changes:
        gone[one.shape, one.collection].append(one.source_id)
    changed = 0
    for (shape, collection), ids in gone.items():
        changed += await delete(link, shape, collection, ids)
    deleted = [(one.collection, one.source_id, one.at) for one in changes if one.deleted]
    if deleted:
        await link.executemany(
            "insert into archive_tombstones as t (collection, source_id, deleted_at) values ($1, $2, $3)"
            " on conflict (collection, source_id) do update"
            " set deleted_at = greatest(t.deleted_at, excluded.deleted_at)",
            deleted,
        )
    return changed


async def delete(link: "Link", shape: Shape, collection: str, ids: Sequence[str]) -> int:
    """Rows that were there and are gone. Their rooms are woven again."""
    wanted = list(ids)
    if shape == RECORDS:
        done = await link.execute(
            "delete from archive_records where collection = $1 and source_id = any($2)", collection, wanted
        )
        return _count(done)
    if shape == ROOMS:
        blanked = _count(await link.execute(_BLANK, wanted))
        done = await link.execute(
            "delete from archive_rooms where source_id = any($1) and raw is not null", wanted
        )
        return blanked + _count(done)
    rows = await link.fetch(f"delete from {shape.table} where source_id = any($1) returning room_id", wanted)
    if shape in {MESSAGES, FILES}:
        await landing.unweave(link, {row["room_id"] for row in rows if row["room_id"] is not None})
    return len(rows)


def _count(status: str) -> int:
    return int(status.rsplit(maxsplit=1)[-1])
