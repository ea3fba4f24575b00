"""Every failure as problem+json (RFC 9457): type, title, status, code, detail; never a value of the request."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from router.api import models
from router.domain.errors import Conflict, Rejected, StaleFlags, Unavailable
from router.logs import event as log

MEDIA_TYPE: Final = "application/problem+json"
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="figueira"'}
AGAIN: Final = {"Retry-After": "5"}  # seconds

_logger = logging.getLogger(__name__)

_CODES: Final = {
    400: ("malformed", "the body cannot be read"),
    404: ("not_found", "there is nothing here"),
    405: ("method_not_allowed", "this address does not take that method"),
    413: ("too_large", "the body is larger than is taken here"),
}
# pydantic repeats a character of the input in these.
_WITHOUT_ECHO: Final = {
    "json_invalid": "The body should be JSON",
    "uuid_parsing": "Input should be a UUID",
    "extra_forbidden": "There is no such field",
}
_KNOWN: Final = frozenset(
    name
    for model in vars(models).values()
    if isinstance(model, type) and issubclass(model, models.Request)
    for field, told in model.model_fields.items()
    for name in (field, told.alias)
    if name
)
"""The names of fields of a body that an answer may repeat: every other one is the caller's own text."""


class Problem(BaseModel):
    """The body of every answer that is no success. `code` is stable, `field` names what a 422 is about."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None


def problem(
    status: int, code: str, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer for one failure."""
    body = Problem(
        type=f"urn:figueira:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        field=field,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status, dict(headers) if headers else None, media_type=MEDIA_TYPE
    )


def register(app: FastAPI) -> None:
    """Let `app` answer each exception with a problem."""
    app.add_exception_handler(Rejected, _rejected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Unavailable, _unavailable)
    for busy in (Conflict, StaleFlags):
        app.add_exception_handler(busy, _busy)
    app.add_exception_handler(Exception, _failed)


async def _rejected(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Rejected)  # noqa: S101 - for the type checker: registered for it alone
    headers = CHALLENGE if error.status == HTTPStatus.UNAUTHORIZED else None
    return problem(error.status, error.code, str(error), headers=headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """The first thing wrong. A path that holds no id at all is an address where there is nothing."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    found = error.errors()
    first: dict[str, Any] = found[0]
    place, *inside = first["loc"]
    if place == "path":
        return problem(404, *_CODES[404])
    named = [part for part in inside if isinstance(part, str) and (place != "body" or part in _KNOWN)]
    detail = _WITHOUT_ECHO.get(first["type"], first["msg"])
    if first["type"] == "extra_forbidden":
        # A name is known perhaps, but not there.
        named = [part for part in inside[:-1] if part in _KNOWN]
        detail = f"{detail} ({sum(one['type'] == first['type'] for one in found)} unknown)"
    return problem(422, "invalid", detail, field=".".join(named) or place)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
    code, detail = _CODES.get(error.status_code, ("refused", HTTPStatus(error.status_code).phrase))
    return problem(error.status_code, code, detail, headers=error.headers)


async def _unavailable(_request: Request, _error: Exception) -> JSONResponse:
    return problem(503, "unavailable", "the database cannot be reached", headers=AGAIN)


async def _busy(_request: Request, _error: Exception) -> JSONResponse:
    return problem(503, "busy", "others are changing the same; try again", headers=AGAIN)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    log(_logger, "request.failed", level=logging.ERROR, error=type(error).__name__)
    return problem(500, "internal", "this failed on our side; nothing of it was kept")
