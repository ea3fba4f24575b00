"""Which channel a livechat room belongs to, also where no channel is left that could say so."""

from collections.abc import Mapping

from router.domain.channel import EVERY_TENANT, Channel
from router.domain.ports import RoomInfo, RoomWebhook

_KINDS = {"sms": "sms", "email": "email", "facebook": "messenger", "widget": "webchat", "api": "webchat"}
_APPS = {"app", "other"}


class Places:
    """The channel by the settings; else, for what Rocket.Chat itself had as one channel (widget, e-mail, SMS), a channel of
    history alone. Marketplace apps share a source type, so theirs is known from the settings or not at all."""

    def __init__(self, webhook: RoomWebhook, channels: Mapping[str, Channel]) -> None:
        self._webhook = webhook
        self._channels = channels
        tenants = {channel.tenant for channel in channels.values()}
        self._tenant = tenants.pop() if len(tenants) == 1 else EVERY_TENANT

    def of(self, info: RoomInfo) -> Channel | None:
        """None: an app's room, and `[rocketchat] sources` does not name the app."""
        slug = self._webhook.place(info)
        if slug is not None:
            return self._channels.get(slug)
        if info.source_type in _APPS:
            return None
        return self._history(_KINDS.get(info.source_type or "widget", "webchat"))

    def named(self, slug: str) -> Channel | None:
        """A channel by its slug, one of history alone too."""
        found = self._channels.get(slug)
        if found is None and slug.startswith(_PREFIX):
            return self._history(slug.removeprefix(_PREFIX))
        return found

    @staticmethod
    def alone(slug: str) -> bool:
        """Whether this is a channel of history alone: nobody looks after it, nobody can write to it."""
        return slug.startswith(_PREFIX)

    def _history(self, kind: str) -> Channel:
        return Channel(f"{_PREFIX}{kind}", kind, self._tenant)


_PREFIX = "history-"
