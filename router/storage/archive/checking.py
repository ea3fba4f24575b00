"""What verifying an import asks for: sums of all rows in buckets, the rows of some buckets, single rows."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final

from router.storage.archive import landing, stream
from router.storage.archive.base import Base
from router.storage.archive.rows import of_collection
from router.storage.archive.shape import FILES, MESSAGES, ROOMS, Shape

if TYPE_CHECKING:
    from router.storage.archive.base import Link

BITS: Final = 12
_HASH_BITS = 32
_FETCH = 2000
_UPLOADS: Final = "rocketchat_uploads"
_DIGEST = "('x' || left(md5(raw), 16))::bit(64)::bigint"


def bucket(key: str, bits: int = BITS) -> int:
    """Of a message's room, of any other document's id: the first bits of its MD5."""
    return int(md5(key.encode(), usedforsecurity=False).hexdigest()[:8], 16) >> (_HASH_BITS - bits)


def _bucket(shape: Shape, bits: int) -> str:
    """The same in SQL."""
    if not 0 <= bits <= _HASH_BITS:
        raise ValueError(f"bits: from 0 to {_HASH_BITS}")
    key = "room_id" if shape == MESSAGES else "source_id"
    return f"(('x' || left(md5({key}), 8))::bit({_HASH_BITS})::bigint >> {_HASH_BITS - bits})"


class Checking(Base):
    """Sums and single rows."""

    async def sums(self, shape: Shape, collection: str, bits: int = BITS) -> dict[int, tuple[int, int]]:
        """By bucket: how many rows, and the XOR of their digests (`migration.documents.digest`)."""
        where, values = of_collection(shape, collection)
        async with self._read() as link:
            rows = await link.fetch(
                f"select {_bucket(shape, bits)} as bucket, count(*) as n, bit_xor({_DIGEST}) as digest"
                f" from {shape.table} where {where} group by 1",
                *values,
            )
        return {row["bucket"]: (row["n"], row["digest"]) for row in rows}

    async def rows_of(
        self, shape: Shape, collection: str, buckets: Sequence[int], bits: int = BITS
    ) -> AsyncGenerator[tuple[str, str | None, int], None]:
        """(source_id, room_id, digest) of the rows in these buckets, in no order; a room's room is itself. Close it
        (`aclosing`) when you leave it early: it holds a connection."""
        where, values = of_collection(shape, collection)
        room = "source_id" if shape == ROOMS else "room_id"
        query = (
            f"select source_id, {room} as room_id, {_DIGEST} as digest from {shape.table}"
            f" where {where} and {_bucket(shape, bits)} = any(${len(values) + 1}::bigint[])"
        )
        async with self._read() as link, link.transaction(readonly=True):
            async for row in link.cursor(query, *values, list(buckets), prefetch=_FETCH):
                yield row["source_id"], row["room_id"], row["digest"]

    async def row(self, shape: Shape, collection: str, source_id: str) -> Mapping[str, Any] | None:
        """All columns of a kept row."""
        where, values = of_collection(shape, collection)
        async with self._read() as link:
            found = await link.fetchrow(
                f"select * from {shape.table} where {where} and source_id = ${len(values) + 1}",
                *values, source_id,
            )  # fmt: skip
        return None if found is None else dict(found)

    async def sample(
        self, shape: Shape, collection: str, count: int, *, seed: int = 0
    ) -> list[Mapping[str, Any]]:
        """So many kept rows, all columns, chosen by a hash of their ids: the same seed chooses the same."""
        where, values = of_collection(shape, collection)
        first = len(values) + 1
        async with self._read() as link:
            rows = await link.fetch(
                f"select * from {shape.table} where {where}"
                f" order by hashtextextended(source_id, ${first}), source_id limit ${first + 1}",
                *values, seed, count,
            )  # fmt: skip
        return [dict(row) for row in rows]

    async def delete(self, shape: Shape, collection: str, ids: Collection[str]) -> int:
        """Rows that the source does not have; how many there were. No tombstones: the source says nothing of them."""

        async def work(link: "Link") -> int:
            return await stream.delete(link, shape, collection, sorted(set(ids)))

        return await self._write(work)

    # ---- files of history

    async def files_waiting(self, after: str | None, limit: int) -> list[Mapping[str, Any]]:
        """Uploads whose bytes are to be fetched, by `source_id`, from behind `after`; all columns but `raw`."""
        columns = ", ".join(name for name in FILES.names if name != "raw")
        async with self._read() as link:
            rows = await link.fetch(
                f"select {columns} from archive_files where state = 'waiting' and ($1::text is null or source_id > $1)"
                " order by source_id limit $2",
                after, limit,
            )  # fmt: skip
        return [dict(row) for row in rows]

    async def files_again(self) -> None:
        """Uploads outside of GridFS that were missing are waited for again: who imports once more may have their place."""

        async def work(link: "Link") -> None:
            await landing.share(link, _UPLOADS)
            await link.execute(
                "update archive_files set state = 'waiting' where state = 'missing' and store <> ''"
                " and store <> 'GridFS' and store not like 'GridFS:%'"
            )

        await self._write(work)

    async def file_done(
        self,
        source_id: str,
        state: str,
        sha256: str | None = None,
        size: int | None = None,
        error: str | None = None,
    ) -> None:
        """`state`: stored, missing or skipped; `error`: a code. Its room is woven again."""

        async def work(link: "Link") -> None:
            # Not while its room is woven, which would be called woven afterwards, without these bytes.
            await landing.share(link, _UPLOADS)
            room = await link.fetchval(
                "update archive_files set state = $2, sha256 = $3, stored_size = $4, error = $5 where source_id = $1"
                " returning room_id",
                source_id, state, sha256, size, error,
            )  # fmt: skip
            if room is not None:
                await landing.unweave(link, [room])

        await self._write(work)
