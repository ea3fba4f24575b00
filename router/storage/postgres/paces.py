"""Paces (when the next send under a key may leave) and duties (tasks that one process at a time has)."""

from datetime import datetime, timedelta
from uuid import UUID

from router.domain.ports import Duty
from router.storage.postgres.base import Base

# GCRA. `tat` is the theoretical arrival time: when the last send reserved would leave if there were no bursts. The row's
# lock makes the reservations follow each other, so whatever two callers hold for now, no slot is given twice.
_RESERVE = """
insert into paces as p (key, tat) values ($1, greatest(now(), $4::timestamptz) + $2::interval)
on conflict (key) do update set tat = greatest(p.tat, now(), $4::timestamptz) + $2::interval
returning greatest(now(), $4::timestamptz, p.tat - $2::interval * $3::int)
"""
# The owner may take it again, which renews the lease; the rest after an end holds for everybody.
_TAKE = """
insert into duties as d (name, owner, lease_until) values ($1, $2, now() + $3::interval)
on conflict (name) do update set owner = excluded.owner, lease_until = excluded.lease_until, rest_until = null
where (d.owner is null or d.owner = excluded.owner or d.lease_until <= now())
    and (d.rest_until is null or d.rest_until <= now())
returning name, mark
"""
_END = """
update duties set owner = null, lease_until = null, mark = coalesce($3, mark), rest_until = now() + $4::interval
where name = $1 and owner = $2
"""


class Paces(Base):
    """The pace and duty part of Tx."""

    async def reserve(
        self, key: str, interval: timedelta, burst: int, *, after: datetime | None = None
    ) -> datetime:
        if not interval:
            now = await self.now()
            return max(now, after or now)
        slot: datetime | None = await self._link.fetchval(_RESERVE, key, interval, burst, after)
        assert slot is not None  # noqa: S101 - for the type checker: an upsert of one row
        return slot

    async def take_duty(self, name: str, owner: UUID, lease: timedelta) -> Duty | None:
        row = await self._link.fetchrow(_TAKE, name, owner, lease)
        return Duty(row["name"], row["mark"]) if row else None

    async def end_duty(self, name: str, owner: UUID, mark: datetime | None, rest: timedelta) -> None:
        await self._link.execute(_END, name, owner, mark, rest)
