"""Contacts, identities, their addresses, tombstones, and the clinic's users."""

import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from router.domain.conversation import Contact, Identity, Reach
from router.domain.errors import Conflict
from router.domain.message import Alias
from router.storage.postgres.base import Base
from router.storage.postgres.codec import clean, clean_or_none

if TYPE_CHECKING:
    from asyncpg import Record

    from router.storage.postgres.base import Link

_CONTACT = "id, tenant_id, cohort, created_at, name, contact_class, user_id, user_made"
_IDENTITY = "i.id, i.tenant_id, i.contact_id, i.kind, i.created_at, i.opted_out_at"
_THEIR_CONTACT = ", ".join(f"c.{name} as c_{name}" for name in _CONTACT.split(", "))
NAMELESS = "Sem nome"  # tb_users is the clinic's and may want a name
NAME_LENGTH = 255


def _contact(row: "Record", prefix: str = "") -> Contact:
    return Contact(
        id=row[f"{prefix}id"],
        tenant=row[f"{prefix}tenant_id"],
        cohort=row[f"{prefix}cohort"],
        created_at=row[f"{prefix}created_at"],
        name=row[f"{prefix}name"],
        contact_class=row[f"{prefix}contact_class"],
        user_id=row[f"{prefix}user_id"],
        user_made=row[f"{prefix}user_made"],
    )


def _identity(row: "Record") -> Identity:
    return Identity(
        id=row["id"],
        tenant=row["tenant_id"],
        contact_id=row["contact_id"],
        kind=row["kind"],
        created_at=row["created_at"],
        opted_out_at=row["opted_out_at"],
    )


