"""How long work shows that it goes on: bars on a terminal, a line every few seconds elsewhere, JSON lines for programs."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from router.cli.answer import as_line, clean
from router.control.progress import Bar, State

if TYPE_CHECKING:
    from rich.progress import Progress as Rich
    from rich.progress import Task, TaskID
    from rich.text import Text

LINE_SECONDS: Final = 5.0
"""Between two lines where nobody watches a bar move."""


class Display(Protocol):
    """Where it is shown."""

    def show(self, state: State) -> None:
        """How far it is now; may be called as often as one likes."""
        ...

    def say(self, line: str) -> None:
        """A line on stderr, at once."""
        ...

    def close(self) -> None:
        """Leave the screen as it stands."""
        ...


def display(*, as_json: bool) -> Display:
    """JSON lines on stdout; else bars on stderr when a person looks at it; else lines there."""
    if as_json:
        return Lines(_json)
    return Bars() if sys.stderr.isatty() else Lines(_told)


class Lines:
    """One line every LINE_SECONDS, the first at once."""

    def __init__(
        self, tell: Callable[[State], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._due = float("-inf")

    def show(self, state: State) -> None:
        """As `Display`."""
        now = self._monotonic()
        if now >= self._due:
            self._due = now + LINE_SECONDS
            self._tell(state)

    def say(self, line: str) -> None:
        """As `Display`."""
        print(clean(line), file=sys.stderr, flush=True)

    def close(self) -> None:
        """As `Display`."""


def _json(state: State) -> None:
    print(as_line({"progress": state.shape()}), flush=True)


def _told(state: State) -> None:
    print(line_of(state), file=sys.stderr, flush=True)


def line_of(state: State) -> str:
    """`import: 12,000 of 87,000 documents, 4,100/s, 18 s left, 2 rejected`."""
    of = "" if state.total is None else f" of {state.total:,}"
    parts = [f"{state.act}: {state.documents:,}{of} documents"]
    if state.per_second is not None:
        parts.append(f"{state.per_second:,.0f}/s")
    if state.seconds_left is not None:
        parts.append(f"{span(state.seconds_left)} left")
    parts.append(f"{state.rejected:,} rejected")
    if state.note:
        parts.append(state.note)
    return ", ".join(parts)


def span(seconds: float) -> str:
    """42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole >= 3600:  # noqa: PLR2004  an hour
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:  # noqa: PLR2004  a minute
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s"


class Bars:
    """A bar for each collection and one for all, on the terminal behind stderr."""

    def __init__(self) -> None:
        self._rich: Rich | None = None
        self._tasks: dict[str, TaskID] = {}

    def show(self, state: State) -> None:
        """As `Display`."""
        if self._rich is None:
            self._rich = _rich()
            self._rich.start()
        for name, bar in state.bars.items():
            self._move(name, clean(name), bar)
        told = f"{state.act}: {state.note}" if state.note else state.act
        self._move("", clean(told), Bar(state.documents, state.total, state.rejected))

    def say(self, line: str) -> None:
        """As `Display`: above the bars, which would be drawn over it."""
        if self._rich is None:
            print(clean(line), file=sys.stderr, flush=True)
        else:
            self._rich.console.print(clean(line), markup=False, highlight=False)

    def _move(self, key: str, told: str, bar: Bar) -> None:
        assert self._rich is not None  # noqa: S101  `show` made it
        if key not in self._tasks:
            self._tasks[key] = self._rich.add_task(told, total=None, rejected=0)
        total = bar.documents if bar.ended else bar.total
        self._rich.update(
            self._tasks[key], description=told, completed=bar.documents, rejected=bar.rejected,
            total=None if total is None else max(total, bar.documents),
        )  # fmt: skip

    def close(self) -> None:
        """As `Display`."""
        if self._rich is not None:
            self._rich.stop()


def _rich() -> "Rich":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Pace(ProgressColumn):
        """Documents a second."""

        def render(self, task: "Task") -> "Text":
            pace = task.finished_speed or task.speed
            return Text(
                "" if pace is None else f"{pace:,.0f}/s", style="progress.data.speed", justify="right"
            )

    class Refused(ProgressColumn):
        """Rejects, when there are any."""

        def render(self, task: "Task") -> "Text":
            number = task.fields["rejected"]
            return Text(f"{number:,} rejected" if number else "", style="red")

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=28), MofNCompleteColumn(separator=" of "),
        Pace(), TimeRemainingColumn(compact=True, elapsed_when_finished=True), Refused(),
        console=Console(stderr=True), refresh_per_second=4,
    )  # fmt: skip
