"""POST /v1/messages and GET /v1/messages/{id}."""

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse

from router.api.auth import AtDesk, Caller, Needs, guarded
from router.api.models import Accepted, MessageRequest, MessageState
from router.control import messages
from router.domain.errors import Rejected

router = guarded("messages")

Reads = Annotated[Caller, Depends(Needs("messages:read"))]
Writes = Annotated[Caller, Depends(Needs("messages:write"))]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]


@router.post("/messages", status_code=202, response_model=Accepted)
async def send(
    request: Request,
    desk: AtDesk,
    caller: Writes,
    body: MessageRequest,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Queue one message. The same key with the same bytes gets the same answer for 48 hours, with others a 409."""
    raw = await request.body()
    del body  # its fields are known; what they hold control judges, with codes of its own
    status, answer = await messages.send(
        desk,
        key_id=caller.key_id,
        tenant=caller.bound,
        idempotency_key=idempotency_key,
        body=object_of(raw),
        raw=raw,
    )
    return JSONResponse(answer, status)


@router.get("/messages/{message_id}", response_model=MessageState)
async def one(desk: AtDesk, caller: Reads, message_id: UUID) -> Any:
    """Where a message stands, with each attempt."""
    return await messages.one(desk, message_id, caller.bound)


def object_of(raw: bytes) -> dict[str, Any]:
    """A request's body. Stricter than the framework's reader: NaN and lone surrogates are no JSON, and no row could hold them."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Rejected("invalid", "the body is not JSON", 422) from None
    if not isinstance(found, dict):
        raise Rejected("invalid", "the body is no JSON object", 422)
    return found