class People(Base):
    """The people part of Tx."""

    def __init__(self, link: "Link", tombstone_key: bytes) -> None:
        super().__init__(link, tombstone_key)
        self._met: dict[UUID, Contact] = {}
        """Contacts of the identities just read: who asks for an identity asks for its contact next, once."""

    def _buried(self, tenant: str, alias: Alias) -> bytes:
        """A tombstone must not give away whom it is for: a keyed digest of the address."""
        name = f"{tenant}\x00{alias.kind}\x00{alias.scope}\x00{alias.lookup}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._tombstone_key, name, "sha256")

    async def erased_at(self, tenant: str, aliases: Sequence[Alias]) -> datetime | None:
        found: datetime | None = await self._link.fetchval(
            "select max(erased_at) from tombstones where tenant_id = $1 and (kind, scope, digest) in"
            " (select * from unnest($2::text[], $3::text[], $4::bytea[]))",
            tenant, [a.kind for a in aliases], [a.scope for a in aliases],
            [self._buried(tenant, a) for a in aliases],
        )  # fmt: skip
        return found

    async def bury(self, tenant: str, aliases: Sequence[Alias], at: datetime) -> None:
        await self._link.executemany(
            "insert into tombstones as t (tenant_id, kind, scope, digest, erased_at) values ($1, $2, $3, $4, $5)"
            " on conflict (tenant_id, kind, scope, digest)"
            " do update set erased_at = greatest(t.erased_at, excluded.erased_at)",
            [(tenant, a.kind, a.scope, self._buried(tenant, a), at) for a in aliases],
        )

    async def identities(self, tenant: str, aliases: Sequence[Alias]) -> Sequence[tuple[Alias, Identity]]:
        rows = await self._link.fetch(
            f"select {_IDENTITY}, a.kind as alias_kind, a.scope, a.lookup, a.value, {_THEIR_CONTACT}"
            " from unnest($2::text[], $3::text[], $4::text[]) with ordinality as asked (kind, scope, lookup, place)"
            # Each address by its whole key, also while the planner still takes the table for empty.
            " cross join lateral (select * from identity_aliases l where l.tenant_id = $1 and l.kind = asked.kind"
            " and l.scope = asked.scope and l.lookup = asked.lookup limit 1) a join identities i on i.id = a.identity_id"
            " left join contacts c on c.id = i.contact_id order by asked.place",
            tenant, [a.kind for a in aliases], [a.scope for a in aliases], [clean(a.lookup) for a in aliases],
        )  # fmt: skip
        self._met = {row["contact_id"]: _contact(row, "c_") for row in rows if row["c_id"] is not None}
        return [
            (Alias(row["alias_kind"], row["scope"], row["lookup"], row["value"]), _identity(row))
            for row in rows
        ]

    async def aliases(self, identity_id: UUID) -> Sequence[Alias]:
        rows = await self._link.fetch(
            "select kind, scope, lookup, value from identity_aliases where identity_id = $1"
            " order by seen_at desc, lookup",
            identity_id,
        )  # fmt: skip
        return [Alias(row["kind"], row["scope"], row["lookup"], row["value"]) for row in rows]

    async def add_contact(self, contact: Contact, source: str) -> Contact:
        if contact.user_id is None:
            # Made here and not returned: reading the clinic's users is not ours to do.
            user_id = await self._link.fetchval("select gen_random_uuid()")
            await self._link.execute(
                "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario)"
                " values ($1, $2, $3, 'paciente')",
                user_id, clean(contact.name or NAMELESS)[:NAME_LENGTH], source,
            )  # fmt: skip
            contact = replace(contact, user_id=user_id, user_made=True)
        await self._link.execute(
            f"insert into contacts ({_CONTACT}) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            contact.id, contact.tenant, contact.cohort, contact.created_at, clean_or_none(contact.name),
            contact.contact_class, contact.user_id, contact.user_made,
        )  # fmt: skip
        return contact

    async def contact(self, contact_id: UUID) -> Contact | None:
        met = self._met.pop(contact_id, None)
        if met is not None:
            return met
        row = await self._link.fetchrow(f"select {_CONTACT} from contacts where id = $1", contact_id)
        return _contact(row) if row else None

    async def contact_by_user(self, tenant: str, user_id: UUID) -> Contact | None:
        row = await self._link.fetchrow(
            f"select {_CONTACT} from contacts where tenant_id = $1 and user_id = $2 order by created_at limit 1",
            tenant, user_id,
        )  # fmt: skip
        return _contact(row) if row else None

    async def save_contact(self, contact: Contact) -> None:
        await self._link.execute(
            "update contacts set cohort = $2, name = $3, contact_class = $4, user_id = $5, user_made = $6"
            " where id = $1",
            contact.id, contact.cohort, clean_or_none(contact.name), contact.contact_class, contact.user_id,
            contact.user_made,
        )  # fmt: skip
        self._met.pop(contact.id, None)

    async def add_identity(self, identity: Identity, aliases: Sequence[Alias]) -> None:
        await self._link.execute(
            "insert into identities (id, tenant_id, contact_id, kind, created_at, opted_out_at)"
            " values ($1, $2, $3, $4, $5, $6)",
            identity.id, identity.tenant, identity.contact_id, identity.kind, identity.created_at,
            identity.opted_out_at,
        )  # fmt: skip
        # In one order everywhere, so that two writers of the same addresses wait and do not lock each other out.
        for alias in sorted(set(aliases), key=lambda a: (a.kind, a.scope, a.lookup)):
            await self.put_alias(identity, alias)

    async def put_alias(self, identity: Identity, alias: Alias) -> None:
        taken = await self._link.fetchval(
            "insert into identity_aliases as a (tenant_id, kind, scope, lookup, identity_id, value, seen_at)"
            " values ($1, $2, $3, $4, $5, $6, clock_timestamp())"
            " on conflict (tenant_id, kind, scope, lookup)"
            " do update set value = excluded.value, seen_at = excluded.seen_at"
            " where a.identity_id = excluded.identity_id returning true",
            identity.tenant, alias.kind, alias.scope, clean(alias.lookup), identity.id, clean(alias.value),
        )  # fmt: skip
        if not taken:
            raise Conflict("the address belongs to another identity")

    async def identity_of_contact(self, contact_id: UUID, kind: str) -> Identity | None:
        row = await self._link.fetchrow(
            f"select {_IDENTITY} from identities i where i.contact_id = $1 and i.kind = $2"
            " order by i.created_at desc, i.id desc limit 1",
            contact_id, kind,
        )  # fmt: skip
        return _identity(row) if row else None

    async def identity(self, identity_id: UUID) -> Identity | None:
        row = await self._link.fetchrow(f"select {_IDENTITY} from identities i where i.id = $1", identity_id)
        return _identity(row) if row else None

    async def save_identity(self, identity: Identity) -> None:
        await self._link.execute(
            "update identities set contact_id = $2, opted_out_at = $3 where id = $1",
            identity.id, identity.contact_id, identity.opted_out_at,
        )  # fmt: skip

    async def reach(self, slug: str, identity_id: UUID) -> Reach:
        row = await self._link.fetchrow(
            "select (select max(o.opted_out_at) from identities o where o.contact_id = i.contact_id) as opted_out_at,"
            " (select max(c.heard_at) from conversations c where c.channel = $1 and c.identity_id = i.id) as heard_at"
            " from identities i where i.id = $2",
            slug, identity_id,
        )  # fmt: skip
        return Reach(row["heard_at"], row["opted_out_at"]) if row else Reach()

    async def map_rocketchat_user(self, rc_user_id: str, user_id: UUID, canal: str) -> None:
        await self._link.execute(
            "insert into tb_rocketchat_user_mapping as m (rc_user_id, id_user, ds_canal, dt_ultima_sync)"
            " values ($1, $2, $3, now()) on conflict (rc_user_id) do update"
            " set dt_ultima_sync = excluded.dt_ultima_sync, id_user = coalesce(m.id_user, excluded.id_user)",
            rc_user_id, user_id, canal,
        )  # fmt: skip

    async def user_of_rocketchat(self, rc_user_id: str) -> UUID | None:
        found: UUID | None = await self._link.fetchval(
            "select id_user from tb_rocketchat_user_mapping where rc_user_id = $1", rc_user_id
        )
        return found
