"""Contacts and their addresses, in keyset pages."""

from datetime import datetime
from uuid import UUID

from router.domain.ports import Tx
from router.storage.queries.link import Row, Where, row, rows

_CONTACT = "select id, tenant_id as tenant, name, contact_class, user_id, created_at from contacts"
_NOT_ERASED = "contact_class <> 'erased'"  # nothing is left of them but an id that others name


async def contacts(
    tx: Tx, *, tenant: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """Newest first. `after` is the (created_at, id) of the last one seen."""
    where = Where().add(_NOT_ERASED).add("tenant_id = {}", tenant)
    if after is not None:
        where.add("(created_at, id) < ({}, {})", *after)
    where.values.append(limit)
    return await rows(
        tx,
        f"{_CONTACT}{where.sql} order by created_at desc, id desc limit ${len(where.values)}",
        *where.values,
    )


async def contact(tx: Tx, contact_id: UUID) -> Row | None:
    """One, with `identities`: [{id, kind, addresses: [{kind, value}]}], oldest identity first."""
    found = await row(tx, f"{_CONTACT} where id = $1 and {_NOT_ERASED}", contact_id)
    if found is None:
        return None
    ways: dict[UUID, Row] = {}
    for one in await rows(
        tx,
        "select i.id, i.kind, a.kind as address_kind, a.value from identities i"
        " left join identity_aliases a on a.identity_id = i.id where i.contact_id = $1"
        " order by i.created_at, i.id, a.seen_at desc, a.lookup",
        contact_id,
    ):
        way = ways.setdefault(one["id"], {"id": one["id"], "kind": one["kind"], "addresses": []})
        if one["value"] is not None:
            way["addresses"].append({"kind": one["address_kind"], "value": one["value"]})
    return {**found, "identities": list(ways.values())}
