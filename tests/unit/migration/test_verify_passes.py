"""The sums of the first pass, what the second lets through, and what a report says."""

import asyncio
import json
import threading
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.collections import Copied
from migration.documents import Block, Fault, Mask, Reject, digest
from migration.verify import Difference, Report, Side, Tally
from migration.verify.columns import wrong_columns, wrong_fields
from migration.verify.desk import apart
from migration.verify.passes import ODD, Buckets, Count, Here, Sieve, Sums, bucket_of, keeping
from migration.verify.report import FIRST
from router.storage.archive.checking import bucket
from router.storage.archive.shape import MESSAGES, Shape, Type

MASK = Mask(b"k" * 32)
COPIED = Copied(MESSAGES, lambda *_: ())


def block(*raws: bytes, faults: tuple[Fault, ...] = ()) -> Block:
    return Block(raws, range(len(raws)), "", faults)


def said(source_id: str, room: Any = "r1", **more: Any) -> bytes:
    return bson.encode({"_id": source_id, "rid": room} | more)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_a_bucket_is_the_one_that_the_database_computes(key: str) -> None:
    assert bucket_of(key.encode()) == bucket(key)


def counted(*blocks: Block, clean: Any = None) -> Sums:
    sums = Sums()
    keep = keeping(MASK, Copied(MESSAGES, lambda *_: (), clean))
    count = Count(iter(blocks), sums, keep, MASK, Buckets(by_room=True))
    while count.step(1) is not None:
        pass
    return sums


def test_masked_and_cleaned_bytes_are_summed_by_room() -> None:
    secret = said("m1", token="visitor-token")
    plain, odd = said("m2", "r2"), said("m3", 7)
    sums = counted(block(secret, plain), block(odd))
    assert sums.xors[bucket_of(b"r1")] == digest(MASK(secret)) != digest(secret)
    assert (sums.counts[bucket_of(b"r2")], sums.counts[ODD]) == (1, 1)
    assert sums.parts == [(3, digest(MASK(secret)) ^ digest(plain) ^ digest(odd))]
    here = {bucket_of(b"r1"): (1, digest(MASK(secret))), bucket_of(b"r2"): (1, digest(plain))}
    assert sums.differing(here) == [ODD]
    assert set(sums.differing({**here, 7: (1, 1)})) == {7, ODD}
    assert Sums.of(json.loads(json.dumps(sums.kept()))) == sums


def test_what_cannot_be_cleaned_counts_as_nothing_kept_and_faults_go_into_the_part() -> None:
    def refusing(raw: bytes) -> bytes:
        raise Reject("invalid_bson", "no")

    fault = Fault(9, "truncated", "cut", b"rest")
    sums = counted(block(said("m1"), faults=(fault,)), clean=refusing)
    assert sums.xors[bucket_of(b"r1")] == digest(b"")
    assert sums.parts == [(2, digest(b"") ^ digest(b"rest"))]
    assert ODD in sums.differing({bucket_of(b"r1"): (1, digest(b""))})


def sieve(here: dict[str, Here], *raws: bytes, rooms: tuple[str, ...] = ("r1",)) -> tuple[Sieve, list[bytes]]:
    wanted = {bucket_of(room.encode()) for room in rooms}
    made = Sieve(
        iter([block(*raws)]), wanted, here, keeping(MASK, COPIED), Buckets(by_room=True), by_room=True, matched=set()
    )  # fmt: skip
    left: list[bytes] = []
    while (rest := made.step()) is not None:
        left += rest.raws
    return made, left


def test_only_the_very_same_document_in_the_very_same_room_goes_through() -> None:
    one, other, elsewhere = said("m1"), said("m2", msg="x"), said("m9", "r9")
    here = {"m1": Here("r1", digest(one)), "m2": Here("r2", digest(other))}
    made, left = sieve(here, one, one, other, elsewhere)
    assert left == [other]
    assert (made.matched, made.duplicates, made.documents) == ({"m1"}, 1, 3)
    assert made.rooms == {"r1": 3}


def test_a_report_sums_keeps_the_first_and_never_shows_values() -> None:
    tally = Tally(source=FIRST + 5)
    for n in range(FIRST + 5):
        tally.differ(Difference("users", "missing", f"u{n}", source=Side.of(b"segredo")))
    tally.differ(Difference("users", "extra", "x").mended())
    assert not tally.balanced
    report = Report({"users": tally, "rooms": Tally(2, 1, {"filtered": 1})}, unfinished=1)
    told = report.as_json()
    assert (told["differences"], told["changed"], len(told["first_differences"])) == (FIRST + 5, 1, FIRST)
    assert told["collections"]["rooms"]["skipped"] == 1
    assert told["first_differences"][0]["source"] == {
        "length": 7,
        "digest": f"{digest(b'segredo') % 2**64:016x}",
    }
    assert "segredo" not in json.dumps(told)
    assert Tally.of(json.loads(json.dumps(tally.kept()))) == tally


def test_tallies_of_several_turns_are_one() -> None:
    one = Tally(3, 2, {"a": 1}, rooms={"r1": {"source": 1, "here": 0}})
    one.differ(Difference("c", "missing", "1"))
    two = Tally(5, 1, {"a": 1, "b": 1}, 1, 1)
    two.differ(Difference("c", "extra", "2"))
    one.absorb(two)
    assert (one.source, one.written, one.skipped, one.rejected, one.erased) == (8, 3, {"a": 2, "b": 1}, 1, 1)
    assert (one.differences, one.kinds, len(one.first)) == (2, {"missing": 1, "extra": 1}, 2)


def test_columns_compare_times_and_json_by_what_they_mean() -> None:
    from datetime import UTC, datetime

    shape = Shape(
        "t",
        ("source_id",),
        (("source_id", Type.TEXT), ("at", Type.TIME), ("extra", Type.JSON), ("raw", Type.RAW)),
    )
    row = {
        "source_id": "a",
        "at": datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
        "extra": '{"b": 1, "a": 2.0}',
        "raw": b"x",
    }
    assert wrong_columns(shape, ("a", -1, b'{"a":2,"b":1}', b"y"), row) == ()
    assert wrong_columns(shape, ("b", 0, None, b"x"), row) == ("source_id", "at", "extra")


def test_fields_that_differ_in_type_alone_are_named() -> None:
    assert wrong_fields(bson.encode({"a": 1, "b": 1}), bson.encode({"a": 1.0, "b": 1, "c": None})) == (
        "a",
        "c",
    )
    assert wrong_fields(b"no document", bson.encode({})) == ()


async def test_cancelled_work_beside_the_loop_is_waited_for() -> None:
    begun, end, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(10)
        done.set()

    task = asyncio.create_task(apart(work))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
