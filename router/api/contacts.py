"""Contacts over HTTP: reading, the opt-out, erasing. Merging and exporting do not exist yet."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends

from router.api.auth import AtDesk, Caller, Needs, guarded, narrowed
from router.api.models import ContactDetail, ContactItem, Cursor, Limit, Name, OptOut, Page
from router.control import contacts as control
from router.control import erasure, pages
from router.storage.queries import contacts

router = guarded("contacts")

Reads = Annotated[Caller, Depends(Needs("contacts:read"))]
Writes = Annotated[Caller, Depends(Needs("contacts:write"))]


@router.get("/contacts", response_model=Page[ContactItem])
async def listing(
    desk: AtDesk, caller: Reads, tenant: Name | None = None, cursor: Cursor = None, limit: Limit = pages.LIMIT
) -> Any:
    """Newest first."""
    only, after = narrowed(caller, tenant), pages.after_time(cursor)
    found = await desk.store.transact(
        lambda tx: contacts.contacts(tx, tenant=only, after=after, limit=limit + 1), tenant=caller.bound
    )
    items, following = pages.page(found, limit, lambda row: (row["created_at"].isoformat(), row["id"]))
    return {"items": items, "next_cursor": following}


@router.get("/contacts/{contact_id}", response_model=ContactDetail)
async def one(desk: AtDesk, caller: Reads, contact_id: UUID) -> Any:
    """One contact with every address it is reached at."""
    return await control.one(desk, contact_id, caller.bound)


@router.put("/contacts/{contact_id}/opt-out", response_model=ContactDetail)
async def opt_out(desk: AtDesk, caller: Writes, contact_id: UUID, body: OptOut) -> Any:
    """Write to this contact no more, at any address; or again. Every send asks; who and why is audited."""
    return await control.opt_out(
        desk, contact_id, body.opted_out, reason=body.reason, by=caller.by, tenant=caller.bound
    )


@router.delete("/contacts/{contact_id}", status_code=HTTPStatus.NO_CONTENT)
async def erase(desk: AtDesk, caller: Writes, contact_id: UUID) -> None:
    """Erase a contact: nothing of their words, names and numbers stays, and no repeat or import brings back what they
    said. The clinic's own row of them in tb_users is left. Of 503, do it again: it goes on."""
    await erasure.erase(desk, contact_id, by=caller.by, tenant=caller.bound)
