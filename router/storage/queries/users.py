"""The clinic's users, as it tells of them. tb_users is the clinic's: rows are added, never changed, only ids
read; a row we made ourselves may go again."""

import hashlib
from uuid import UUID

from router.domain.ports import Tx
from router.storage.postgres.codec import clean
from router.storage.queries.link import link_of

ORIGIN = "api"
_NAMELESS = "Sem nome"  # tb_users may want a name
_NAME_LENGTH = 255
_CANAL_LENGTH = 50
# What the API did not map for a tenant belongs to the tenant whose contact has the user, if only one has.
_ONLY = """coalesce(m.ds_canal, '') not like 'api:%'
    and not exists (select from contacts c where c.user_id = m.id_user and c.tenant_id <> $3)"""


def canal(tenant: str) -> str:
    """ds_canal of what was mapped for a tenant: api:<tenant>, or a digest where that is too long."""
    plain = f"{ORIGIN}:{tenant}"
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:40]
    return plain if len(plain) <= _CANAL_LENGTH else f"{ORIGIN}:#{digest}"


async def add_user(tx: Tx, user_id: UUID, name: str | None) -> bool:
    """A row for a user that has none. False: the clinic has made it, and it stays as it is."""
    return bool(
        await link_of(tx).fetchval(
            "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario)"
            " values ($1, $2, $3, 'paciente') on conflict (id_user) do nothing returning true",
            user_id, clean(name or _NAMELESS)[:_NAME_LENGTH], ORIGIN,
        )
    )  # fmt: skip


async def rocketchat_user(tx: Tx, user_id: UUID, tenant: str) -> str | None:
    """The user of Rocket.Chat that was made, or found by e-mail, for a user of this tenant: another tenant may have the
    same id_user. Visitors are mapped too, but under their channel. For a transaction without a tenant."""
    found: str | None = await link_of(tx).fetchval(
        "select m.rc_user_id from tb_rocketchat_user_mapping m where m.id_user = $1"
        f" and (m.ds_canal = $2 or (m.ds_canal = '{ORIGIN}' and {_ONLY})) order by m.dt_criacao, m.rc_user_id limit 1",
        user_id, canal(tenant), tenant,
    )  # fmt: skip
    return found


async def map_rocketchat(tx: Tx, rc_user_id: str, user_id: UUID, tenant: str, *, adopt: bool) -> bool:
    """Map a user of Rocket.Chat that nobody has. False: it is another user's, or another tenant's, and stays so.
    `adopt`: a mapping that others than we made counts as this tenant's where no other has the user. For a transaction
    without a tenant."""
    link = link_of(tx)
    await link.execute(
        "insert into tb_rocketchat_user_mapping as m (rc_user_id, id_user, ds_canal, dt_ultima_sync)"
        " values ($1, $2, $3, now()) on conflict (rc_user_id) do update"
        " set id_user = excluded.id_user, ds_canal = excluded.ds_canal where m.id_user is null",
        rc_user_id, user_id, canal(tenant),
    )  # fmt: skip
    ours: bool | None = await link.fetchval(
        "update tb_rocketchat_user_mapping m set dt_ultima_sync = now()"
        " where m.rc_user_id = $1 and m.id_user = $2 and (m.ds_canal = $4"
        f" or (($5 or m.ds_canal = '{ORIGIN}') and {_ONLY})) returning true",
        rc_user_id, user_id, tenant, canal(tenant), adopt,
    )  # fmt: skip
    return bool(ours)


async def map_again(tx: Tx, old: UUID, new: UUID, tenant: str) -> None:
    """Whom Rocket.Chat knows as the old user, it knows as the new one; but for what was mapped for another tenant."""
    await link_of(tx).execute(
        "update tb_rocketchat_user_mapping set id_user = $2, dt_ultima_sync = now() where id_user = $1"
        " and (ds_canal is null or ds_canal not like 'api:%' or ds_canal = $3)",
        old, new, canal(tenant),
    )  # fmt: skip


async def drop_user(tx: Tx, user_id: UUID, name: str | None) -> bool:
    """Delete a row we made (the caller knows that we did; `name`: with which). It stays, and this is False, when a
    contact or anything of the clinic's refers to it, or when the clinic has changed it. For a transaction without a
    tenant."""
    dropped: bool = await link_of(tx).fetchval(
        "select case when exists (select from contacts where user_id = $1) then false"
        " else figueira_drop_user($1, $2) end",
        user_id, clean(name or _NAMELESS)[:_NAME_LENGTH],
    )  # fmt: skip
    return dropped


async def lock_user(tx: Tx, tenant: str, user_id: UUID) -> None:
    """Until the transaction ends nobody else here tells of this user: two at once would make two contacts."""
    await link_of(tx).execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"user\x1f{tenant}\x1f{user_id}"
    )
