"""Documents that were not written: kept with code, reason and bytes, until a later run or a change resolves them."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from router.storage.archive.base import Base
from router.storage.archive.binary import MAX_KEY
from router.storage.archive.model import Refused
from router.storage.postgres.codec import clean, clean_or_none

if TYPE_CHECKING:
    from router.storage.archive.base import Link

_PAGE_BYTES = 64 * 1024 * 1024
_REFUSE = """
insert into rejects (collection, key, source_id, position, code, reason, raw, run_id, seen_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, now())
on conflict (collection, key) do update set source_id = excluded.source_id, position = excluded.position,
    code = excluded.code, reason = excluded.reason, raw = excluded.raw, run_id = excluded.run_id,
    seen_at = excluded.seen_at, resolved_at = null
"""
_PAGE = f"""
select collection, key, source_id, position, code, reason, raw, seen_at from (
    select *, sum(octet_length(raw)) over (order by collection, key) - octet_length(raw) as before from (
        select * from rejects
        where ($1::uuid is null or run_id = $1) and ($2::text is null or collection = $2)
            and ($3::text is null or code = $3) and ($4 is false or resolved_at is null)
            and ($5::text is null or (collection, key) > ($5, $6::text))
        order by collection, key limit $7
    ) page
) sized where before < {_PAGE_BYTES} order by collection, key
"""


def key_of(source_id: str) -> str:
    """The key under which a document with an `_id` is refused."""
    return _short(f"id:{source_id}")


def _short(key: str) -> str:
    """A key that an index can hold."""
    key = clean(key)
    coded = key.encode()
    return key if len(coded) <= MAX_KEY else f"{key[:64]}…{hashlib.sha256(coded).hexdigest()}"


async def refuse(link: "Link", refused: Sequence[Refused], run_id: UUID | None) -> None:
    """Put them in, or bring them up to date: then they are open again."""
    rows = [
        (
            one.collection, _short(one.key), clean_or_none(one.source_id), one.position, one.code, clean(one.reason),
            one.raw, run_id,
        )
        for one in sorted(refused, key=lambda one: (one.collection, one.key))
    ]  # fmt: skip
    if rows:
        await link.executemany(_REFUSE, rows)


async def resolve(link: "Link", collection: str, source_ids: Iterable[str]) -> None:
    """What was refused is written now, or no longer in the source."""
    if await link.fetchval(
        "select exists (select from rejects where collection = $1 and resolved_at is null)", collection
    ):
        await settle(link, collection, [key_of(source_id) for source_id in source_ids])


async def settle(link: "Link", collection: str, keys: Collection[str]) -> None:
    """Resolved, by key; in order, as everybody takes them."""
    await link.execute(
        "with held as (select key from rejects where collection = $1 and key = any($2) and resolved_at is null"
        " order by key for no key update)"
        " update rejects r set resolved_at = now() from held where r.collection = $1 and r.key = held.key",
        collection, sorted(set(keys)),
    )  # fmt: skip


class Refusals(Base):
    """Refused documents."""

    async def refuse(self, refused: Sequence[Refused], run_id: UUID | None) -> None:
        """One that is there already is brought up to date, and open again."""
        await self._write(lambda link: refuse(link, refused, run_id))

    async def refusals(
        self,
        run_id: UUID | None = None,
        *,
        collection: str | None = None,
        code: str | None = None,
        limit: int = 100,
        after: tuple[str, str] | None = None,
        open_only: bool = True,
    ) -> list[Refused]:
        """By collection and key; `after`: both of the last one read. A page ends at `limit` or once it has 64 MiB, so
        only an empty one is the end. `run_id`: those that this run was the last to refuse."""
        async with self._read() as link:
            rows = await link.fetch(
                _PAGE, run_id, collection, code, open_only, *(after or (None, None)), limit
            )
        return [Refused(**row) for row in rows]

    async def refusal_counts(self) -> dict[tuple[str, str], int]:
        """By collection and code, those still open."""
        async with self._read() as link:
            rows = await link.fetch(
                "select collection, code, count(*) as n from rejects where resolved_at is null group by 1, 2"
            )
        return {(row["collection"], row["code"]): row["n"] for row in rows}

    async def settle(self, collection: str, keys: Collection[str]) -> None:
        """They are resolved."""
        await self._write(lambda link: settle(link, collection, keys))
