"""The types of the fixtures."""

from typing import Any, Protocol
from unittest.mock import AsyncMock


class Figueira(Protocol):
    """Run a command: exit code, stdout, stderr."""

    def __call__(self, *argv: str) -> tuple[int, str, str]: ...


class Control(Protocol):
    """Let a function of a module answer so (an exception: raise); its arguments are still checked."""

    def __call__(self, module: Any, name: str, answer: Any) -> AsyncMock: ...
