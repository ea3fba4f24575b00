"""Every kind at the door: what any setting that proves a sender is worth when the proof is missing."""

import json
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from adapters import KINDS
from router.api.webhooks import Accept
from router.domain.channel import Channel
from router.domain.job import Event
from router.domain.policy import Policy
from router.domain.ports import Store

PROVE_NOTHING = {
    "provider", "base_url", "phone_number_id", "portfolio", "app_id", "waba_id", "previous_phone_number_id",
    "throughput", "pair_seconds", "pair_burst",
    "access_token", "api_key",  # ours, shown to the provider
    "verify_token", "restore_verify_token",  # of the handshake alone
}  # fmt: skip
"""Whoever adds a setting that is not among these, adds one that proves who sends."""

UNSIGNED = json.dumps({"messages": [{"from": "5511999998888", "id": "wamid.1", "type": "text"}]}).encode()


def proofs() -> Iterator[tuple[str, str, str]]:
    """Kind, provider, setting."""
    for kind, adapter in KINDS.items():
        told = adapter.capabilities
        for provider in told["providers"]:
            required = {one for names in told["required"][provider] for one in names.split(" | ")}
            for name in sorted((required | set(told["settings"])) - PROVE_NOTHING):
                yield kind, provider, name


class Ports:
    """Clock, random and store in one."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def fraction(self) -> float:
        return 0.0

    async def accept(self, event: Event) -> bool:
        self.events.append(event)
        return True


async def no_key(_key: str, _body: bytes) -> bool:
    return False


async def posted(channel: Channel, *headers: tuple[bytes, bytes]) -> tuple[int, list[Event]]:
    ports, told = Ports(), []
    accept = Accept(
        store=cast(Store, ports),
        channels={channel.slug: channel},
        kinds={name: adapter.kind() for name, adapter in KINDS.items()},
        clock=ports,
        random=ports,
        rocketchat_authentic=lambda *_: False,
        authorize_key=no_key,
        policy=Policy(),
    )
    path = f"/webhooks/{channel.slug}"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": list(headers), "client": ("203.0.113.9", 4000), "scheme": "https",
    }  # fmt: skip

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": UNSIGNED, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message.get("status"))

    await accept(scope, receive, send)
    return cast(int, told[0]), ports.events


def channel_of(kind: str, provider: str, **native: str) -> Channel:
    """A number that Rocket.Chat's own app still verifies too, if it does."""
    return Channel(
        "numero", kind, "sol", {"provider": provider, **native}, webhook_url="https://chat.example/hook"
    )


@pytest.mark.parametrize(("kind", "provider", "setting"), list(proofs()))
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"x-figueira-token", b""),),
        ((b"x-figueira-token", b"errado"),),
        ((b"x-hub-signature-256", b"sha256=00"), (b"x-360dialog-signature", b"00")),
    ],
)
async def test_a_channel_that_can_tell_takes_nothing_unsigned(
    kind: str, provider: str, setting: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert await posted(channel_of(kind, provider, **{setting: "segredo"}), *headers) == (401, [])


@pytest.mark.parametrize(
    ("kind", "provider"), [(kind, one) for kind, a in KINDS.items() for one in a.capabilities["providers"]]
)
async def test_a_pure_pass_has_nothing_to_tell_by(kind: str, provider: str) -> None:
    status, events = await posted(channel_of(kind, provider, access_token="a", verify_token="v"))
    assert (status, len(events)) == (200, 1)


def test_each_provider_has_a_proof_among_what_it_requires() -> None:
    for kind, adapter in KINDS.items():
        for provider in adapter.capabilities["providers"]:
            required = {
                one for names in adapter.capabilities["required"][provider] for one in names.split(" | ")
            }
            assert required - PROVE_NOTHING, (kind, provider)
