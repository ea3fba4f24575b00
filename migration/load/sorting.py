"""What becomes of each document of a block, as far as it says so itself: a row, a refusal, or left out. Pure.

Every document is counted and goes into the digest, also one that is left out; one that is no BSON is a refusal wherever
it stands. Bytes that could hold a secret and cannot be cleaned, because they cannot be read, are not kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from struct import error as StructError  # noqa: N812
from typing import Any, Final, Literal

from bson.datetime_ms import DatetimeMS

from migration.collections import Bytes, Copied, Left, Reader, Row, treatment
from migration.collections.values import plain, time
from migration.documents import KEPT_BYTES, Block, Mask, Reject, decode, digest, digests, key_of, uncollected
from migration.sources.keys import raw_key
from router.domain.ports import RoomInfo
from router.storage.archive.model import Account, Mark, Refused
from router.storage.archive.shape import MESSAGES, ROOMS, Shape

FILTERED: Final = "filtered"
_DEFECTS: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_SENT_AT: Final = MESSAGES.names.index("sent_at")
_ROOM_KIND: Final = ROOMS.names.index("kind")
_LIVECHAT: Final = "l"
_MAX_ID: Final = 1024
_FIRST: Final = slice(4, 9)
_STRING_ID: Final = b"\x02_id\x00"
_VALUE: Final = 13

Treatment = Callable[[str], Copied | Left | Bytes]
Person = tuple[RoomInfo | None, int | None]
"""Who a livechat room or a person's document is about (None: nobody), and the last sign of life in milliseconds."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an import was asked for. `since` (included) and `until` (excluded): milliseconds since 1970, of messages.
    `orphans`: messages whose room is unknown."""

    since: int | None = None
    until: int | None = None
    rooms: Literal["all", "l"] = "all"
    orphans: Literal["reject", "keep"] = "reject"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """From a run's options; what stands there besides is ignored."""
        return cls(**{name: given[name] for name in cls.__slots__ if name in given})


@dataclass(slots=True)
class Batch:
    """Sorted documents of one collection. `positions` and, for rooms and persons, `people` stand beside `rows`."""

    collection: str
    shape: Shape | None
    rows: list[Row] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    written: int | None = None  # of documents without rows; None: the rows
    erased: int = 0
    source: int = 0
    digest: int = 0
    size: int = 0
    resume: str | None = None

    def absorb(self, later: "Batch") -> None:
        """Take in what follows."""
        self.rows += later.rows
        self.positions += later.positions
        self.people += later.people
        self.refused += later.refused
        self.marks += later.marks
        self.skipped += later.skipped
        if later.written is not None:
            self.written = (self.written or 0) + later.written
        self.erased += later.erased
        self.source += later.source
        self.digest ^= later.digest
        self.size += later.size
        self.resume = later.resume

    def account(self) -> Account:
        written = len(self.rows) if self.written is None else self.written
        return Account(
            self.source, written, dict(self.skipped), len(self.refused), self.erased, digest=self.digest
        )

    def refuse(self, position: object, source_id: str | None, reject: Reject, raw: bytes) -> None:
        """Keep a document that is not written, with the bytes that may be kept."""
        self.refused.append(refusal(self.collection, str(position), source_id, reject, raw))


def refusal(collection: str, position: str, source_id: str | None, reject: Reject, raw: bytes) -> Refused:
    """`source_id` None: it cannot be read. One that no index holds does not name its document."""
    known = source_id is not None and len(source_id.encode("utf-8", "replace")) <= _MAX_ID
    key = f"id:{source_id}" if known else f"at:{position}"
    return Refused(
        collection, key, source_id if known else None, position, reject.code, reject.reason, raw[:KEPT_BYTES]
    )


