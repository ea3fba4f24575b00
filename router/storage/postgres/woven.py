"""Rocket.Chat's archived rooms made into conversations and messages, some rooms in one transaction.

Set by set and in the database, since history is large: one statement each for keys and messages, for what was edited or
deleted since, for files. Every statement may be run again and then changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from router.domain.conversation import Conversation, Decision
from router.domain.errors import Conflict
from router.domain.message import ERASED
from router.storage.archive import landing
from router.storage.postgres.base import Base
from router.storage.postgres.conversations import COLUMNS as CONVERSATION
from router.storage.postgres.conversations import DECISION, values

IMPORTED = "import"
"""`messages.matched_by` of a row that is nothing but a copy of Rocket.Chat's."""

_COLLECTIONS = ("rocketchat_message", "rocketchat_room", "rocketchat_uploads")
_AT_ONCE = 20_000
"""Keys of a statement that compares all of history: it must end long before a statement's time is over."""

# A document that is a message to people: nothing the system noted, no older version, nothing deleted.
_VISIBLE = "a.kind is null and not coalesce(a.hidden, false) and a.parent_id is null"
# Version 7: the moment it was said, then a digest of the source's id, so that a second run makes the same.
_ID = """(lpad(to_hex((extract(epoch from a.sent_at) * 1000)::bigint & 281474976710655), 12, '0') || '7'
    || substr(md5(a.source_id), 1, 3) || '8' || substr(md5(a.source_id), 4, 15))::uuid"""
_INBOUND = "(coalesce(a.visitor, false) or a.author_id is not distinct from w.visitor_id and a.author_id is not null)"
_WANTED = """unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
    as w (room_id, conversation_id, tenant_id, channel, kind, visitor_id)"""

_KNOWN = (
    "(select true from message_keys k where k.key = 'source' and k.channel = '' and k.value = a.source_id)"
)

# The message that a document became, if any. `limit`: each by itself and by its keys, whatever the planner believes of tables
# that were empty a minute ago.
_BECAME = """cross join lateral (
        select m.created_at, m.id, m.tenant_id, m.channel, m.conversation_id, m.matched_by, m.content_kind, m.text, m.data
        from (select k.created_at, k.message_id from message_keys k
            where k.key = 'source' and k.channel = '' and k.value = a.source_id limit 1) k
        cross join lateral (select * from messages m where m.created_at = k.created_at and m.id = k.message_id limit 1) m
    ) m"""

# What was keyed is looked up again by its own id: two sets of rows that came out of a statement have no index to meet by.
_MESSAGES = f"""
with keyed as (
    insert into message_keys (key, channel, value, tenant_id, message_id, created_at)
    select 'source', '', a.source_id, w.tenant_id, {_ID}, a.sent_at
    from {_WANTED} join archive_messages a on a.room_id = w.room_id
    where {_VISIBLE} and {_KNOWN} is null order by a.source_id
    on conflict do nothing returning value, message_id
), added as (
    select a.*, w.conversation_id, w.tenant_id as tenant, w.channel, w.kind as channel_kind,
        case when {_INBOUND} then 'inbound' else 'outbound' end as direction
    from keyed cross join lateral (
        select keyed.message_id as id, a.source_id, a.room_id, a.sent_at, a.author_id, a.visitor, a.content_kind, a.text,
            a.extra from archive_messages a where a.source_id = keyed.value limit 1
    ) a join {_WANTED} on w.room_id = a.room_id
)
insert into messages (created_at, id, tenant_id, channel, kind, conversation_id, direction, author, content_kind, text,
    data, status, path, sent_at, source_id, handled_at, matched_by)
select sent_at, id, tenant, channel, channel_kind, conversation_id, direction,
    case when direction = 'inbound' then 'contact' when author_id is not distinct from $7 then 'bot' else 'human' end,
    content_kind, text, coalesce(extra, '{{}}'), case direction when 'inbound' then 'received' else 'sent' end,
    'rocketchat', sent_at, source_id, case direction when 'inbound' then sent_at end, '{IMPORTED}'
from added order by room_id, sent_at, source_id
"""

