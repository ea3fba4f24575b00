"""What the parts of the heart need of each other: they import no sibling, they are handed one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from router.domain.channel import Channel
from router.domain.conversation import Contact, Conversation, Decision, Identity
from router.domain.job import Job
from router.domain.ports.edges import RoomInfo
from router.domain.ports.process import Fact
from router.domain.ports.store import Tx


class Pins(Protocol):
    """What ingest needs of the facade."""

    async def refresh(self) -> None:
        """Load newer flags."""
        ...

    async def open(
        self, tx: Tx, channel: Channel, contact: Contact, identity: Identity, *, in_rocketchat: bool = False,
        first_contact: bool = False,
    ) -> tuple[Conversation, Decision]:  # fmt: skip
        """Open and pin; `in_rocketchat`: it lives there already, nothing is decided; `first_contact`: we write first, on
        a channel that does so natively."""
        ...

    async def close(self, tx: Tx, conversation: Conversation, by: str) -> Conversation:
        """End the pin."""
        ...

    async def close_room(self, tx: Tx, conversation: Conversation, now: datetime) -> None:
        """Ask Rocket.Chat to close `conversation.room_id`."""
        ...

    async def take_send(self, tx: Tx, job: Job, moved: Conversation) -> None:
        """Let a send that has not started follow its conversation."""
        ...


class RoomIngest(Protocol):
    """What delivery needs of ingest: apply the webhook event that waited for its room."""

    async def placed(self, tx: Tx, job: Job, info: RoomInfo | None) -> Sequence[Fact] | None:
        """Learn the room (when `info` is given) and apply; None: its source is not mapped, it waits on."""
        ...
