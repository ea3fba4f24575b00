"""The audit chain: each row's hash covers the row and the hash before it. Engine only."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from router.domain.ports import Tx
from router.storage.queries.link import Row, link_of, row, rows

GENESIS = bytes(32)
"""What the first row hangs on."""
_LOCK = 0x41554454  # "AUDT": one writer at a time, so that a chain and no tree comes of it
_COLUMNS = "seq, tenant_id as tenant, at, actor, act, subject, detail, prev_hash, hash"


def digest(prev_hash: bytes, entry: Mapping[str, Any]) -> bytes:
    """SHA-256 over the previous hash and the row's canonical JSON (sorted names, no spaces, UTC microseconds)."""
    at: datetime = entry["at"]
    signed = {name: entry[name] for name in ("seq", "tenant", "actor", "act", "subject", "detail")}
    signed["at"] = at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(prev_hash + text.encode()).digest()


async def append(
    tx: Tx, *, tenant: str, actor: str, act: str, subject: str, detail: Mapping[str, Any]
) -> int:
    """Add a row at the end; returns its seq. Every other writer waits until this transaction ends: call it last.
    `detail` holds texts, integers, booleans, None, lists and objects of them: what JSON gives back unchanged."""
    await link_of(tx).execute("select pg_advisory_xact_lock($1, 0)", _LOCK)
    # A statement after the lock: it sees what the writer before committed.
    last = await row(tx, "select seq, hash from audit order by seq desc limit 1") or {
        "seq": 0,
        "hash": GENESIS,
    }
    entry: Row = {"seq": last["seq"] + 1, "tenant": tenant, "actor": actor, "act": act, "subject": subject}
    entry |= {"detail": dict(detail), "at": await link_of(tx).fetchval("select clock_timestamp()")}
    await link_of(tx).execute(
        "insert into audit (seq, tenant_id, at, actor, act, subject, detail, prev_hash, hash)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        entry["seq"], tenant, entry["at"], actor, act, subject, entry["detail"], last["hash"],
        digest(last["hash"], entry),
    )  # fmt: skip
    return int(entry["seq"])


async def page(tx: Tx, after: int, limit: int) -> list[Row]:
    """In order of the chain, from the row after `after`."""
    return await rows(tx, f"select {_COLUMNS} from audit where seq > $1 order by seq limit $2", after, limit)


async def latest(tx: Tx, before: int | None, limit: int) -> list[Row]:
    """Newest first, from the row before `before`."""
    return await rows(
        tx,
        f"select {_COLUMNS} from audit where seq < coalesce($1, 9223372036854775807) order by seq desc limit $2",
        before, limit,
    )  # fmt: skip
