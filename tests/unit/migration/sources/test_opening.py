import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from migration.documents import Reject, decode
from migration.sources import SourceError, open_source
from migration.sources.archive import ArchiveSource
from migration.sources.databases import home, named
from migration.sources.folder import FolderSource
from tests.unit.migration.sources.dumps import archive, documents, read, write

SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared")) / "data"


def test_each_kind_is_told_by_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "dump/rocketchat/users.bson", documents(1))
    assert isinstance(open_source(str(tmp_path / "dump")), FolderSource)
    assert isinstance(open_source(str(tmp_path / "dump/rocketchat")), FolderSource)
    data = archive([("rocketchat", "users", documents(3))])
    for name, content in (("a.archive", data), ("anything", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        source = open_source(str(tmp_path / name))
        assert isinstance(source, ArchiveSource)
        assert (source.name, source.live) == (str(tmp_path / name), False)
        source.close()


def test_a_source_has_one_name_however_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "big/users.bson", documents(1))
    (tmp_path / "big.archive").write_bytes(archive([("rocketchat", "users", documents(1))]))
    (tmp_path / "latest").symlink_to("big")
    monkeypatch.chdir(tmp_path)
    for given in ("big", "./big/", "../" + tmp_path.name + "/big", "latest", str(tmp_path / "big")):
        assert open_source(given).name == str(tmp_path.resolve() / "big")
    source = open_source("big.archive")
    assert source.name == str(tmp_path.resolve() / "big.archive")
    source.close()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(SourceError, match="cannot be read"):
        open_source("round")


def test_what_is_none_of_the_three(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"hello"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello")[:9])
    (tmp_path / "users.bson").write_bytes(documents(1)[0])
    os.mkfifo(tmp_path / "pipe")
    cases = [
        (tmp_path / "nowhere", "is not there: a mongodb:// URI"),
        (tmp_path / "pipe", "neither a file nor a folder"),
        (tmp_path / "notes.txt", "no mongodump archive"),
        (tmp_path / "notes.gz", "no mongodump archive"),
        (tmp_path / "cut.gz", "no mongodump archive"),
        (tmp_path / "users.bson", f"one collection of a dump: give its folder, {tmp_path}"),
        ("x" * 5000, "cannot be read"),
        ("mongo\x00db", "expected"),
    ]
    for given, said in cases:
        with pytest.raises(SourceError, match=said):
            open_source(str(given))
    with pytest.raises(SourceError, match="postgres:// is no source") as raised:
        open_source("postgres://u:s3cret@host/db")
    assert "s3cret" not in str(raised.value)


def test_a_file_source_needs_no_driver_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom migration.sources import open_source\n"
        f"open_source({str(write(tmp_path / 'users.bson', documents(1)).parent)!r})\n"
        "sys.exit('migration.sources.live' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_home_is_the_database_most_like_rocket_chat() -> None:
    assert home([]) is None
    assert home([("", "oplog")]) is None
    assert home([("admin", "users"), ("x", "things")]) == "x"
    assert home([("a", "rocketchat_x"), ("b", "users"), ("b", "rocketchat_x")]) == "b"
    two = [("a", "users"), ("a", "rocketchat_room"), ("b", "users"), ("b", "rocketchat_room")]
    assert home(two) == "a"
    assert home([*two, ("b", "rocketchat_message")]) == "b"
    assert list(named([*two, ("", "oplog"), ("a", "oplog")]).items()) == [
        (".oplog", ("", "oplog")), ("b.rocketchat_room", ("b", "rocketchat_room")), ("b.users", ("b", "users")),
        ("oplog", ("a", "oplog")), ("rocketchat_room", ("a", "rocketchat_room")), ("users", ("a", "users")),
    ]  # fmt: skip


def test_every_shared_dump_is_read() -> None:
    if not SHARED.exists():
        pytest.skip(f"NO SHARED DUMPS at {SHARED}: set FIGUEIRA_SHARED")
    found: dict[str, tuple[int, list[str]]] = {}
    given = [
        SHARED / "rocketchat-dump",
        SHARED / "broken-bson",
        *sorted(SHARED.glob("mongodump-archives/*.archive")),
    ]
    sizes = 0
    for path in given:
        source = open_source(str(path))
        for collection in source.collections():
            raws, faults = read(source, collection.name, 10)
            sizes += sum(map(len, raws)) + sum(len(fault.raw) for fault in faults)
            rejects = [one.code for one in decode(raws) if isinstance(one, Reject)]
            found[collection.name] = (len(raws), [*(fault.code for fault in faults), *rejects])
    assert sizes == sum(path.stat().st_size for path in SHARED.glob("*/*.bson")) + 59 + 725 + 2760 + 59 + 35
    assert found["rocketchat_message"] == (87, [])
    assert found["users"] == (6, [])
    assert found["rocketchat_uploads.chunks"] == (6, [])
    assert found["bsondump_testdata_partial_file"] == (2, ["truncated"])
    assert found["bsondump_testdata_bad_cstring"] == (4, ["invalid_bson"])
    assert found["oplog"] == (18, [])
    assert found["bar"] == (1, [])
    assert {name for name, (_, bad) in found.items() if bad} == {
        "bsondump_testdata_partial_file", "bsondump_testdata_bad_cstring",
    }  # fmt: skip
