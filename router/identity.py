"""Who is speaking: the one resolver of live traffic and import.

An identity is one way to reach a person on one kind; its aliases are the spellings and ids of that way (a number with
and without the ninth digit, a BSUID beside a phone). Equal look-up keys are the same identity; nothing else joins two.
Tombstones are asked here and nowhere else: what an erased person said before the erasure is not taken in again, and
what they say afterwards starts a new life.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from router.domain.channel import Channel
from router.domain.conversation import Contact, Identity
from router.domain.ids import Ids
from router.domain.message import Alias
from router.domain.ports import Tx

DS_ORIGEM = {"messenger": "facebook"}
"""`tb_users.ds_origem` writes messenger as facebook."""


@dataclass(frozen=True, slots=True)
class Person:
    """What the resolver found or made. `split` = the addresses belonged to two identities: a merge to suggest."""

    contact: Contact
    identity: Identity
    new: bool = False
    split: bool = False


class Resolver:
    """Finds or makes the identity behind a set of addresses. `cohort_key` keys the flag's stickiness."""

    def __init__(self, ids: Ids, cohort_key: bytes) -> None:
        self._ids = ids
        self._cohort_key = cohort_key

    def cohort(self, alias: Alias) -> str:
        """The stickiness of a contact first met at this address: a keyed digest, so no address leaves the router."""
        basis = f"{alias.kind}\x00{alias.scope}\x00{alias.lookup}".encode("utf-8", "surrogatepass")
        return hmac.new(self._cohort_key, basis, hashlib.sha256).hexdigest()[:32]

    async def resolve(
        self,
        tx: Tx,
        channel: Channel,
        aliases: Sequence[Alias],
        *,
        name: str | None,
        said_at: datetime,
        origin: str,
        user_id: UUID | None = None,
        by_provider: bool = False,
    ) -> Person | None:
        """The person behind the addresses, made when unknown; None when they were erased after `said_at`.

        `origin` is the path, for `ds_origem`: rocketchat_<canal> or <canal>. `user_id`: the clinic's user a new
        contact belongs to, when the mapping of Rocket.Chat's users knows one; else a user is made. Only the provider
        (`by_provider`) may change how a known address is spelled: that spelling is what is sent to.
        """
        erased_at = await tx.erased_at(channel.tenant, aliases)
        if erased_at is not None and said_at <= erased_at:
            return None
        found = await tx.identities(channel.tenant, aliases)
        if not found:
            return await self._make(
                tx,
                channel,
                aliases,
                Contact(
                    self._ids.new(),
                    channel.tenant,
                    self.cohort(aliases[0]),
                    await tx.now(),
                    name=name,
                    user_id=user_id,
                ),
                origin,
            )
        identity = min((known for _, known in found), key=lambda known: (known.created_at, known.id))
        await self._learn(tx, identity, aliases, found, respell=by_provider)
        contact = await tx.contact(identity.contact_id)
        if contact is None:
            raise LookupError("an identity without its contact")
        split = any(known.id != identity.id for _, known in found)
        return Person(contact, identity, split=split)

    async def _learn(
        self, tx: Tx, identity: Identity, aliases: Sequence[Alias], found: Sequence[tuple[Alias, Identity]], *,
        respell: bool,
    ) -> None:  # fmt: skip
        stored = {alias.key: (alias.value, known.id) for alias, known in found}
        for alias in aliases:
            value, owner = stored.get(alias.key, (None, identity.id))
            if owner == identity.id and (value is None or (respell and value != alias.value)):
                await tx.put_alias(identity, alias)

    async def _make(
        self, tx: Tx, channel: Channel, aliases: Sequence[Alias], contact: Contact, origin: str
    ) -> Person:
        canal = DS_ORIGEM.get(channel.kind, channel.kind)
        contact = await tx.add_contact(contact, f"rocketchat_{canal}" if origin == "rocketchat" else canal)
        identity = Identity(self._ids.new(), channel.tenant, contact.id, channel.kind, contact.created_at)
        await tx.add_identity(identity, aliases)
        return Person(contact, identity, new=True)
