"""Which channels have their provider's address set by us, and what stood there before. Engine only."""

from collections.abc import Mapping
from typing import Any

from router.domain.ports import Tx
from router.storage.queries.link import Row, link_of, row, rows

_COLUMNS = (
    "channel, tenant_id as tenant, level, url, previous, set_at, set_by, restored_at, checked_at, drift"
)


async def one(tx: Tx, channel: str, *, lock: bool = False) -> Row | None:
    """A channel's; locks when told to."""
    return await row(
        tx, f"select {_COLUMNS} from callbacks where channel = $1{' for update' if lock else ''}", channel
    )


async def active(tx: Tx) -> list[Row]:
    """Those that are set and not set back, by channel."""
    return await rows(tx, f"select {_COLUMNS} from callbacks where restored_at is null order by channel")


async def keep(
    tx: Tx, *, channel: str, tenant: str, level: str, url: str, previous: Mapping[str, Any], by: str
) -> None:
    """What is about to be set, with all that is kept of before. `previous`: level → what stood there."""
    await link_of(tx).execute(
        "insert into callbacks (channel, tenant_id, level, url, previous, set_at, set_by)"
        " values ($1, $2, $3, $4, $5, now(), $6)"
        " on conflict (channel) do update set level = excluded.level, url = excluded.url, previous = excluded.previous,"
        " set_at = excluded.set_at, set_by = excluded.set_by, restored_at = null, checked_at = null, drift = null",
        channel, tenant, level, url, dict(previous), by,
    )  # fmt: skip


async def put_back(tx: Tx, channel: str, *, level: str, previous: Mapping[str, Any], done: bool) -> None:
    """A level was set back, or was never set. `level`: what is still ours, `done`: nothing is."""
    await link_of(tx).execute(
        "update callbacks set level = $2, previous = $3, drift = null,"
        " restored_at = case when $4::boolean then now() end where channel = $1",
        channel, level, dict(previous), done,
    )  # fmt: skip


async def checked(tx: Tx, channel: str, drift: str | None) -> None:
    """It was looked at: `drift` None says that all is as we set it."""
    await link_of(tx).execute(
        "update callbacks set checked_at = now(), drift = $2 where channel = $1 and restored_at is null",
        channel, drift,
    )  # fmt: skip
