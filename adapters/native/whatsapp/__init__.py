"""WhatsApp, hosted by Meta (Cloud API) or by 360dialog: webhooks, addresses, limits, sends."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import httpx

from adapters.native import graph
from adapters.native.whatsapp import dialog360
from adapters.native.whatsapp.check import check
from adapters.native.whatsapp.content import RECEIVES, content
from adapters.native.whatsapp.parse import DIGITS, SCOPED_ID, alias_of, narrow, numbers, only_statuses, parse
from adapters.native.whatsapp.render import SENDS, TEXT_LENGTH, render
from adapters.native.whatsapp.sender import WhatsAppSender, endpoint
from router.domain.channel import Channel
from router.domain.errors import Rejected
from router.domain.message import Alias, Content
from router.domain.ports import Parsed, Rules

__all__ = [
    "CAPABILITIES",
    "TEXT_LENGTH",
    "WhatsApp",
    "WhatsAppSender",
    "check",
    "content",
    "endpoint",
    "render",
    "sender",
]

_WINDOW_HOURS = 24
_PER_SECOND, _PAIR_SECONDS, _PAIR_BURST = 80.0, 6.0, 45
_MEDIA_DAYS, _UPLOAD_DAYS = 7.0, 29.0  # Meta keeps an upload 30 days; one less, so that none dies on the way

CAPABILITIES: Mapping[str, Any] = {
    "receives": RECEIVES,
    "sends": SENDS,
    "statuses": ("sent", "delivered", "read", "failed"),
    "echoes": True,
    "divides": True,
    "marks": True,
    "signature": "X-Hub-Signature-256",
    "addresses": ("wa_id", "bsuid"),
    "text_length": TEXT_LENGTH,
    "window_hours": _WINDOW_HOURS,
    "idempotent": False,
    "settings": (
        "provider", "base_url", "phone_number_id", "access_token", "app_secret", "verify_token", "portfolio",
        "api_key", "webhook_token", "app_id", "waba_id", "throughput", "pair_seconds", "pair_burst",
        "previous_app_secret", "previous_webhook_token", "previous_phone_number_id", "restore_verify_token",
    ),
    "required": {
        "cloud": ("phone_number_id", "access_token", "app_secret", "verify_token"),
        dialog360.NAME: ("api_key | access_token", "app_secret | webhook_token"),
    },
    "numbers": ("throughput", "pair_seconds", "pair_burst"),
    "providers": ("cloud", dialog360.NAME),
}  # fmt: skip
"""What this adapter can do, as data for docs/reference/channels.md. `required`: by provider, the first is the default."""


class WhatsApp:
    """Implements `router.domain.ports.Kind`."""

    name = "whatsapp"

    def rules(self, channel: Channel) -> Rules:
        """The rates are settings: Meta gives some numbers more and those shared with a phone less."""
        return Rules(
            sends=frozenset(SENDS),
            text_limit=TEXT_LENGTH,
            window_hours=_WINDOW_HOURS,
            per_second=_positive(channel, "throughput", _PER_SECOND),
            pair_seconds=_positive(channel, "pair_seconds", _PAIR_SECONDS),
            pair_burst=max(int(_positive(channel, "pair_burst", _PAIR_BURST)), 1),
            media_days=_MEDIA_DAYS,
            upload_days=_UPLOAD_DAYS,
        )

    def check(self, channel: Channel, content: Content) -> None:  # noqa: ARG002 - the same for every number
        check(content)

    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        return graph.handshake(channel, query)

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Meta's signature; for a number at 360dialog also 360dialog's, or the header set along with its webhook. What
        an earlier provider still sends may be signed with `previous_app_secret`, in either way, or come along with
        `previous_webhook_token`."""
        if graph.verify(channel, headers, body) or _by_dialog360(channel, headers, body):
            return True
        return _by_previous(channel, headers, body)

    def parse(self, channel: Channel, body: bytes) -> Parsed:
        return parse(channel, body)

    def divide(self, body: bytes, keep: Collection[str]) -> bytes:
        return graph.divide(body, keep, narrow)

    def resign(
        self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[tuple[bytes, bytes], ...]:
        """Each signature made anew, as it was written, with the secret its sender has; unchanged without one."""
        secret = _secret(channel, body)
        if secret is None:
            return tuple(headers)
        return dialog360.resign(graph.resign(channel, headers, body, secret=secret), body, secret)

    def addresses(self, channel: Channel, to: str) -> tuple[Alias, ...]:
        given = to.strip()
        number = DIGITS.fullmatch(given)
        if not number and not SCOPED_ID.fullmatch(given):
            raise Rejected("invalid_recipient", "`to` is neither a phone number nor a WhatsApp user id")
        if not number and not channel.native.get("portfolio"):
            # Ids received are kept under the WABA their event names; guessed, the scope would make a second person.
            raise Rejected(
                "invalid_recipient", "a WhatsApp user id needs the channel's `portfolio` to be set"
            )
        return (alias_of(channel, "", number[1] if number else given),)


def sender(client: httpx.AsyncClient, monotonic: Callable[[], float]) -> WhatsAppSender:
    """The way out, to the channel's provider."""
    return WhatsAppSender(client, monotonic, render, endpoint)


def _by_dialog360(channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    if not dialog360.serves(channel):
        return False
    secret = channel.native.get("app_secret")
    if secret and dialog360.verify(headers, body, secret):
        return True
    return dialog360.token(headers, channel.native.get("webhook_token"))


def _by_previous(channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Whoever we left may speak of the number it had, in every part of what it says: its secret signs for all that
    share its app. The token was of that number alone, so it also serves for flat statuses, which name no number: they
    find a message of ours by its id, or nothing."""
    secret, token = channel.native.get("previous_app_secret"), channel.native.get("previous_webhook_token")
    known = dialog360.token(headers, token)
    if not known and not (secret and _signed(channel, headers, body, secret)):
        return False
    ours = {channel.address, channel.native.get("previous_phone_number_id")} - {None, ""}
    named = numbers(body)
    return (bool(named) and named <= ours) or (known and named == {None} and only_statuses(body))


def _signed(channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes, secret: str) -> bool:
    """In Meta's way or in 360dialog's."""
    return graph.verify(channel, headers, body, secret=secret) or dialog360.verify(headers, body, secret)


def _secret(channel: Channel, body: bytes) -> str | None:
    """Whoever knows the number by its earlier id signs with the earlier secret."""
    own, previous = channel.native.get("app_secret"), channel.native.get("previous_app_secret")
    moved = channel.native.get("previous_phone_number_id")
    if previous and moved and moved in numbers(body):
        return previous
    return own or previous or None


def _positive(channel: Channel, key: str, default: float) -> float:
    """A setting as a number; the default for what is none, or not above zero."""
    try:
        found = float(channel.native.get(key) or default)
    except ValueError:
        return default
    return found if math.isfinite(found) and found > 0 else default
