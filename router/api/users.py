"""PUT /v1/users/{id_user}: the clinic tells us its user."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends

from router.api.auth import AtDesk, Caller, Needs, guarded, narrowed
from router.api.models import UserMapped, UserRequest
from router.control import users
from router.domain.errors import Rejected

router = guarded("users")

Writes = Annotated[Caller, Depends(Needs("users:write"))]


@router.put("/users/{id_user}", response_model=UserMapped, response_model_exclude_unset=True)
async def put(desk: AtDesk, caller: Writes, id_user: UUID, body: UserRequest) -> Any:
    """Make or complete the contact of a user, with the phone and e-mail it is reached at, and its user in Rocket.Chat.
    The same request twice is done once. A key for every tenant names the `tenant`."""
    tenant = narrowed(caller, body.tenant)
    if tenant is None:
        raise Rejected("tenant_missing", "this key is for every tenant: name the tenant of this user")
    if all(one.tenant != tenant for one in desk.channels.values()):
        raise Rejected("unknown_tenant", "no channel belongs to this tenant")
    told = users.Told(body.name, body.phone, body.email)
    return await users.put(desk, id_user, told, tenant=tenant, by=caller.by, vouched=caller.bound is None)
