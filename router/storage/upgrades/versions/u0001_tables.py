"""All tables, the two roles, their rights, row-level security."""

from alembic import op
from sqlalchemy import text

from router.storage.upgrades.rights import ENGINE, TENANT, grant, protect, run

revision = "0001"
down_revision = None

_READ, _WRITE = "select", "select, insert, update, delete"
# What figueira_tenant may do, on tables with tenant_id.
_TENANT_TABLES = {
    "channels": _READ,
    "events": _READ,
    "event_digests": "",
    "contacts": _WRITE,
    "identities": _WRITE,
    "identity_aliases": _WRITE,
    "tombstones": "select, insert",
    "conversations": _WRITE,
    "decisions": "select, insert",
    "messages": _WRITE,
    "message_keys": _WRITE,
    "outcomes": _READ,
    "rooms": "select, insert, update",
    "jobs": _WRITE,
    "lane_jobs": _WRITE,
    "attempts": "select, insert, update",
    "dead_letters": "select, insert, update",
    "idempotency": _WRITE,
    # Looked up before a tenant is known, or written under one lock: the engine's alone.
    "api_keys": "",
    "console_users": "",
    "console_sessions": "",
    "audit": "",
}
# Flags, breakers and processes belong to the installation; a tenant's transaction only reads them.
_SHARED_TABLES = {
    "flags": _READ,
    "flag_history": _READ,
    "flag_floors": _READ,
    "breakers": _READ,
    "processes": "",
    # Ids only, and the clinic's own software reads it under roles of its own: no row-level security here.
    "tb_rocketchat_user_mapping": "select, insert, update",
}


def upgrade() -> None:
    _roles()
    _extensions()
    _clinic()
    _events()
    _people()
    _conversations()
    _messages()
    _lanes()
    _flags()
    _access()
    _rights()


def _roles() -> None:
    """NOLOGIN roles that the owner may take on. Roles belong to the whole server: another database may have made them."""
    # Before 16 a membership always inherits, and carries SET; since 16 both are said, and CREATEROLE gives neither.
    modern = op.get_bind().exec_driver_sql("show server_version_num").scalar_one() >= "160000"
    right, options = ("SET", " with inherit false, set true") if modern else ("MEMBER", "")
    for role in (ENGINE, TENANT):
        run(f"""
do $$ begin
    if not exists (select 1 from pg_roles where rolname = '{role}') then create role {role} nologin; end if;
exception when duplicate_object or unique_violation then null;
end $$

do $$ begin
    if not pg_has_role(current_user, '{role}', '{right}') then grant {role} to current_user{options}; end if;
end $$""")


def _extensions() -> None:
    """pgvector needs a superuser (or a trusted install) and is optional: without it similarity is an exact scan."""
    run("""
do $$ begin
    create extension if not exists vector;
exception when others then raise notice 'pgvector is not available: %', sqlerrm;
end $$""")


def _clinic() -> None:
    """tb_users is the clinic's: checked when it exists, never altered, else made."""
    bind = op.get_bind()
    columns = set(
        bind.execute(
            text(
                "select column_name from information_schema.columns"
                " where table_schema = current_schema() and table_name = 'tb_users'"
            )
        ).scalars()
    )
    missing = {"id_user", "nm_completo", "ds_origem", "st_tipo_usuario"} - columns
    if columns and missing:
        raise RuntimeError(f"tb_users exists but lacks {', '.join(sorted(missing))}")
    if not columns:
        run("""
create table tb_users (
    id_user uuid primary key default gen_random_uuid(),
    nm_completo varchar(255),
    ds_origem varchar(50),
    st_tipo_usuario varchar(50),
    dt_criacao timestamp default now())""")
    run("""
create table if not exists tb_rocketchat_user_mapping (
    id_mapping uuid primary key default gen_random_uuid(),
    rc_user_id varchar(255) not null unique,
    id_user uuid references tb_users (id_user),
    ds_canal varchar(50),
    dt_criacao timestamp default now(),
    dt_ultima_sync timestamp)

create index if not exists idx_rc_user_mapping on tb_rocketchat_user_mapping (rc_user_id)

create index if not exists idx_doctorq_user_mapping on tb_rocketchat_user_mapping (id_user)""")


