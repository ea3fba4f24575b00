"""Who looks at a page, what they may do, and how a page is answered."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment

from router.console.throttle import Throttle
from router.console.words import refusal
from router.control import access, csrf
from router.control.desk import Desk
from router.domain.channel import EVERY_TENANT
from router.domain.errors import Conflict, Rejected, StaleFlags, Unavailable

COOKIE: Final = "figueira_session"
LOGIN: Final = "/console/login"

# The same as the roles of the HTTP interface, which decides: here they choose what a page offers.
TALKS: Final = frozenset({"agent", "product", "admin"})
"""Answer, move and close conversations."""
FLIPS: Final = frozenset({"product", "admin"})
"""Change flags."""
OPERATES: Final = frozenset({"product", "auditor", "admin"})
"""See dead letters and the stream."""
REPLAYS: Final = frozenset({"admin"})
CURATES: Final = frozenset({"admin"})
"""Change what is kept of a contact."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages share."""

    templates: Environment
    throttle: Throttle
    secure: bool


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in. `alone`: the installation has channels of this person's clinic only."""

    email: str
    tenant: str
    role: str
    csrf: str
    alone: bool = False

    @property
    def bound(self) -> str | None:
        """The one tenant this person sees, None for all: what control takes as `tenant`."""
        return None if self.tenant == EVERY_TENANT else self.tenant

    @property
    def by(self) -> str:
        """The actor of what is done from a page."""
        return f"user:{self.email}"

    @property
    def talks(self) -> bool:
        return self.role in TALKS

    @property
    def flips(self) -> bool:
        return self.role in FLIPS

    @property
    def operates(self) -> bool:
        return self.role in OPERATES

    @property
    def sees_imports(self) -> bool:
        """One Rocket.Chat's history is every clinic's."""
        return self.operates and (self.bound is None or self.alone)

    @property
    def replays(self) -> bool:
        return self.role in REPLAYS

    @property
    def curates(self) -> bool:
        return self.role in CURATES


def the_desk(request: Request) -> Desk:
    """What the application was made over."""
    desk: Desk = request.app.state.desk
    return desk


def the_site(request: Request) -> Site:
    """What `mount` put there."""
    site: Site = request.app.state.console
    return site


def the_visitor(request: Request) -> Visitor:
    """Known before the handler runs."""
    visitor: Visitor = request.state.visitor
    return visitor


AtDesk = Annotated[Desk, Depends(the_desk)]
Seen = Annotated[Visitor, Depends(the_visitor)]


async def visitor_of(request: Request) -> Visitor | None:
    """By the session's cookie; None without one that still holds."""
    desk, token = the_desk(request), request.cookies.get(COOKIE, "")
    user = await access.session(desk, token) if token else None
    if user is None:
        return None
    alone = {channel.tenant for channel in desk.channels.values()} == {user.tenant}
    return Visitor(user.email, user.tenant, user.role, csrf.token(desk, token), alone)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. `visitor` is there in every template, None before the login."""
    visitor = getattr(request.state, "visitor", None)
    page = the_site(request).templates.get_template(template)
    return HTMLResponse(page.render(visitor=visitor, path=request.url.path, **values), status)


def meant(request: Request, given: str) -> None:
    """A form's change needs the session's token. Raises Rejected 403 `csrf`."""
    if not csrf.holds(the_desk(request), request.cookies.get(COOKIE, ""), given):
        raise Rejected("csrf", "the form's token does not belong to this session", 403)


def only(allowed: bool) -> None:
    """Raises Rejected 403."""
    if not allowed:
        raise Rejected("missing_scope", "this role may not do that", 403)


class Open(APIRoute):
    """A page for everybody; failures are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await self.admitted(request, handle)
            except Rejected as error:
                return failed(request, error.status, refusal(error))
            except (Unavailable, Conflict, StaleFlags):
                words = "O banco de dados não respondeu. Tente de novo em instantes."
                return failed(request, HTTPStatus.SERVICE_UNAVAILABLE, words)

        return answered

    async def admitted(
        self, request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Response:
        return await handle(request)


class Closed(Open):
    """A page for who is logged in; others are led to the login before anything of the request is read."""

    async def admitted(
        self, request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Response:
        visitor = await visitor_of(request)
        if visitor is None:
            back = request.url.path if request.method == "GET" else "/console"
            return RedirectResponse(f"{LOGIN}?voltar={quote(back, safe='/')}", HTTPStatus.SEE_OTHER)
        request.state.visitor = visitor
        return await handle(request)


def failed(request: Request, status: int, words: str) -> HTMLResponse:
    """The page of a failure."""
    return render(request, "erro.html", status=status, words=words, code=int(status))
