"""Files, paces, duties, billed messages, callbacks; when a contact was last heard, what was read, who opted out."""

from alembic import op

from router.storage.upgrades.rights import ENGINE, TENANT, grant, protect, run

revision = "0003"
down_revision = "0002"

_READ, _WRITE = "select", "select, insert, update, delete"
# What figueira_tenant may do, on tables with tenant_id.
_TENANT_TABLES = {"media": _WRITE, "media_uploads": "", "billables": _READ, "callbacks": _READ}
# Of the installation, and written by its workers: the engine's alone.
_SHARED_TABLES = ("paces", "duties")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _columns()
    _files()
    _paces()
    _callbacks()
    _rights()
    _heard()


def _columns() -> None:
    """Each statement by itself, so that traffic waits for no lock longer than a moment; all may be run again."""
    run("""
alter table identities add column if not exists opted_out_at timestamptz

alter table conversations
    add column if not exists heard_at timestamptz,
    add column if not exists read_at timestamptz

alter table jobs
    add column if not exists media_id uuid,
    add column if not exists slot_at timestamptz

drop index concurrently if exists conversations_identity

create index concurrently conversations_identity on conversations (channel, identity_id)""")


def _files() -> None:
    run("""
create sequence media_seq as bigint

create table media (
    id uuid primary key,
    seq bigint not null default nextval('media_seq'),
    tenant_id text not null,
    channel text not null,
    message_id uuid,
    origin text not null,
    ref text not null,
    created_at timestamptz not null,
    state text not null check (state in ('waiting', 'stored', 'gone', 'refused')),
    mime text,
    name text,
    size bigint,
    sha256 text,
    expires_at timestamptz,
    stored_at timestamptz,
    error_code text)

create index media_message on media (message_id, seq)

create index media_waiting on media (channel, created_at) where state = 'waiting'

create table media_uploads (
    channel text not null,
    target text not null,
    sha256 text not null,
    tenant_id text not null,
    file_id text not null,
    expires_at timestamptz not null,
    primary key (channel, target, sha256))

create table billables (
    channel text not null,
    external_id text not null,
    tenant_id text not null,
    category text not null,
    at timestamptz not null,
    primary key (channel, external_id))""")


def _paces() -> None:
    # Every send updates its pace: leave room for updates in place.
    run("""
create table paces (
    key text primary key,
    tat timestamptz not null
) with (fillfactor = 70)

create table duties (
    name text primary key,
    owner uuid,
    lease_until timestamptz,
    mark timestamptz,
    rest_until timestamptz)""")


def _callbacks() -> None:
    run("""
create table callbacks (
    channel text primary key,
    tenant_id text not null,
    level text not null,
    url text not null,
    previous jsonb not null default '{}',
    set_at timestamptz not null,
    set_by text not null,
    restored_at timestamptz,
    checked_at timestamptz,
    drift text)""")


def _rights() -> None:
    for table, tenant in _TENANT_TABLES.items():
        grant(table, tenant=tenant)
        protect(table)
    for table in _SHARED_TABLES:
        grant(table)
    run(f"grant usage on sequence media_seq to {ENGINE}, {TENANT}")


def _heard() -> None:
    """What a contact said lately, from its messages: else, until it writes again, a provider's window would look shut.
    No window is longer than some days. An attendant who wrote had read."""
    run(f"""
set local role {ENGINE}

update conversations c set heard_at = said.heard_at, read_at = said.read_at
from (
    select m.conversation_id, max(m.sent_at) filter (where m.direction = 'inbound') as heard_at,
        max(m.sent_at) filter (where m.author = 'human') as read_at
    from conversations l join messages m on m.conversation_id = l.id
    where l.last_at > now() - interval '7 days' group by m.conversation_id
) said where said.conversation_id = c.id and c.heard_at is null

reset role""")
