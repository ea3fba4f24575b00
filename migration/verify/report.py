"""What a verification found: accounts that balance, and differences without anybody's words in them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Final

from migration.documents import digest

FIRST: Final = 20
"""So many differences (and rooms) of a collection are told one by one; all of them are counted."""
_BITS: Final = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a difference: how long the document is, and the digest of its bytes as they are kept."""

    length: int
    digest: str

    @classmethod
    def of(cls, raw: bytes | None) -> "Side | None":
        """None: this side has none."""
        return None if raw is None else cls(len(raw), f"{digest(raw) & _BITS:016x}")


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind`: missing (in the source, not here), extra (here, not in the source), different (`fields`: top-level names),
    columns (`fields`: columns that do not say what the document says), bytes (of a file), source_changed (since it was
    imported), unbalanced (a part's account), and those of the weave."""

    collection: str
    kind: str
    source_id: str | None = None
    room_id: str | None = None
    fields: tuple[str, ...] = ()
    source: Side | None = None
    here: Side | None = None
    detail: str | None = None
    repaired: bool = False

    def mended(self) -> "Difference":
        """The same, mended."""
        return replace(self, repaired=True)

    def as_json(self) -> dict[str, Any]:
        """Without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(slots=True)
class Tally:
    """written + skipped + rejected + erased = source, unless there are differences. `repaired` of them are mended;
    `differences` are those that are left."""

    source: int = 0
    written: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    erased: int = 0
    differences: int = 0
    repaired: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    rooms: dict[str, dict[str, int]] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)

    def skip(self, reason: str, documents: int = 1) -> None:
        """Count documents that are left out."""
        if documents:
            self.skipped[reason] = self.skipped.get(reason, 0) + documents

    def differ(self, difference: Difference) -> None:
        """Count one, mended or not."""
        if difference.repaired:
            self.repaired += 1
        else:
            self.differences += 1
        self.kinds[difference.kind] = self.kinds.get(difference.kind, 0) + 1
        if len(self.first) < FIRST:
            self.first.append(difference)

    def absorb(self, other: "Tally") -> None:
        """Take in what was found in other buckets."""
        self.source += other.source
        self.written += other.written
        self.rejected += other.rejected
        self.erased += other.erased
        self.differences += other.differences
        self.repaired += other.repaired
        for reason, documents in other.skipped.items():
            self.skip(reason, documents)
        for kind, found in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + found
        self.rooms |= dict(islice(other.rooms.items(), FIRST - len(self.rooms)))
        self.first += other.first[: FIRST - len(self.first)]

    @property
    def balanced(self) -> bool:
        """Every document of the source is accounted for."""
        return self.source == self.written + sum(self.skipped.values()) + self.rejected + self.erased

    def as_json(self) -> dict[str, Any]:
        """For the report, without the single differences."""
        shown: dict[str, Any] = {
            "source": self.source,
            "written": self.written,
            "skipped": sum(self.skipped.values()),
            "rejected": self.rejected,
            "erased": self.erased,
            "skipped_by_reason": dict(sorted(self.skipped.items())),
            "differences": self.differences,
        }
        more = {"kinds": self.kinds, "rooms": self.rooms, "repaired": self.repaired}
        return shown | {name: value for name, value in more.items() if value}

    def kept(self) -> dict[str, Any]:
        """For `Archive.note`."""
        return asdict(self)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Tally":
        """What `kept` gave."""
        first = [difference_of(each) for each in kept["first"]]
        return cls(**{**kept, "first": first})


def difference_of(kept: Mapping[str, Any]) -> Difference:
    """A difference read back from JSON."""
    sides = {name: Side(**kept[name]) if kept.get(name) else None for name in ("source", "here")}
    return Difference(**{**kept, **sides, "fields": tuple(kept.get("fields", ()))})


@dataclass(frozen=True, slots=True)
class Report:
    """`unfinished`: parts of the import that were not copied to their end: what they lack shows as missing."""

    collections: Mapping[str, Tally]
    woven: Sequence[Difference] = ()
    unfinished: int = 0

    @property
    def differences(self) -> int:
        """That are left."""
        return sum(tally.differences for tally in self.collections.values()) + len(self.woven)

    @property
    def changed(self) -> int:
        """Documents mended."""
        return sum(tally.repaired for tally in self.collections.values())

    @property
    def first(self) -> list[Difference]:
        """The first of them, mended ones too."""
        found = [each for tally in self.collections.values() for each in tally.first]
        return [*found, *self.woven][:FIRST]

    def as_json(self) -> dict[str, Any]:
        """As `migrate verify --json` ends."""
        return {
            "collections": {name: tally.as_json() for name, tally in self.collections.items()},
            "changed": self.changed,
            "differences": self.differences,
            "unfinished_parts": self.unfinished,
            "first_differences": [each.as_json() for each in self.first],
        }
