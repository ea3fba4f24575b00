"""The processes of the installation and the flags they have loaded. Engine only."""

from uuid import UUID

from router.domain.ports import Tx
from router.storage.queries.link import Row, link_of, rows

_KEPT = "1 hour"


async def beat(tx: Tx, process_id: UUID, role: str, flag_revision: int) -> None:
    """A process lives and has these flags. Rows of processes long gone are swept on the way."""
    await link_of(tx).execute(
        "insert into processes (id, role, heartbeat_at, flag_revision) values ($1, $2, now(), $3)"
        " on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, flag_revision = excluded.flag_revision",
        process_id, role, flag_revision,
    )  # fmt: skip
    await link_of(tx).execute(f"delete from processes where heartbeat_at < now() - interval '{_KEPT}'")


async def leave(tx: Tx, process_id: UUID) -> None:
    """A process ends in good order."""
    await link_of(tx).execute("delete from processes where id = $1", process_id)


async def alive(tx: Tx, seconds: float) -> list[Row]:
    """Processes whose heartbeat is younger than `seconds`."""
    return await rows(
        tx,
        "select id, role, heartbeat_at, flag_revision from processes"
        " where heartbeat_at > now() - make_interval(secs => $1) order by role, id",
        seconds,
    )  # fmt: skip
