import gzip
import json
import tracemalloc
import zlib
from pathlib import Path

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration.sources import About, Found, SourceError
from migration.sources.folder import FolderSource
from migration.sources.frames import Damaged
from migration.sources.inflate import Inflated
from tests.unit.migration.sources.dumps import documents, read, resumes, write

KINDS = ["rooms.bson", "rooms.bson.gz"]


@pytest.mark.parametrize("name", KINDS)
def test_every_document_comes_back(tmp_path: Path, name: str) -> None:
    raws = documents(3000)
    write(tmp_path / name, raws)
    source = FolderSource(tmp_path)
    assert [found.name for found in source.collections()] == ["rooms"]
    assert read(source, "rooms") == (raws, [])
    assert read(source, "rooms", 7) == (raws, [])


def test_parts_are_disjoint_and_complete_and_the_same_again(tmp_path: Path) -> None:
    raws = documents(1003)
    write(tmp_path / "rooms.bson", raws)
    source = FolderSource(tmp_path)
    parts = source.plan("rooms", 100)
    assert parts == source.plan("rooms", 100) == json.loads(json.dumps(parts))
    cut = [[raw for block in source.read("rooms", part) for raw in block.raws] for part in parts]
    assert [len(part) for part in cut] == [100] * 10 + [3]
    assert [raw for part in cut for raw in part] == raws
    assert source.plan("rooms", 1003) == [{"from": 0, "to": len(b"".join(raws))}]


@pytest.mark.parametrize("name", KINDS)
def test_resume_from_every_block(tmp_path: Path, name: str) -> None:
    raws = [*documents(30_000), documents(1, "last")[0][:-3]]
    write(tmp_path / name, raws)
    source = FolderSource(tmp_path)
    assert sum(resumes(source, "rooms", part) for part in source.plan("rooms", 12_000)) > 5


def test_an_empty_file_is_a_collection_without_documents(tmp_path: Path) -> None:
    write(tmp_path / "rooms.bson", [])
    write(tmp_path / "users.bson.gz", [])
    source = FolderSource(tmp_path)
    assert read(source, "rooms") == ([], [])
    assert read(source, "users") == ([], [])
    assert source.collections() == [Found("rooms", None, 0), Found("users", None, None)]


def test_fetch(tmp_path: Path) -> None:
    raws = documents(2000)
    for name in KINDS:
        write(tmp_path / name.split(".")[1] / name, raws)
        source = FolderSource(write(tmp_path / name[6:] / name, raws).parent)
        found = list(source.fetch("rooms", ["m00007", "m01999", "none"]))
        assert [raw for block in found for raw in block.raws] == [raws[7], raws[1999]]
        assert found[0].positions == [sum(map(len, raws[:7])), *found[0].positions[1:]]


def test_names_are_unescaped(tmp_path: Path) -> None:
    write(tmp_path / "caf%C3%A9s%2Fbar.bson", documents(1))
    write(tmp_path / "rocketchat_uploads.chunks.bson", documents(1))
    long = "x" * 208 + "%24" + "q" * 27
    write(tmp_path / f"{long}.bson", documents(1))
    (tmp_path / f"{long}.metadata.json").write_text(json.dumps({"collectionName": "x" * 240}))
    (tmp_path / "notes.txt").write_text("not a collection")
    assert [found.name for found in FolderSource(tmp_path).collections()] == [
        "cafés/bar", "rocketchat_uploads.chunks", "x" * 240,
    ]  # fmt: skip


def test_the_database_of_rocket_chat_is_found_among_others(tmp_path: Path) -> None:
    for name in ("aaa/users", "aaa/things", "chat/users", "chat/rocketchat_room", "admin/system.version"):
        write(tmp_path / f"{name}.bson", documents(1, name))
    write(tmp_path / "oplog.bson", documents(2, "oplog"))
    source = FolderSource(tmp_path)
    assert source.about() == About("folder", database="chat")
    assert [found.name for found in source.collections()] == [
        "aaa.things", "aaa.users", "admin.system.version", "oplog", "rocketchat_room", "users",
    ]  # fmt: skip
    assert read(source, "users")[0] == documents(1, "chat/users")
    assert read(source, "aaa.users")[0] == documents(1, "aaa/users")


@pytest.mark.parametrize(("place", "name"), [(".", "prelude.json"), ("chat", "prelude.json.gz")])
def test_versions_of_the_prelude(tmp_path: Path, place: str, name: str) -> None:
    write(tmp_path / "chat/users.bson", documents(1))
    said = json.dumps({"ServerVersion": "8.0.1", "ToolVersion": "100.12.0"}).encode()
    (tmp_path / place / name).write_bytes(gzip.compress(said) if name.endswith(".gz") else said)
    assert FolderSource(tmp_path).about() == About("folder", "8.0.1", "100.12.0", "chat")
    (tmp_path / place / name).write_bytes(b"{broken")
    assert FolderSource(tmp_path).about().server_version is None


