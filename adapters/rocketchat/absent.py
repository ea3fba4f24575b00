"""What stands in Rocket.Chat's place while the settings name none: every request is refused, by name."""

from collections.abc import Sequence
from datetime import datetime

from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Outbound, Permit, RoomInfo, RoomMessage

_REFUSED = Result(Outcome.PERMANENT, code="rocketchat_not_configured", asked=False)
_LATER = Result(Outcome.RETRY, code="rocketchat_not_configured", retry_after=60.0, asked=False)


class Absent:
    """RocketChat and Sender without a Rocket.Chat: the mend is the section [rocketchat] of the settings."""

    idempotent = True

    async def send(self, permit: Permit, outbound: Outbound) -> Result:  # noqa: ARG002 - the port's signature
        """Refused."""
        return _REFUSED

    async def mark(self, channel: Channel, external_id: str, *, typing: bool) -> Result:  # noqa: ARG002 - the port's
        """Refused."""
        return _REFUSED

    async def room_info(self, room_id: str) -> tuple[Result, RoomInfo | None]:  # noqa: ARG002 - the port's signature
        """It may be configured yet: the room's events wait, unplaced."""
        return _LATER, None

    async def close_room(self, room_id: str, note: str) -> Result:  # noqa: ARG002 - the port's signature
        """Refused."""
        return _REFUSED

    async def rooms(
        self,
        since: datetime | None,  # noqa: ARG002 - the port's signature
        offset: int,  # noqa: ARG002 - the port's signature
    ) -> tuple[Result, Sequence[RoomInfo], int | None]:
        """It may be configured yet."""
        return _LATER, (), None

    async def history(
        self,
        room: RoomInfo,  # noqa: ARG002 - the port's signature
        since: datetime | None,  # noqa: ARG002 - the port's signature
    ) -> tuple[Result, Sequence[RoomMessage]]:
        """It may be configured yet."""
        return _LATER, ()
