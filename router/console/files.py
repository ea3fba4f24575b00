"""Files in the console: shown in a conversation, and taken in to be sent."""

import re
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from router.console.talk import PLAYED
from router.console.visitor import AtDesk, Closed, Seen, meant, only
from router.control import conversations, csrf, media
from router.domain.errors import Rejected

router = APIRouter(prefix="/console", include_in_schema=False, route_class=Closed)

_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")


@router.get("/arquivos/{media_id}")
async def show(
    desk: AtDesk, visitor: Seen, media_id: str, wanted: Annotated[str | None, Header(alias="Range")] = None
) -> Response:
    """A file of a message: shown in the page where browsers show such a type without running anything, else a
    download. Players ask for parts of it."""
    part = _RANGE.fullmatch(wanted or "")
    asked = (int(part[1]), int(part[2]) if part[2] else None) if part else None
    file = await media.content(desk, media_id, tenant=visitor.bound, wanted=asked)
    place = "inline" if file.mime in PLAYED else "attachment"
    name = quote(file.media.name or media_id, safe="")
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(file.length),
        "Content-Disposition": f"{place}; filename*=UTF-8''{name}",
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {file.first}-{file.first + file.length - 1}/{file.size}"
    status = HTTPStatus.OK if asked is None else HTTPStatus.PARTIAL_CONTENT
    return StreamingResponse(file.chunks, status, headers, media_type=file.mime)


@router.post("/conversas/{conversation_id}/arquivo")
async def take(
    request: Request, desk: AtDesk, visitor: Seen, conversation_id: str,
    filename: Annotated[str, Query(max_length=1024)] = "",
) -> Response:  # fmt: skip
    """The bytes of a file that is to be sent to the contact of this conversation; then a message names its id."""
    try:
        meant(request, request.headers.get(csrf.HEADER, ""))
        only(visitor.talks)
        one = await conversations.one(desk, conversation_id, visitor.bound)
        kept = await media.upload(
            desk, request.stream(), declared=request.headers.get("content-type"), name=filename,
            channel=one["channel"], tenant=visitor.bound,
        )  # fmt: skip
    except Rejected as error:  # a script reads this one
        return JSONResponse({"code": error.code, "detail": str(error)}, error.status)
    return JSONResponse(kept, HTTPStatus.CREATED)
