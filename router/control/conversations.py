"""Conversations: reading them, moving and closing them, marking them read, explaining their pins."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flags.ports import Flag
from flags.stage import Path
from router.control import audit, pages
from router.control.desk import Desk, every, id_of, stamp
from router.domain.channel import Channel
from router.domain.conversation import Conversation
from router.domain.errors import Rejected
from router.domain.media import Media
from router.domain.message import Direction, Message
from router.domain.ports import Tx
from router.storage.queries import talk

Page = tuple[list[dict[str, Any]], str | None]
_ID = ("unknown_conversation", "conversation")
STATES = ("open", "closed")
_MOST_DECISIONS = 200
SHOWN = ("location", "contacts", "interactive", "template", "reaction", "order", "button")
"""Content kinds whose own object is shown; of the others it may hold what is nobody's business."""
_BESIDE = ("message_id", "emoji", "reply_to")
_ABOUT = (
    ("edit", "original_message_id"), ("revoke", "original_message_id"), ("reaction", "message_id"), ("context", "id"),
)  # fmt: skip
_LOOKED_BACK = 50  # messages
_UNMARKED = frozenset({"reaction", "edit", "delete"})  # they are about another message


def shape(desk: Desk, row: dict[str, Any], heard_at: datetime | None = None) -> dict[str, Any]:
    """A conversation as HTTP shows it. `window_open` null: its kind has no window, or its channel is configured no more.
    `heard_at`: when the contact last wrote to the channel at all, where that is known."""
    until = window_until(desk, row["channel"], heard_at or row["heard_at"])
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
        "heard_at": stamp(row["heard_at"]),
        "read_at": stamp(row["read_at"]),
        "unread": unread(row["heard_at"], row["read_at"]),
        "window_open": None if until is None else desk.clock.now() < until,
        "window_until": stamp(until) if until is not None and until > NEVER else None,
        "opted_out": row["opted_out_at"] is not None,
    }


NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def window_until(desk: Desk, slug: str, heard_at: datetime | None) -> datetime | None:
    """Until when the contact may be written to freely; NEVER before they wrote; None: at any time."""
    channel = desk.channels.get(slug)
    hours = desk.kinds[channel.kind].rules(channel).window_hours if channel is not None else None
    if hours is None:
        return None
    return NEVER if heard_at is None else heard_at + timedelta(hours=hours)


def unread(heard_at: datetime | None, read_at: datetime | None) -> bool:
    """The contact has said something since an attendant last looked."""
    return heard_at is not None and (read_at is None or read_at < heard_at)


def message_shape(row: dict[str, Any]) -> dict[str, Any]:
    """A message as HTTP shows it. `kind` is the channel's, `content_kind` what it holds (text, image, …); `about` the
    provider's id of the message it answers or changes."""
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
        "metadata": row["metadata"],
        "media": [file_shape(one) for one in row.get("media", ())],
        "data": shown(row["content_kind"], row["data"]),
        "about": about(row["data"]),
    }


def shown(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What of a content's data may leave: the object of a kind in SHOWN, and which message it is about."""
    if kind not in SHOWN:
        return {"reply_to": data["reply_to"]} if "reply_to" in data else {}
    return {name: data[name] for name in (kind, *_BESIDE) if name in data}


def about(data: Mapping[str, Any]) -> str | None:
    """The provider's id of the message that an edit, a deletion, a reaction or an answer is about."""
    for name, key in _ABOUT:
        inner = data.get(name)
        if isinstance(inner, Mapping) and isinstance(inner.get(key), str):
            return str(inner[key])
    return None


def file_shape(file: Media | Mapping[str, Any]) -> dict[str, Any]:
    """A file of a message as HTTP shows it."""
    found = asdict(file) if isinstance(file, Media) else file
    plain = {name: found[name] for name in ("state", "mime", "name", "size", "error_code")}
    return {"id": str(found["id"]), **plain, "url": f"/v1/media/{found['id']}/content"}


# reading ---------------------------------------------------------------------------------------------------


async def listing(
    desk: Desk, *, tenant: str | None = None, only_tenant: str | None = None, kind: str | None = None,
    channel: str | None = None, path: str | None = None, state: str | None = None, q: str | None = None,
    since: datetime | None = None, cursor: str | None = None, limit: int | None = None, unread: bool | None = None,
) -> Page:  # fmt: skip
    """A page by last activity, newest first. `tenant` is the caller's (row-level security), `only_tenant` a filter;
    `q` is looked for in what was said; `since` bounds the last activity; `unread`: with something nobody has read yet
    (False: without). Raises Rejected for a malformed filter."""
    if path is not None and path not in set(Path):
        raise Rejected("unknown_path", f"path is {' or '.join(Path)}")
    if state is not None and state not in STATES:
        raise Rejected("unknown_state", f"state is {' or '.join(STATES)}")
    size = pages.bounded(limit)
    asked = talk.Asked(
        only_tenant, kind, channel, path, state, _storable(q), since, pages.after_time(cursor), unread=unread
    )
    found = await desk.store.transact(lambda tx: talk.conversations(tx, asked, size + 1), tenant=tenant)
    kept, after = pages.page(found, size, lambda row: (row["last_at"].isoformat(), row["id"]))
    return [shape(desk, row) for row in kept], after


async def one(desk: Desk, conversation_id: UUID | str, tenant: str | None = None) -> dict[str, Any]:
    """One conversation. Raises Rejected unknown_conversation (404), also when it is another tenant's."""
    wanted = id_of(conversation_id, *_ID)

    async def work(tx: Tx) -> tuple[dict[str, Any], datetime | None]:
        row, conversation = await _row(tx, wanted), await tx.conversation(wanted, lock=False)
        reach = await tx.reach(conversation.channel, conversation.identity_id) if conversation else None
        return row, reach.heard_at if reach else None

    row, heard_at = await desk.store.transact(work, tenant=tenant)
    return shape(desk, row, heard_at)


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


async def read(
    desk: Desk, conversation_id: UUID | str, *, typing: bool = False, tenant: str | None = None
) -> Conversation:
    """An attendant has seen it. On path native the provider is told, when there was something new or somebody is
    `typing`. Raises Rejected (404)."""
    wanted = id_of(conversation_id, *_ID)

    async def work(tx: Tx) -> Conversation:
        conversation = await tx.conversation(wanted)
        if conversation is None:
            raise Rejected(_ID[0], "no such conversation", 404)
        heard_at = conversation.heard_at
        news = unread(heard_at, conversation.read_at)
        if news or conversation.read_at is None:
            now = await tx.now()  # never before what was read: the provider's clock may run ahead of ours
            conversation = replace(conversation, read_at=max(now, heard_at or now))
            await tx.save_conversation(conversation)
        if heard_at is not None and conversation.path is Path.NATIVE and (news or typing):
            said = await _last_said(tx, wanted)
            if said is not None:
                await desk.compose.mark(tx, conversation, said, typing=typing)
        return conversation

    return await desk.store.transact(work, tenant=tenant)


async def _last_said(tx: Tx, conversation_id: UUID) -> Message | None:
    """The contact's newest message that the provider has a name for: what is marked marks all before it."""
    for row in await talk.messages(tx, conversation_id, after=None, limit=_LOOKED_BACK, newest=True):
        mine = row["direction"] == Direction.INBOUND and row["external_id"] is not None
        if mine and row["content_kind"] not in _UNMARKED:
            return await tx.message(row["id"], lock=False)
    return None


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
