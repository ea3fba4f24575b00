"""Taking one person out of what is kept. Engine only: for transactions without a tenant.

Rows that others hang on stay, without what was in them: a message keeps its keys, so that no repeat, sweep or import makes
it anew; a contact and its identities keep their ids, which conversations, decisions and the audit log name.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from router.domain.channel import RESERVED
from router.domain.job import DeadLetter, Event, Job
from router.domain.message import ERASED
from router.domain.ports import Tx
from router.storage.postgres import jobs
from router.storage.postgres.events import COLUMNS as EVENT
from router.storage.postgres.events import LOCK_SPLIT, from_row
from router.storage.postgres.messages import Messages
from router.storage.queries.link import Row, link_of, row, rows
from router.storage.queries.users import canal

BATCH = 2_000
"""Events of a statement that looks for somebody in their bodies."""
_PENDING = "state = 'gone' and error_code = 'erased' and message_id is null"

# A page of what is still kept, and which of them hold one of the texts, in a body or an address.
_SEARCH = f"""
with page as materialized (
    select received_at, id, channel, body, query, raw_path from events
    where (received_at, id) > ($1, $2) and body is not null order by received_at, id limit {BATCH}
)
select received_at, id, (id = any($5::uuid[]) or (channel = any($3::text[]) and exists (
    select from unnest($4::bytea[]) text
    where position(text in body) > 0 or position(text in query) > 0 or position(text in raw_path) > 0))) as found
from page order by received_at, id
"""


@dataclass(frozen=True, slots=True)
class Traces:
    """Where a contact is found. `user_id` only where no other contact has it; `visitors`: Rocket.Chat's ids of theirs;
    `rooms`: its rooms that live traffic knows."""

    conversations: tuple[UUID, ...] = ()
    messages: tuple[UUID, ...] = ()
    external_ids: tuple[str, ...] = ()
    events: tuple[UUID, ...] = ()
    media: tuple[UUID, ...] = ()
    rooms: tuple[str, ...] = ()
    visitors: tuple[str, ...] = ()
    user_id: UUID | None = None


async def owner(tx: Tx, contact_id: UUID) -> str | None:
    """The tenant of a contact, an erased one too; None where the transaction sees no such contact."""
    found = await row(tx, "select tenant_id from contacts where id = $1", contact_id)
    return found["tenant_id"] if found is not None else None


async def identities(tx: Tx, contact_id: UUID) -> list[UUID]:
    """Their ids."""
    return [
        one["id"] for one in await rows(tx, "select id from identities where contact_id = $1", contact_id)
    ]


async def slugs(tx: Tx, tenant: str, known: Collection[str]) -> list[str]:
    """The tenant's channels, the `known` ones of the settings and those that were there once, and Rocket.Chat's."""
    kept = await rows(tx, "select slug from channels where tenant_id = $1", tenant)
    return sorted({RESERVED, *known, *(one["slug"] for one in kept)})


async def lock_splits(tx: Tx, tenant: str, known: Collection[str]) -> list[str]:
    """Nobody splits an event of these until this transaction ends: the `slugs`."""
    every = await slugs(tx, tenant, known)
    for slug in every:
        await link_of(tx).execute("select pg_advisory_xact_lock($1, hashtext($2))", LOCK_SPLIT, slug)
    return every


async def traces(tx: Tx, contact_id: UUID, tenant: str) -> Traces:
    """Everything a contact left. Locks the contact and its conversations."""
    contact = await row(tx, "select user_id from contacts where id = $1 for update", contact_id)
    talks = await rows(
        tx, "select id, room_id from conversations where contact_id = $1 order by id for update", contact_id
    )
    ids = [talk["id"] for talk in talks]
    said = await rows(
        tx, "select id, external_id, event_id from messages where conversation_id = any($1::uuid[])", ids
    )
    rooms = await rows(tx, "select id from rooms where conversation_id = any($1::uuid[])", ids)
    media = await rows(
        tx,
        "select id from media where message_id = any($1::uuid[]) for update",
        [one["id"] for one in said],
    )
    user_id = contact["user_id"] if contact is not None else None
    if user_id is not None and await row(
        tx, "select 1 from contacts where user_id = $1 and id <> $2 limit 1", user_id, contact_id
    ):
        user_id = None
    return Traces(
        conversations=tuple(ids),
        messages=tuple(one["id"] for one in said),
        external_ids=tuple(one["external_id"] for one in said if one["external_id"] is not None),
        events=tuple({one["event_id"] for one in said if one["event_id"] is not None}),
        media=tuple(one["id"] for one in media),
        rooms=tuple({*(one["id"] for one in rooms), *(talk["room_id"] for talk in talks if talk["room_id"])}),
        visitors=tuple(one["rc_user_id"] for one in await _mapped(tx, user_id, tenant)),
        user_id=user_id,
    )


async def _mapped(tx: Tx, user_id: UUID | None, tenant: str) -> list[Row]:
    return await rows(
        tx,
        "select rc_user_id from tb_rocketchat_user_mapping where id_user = $1"
        " and (ds_canal is null or ds_canal not like 'api:%' or ds_canal = $2)",
        user_id, canal(tenant),
    )  # fmt: skip


async def unmap(tx: Tx, rc_user_ids: Collection[str], user_id: UUID) -> int:
    """Take them out of the mapping."""
    return await _count(
        tx,
        "delete from tb_rocketchat_user_mapping where rc_user_id = any($1::text[]) and id_user = $2",
        list(rc_user_ids),
        user_id,
    )


# ---- what was said


async def empty_messages(tx: Tx, conversation_ids: Collection[UUID]) -> int:
    """Words, data and metadata go; the provider's ids, which may hold a number, become digests that are still known."""
    assert isinstance(tx, Messages)  # noqa: S101 - for the type checker: link_of asks for the same
    said = await rows(
        tx,
        "select created_at, id, channel, external_id from messages"
        f" where conversation_id = any($1::uuid[]) and content_kind <> '{ERASED}' for update",
        list(conversation_ids),
    )
    link = link_of(tx)
    named = [(one, tx.erased_id(one["external_id"])) for one in said if one["external_id"] is not None]
    await link.executemany(
        "update message_keys set value = $3 where key = 'external' and channel = $1 and value = $2",
        [(one["channel"], one["external_id"], digest) for one, digest in named],
    )
    digests = {one["id"]: digest for one, digest in named}
    await link.executemany(
        f"update messages set content_kind = '{ERASED}', text = null, data = '{{}}', metadata = '{{}}',"
        f" matched_by = '{ERASED}', external_id = $3,"
        " status = case status when 'queued' then 'failed' else status end where created_at = $1 and id = $2",
        [(one["created_at"], one["id"], digests.get(one["id"])) for one in said],
    )
    for slug in {one["channel"] for one, _ in named}:
        await forget_outcomes(tx, slug, [one["external_id"] for one, _ in named if one["channel"] == slug])
    return len(said)


