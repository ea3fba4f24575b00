"""Conversations over HTTP: lists, what was said, why which path, and what an attendant does."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from flags.stage import Path
from router.api.auth import AtDesk, Caller, Needs, guarded, narrowed
from router.api.messages import IdempotencyKey, object_of
from router.api.models import (
    Accepted,
    ConversationItem,
    Cursor,
    DecisionItem,
    Limit,
    MessageItem,
    Move,
    Name,
    Page,
    Say,
    Search,
    Seen,
    Since,
)
from router.control import conversations
from router.control import messages as outbox
from router.domain.message import Author

router = guarded("conversations")

Reads = Annotated[Caller, Depends(Needs("conversations:read"))]
Writes = Annotated[Caller, Depends(Needs("conversations:write"))]


@router.get("/conversations", response_model=Page[ConversationItem])
async def listing(
    desk: AtDesk,
    caller: Reads,
    kind: Name | None = None,
    channel: Name | None = None,
    tenant: Name | None = None,
    path: Path | None = None,
    state: Literal["open", "closed"] | None = None,
    unread: bool | None = None,
    q: Search = None,
    since: Since = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """By last activity, newest first; `q` is looked for in what was said, `since` bounds the last activity, `unread` asks
    for those with something nobody has read (false: for the others)."""
    items, following = await conversations.listing(
        desk,
        tenant=caller.bound,
        only_tenant=narrowed(caller, tenant),
        kind=kind,
        channel=channel,
        path=path,
        state=state,
        unread=unread,
        q=q,
        since=since,
        cursor=cursor,
        limit=limit,
    )
    return {"items": items, "next_cursor": following}


@router.get("/conversations/{conversation_id}", response_model=ConversationItem)
async def one(desk: AtDesk, caller: Reads, conversation_id: UUID) -> Any:
    """One conversation and its pin."""
    return await conversations.one(desk, conversation_id, caller.bound)


@router.get("/conversations/{conversation_id}/messages", response_model=Page[MessageItem])
async def messages(
    desk: AtDesk, caller: Reads, conversation_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Any:
    """What was said, oldest first."""
    items, following = await conversations.messages(
        desk, conversation_id, tenant=caller.bound, cursor=cursor, limit=limit
    )
    return {"items": items, "next_cursor": following}


@router.get("/conversations/{conversation_id}/decisions", response_model=Page[DecisionItem])
async def decisions(
    desk: AtDesk, caller: Reads, conversation_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Any:
    """Each time the pin was made or moved, oldest first."""
    items, following = await conversations.decisions(
        desk, conversation_id, tenant=caller.bound, cursor=cursor, limit=limit
    )
    return {"items": items, "next_cursor": following}


@router.post("/conversations/{conversation_id}/messages", status_code=202, response_model=Accepted)
async def say(
    request: Request,
    desk: AtDesk,
    caller: Writes,
    conversation_id: UUID,
    body: Say,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """An attendant's message to the contact. Where the conversation is closed a new one opens: see the answer."""
    raw = await request.body()
    del body  # its fields are known; what they hold control judges, with codes of its own
    status, answer = await outbox.send(
        desk,
        key_id=caller.key_id,
        tenant=caller.bound,
        idempotency_key=idempotency_key,
        body=object_of(raw) | {"conversation_id": str(conversation_id)},
        raw=conversation_id.bytes + raw,  # a key is for one conversation, too
        author=Author.HUMAN,
    )
    return JSONResponse(answer, status)


@router.post("/conversations/{conversation_id}/move", response_model=ConversationItem)
async def move(desk: AtDesk, caller: Writes, conversation_id: UUID, body: Move) -> Any:
    """Move an open conversation to the other path; on it already, nothing is done."""
    await conversations.move(
        desk, conversation_id, body.path, reason=body.reason, by=caller.by, tenant=caller.bound
    )
    return await conversations.one(desk, conversation_id, caller.bound)


@router.post("/conversations/{conversation_id}/close", response_model=ConversationItem)
async def close(desk: AtDesk, caller: Writes, conversation_id: UUID) -> Any:
    """End the conversation and its pin on both paths; a closed one stays as it is."""
    by = "agent" if caller.person else "api"
    await conversations.close(desk, conversation_id, by=by, tenant=caller.bound)
    return await conversations.one(desk, conversation_id, caller.bound)


@router.post("/conversations/{conversation_id}/read", response_model=ConversationItem)
async def read(desk: AtDesk, caller: Writes, conversation_id: UUID, body: Seen | None = None) -> Any:
    """An attendant has read it: `unread` is false until the contact writes again. On path native the contact sees it."""
    typing = body is not None and body.typing
    await conversations.read(desk, conversation_id, typing=typing, tenant=caller.bound)
    return await conversations.one(desk, conversation_id, caller.bound)
