"""The two paths side by side."""

from datetime import datetime
from typing import Any, Final

from flags.stage import Path
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.ports import Tx
from router.storage.queries import work

_NUMBERS: Final = ("handled", "sent", "delivered", "failed", "unknown")
_SECONDS: Final = ("delivery_seconds", "delivery_seconds_p95")

Row = dict[str, Any]


async def compare(
    desk: Desk, kind: str | None = None, channel: str | None = None, since: datetime | None = None, *,
    tenant: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{paths: {rocketchat: {accepted, handled, sent, delivered, failed, unknown, delivery_seconds (the median, None
    without deliveries), delivery_seconds_p95}, native: {…}}, shadow: {…}, guard: {verdict, evidence}}.

    Messages since `since` (all when None) as they stand now. Rocket.Chat's own sends whose status no message of ours
    claims count as its deliveries. Nothing is shadowed or guarded yet: zeros, and insufficient. Raises Rejected."""
    if kind is not None and kind not in desk.kinds:
        raise Rejected("unknown_kind", f"there is no kind {kind!r}")
    if channel is not None and channel not in desk.channels:
        raise Rejected("unknown_channel", "there is no such channel")

    async def read(tx: Tx) -> tuple[list[Row], Row]:
        rows = await work.counters(tx, "path", kind=kind, channel=channel, since=since)
        return rows, await work.foreign_outcomes(tx, kind=kind, channel=channel, since=since)

    rows, foreign = await desk.store.transact(read, tenant=tenant)
    by_path = {row["path"]: row for row in rows}
    paths = {path.value: _side(by_path.get(path.value, {})) for path in Path}
    for name in ("delivered", "failed"):
        paths[Path.ROCKETCHAT.value][name] += foreign[name]
    return {
        "paths": paths,
        "shadow": {"matched": 0, "ignored": 0, "mismatched": 0, "error": 0, "fields": {}},
        "guard": {"verdict": "insufficient", "evidence": {}},
    }


def _side(row: Row) -> Row:
    side: Row = {"accepted": row.get("inbound", 0)} | {name: row.get(name, 0) for name in _NUMBERS}
    return side | {name: row.get(name) for name in _SECONDS}
