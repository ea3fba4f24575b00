import struct
from collections.abc import Iterator

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.documents import BLOCK_BYTES, KEPT_BYTES, MAX_DOCUMENT, MIB, Block, Fault
from migration.sources.frames import OVER, Damaged, Window, blocks, borders
from tests.unit.migration.sources.dumps import documents, large


def stream(data: bytes, step: int, end: Damaged | None = None) -> Iterator[Block]:
    """The data, never more than `step` bytes at once."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = data[at : at + min(size, step)]
        at += len(piece)
        if not piece and end:
            raise end
        return piece

    return blocks(read, 0, lambda place: f"byte {place}")


def all_of(
    data: bytes, step: int = BLOCK_BYTES, end: Damaged | None = None
) -> tuple[list[bytes], list[Fault]]:
    found = list(stream(data, step, end))
    for block in found:
        for raw, at in zip(block.raws, block.positions, strict=True):
            assert data[at : at + len(raw)] == raw
    return [raw for one in found for raw in one.raws], [fault for one in found for fault in one.faults]


@pytest.mark.parametrize("step", [1, 7, 4096, BLOCK_BYTES])
def test_documents_come_back_whatever_a_read_gives(step: int) -> None:
    raws = documents(500)
    assert all_of(b"".join(raws), step) == (raws, [])
    assert all_of(b"", step) == ([], [])


def test_blocks_are_of_about_the_right_size() -> None:
    raws = documents(60_000)
    sizes = [sum(map(len, block.raws)) for block in stream(b"".join(raws), MIB)]
    assert len(sizes) > 5
    assert all(BLOCK_BYTES / 2 < size < 2.5 * BLOCK_BYTES for size in sizes[:-1])


def test_documents_up_to_the_limit_are_taken() -> None:
    raws = [*documents(2), large(MAX_DOCUMENT), *documents(2, "z")]
    assert all_of(b"".join(raws)) == (raws, [])


@pytest.mark.parametrize("size", [MAX_DOCUMENT + 1, KEPT_BYTES + 1, 20 * MIB])
def test_a_too_large_document_is_one_fault_and_its_neighbours_go_in(size: int) -> None:
    before, after, big = documents(2), documents(2, "z"), large(size)
    raws, [fault] = all_of(b"".join([*before, big, *after]))
    assert raws == before + after
    assert (fault.code, fault.position) == ("too_large", len(b"".join(before)))
    assert fault.raw == big[:KEPT_BYTES]
    assert f"byte {fault.position}: the document has {size} bytes" in fault.reason
    assert all_of(big)[1][0].code == "too_large"


def test_a_missing_nul_is_one_fault_where_the_next_document_stands_right() -> None:
    raws = documents(9)
    broken = raws[4][:-1] + b"!"
    found, [fault] = all_of(b"".join([*raws[:4], broken, *raws[5:]]))
    assert found == raws[:4] + raws[5:]
    assert (fault.code, fault.raw) == ("invalid_bson", broken)
    assert "no NUL" in fault.reason


@pytest.mark.parametrize("length", [0, 4, -1, -(2**31), 49_000_000, 2**31 - 1, 0x20202020])
def test_after_a_length_that_cannot_be_the_rest_is_one_fault(length: int) -> None:
    raws = documents(9)
    rest = struct.pack("<i", length) + b"".join(raws[5:])
    found, [fault] = all_of(b"".join(raws[:5]) + rest)
    assert found == raws[:5]
    assert (fault.code, fault.position, fault.raw) == ("invalid_bson", len(b"".join(raws[:5])), rest)
    assert f"byte {fault.position}: no document has a length of {length} bytes" in fault.reason


def test_a_length_that_lands_in_the_middle_is_not_believed() -> None:
    raws = documents(9, size=9)
    wrong = struct.pack("<i", len(raws[2]) + 7) + raws[2][4:]
    found, [fault] = all_of(b"".join([*raws[:2], wrong, *raws[3:]]))
    assert found == raws[:2]
    assert fault.code == "invalid_bson"
    assert fault.raw == b"".join([wrong, *raws[3:]])


def test_what_is_kept_of_a_fault_is_bounded() -> None:
    _, [fault] = all_of(bytes(KEPT_BYTES + MIB))
    assert len(fault.raw) == KEPT_BYTES


@given(st.integers(0, 2000), st.integers(1, 300))
def test_cut_anywhere_the_whole_documents_stay(at: int, step: int) -> None:
    raws = documents(40)
    data = b"".join(raws)[:at]
    found, faults = all_of(data, step)
    assert found == raws[: len(found)]
    left = data[sum(map(len, found)) :]
    assert len(left) < len(raws[len(found)]) if len(found) < len(raws) else not left
    if left:
        [fault] = faults
        assert (fault.code, fault.raw, fault.position) == ("truncated", left, len(data) - len(left))
        assert f"truncated at byte {fault.position}: " in fault.reason
    else:
        assert not faults


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_accounted_for(junk: bytes, step: int) -> None:
    data = bson.encode({"_id": "a"}) + junk
    pieces: list[tuple[int, bytes]] = []
    for block in stream(data, step):
        pieces += zip(block.positions, block.raws, strict=True)
        pieces += [(fault.position, fault.raw) for fault in block.faults]
    assert b"".join(raw for _, raw in sorted(pieces)) == data


def test_damage_at_the_end_of_a_stream_is_a_fault() -> None:
    raws = documents(3)
    found, [fault] = all_of(b"".join(raws), end=Damaged("invalid_bson", "the CRC is wrong"))
    assert found == raws
    assert (fault.code, fault.raw) == ("invalid_bson", b"")
    assert fault.reason.endswith("the CRC is wrong")
    found, [fault] = all_of(b"".join(raws)[:-2], end=Damaged("truncated", "gzip ends"))
    assert found == raws[:2]
    assert fault.raw == raws[2][:-2]
    assert fault.reason.endswith("the source ends before; gzip ends")
    *_, last = stream(b"".join(raws)[:-2], 5)
    assert last.resume == OVER


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 40))
def test_borders_stand_before_each_nth_document(sizes: list[int], step: int) -> None:
    total = sum(sizes)
    positions = [7 * n for n in range(total)]
    cut = iter(positions)
    made = [Block([b""] * size, [next(cut) for _ in range(size)], "") for size in sizes]
    assert borders(made, step) == positions[step::step]


def test_a_window_says_how_much_there_is() -> None:
    pieces = iter([b"ab", b"c", b""])
    window = Window(lambda size: next(pieces), 10)
    assert window.fill(1) == 2
    assert window.take(1) == b"a"
    assert window.fill(2) == 2
    assert window.position == 11
    assert window.fill(50) == 2
    assert window.take(9) == b"bc"
    assert (window.position, window.damage) == (13, None)
