"""Coming in and going out."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from router.console.throttle import WINDOW_SECONDS
from router.console.visitor import COOKIE, LOGIN, AtDesk, Closed, Open, meant, render, the_site
from router.control import access

router = APIRouter(include_in_schema=False)
public = APIRouter(prefix="/console", route_class=Open)
closed = APIRouter(prefix="/console", route_class=Closed)

LENGTH: Final = 1024
"""Characters of an address or a password at most: nobody has longer ones, and hashing them costs."""
_WAY_BACK: Final = re.compile(r"/console(/[A-Za-z0-9_-]+)*")
_OWN_SITE: Final = frozenset({"same-origin", "none"})

Text = Annotated[str, Form()]

WRONG: Final = "E-mail ou senha não conferem."
TOO_MANY: Final = "Muitas tentativas. Espere alguns minutos e tente de novo."
FOREIGN: Final = "O formulário veio de outro site. Entre por esta página."


@public.get("/login")
async def form(request: Request, voltar: str = "") -> Response:
    """The login form."""
    return _form(request, voltar)


@public.post("/login")
async def login(
    request: Request, desk: AtDesk, email: Text = "", password: Text = "", voltar: Text = ""
) -> Response:
    """Start a session. What is wrong is not told apart."""
    # A browser says where a form comes from; without this another site could log a person in as somebody else.
    if request.headers.get("sec-fetch-site", "none") not in _OWN_SITE:
        return _form(request, voltar, HTTPStatus.FORBIDDEN, FOREIGN)
    site, name = the_site(request), (email.strip().lower()[:LENGTH], _peer(request))
    if not site.throttle.admit(name):
        answer = _form(request, voltar, HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY)
        answer.headers["Retry-After"] = str(int(WINDOW_SECONDS))
        return answer
    token = None
    if max(len(email), len(password)) <= LENGTH:
        token = await access.login(desk, email, password)
    if token is None:
        return _form(request, voltar, HTTPStatus.UNAUTHORIZED, WRONG)
    site.throttle.forget(name)
    if before := request.cookies.get(COOKIE):
        await access.logout(desk, before)
    answer = RedirectResponse(_way_back(voltar), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE, token, max_age=access.SESSION_HOURS * 3600, httponly=True, samesite="strict",
        secure=site.secure or request.url.scheme == "https",
    )  # fmt: skip
    return answer


@closed.post("/logout")
async def logout(request: Request, desk: AtDesk, csrf: Text = "") -> Response:
    """End the session."""
    meant(request, csrf)
    await access.logout(desk, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _form(request: Request, voltar: str, status: int = 200, words: str = "") -> Response:
    return render(request, "login.html", status=status, words=words, voltar=_way_back(voltar))


def _way_back(asked: str) -> str:
    """A page of the console, whatever was asked for: never another site."""
    return asked if _WAY_BACK.fullmatch(asked) and asked != LOGIN else "/console"


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


router.include_router(public)
router.include_router(closed)