async def forget_outcomes(tx: Tx, slug: str, external_ids: Collection[str]) -> None:
    """What became of messages that Rocket.Chat sent them, and what was billed: under ids that may hold a number."""
    for table in ("outcomes", "billables"):
        await link_of(tx).execute(
            f"delete from {table} where channel = $1 and external_id = any($2::text[])",
            slug, list(external_ids),
        )  # fmt: skip


async def close_conversations(tx: Tx, conversation_ids: Collection[UUID]) -> int:
    """They end, nobody's room leads to them, and no operator's words about them stay; how many there are."""
    ids, link = list(conversation_ids), link_of(tx)
    await link.execute(
        "update conversations set closed_at = coalesce(closed_at, now()), closed_by = coalesce(closed_by, 'api')"
        " where id = any($1::uuid[])",
        ids,
    )
    await link.execute("update rooms set conversation_id = null where conversation_id = any($1::uuid[])", ids)
    await link.execute(
        "update decisions set reason = '' where conversation_id = any($1::uuid[]) and rule = 'move'", ids
    )
    return len(ids)


async def empty_contact(tx: Tx, contact_id: UUID) -> int:
    """Name, user and addresses go; the number of addresses."""
    link = link_of(tx)
    gone = await _count(
        tx,
        "delete from identity_aliases a using identities i where i.id = a.identity_id and i.contact_id = $1",
        contact_id,
    )
    await link.execute("update identities set opted_out_at = null where contact_id = $1", contact_id)
    await link.execute(
        f"update contacts set name = null, cohort = '', user_id = null, user_made = false, contact_class = '{ERASED}'"
        " where id = $1",
        contact_id,
    )
    return gone


# ---- files


async def drop_media(tx: Tx, media_ids: Collection[UUID], rooms: Collection[str]) -> list[str]:
    """The rows go, and what rooms were given; the SHA-256 of the bytes they named."""
    gone = await rows(
        tx, "delete from media where id = any($1::uuid[]) returning state, sha256", list(media_ids)
    )
    await link_of(tx).execute("delete from media_uploads where target = any($1::text[])", list(rooms))
    return sorted({one["sha256"] for one in gone if one["state"] == "stored" and one["sha256"]})


async def condemn(tx: Tx, tenant: str, sha256s: Sequence[str]) -> None:
    """Note that these bytes are to be deleted: after the commit, and by whoever erases next if that fails."""
    await link_of(tx).executemany(
        "insert into media (id, tenant_id, channel, message_id, origin, ref, created_at, state, sha256, error_code)"
        " values ($1, $2, '', null, 'url', '', now(), 'gone', $3, 'erased')",
        [(uuid4(), tenant, sha256) for sha256 in sha256s],
    )


