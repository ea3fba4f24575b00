"""The ledger: every event that was answered 200 is handled, waiting, dead or ignored, and none is missing."""

from typing import Any

from router.control.desk import Desk
from router.domain.channel import RESERVED
from router.storage.queries import work

_STATES = ("handled", "waiting", "dead", "ignored")


async def ledger(desk: Desk) -> dict[str, Any]:
    """{"channels": {slug: {events, handled, waiting, dead, ignored, balanced}}, "balanced": bool}.

    `events` is counted from the digests, which are kept for ever, the four from the events' states. Balanced: they
    are equal, what waits is unsplit or has a job that will end it, what is dead has a dead letter or failed to split.
    """
    found = {row["channel"]: row for row in await desk.store.transact(work.ledger)}
    slugs = sorted({*found, *desk.channels}) + ([RESERVED] if RESERVED not in found else [])
    channels = {slug: _line(found.get(slug, {})) for slug in slugs}
    return {"channels": channels, "balanced": all(line["balanced"] for line in channels.values())}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {name: int(row.get(name, 0)) for name in ("events", *_STATES)}
    equal = line["events"] == sum(line[state] for state in _STATES)
    return line | {"balanced": equal and not row.get("stuck") and not row.get("lost")}
