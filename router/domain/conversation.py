"""Contacts, identities, conversations and what happened to their pins."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flags.stage import Path, Stage


@dataclass(frozen=True, slots=True)
class Contact:
    """A person outside. `cohort` is the keyed digest of the first canonical address: the flag's stickiness."""

    id: UUID
    tenant: str
    cohort: str
    created_at: datetime
    name: str | None = None
    contact_class: str = "patient"  # staff | test | patient
    user_id: UUID | None = None  # tb_users.id_user
    user_made: bool = False  # the store made that row itself: nobody at the clinic gave this id


@dataclass(frozen=True, slots=True)
class Identity:
    """One way to reach a contact on one kind; its aliases are the spellings and ids of that way."""

    id: UUID
    tenant: str
    contact_id: UUID
    kind: str
    created_at: datetime
    opted_out_at: datetime | None = None  # asked to be written to no more


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread with one identity on one channel. `path` and `pin_version` are the pin."""

    id: UUID
    tenant: str
    channel: str
    kind: str
    identity_id: UUID
    contact_id: UUID
    path: Path
    pin_version: int
    opened_at: datetime
    last_at: datetime
    closed_at: datetime | None = None
    closed_by: str | None = None  # agent | assistant | rocketchat | idle | api
    room_id: str | None = None
    heard_at: datetime | None = None  # when the contact last said something here, by the provider's clock
    read_at: datetime | None = None  # when an attendant last read it
    pinned_at: datetime | None = None  # when the pin it has now was made; None: when it opened

    @property
    def open(self) -> bool:
        """Open until closed by an agent, the assistant, Rocket.Chat or idleness."""
        return self.closed_at is None


@dataclass(frozen=True, slots=True)
class Decision:
    """One row each time a pin is made or moved."""

    id: UUID
    tenant: str
    conversation_id: UUID
    path: Path
    stage: Stage
    rule: str
    revision: int
    reason: str
    pin_version: int
    at: datetime
    guard: str | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """A Rocket.Chat livechat room, placed: which channel it belongs to, and which conversation."""

    id: str
    tenant: str
    channel: str
    conversation_id: UUID | None
    learned_at: datetime
    spoke_at: datetime | None = None  # the newest message known of it


@dataclass(frozen=True, slots=True)
class Reach:
    """What an identity allows on a channel. `heard_at`: when it last wrote to that channel, in any conversation; None:
    not known to have written."""

    heard_at: datetime | None = None
    opted_out_at: datetime | None = None