def test_what_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no \.bson file"):
        FolderSource(tmp_path)
    write(tmp_path / "dump/chat/users.bson", documents(1))
    with pytest.raises(SourceError, match=f"give {tmp_path}/dump"):
        FolderSource(tmp_path)
    write(tmp_path / "users.bson", documents(1))
    with pytest.raises(SourceError, match="no collection 'rooms'"):
        FolderSource(tmp_path).plan("rooms")
    write(tmp_path / "users.bson.gz", documents(1))
    with pytest.raises(SourceError, match="the same collection: take one away"):
        FolderSource(tmp_path)


def test_a_file_that_shrank_after_the_plan(tmp_path: Path) -> None:
    raws = documents(10)
    path = write(tmp_path / "rooms.bson", raws)
    source = FolderSource(tmp_path)
    [part] = source.plan("rooms")
    write(path, raws[:6])
    [good, bad] = list(source.read("rooms", part))
    assert good.raws == raws[:6]
    assert bad.faults[0].code == "truncated"
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        list(source.read("rooms", part))


# ---------------------------------------------------------------------------------------------- damage


def test_a_fault_is_told_once_by_the_last_part(tmp_path: Path) -> None:
    raws = documents(50)
    path = write(tmp_path / "rooms.bson", [*raws, b"\x09\x00\x00\x00\x01"])
    found, [fault] = read(FolderSource(tmp_path), "rooms", 10)
    assert found == raws
    assert fault.reason.startswith(f"truncated at byte {fault.position} of {path.name}: ")


@pytest.fixture(scope="module")
def cut_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_gzip_cut_anywhere_gives_all_that_can_be_inflated(cut_folder: Path, seed: int) -> None:
    raws = documents(60)
    data = gzip.compress(b"".join(raws[:30]), 1) + bytes(9) + gzip.compress(b"".join(raws[30:]), 9)
    at = seed % (len(data) + 1)
    (cut_folder / "rooms.bson.gz").write_bytes(data[:at])
    found, faults = read(FolderSource(cut_folder), "rooms")
    first = gzip.compress(b"".join(raws[:30]), 1)
    inflated = zlib.decompressobj(31).decompress(data[: min(at, len(first))])
    if at > len(first) + 9:
        inflated += zlib.decompressobj(31).decompress(data[len(first) + 9 : at])
    assert b"".join(found) == inflated[: sum(map(len, found))]
    assert len(inflated) - sum(map(len, found)) < max(map(len, raws))
    assert found == raws[: len(found)]
    whole = at == len(data) or len(first) <= at <= len(first) + 9
    assert [fault.code for fault in faults] == ([] if whole else ["truncated"])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_damaged_gzip_never_raises_and_keeps_what_stands_before(
    cut_folder: Path, seed: int, flip: int
) -> None:
    raws = documents(400)
    data = bytearray(gzip.compress(b"".join(raws), 1))
    at = seed % len(data)
    data[at] ^= flip
    (cut_folder / "rooms.bson.gz").write_bytes(data)
    found, faults = read(FolderSource(cut_folder), "rooms")
    good = zlib.decompressobj(31).decompress(gzip.compress(b"".join(raws), 1)[: max(0, at - 1)])
    sure = len([1 for n in range(len(raws)) if sum(map(len, raws[: n + 1])) <= len(good)])
    assert found[:sure] == raws[:sure]
    assert faults or found == raws or len(found) == len(raws)


def test_the_reason_names_the_compressed_place() -> None:
    data = bytearray(gzip.compress(b"".join(documents(400))))
    data[-8] ^= 1  # the checksum
    pieces = iter([bytes(data), b""])
    stream = Inflated(lambda size: next(pieces))
    whole = b"".join(documents(400))
    out = b""
    while len(out) < len(whole):
        out += stream(1000)
    assert out == whole
    with pytest.raises(Damaged, match=f"damaged at its byte {len(data) - 5}"):  # the checksum's last
        stream(1000)


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", KINDS)
def test_memory_is_bounded(tmp_path: Path, name: str) -> None:
    raw = b"".join(bson.encode({"_id": f"m{n:05}", "msg": "x" * 900}) for n in range(1000))
    path = tmp_path / name
    with gzip.open(path, "wb", 1) if name.endswith(".gz") else path.open("wb") as file:
        for _ in range(60):
            file.write(raw)
    source = FolderSource(tmp_path)
    tracemalloc.start()
    count = sum(len(block.raws) for part in source.plan("rooms") for block in source.read("rooms", part))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 8 * 1024 * 1024
