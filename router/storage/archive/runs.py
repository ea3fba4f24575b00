"""Runs of an import and their parts: who works on what, up to where, and how its documents count."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from router.domain.errors import LeaseLost, StoreError
from router.storage.archive.base import Base
from router.storage.archive.model import Account, Part, Run, RunState
from router.storage.postgres.failures import translated

if TYPE_CHECKING:
    from asyncpg import Record

    from router.storage.archive.base import Link

_RUN = "id, source, live, state, options, started_at, ended_at, token, token_at, caught_up_at"
_ACCOUNT = "source, written, skipped, rejected, erased, changed, digest"
_PART = f"run_id, collection, number, spec, after, done, fence, {_ACCOUNT}"
_THIS = "run_id = $1 and collection = $2 and number = $3 and fence = $4"

# Materialized: else a plan may lock more than the one row.
_CLAIM = f"""
with next as materialized (
    select run_id, collection, number from import_parts
    where run_id = $1 and not done and (lease_until is null or lease_until <= clock_timestamp())
        and ($2::text[] is null or collection = any($2))
    order by array_position($2, collection), collection, number limit 1 for update skip locked
) update import_parts p
set owner = $3, fence = p.fence + 1, lease = $4, lease_until = clock_timestamp() + $4,
    claimed_at = coalesce(p.claimed_at, clock_timestamp())
from next where (p.run_id, p.collection, p.number) = (next.run_id, next.collection, next.number)
returning {", ".join(f"p.{name}" for name in _PART.split(", "))}
"""

# Chunks that come in keep the lease alive.
_ADVANCE = f"""
update import_parts set after = coalesce($5, after), updated_at = clock_timestamp(), lease_until = clock_timestamp() + lease,
    source = $6, written = $7, skipped = $8, rejected = $9, erased = $10, changed = $11, digest = $12
where {_THIS}
"""


def _run(row: "Record") -> Run:
    return Run(**{**row, "state": RunState(row["state"])})


def _account(row: "Record") -> Account:
    return Account(
        row["source"], row["written"], row["skipped"], row["rejected"], row["erased"], row["changed"], row["digest"]
    )  # fmt: skip


def _part(row: "Record") -> Part:
    return Part(
        row["run_id"], row["collection"], row["number"], row["spec"], row["after"], row["done"], row["fence"],
        _account(row),
    )  # fmt: skip


def _key(part: Part) -> tuple[UUID, str, int, int]:
    return part.run_id, part.collection, part.number, part.fence


async def hold(link: "Link", part: Part) -> Account:
    """The part's account as it stands; nobody else gets the part until the transaction ends. Raises LeaseLost."""
    row = await link.fetchrow(
        f"select {_ACCOUNT} from import_parts where {_THIS} and not done for no key update", *_key(part)
    )
    if row is None:
        raise LeaseLost(f"part {part.number} of {part.collection} is another worker's now")
    return _account(row)


async def advance(link: "Link", part: Part, resume: str | None, account: Account) -> Part:
    """Set the checkpoint and the account of a part that is held."""
    await link.execute(
        _ADVANCE, *_key(part), resume, account.source, account.written, account.skipped, account.rejected,
        account.erased, account.changed, account.digest,
    )  # fmt: skip
    return Part(
        part.run_id, part.collection, part.number, part.spec, part.after if resume is None else resume, part.done,
        part.fence, account,
    )  # fmt: skip


