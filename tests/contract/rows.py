"""Rows for the store's tests, made by the shortest call that is right."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Contact, Conversation, Identity
from router.domain.job import Event, Job, JobKind
from router.domain.media import Media, Origin
from router.domain.message import Alias, Author, Content, Direction, Message, Status
from router.domain.ports import Tx

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLUG = "whatsapp"
CHANNELS = [Channel(SLUG, "whatsapp", "sol"), Channel("sms", "sms", "lua")]


def event(body: bytes = b"{}", **fields: Any) -> Event:
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "tenant": "sol",
        "channel": SLUG,
        "received_at": AT,
        "digest": hashlib.sha256(body).digest(),
        "method": "POST",
        "raw_path": b"",
        "query": b"",
        "headers": ((b"Content-Type", b"application/json"),),
        "body": body,
    }
    return Event(**{**values, **fields})


def alias(lookup: str = "5511999990000", **fields: Any) -> Alias:
    return Alias(**{"kind": "wa_id", "scope": "sol", "lookup": lookup, "value": lookup, **fields})


def contact(**fields: Any) -> Contact:
    return Contact(**{"id": uuid.uuid4(), "tenant": "sol", "cohort": "c0", "created_at": AT, **fields})


def identity(owner: Contact, **fields: Any) -> Identity:
    values = {"id": uuid.uuid4(), "tenant": owner.tenant, "contact_id": owner.id, "kind": "whatsapp"}
    return Identity(**{**values, "created_at": AT, **fields})


def conversation(person: Identity, **fields: Any) -> Conversation:
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "tenant": person.tenant,
        "channel": SLUG,
        "kind": "whatsapp",
        "identity_id": person.id,
        "contact_id": person.contact_id,
        "path": Path.NATIVE,
        "pin_version": 1,
        "opened_at": AT,
        "last_at": AT,
    }
    return Conversation(**{**values, **fields})


def message(conversation_id: uuid.UUID | None = None, **fields: Any) -> Message:
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "tenant": "sol",
        "channel": SLUG,
        "kind": "whatsapp",
        "conversation_id": conversation_id or uuid.uuid4(),
        "direction": Direction.INBOUND,
        "author": Author.CONTACT,
        "content": Content("text", "bom dia", {"body": "bom dia"}),
        "status": Status.RECEIVED,
        "path": Path.NATIVE,
        "created_at": AT,
        "sent_at": AT,
        "metadata": {"a": [1, None]},
    }
    return Message(**{**values, **fields})


def media(**fields: Any) -> Media:
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "tenant": "sol",
        "channel": SLUG,
        "origin": Origin.PROVIDER,
        "ref": "1013859600285441",
        "created_at": AT,
    }
    return Media(**{**values, **fields})


def job(*lanes: str, due: datetime = AT - timedelta(days=365), **fields: Any) -> Job:
    """Due long ago, by any clock."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "tenant": "sol",
        "channel": SLUG,
        "kind": JobKind.SEND,
        "lanes": lanes,
        "gate": "native:whatsapp",
        "created_at": AT,
        "due_at": due,
    }
    return Job(**{**values, **fields})


async def person(tx: Tx, *aliases: Alias, tenant: str = "sol") -> Identity:
    """A contact with one identity."""
    owner = await tx.add_contact(contact(tenant=tenant), "whatsapp")
    made = identity(owner)
    await tx.add_identity(made, aliases)
    return made
