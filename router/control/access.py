"""Who may come in: API keys for programs, users and sessions for people. Secrets are shown once and kept as digests."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from router.control import audit
from router.control.desk import Desk, every, id_of, same_tenant, stamp
from router.domain.errors import Rejected
from router.domain.ports import Tx
from router.storage.queries import access

ROLES: Final = ("agent", "product", "auditor", "admin")
SUBJECTS: Final = ("messages", "conversations", "contacts", "flags", "users", "operations")
SCOPES: Final = frozenset(
    {f"{subject}:{act}" for subject in SUBJECTS for act in ("read", "write")} | {"webhook"}
)
ALL: Final = "all"
SESSION_HOURS: Final = 12
_PREFIX: Final = "fgk"
_SECRET_BYTES: Final = 32
_PASSWORD_BYTES: Final = 15
_NAME_LENGTH: Final = 200

_hasher: Final = PasswordHasher()
# Verified when nobody has the address, so that the time taken does not tell which addresses exist.
_NOBODY: Final = _hasher.hash("nobody")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key that came in. `tenant` "*": all."""

    id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]

    def allows(self, scope: str) -> bool:
        """`all` allows everything; else the very scope must be there: write does not give read."""
        return ALL in self.scopes or scope in self.scopes


@dataclass(frozen=True, slots=True)
class User:
    """Who is logged in. `tenant` "*": all."""

    email: str
    tenant: str
    role: str


# keys ------------------------------------------------------------------------------------------------------


def scopes_of(scopes: str | Sequence[str]) -> tuple[str, ...]:
    """`all`, or scopes (comma-separated or listed), sorted. Raises Rejected invalid_scope."""
    parts = scopes.split(",") if isinstance(scopes, str) else scopes
    wanted = {part.strip() for part in parts if part.strip()}
    if wanted == {ALL}:
        return (ALL,)
    for scope in sorted(wanted - SCOPES):
        raise Rejected("invalid_scope", f"there is no scope {scope!r}: all, or {', '.join(sorted(SCOPES))}")
    if not wanted:
        raise Rejected("invalid_scope", "a key needs a scope: all, or comma-separated ones")
    return tuple(sorted(wanted))


async def create_key(
    desk: Desk, name: str, tenant: str | None, scopes: str | Sequence[str], *, by: str = "cli"
) -> dict[str, Any]:
    """A new key: {id, name, scopes, key}; `key` is never shown again. Raises Rejected."""
    if not name.strip() or len(name) > _NAME_LENGTH:
        raise Rejected("invalid_name", f"a key's name has 1 to {_NAME_LENGTH} characters")
    whose, allowed, key_id = same_tenant(tenant), scopes_of(scopes), desk.ids.new()
    token = f"{_PREFIX}_{key_id.hex}_{secrets.token_urlsafe(_SECRET_BYTES)}"

    async def work(tx: Tx) -> None:
        await access.add_key(
            tx, key_id, tenant=whose, name=name.strip(), scopes=list(allowed), key_hash=_key_hash(desk, token)
        )
        await audit.record(
            desk, tx, act="key.create", subject=str(key_id), by=by, detail={"tenant": whose, "scopes": list(allowed)}
        )  # fmt: skip

    await desk.store.transact(work)
    return {"id": str(key_id), "name": name.strip(), "scopes": list(allowed), "key": token}


async def key(desk: Desk, token: str) -> Key | None:
    """The key behind a token; None when it is none of ours or revoked."""
    try:
        prefix, name, _ = token.split("_", 2)
        key_id = UUID(name)
    except ValueError:
        return None
    row = await desk.store.transact(lambda tx: access.key(tx, key_id)) if prefix == _PREFIX else None
    if row is None or not hmac.compare_digest(row["key_hash"], _key_hash(desk, token)):
        return None
    if row["revoked_at"] is not None:
        return None
    return Key(str(row["id"]), row["name"], row["tenant"], tuple(row["scopes"]))


