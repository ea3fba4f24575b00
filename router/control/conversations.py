"""Conversations: reading them, moving and closing them, explaining their pins."""

from datetime import datetime
from typing import Any
from uuid import UUID

from flags.ports import Flag
from flags.stage import Path
from router.control import audit, pages
from router.control.desk import Desk, every, id_of, stamp
from router.domain.channel import Channel
from router.domain.conversation import Conversation
from router.domain.errors import Rejected
from router.domain.ports import Tx
from router.storage.queries import talk

Page = tuple[list[dict[str, Any]], str | None]
_ID = ("unknown_conversation", "conversation")
STATES = ("open", "closed")
_MOST_DECISIONS = 200


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation as HTTP shows it."""
    return {
        "id": str(row["id"]),
        "channel": row["channel"],
        "kind": row["kind"],
        "tenant": row["tenant"],
        "contact_id": str(row["contact_id"]),
        "contact_name": row["contact_name"],
        "path": row["path"],
        "pin_version": row["pin_version"],
        "state": row["state"],
        "opened_at": stamp(row["opened_at"]),
        "last_at": stamp(row["last_at"]),
        "closed_at": stamp(row["closed_at"]),
        "closed_by": row["closed_by"],
        "last_text": row["last_text"],
        "last_direction": row["last_direction"],
    }


def message_shape(row: dict[str, Any]) -> dict[str, Any]:
    """A message as HTTP shows it. `kind` is the channel's, `content_kind` what it holds (text, image, …)."""
    return {
        "id": str(row["id"]),
        "seq": row["seq"],
        "conversation_id": str(row["conversation_id"]),
        "direction": row["direction"],
        "author": row["author"],
        "kind": row["kind"],
        "content_kind": row["content_kind"],
        "text": row["text"],
        "external_id": row["external_id"],
        "source_id": row["source_id"],
        "status": row["status"],
        "path": row["path"],
        "sent_at": stamp(row["sent_at"]),
        "delivered_at": stamp(row["delivered_at"]),
        "error_code": row["error_code"],
    }


# reading ---------------------------------------------------------------------------------------------------


async def listing(
    desk: Desk, *, tenant: str | None = None, only_tenant: str | None = None, kind: str | None = None,
    channel: str | None = None, path: str | None = None, state: str | None = None, q: str | None = None,
    since: datetime | None = None, cursor: str | None = None, limit: int | None = None,
) -> Page:  # fmt: skip
    """A page by last activity, newest first. `tenant` is the caller's (row-level security), `only_tenant` a filter;
    `q` is looked for in what was said; `since` bounds the last activity. Raises Rejected for a malformed filter."""
    if path is not None and path not in set(Path):
        raise Rejected("unknown_path", f"path is {' or '.join(Path)}")
    if state is not None and state not in STATES:
        raise Rejected("unknown_state", f"state is {' or '.join(STATES)}")
    size = pages.bounded(limit)
    asked = talk.Asked(only_tenant, kind, channel, path, state, _storable(q), since, pages.after_time(cursor))
    found = await desk.store.transact(lambda tx: talk.conversations(tx, asked, size + 1), tenant=tenant)
    kept, after = pages.page(found, size, lambda row: (row["last_at"].isoformat(), row["id"]))
    return [shape(row) for row in kept], after


