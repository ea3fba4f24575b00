"""What a chunk of a part brings, in one transaction with the part's checkpoint."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from router.storage.archive import landing, refusals, runs
from router.storage.archive.base import Base
from router.storage.archive.model import Account, Chunk, Part, Standing
from router.storage.archive.shape import RECORDS, ROOMS, Shape

if TYPE_CHECKING:
    from router.storage.archive.base import Link

DUPLICATE, DELETED = "duplicate", "deleted"


class Rows(Base):
    """Rows of documents."""

    async def add(self, part: Part, chunk: Chunk, *, merge: bool) -> Part:
        """Rows, refusals, marks, checkpoint and account, or nothing of it; the part as it stands then.

        Without `merge` rows are copied straight in: Conflict when one of them is there already or the source has
        deleted documents of the collection since. With it the last of several rows of one document counts (the others
        are skipped: `duplicate`), as do only documents not deleted since (`deleted`), and a row replaces another
        version unless it is older. Raises LeaseLost, BadRows, Conflict, Unavailable.
        """

        async def work(link: "Link") -> Part:
            before = await runs.hold(link, part)
            account = chunk.account
            if chunk.shape is not None and chunk.rows:
                account = await _land(link, part.collection, chunk, chunk.shape, merge=merge)
            await landing.mark(link, chunk.marks)
            await refusals.refuse(link, chunk.refused, part.run_id)
            return await runs.advance(link, part, chunk.resume, before + account)

        return await self._write(work)

    async def standing(self, room_ids: Collection[str]) -> dict[str, Standing]:
        """Of the rooms that are known, kept or marked."""
        async with self._read() as link:
            rows = await link.fetch(
                "select source_id, skipped, erased_at from archive_rooms where source_id = any($1)",
                list(room_ids),
            )
        return {row["source_id"]: Standing(row["skipped"], row["erased_at"]) for row in rows}

    async def kept(self, collection: str, shape: Shape) -> int:
        """Rows in the table now; marks are none."""
        where, values = of_collection(shape, collection)
        async with self._read() as link:
            return int(await link.fetchval(f"select count(*) from {shape.table} where {where}", *values))


def of_collection(shape: Shape, collection: str) -> tuple[str, list[str]]:
    """The condition for a collection's kept rows, and its parameters."""
    if shape == RECORDS:
        return "collection = $1", [collection]
    return "raw is not null" if shape == ROOMS else "true", []


async def _land(link: "Link", collection: str, chunk: Chunk, shape: Shape, *, merge: bool) -> Account:
    await landing.share(link, collection)
    rows, skipped = chunk.rows, dict(chunk.account.skipped)
    if merge:
        rows = landing.unique(shape, rows)
        landed = await landing.merge(link, shape, rows, collection=collection)
    else:
        landed = await landing.copy(link, shape, collection, rows)
    await landing.unweave(link, landed.rooms)
    place = shape.names.index("source_id")
    await refusals.resolve(link, collection, (row[place] for row in rows))
    for reason, count in ((DUPLICATE, len(chunk.rows) - len(rows)), (DELETED, landed.dropped)):
        if count:
            skipped[reason] = skipped.get(reason, 0) + count
    moved = len(chunk.rows) - len(rows) + landed.dropped
    return replace(
        chunk.account,
        written=chunk.account.written - moved,
        skipped=skipped,
        changed=chunk.account.changed + landed.rows,
    )
