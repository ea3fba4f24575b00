"""Messages, their unique keys, and outcomes of messages that are not ours."""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from flags.stage import Path
from router.domain.channel import EVERY_TENANT
from router.domain.errors import Conflict
from router.domain.message import ERASED, RANK, Author, Content, Direction, Message, Status
from router.storage.postgres.base import FOR_UPDATE, Base, placeholders
from router.storage.postgres.codec import clean, clean_or_none

if TYPE_CHECKING:
    from asyncpg import Record

_COLUMNS = (
    "created_at", "id", "tenant_id", "channel", "kind", "conversation_id", "direction", "author", "content_kind",
    "text", "data", "status", "path", "sent_at", "external_id", "source_id", "decision_id", "event_id", "error_code",
    "handled_at", "delivered_at", "matched_by", "metadata",
)  # fmt: skip
_SELECT = "select " + ", ".join(f"m.{name}" for name in _COLUMNS) + ", m.seq from messages m"
# Keys and row in one round trip; no row unless every key was free.
_INSERT = f"""
with wanted as (
    select * from unnest($24::text[], $25::text[], $26::text[]) as w (key, channel, value)
), claimed as (
    insert into message_keys (key, channel, value, tenant_id, message_id, created_at)
    select key, channel, value, $3, $2, $1 from wanted order by key on conflict do nothing returning 1
)
insert into messages ({", ".join(_COLUMNS)})
select {placeholders(_COLUMNS)} where (select count(*) from claimed) = cardinality($24::text[])
returning seq
"""
# The row's key never changes; what the update overwrote says which unique keys are new.
_UPDATE = (
    "update messages m set "
    + ", ".join(f"{name} = ${place}" for place, name in enumerate(_COLUMNS[2:], 3))
    + " from (select external_id, source_id from messages where created_at = $1 and id = $2 for update) old"
    + " where m.created_at = $1 and m.id = $2 returning old.external_id, old.source_id"
)
_ADD_KEY = "insert into message_keys (key, channel, value, tenant_id, message_id, created_at) values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning true"
_BY_KEY = (
    f"{_SELECT} join message_keys k on k.created_at = m.created_at and k.message_id = m.id"
    " where k.key = $1 and k.channel = $2 and k.value = any($3::text[])"
)


def _values(message: Message) -> tuple[object, ...]:
    return (
        message.created_at, message.id, message.tenant, message.channel, message.kind, message.conversation_id,
        message.direction, message.author, message.content.kind, clean_or_none(message.content.text),
        dict(message.content.data), message.status, message.path, message.sent_at, message.external_id,
        message.source_id, message.decision_id, message.event_id, message.error_code, message.handled_at,
        message.delivered_at, message.matched_by, dict(message.metadata),
    )  # fmt: skip


def _message(row: "Record") -> Message:
    return Message(
        id=row["id"],
        tenant=row["tenant_id"],
        channel=row["channel"],
        kind=row["kind"],
        conversation_id=row["conversation_id"],
        direction=Direction(row["direction"]),
        author=Author(row["author"]),
        content=Content(row["content_kind"], row["text"], row["data"]),
        status=Status(row["status"]),
        path=Path(row["path"]),
        created_at=row["created_at"],
        sent_at=row["sent_at"],
        external_id=row["external_id"],
        source_id=row["source_id"],
        decision_id=row["decision_id"],
        event_id=row["event_id"],
        error_code=row["error_code"],
        handled_at=row["handled_at"],
        delivered_at=row["delivered_at"],
        matched_by=row["matched_by"],
        metadata=row["metadata"],
        seq=row["seq"],
    )


def _keys(message: Message) -> dict[tuple[str, str], str | None]:
    return {("external", message.channel): message.external_id, ("source", ""): message.source_id}


# Seconds between a message and another report of it. What was held is dated by Rocket.Chat when it got it at last.
_APART = """least(abs(extract(epoch from m.sent_at - $3::timestamptz)), case when m.direction = 'inbound'
    then abs(extract(epoch from coalesce(m.handled_at, now()) - $3::timestamptz)) end)"""


# Which of several is the one: the other side dates what it got, and WhatsApp's own dates are whole seconds.
_NEAR = """abs(extract(epoch from case when m.direction = 'inbound' then coalesce(m.handled_at, now()) else m.sent_at end
    - $3::timestamptz))"""


