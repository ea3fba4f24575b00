"""What the heart awaits: clock, random, store, network. Nothing else, so that a simulator can drive it by hand.

The heart (ingest, facade, delivery, identity) is `async` code that awaits only these Protocols and uses no asyncio
primitive. Production implements them over asyncpg and aiohttp; the simulator over a memory store and a scheduler.
"""

from router.domain.ports.edges import (
    Forwarder,
    Kind,
    Outbound,
    Parsed,
    Permit,
    Request,
    RocketChat,
    RoomEvent,
    RoomInfo,
    RoomMessage,
    RoomWebhook,
    Sender,
)
from router.domain.ports.heart import Pins, RoomIngest
from router.domain.ports.process import Clock, Fact, Meter, Random
from router.domain.ports.store import Answer, Store, Tx

__all__ = [
    "Answer",
    "Clock",
    "Fact",
    "Forwarder",
    "Kind",
    "Meter",
    "Outbound",
    "Parsed",
    "Permit",
    "Pins",
    "Random",
    "Request",
    "RocketChat",
    "RoomEvent",
    "RoomInfo",
    "RoomIngest",
    "RoomMessage",
    "RoomWebhook",
    "Sender",
    "Store",
    "Tx",
]
