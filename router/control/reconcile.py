"""Rocket.Chat's history beside ours, when a person asks for it: the same sweep that workers run by themselves."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from router.control.desk import Desk
from router.domain.errors import Rejected


async def reconcile(desk: Desk, since: datetime | None) -> dict[str, Any]:
    """{rooms, messages, added, unplaced, unread, ended, reason, complete}: how many rooms and messages were read, how
    many of them had been lost. Raises Rejected no_rocketchat."""
    if desk.sweep is None:
        raise Rejected(
            "no_rocketchat",
            "Rocket.Chat's history cannot be read: set user_id and auth_token in [rocketchat]",
            409,
        )
    found = await desk.sweep.run(since)
    return asdict(found) | {"complete": found.complete}