class Sorter:
    """`mask` overwrites visitors' tokens in whatever is kept; `treatment` tells what is done with a collection."""

    def __init__(
        self, reader: Reader, mask: Mask, options: Options, treatment: Treatment = treatment
    ) -> None:
        self._reader = reader
        self._mask = mask
        self.options = options
        self.treatment = treatment
        self._windowed = options.since is not None or options.until is not None

    def sort(self, collection: str, block: Block, *, kept: bool = False) -> Batch:
        """`kept`: the bytes come from a refusal and are without secrets already."""
        what = self.treatment(collection)
        batch = Batch(collection, what.shape if isinstance(what, Copied) else None, resume=block.resume)
        batch.source = len(block.raws) + len(block.faults)
        batch.size = sum(map(len, block.raws))
        with uncollected():
            if isinstance(what, Copied):
                self._map(batch, what, block, kept=kept)
            elif isinstance(what, Left):
                self._pass(batch, what, block)
            else:
                batch.digest = digests(block.raws)
        self._faults(batch, what, block)
        return batch

    def _map(self, batch: Batch, what: Copied, block: Block, *, kept: bool) -> None:
        raws = list(block.raws) if kept else self._mask.all(block.raws)
        unclean = _clean(what, raws)
        batch.digest = digests(raws)
        # Persons are known by what the digest of their token says, so a room is read as it is. Nothing else is.
        originals = decode(block.raws) if what.shape is ROOMS or batch.collection in _PERSONS else None
        documents = originals if what.shape is ROOMS and originals is not None else decode(raws)
        for index, reject in unclean.items():
            documents[index] = reject
        plainly = originals is None and not (what.shape is MESSAGES and self._windowed)
        if plainly and self._at_once(batch, what, block.positions, raws, documents):
            return
        for index, (position, raw, document) in enumerate(zip(block.positions, raws, documents, strict=True)):
            person = None
            try:
                if isinstance(document, Reject):
                    raise document
                row = what.map(self._reader, batch.collection, document, raw)
                if originals is not None:
                    person = self._person(batch, row, originals[index])
                    if kept:
                        _sure(person)
            except (Reject, *_DEFECTS) as error:
                batch.refuse(position, _id_of(document, block.raws[index]), _named(error), raw)
            else:
                self._keep(batch, row, position, person)

    def _at_once(
        self, batch: Batch, what: Copied, positions: Sequence[int], raws: Sequence[bytes],
        documents: Sequence[dict[str, Any] | Reject],
    ) -> bool:  # fmt: skip
        """The whole block, when nothing is odd in it, as in nearly all of them."""
        mapped, reader, collection = what.map, self._reader, batch.collection
        if any(type(document) is Reject for document in documents):
            return False
        try:
            batch.rows = [mapped(reader, collection, *pair) for pair in zip(documents, raws, strict=True)]  # type: ignore[arg-type]
        except (Reject, *_DEFECTS):
            return False
        batch.positions = list(positions)
        return True

    def _keep(self, batch: Batch, row: Row, position: int, person: Person | None) -> None:
        if batch.shape is MESSAGES:
            sent_at = row[_SENT_AT]
            if sent_at is not None and not self._wanted(sent_at):
                batch.skipped[FILTERED] += 1
                return
        elif batch.shape is ROOMS and self.options.rooms == _LIVECHAT != row[_ROOM_KIND]:
            batch.skipped[FILTERED] += 1
            batch.marks.append(Mark(row[0], row[_ROOM_KIND], FILTERED, None))
            return
        batch.rows.append(row)
        batch.positions.append(position)
        if person is not None:
            batch.people.append(person)

    def _wanted(self, at: int) -> bool:
        since, until = self.options.since, self.options.until
        return (since is None or since <= at) and (until is None or at < until)

    def _person(self, batch: Batch, row: Row, document: Mapping[str, Any] | Reject) -> Person:
        if isinstance(document, Reject):
            raise document
        if batch.shape is not ROOMS:
            room, at = _PERSONS[batch.collection](document)
        elif row[_ROOM_KIND] == _LIVECHAT:
            room, at = document, _spoken(document)
        else:
            return None, None
        return self._reader.info(plain(room)), at

    def _pass(self, batch: Batch, what: Left, block: Block) -> None:
        """Counted only. The bytes of what is not copied are not kept either, when it cannot be read."""
        masked = self._mask.all(block.raws)
        batch.digest = digests(masked)
        for position, raw, document in zip(block.positions, masked, decode(masked), strict=True):
            if isinstance(document, Reject):
                batch.refuse(position, _known_id(raw), document, b"")
            else:
                batch.skipped[what.reason] += 1

    def _faults(self, batch: Batch, what: Copied | Left | Bytes, block: Block) -> None:
        for fault in block.faults:
            raws = [self._mask(fault.raw)]
            if not isinstance(what, Copied):
                raws = [b""]
            else:
                _clean(what, raws)
            batch.digest ^= digest(raws[0])
            batch.size += len(raws[0])
            batch.refuse(fault.position, _known_id(fault.raw), Reject(fault.code, fault.reason), raws[0])