class Runs(Base):
    """Runs and parts."""

    async def start(
        self,
        source: str,
        *,
        live: bool,
        options: Mapping[str, Any],
        token: bytes | None = None,
        token_at: datetime | None = None,
    ) -> Run:
        """A new run, RUNNING. Deletions that this run's reading cannot bring back are forgotten: those from before
        `token_at` (whole seconds: what was deleted within that second and made again must not be kept out; what is deleted
        later comes again with the stream), or all when the source is a dump or has no stream."""

        async def work(link: "Link") -> Run:
            await link.execute(
                "delete from archive_tombstones where not $1 or $2::timestamptz is null or deleted_at <= $2",
                live,
                token_at,
            )
            row = await link.fetchrow(
                "insert into imports (id, source, live, state, options, started_at, token, token_at)"
                f" values (gen_random_uuid(), $1, $2, 'running', $3, now(), $4, $5) returning {_RUN}",
                source, live, dict(options), token, token_at,
            )  # fmt: skip
            assert row is not None  # noqa: S101 - for the type checker: an insert returns its row
            return _run(row)

        return await self._write(work)

    async def latest(self, source: str) -> Run | None:
        """The newest run of a source by that name."""
        async with self._read() as link:
            row = await link.fetchrow(
                f"select {_RUN} from imports where source = $1 order by seq desc limit 1", source
            )
        return None if row is None else _run(row)

    async def runs(self, limit: int = 20) -> list[Run]:
        """Newest first."""
        async with self._read() as link:
            return [
                _run(row)
                for row in await link.fetch(f"select {_RUN} from imports order by seq desc limit $1", limit)
            ]

    async def set_state(self, run_id: UUID, state: RunState) -> None:
        """`ended_at` follows: set unless RUNNING."""
        with translated():
            await self._writers.execute(
                "update imports set state = $2, ended_at = case when $2 <> 'running' then now() end where id = $1",
                run_id, state.value,
            )  # fmt: skip

    # ---- parts

    async def plan(self, run_id: UUID, collection: str, specs: Sequence[Mapping[str, Any]]) -> None:
        """Parts 0, 1, …; those that are there stay as they are."""
        rows = [(run_id, collection, number, dict(spec)) for number, spec in enumerate(specs)]
        with translated():
            async with self._writers.acquire() as link:
                await link.executemany(
                    "insert into import_parts (run_id, collection, number, spec) values ($1, $2, $3, $4)"
                    " on conflict do nothing",
                    rows,
                )

    async def claim(
        self, run_id: UUID, collections: Sequence[str] | None, owner: UUID, lease: timedelta
    ) -> Part | None:
        """The next part nobody works on, in the order of `collections`; also one whose lease has run out. None:
        nothing to claim now."""
        wanted = None if collections is None else list(collections)
        with translated():
            row = await self._writers.fetchrow(_CLAIM, run_id, wanted, owner, lease)
        return None if row is None else _part(row)

    async def renew(self, part: Part, lease: timedelta) -> None:
        """Raises LeaseLost. Waits while a chunk of the part is being added."""
        await self._own(
            part, f"lease = $5, lease_until = clock_timestamp() + $5 where {_THIS} and not done", lease
        )

    async def release(self, part: Part) -> None:
        """Somebody else may claim it at once, from its checkpoint. Raises LeaseLost."""
        await self._own(part, f"owner = null, lease_until = null where {_THIS} and not done")

    async def finish(self, part: Part) -> None:
        """All of it is in. Raises LeaseLost."""
        await self._own(
            part,
            f"done = true, owner = null, lease_until = null, updated_at = clock_timestamp() where {_THIS}",
        )

    async def _own(self, part: Part, change: str, *more: object) -> None:
        with translated():
            found = await self._writers.fetchval(
                f"update import_parts set {change} returning true", *_key(part), *more
            )
        if not found:
            raise LeaseLost(f"part {part.number} of {part.collection} is another worker's now")

    async def unfinished(self, run_id: UUID) -> int:
        """How many parts are not done."""
        async with self._read() as link:
            return int(
                await link.fetchval(
                    "select count(*) from import_parts where run_id = $1 and not done", run_id
                )
            )

    async def parts(self, run_id: UUID) -> list[Part]:
        """All, by collection and number."""
        async with self._read() as link:
            rows = await link.fetch(
                f"select {_PART} from import_parts where run_id = $1 order by collection, number", run_id
            )
        return [_part(row) for row in rows]

    async def counts(self, run_id: UUID) -> dict[str, Account]:
        """By collection."""
        summed: dict[str, Account] = defaultdict(Account)
        for part in await self.parts(run_id):
            summed[part.collection] += part.account
        return dict(summed)

    async def status(self, run_id: UUID) -> Mapping[str, Any]:
        """{"run": Run, "collections": {NAME: {"account": Account, "parts", "done"}}, "parts", "done", "documents",
        "seconds" (from the first claim to the last chunk), "documents_per_second", "refused": {code: n still open}}.
        Raises StoreError: there is no such run."""
        async with self._read() as link:
            row = await link.fetchrow(f"select {_RUN} from imports where id = $1", run_id)
            spans = await link.fetchrow(
                "select min(claimed_at) as since, max(updated_at) as until from import_parts where run_id = $1",
                run_id,
            )
            refused = await link.fetch(
                "select code, count(*) as n from rejects where resolved_at is null group by code order by code"
            )
        if row is None:
            raise StoreError(f"there is no import run {run_id}")
        collections: dict[str, dict[str, Any]] = {}
        for part in await self.parts(run_id):
            of = collections.setdefault(part.collection, {"account": Account(), "parts": 0, "done": 0})
            of["account"] += part.account
            of["parts"] += 1
            of["done"] += part.done
        documents = sum(of["account"].source for of in collections.values())
        seconds = _seconds(spans)
        return {
            "run": _run(row),
            "collections": collections,
            "parts": sum(of["parts"] for of in collections.values()),
            "done": sum(of["done"] for of in collections.values()),
            "documents": documents,
            "seconds": seconds,
            "documents_per_second": round(documents / seconds, 1) if seconds else None,
            "refused": {one["code"]: one["n"] for one in refused},
        }


def _seconds(span: "Record | None") -> float:
    if span is None or span["since"] is None or span["until"] is None:
        return 0.0
    return float((span["until"] - span["since"]).total_seconds())
