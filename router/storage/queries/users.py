"""The clinic's users, as it tells of them. tb_users is the clinic's: rows are added, never changed, only ids
read; a row we made ourselves may go again."""

from uuid import UUID

from router.domain.ports import Tx
from router.storage.postgres.codec import clean
from router.storage.queries.link import link_of

ORIGIN = "api"
_NAMELESS = "Sem nome"  # tb_users may want a name
_NAME_LENGTH = 255


async def add_user(tx: Tx, user_id: UUID, name: str | None) -> bool:
    """A row for a user that has none. False: the clinic has made it, and it stays as it is."""
    return bool(
        await link_of(tx).fetchval(
            "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario)"
            " values ($1, $2, $3, 'paciente') on conflict (id_user) do nothing returning true",
            user_id, clean(name or _NAMELESS)[:_NAME_LENGTH], ORIGIN,
        )
    )  # fmt: skip


async def rocketchat_user(tx: Tx, user_id: UUID) -> str | None:
    """The user of Rocket.Chat that was made, or found by e-mail, for a user of the clinic. Visitors are mapped too, but
    under their channel."""
    found: str | None = await link_of(tx).fetchval(
        "select rc_user_id from tb_rocketchat_user_mapping where id_user = $1 and ds_canal = $2"
        " order by dt_criacao, rc_user_id limit 1",
        user_id, ORIGIN,
    )  # fmt: skip
    return found


async def map_again(tx: Tx, old: UUID, new: UUID) -> None:
    """Whom Rocket.Chat knows as the old user, it knows as the new one."""
    await link_of(tx).execute(
        "update tb_rocketchat_user_mapping set id_user = $2, dt_ultima_sync = now() where id_user = $1",
        old,
        new,
    )


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