def _sure(person: Person) -> None:
    """An overwritten token names somebody else: neither the person nor the erasure would be found."""
    info, _ = person
    if info is not None and info.visitor_token_digest is not None:
        raise Reject("missing", "the visitor's token was not kept: try again with the source")


def _named(error: Exception) -> Reject:
    """No shape of a document stops its neighbours, not even one that nothing was made for."""
    if isinstance(error, Reject):
        return error
    return Reject("wrong_type", f"{type(error).__name__}: nothing here reads such a document")


def _id_of(document: dict[str, Any] | Reject, raw: bytes) -> str | None:
    if isinstance(document, Reject):
        return _known_id(raw)
    with suppress(Reject):
        return key_of(document)
    return None


def _clean(what: Copied, raws: list[bytes]) -> dict[int, Reject]:
    """Takes the collection's secrets out, in place; those of which they cannot be taken out, by index: nothing is kept."""
    unclean: dict[int, Reject] = {}
    if what.clean is None:
        return unclean
    for index, raw in enumerate(raws):
        try:
            raws[index] = what.clean(raw)
        except Reject as reject:
            raws[index], unclean[index] = b"", reject
        except _DEFECTS as error:
            why = f"{type(error).__name__}: its secrets cannot be found"
            raws[index], unclean[index] = b"", Reject("invalid_bson", why)
    return unclean


def _known_id(raw: bytes) -> str | None:
    """The `_id` of bytes that are perhaps no document; one that is cut off, or that no text holds, is none."""
    if raw[_FIRST] == _STRING_ID:
        end = _VALUE + int.from_bytes(raw[_FIRST.stop : _VALUE], "little")
        if not _VALUE < end <= len(raw) or raw[end - 1] or 0 in raw[_VALUE : end - 1]:
            return None
    try:
        return raw_key(raw)
    except StructError:
        return None


def _spoken(document: Mapping[str, Any]) -> int | None:
    """A room's last message. That it was closed, by an agent or of itself, is no sign of its visitor's life."""
    said = (time(document, name, loose=True) for name in ("ts", "lm"))
    return max((at for at in said if at is not None), default=None)


def _visitor(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
    last = document.get("lastChat")
    said = last.get("ts") if isinstance(last, Mapping) else None
    return {"_id": "", "t": "l", "v": document}, _first(said, document.get("ts"))


def _contact(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
    """A contact has the visitor's addresses under other names."""
    last = document.get("lastChat")
    said = last.get("ts") if isinstance(last, Mapping) else None
    visitor = {"phone": document.get("phones"), "visitorEmails": document.get("emails")}
    return {"_id": "", "t": "l", "v": visitor}, _first(said, document.get("createdAt"))


def _first(*moments: Any) -> int | None:
    return next((int(at) for at in moments if isinstance(at, DatetimeMS)), None)


_PERSONS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], int | None]]]] = {
    "rocketchat_livechat_visitor": _visitor,
    "rocketchat_livechat_contact": _contact,
}