async def condemned(tx: Tx, tenant: str) -> list[str]:
    """Noted by `condemn`, and named by no other row: those that another one names are forgotten here."""
    await link_of(tx).execute(
        f"delete from media f where f.tenant_id = $1 and f.{_PENDING.replace(' and ', ' and f.')} and ("
        " exists (select from media o where o.sha256 = f.sha256 and o.state = 'stored')"
        " or exists (select from archive_files o where o.sha256 = f.sha256 and o.state = 'stored'))",
        tenant,
    )
    found = await rows(
        tx, f"select distinct sha256 from media where tenant_id = $1 and {_PENDING} order by 1", tenant
    )
    return [one["sha256"] for one in found]


async def pardon(tx: Tx, tenant: str, sha256: str) -> None:
    """They are deleted: nothing of them is left here either."""
    link = link_of(tx)
    await link.execute(
        f"delete from media where tenant_id = $1 and sha256 = $2 and {_PENDING}", tenant, sha256
    )
    await link.execute("delete from media_uploads where sha256 = $1 and tenant_id = $2", sha256, tenant)


# ---- received events


async def events_with(
    tx: Tx, after: tuple[datetime, UUID], slugs: Collection[str], texts: Collection[bytes], ids: Collection[UUID]
) -> tuple[list[tuple[datetime, UUID]], tuple[datetime, UUID] | None]:  # fmt: skip
    """One page of what is kept: the events of these ids, or of these channels with one of the texts in them; and the
    last one looked at, None at the end."""
    page = await rows(tx, _SEARCH, *after, list(slugs), list(texts), list(ids))
    found = [(one["received_at"], one["id"]) for one in page if one["found"]]
    return found, ((page[-1]["received_at"], page[-1]["id"]) if len(page) == BATCH else None)


async def event_to_cut(tx: Tx, received_at: datetime, event_id: UUID) -> Event | None:
    """One; None when its body is gone. Locks."""
    found = await row(
        tx,
        f"select {EVENT} from events where received_at = $1 and id = $2 and body is not null for update",
        received_at, event_id,
    )  # fmt: skip
    return from_row(found) if found is not None else None


async def placed(tx: Tx, room_id: str) -> bool:
    """Whether it is known whose room this is."""
    return await row(tx, "select 1 from rooms where id = $1", room_id) is not None


async def cut_event(tx: Tx, event: Event) -> None:
    """The body and headers as given."""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]
    await link_of(tx).execute(
        "update events set body = $3, headers = $4 where received_at = $1 and id = $2",
        event.received_at, event.id, event.body, headers,
    )  # fmt: skip


async def drop_event(tx: Tx, event: Event) -> None:
    """Nothing of it is anybody else's: it counts as one nobody waits for."""
    await link_of(tx).execute(
        "update events set body = null, headers = '[]', query = '', raw_path = '', split = true, reason = 'erased',"
        " state = case when state in ('waiting', 'dead') then 'ignored' else state end"
        " where received_at = $1 and id = $2",
        event.received_at, event.id,
    )  # fmt: skip


# ---- work that waits


async def jobs_about(tx: Tx, traces: Traces, events: Collection[UUID]) -> list[Job]:
    """Unfinished work with anything of theirs in it, by seq. Locks."""
    lanes = [
        f"{lane}:{one}" for one in traces.conversations for lane in ("inbound", "outbound", "channel:marking")
    ]
    found = await rows(
        tx,
        f"select {', '.join(jobs.COLUMNS)}, seq from jobs where conversation_id = any($1::uuid[])"
        " or message_id = any($2::uuid[]) or media_id = any($3::uuid[]) or event_id = any($4::uuid[])"
        " or (kind = 'place' and room_id = any($5::text[])) or lanes && $6::text[] order by seq for update",
        list(traces.conversations), list(traces.messages), list(traces.media), list(events), list(traces.rooms), lanes,
    )  # fmt: skip
    return [jobs.from_row(one) for one in found]


async def letters_about(tx: Tx, traces: Traces, events: Collection[UUID]) -> list[DeadLetter]:
    """Dead letters likewise, replayed ones too. Locks."""
    texts = [[str(one) for one in some] for some in (traces.conversations, traces.messages, events)]
    found = await rows(
        tx,
        "select job, reason, at from dead_letters where job ->> 'conversation_id' = any($1::text[])"
        " or job ->> 'message_id' = any($2::text[]) or job ->> 'event_id' = any($3::text[])"
        " or job ->> 'room_id' = any($4::text[]) for update",
        *texts, list(traces.rooms),
    )  # fmt: skip
    return [DeadLetter(jobs.from_document(one["job"]), one["reason"], one["at"]) for one in found]


async def drop_letter(tx: Tx, job_id: UUID) -> None:
    """It is replayed no more."""
    await link_of(tx).execute("delete from dead_letters where job_id = $1", job_id)


async def save_letter(tx: Tx, job: Job) -> None:
    """With the shares that are left."""
    await link_of(tx).execute(
        "update dead_letters set job = $2 where job_id = $1", job.id, jobs.to_document(job)
    )


async def _count(tx: Tx, statement: str, *values: object) -> int:
    return int((await link_of(tx).execute(statement, *values)).rpartition(" ")[2])