async def keys(desk: Desk, *, tenant: str | None = None) -> list[dict[str, Any]]:
    """All, oldest first: {id, name, tenant, scopes, created_at, revoked_at}."""
    found = await desk.store.transact(access.keys)
    return [
        {
            "id": str(row["id"]),
            "name": row["name"],
            "tenant": row["tenant"],
            "scopes": list(row["scopes"]),
            "created_at": stamp(row["created_at"]),
            "revoked_at": stamp(row["revoked_at"]),
        }
        for row in found
        if every(tenant) or row["tenant"] == tenant
    ]


async def revoke(desk: Desk, key_id: UUID | str, *, by: str = "cli") -> None:
    """It opens nothing any more. Raises Rejected unknown_key (404), also when it was revoked before."""
    wanted = id_of(key_id, "unknown_key", "key")

    async def work(tx: Tx) -> None:
        if not await access.revoke_key(tx, wanted):
            raise Rejected("unknown_key", "no such key, or it is revoked already", 404)
        await audit.record(desk, tx, act="key.revoke", subject=str(wanted), by=by)

    await desk.store.transact(work)


def _key_hash(desk: Desk, token: str) -> bytes:
    text = token.encode("utf-8", "surrogatepass")
    return hmac.digest(desk.secrets.api_key_pepper, text, hashlib.sha256)


# users -----------------------------------------------------------------------------------------------------


def _address(email: str) -> str:
    return email.strip().lower()


async def create_user(desk: Desk, email: str, tenant: str | None, role: str, *, by: str = "cli") -> str:
    """A new user; returns the password, which is never shown again. Raises Rejected: invalid_email, unknown_role,
    invalid_tenant; user_exists (409)."""
    address, whose = _address(email), same_tenant(tenant)
    if address.count("@") != 1 or " " in address or not all(address.split("@")) or not address.isprintable():
        raise Rejected("invalid_email", "a user is named by an e-mail address")
    if role not in ROLES:
        raise Rejected("unknown_role", f"there is no role {role!r}: one of {', '.join(ROLES)}")
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    hashed = await asyncio.to_thread(_hasher.hash, password)

    async def work(tx: Tx) -> None:
        if not await access.add_user(tx, address, tenant=whose, role=role, password_hash=hashed):
            raise Rejected("user_exists", "there is a user with this address", 409)
        await audit.record(
            desk, tx, act="user.create", subject=f"user:{desk.pseudonym(address)}", by=by,
            detail={"tenant": whose, "role": role},
        )  # fmt: skip

    await desk.store.transact(work)
    return password


async def users(desk: Desk, *, tenant: str | None = None) -> list[dict[str, Any]]:
    """All, by address: {email, tenant, role, created_at}."""
    found = await desk.store.transact(access.users)
    return [
        {"email": row["email"], "tenant": row["tenant"], "role": row["role"], "created_at": stamp(row["created_at"])}
        for row in found
        if every(tenant) or row["tenant"] == tenant
    ]  # fmt: skip


async def login(desk: Desk, email: str, password: str) -> str | None:
    """A session's token, good for 12 hours; None when address and password do not fit."""
    row = await desk.store.transact(lambda tx: access.user(tx, _storable(_address(email))))
    fits = await asyncio.to_thread(_fits, row["password_hash"] if row else _NOBODY, password)
    if row is None or not fits:
        return None
    token = secrets.token_urlsafe(_SECRET_BYTES)

    async def work(tx: Tx) -> None:
        ends = await tx.now() + timedelta(hours=SESSION_HOURS)
        await access.add_session(
            tx, _session_hash(desk, token), email=row["email"], tenant=row["tenant"], expires_at=ends
        )

    await desk.store.transact(work)
    return token


def _fits(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


async def session(desk: Desk, token: str) -> User | None:
    """Who the session belongs to, as they are now; None when it has ended or never was."""
    row = await desk.store.transact(lambda tx: access.session_user(tx, _session_hash(desk, token)))
    return User(row["email"], row["tenant"], row["role"]) if row else None


async def logout(desk: Desk, token: str) -> None:
    """End a session."""
    await desk.store.transact(lambda tx: access.end_session(tx, _session_hash(desk, token)))


def _session_hash(desk: Desk, token: str) -> bytes:
    return hmac.digest(desk.secrets.session, token.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _storable(text: str) -> str:
    """PostgreSQL refuses what can be no address anyway."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
