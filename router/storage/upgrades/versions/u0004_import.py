"""What an import from Rocket.Chat brings: copied documents, the runs that copied them and their parts, what was refused,
what the source has deleted since."""

from router.storage.upgrades.rights import ENGINE, grant, protect, run

revision = "0004"
down_revision = "0003"

# COPY refuses a table under row-level security, and a history of millions is copied straight in. So these have none:
# the tenant role has no right on them at all. What a tenant may see of them is woven into the talk's own tables.
_COPIED = ("archive_messages", "archive_rooms", "archive_files", "archive_records")
_PROTECTED = ("archive_tombstones", "imports", "import_parts", "import_notes", "rejects")


def upgrade() -> None:
    _documents()
    _indexes()
    _runs()
    _refused()
    for table in _COPIED:
        grant(table)
    for table in _PROTECTED:
        grant(table)
        protect(table)
    run(f"grant usage on sequence import_seq to {ENGINE}")


def _documents() -> None:
    run("""
create table archive_messages (
    source_id text primary key,
    room_id text not null,
    kind text,
    sent_at timestamptz not null,
    updated_at timestamptz,
    author_id text,
    author text,
    visitor boolean,
    content_kind text,
    text text,
    thread_id text,
    parent_id text,
    hidden boolean,
    edited_at timestamptz,
    files jsonb,
    extra jsonb,
    raw bytea not null,
    tenant_id text not null default '*')

create table archive_rooms (
    source_id text primary key,
    kind text,
    name text,
    created_at timestamptz,
    updated_at timestamptz,
    active_at timestamptz,
    closed_at timestamptz,
    open boolean,
    source_type text,
    source_ref text,
    visitor_id text,
    agent_id text,
    department_id text,
    contact_ref text,
    info jsonb,
    extra jsonb,
    raw bytea,
    skipped text,
    erased_at timestamptz,
    woven boolean not null default false,
    tenant_id text not null default '*')

create table archive_files (
    source_id text primary key,
    room_id text,
    user_id text,
    name text,
    mime text,
    size bigint,
    store text,
    path text,
    uploaded_at timestamptz,
    updated_at timestamptz,
    complete boolean,
    extra jsonb,
    raw bytea not null,
    state text not null default 'waiting' check (state in ('waiting', 'stored', 'missing', 'skipped')),
    sha256 text,
    stored_size bigint,
    error text,
    tenant_id text not null default '*')

create table archive_records (
    collection text not null,
    source_id text not null,
    kind text,
    name text,
    room_id text,
    user_id text,
    at timestamptz,
    updated_at timestamptz,
    extra jsonb,
    raw bytea not null,
    tenant_id text not null default '*',
    primary key (collection, source_id))

create table archive_tombstones (
    collection text not null,
    source_id text not null,
    deleted_at timestamptz not null,
    tenant_id text not null default '*',
    primary key (collection, source_id))""")


def _indexes() -> None:
    """A first load drops them and builds them at its end: router/storage/archive/indexes.py names the same."""
    run("""
create index archive_messages_room on archive_messages (room_id, sent_at)

create index archive_rooms_unwoven on archive_rooms (source_id)
    where kind = 'l' and not woven and skipped is null

create index archive_rooms_visitor on archive_rooms (visitor_id)

create index archive_files_room on archive_files (room_id)

create index archive_files_waiting on archive_files (source_id) where state = 'waiting'

create index archive_records_room on archive_records (collection, room_id)

create index archive_records_user on archive_records (collection, user_id)""")


def _runs() -> None:
    # Every chunk updates its part: leave room for updates in place.
    run("""
create sequence import_seq as bigint

create table imports (
    id uuid primary key,
    seq bigint not null default nextval('import_seq'),
    source text not null,
    live boolean not null,
    state text not null check (state in ('running', 'stopped', 'done', 'lost')),
    options jsonb not null default '{}',
    started_at timestamptz not null,
    ended_at timestamptz,
    token bytea,
    token_at timestamptz,
    caught_up_at timestamptz,
    tenant_id text not null default '*')

create index imports_source on imports (source, seq)

create table import_parts (
    run_id uuid not null references imports (id) deferrable initially deferred,
    collection text not null,
    number integer not null,
    spec jsonb not null default '{}',
    after text,
    done boolean not null default false,
    fence bigint not null default 0,
    owner uuid,
    lease interval,
    lease_until timestamptz,
    claimed_at timestamptz,
    updated_at timestamptz,
    source bigint not null default 0,
    written bigint not null default 0,
    skipped jsonb not null default '{}',
    rejected bigint not null default 0,
    erased bigint not null default 0,
    changed bigint not null default 0,
    digest bigint not null default 0,
    tenant_id text not null default '*',
    primary key (run_id, collection, number)
) with (fillfactor = 70)

create table import_notes (
    run_id uuid not null references imports (id) deferrable initially deferred,
    name text not null,
    value jsonb not null default '{}',
    tenant_id text not null default '*',
    primary key (run_id, name))""")


def _refused() -> None:
    run("""
create table rejects (
    collection text not null,
    key text not null,
    source_id text,
    position text not null,
    code text not null,
    reason text not null,
    raw bytea not null,
    run_id uuid,
    seen_at timestamptz not null,
    resolved_at timestamptz,
    tenant_id text not null default '*',
    primary key (collection, key))

create index rejects_open on rejects (collection, key) where resolved_at is null""")
