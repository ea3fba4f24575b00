"""API keys, console users, their sessions. Looked up before a tenant is known: all of it is the engine's alone."""

from datetime import datetime
from uuid import UUID

from router.domain.ports import Tx
from router.storage.queries.link import Row, link_of, row, rows

_KEY = "select id, tenant_id as tenant, name, scopes, key_hash, created_at, revoked_at from api_keys"
_USER = "select email, tenant_id as tenant, role, password_hash, created_at from console_users"


async def add_key(
    tx: Tx, key_id: UUID, *, tenant: str, name: str, scopes: list[str], key_hash: bytes
) -> None:
    """`key_hash` is the keyed digest of the whole token."""
    await link_of(tx).execute(
        "insert into api_keys (id, tenant_id, name, scopes, key_hash, created_at) values ($1, $2, $3, $4, $5, now())",
        key_id, tenant, name, scopes, key_hash,
    )  # fmt: skip


async def key(tx: Tx, key_id: UUID) -> Row | None:
    """One, also when revoked."""
    return await row(tx, f"{_KEY} where id = $1", key_id)


async def keys(tx: Tx) -> list[Row]:
    """All, oldest first."""
    return await rows(tx, f"{_KEY} order by created_at, id")


async def revoke_key(tx: Tx, key_id: UUID) -> bool:
    """False: there is none, or it is revoked already."""
    return bool(
        await link_of(tx).fetchval(
            "update api_keys set revoked_at = now() where id = $1 and revoked_at is null returning true",
            key_id,
        )
    )


async def add_user(tx: Tx, email: str, *, tenant: str, role: str, password_hash: str) -> bool:
    """False: the address is taken."""
    return bool(
        await link_of(tx).fetchval(
            "insert into console_users (email, tenant_id, role, password_hash, created_at)"
            " values ($1, $2, $3, $4, now()) on conflict do nothing returning true",
            email, tenant, role, password_hash,
        )
    )  # fmt: skip


async def user(tx: Tx, email: str) -> Row | None:
    """One, with the hash of the password."""
    return await row(tx, f"{_USER} where email = $1", email)


async def users(tx: Tx) -> list[Row]:
    """All, by address."""
    return await rows(tx, f"{_USER} order by email")


async def add_session(tx: Tx, token_hash: bytes, *, email: str, tenant: str, expires_at: datetime) -> None:
    """Sessions that have ended are swept on the way."""
    await link_of(tx).execute("delete from console_sessions where expires_at <= now()")
    await link_of(tx).execute(
        "insert into console_sessions (token_hash, tenant_id, email, created_at, expires_at)"
        " values ($1, $2, $3, now(), $4)",
        token_hash, tenant, email, expires_at,
    )  # fmt: skip


async def session_user(tx: Tx, token_hash: bytes) -> Row | None:
    """The user of a session that has not ended, as the user stands now."""
    return await row(
        tx,
        "select u.email, u.tenant_id as tenant, u.role, u.created_at from console_sessions s"
        " join console_users u on u.email = s.email where s.token_hash = $1 and s.expires_at > now()",
        token_hash,
    )


async def end_session(tx: Tx, token_hash: bytes) -> None:
    """It is gone."""
    await link_of(tx).execute("delete from console_sessions where token_hash = $1", token_hash)
