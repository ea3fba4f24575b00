"""The audit log: one hash chain of control acts. Ids only; people and their words appear as keyed digests."""

from collections.abc import Mapping
from typing import Any

from router.control.desk import Desk, stamp
from router.domain.channel import EVERY_TENANT
from router.domain.ports import Tx
from router.storage.queries import audit

_PAGE = 1000


async def record(
    desk: Desk,
    tx: Tx,
    *,
    act: str,
    subject: str,
    by: str,
    tenant: str = EVERY_TENANT,
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Add a row in the transaction of the act itself (one without a tenant), as its last step; returns its seq.

    `act` is "noun.verb", `subject` an id. An actor that is an e-mail address, and the reason, are kept as keyed
    digests: the words stand where the act left them (flag history, decision), the digest says they are the same.
    """
    actor = f"user:{desk.pseudonym(by)}" if "@" in by else by
    told = dict(detail or {})
    if reason:
        told["reason_digest"] = desk.pseudonym(reason)
    return await audit.append(tx, tenant=tenant, actor=actor, act=act, subject=subject, detail=told)


async def verify(desk: Desk) -> int | None:
    """The seq of the first row that was changed, put in or follows a gap; None: the chain holds.

    Rows cut off at the end cannot be seen from within: compare `latest` with a figure kept elsewhere.
    """
    seq, known = 0, audit.GENESIS
    while True:
        page = await desk.store.transact(lambda tx, after=seq: audit.page(tx, after, _PAGE))  # type: ignore[misc]
        for row in page:
            whole = row["seq"] == seq + 1 and row["prev_hash"] == known
            if not whole or row["hash"] != audit.digest(known, row):
                return int(row["seq"])
            seq, known = row["seq"], row["hash"]
        if not page:
            return None


async def listing(desk: Desk, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Newest first: {seq, at, tenant, actor, act, subject, detail, hash}."""
    found = await desk.store.transact(lambda tx: audit.latest(tx, before, limit))
    return [
        {name: row[name] for name in ("seq", "tenant", "actor", "act", "subject", "detail")}
        | {"at": stamp(row["at"]), "hash": row["hash"].hex()}
        for row in found
    ]
