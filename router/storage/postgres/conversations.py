"""Conversations, the decisions about their pins, Rocket.Chat's rooms."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from flags.stage import Path
from router.domain.conversation import Conversation, Decision, Room
from router.domain.errors import Conflict
from router.storage.postgres.base import FOR_UPDATE, Base, insert

if TYPE_CHECKING:
    from asyncpg import Record

LOCK_FLOOR = 0x464C4F52  # "FLOR": shared by decisions, exclusive for who raises the floor of a kind
COLUMNS = (
    "id", "tenant_id", "channel", "kind", "identity_id", "contact_id", "path", "pin_version", "opened_at", "last_at",
    "closed_at", "closed_by", "room_id", "heard_at", "read_at", "pinned_at",
)  # fmt: skip
_SELECT = f"select {', '.join(COLUMNS)} from conversations"
_INSERT = insert("conversations", COLUMNS) + " on conflict do nothing returning true"
_UPDATE = (
    "update conversations set "
    + ", ".join(f"{name} = ${place}" for place, name in enumerate(COLUMNS[1:], 2))
    + " where id = $1"
)
_ROOM = "select id, tenant_id, channel, conversation_id, learned_at, spoke_at from rooms"
DECISION = insert("decisions", (
    "id", "tenant_id", "conversation_id", "path", "stage", "rule", "revision", "reason", "pin_version", "at", "guard",
))  # fmt: skip


def values(c: Conversation) -> tuple[object, ...]:
    return (
        c.id, c.tenant, c.channel, c.kind, c.identity_id, c.contact_id, c.path, c.pin_version, c.opened_at, c.last_at,
        c.closed_at, c.closed_by, c.room_id, c.heard_at, c.read_at, c.pinned_at,
    )  # fmt: skip


def _conversation(row: "Record") -> Conversation:
    return Conversation(
        id=row["id"],
        tenant=row["tenant_id"],
        channel=row["channel"],
        kind=row["kind"],
        identity_id=row["identity_id"],
        contact_id=row["contact_id"],
        path=Path(row["path"]),
        pin_version=row["pin_version"],
        opened_at=row["opened_at"],
        last_at=row["last_at"],
        closed_at=row["closed_at"],
        closed_by=row["closed_by"],
        room_id=row["room_id"],
        heard_at=row["heard_at"],
        read_at=row["read_at"],
        pinned_at=row["pinned_at"],
    )


def _room(row: "Record") -> Room:
    return Room(
        row["id"], row["tenant_id"], row["channel"], row["conversation_id"], row["learned_at"], row["spoke_at"]
    )  # fmt: skip


class Conversations(Base):
    """The conversation part of Tx."""

    async def open_conversation(self, slug: str, identity_id: UUID) -> Conversation | None:
        row = await self._link.fetchrow(
            f"{_SELECT} where channel = $1 and identity_id = $2 and closed_at is null for update",
            slug, identity_id,
        )  # fmt: skip
        return _conversation(row) if row else None

    async def conversation_before(self, slug: str, identity_id: UUID, at: datetime) -> Conversation | None:
        row = await self._link.fetchrow(
            f"{_SELECT} where channel = $1 and identity_id = $2 and opened_at <= $3"
            " order by opened_at desc, id desc limit 1 for update",
            slug, identity_id, at,
        )  # fmt: skip
        return _conversation(row) if row else None

    async def conversation(self, conversation_id: UUID, *, lock: bool = True) -> Conversation | None:
        row = await self._link.fetchrow(f"{_SELECT} where id = $1{FOR_UPDATE[lock]}", conversation_id)
        return _conversation(row) if row else None

    async def add_conversation(self, conversation: Conversation) -> None:
        if not await self._link.fetchval(_INSERT, *values(conversation)):
            raise Conflict("another writer opened a conversation first")

    async def save_conversation(self, conversation: Conversation) -> None:
        await self._link.execute(_UPDATE, *values(conversation))

    async def idle_conversations(self, slug: str, before: datetime, limit: int) -> Sequence[UUID]:
        rows = await self._link.fetch(
            "select id from conversations where channel = $1 and closed_at is null and last_at < $2"
            " order by last_at limit $3",
            slug, before, limit,
        )  # fmt: skip
        return [row["id"] for row in rows]

    async def add_decision(self, decision: Decision) -> None:
        d = decision
        await self._link.execute(
            DECISION, d.id, d.tenant, d.conversation_id, d.path, d.stage, d.rule, d.revision, d.reason,
            d.pin_version, d.at, d.guard,
        )  # fmt: skip

    async def flag_floor(self, kind: str) -> int:
        # Who raises the floor waits for the decisions under way: once a kill is answered, none with older flags is
        # committed after it. A statement of its own, so that the next one sees what that wait was for.
        await self._link.execute("select pg_advisory_xact_lock_shared($1, hashtext($2))", LOCK_FLOOR, kind)
        found: int | None = await self._link.fetchval(
            "select revision from flag_floors where kind = $1", kind
        )
        return found or 0

    async def room(self, room_id: str) -> Room | None:
        row = await self._link.fetchrow(f"{_ROOM} where id = $1 for update", room_id)
        return _room(row) if row else None

    async def save_room(self, room: Room) -> None:
        await self._link.execute(
            "insert into rooms (id, tenant_id, channel, conversation_id, learned_at, spoke_at)"
            " values ($1, $2, $3, $4, $5, $6)"
            " on conflict (id) do update set tenant_id = excluded.tenant_id, channel = excluded.channel,"
            " conversation_id = excluded.conversation_id, learned_at = excluded.learned_at,"
            " spoke_at = excluded.spoke_at",
            room.id, room.tenant, room.channel, room.conversation_id, room.learned_at, room.spoke_at,
        )  # fmt: skip
