"""Files over HTTP: uploaded before they are sent, looked at, handed out, asked for again."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from router.api.auth import AtDesk, Caller, Needs, guarded
from router.api.errors import Problem
from router.api.models import FileItem, Name, Uploaded
from router.control import media
from router.domain.errors import Rejected

router = guarded("media")

Sends = Annotated[Caller, Depends(Needs("messages:write"))]
Reads = Annotated[Caller, Depends(Needs("conversations:read"))]
Writes = Annotated[Caller, Depends(Needs("conversations:write"))]
FileName = Annotated[str | None, Query(max_length=1024)]

_PIECE: Final = 64 * 1024
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""Whatever the bytes are: no browser takes them for a page of ours."""
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}


@router.post(
    "/media",
    status_code=HTTPStatus.CREATED,
    response_model=Uploaded,
    openapi_extra=_BODY,
    responses={408: {"model": Problem, "content": {"application/problem+json": {}}}},
)
async def upload(
    request: Request, desk: AtDesk, caller: Sends, filename: FileName = None, channel: Name | None = None
) -> Any:
    """Keep a file to send: the body is its bytes, or a form with one file. A key for every tenant names the `channel`.
    503 `busy` while eight files are coming in, 408 `too_slow` for one that takes longer than five minutes."""
    declared = request.headers.get("content-type", "")
    if not declared.lower().startswith("multipart/form-data"):
        return await media.upload(
            desk, request.stream(), declared=declared, name=filename, channel=channel, tenant=caller.bound
        )
    async with request.form(max_files=1, max_fields=10) as form:
        file = next((one for one in form.values() if isinstance(one, UploadFile)), None)
        if file is None:
            raise Rejected("invalid_media", "the form holds no file")
        return await media.upload(
            desk, _pieces(file), declared=file.content_type, name=filename or file.filename, channel=channel,
            tenant=caller.bound,
        )  # fmt: skip


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield piece


@router.get("/media/{media_id}", response_model=FileItem)
async def one(desk: AtDesk, caller: Reads, media_id: UUID) -> Any:
    """A file: waiting (not fetched yet), stored, gone (nobody has it any more) or refused (`error_code` says why)."""
    return media.shape(await media.one(desk, media_id, caller.bound))


@router.get(
    "/media/{media_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def content(desk: AtDesk, caller: Reads, media_id: UUID) -> Response:
    """The bytes, as a download. 404 `media_waiting`, `media_gone` or `media_refused` while there are none."""
    file = await media.content(desk, media_id, tenant=caller.bound)
    name = quote(file.media.name or str(media_id), safe="")
    headers = _HEADERS | {
        "Content-Length": str(file.length),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    return StreamingResponse(file.chunks, headers=headers, media_type=file.mime)


@router.post("/media/{media_id}/fetch", status_code=HTTPStatus.ACCEPTED, response_model=FileItem)
async def fetch(desk: AtDesk, caller: Writes, media_id: UUID) -> Any:
    """Ask once more for a file that is waiting, gone or refused; one that is stored stays as it is."""
    return await media.fetch(desk, media_id, caller.bound)
