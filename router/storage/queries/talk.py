"""Conversations, their messages, attempts and decisions, in keyset pages."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from router.domain.ports import Tx
from router.storage.queries.link import Row, Where, like, row, rows

_CONVERSATION = """
select c.id, c.channel, c.kind, c.tenant_id as tenant, c.contact_id, c.path, c.pin_version,
    case when c.closed_at is null then 'open' else 'closed' end as state, c.opened_at, c.closed_at, c.closed_by,
    c.last_at, c.heard_at, c.read_at, i.opted_out_at, p.name as contact_name, said.text as last_text,
    said.direction as last_direction
from conversations c join contacts p on p.id = c.contact_id join identities i on i.id = c.identity_id
left join lateral (
    select m.text, m.direction from messages m where m.conversation_id = c.id order by m.seq desc limit 1
) said on true"""
_MESSAGE = """
select m.id, m.seq, m.conversation_id, m.tenant_id as tenant, m.channel, m.kind, m.direction, m.author,
    m.content_kind, m.text, m.external_id, m.source_id, m.status, m.path, m.sent_at, m.created_at, m.delivered_at,
    m.error_code, m.data, m.metadata, (
        select coalesce(jsonb_agg(jsonb_build_object('id', f.id, 'state', f.state, 'mime', f.mime, 'name', f.name,
            'size', f.size, 'error_code', f.error_code) order by f.seq), '[]')
        from media f where f.message_id = m.id
    ) as media
from messages m"""
_STATES = {"open": "c.closed_at is null", "closed": "c.closed_at is not null"}
_UNREAD = "(c.heard_at is not null and (c.read_at is null or c.heard_at > c.read_at))"
_SAID = "exists (select from messages m where m.conversation_id = c.id and m.text ilike {})"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which conversations: None asks for nothing. `state` open | closed; `q` is looked for in what was said; `since`
    bounds the last activity; `after` is the (last_at, id) of the last one seen; `unread`: the contact said something
    after an attendant last read it (True), or nothing since (False)."""

    tenant: str | None = None
    kind: str | None = None
    channel: str | None = None
    path: str | None = None
    state: str | None = None
    q: str | None = None
    since: datetime | None = None
    after: tuple[datetime, UUID] | None = None
    unread: bool | None = None


async def conversations(tx: Tx, asked: Asked, limit: int) -> list[Row]:
    """By last activity, newest first."""
    where = Where().add("c.tenant_id = {}", asked.tenant).add("c.kind = {}", asked.kind)
    where.add("c.channel = {}", asked.channel).add("c.path = {}", asked.path).add(
        "c.last_at >= {}", asked.since
    )
    if asked.state is not None:
        where.add(_STATES[asked.state])
    if asked.unread is not None:
        where.add(_UNREAD if asked.unread else f"not {_UNREAD}")
    if asked.q:
        where.add(_SAID, like(asked.q))
    if asked.after is not None:
        where.add("(c.last_at, c.id) < ({}, {})", *asked.after)
    where.values.append(limit)
    order = f" order by c.last_at desc, c.id desc limit ${len(where.values)}"
    return await rows(tx, _CONVERSATION + where.sql + order, *where.values)


async def conversation(tx: Tx, conversation_id: UUID) -> Row | None:
    """One, in the shape of the list."""
    return await row(tx, f"{_CONVERSATION} where c.id = $1", conversation_id)


async def messages(
    tx: Tx, conversation_id: UUID, *, after: int | None, limit: int, newest: bool = False
) -> list[Row]:
    """By seq, from the first; `newest`: from the last backwards. `after` is the seq of the last one seen. `media` is
    the message's files, [{id (text), state, mime, name, size, error_code}], in the order they were added."""
    order, beyond = ("desc", "<") if newest else ("asc", ">")
    where = Where().add("m.conversation_id = {}", conversation_id).add(f"m.seq {beyond} {{}}", after)
    where.values.append(limit)
    return await rows(
        tx, f"{_MESSAGE}{where.sql} order by m.seq {order} limit ${len(where.values)}", *where.values
    )


async def message(tx: Tx, message_id: UUID) -> Row | None:
    """One, with its contact and the decision whose pin it was sent under."""
    return await row(
        tx,
        "select m.*, c.contact_id, coalesce(o.decision_id, (select d.id from decisions d"
        " where d.conversation_id = m.conversation_id and d.at <= m.created_at"
        " order by d.at desc, d.pin_version desc limit 1)) as decision_id"
        f" from ({_MESSAGE} where m.id = $1) m join messages o on o.created_at = m.created_at and o.id = m.id"
        " join conversations c on c.id = m.conversation_id",
        message_id,
    )


async def attempts(tx: Tx, message_id: UUID) -> list[Row]:
    """By when they began."""
    return await rows(
        tx,
        "select number, path, pin_version, started_at, ended_at, outcome, code from attempts"
        " where message_id = $1 order by started_at, number",
        message_id,
    )


async def decisions(tx: Tx, conversation_id: UUID, *, after: int | None, limit: int) -> list[Row]:
    """By pin version: a pin is made once and each move adds one. `after` is the last version seen."""
    where = Where().add("conversation_id = {}", conversation_id).add("pin_version > {}", after)
    where.values.append(limit)
    return await rows(
        tx,
        "select id, conversation_id, path, stage, rule, revision, reason, pin_version, at, guard from decisions"
        f"{where.sql} order by pin_version limit ${len(where.values)}",
        *where.values,
    )


async def open_conversations(
    tx: Tx,
    kind: str,
    *,
    tenants: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    contact_class: str | None = None,
    after: UUID | None = None,
    limit: int = 500,
) -> list[Row]:
    """Open ones of a kind with all a flag asks about, by id; with selectors those that any of them names."""
    where = Where().add("c.closed_at is null").add("c.kind = {}", kind).add("c.id > {}", after)
    if tenants or channels or contact_class is not None:
        where.add(
            "(c.tenant_id = any({}::text[]) or c.channel = any({}::text[]) or p.contact_class = {})",
            list(tenants), list(channels), contact_class,
        )  # fmt: skip
    where.values.append(limit)
    return await rows(
        tx,
        "select c.id, c.tenant_id as tenant, c.channel, c.path, p.cohort, p.contact_class"
        f" from conversations c join contacts p on p.id = c.contact_id{where.sql}"
        f" order by c.id limit ${len(where.values)}",
        *where.values,
    )
