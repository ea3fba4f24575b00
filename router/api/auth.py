"""Who asks, and what they may: API keys, and the console's session for the same routes.

Every route under /v1 is of a `Guarded` router (known before its body is read) and names its scope by `Needs`.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase

from router.control import access, csrf
from router.control.desk import Desk
from router.domain.channel import EVERY_TENANT
from router.domain.errors import Rejected

COOKIE: Final = "figueira_session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_READ_ALL: Final = frozenset(f"{noun}:read" for noun in access.SUBJECTS)
ROLES: Final = {
    "agent": frozenset(
        {"messages:read", "messages:write", "conversations:read", "conversations:write", "contacts:read"}
    ),
    "product": _READ_ALL | {"flags:write", "conversations:write"},
    "auditor": _READ_ALL,
    "admin": frozenset({access.ALL}),
}
"""What a console user of a role may do here."""

_PEOPLE: Final = UUID("6f8f2c0a-59cb-5d0e-9d6e-0f4a3b6d1c52")  # namespace: a console user's idempotency keys


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `tenant` "*" is every tenant; `key_id` is what idempotency keys are kept under."""

    by: str
    tenant: str
    scopes: frozenset[str]
    key_id: str

    @property
    def bound(self) -> str | None:
        """The one tenant this caller sees, None for all: what control takes as `tenant`."""
        return None if self.tenant == EVERY_TENANT else self.tenant

    @property
    def person(self) -> bool:
        """Somebody at the console, and no program."""
        return self.by.startswith("user:")

    def may(self, scope: str) -> bool:
        return access.ALL in self.scopes or scope in self.scopes


def the_desk(request: Request) -> Desk:
    """What `create_api` was given."""
    desk: Desk = request.app.state.desk
    return desk


async def identify(request: Request) -> Caller:
    """The caller by key, else by session. Raises Rejected 401, and 403 `csrf` for a session's unsafe call without
    its token."""
    desk = the_desk(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        key = await access.key(desk, token.strip())
        if key is None:
            raise Rejected("invalid_key", "this key is unknown or revoked", 401)
        return Caller(f"key:{key.id}", key.tenant, frozenset(key.scopes), key.id)
    cookie = request.cookies.get(COOKIE, "")
    user = await access.session(desk, cookie) if cookie else None
    if user is None:
        raise Rejected("no_key", "send an API key: Authorization: Bearer …", 401)
    if request.method not in SAFE_METHODS and not csrf.holds(
        desk, cookie, request.headers.get(csrf.HEADER, "")
    ):
        raise Rejected("csrf", f"a session's change needs its token in {csrf.HEADER}", 403)
    return Caller(f"user:{user.email}", user.tenant, ROLES[user.role], str(uuid5(_PEOPLE, user.email)))


class _Guarded(APIRoute):
    """Identifies the caller before anything of the request's body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.caller = await identify(request)
            return await handle(request)

        return guarded


def guarded(noun: str) -> APIRouter:
    """A router for one noun under /v1."""
    return APIRouter(prefix="/v1", tags=[noun], route_class=_Guarded)


class Needs(SecurityBase):
    """The dependency that lets through who has the scope (and says so in the OpenAPI document)."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.scheme_name = "key"
        self.model = BearerModel(description="An API key: figueira keys create")

    def __call__(self, request: Request) -> Caller:
        """Raises Rejected 403."""
        caller: Caller = request.state.caller
        if not caller.may(self.scope):
            raise Rejected("missing_scope", f"this needs the scope {self.scope}", 403)
        return caller


AtDesk = Annotated[Desk, Depends(the_desk)]


def narrowed(caller: Caller, tenant: str | None) -> str | None:
    """The tenant to look in: the caller's own, or for one of every tenant the one asked for. Raises Rejected 403."""
    if caller.bound is None:
        return tenant
    if tenant not in {None, caller.bound}:
        raise Rejected("other_tenant", "this key is bound to another tenant", 403)
    return caller.bound