async def one(desk: Desk, conversation_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """One conversation. Raises Rejected unknown_conversation (404), also when it is another tenant's."""
    wanted = id_of(conversation_id, *_ID)
    return shape(await desk.store.transact(lambda tx: _row(tx, wanted), tenant=tenant))


async def messages(
    desk: Desk, conversation_id: UUID | str, *, tenant: str | None = None, cursor: str | None = None,
    limit: int | None = None, newest: bool = False,
) -> Page:  # fmt: skip
    """A page of messages by seq from the first; `newest`: from the last backwards. Raises Rejected (404)."""
    wanted, size, after = id_of(conversation_id, *_ID), pages.bounded(limit), pages.after_number(cursor)

    async def work(tx: Tx) -> list[dict[str, Any]]:
        await _row(tx, wanted)
        return await talk.messages(tx, wanted, after=after, limit=size + 1, newest=newest)

    found = await desk.store.transact(work, tenant=tenant)
    kept, beyond = pages.page(found, size, lambda row: (row["seq"],))
    return [message_shape(row) for row in kept], beyond


async def decisions(
    desk: Desk, conversation_id: UUID | str, *, tenant: str | None = None, cursor: str | None = None,
    limit: int | None = None,
) -> Page:  # fmt: skip
    """A page of the decisions about its pin, oldest first. Raises Rejected (404)."""
    wanted, size, after = id_of(conversation_id, *_ID), pages.bounded(limit), pages.after_number(cursor)

    async def work(tx: Tx) -> list[dict[str, Any]]:
        await _row(tx, wanted)
        return await talk.decisions(tx, wanted, after=after, limit=size + 1)

    found = await desk.store.transact(work, tenant=tenant)
    kept, beyond = pages.page(found, size, lambda row: (row["pin_version"],))
    return [
        _decision(row) | {"id": str(row["id"]), "pin_version": row["pin_version"]} for row in kept
    ], beyond


async def explain(desk: Desk, conversation_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """Why it is where it is: {conversation_id, path, pin_version, decisions: [{stage, path, rule, revision, reason,
    guard, at}]}, oldest first. Raises Rejected (404)."""
    wanted = id_of(conversation_id, *_ID)

    async def work(tx: Tx) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return await _row(tx, wanted), await talk.decisions(tx, wanted, after=None, limit=_MOST_DECISIONS)

    row, made = await desk.store.transact(work, tenant=tenant)
    return {
        "conversation_id": str(row["id"]),
        "path": row["path"],
        "pin_version": row["pin_version"],
        "decisions": [_decision(decision) for decision in made],
    }


def _decision(row: dict[str, Any]) -> dict[str, Any]:
    plain = {name: row[name] for name in ("stage", "path", "rule", "revision", "reason", "guard")}
    return plain | {"at": stamp(row["at"])}


async def _row(tx: Tx, conversation_id: UUID) -> dict[str, Any]:
    row = await talk.conversation(tx, conversation_id)
    if row is None:
        raise Rejected(_ID[0], "no such conversation", 404)
    return row


def _storable(text: str | None) -> str | None:
    """What PostgreSQL's text cannot hold is in no message either."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode() if text else None


# acting ----------------------------------------------------------------------------------------------------


async def move(
    desk: Desk, conversation_id: UUID | str, path: str, *, reason: str, by: str, tenant: str | None = None
) -> Conversation:
    """Move an open conversation to the other path; on its path already: nothing is done.

    Raises Rejected: unknown_conversation (404), conversation_closed (409), unknown_path, reason_missing, cannot_divide.
    """
    wanted = id_of(conversation_id, *_ID)
    if path not in set(Path):
        raise Rejected("unknown_path", f"path is {' or '.join(Path)}")
    if not reason.strip():
        raise Rejected("reason_missing", "a move needs a reason: it is kept in the decision")
    await _visible(desk, wanted, tenant)
    snapshot = await desk.flags.snapshot()

    async def work(tx: Tx) -> tuple[Conversation, bool]:
        before = await tx.conversation(wanted)
        if before is None:
            raise Rejected(_ID[0], "no such conversation", 404)
        refuse_undividable(desk.channels.get(before.channel), Path(path))
        flag = snapshot.flags.get(before.kind) or Flag(before.kind)
        moved = await desk.facade.move(
            tx, before, Path(path), stage=flag.stage, revision=flag.revision, reason=reason.strip()
        )
        changed = moved.pin_version != before.pin_version
        if changed:
            await audit.record(
                desk, tx, act="conversation.move", subject=str(wanted), by=by, tenant=moved.tenant, reason=reason,
                detail={"path": path, "pin_version": moved.pin_version},
            )  # fmt: skip
        return moved, changed

    # The engine's transaction: a move may settle an event that another tenant's channel received.
    moved, changed = await desk.store.transact(work)
    if changed:
        flag = snapshot.flags.get(moved.kind) or Flag(moved.kind)
        desk.meter.record([("decisions_total", 1, (moved.kind, flag.stage, moved.path, "move"))])
    return moved


async def close(
    desk: Desk, conversation_id: UUID | str, *, by: str, tenant: str | None = None
) -> Conversation:
    """End a conversation and its pin on both paths; a closed one stays as it is. `by`: agent, assistant or api.
    Raises Rejected (404)."""
    wanted = id_of(conversation_id, *_ID)

    async def work(tx: Tx) -> Conversation:
        conversation = await tx.conversation(wanted)
        if conversation is None:
            raise Rejected(_ID[0], "no such conversation", 404)
        return await desk.facade.close(tx, conversation, by)

    return await desk.store.transact(work, tenant=tenant)


async def _visible(desk: Desk, conversation_id: UUID, tenant: str | None) -> None:
    if not every(tenant):
        await desk.store.transact(lambda tx: _row(tx, conversation_id), tenant=tenant)


def refuse_undividable(channel: Channel | None, path: Path) -> None:
    """The same rule as for flags: a batch that holds both paths is divided, and signed again."""
    if path is Path.NATIVE and (channel is None or not channel.can_divide):
        raise Rejected(
            "cannot_divide",
            "this channel cannot go native: a batch could not be divided between the paths without the secret that"
            " signs it; set app_secret in its [channels.….native]",
        )
