"""How often somebody may try a password here: per process, in memory."""

from collections import OrderedDict, deque
from typing import Final

from router.domain.ports import Clock

TRIES: Final = 5
WINDOW_SECONDS: Final = 300.0
MOST: Final = 10_000
"""Names kept at most; the longest untouched go first."""

Name = tuple[str, str]
"""The address that was typed, and the peer that sent it."""


class Throttle:
    """TRIES within WINDOW_SECONDS for each e-mail and peer. A try counts when it begins, so that many at once gain
    nothing; a login that succeeds clears the name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: OrderedDict[Name, deque[float]] = OrderedDict()

    def admit(self, name: Name) -> bool:
        """Count one try; False when there were too many, and then it is not counted."""
        now = self._clock.monotonic()
        tries = self._tries.setdefault(name, deque())
        self._tries.move_to_end(name)
        while tries and now - tries[0] >= WINDOW_SECONDS:
            tries.popleft()
        if len(tries) >= TRIES:
            return False
        tries.append(now)
        while len(self._tries) > MOST:
            self._tries.popitem(last=False)
        return True

    def forget(self, name: Name) -> None:
        """The password was right."""
        self._tries.pop(name, None)
