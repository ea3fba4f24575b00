"""People of many rooms at once: what the one resolver reads is read ahead, what it writes is written together.

The resolver asks and writes one address at a time, which for a history of many thousand visitors is a minute of waiting
for the network. Here the same code runs over what was read for all of them by three statements.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from router.domain.conversation import Contact, Identity
from router.domain.errors import Conflict
from router.domain.message import Alias
from router.storage.postgres.codec import clean, clean_or_none
from router.storage.postgres.people import NAME_LENGTH, NAMELESS
from router.storage.postgres.store import PostgresTx

Place = tuple[str, str, str, str]  # tenant, and the alias's kind, scope, lookup


class PeopleAhead(PostgresTx):
    """A transaction whose people are read ahead: `read`, then the resolver as often as needed, then `write`."""

    def __init__(self, tx: PostgresTx) -> None:
        super().__init__(tx._link, tx._tombstone_key)  # noqa: SLF001 - the same transaction
        self.at: datetime | None = None
        """When who is resolved next was first seen: what a new contact is dated by."""
        self.seen_at: datetime | None = None
        """When they were last there: what a new address is dated by, since the newest is the one written to."""
        self._erasures = False
        self._known: dict[Place, tuple[Alias, Identity]] = {}
        self._contacts: dict[UUID, Contact] = {}
        self._new: dict[UUID, tuple[Contact, str]] = {}
        self._identities: list[Identity] = []
        self._aliases: dict[Place, tuple[UUID, str, datetime]] = {}
        self._users: dict[str, UUID] = {}
        self._mapped: dict[str, tuple[UUID, str]] = {}

    async def read(
        self, addresses: Sequence[tuple[str, Sequence[Alias]]], rc_user_ids: Sequence[str]
    ) -> None:
        """Who is known of these, by tenant and address; which of Rocket.Chat's users are mapped."""
        self._erasures = await self.any_erased()
        by_tenant: dict[str, list[Alias]] = {}
        for tenant, aliases in addresses:
            by_tenant.setdefault(tenant, []).extend(aliases)
        for tenant, aliases in by_tenant.items():
            for alias, identity in await super().identities(tenant, aliases):
                self._known[(tenant, *alias.key)] = alias, identity
            self._contacts.update(self._met)
        rows = await self._link.fetch(
            "select rc_user_id, id_user from tb_rocketchat_user_mapping where rc_user_id = any($1::text[])"
            " and id_user is not null", list(rc_user_ids),
        )  # fmt: skip
        self._users = {row["rc_user_id"]: row["id_user"] for row in rows}

    async def now(self) -> datetime:
        return self.at or await super().now()

    async def erased_at(self, tenant: str, aliases: Sequence[Alias]) -> datetime | None:
        return await super().erased_at(tenant, aliases) if self._erasures else None

    async def identities(self, tenant: str, aliases: Sequence[Alias]) -> Sequence[tuple[Alias, Identity]]:
        found = (self._known.get((tenant, *alias.key)) for alias in aliases)
        return [one for one in found if one is not None]

    async def contact(self, contact_id: UUID) -> Contact | None:
        return self._contacts.get(contact_id)

    async def user_of_rocketchat(self, rc_user_id: str) -> UUID | None:
        return self._users.get(rc_user_id)

    async def map_rocketchat_user(self, rc_user_id: str, user_id: UUID, canal: str) -> None:
        self._mapped.setdefault(rc_user_id, (user_id, canal))
        self._users.setdefault(rc_user_id, user_id)

    async def add_contact(self, contact: Contact, source: str) -> Contact:
        if contact.user_id is None:
            contact = replace(contact, user_id=uuid4(), user_made=True)
        self._contacts[contact.id] = contact
        self._new[contact.id] = contact, source
        return contact

    async def add_identity(self, identity: Identity, aliases: Sequence[Alias]) -> None:
        self._identities.append(identity)
        for alias in aliases:
            await self.put_alias(identity, alias)

    async def put_alias(self, identity: Identity, alias: Alias) -> None:
        place = (identity.tenant, *alias.key)
        known = self._known.get(place)
        if known is not None and known[1].id != identity.id:
            raise Conflict("the address belongs to another identity")
        self._known[place] = alias, identity
        self._aliases[place] = identity.id, alias.value, self.seen_at or await super().now()

    def behind(self, tenant: str, aliases: Sequence[Alias]) -> list[UUID]:
        """The identities behind these, each once, in the addresses' order. Addresses that are new are dated anew."""
        places = [(tenant, *alias.key) for alias in aliases]
        for place in places:
            if place in self._aliases and self.seen_at is not None:
                identity_id, value, seen_at = self._aliases[place]
                self._aliases[place] = identity_id, value, max(seen_at, self.seen_at)
        return list(dict.fromkeys(self._known[place][1].id for place in places if place in self._known))

    async def write(self) -> None:
        """All that was made, in one order everywhere. Raises Conflict when another writer was first with an address."""
        await self._write_contacts()
        await self._link.executemany(
            "insert into identities (id, tenant_id, contact_id, kind, created_at) values ($1, $2, $3, $4, $5)",
            [(i.id, i.tenant, i.contact_id, i.kind, i.created_at) for i in self._identities],
        )
        rows = [
            (tenant, kind, scope, clean(lookup), identity_id, clean(value), seen_at)
            for (tenant, kind, scope, lookup), (identity_id, value, seen_at) in sorted(self._aliases.items())
        ]
        taken = await self._link.fetchval(
            "with put as (insert into identity_aliases as a (tenant_id, kind, scope, lookup, identity_id, value, seen_at)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[])"
            # Who was there first has it spelled as the provider does.
            " on conflict (tenant_id, kind, scope, lookup) do update set value = a.value"
            " where a.identity_id = excluded.identity_id returning 1) select count(*) from put",
            *([row[place] for row in rows] for place in range(7)),
        )  # fmt: skip
        if taken != len(rows):
            raise Conflict("the address belongs to another identity")
        await self._link.executemany(
            "insert into tb_rocketchat_user_mapping as m (rc_user_id, id_user, ds_canal, dt_ultima_sync)"
            " values ($1, $2, $3, now()) on conflict (rc_user_id) do update set"
            " id_user = coalesce(m.id_user, excluded.id_user), ds_canal = coalesce(m.ds_canal, excluded.ds_canal)"
            " where m.id_user is null or m.ds_canal is null",
            sorted((rc_user_id, user_id, canal) for rc_user_id, (user_id, canal) in self._mapped.items()),
        )

    async def _write_contacts(self) -> None:
        made = list(self._new.values())
        await self._link.executemany(
            "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario) values ($1, $2, $3, 'paciente')",
            [
                (c.user_id, clean(c.name or NAMELESS)[:NAME_LENGTH], source)
                for c, source in made
                if c.user_made
            ],
        )
        await self._link.executemany(
            "insert into contacts (id, tenant_id, cohort, created_at, name, contact_class, user_id, user_made)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                (
                    c.id,
                    c.tenant,
                    c.cohort,
                    c.created_at,
                    clean_or_none(c.name),
                    c.contact_class,
                    c.user_id,
                    c.user_made,
                )
                for c, _ in made
            ],
        )
