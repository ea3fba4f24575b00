"""Files, paces, duties, billed messages, callbacks; when a contact was last heard, what was read, when a pin was made,
when a room spoke, who opted out, whose user is ours."""

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
    _users()


def _columns() -> None:
    """Each statement by itself, so that traffic waits for no lock longer than a moment; all may be run again."""
    run("""
alter table contacts add column if not exists user_made boolean not null default false

alter table identities add column if not exists opted_out_at timestamptz

alter table conversations
    add column if not exists heard_at timestamptz,
    add column if not exists read_at timestamptz,
    add column if not exists pinned_at timestamptz

alter table rooms add column if not exists spoke_at timestamptz

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


def _users() -> None:
    """Which rows of tb_users we made ourselves, and the one way to take such a row back.

    Until now a contact's user was either made with the contact, or known to Rocket.Chat's mapping before the contact
    was. The row of a user we made says so by its origin and type, but the clinic's own software writes the same words
    there. What tells them apart is the mapping: ours is written with the contact or after it, the clinic's stood there
    before. Both are by one server's clock, ours in UTC; a clinic that writes local time west of Greenwich only looks
    earlier. A user that two contacts share, or a mapping without a date, counts as the clinic's: wrongly so, it costs
    a 409 that a person mends; the other mistake would take a patient's id away.
    """
    run(f"""
grant select (ds_origem, st_tipo_usuario) on tb_users to {ENGINE}

set local role {ENGINE}

update contacts c set user_made = true
from identities i, tb_users u
where i.contact_id = c.id and u.id_user = c.user_id and u.st_tipo_usuario = 'paciente'
    and regexp_replace(u.ds_origem, '^rocketchat_', '') = case i.kind when 'messenger' then 'facebook' else i.kind end
    and not exists (select from contacts o where o.user_id = c.user_id and o.id <> c.id)
    and not exists (select from tb_rocketchat_user_mapping m where m.id_user = c.user_id
        and (m.dt_criacao >= c.created_at at time zone 'UTC') is not true)

reset role

revoke select (ds_origem, st_tipo_usuario) on tb_users from {ENGINE}

{_DROP_USER}

revoke execute on function figueira_drop_user(uuid, text) from public

grant execute on function figueira_drop_user(uuid, text) to {ENGINE}""")


# With the owner's rights, so that the engine needs none to delete what is the clinic's: one row, still as we made it,
# that nothing refers to. A column named id_user refers to it even without a foreign key.
_DROP_USER = """create or replace function figueira_drop_user(gone uuid, name text) returns boolean
language plpgsql security definer set search_path from current as $$
declare
    place record;
    held boolean;
begin
    perform from tb_users where id_user = gone and nm_completo = name and st_tipo_usuario = 'paciente'
        and ds_origem ~ '^(rocketchat_)?(whatsapp|instagram|facebook|telegram|sms|email|webchat)$' for update;
    if not found then return false; end if;
    select exists (
        select from tb_users u, jsonb_each(to_jsonb(u)) as filled
        join pg_attribute a on a.attrelid = 'tb_users'::regclass and a.attname = filled.key and not a.atthasdef
        where u.id_user = gone and filled.value <> 'null'
            and filled.key not in ('id_user', 'nm_completo', 'ds_origem', 'st_tipo_usuario')) into held;
    if held then return false; end if;
    for place in
        select a.attrelid::regclass as relation, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relkind in ('r', 'p') and not c.relispartition and not a.attisdropped and a.atttypid = 'uuid'::regtype
            and c.oid <> 'tb_users'::regclass and (a.attname = 'id_user' or exists (
                select from pg_constraint f where f.contype = 'f' and f.confrelid = 'tb_users'::regclass
                and f.conrelid = a.attrelid and a.attnum = any(f.conkey)))
    loop
        execute format('select exists (select from %s where %I = $1)', place.relation, place.attname)
            into held using gone;
        if held then return false; end if;
    end loop;
    delete from tb_users where id_user = gone;
    return found;
exception when insufficient_privilege or foreign_key_violation then
    return false;
end $$"""
