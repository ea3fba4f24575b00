"""One REST call of Rocket.Chat's, and the ways it fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.sandbox.workspace import Document


class Failed(Exception):
    """Becomes Rocket.Chat's 400: `text` is suffixed with the code in brackets; without a code it stands alone."""

    def __init__(self, text: str, code: str = "", details: Document | None = None) -> None:
        super().__init__(f"{text} [{code}]".strip() if code else text)
        self.code, self.details = code, details


class Unauthorized(Exception):
    """Becomes a 401."""


class Forbidden(Exception):
    """Becomes a 403."""


@dataclass(frozen=True)
class Sent:
    """A file of a multipart call."""

    name: str
    mime: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Call:
    """One REST call: query and body in one mapping, the rest of the path, the user who calls ({}: nobody)."""

    given: Mapping[str, Any]
    tail: tuple[str, ...]
    user: Document
    headers: Mapping[str, str]
    file: Sent | None = None

    def text(self, name: str) -> str:
        value = self.given.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.given.get(name, default))
        except (TypeError, ValueError):
            raise Failed(f"The {name} parameter must be a number.", "error-invalid-params") from None

    def needs(self, *names: str) -> None:
        """Raises Failed for the names that are missing, as the schema check says it."""
        missing = [name for name in names if not self.given.get(name)]
        if missing:
            raise Failed(
                "\n ".join(f"must have required property '{name}'" for name in missing), "invalid-params"
            )


Handler = Callable[[Call], Document]
Routes = dict[tuple[str, str], Handler]


def moment(text: object) -> datetime | None:
    """A time as Rocket.Chat's callers write it; None when it is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