# An `_id` that another channel's message has (the flat form's are its caller's words) is not this one, and what was erased
# stays so.
_EDITED = f"""
with edited as materialized (
    select m.created_at, m.id, a.text, a.content_kind, coalesce(a.extra, '{{}}') as data
    from archive_messages a join rooms r on r.id = a.room_id {_BECAME}
    where a.room_id = any($1::text[]) and {_VISIBLE} and m.channel = r.channel and m.content_kind <> '{ERASED}'
        and case when m.matched_by = '{IMPORTED}'
            then (m.text, m.content_kind, m.data) is distinct from (a.text, a.content_kind, coalesce(a.extra, '{{}}'))
            else a.edited_at is not null and (m.text, m.content_kind) is distinct from (a.text, a.content_kind) end
)
update messages m set text = edited.text, content_kind = edited.content_kind, data = edited.data
from edited where m.created_at = edited.created_at and m.id = edited.id
"""

# What Rocket.Chat deleted goes where it was but a copy; what live traffic brought or sent stays: it was said. A room may
# have gone on in another conversation since.
_DELETED = f"""
with lived as (
    select conversation_id as id from rooms where id = any($1::text[])
    union
    select e.id from rooms r join conversations c on c.id = r.conversation_id
        join conversations e on e.channel = c.channel and e.identity_id = c.identity_id and e.room_id = r.id
    where r.id = any($1::text[])
), gone as (
    delete from messages m using lived
    where m.conversation_id = lived.id and m.matched_by = '{IMPORTED}'
        and not exists (select from archive_messages a where a.source_id = m.source_id and {_VISIBLE})
    returning m.id, m.source_id
), files as (
    delete from media f using gone where f.message_id = gone.id
)
delete from message_keys k using gone where k.key = 'source' and k.channel = '' and k.value = gone.source_id
"""

_MEDIA = f"""
insert into media as f (id, tenant_id, channel, message_id, origin, ref, created_at, state, mime, name, size, sha256,
    stored_at, error_code)
select md5(a.source_id || ':' || file.place)::uuid, m.tenant_id, m.channel, m.id, 'rocketchat', file.told ->> 'ref',
    m.created_at, case when u.state = 'stored' then 'stored' else 'gone' end, file.told ->> 'mime', file.told ->> 'name',
    coalesce(u.stored_size, (file.told ->> 'size')::bigint), u.sha256, case when u.state = 'stored' then now() end,
    case when u.state = 'stored' then null else coalesce(u.error, 'not_imported') end
from archive_messages a {_BECAME}
    cross join lateral jsonb_array_elements(a.files) with ordinality as file (told, place)
    left join archive_files u on u.source_id = file.told ->> 'id'
where a.room_id = any($1::text[]) and a.files is not null and m.matched_by = '{IMPORTED}' and {_VISIBLE} and file.told ->> 'ref' is not null
on conflict (id) do update set state = excluded.state, sha256 = excluded.sha256, size = excluded.size,
    stored_at = excluded.stored_at, error_code = excluded.error_code
where (f.state, f.sha256) is distinct from (excluded.state, excluded.sha256)
"""

# Who answers has read; else what a patient wrote to us and nobody has looked at stays unread. A date to come is an error,
# and would keep the provider's window open until then.
_HEARD = f"""
update conversations c set heard_at = n.heard_at, read_at = n.read_at, last_at = n.last_at
from (
    select o.id, greatest(o.heard_at, said.heard_at) as heard_at, greatest(o.last_at, said.last_at) as last_at,
        greatest(o.read_at, said.answered_at, case when not exists (select from messages l
            where l.conversation_id = o.id and l.direction = 'inbound' and l.matched_by is distinct from '{IMPORTED}'
            and l.sent_at > greatest(o.read_at, said.answered_at, '-infinity')) then said.last_at end) as read_at
    from (select m.conversation_id, max(m.sent_at) filter (where m.direction = 'inbound') as heard_at,
            max(m.sent_at) filter (where m.author = 'human') as answered_at, max(m.sent_at) as last_at
        from messages m where m.conversation_id = any($1::uuid[]) and m.matched_by = '{IMPORTED}' and m.sent_at <= now()
        group by 1) said join conversations o on o.id = said.conversation_id
) n
where c.id = n.id and (c.heard_at, c.read_at, c.last_at) is distinct from (n.heard_at, n.read_at, n.last_at)
"""

