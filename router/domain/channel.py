"""A channel: one customer-facing address of one tenant, with its settings, as the heart sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

RESERVED = "rocketchat"
"""The slug under which Rocket.Chat's own webhook is stored; no channel may take it."""

EVERY_TENANT = "*"
"""The tenant of what belongs to no single one: Rocket.Chat's webhook events before they are placed."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Settings of one channel (interfaces.md, `[channels.<slug>]`). Secrets in `native` never reach a repr."""

    slug: str
    kind: str
    tenant: str
    native: Mapping[str, str] = field(default_factory=dict, repr=False)
    webhook_url: str | None = None
    on_rocketchat_down: str = "hold"  # hold | native
    first_contact: str = "pin"  # pin | native
    idle_hours: float = 24.0

    @property
    def address(self) -> str | None:
        """The provider's id of this address (phone_number_id, page_id); None takes every event."""
        return self.native.get("phone_number_id") or self.native.get("page_id") or None

    @property
    def can_divide(self) -> bool:
        """A divided body must be signed again, which needs the secret; beside a plain token there is nothing to sign."""
        return bool(self.native.get("app_secret") or self.native.get("webhook_token"))


def named(channels: Mapping[str, Channel], name: str) -> Channel | None:
    """The channel of that slug, else the only one of that kind; None when there is none, or more than one."""
    if name in channels:
        return channels[name]
    of_kind = [channel for channel in channels.values() if channel.kind == name]
    return of_kind[0] if len(of_kind) == 1 else None
