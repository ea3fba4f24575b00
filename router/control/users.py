"""The clinic tells us one of its users: the contact, the ways to reach them, and their user in Rocket.Chat."""

import contextlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from router.control import audit
from router.control.desk import Desk
from router.domain.channel import Channel
from router.domain.conversation import Contact, Identity
from router.domain.errors import Rejected
from router.domain.message import Alias
from router.domain.phone import digits
from router.domain.ports import NOT_THEIRS, Refusal, Tx
from router.identity import Resolver
from router.storage.queries import users

EMAIL: Final = "email"
"""The kind of an identity that is an e-mail address, and of its alias."""
PHONE: Final = "whatsapp"
"""A phone is known as an address of this kind."""
EMAIL_LENGTH: Final = 254

_MARK: Final = 12  # hex digits
_USERNAME: Final = re.compile(r"[^0-9a-z._-]+")


@dataclass(frozen=True, slots=True)
class Told:
    """What the clinic says of its user; None says nothing."""

    name: str | None = None
    phone: str | None = None
    email: str | None = None


class _WroteFirst(Exception):
    """The address is a contact's whose user we made ourselves: it is the clinic's to name."""

    def __init__(self, contact_id: UUID) -> None:
        super().__init__("the contact's user is ours")
        self.contact_id = contact_id


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to reach somebody: the channel it is looked up on and its addresses."""

    channel: Channel
    aliases: tuple[Alias, ...]


async def put(
    desk: Desk, user_id: UUID, told: Told, *, tenant: str, by: str, vouched: bool = False
) -> dict[str, Any]:
    """{id_user, contact_id, rocketchat: {state, rc_user_id?, code?, detail?}}; said twice, it is done once.

    `state`: mapped, not_configured, or refused, which is no failure of the rest. The clinic's own row of the user is
    never changed. A contact that wrote before the clinic told of it has a user we made: it gets the clinic's id.

    A user that Rocket.Chat has already is taken only where the router serves no other tenant, or when the caller, who
    may speak for all of them, has `vouched`: an e-mail alone does not say whose patient it is. Raises Rejected:
    invalid_phone, invalid_email, unknown_channel, not_mapped (422), identity_taken (409).
    """
    ways = _ways(desk, told, tenant)

    async def work(tx: Tx) -> Contact:
        return await _contact(desk, tx, user_id, told, tenant, ways)

    try:
        contact = await desk.store.transact(work, tenant=tenant)
    except _WroteFirst as first:
        await _adopt(desk, first.contact_id, user_id, told, by, tenant)
        contact = await desk.store.transact(work, tenant=tenant)
    rc_user_id = await desk.store.transact(lambda tx: users.rocketchat_user(tx, user_id, tenant))
    given = sorted(name for name in ("name", "phone", "email") if getattr(told, name) is not None)
    await _record(desk, "user.put", user_id, by, tenant, {"contact_id": str(contact.id), "given": given})
    state = {"state": "mapped", "rc_user_id": rc_user_id} if rc_user_id else None
    return {
        "id_user": str(user_id),
        "contact_id": str(contact.id),
        "rocketchat": state or await _mapped(desk, user_id, _named(told, contact), by, tenant, vouched),
    }


def _named(told: Told, contact: Contact) -> Told:
    """With the contact's name where the clinic gives none now."""
    return told if told.name else replace(told, name=contact.name)


# addresses -------------------------------------------------------------------------------------------------


def _ways(desk: Desk, told: Told, tenant: str) -> list[_Way]:
    ways = []
    if told.phone is not None:
        channel = next(
            (one for one in desk.channels.values() if (one.tenant, one.kind) == (tenant, PHONE)), None
        )
        if channel is None:
            raise Rejected(
                "unknown_channel", "this tenant has no whatsapp channel: a phone is known by nothing else"
            )
        ways.append(_Way(channel, _phone(desk, channel, told.phone)))
    if told.email is not None:
        address = _email(told.email)
        alias = Alias(EMAIL, tenant, address.lower(), address)
        ways.append(_Way(Channel(EMAIL, EMAIL, tenant), (alias,)))
    return ways


def _phone(desk: Desk, channel: Channel, phone: str) -> tuple[Alias, ...]:
    with contextlib.suppress(Rejected):
        if bare := digits(phone):
            return desk.kinds[PHONE].addresses(channel, bare)
    raise Rejected("invalid_phone", "phone is a number with its country code")


def _email(email: str) -> str:
    address = email.strip()
    whole = address.count("@") == 1 and all(address.split("@")) and address.isprintable()
    if not whole or " " in address or len(address) > EMAIL_LENGTH:
        raise Rejected("invalid_email", "email is one address")
    return address


# the contact -----------------------------------------------------------------------------------------------


async def _contact(
    desk: Desk, tx: Tx, user_id: UUID, told: Told, tenant: str, ways: Sequence[_Way]
) -> Contact:
    await users.lock_user(tx, tenant, user_id)
    await users.add_user(tx, user_id, told.name)
    contact = await _known(tx, user_id, tenant, ways)
    if contact is None:
        contact = await _made(desk, tx, user_id, told, tenant, ways)
    else:
        contact = await _saved(tx, contact, user_id, told)
    for way in ways:
        if not await tx.identities(tenant, way.aliases):
            identity = Identity(desk.ids.new(), tenant, contact.id, way.channel.kind, await tx.now())
            await tx.add_identity(identity, way.aliases)
    return contact


async def _saved(tx: Tx, contact: Contact, user_id: UUID, told: Told) -> Contact:
    """The id is the clinic's from now on, also where we made it: it was told to us."""
    named = replace(contact, user_id=user_id, user_made=False, name=told.name or contact.name)
    if named != contact:
        await tx.save_contact(named)
    return named


