"""Runs of an import, their parts, what a chunk brings, what was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from router.storage.archive.shape import Shape


class RunState(StrEnum):
    """LOST: the place in the change stream is no longer there: history must be copied anew."""

    RUNNING = "running"
    STOPPED = "stopped"  # by a person, at a checkpoint
    DONE = "done"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Account:
    """Of so many source documents, what became of each: written + skipped + rejected + erased = source.

    `changed`: rows inserted, updated or deleted. `digest`: XOR of `migration.documents.digest` over all source
    documents as they would be kept (secrets masked), also those not written.
    """

    source: int = 0
    written: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)  # by reason
    rejected: int = 0
    erased: int = 0
    changed: int = 0
    digest: int = 0

    @property
    def balanced(self) -> bool:
        """Every source document is accounted for."""
        return self.source == self.written + sum(self.skipped.values()) + self.rejected + self.erased

    def __add__(self, other: "Account") -> "Account":
        skipped = {
            reason: self.skipped.get(reason, 0) + other.skipped.get(reason, 0)
            for reason in {*self.skipped, *other.skipped}
        }
        return Account(
            self.source + other.source, self.written + other.written, skipped, self.rejected + other.rejected,
            self.erased + other.erased, self.changed + other.changed, self.digest ^ other.digest,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One import of one source. `source` is its name without a password; `token` (bytes of the change stream's resume
    token) and `token_at` (cluster time): up to where the stream is taken in. `caught_up_at`: when nothing was waiting there
    last."""

    id: UUID
    source: str
    live: bool
    state: RunState
    options: Mapping[str, Any]
    started_at: datetime
    ended_at: datetime | None = None
    token: bytes | None = field(default=None, repr=False)
    token_at: datetime | None = None
    caught_up_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one collection: what a worker claims. `after` is its checkpoint. `fence` tells an owner that has lost
    its lease. `first`: no row of this run's source was there when the run was planned, so rows can be copied straight in."""

    run_id: UUID
    collection: str
    number: int
    spec: Mapping[str, Any]
    after: str | None
    done: bool
    fence: int
    account: Account


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that was not written. `key`: "id:<source_id>" or, without an id, "at:<position>"."""

    collection: str
    key: str
    source_id: str | None
    position: str
    code: str
    reason: str
    raw: bytes = field(repr=False)
    seen_at: datetime | None = None  # the store's, when read back


@dataclass(frozen=True, slots=True)
class Mark:
    """A room that is not kept, but that its messages must be told by: left out by a filter, or its person erased."""

    room_id: str
    kind: str | None
    skipped: str | None  # the reason
    erased_at: datetime | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one transaction brings: rows for `shape`, refusals, marks, and how the source's documents count. `resume` is
    the part's next checkpoint. `account.changed` is the store's to fill in."""

    shape: Shape | None
    rows: Sequence[tuple[Any, ...]]
    account: Account
    resume: str | None
    refused: Sequence[Refused] = ()
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a room: its messages share it. All three empty: it is kept."""

    skipped: str | None
    erased_at: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """One event of the change stream, mapped. Exactly one of `row` (upsert), `refused`, or none of both (delete, or
    left out: then what is there under the id goes). `at`: cluster time."""

    collection: str
    source_id: str
    shape: Shape
    at: datetime
    row: tuple[Any, ...] | None = None
    refused: Refused | None = None
    deleted: bool = False  # by the source: leaves a tombstone
    mark: Mark | None = None  # of a room that is left out: its messages are to be told by it
