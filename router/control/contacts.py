"""Contacts: looking one up, and whether they may be written to."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from router.control import audit
from router.control.desk import Desk, id_of
from router.domain.errors import Rejected
from router.domain.ports import Tx
from router.storage.queries import contacts

_ID = ("unknown_contact", "contact")


async def one(desk: Desk, contact_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """A contact with `opted_out` and `identities`: [{id, kind, addresses, opted_out}]. Raises Rejected unknown_contact
    (404)."""
    wanted = id_of(contact_id, *_ID)
    return await desk.store.transact(lambda tx: _detail(tx, wanted), tenant=tenant)


async def opt_out(
    desk: Desk, contact_id: UUID | str, opted_out: bool, *, reason: str, by: str, tenant: str | None = None
) -> dict[str, Any]:
    """Note that a contact wants to be written to no more, at any address; or take that back. Raises Rejected:
    unknown_contact (404), reason_missing."""
    wanted = id_of(contact_id, *_ID)
    if not reason.strip():
        raise Rejected("reason_missing", "an opt-out needs a reason: it is audited")
    await one(desk, wanted, tenant)  # seen as the caller; the audit log belongs to no tenant

    async def work(tx: Tx) -> dict[str, Any]:
        found, now, changed = await contacts.contact(tx, wanted), await tx.now(), False
        if found is None:
            raise Rejected(_ID[0], "no such contact", 404)
        for way in found["identities"]:
            identity = await tx.identity(way["id"])
            if identity is None or (identity.opted_out_at is not None) == opted_out:
                continue
            await tx.save_identity(replace(identity, opted_out_at=now if opted_out else None))
            changed = True
        shown = await _detail(tx, wanted)
        if changed:
            act = "contact.opt_out" if opted_out else "contact.opt_in"
            await audit.record(
                desk, tx, act=act, subject=str(wanted), by=by, tenant=found["tenant"], reason=reason.strip()
            )
        return shown

    return await desk.store.transact(work)


async def _detail(tx: Tx, contact_id: UUID) -> dict[str, Any]:
    found = await contacts.contact(tx, contact_id)
    if found is None:
        raise Rejected(_ID[0], "no such contact", 404)
    ways = []
    for way in found["identities"]:
        identity = await tx.identity(way["id"])
        ways.append({**way, "opted_out": identity is not None and identity.opted_out_at is not None})
    return {**found, "identities": ways, "opted_out": any(way["opted_out"] for way in ways)}
