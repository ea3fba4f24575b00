"""What every process brings along: clock, random, meter."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time of this process. Order and leases never hang on it: those use the store's own clock (Tx.now)."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        ...


class Random(Protocol):
    """Randomness, so that a seed replays a run."""

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        ...

    def fraction(self) -> float:
        """In [0, 1)."""
        ...


Fact = tuple[str, float, tuple[str, ...]]
"""What happened, told to the meter after the commit: (metric, seconds or 1 for a counter, labels)."""


class Meter(Protocol):
    """router/metrics.py; called after the commit, never inside a transaction that may be run again."""

    def record(self, facts: Sequence[Fact]) -> None:
        """Metrics by their name without `figueira_`: counters grow by the value, histograms observe it."""
        ...