async def _known(tx: Tx, user_id: UUID, tenant: str, ways: Sequence[_Way]) -> Contact | None:
    """By the user, else by an address. Raises Rejected identity_taken when they are not one person, and _WroteFirst."""
    by_user = await tx.contact_by_user(tenant, user_id)
    found = await tx.identities(tenant, [alias for way in ways for alias in way.aliases])
    owners = {identity.contact_id for _, identity in found} | ({by_user.id} if by_user else set())
    if len(owners) > 1:
        raise Rejected("identity_taken", "phone, email and id_user belong to different contacts", 409)
    if by_user is not None or not owners:
        return by_user
    contact = await tx.contact(owners.pop())
    if contact is not None and contact.user_id not in {None, user_id}:
        if contact.user_made:
            raise _WroteFirst(contact.id)
        raise Rejected("identity_taken", f"phone or email belong to the user {contact.user_id}", 409)
    return contact


async def _adopt(desk: Desk, contact_id: UUID, user_id: UUID, told: Told, by: str, tenant: str) -> None:
    """The contact's user becomes the clinic's, in one transaction with its audit row: the engine's, for it asks whether
    a contact of any tenant has the user we made. Nothing is done when somebody else was first."""

    async def work(tx: Tx) -> None:
        contact = await tx.contact(contact_id)
        made = contact.user_id if contact is not None and contact.user_made else None
        if made is None or made == user_id:
            return
        for one in sorted((user_id, made)):
            await users.lock_user(tx, tenant, one)
        contact = await tx.contact(contact_id)  # as it is now that nobody else may change its user
        if contact is None or (contact.user_id, contact.user_made) != (made, True):
            return
        await users.add_user(tx, user_id, told.name or contact.name)
        await _saved(tx, contact, user_id, told)
        await users.map_again(tx, made, user_id, tenant)
        dropped = await users.drop_user(tx, made, contact.name)
        detail = {"contact_id": str(contact.id), "instead_of": str(made), "dropped": dropped}
        await audit.record(
            desk, tx, act="user.adopt", subject=str(user_id), by=by, tenant=tenant, detail=detail
        )

    await desk.store.transact(work)


async def _made(desk: Desk, tx: Tx, user_id: UUID, told: Told, tenant: str, ways: Sequence[_Way]) -> Contact:
    resolver, now = Resolver(desk.ids, desk.secrets.cohort), await tx.now()
    if not ways:
        nowhere = resolver.cohort(Alias("user", tenant, str(user_id), str(user_id)))
        contact = Contact(desk.ids.new(), tenant, nowhere, now, name=told.name, user_id=user_id)
        return await tx.add_contact(contact, users.ORIGIN)
    person = await resolver.resolve(
        tx,
        ways[0].channel,
        ways[0].aliases,
        name=told.name,
        said_at=now,
        origin=users.ORIGIN,
        user_id=user_id,
    )
    if person is None:
        raise Rejected("not_mapped", "this address was erased", 422)
    return person.contact


# Rocket.Chat -----------------------------------------------------------------------------------------------


async def _mapped(
    desk: Desk, user_id: UUID, told: Told, by: str, tenant: str, vouched: bool
) -> dict[str, Any]:
    """The user there, made outside of any transaction, then mapped."""
    if desk.admin is None:
        return {"state": "not_configured"}
    if told.email is None:
        return _refused(Refusal("no_email", "a user of Rocket.Chat needs an e-mail: send one"))
    email = _email(told.email)
    alone = all(one.tenant == tenant for one in desk.channels.values())
    adopt = alone or vouched
    plain = username_of(email)
    username = plain if alone else f"{plain}-{_mark(desk, tenant, user_id, email)}"
    made = await desk.admin.create_user(name=told.name or plain, email=email, username=username, adopt=adopt)
    if isinstance(made, Refusal):
        return _refused(made)

    async def work(tx: Tx) -> bool:
        mapped = await users.map_rocketchat(tx, made, user_id, tenant, adopt=adopt)
        if mapped:
            detail = {"rc_user_id": made}
            await audit.record(
                desk, tx, act="user.map", subject=str(user_id), by=by, tenant=tenant, detail=detail
            )
        return mapped

    if not await desk.store.transact(work):
        return _refused(NOT_THEIRS)
    return {"state": "mapped", "rc_user_id": made}


def _mark(desk: Desk, tenant: str, user_id: UUID, email: str) -> str:
    """What shows in a user name that we gave it, and to whom: nobody else can make it up."""
    return desk.pseudonym(f"{tenant}\x1f{user_id}\x1f{email.lower()}")[:_MARK]


def _refused(why: Refusal) -> dict[str, Any]:
    return {"state": "refused", "code": why.code, "detail": why.detail}


def username_of(email: str) -> str:
    """What Rocket.Chat takes as a user name, always the same for an e-mail: letters, digits, dots, hyphens, underscores."""
    local = unicodedata.normalize("NFKD", email.partition("@")[0]).lower()
    return _USERNAME.sub("", local).strip("._-") or "paciente"


async def _record(desk: Desk, act: str, user_id: UUID, by: str, tenant: str, detail: dict[str, Any]) -> None:
    """The audit chain is the engine's: its row follows the tenant's transaction, and precedes what Rocket.Chat is
    asked. An act that was cut off in between is repeated by its caller, and recorded then."""

    async def work(tx: Tx) -> None:
        await audit.record(desk, tx, act=act, subject=str(user_id), by=by, tenant=tenant, detail=detail)

    await desk.store.transact(work)