class Messages(Base):
    """The message part of Tx."""

    async def known(self, slug: str, external_ids: Collection[str]) -> set[str]:
        erased = {self.erased_id(external_id): external_id for external_id in external_ids}
        rows = await self._link.fetch(
            "select value from message_keys where key = 'external' and channel = $1 and value = any($2::text[])",
            slug, [*external_ids, *erased],
        )  # fmt: skip
        return {erased.get(row["value"], row["value"]) for row in rows}

    def erased_id(self, external_id: str) -> str:
        """What stands for the provider's id of an erased message, which may hold the person's number: a keyed digest."""
        name = f"message\x00{external_id}".encode("utf-8", "surrogatepass")
        return f"{ERASED}:{hmac.digest(self._tombstone_key, name, 'sha256').hex()[:40]}"

    async def message(self, message_id: UUID, *, lock: bool = True) -> Message | None:
        row = await self._link.fetchrow(f"{_SELECT} where m.id = $1{FOR_UPDATE[lock]}", message_id)
        return _message(row) if row else None

    async def message_by_external(self, slug: str, external_id: str) -> Message | None:
        values = [external_id, self.erased_id(external_id)]
        row = await self._link.fetchrow(f"{_BY_KEY} for update of m", "external", slug, values)
        return _message(row) if row else None

    async def message_by_source(self, source_id: str, *, lock: bool = True) -> Message | None:
        locking = " for update of m" if lock else ""
        row = await self._link.fetchrow(f"{_BY_KEY}{locking}", "source", "", [source_id])
        return _message(row) if row else None

    async def unclaimed(
        self, conversation_id: UUID, direction: Direction, at: datetime, within: timedelta, *, key: str
    ) -> Sequence[Message]:
        if key not in {"source_id", "external_id"}:
            raise ValueError(f"no key of a message: {key}")
        rows = await self._link.fetch(
            f"{_SELECT} where m.conversation_id = $1 and m.direction = $2 and m.{key} is null"
            f" and {_APART} <= extract(epoch from $4::interval) order by {_NEAR}, m.seq for update",
            conversation_id, direction, at, within,
        )  # fmt: skip
        return [_message(row) for row in rows]

    async def add_message(self, message: Message) -> Message:
        keys = [(*place, value) for place, value in _keys(message).items() if value is not None]
        names, channels, values = ([key[place] for key in keys] for place in range(3))
        seq: int | None = await self._link.fetchval(_INSERT, *_values(message), names, channels, values)
        if seq is None:
            raise Conflict("another message has one of these keys")
        return replace(message, seq=seq)

    async def save_message(self, message: Message) -> None:
        old = await self._link.fetchrow(_UPDATE, *_values(message))
        if old is None:
            raise LookupError(f"no message {message.id}")
        before = {("external", message.channel): old["external_id"], ("source", ""): old["source_id"]}
        after = _keys(message)
        for (key, channel), value in before.items():
            if value is not None and after[key, channel] != value:  # a match undone
                await self._link.execute(
                    "delete from message_keys where key = $1 and channel = $2 and value = $3",
                    key,
                    channel,
                    value,
                )
        await self._claim_keys(message, {place: v for place, v in after.items() if v != before[place]})

    async def _claim_keys(self, message: Message, keys: dict[tuple[str, str], str | None]) -> None:
        for (key, channel), value in keys.items():
            if value is not None and not await self._link.fetchval(
                _ADD_KEY, key, channel, value, message.tenant, message.id, message.created_at
            ):
                raise Conflict(f"another message has this {key} key")

    async def mark_handled(self, message_ids: Collection[UUID], at: datetime) -> None:
        await self._link.execute(
            "update messages set handled_at = $2 where id = any($1::uuid[]) and handled_at is null",
            list(message_ids), at,
        )  # fmt: skip

    async def note_outcome(self, slug: str, external_id: str, status: Status, at: datetime) -> None:
        await self._link.execute(
            "insert into outcomes as o (channel, external_id, tenant_id, status, rank, at)"
            " values ($1, $2, coalesce((select tenant_id from channels where slug = $1), $6), $3, $4, $5)"
            " on conflict (channel, external_id) do update"
            " set status = excluded.status, rank = excluded.rank, at = excluded.at where excluded.rank > o.rank",
            slug, external_id, status, RANK[status], at, EVERY_TENANT,
        )  # fmt: skip

    async def first_billed(self, slug: str, external_id: str, category: str) -> bool:
        first = await self._link.fetchval(
            "insert into billables (channel, external_id, tenant_id, category, at) values"
            " ($1, $2, coalesce((select tenant_id from channels where slug = $1), $4), $3, now())"
            " on conflict do nothing returning true",
            slug, external_id, clean(category), EVERY_TENANT,
        )  # fmt: skip
        return bool(first)

    async def touch_statuses(self, slug: str, at: datetime) -> None:
        await self._link.execute(
            "update channels set last_status_at = greatest(last_status_at, $2) where slug = $1", slug, at
        )

    async def last_status_at(self, slug: str) -> datetime | None:
        found: datetime | None = await self._link.fetchval(
            "select last_status_at from channels where slug = $1", slug
        )
        return found