_ENDED = """
update conversations c set closed_at = coalesce(r.closed_at, r.active_at, now()), closed_by = 'rocketchat'
from archive_rooms r join rooms p on p.id = r.source_id
where r.source_id = any($1::text[]) and not r.open and c.id = p.conversation_id and c.closed_at is null
    and c.room_id = r.source_id and c.path = 'rocketchat'
"""

_ROOMS = f"""select r.source_id, r.source_type, r.source_ref, r.info, r.created_at, r.active_at, r.closed_at, r.open,
        (select a.sent_at from archive_messages a where a.room_id = r.source_id and {_VISIBLE}
            order by a.sent_at desc limit 1) as said_at
    from archive_rooms r
    where r.kind = 'l' and not r.woven and r.skipped is null and r.raw is not null and r.source_id > $1"""

_LIVES = f"""
select distinct on (a.room_id) a.room_id, m.conversation_id
from unnest($1::text[], $2::text[]) as w (room_id, channel) join archive_messages a on a.room_id = w.room_id {_BECAME}
where m.channel = w.channel group by a.room_id, m.conversation_id
order by a.room_id, count(*) desc, m.conversation_id
"""

# Those that a row without an `_id` may already be: as many as there are such rows, not all of a history. The dates are
# compared as the claim does.
_CLAIMABLE = f"""
with waiting as materialized (
    select w.room_id, m.direction, m.sent_at, coalesce(m.handled_at, now()) as held_until
    from unnest($1::text[], $2::text[], $3::uuid[]) as w (room_id, channel, identity_id)
        join conversations c on c.channel = w.channel and c.identity_id = w.identity_id
        join messages m on m.conversation_id = c.id and m.source_id is null and m.path = 'rocketchat'
), near as (
    select room_id, sent_at from waiting union select room_id, held_until from waiting where direction = 'inbound'
)
select distinct a.room_id, a.source_id, a.author_id, a.visitor, a.content_kind, a.text, a.sent_at, a.edited_at,
    a.extra, a.files
from near join archive_messages a on a.room_id = near.room_id
    and a.sent_at between near.sent_at - $4::interval and near.sent_at + $4::interval and {_VISIBLE}
order by a.room_id, a.sent_at, a.source_id
"""

# Both page by page, with the place to go on from.
_MISSING = f"""
with page as materialized (
    select r.source_id, p.conversation_id from archive_rooms r left join rooms p on p.id = r.source_id
    where r.kind = 'l' and r.woven and r.raw is not null and r.source_id > $1 order by r.source_id limit 1000
)
select page.source_id as room_id, a.source_id from page left join lateral (
    select a.source_id from archive_messages a where a.room_id = page.source_id and page.conversation_id is not null
        and {_VISIBLE} and (
            select true from message_keys k where k.key = 'source' and k.channel = '' and k.value = a.source_id) is null
) a on true order by 1, 2
"""
# Not `not exists`: while a first import's keys have no statistics yet, it is planned as a join with all of them, a hundred
# times slower.
_STRAY = f"""
with page as materialized (
    select value, created_at, message_id from message_keys where key = 'source' and channel = '' and value > $1
    order by value limit {_AT_ONCE}
)
select value, not exists (select from archive_messages a where a.source_id = value and {_VISIBLE}) and exists (
    select from messages m where m.created_at = page.created_at and m.id = page.message_id
        and m.matched_by = '{IMPORTED}') as stray
from page order by value
"""

