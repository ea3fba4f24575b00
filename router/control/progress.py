"""How far long work is: what does it says so, whoever watches shows it and may ask it to stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SETTLED_SECONDS: Final = 0.5
"""A pace over less time than this is noise."""


@dataclass(frozen=True, slots=True)
class Bar:
    """How far one collection is. `total` None: nobody knows before the end."""

    documents: int = 0
    total: int | None = None
    rejected: int = 0
    ended: bool = False

    @property
    def left(self) -> int | None:
        """Documents still to come, as far as is known."""
        if self.ended:
            return 0
        return None if self.total is None else max(0, self.total - self.documents)


@dataclass(frozen=True, slots=True)
class State:
    """How far the whole is. `seconds` since this command began; `begun` = documents that were there before it."""

    act: str
    seconds: float
    bars: Mapping[str, Bar] = field(default_factory=dict)
    begun: int = 0
    note: str | None = None

    @property
    def documents(self) -> int:
        """Documents read."""
        return sum(bar.documents for bar in self.bars.values())

    @property
    def rejected(self) -> int:
        """Documents refused."""
        return sum(bar.rejected for bar in self.bars.values())

    @property
    def total(self) -> int | None:
        """None as soon as one collection's is not known."""
        totals = [bar.documents if bar.ended else bar.total for bar in self.bars.values()]
        return None if None in totals else sum(one or 0 for one in totals)

    @property
    def per_second(self) -> float | None:
        """Documents a second since this command began."""
        return None if self.seconds < SETTLED_SECONDS else max(0, self.documents - self.begun) / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far."""
        left, pace = [bar.left for bar in self.bars.values()], self.per_second
        if not pace or None in left or not left:
            return None
        return sum(one or 0 for one in left) / pace

    def shape(self) -> dict[str, Any]:
        """As a line of --json has it, under `progress`."""
        pace, left = self.per_second, self.seconds_left
        return {
            "command": self.act,
            "seconds": round(self.seconds, 1),
            "documents": self.documents,
            "total": self.total,
            "rejected": self.rejected,
            "documents_per_second": None if pace is None else round(pace, 1),
            "seconds_left": None if left is None else round(left, 1),
            "note": self.note,
            "collections": {
                name: {
                    "documents": bar.documents,
                    "total": bar.total,
                    "rejected": bar.rejected,
                    "done": bar.ended,
                }
                for name, bar in self.bars.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches. `stopped`: whether the work is to end at its next checkpoint; `show` may be called at any rate; `say`
    is for lines that must not wait for the end."""

    act: str
    stopped: Callable[[], bool] = lambda: False
    show: Callable[[State], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