def _events() -> None:
    run("""
create table channels (
    slug text primary key,
    tenant_id text not null,
    kind text not null,
    address text,
    last_status_at timestamptz,
    synced_at timestamptz not null default now())

create sequence event_seq as bigint

create table events (
    received_at timestamptz not null,
    id uuid not null,
    seq bigint not null default nextval('event_seq'),
    tenant_id text not null,
    channel text not null,
    digest bytea not null,
    method text not null,
    raw_path bytea not null,
    query bytea not null,
    headers json not null,
    body bytea,
    state text not null default 'waiting' check (state in ('waiting', 'handled', 'dead', 'ignored')),
    split boolean not null default false,
    tries integer not null default 0,
    reason text,
    primary key (received_at, id))

create index events_unsplit on events (channel, seq) where not split

create index events_state on events (channel, state)

create table event_digests (
    channel text not null,
    digest bytea not null,
    tenant_id text not null,
    received_at timestamptz not null,
    primary key (channel, digest))""")


def _people() -> None:
    run("""
create table contacts (
    id uuid primary key,
    tenant_id text not null,
    cohort text not null,
    created_at timestamptz not null,
    name text,
    contact_class text not null default 'patient',
    user_id uuid)

create index contacts_user on contacts (user_id)

create index contacts_tenant on contacts (tenant_id, created_at)

create table identities (
    id uuid primary key,
    tenant_id text not null,
    contact_id uuid not null references contacts deferrable initially deferred,
    kind text not null,
    created_at timestamptz not null)

create index identities_contact on identities (contact_id, kind)

create table identity_aliases (
    tenant_id text not null,
    kind text not null,
    scope text not null,
    lookup text not null,
    identity_id uuid not null references identities deferrable initially deferred,
    value text not null,
    seen_at timestamptz not null,
    primary key (tenant_id, kind, scope, lookup))

create index identity_aliases_identity on identity_aliases (identity_id)

create table tombstones (
    tenant_id text not null,
    kind text not null,
    scope text not null,
    digest bytea not null,
    erased_at timestamptz not null,
    primary key (tenant_id, kind, scope, digest))""")


def _conversations() -> None:
    run("""
create table conversations (
    id uuid primary key,
    tenant_id text not null,
    channel text not null,
    kind text not null,
    identity_id uuid not null references identities deferrable initially deferred,
    contact_id uuid not null references contacts deferrable initially deferred,
    path text not null,
    pin_version integer not null default 0,
    opened_at timestamptz not null,
    last_at timestamptz not null,
    closed_at timestamptz,
    closed_by text,
    room_id text)

create unique index conversations_open on conversations (channel, identity_id) where closed_at is null

create index conversations_idle on conversations (channel, last_at) where closed_at is null

create index conversations_contact on conversations (contact_id)

create table decisions (
    id uuid primary key,
    tenant_id text not null,
    conversation_id uuid not null references conversations deferrable initially deferred,
    path text not null,
    stage text not null,
    rule text not null,
    revision bigint not null,
    reason text not null,
    pin_version integer not null default 0,
    at timestamptz not null,
    guard text)

create index decisions_conversation on decisions (conversation_id, at)

create table rooms (
    id text primary key,
    tenant_id text not null,
    channel text not null,
    conversation_id uuid,
    learned_at timestamptz not null)

create index rooms_conversation on rooms (conversation_id)""")


def _messages() -> None:
    run("""
create sequence message_seq as bigint

create table messages (
    created_at timestamptz not null,
    id uuid not null,
    seq bigint not null default nextval('message_seq'),
    tenant_id text not null,
    channel text not null,
    kind text not null,
    conversation_id uuid not null,
    direction text not null,
    author text not null,
    content_kind text not null,
    text text,
    data jsonb not null default '{}',
    status text not null,
    path text not null,
    sent_at timestamptz not null,
    external_id text,
    source_id text,
    decision_id uuid,
    event_id uuid,
    error_code text,
    handled_at timestamptz,
    delivered_at timestamptz,
    matched_by text,
    metadata jsonb not null default '{}',
    primary key (created_at, id))

create index messages_id on messages (id)

create index messages_conversation on messages (conversation_id, seq)

create table message_keys (
    key text not null check (key in ('external', 'source')),
    channel text not null,
    value text not null,
    tenant_id text not null,
    message_id uuid not null,
    created_at timestamptz not null,
    primary key (key, channel, value))

create table outcomes (
    channel text not null,
    external_id text not null,
    tenant_id text not null,
    status text not null,
    rank integer not null default 0,
    at timestamptz not null,
    primary key (channel, external_id))""")


