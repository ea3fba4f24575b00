"""Single documents, both sides as they are now: what became of them, and how to mend what should not be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from migration.collections import Copied, Row
from migration.documents import Block, Reject, decode
from migration.load.sorting import refusal
from migration.verify.columns import wrong_columns, wrong_fields
from migration.verify.cut import room_of
from migration.verify.desk import Desk, Ids, apart
from migration.verify.passes import UNREADABLE, Keep, is_by_room, keeping, keys_of, text
from migration.verify.report import Difference, Side
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Refused
from router.storage.archive.refusals import key_of as refusal_key

WRITTEN, SKIPPED, REJECTED, ERASED, GONE = "written", "skipped", "rejected", "erased", "gone"
MISSING, EXTRA, DIFFERENT, COLUMNS = "missing", "extra", "different", "columns"
WRONG: Final = frozenset({MISSING, EXTRA, DIFFERENT, COLUMNS})
_SLICE: Final = 500
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state`: one of the above; GONE: on neither side. `reason` of what is skipped or refused. `made` or `refused`: what
    the import makes of it. `source`, `here`: both sides' bytes as kept."""

    source_id: str
    state: str
    room_id: str | None = None
    reason: str | None = None
    fields: tuple[str, ...] = ()
    source: bytes | None = None
    here: bytes | None = None
    made: Row | None = None
    refused: Refused | None = None

    def difference(self, collection: str) -> Difference:
        """For the report."""
        return Difference(
            collection, self.state, self.source_id, self.room_id, self.fields,
            Side.of(self.source), Side.of(self.here), self.reason,
        )  # fmt: skip


class Look:
    """At documents of one collection. `there`: the source has it at all."""

    def __init__(self, desk: Desk, collection: str, treated: Copied, *, there: bool = True) -> None:
        self._there = there
        self._desk, self._name, self._treated, self._shape = desk, collection, treated, treated.shape
        self._by_room = is_by_room(treated)
        self._keep: Keep = keeping(desk.mask, treated)

    async def at(self, ids: Ids, refused: set[str], *, columns: bool = False) -> dict[str, Verdict]:
        """By id. `refused`: keys of the open refusals. `columns`: a document that is here is also mapped, and compared
        column by column."""
        documents = await self._fetch(ids) if self._there else {}
        return {
            each: await self._verdict(each, documents.get(each, ()), refused, columns=columns) for each in ids
        }

    async def _fetch(self, ids: Ids) -> dict[str, list[bytes]]:
        def read() -> dict[str, list[bytes]]:
            found: dict[str, list[bytes]] = {}
            for block in self._desk.source.fetch(self._name, ids):
                for key, raw in zip(keys_of(block.raws), block.raws, strict=True):
                    if key is not None:
                        found.setdefault(key, []).append(raw)
            return found

        return await apart(read)

    async def _verdict(
        self, source_id: str, raws: Sequence[bytes], refused: set[str], *, columns: bool
    ) -> Verdict:
        row = await self._desk.archive.row(self._shape, self._name, source_id)
        here = None if row is None or row["raw"] is None else bytes(row["raw"])
        if not raws:
            room = self._room(row, None)
            return Verdict(source_id, GONE if row is None else EXTRA, room, here=here)
        equal = next((raw for raw in raws if row is not None and self._equal(raw, row, here)), None)
        if equal is not None and not columns:
            return Verdict(source_id, WRITTEN)
        if equal is None and refusal_key(source_id) in refused:
            return Verdict(source_id, REJECTED)
        return await self._decided(source_id, equal or raws[-1], row, here, copied=equal is not None)

    def _equal(self, raw: bytes, row: Mapping[str, Any], here: bytes | None) -> bool:
        return self._keep(raw) == here and (not self._by_room or row["room_id"] == text(room_of(raw)))

    def _room(self, row: Mapping[str, Any] | None, raw: bytes | None) -> str | None:
        if self._by_room and raw is not None:
            return text(room_of(raw))
        return None if row is None else row.get("room_id")

    async def _decided(
        self, source_id: str, raw: bytes, row: Mapping[str, Any] | None, here: bytes | None, *, copied: bool
    ) -> Verdict:
        chunk = await self._desk.sorts.sort(self._name, Block([raw], [0], ""))
        kept, room = self._keep(raw), self._room(row, raw)
        if chunk.rows:
            made = tuple(chunk.rows[0])
            if row is None:
                return Verdict(source_id, MISSING, room, source=kept, made=made)
            state, fields = self._compared(made, row, kept, here, copied=copied)
            return Verdict(source_id, state, room, None, fields, kept, here, made)
        if copied:
            return Verdict(source_id, WRITTEN)
        if chunk.refused:
            reason = chunk.refused[0].code
            return Verdict(source_id, MISSING, room, reason, (), kept, here, refused=chunk.refused[0])
        if chunk.account.erased:
            return Verdict(source_id, ERASED if row is None else EXTRA, room, ERASED, (), kept, here)
        return Verdict(source_id, SKIPPED, room, next(iter(chunk.account.skipped), "unknown"))

    def _compared(
        self, made: Row, row: Mapping[str, Any], kept: bytes, here: bytes | None, *, copied: bool
    ) -> tuple[str, tuple[str, ...]]:
        wrong = wrong_columns(self._shape, made, row)
        if kept == here:
            # A message of the very same bytes in another room is found by its bucket; other columns by the sample.
            moved = self._by_room and "room_id" in wrong
            return (DIFFERENT if moved and not copied else COLUMNS if wrong else WRITTEN), wrong
        return DIFFERENT, wrong if here is None else wrong_fields(here, kept)

    def mapped(self, raw: bytes) -> Row | None:
        """What the mapper makes of bytes as they are kept; None: nothing."""
        document = decode([raw])[0]
        if isinstance(document, Reject):
            return None
        try:
            return self._treated.map(self._desk.reader, self._name, document, raw)
        except UNREADABLE:
            return None

    # ---- mending

    async def mended(self, wrong: Sequence[Verdict], *, columns: bool = False) -> set[str]:
        """Mend, and look again; the ids of those that are wrong still. In a live source a document may change just then:
        it is mended once more."""
        left = list(wrong)
        for _ in range(_TRIES):
            await self.mend(left)
            refused = await self._desk.refused(self._name)
            after = await self.at([each.source_id for each in left], refused, columns=columns)
            left = [each for each in after.values() if each.state in WRONG]
            if not left:
                break
        return {each.source_id for each in left}

    async def mend(self, verdicts: Sequence[Verdict]) -> None:
        """Copy these documents anew, take those away that the source has not. What the database refuses is refused."""
        for begin in range(0, len(verdicts), _SLICE):
            some = verdicts[begin : begin + _SLICE]
            try:
                await self._mend(some)
            except BadRows as error:
                if len(some) > 1:
                    for each in some:
                        await self.mend([each])
                else:
                    found = Reject("server", str(error))
                    raw = some[0].source or b""
                    await self.refuse(refusal(self._name, "", some[0].source_id, found, raw))

    async def _mend(self, verdicts: Sequence[Verdict]) -> None:
        await self._desk.archive.mend(
            self._desk.run.id,
            self._shape,
            self._name,
            [each.made for each in verdicts if each.made is not None],
            refused=[each.refused for each in verdicts if each.refused is not None],
            gone=[each.source_id for each in verdicts if each.state == EXTRA],
        )

    async def refuse(self, refused: Refused) -> None:
        """Keep what cannot be written."""
        await self._desk.archive.mend(self._desk.run.id, self._shape, self._name, [], refused=[refused])
