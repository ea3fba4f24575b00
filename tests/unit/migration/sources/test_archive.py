import gzip
import json
import tracemalloc
from pathlib import Path

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration.documents import KEPT_BYTES, MAX_DOCUMENT
from migration.sources import About, Found, SourceError
from migration.sources.archive import ArchiveSource
from tests.unit.migration.sources.dumps import MAGIC, MARK, Segment, archive, documents, large, read, resumes

ROOMS, USERS = documents(700, "room"), documents(400, "user")
MIXED: list[Segment] = [
    ("chat", "rocketchat_room", ROOMS[:300]), ("chat", "users", USERS[:150]), ("chat", "rocketchat_room", ROOMS[300:301]),
    ("chat", "users", USERS[150:]), ("chat", "rocketchat_room", ROOMS[301:]), ("chat", "empty", []),
]  # fmt: skip


def opened(path: Path, data: bytes, *, compressed: bool = False) -> ArchiveSource:
    path.write_bytes(gzip.compress(data, 1) if compressed else data)
    return ArchiveSource(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_interleaved_collections_come_back(tmp_path: Path, compressed: bool) -> None:
    source = opened(tmp_path / "dump", archive(MIXED), compressed=compressed)
    assert source.about() == About("archive", "6.0.1", "100.9.0", "chat")
    assert source.collections() == [
        Found("empty", 0, 0), Found("rocketchat_room", 700, len(b"".join(ROOMS))),
        Found("users", 400, len(b"".join(USERS))),
    ]  # fmt: skip
    for count in (7, 100_000):
        assert read(source, "rocketchat_room", count) == (ROOMS, [])
        assert read(source, "users", count) == (USERS, [])
        assert read(source, "empty", count) == ([], [])
    with pytest.raises(SourceError, match="no collection 'rooms'"):
        source.plan("rooms")
    source.close()
    assert len(source.collections()) == 3


@pytest.mark.parametrize("compressed", [False, True])
def test_resume_and_parts(tmp_path: Path, compressed: bool) -> None:
    many = documents(30_000)
    segments = [("chat", "m", many[:9000]), ("chat", "users", USERS), ("chat", "m", many[9000:])]
    source = opened(tmp_path / "dump", archive(segments, crcs={"m": 1}), compressed=compressed)
    parts = source.plan("m", 11_000)
    assert parts == source.plan("m", 11_000) == json.loads(json.dumps(parts))
    assert len(parts) == (1 if compressed else 3)
    again = ArchiveSource(tmp_path / "dump")  # another process: no pass over the archive
    assert sum(resumes(again, "m", part) for part in parts) > 4
    assert again._index is None
    assert read(source, "m", 11_000)[0] == many


@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_crc_is_a_fault_of_its_collection(tmp_path: Path, compressed: bool) -> None:
    data = archive(MIXED, crcs={"users": 2**64 - 5})
    source = opened(tmp_path / "dump", data, compressed=compressed)
    assert read(source, "rocketchat_room", 50) == (ROOMS, [])
    raws, [fault] = read(source, "users", 50)
    assert raws == USERS
    assert (fault.code, fault.raw) == ("invalid_bson", b"")
    assert "the CRC-64 of chat.users is wrong" in fault.reason
    assert "says -5" in fault.reason


def test_a_flipped_bit_is_found_by_the_crc(tmp_path: Path) -> None:
    data = archive(MIXED)
    at = data.index(b"x" * 15)
    source = opened(tmp_path / "dump", data[:at] + b"y" + data[at + 1 :])
    raws, [fault] = read(source, "rocketchat_room")
    assert len(raws) == len(ROOMS)
    assert "CRC-64" in fault.reason


def test_a_document_that_is_none_and_one_too_large(tmp_path: Path) -> None:
    bad = ROOMS[0][:-1] + b"!"
    huge = large(KEPT_BYTES + 999)
    raws = [*ROOMS[:3], bad, *ROOMS[3:6], huge, *ROOMS[6:], large(MAX_DOCUMENT)]
    source = opened(tmp_path / "dump", archive([("chat", "rooms", raws), ("chat", "users", USERS)]))
    found, faults = read(source, "rooms", 3)
    assert found == [*ROOMS, raws[-1]]
    assert [(fault.code, len(fault.raw)) for fault in faults] == [
        ("invalid_bson", len(bad)), ("too_large", KEPT_BYTES),
    ]  # fmt: skip
    assert "of the archive (byte " in faults[0].reason
    assert read(source, "users") == (USERS, [])


def test_a_length_that_cannot_be_ends_the_archive(tmp_path: Path) -> None:
    broken = b"\x00\x00\x00\x7f" + ROOMS[3][4:]
    data = archive([
        ("chat", "done", USERS), ("chat", "users", USERS[:9]), ("chat", "rooms", [*ROOMS[:3], broken, *ROOMS[3:]]),
        ("chat", "users", USERS[9:]),
    ])  # fmt: skip
    source = opened(tmp_path / "dump", data)
    assert read(source, "done") == (USERS, [])
    raws, [fault] = read(source, "rooms")
    assert raws == ROOMS[:3]
    at = data.index(broken)
    assert fault.code == "invalid_bson"
    assert fault.raw == data[at:]
    assert f"at byte {at} of the archive (byte {fault.position} of rooms)" in fault.reason
    raws, [fault] = read(source, "users")
    assert raws == USERS[:9]
    assert fault.code == "truncated"
    assert f"at byte {at}: no document has a length" in fault.reason
    assert fault.reason.endswith("the end of chat.users")


def test_what_an_archive_says_it_holds_must_come(tmp_path: Path) -> None:
    metadata = [
        ("chat", "rooms", "collection"), ("chat", "users", "collection"), ("chat", "a_view", "view"),
        ("chat", "times", "timeseries"),
    ]  # fmt: skip
    segments: list[Segment] = [("chat", "rooms", ROOMS), ("chat", "system.buckets.times", USERS)]
    source = opened(tmp_path / "dump", archive(segments, metadata=metadata))
    assert [found.name for found in source.collections()] == ["rooms", "system.buckets.times", "users"]
    assert read(source, "system.buckets.times") == (USERS, [])
    assert read(source, "rooms") == (ROOMS, [])
    raws, [fault] = read(source, "users")
    assert not raws
    assert (fault.code, fault.position) == ("truncated", 0)
    assert "without the end of chat.users" in fault.reason


def test_an_oplog_and_other_databases(tmp_path: Path) -> None:
    segments: list[Segment] = [
        ("", "oplog", USERS), ("admin", "system.version", USERS[:1]), ("chat", "users", USERS), ("chat", "rocketchat_room", ROOMS),
    ]  # fmt: skip
    source = opened(tmp_path / "dump", archive(segments))
    assert [found.name for found in source.collections()] == [
        "admin.system.version", "oplog", "rocketchat_room", "users",
    ]  # fmt: skip


def test_fetch(tmp_path: Path) -> None:
    source = opened(tmp_path / "dump", archive(MIXED))
    found = [
        raw
        for block in source.fetch("rocketchat_room", ["room00300", "room00699", "user00001"])
        for raw in block.raws
    ]
    assert found == [ROOMS[300], ROOMS[699]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no mongodump archive"),
        (b"PK\x03\x04", "no mongodump archive"),
        (MAGIC, "the archive's header should stand at byte 4"),
        (MAGIC + bson.encode({}), "a collection's metadata should stand at byte 9"),
        (MAGIC + bson.encode({}) + bson.encode({"db": 1}) + MARK, "names no collection"),
        (MAGIC + MARK, "the archive's header"),
        (MAGIC + b"\x09\x00\x00\x00\x02a\x00\x00\x00" + MARK, "not valid BSON"),
    ],
)  # fmt: skip
def test_what_is_no_archive(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        opened(tmp_path / "dump", data)


def test_garbage_after_the_end_is_told(tmp_path: Path) -> None:
    for garbage, code in (
        (b"\x00" * 40, "invalid_bson"),
        (bson.encode({"a": 1}) + MARK, "invalid_bson"),
        (b"ab", "truncated"),
    ):
        source = opened(tmp_path / "dump", archive(MIXED) + garbage)
        told = [fault for name in ("rocketchat_room", "users", "empty") for fault in read(source, name)[1]]
        assert [fault.code for fault in told] == [code]
    empty = MAGIC + bson.encode({}) + MARK
    assert opened(tmp_path / "dump", empty).collections() == []
    with pytest.raises(SourceError, match="damaged"):
        opened(tmp_path / "dump", empty + b"ab").collections()


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut") / "dump"


SMALL: list[Segment] = [
    ("chat", "rooms", ROOMS[:4]), ("chat", "users", USERS[:3]), ("chat", "rooms", ROOMS[4:7]), ("chat", "users", USERS[3:5]),
]  # fmt: skip
WHOLE = archive(SMALL)


@pytest.mark.parametrize("compressed", [False, True])
def test_cut_at_every_byte(cut: Path, compressed: bool) -> None:
    data = gzip.compress(WHOLE, 1) if compressed else WHOLE
    prelude = WHOLE.index(MARK) + len(MARK)
    for at in range(len(data)):
        cut.write_bytes(data[:at])
        try:
            source = ArchiveSource(cut)
            source.collections()
        except SourceError:
            assert compressed or at < prelude
            continue
        told = 0
        for name, raws in (("rooms", ROOMS[:7]), ("users", USERS[:5])):
            found, faults = read(source, name, 2)
            assert found == raws[: len(found)]
            assert compressed or all(WHOLE.index(raw) + len(raw) > at for raw in raws[len(found) :])
            assert {fault.code for fault in faults} <= {"truncated"}
            assert faults or found == raws
            told += len(faults)
        assert told


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_a_damaged_byte_is_never_silent(cut: Path, seed: int, flip: int, compressed: bool) -> None:
    data = bytearray(gzip.compress(WHOLE, 1) if compressed else WHOLE)
    at = seed % len(data)
    data[at] ^= flip
    cut.write_bytes(data)
    prelude = WHOLE.index(MARK) + len(MARK)
    try:
        source = ArchiveSource(cut)
        found = {one.name: read(source, one.name, 2) for one in source.collections()}
    except SourceError:
        return
    good = {name: raws for name, (raws, _) in found.items()} == {"rooms": ROOMS[:7], "users": USERS[:5]}
    assert good or any(faults for _, faults in found.values()) or (not compressed and at < prelude)


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_is_bounded(tmp_path: Path, compressed: bool) -> None:
    raws = [bson.encode({"_id": f"m{n:05}", "msg": "x" * 900}) for n in range(1000)]
    segments = [("chat", name, raws) for _ in range(15) for name in ("rooms", "users")]
    opened(tmp_path / "dump", archive(segments), compressed=compressed)
    tracemalloc.start()
    source = ArchiveSource(tmp_path / "dump")
    count = sum(len(block.raws) for part in source.plan("users") for block in source.read("users", part))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 15_000
    assert peak < 8 * 1024 * 1024