def _lanes() -> None:
    # Rows of jobs and lane_jobs live for seconds: vacuum them often, and leave room for updates in place.
    run("""
create sequence job_seq as bigint

create table jobs (
    id uuid primary key,
    seq bigint not null default nextval('job_seq'),
    tenant_id text not null,
    channel text not null,
    kind text not null,
    lanes text[] not null,
    gate text not null,
    created_at timestamptz not null,
    due_at timestamptz not null,
    event_id uuid,
    event_at timestamptz,
    message_id uuid,
    conversation_id uuid,
    room_id text,
    path text,
    pin_version integer not null default 0,
    shares jsonb not null default '[]',
    whole boolean not null default false,
    state text not null check (state in ('ready', 'running', 'unknown')),
    attempts integer not null default 0,
    fence bigint not null default 0,
    lease_until timestamptz,
    uncertain boolean not null default false,
    error text,
    blocked integer not null default 0 check (blocked >= 0)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)

create index jobs_heads on jobs (gate, seq, due_at) where blocked = 0 and state in ('ready', 'unknown')

create index jobs_leased on jobs (lease_until) where state = 'running'

create index jobs_message on jobs (message_id) where message_id is not null

create index jobs_event on jobs (event_id) where event_id is not null

create index jobs_room on jobs (room_id) where kind = 'place'

create table lane_jobs (
    lane text not null,
    seq bigint not null,
    tenant_id text not null,
    job_id uuid not null,
    primary key (lane, seq)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)

create table attempts (
    started_at timestamptz not null,
    id uuid not null,
    tenant_id text not null,
    message_id uuid not null,
    job_id uuid not null,
    number integer not null default 0,
    path text not null,
    pin_version integer not null default 0,
    ended_at timestamptz,
    outcome text,
    code text,
    primary key (started_at, id))

create index attempts_message on attempts (message_id, number)

create table dead_letters (
    job_id uuid primary key,
    tenant_id text not null,
    channel text not null,
    kind text not null,
    reason text not null,
    at timestamptz not null,
    job jsonb not null default '{}',
    replayed_at timestamptz)

create index dead_letters_open on dead_letters (channel, at) where replayed_at is null

create table breakers (
    gate text primary key,
    failures integer not null default 0,
    opened_at timestamptz,
    open_until timestamptz,
    reason text)""")


def _flags() -> None:
    run("""
create table flags (
    kind text primary key,
    revision bigint not null,
    flag jsonb not null default '{}')

create table flag_history (
    revision bigint primary key,
    kind text not null,
    flag jsonb not null default '{}',
    at timestamptz not null default now())

create index flag_history_kind on flag_history (kind, revision)

create table flag_floors (
    kind text primary key,
    revision bigint not null)""")


def _access() -> None:
    run("""
create table api_keys (
    id uuid primary key,
    tenant_id text not null,
    name text not null,
    scopes text[] not null,
    key_hash bytea not null unique,
    created_at timestamptz not null,
    revoked_at timestamptz)

create table console_users (
    email text primary key,
    tenant_id text not null,
    role text not null,
    password_hash text not null,
    created_at timestamptz not null)

create table console_sessions (
    token_hash bytea primary key,
    tenant_id text not null,
    email text not null references console_users on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null)

create index console_sessions_email on console_sessions (email)

create index console_sessions_expiry on console_sessions (expires_at)

create table processes (
    id uuid primary key,
    role text not null,
    heartbeat_at timestamptz not null,
    flag_revision bigint not null default 0)

create table idempotency (
    key_id text not null,
    idem_key text not null,
    tenant_id text not null,
    body_digest bytea not null,
    status integer not null,
    answer jsonb not null,
    created_at timestamptz not null,
    primary key (key_id, idem_key))

create index idempotency_age on idempotency (created_at)

create table audit (
    seq bigint primary key,
    tenant_id text not null,
    at timestamptz not null,
    actor text not null,
    act text not null,
    subject text not null,
    detail jsonb not null default '{}',
    prev_hash bytea not null,
    hash bytea not null)""")


def _rights() -> None:
    for table, tenant in _TENANT_TABLES.items():
        grant(table, tenant=tenant)
        protect(table)
    for table, tenant in _SHARED_TABLES.items():
        grant(table, tenant=tenant)
    # A new contact makes a user; nothing of the clinic's users is read but whether an id exists.
    run(f"""
grant insert (id_user, nm_completo, ds_origem, st_tipo_usuario) on tb_users to {ENGINE}, {TENANT}

grant select (id_user) on tb_users to {ENGINE}, {TENANT}

grant usage on sequence event_seq, message_seq, job_seq to {ENGINE}

grant usage on sequence message_seq, job_seq to {TENANT}

grant select on figueira_upgrades to {ENGINE}""")