# Rooms that live traffic or an earlier import knows, whose document is gone, and copies of whose messages are left.
_GONE = f"""
select p.id from rooms p where p.id > $1 and p.conversation_id is not null
    and not exists (select from archive_rooms a where a.source_id = p.id)
    and exists (select from messages m where m.conversation_id = p.conversation_id and m.matched_by = '{IMPORTED}')
order by p.id limit $2
"""


@dataclass(frozen=True, slots=True)
class WovenRoom:
    """Where a room's messages go."""

    room_id: str
    conversation_id: UUID
    tenant: str
    channel: str
    kind: str
    visitor_id: str | None
    spoke_at: datetime | None


class Woven(Base):
    """What the import needs of a transaction beside the port."""

    async def any_erased(self) -> bool:
        """Whether anybody was ever erased."""
        return bool(await self._link.fetchval("select exists (select from tombstones)"))

    async def alone(self) -> None:
        """Nobody copies meanwhile: who copies finds a room not woven yet and says nothing of it, and the row would be
        missed for ever. Who waits here waits for one chunk."""
        await landing.alone(self._link, _COLLECTIONS)
        # Everything here is found by its key. A plan made while the tables were empty, and kept, would read all of them for
        # each batch.
        await self._link.execute(
            "select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
        )

    async def unwoven(
        self, after: str, limit: int, only: Collection[str] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Livechat rooms whose documents have changed since they were woven, by id; `only`: among these."""
        some = "" if only is None else " and r.source_id = any($3::text[])"
        arguments = () if only is None else (list(only),)
        rows = await self._link.fetch(
            f"{_ROOMS}{some} order by r.source_id limit $2 for update of r", after, limit, *arguments
        )
        return [dict(row) for row in rows]

    async def placed_rooms(self, room_ids: Collection[str]) -> dict[str, tuple[str, UUID | None]]:
        """Channel and conversation of the rooms that live traffic or an earlier import knows."""
        rows = await self._link.fetch(
            "select id, channel, conversation_id from rooms where id = any($1::text[])", list(room_ids)
        )
        return {row["id"]: (row["channel"], row["conversation_id"]) for row in rows}

    async def homes(self, rooms: Sequence[tuple[str, str]]) -> dict[str, UUID]:
        """By room of (room, its channel), the conversation of that channel in which most of its messages are already."""
        rows = await self._link.fetch(_LIVES, [room[0] for room in rooms], [room[1] for room in rooms])
        return {row["room_id"]: row["conversation_id"] for row in rows}

    async def claimable(
        self, places: Sequence[tuple[str, str, UUID]], within: timedelta
    ) -> dict[str, list[Mapping[str, Any]]]:
        """By room of (room, its channel, an identity of its visitor), the archived messages dated like a row of that
        identity that has no `_id` of Rocket.Chat's; oldest first."""
        rows = await self._link.fetch(
            _CLAIMABLE, *([place[at] for place in places] for at in range(3)), within
        )
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["room_id"], []).append(dict(row))
        return found

    async def open_of(self, places: Collection[tuple[str, UUID]]) -> dict[tuple[str, UUID], UUID]:
        """The open conversation by (channel, identity)."""
        rows = await self._link.fetch(
            "select c.channel, c.identity_id, c.id from unnest($1::text[], $2::uuid[]) as w (channel, identity_id)"
            " join conversations c on c.channel = w.channel and c.identity_id = w.identity_id and c.closed_at is null",
            [place[0] for place in places], [place[1] for place in places],
        )  # fmt: skip
        return {(row["channel"], row["identity_id"]): row["id"] for row in rows}

    async def add_conversations(self, made: Sequence[tuple[Conversation, Decision]]) -> None:
        """Insert. Raises Conflict when one of them would be a second open one."""
        marks = ", ".join(f"${place}" for place in range(1, len(CONVERSATION) + 1))
        statement = (
            f"insert into conversations ({', '.join(CONVERSATION)}) values ({marks}) on conflict do nothing"
        )
        await self._link.executemany(statement, [values(conversation) for conversation, _ in made])
        ids = [conversation.id for conversation, _ in made]
        found = await self._link.fetchval(
            "select count(*) from conversations where id = any($1::uuid[])", ids
        )
        if found != len(made):
            raise Conflict("another writer opened a conversation first")
        await self._link.executemany(
            DECISION,
            [
                (d.id, d.tenant, d.conversation_id, d.path, d.stage, d.rule, d.revision, d.reason, d.pin_version, d.at,
                 d.guard)
                for _, d in made
            ],
        )  # fmt: skip

    async def weave(self, rooms: Sequence[WovenRoom], bot_user_id: str | None) -> int:
        """The rooms' messages and files in; the number of rows made, changed or taken back."""
        ids = [room.room_id for room in rooms]
        await self._link.executemany(
            "insert into rooms as r (id, tenant_id, channel, conversation_id, learned_at, spoke_at)"
            " values ($1, $2, $3, $4, now(), $5) on conflict (id) do update"
            " set conversation_id = coalesce(r.conversation_id, excluded.conversation_id),"
            " spoke_at = greatest(r.spoke_at, excluded.spoke_at)"
            " where r.conversation_id is null or r.spoke_at is distinct from greatest(r.spoke_at, excluded.spoke_at)",
            sorted((r.room_id, r.tenant, r.channel, r.conversation_id, r.spoke_at) for r in rooms),
        )
        added = await self._count(
            _MESSAGES, ids, [r.conversation_id for r in rooms], [r.tenant for r in rooms],
            [r.channel for r in rooms], [r.kind for r in rooms], [r.visitor_id for r in rooms], bot_user_id,
        )  # fmt: skip
        changed = (
            added + await self._count(_EDITED, ids) + await self.unweave(ids) + await self._count(_MEDIA, ids)
        )
        await self._link.execute(_ENDED, ids)
        await self._link.execute(_HEARD, [room.conversation_id for room in rooms])
        return changed

    async def unweave(self, room_ids: Collection[str]) -> int:
        """Copies whose document is gone from the archive, or hidden there."""
        return await self._count(_DELETED, list(room_ids))

    async def mark_woven(self, room_ids: Collection[str]) -> None:
        """Until one of their documents changes."""
        await self._link.execute(
            "update archive_rooms set woven = true where source_id = any($1::text[])", list(room_ids)
        )

    async def list_rocketchat_users(self) -> None:
        """Rocket.Chat's own people in the mapping, so that the clinic can say who they are; their users are the
        clinic's to make."""
        await self._link.execute(
            "insert into tb_rocketchat_user_mapping (rc_user_id, dt_ultima_sync)"
            " select source_id, now() from archive_records where collection = 'users' and kind = 'user'"
            " and length(source_id) <= 255 order by source_id on conflict (rc_user_id) do nothing"
        )

    async def gone_rooms(self, after: str, limit: int) -> list[str]:
        """Rooms without a document that still have copies, by id."""
        return [row["id"] for row in await self._link.fetch(_GONE, after, limit)]

    async def unwoven_messages(self, after: str) -> tuple[list[dict[str, str]], str | None]:
        """(source_id, room_id) of archived messages that should be messages and are not, in some rooms; the last of
        these rooms, None at the end."""
        rows = await self._link.fetch(_MISSING, after)
        found = [dict(row) for row in rows if row["source_id"] is not None]
        return found, rows[-1]["room_id"] if rows else None

    async def stray_copies(self, after: str) -> tuple[list[dict[str, str]], str | None]:
        """(source_id) of imported messages whose document is not in the archive, among some; the last of these, None at
        the end."""
        rows = await self._link.fetch(_STRAY, after)
        return [{"source_id": row["value"]} for row in rows if row["stray"]], rows[-1][
            "value"
        ] if rows else None

    async def _count(self, statement: str, *arguments: Any) -> int:
        return int((await self._link.execute(statement, *arguments)).rpartition(" ")[2])
