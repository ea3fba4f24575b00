"""What a verification writes: rows put right again whatever stands there, and how far it has come."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from router.storage.archive import landing, refusals, stream
from router.storage.archive.base import Base
from router.storage.archive.model import Refused
from router.storage.archive.rows import of_collection
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, Shape
from router.storage.postgres.failures import translated

if TYPE_CHECKING:
    from router.storage.archive.base import Link

_RESTORE = """
update archive_files f set state = 'stored', sha256 = k.sha256, stored_size = k.size, error = null
from unnest($1::text[], $2::text[], $3::bigint[]) as k (source_id, sha256, size) where f.source_id = k.source_id
"""

# When a row is from, as the import takes it.
_TIMES = {
    MESSAGES: "t.sent_at",
    FILES: "coalesce(t.uploaded_at, t.updated_at)",
    RECORDS: "coalesce(t.at, t.updated_at)",
}


class Mending(Base):
    """Repair, and notes of a run."""

    async def mend(
        self, run_id: UUID, shape: Shape, collection: str, rows: Sequence[landing.Row], *,
        refused: Sequence[Refused] = (), gone: Collection[str] = (),
    ) -> int:  # fmt: skip
        """In one transaction: these rows as the source has them, also over one of the same bytes or a newer time; these
        refusals; and the rows with the ids `gone` away, without a tombstone. How many rows changed. Raises BadRows,
        Unavailable."""

        async def work(link: "Link") -> int:
            await landing.alone(link, {collection})
            changed = await _replace(link, shape, collection, rows) if rows else 0
            if gone:
                changed += await stream.delete(link, shape, collection, sorted(set(gone)))
            await refusals.refuse(link, refused, run_id)
            return changed

        return await self._write(work)

    async def unerased(self, shape: Shape, collection: str) -> list[tuple[str, str]]:
        """(source_id, room_id) of rows from before their room's person was erased: they should not be here."""
        if shape not in _TIMES:
            return []
        where, values = of_collection(shape, collection)
        async with self._read() as link:
            rows = await link.fetch(
                f"select t.source_id, t.room_id from {shape.table} t join archive_rooms r on r.source_id = t.room_id"
                f" where r.erased_at is not null and coalesce({_TIMES[shape]} <= r.erased_at, true) and {where}"
                " order by 1",
                *values,
            )
        return [(row["source_id"], row["room_id"]) for row in rows]

    async def note(self, run_id: UUID, name: str, value: Mapping[str, Any] | None) -> None:
        """Keep an object under a name of the run, in place of what was there; None: take it away."""
        with translated():
            if value is None:
                await self._writers.execute(
                    "delete from import_notes where run_id = $1 and name = $2", run_id, name
                )
                return
            await self._writers.execute(
                "insert into import_notes (run_id, name, value) values ($1, $2, $3)"
                " on conflict (run_id, name) do update set value = excluded.value",
                run_id, name, dict(value),
            )  # fmt: skip

    async def noted(self, run_id: UUID, name: str) -> Mapping[str, Any] | None:
        """What was kept."""
        async with self._read() as link:
            found: Mapping[str, Any] | None = await link.fetchval(
                "select value from import_notes where run_id = $1 and name = $2", run_id, name
            )
        return found


async def _replace(link: "Link", shape: Shape, collection: str, rows: Sequence[landing.Row]) -> int:
    place = shape.names.index("source_id")
    ids = [row[place] for row in rows]
    where, values = of_collection(shape, collection)
    here = f"{where} and source_id = any(${len(values) + 1})"
    stored = []
    if shape is FILES:
        stored = await link.fetch(
            f"select source_id, sha256, stored_size from {shape.table} where {here} and state = 'stored'",
            *values, ids,
        )  # fmt: skip
    if shape in {MESSAGES, FILES}:
        rooms = await link.fetch(f"select distinct room_id from {shape.table} where {here}", *values, ids)
        await landing.unweave(link, {row["room_id"] for row in rooms if row["room_id"] is not None})
    # A row of the same bytes would count as unchanged.
    await link.execute(f"update {shape.table} set raw = '' where {here}", *values, ids)
    await link.execute(
        "delete from archive_tombstones where collection = $1 and source_id = any($2)", collection, ids
    )
    landed = await landing.merge(link, shape, rows, collection=collection, always=True)
    await refusals.resolve(link, collection, ids)
    await landing.unweave(link, landed.rooms)
    if stored:
        # The bytes of an upload are where they were.
        await link.execute(_RESTORE, *([row[at] for row in stored] for at in range(3)))
    return landed.rows
