"""The scheduler: every task is a coroutine driven by hand, and a seeded random chooses who goes on at every port call.

No thread, no asyncio, no wall clock: one seed is one run. A process is a set of tasks that can be killed at any point
where it waits; what it had committed stays, what it was about to do never happens.
"""

import random
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Wait:
    """Awaited by every port: give up control, go on at `at` (seconds of simulated time) or when woken."""

    __slots__ = ("at", "topic")

    def __init__(self, at: float, topic: str | None = None) -> None:
        self.at = at
        self.topic = topic

    def __await__(self) -> Generator["Wait", None, None]:
        yield self


@dataclass(slots=True, eq=False)
class Task:
    """A coroutine and when it may go on."""

    name: str
    process: str
    coroutine: Coroutine[Any, Any, Any]
    ready_at: float = 0.0
    topic: str | None = None


@dataclass(slots=True)
class Kernel:
    """Simulated time and who runs. `steps` counts resumptions."""

    seed: int
    dice: random.Random = field(init=False)
    seconds: float = 0.0
    steps: int = 0
    tasks: list[Task] = field(default_factory=list)
    rung: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def now(self) -> datetime:
        """The store's clock."""
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """The same, as seconds."""
        return self.seconds

    def spawn(self, name: str, process: str, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Start a task of a process."""
        task = Task(name, process, coroutine, self.seconds)
        self.tasks.append(task)
        return task

    def kill(self, process: str) -> None:
        """kill -9: its tasks never go on. Returned coroutines are closed without running another line of ours that
        could act: every port refuses once the process is gone (see world.Port)."""
        gone = [task for task in self.tasks if task.process == process]
        self.tasks = [task for task in self.tasks if task.process != process]
        for task in gone:
            task.coroutine.close()

    def pause(self, low: float = 0.0, high: float = 0.05) -> Wait:
        """A wait of a random short time."""
        return Wait(self.seconds + self.dice.uniform(low, high))

    def ring(self, topic: str, delay: float = 0.0) -> None:
        """Wake whoever waits for the topic."""
        for task in self.tasks:
            if task.topic == topic:
                task.ready_at = min(task.ready_at, self.seconds + delay)

    def step(self) -> bool:
        """Resume one task that is ready, at random; with none ready, let time pass to the next. False: no tasks."""
        if not self.tasks:
            return False
        ready = [task for task in self.tasks if task.ready_at <= self.seconds]
        if not ready:
            self.seconds = min(task.ready_at for task in self.tasks)
            ready = [task for task in self.tasks if task.ready_at <= self.seconds]
        task = ready[int(self.dice.random() * len(ready))]
        self.steps += 1
        self.seconds += 0.001
        try:
            wait = task.coroutine.send(None)
        except StopIteration:
            if task in self.tasks:
                self.tasks.remove(task)
            return True
        task.ready_at, task.topic = wait.at, wait.topic
        return True


def skewed(kernel: Kernel, skews: dict[str, float], process: str) -> "Clock":
    """The clock of a process; a jump changes its skew."""
    return Clock(kernel, skews, process)


@dataclass(slots=True)
class Clock:
    """Wall clock with a skew; the monotonic clock never jumps."""

    kernel: Kernel
    skews: dict[str, float]
    process: str

    def now(self) -> datetime:
        """Aware UTC, as wrong as the process' clock is."""
        return self.kernel.now() + timedelta(seconds=self.skews.get(self.process, 0.0))

    def monotonic(self) -> float:
        """Seconds."""
        return self.kernel.seconds


@dataclass(slots=True)
class Dice:
    """The random port."""

    random: random.Random

    def bytes(self, count: int) -> bytes:
        """Random bytes."""
        return self.random.randbytes(count)

    def fraction(self) -> float:
        """In [0, 1)."""
        return self.random.random()
