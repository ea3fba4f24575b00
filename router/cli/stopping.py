"""Ctrl-C during long work: the first asks it to stop at a checkpoint, the second ends it where it is."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """While the block runs, SIGINT and SIGTERM are a wish, which the callable tells. The second one raises
    KeyboardInterrupt: also then nothing is lost, for what counts is committed with its checkpoint."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
