"""What flags need of the outside, as Protocols, and the values that cross the border.

Nothing here imports the product: the storage implements `FlagStore`, the heart asks a `FlagSource`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from flags.stage import Stage


@dataclass(frozen=True, slots=True)
class Context:
    """Who is asked about. `contact_id` is a keyed digest of an address, never the address."""

    kind: str
    tenant: str
    channel: str
    contact_id: str | None
    contact_class: str = "patient"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the flag says: the stage, the rule that matched (class|channel|tenant|share|base|override|
    last_known_good) and the revision of the flags it was read from."""

    stage: Stage
    rule: str
    revision: int


@dataclass(frozen=True, slots=True)
class Strategy:
    """One rule of a flag: which contacts (`rule` says by what, `values` which), what stage, what share."""

    rule: str  # class | channel | tenant
    values: tuple[str, ...]
    stage: Stage
    percent: int = 100


@dataclass(frozen=True, slots=True)
class Flag:
    """The flag `channel.<kind>` at one revision. `percent` is set only while `stage` is canary;
    `base` is the stage of everybody whom no rule and no share takes."""

    kind: str
    stage: Stage = Stage.ROCKETCHAT
    percent: int | None = None
    base: Stage = Stage.ROCKETCHAT
    strategies: tuple[Strategy, ...] = ()
    override: Mapping[str, Any] | None = None  # {stage, by, reason, at}: kill; beats every rule
    revision: int = 0
    updated_by: str = "system"
    updated_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All flags at one revision (the highest of theirs)."""

    revision: int
    flags: Mapping[str, Flag] = field(default_factory=dict)


class FlagStore(Protocol):
    """The table behind the local source."""

    async def snapshot(self) -> Snapshot:
        """Every flag as it is now."""
        ...

    async def save(self, flag: Flag, *, expected: int | None, floor: bool) -> Flag:
        """Write the next revision; `floor` also raises flag_floor(kind) to it. Raises RevisionMoved
        when `expected` is given and the stored revision is another."""
        ...

    async def history(self, kind: str, limit: int = 100) -> Sequence[Flag]:
        """Past revisions, newest first."""
        ...


class RevisionMoved(Exception):
    """Somebody changed the flag in between: read it again, then decide again."""


class FlagSource(Protocol):
    """Where the heart asks. `evaluate` is plain computing on what was loaded last; `refresh` loads."""

    @property
    def revision(self) -> int:
        """Revision of what is loaded (0: nothing yet)."""
        ...

    def evaluate(self, context: Context) -> Verdict:
        """Never raises: the last known good revision answers, with none `rocketchat`."""
        ...

    async def refresh(self) -> None:
        """Load the newest revision; on failure keep the last known good."""
        ...
