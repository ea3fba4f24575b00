"""Identifiers: UUIDs in order of time, and ids as Rocket.Chat makes them."""

from datetime import datetime
from uuid import UUID

from router.domain.ports import Clock, Random

# Meteor's alphabet: nothing in it is mistaken for another when read aloud.
METEOR = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz"
ROCKETCHAT_LENGTH = 17
UUID7_BYTES = 10


def uuid7(now: datetime, random_bytes: bytes) -> UUID:
    """RFC 9562 §5.7: 48 bits of Unix milliseconds, then 74 of the 80 random bits given (10 bytes)."""
    if len(random_bytes) != UUID7_BYTES:
        raise ValueError(f"uuid7 takes {UUID7_BYTES} random bytes, not {len(random_bytes)}")
    milliseconds = int(now.timestamp() * 1000) & (1 << 48) - 1
    noise = int.from_bytes(random_bytes, "big")
    high, low = noise >> 62 & 0xFFF, noise & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def rocketchat_id(random_bytes: bytes) -> str:
    """A message `_id` of 17 characters (about 98 bits) from at least 17 random bytes.

    The bytes are read as one number, so no character is much likelier than another.
    """
    if len(random_bytes) < ROCKETCHAT_LENGTH:
        raise ValueError(f"rocketchat_id takes at least {ROCKETCHAT_LENGTH} random bytes")
    number, letters = int.from_bytes(random_bytes, "big"), []
    for _ in range(ROCKETCHAT_LENGTH):
        number, place = divmod(number, len(METEOR))
        letters.append(METEOR[place])
    return "".join(letters)


class Ids:
    """Makes ids out of the ports, so that a seed replays them."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random

    def new(self) -> UUID:
        """A fresh UUIDv7."""
        return uuid7(self._clock.now(), self._random.bytes(UUID7_BYTES))

    def rocketchat(self) -> str:
        """A fresh id in Rocket.Chat's own shape."""
        return rocketchat_id(self._random.bytes(ROCKETCHAT_LENGTH))
