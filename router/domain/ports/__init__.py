"""What the heart awaits: clock, random, store, network. Nothing else, so that a simulator can drive it by hand.

The heart (ingest, facade, delivery, identity) is `async` code that awaits only these Protocols and uses no asyncio
primitive. Production implements them over asyncpg and aiohttp; the simulator over a memory store and a scheduler.
"""

from router.domain.ports.control import (
    NOT_THEIRS,
    Callback,
    Callbacks,
    FileStore,
    Finding,
    Refusal,
    RocketChatAdmin,
)
from router.domain.ports.edges import (
    Files,
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
    Rules,
    Sender,
)
from router.domain.ports.heart import Pins, RoomIngest
from router.domain.ports.process import Clock, Fact, Meter, Random
from router.domain.ports.store import Answer, Duty, Store, Tx

__all__ = [
    "NOT_THEIRS",
    "Answer",
    "Callback",
    "Callbacks",
    "Clock",
    "Duty",
    "Fact",
    "FileStore",
    "Files",
    "Finding",
    "Forwarder",
    "Kind",
    "Meter",
    "Outbound",
    "Parsed",
    "Permit",
    "Pins",
    "Random",
    "Refusal",
    "Request",
    "RocketChat",
    "RocketChatAdmin",
    "RoomEvent",
    "RoomInfo",
    "RoomIngest",
    "RoomMessage",
    "RoomWebhook",
    "Rules",
    "Sender",
    "Store",
    "Tx",
]
