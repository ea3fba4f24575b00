"""Rocket.Chat's rate limit, counted on our side, so that a call it would refuse is not made.

The limit is per route and by default 10 calls a minute; users with `api-bypass-rate-limit` have none and see none
of its headers. So a route is unlimited until its first X-RateLimit header or 429 tells otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_MILLISECONDS = 1000


@dataclass(slots=True)
class _Window:
    """A fixed window, as ddp-rate-limiter counts: `left` calls until the monotonic second `until`."""

    limit: int
    left: int
    until: float


class Budget:
    """Calls left per route. `calls` in `seconds` is assumed where Rocket.Chat says only that it was too many."""

    def __init__(self, calls: int = 10, seconds: float = 60.0) -> None:
        self._calls, self._seconds = calls, seconds
        self._windows: dict[str, _Window] = {}
        self._flying: dict[str, int] = {}

    def take(self, route: str, now: float) -> float:
        """Count one call and return 0, or return the seconds until one is free. `now` is monotonic.

        Every call taken must be given back by `done`.
        """
        window = self._windows.get(route)
        if window:
            if now >= window.until:
                # The next window begins with this call; its answer will say when it really ends.
                window.left, window.until = window.limit, now + self._seconds
            if window.left <= self._flying.get(route, 0):
                return window.until - now
        self._flying[route] = self._flying.get(route, 0) + 1
        return 0.0

    def done(self, route: str, now: float, headers: Mapping[str, str], epoch: float) -> None:
        """A call ended with these answer headers (none when there was no answer). `epoch` is now as Unix time."""
        self._flying[route] -= 1
        limit, left, reset = (_number(headers, name) for name in ("Limit", "Remaining", "Reset"))
        if limit is not None and left is not None and reset is not None:
            # Another clock wrote it; never believe more than one window ahead.
            wait = min(max(reset / _MILLISECONDS - epoch, 0.0), self._seconds)
            self._windows[route] = _Window(limit, left, now + wait)
        elif (window := self._windows.get(route)) and window.left:
            window.left -= 1

    def refused(self, route: str, now: float, wait: float | None) -> float:
        """Rocket.Chat said 429 and, perhaps, how long. Nothing goes until then; returns the seconds."""
        known = self._windows.get(route)
        seconds = wait if wait is not None else max((known.until - now) if known else 0.0, 0.0)
        seconds = min(seconds or self._seconds, self._seconds * 10)
        self._windows[route] = _Window(known.limit if known else self._calls, 0, now + seconds)
        return seconds


def _number(headers: Mapping[str, str], name: str) -> int | None:
    written = headers.get(f"X-RateLimit-{name}", "")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 16 else None  # noqa: PLR2004
