"""What the parts of the memory transaction share: the tables as dicts, and the undo log."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from router.domain.conversation import Contact, Conversation, Decision, Identity, Room
from router.domain.job import Attempt, Breaker, DeadLetter, Event, Job
from router.domain.media import Media
from router.domain.message import Alias, Message, Status
from router.domain.ports import Answer

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Held:
    """A duty's row. `owner` None: nobody has it."""

    owner: UUID | None = None
    lease_until: datetime | None = None
    rest_until: datetime | None = None
    mark: datetime | None = None


class Tables:
    """Everything kept. Each table is a dict, so that one undo log serves them all."""

    def __init__(self) -> None:
        self.events: dict[UUID, Event] = {}
        self.reasons: dict[UUID, str] = {}
        self.unsplit: dict[int, UUID] = {}  # seq → event
        self.digests: dict[tuple[str, bytes], UUID] = {}
        self.messages: dict[UUID, Message] = {}
        self.external: dict[tuple[str, str], UUID] = {}
        self.source: dict[str, UUID] = {}
        self.by_conversation: dict[UUID, tuple[UUID, ...]] = {}
        self.outcomes: dict[tuple[str, str], Status] = {}
        self.statuses_at: dict[str, datetime] = {}
        self.billed: dict[tuple[str, str], str] = {}
        self.media: dict[UUID, Media] = {}
        self.uploads: dict[tuple[str, str, str], tuple[str, datetime]] = {}  # file id, until
        self.contacts: dict[UUID, Contact] = {}
        self.users: dict[UUID, str] = {}
        self.mapping: dict[str, UUID] = {}
        self.identities: dict[UUID, Identity] = {}
        self.aliases: dict[tuple[str, str, str, str], tuple[UUID, Alias, int]] = {}
        self.tombstones: dict[tuple[str, str, str, str], datetime] = {}
        self.conversations: dict[UUID, Conversation] = {}
        self.open: dict[tuple[str, UUID], UUID] = {}
        self.decisions: dict[UUID, tuple[Decision, ...]] = {}
        self.floors: dict[str, int] = {}
        self.rooms: dict[str, Room] = {}
        self.jobs: dict[UUID, Job] = {}
        self.active: dict[UUID, int] = {}  # unfinished job → seq
        self.lanes: dict[str, tuple[UUID, ...]] = {}
        self.attempts: dict[UUID, tuple[Attempt, ...]] = {}
        self.dead_letters: dict[UUID, DeadLetter] = {}
        self.breakers: dict[str, Breaker] = {}
        self.answers: dict[tuple[str, str], Answer] = {}
        self.paces: dict[str, datetime] = {}
        self.duties: dict[str, Held] = {}


class Base:
    """One transaction with its undo log."""

    def __init__(self, tables: Tables, next_seq: Callable[[], int], now: datetime) -> None:
        self._t = tables
        self._next_seq = next_seq
        self._now = now
        self._log: list[tuple[dict[Any, Any], Any, Any]] = []

    def undo(self) -> None:
        """Put everything back."""
        for table, key, before in reversed(self._log):
            if before is _MISSING:
                table.pop(key, None)
            else:
                table[key] = before

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._log.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    def _drop(self, table: dict[Any, Any], key: Any) -> None:
        if key in table:
            self._log.append((table, key, table[key]))
            del table[key]

    async def now(self) -> datetime:
        return self._now
