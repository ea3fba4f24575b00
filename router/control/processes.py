"""Processes report that they live and which flags they have loaded; `flags set --wait` looks at it."""

from uuid import UUID

from router.control.desk import Desk, stamp
from router.control.flags import HEARTBEAT_SECONDS
from router.storage.queries import processes


async def beat(desk: Desk, process_id: UUID, role: str, flag_revision: int) -> None:
    """To be called about every second while the process lives. `role`: all, web or worker."""
    await desk.store.transact(lambda tx: processes.beat(tx, process_id, role, flag_revision))


async def leave(desk: Desk, process_id: UUID) -> None:
    """The process ends in good order: nobody waits for it."""
    await desk.store.transact(lambda tx: processes.leave(tx, process_id))


async def listing(desk: Desk) -> list[dict[str, object]]:
    """Living processes: {id, role, heartbeat_at, flag_revision}."""
    alive = await desk.store.transact(lambda tx: processes.alive(tx, HEARTBEAT_SECONDS))
    return [{**row, "id": str(row["id"]), "heartbeat_at": stamp(row["heartbeat_at"])} for row in alive]
