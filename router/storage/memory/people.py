"""Contacts, identities, conversations, rooms."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from router.domain.conversation import Contact, Conversation, Decision, Identity, Reach, Room
from router.domain.errors import Conflict
from router.domain.message import Alias
from router.storage.memory.base import Base


# ruff: noqa: ARG002 - the signatures are the port's; what only PostgreSQL needs is not used here
class People(Base):
    """The people and conversation part of Tx."""

    async def erased_at(self, tenant: str, aliases: Sequence[Alias]) -> datetime | None:
        found = [self._t.tombstones.get(_alias_key(tenant, alias)) for alias in aliases]
        return max((at for at in found if at is not None), default=None)

    async def bury(self, tenant: str, aliases: Sequence[Alias], at: datetime) -> None:
        for alias in aliases:
            key = _alias_key(tenant, alias)
            self._set(self._t.tombstones, key, max(at, self._t.tombstones.get(key, at)))

    async def identities(self, tenant: str, aliases: Sequence[Alias]) -> Sequence[tuple[Alias, Identity]]:
        found = []
        for alias in aliases:
            row = self._t.aliases.get(_alias_key(tenant, alias))
            if row is not None:
                found.append((row[1], self._t.identities[row[0]]))
        return found

    async def aliases(self, identity_id: UUID) -> Sequence[Alias]:
        rows = [row for row in self._t.aliases.values() if row[0] == identity_id]
        return [alias for _, alias, _ in sorted(rows, key=lambda row: -row[2])]

    async def add_contact(self, contact: Contact, source: str) -> Contact:
        # PostgreSQL makes id_user; here the contact's own id serves, so that a seed replays.
        if contact.user_id is None:
            contact = replace(contact, user_id=contact.id, user_made=True)
        self._set(self._t.contacts, contact.id, contact)
        self._set(self._t.users, contact.user_id, source)
        return contact

    async def contact(self, contact_id: UUID) -> Contact | None:
        return self._t.contacts.get(contact_id)

    async def contact_by_user(self, tenant: str, user_id: UUID) -> Contact | None:
        rows = (row for row in self._t.contacts.values() if row.tenant == tenant and row.user_id == user_id)
        return next(rows, None)

    async def save_contact(self, contact: Contact) -> None:
        self._set(self._t.contacts, contact.id, contact)

    async def add_identity(self, identity: Identity, aliases: Sequence[Alias]) -> None:
        self._set(self._t.identities, identity.id, identity)
        for alias in aliases:
            await self.put_alias(identity, alias)

    async def put_alias(self, identity: Identity, alias: Alias) -> None:
        key = _alias_key(identity.tenant, alias)
        if self._t.aliases.get(key, (identity.id,))[0] != identity.id:
            raise Conflict
        self._set(self._t.aliases, key, (identity.id, alias, self._next_seq()))

    async def identity_of_contact(self, contact_id: UUID, kind: str) -> Identity | None:
        rows = [
            row for row in self._t.identities.values() if row.contact_id == contact_id and row.kind == kind
        ]
        return max(rows, key=lambda row: (row.created_at, row.id), default=None)

    async def identity(self, identity_id: UUID) -> Identity | None:
        return self._t.identities.get(identity_id)

    async def save_identity(self, identity: Identity) -> None:
        self._set(self._t.identities, identity.id, identity)

    async def reach(self, slug: str, identity_id: UUID) -> Reach:
        identity = self._t.identities.get(identity_id)
        heard = [
            row.heard_at
            for row in self._t.conversations.values()
            if row.channel == slug and row.identity_id == identity_id and row.heard_at is not None
        ]
        opted_out = [
            row.opted_out_at
            for row in self._t.identities.values()
            if identity is not None and row.contact_id == identity.contact_id and row.opted_out_at is not None
        ]
        return Reach(max(heard, default=None), max(opted_out, default=None))

    async def map_rocketchat_user(self, rc_user_id: str, user_id: UUID, canal: str) -> None:
        if rc_user_id not in self._t.mapping:
            self._set(self._t.mapping, rc_user_id, user_id)

    async def user_of_rocketchat(self, rc_user_id: str) -> UUID | None:
        return self._t.mapping.get(rc_user_id)

    # conversations -----------------------------------------------------------------------------------------

    async def open_conversation(self, slug: str, identity_id: UUID) -> Conversation | None:
        found = self._t.open.get((slug, identity_id))
        return self._t.conversations[found] if found else None

    async def conversation_before(self, slug: str, identity_id: UUID, at: datetime) -> Conversation | None:
        rows = [
            row
            for row in self._t.conversations.values()
            if (row.channel, row.identity_id) == (slug, identity_id) and row.opened_at <= at
        ]
        return max(rows, key=lambda row: (row.opened_at, row.id), default=None)

    async def conversation(self, conversation_id: UUID, *, lock: bool = True) -> Conversation | None:
        return self._t.conversations.get(conversation_id)

    async def add_conversation(self, conversation: Conversation) -> None:
        key = (conversation.channel, conversation.identity_id)
        if key in self._t.open:
            raise Conflict
        self._set(self._t.open, key, conversation.id)
        self._set(self._t.conversations, conversation.id, conversation)

    async def save_conversation(self, conversation: Conversation) -> None:
        self._set(self._t.conversations, conversation.id, conversation)
        if not conversation.open:
            key = (conversation.channel, conversation.identity_id)
            if self._t.open.get(key) == conversation.id:
                self._drop(self._t.open, key)

    async def idle_conversations(self, slug: str, before: datetime, limit: int) -> Sequence[UUID]:
        rows = (self._t.conversations[row] for (channel, _), row in self._t.open.items() if channel == slug)
        return [row.id for row in rows if row.last_at < before][:limit]

    async def add_decision(self, decision: Decision) -> None:
        rows = self._t.decisions.get(decision.conversation_id, ())
        self._set(self._t.decisions, decision.conversation_id, (*rows, decision))

    async def flag_floor(self, kind: str) -> int:
        return self._t.floors.get(kind, 0)

    async def room(self, room_id: str) -> Room | None:
        return self._t.rooms.get(room_id)

    async def save_room(self, room: Room) -> None:
        self._set(self._t.rooms, room.id, room)


def _alias_key(tenant: str, alias: Alias) -> tuple[str, str, str, str]:
    return tenant, *alias.key
