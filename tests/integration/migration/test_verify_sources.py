"""Verification over every kind of source: a live one that changes meanwhile, an archive, a real dump, files in GridFS."""

import gzip
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import bson
import pytest
from bson import ObjectId
from pymongo import MongoClient
from secantus import SecantusDBServer

from adapters.files.store import open_store
from migration.documents import Block
from migration.sources.live import LiveSource
from migration.uploads import Uploads
from migration.verify import Report, Tally
from router.storage.archive.store import open_archive
from tests.integration.migration.verify_scene import BEGAN, Scene, clinic, message, shown, write

pytestmark = pytest.mark.postgres

MESSAGES = "rocketchat_message"
DUMP = Path(os.environ.get("FIGUEIRA_SHARED", "../shared")) / "data" / "rocketchat-dump"


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    link = await asyncpg.connect(dsn)
    async with open_archive(dsn) as archive:
        yield Scene(archive, link, write(tmp_path / "dump", clinic()))
    await link.close()


def balanced(report: Report) -> bool:
    return all(tally.balanced for tally in report.collections.values())


# ---- live


class Moving(LiveSource):
    """Something happens just before single documents are asked for."""

    meanwhile: Callable[[], object] | None = None

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        if collection == MESSAGES and self.meanwhile is not None:
            happening, self.meanwhile = self.meanwhile, None
            happening()
        return super().fetch(collection, ids)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecantusDBServer]:
    server = SecantusDBServer(storage_path=str(tmp_path_factory.mktemp("mongo")))
    server.start()
    yield server
    server.stop()


@pytest.mark.server
async def test_what_differs_in_a_live_source_is_looked_at_again(
    scene: Scene, server: SecantusDBServer
) -> None:
    with MongoClient[dict[str, Any]](server.uri) as client:
        mongo = client["clinic"]
        for name, documents in clinic().items():
            mongo[name].insert_many(documents)
        host, port = server.address
        with closing(Moving(f"mongodb://{host}:{port}/clinic")) as source:
            scene.source = source
            run = await scene.copy()
            report = await scene.checked(run)
            assert report.differences == 0, shown(report)
            assert balanced(report), shown(report)
            assert report.collections["rocketchat_settings"].skipped == {"secret": 3}

            # In the source and not yet here; gone there and still here; edited there.
            whole = mongo[MESSAGES].find_one({"_id": "m2-2"})
            edited = mongo[MESSAGES].find_one({"_id": "m3-3"})
            assert whole is not None
            assert edited is not None
            mongo[MESSAGES].insert_one(message("late", "r1"))
            mongo[MESSAGES].delete_one({"_id": "m2-2"})
            mongo[MESSAGES].update_one({"_id": "m3-3"}, {"$set": {"msg": "edited"}})
            apart = await scene.checked(run)
            assert {(each.kind, each.source_id) for each in apart.first} == {
                ("missing", "late"), ("extra", "m2-2"), ("different", "m3-3")
            }, shown(apart)  # fmt: skip

            def settled() -> None:
                mongo[MESSAGES].delete_one({"_id": "late"})
                mongo[MESSAGES].insert_one(whole)
                mongo[MESSAGES].replace_one({"_id": "m3-3"}, edited)

            source.meanwhile = settled
            again = await scene.checked(run)
            assert again.differences == 0, shown(again)
            assert balanced(again), shown(again)
            assert again.collections[MESSAGES].source == 120

            mongo[MESSAGES].delete_one({"_id": "m4-4"})
            mongo[MESSAGES].insert_one(message("new", "r4"))
            mended = await scene.checked(run, repair=True)
            assert (mended.differences, mended.changed) == (0, 2), shown(mended)
            assert balanced(mended)
            assert (await scene.checked(run)).differences == 0


# ---- files that stand still


async def test_compressed_parts_are_read_too(scene: Scene) -> None:
    for path in scene.folder.glob("*.bson"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    run = await scene.copy()
    await scene.link.execute("delete from archive_messages where source_id = 'm0-0'")
    report = await scene.checked(run, repair=True)
    assert (report.differences, report.changed) == (0, 1), shown(report)


async def test_a_check_that_was_cut_off_goes_on_with_the_next_part(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migration.verify.verify._NOTED_SECONDS", -1.0)
    monkeypatch.setattr("migration.sources.folder.FolderSource.plan", _small)
    run = await scene.copy()
    assert len([part for part in await scene.archive.parts(run.id) if part.collection == MESSAGES]) == 6
    told: list[tuple[str, int]] = []

    class Cut(Exception):
        pass

    def cut(progress: Any) -> None:
        told.append((progress.collection, progress.account.source))
        if progress.collection == MESSAGES and progress.account.source > 50:
            raise Cut

    with pytest.raises(Cut):
        await scene.checked(run, told=cut)
    told.clear()
    report = await scene.checked(run, told=lambda each: told.append((each.collection, each.account.source)))
    assert report.differences == 0, shown(report)
    assert balanced(report)
    # Two of the parts were through; the rest is read.
    assert [name for name, _ in told] == [MESSAGES] * 4
    assert told[-1] == (MESSAGES, 120)
    assert report.collections[MESSAGES].source == 120


def _small(source: Any, collection: str, documents: int = 20) -> list[dict[str, Any]]:
    path = source._folder / f"{collection}.bson"
    begins, at = [0], 0
    for n, document in enumerate(bson.decode_all(path.read_bytes())):
        at += len(bson.encode(document))
        if (n + 1) % 20 == 0:
            begins.append(at)
    ends = [*begins[1:], path.stat().st_size]
    return [{"from": begin, "to": end} for begin, end in zip(begins, ends, strict=True) if begin < end]


# ---- GridFS


@dataclass(frozen=True)
class Place:
    directory: Path
    s3: None = None


def gridfs(folder: Path) -> None:
    """An upload in two chunks, one without its document, and a chunk of nothing."""
    whole = b"laudo!!"
    files = [
        {
            "_id": "f1",
            "length": 7,
            "chunkSize": 4,
            "md5": hashlib.md5(whole, usedforsecurity=False).hexdigest(),
            "uploadDate": BEGAN,
        },
        {"_id": "f9", "length": 3, "chunkSize": 4, "uploadDate": BEGAN},
    ]
    chunks = [
        {"_id": ObjectId(), "files_id": "f1", "n": 0, "data": whole[:4]},
        {"_id": ObjectId(), "files_id": "f1", "n": 1, "data": whole[4:]},
        {"_id": ObjectId(), "files_id": "f9", "n": 0, "data": b"abc"},
        {"_id": ObjectId(), "files_id": "gone", "n": 0, "data": b"abc"},
        {"_id": ObjectId(), "files_id": "f1", "n": 7, "data": b"does not fit"},
    ]
    write(folder, {"rocketchat_uploads.files": files, "rocketchat_uploads.chunks": chunks})


async def test_files_are_read_back_and_compared_with_gridfs(scene: Scene, tmp_path: Path) -> None:
    gridfs(scene.folder)
    store = open_store(Place(directory=tmp_path / "files"))
    uploads = Uploads(scene.archive, store, tmp_path / "spool", limit=1_000_000)
    scene.uploads = uploads
    run = await scene.copy()
    report = await scene.checked(run, files=uploads)
    assert report.differences == 0, shown(report)
    assert balanced(report), shown(report)
    assert report.collections["rocketchat_uploads.files"] == Tally(2, 1, {"no_upload": 1})
    chunks = report.collections["rocketchat_uploads.chunks"]
    assert (chunks.source, chunks.written, chunks.rejected) == (5, 2, 1)
    assert chunks.skipped == {"no_upload": 1, "orphan_chunk": 1}
    counts = await scene.archive.counts(run.id)
    for name in ("rocketchat_uploads.files", "rocketchat_uploads.chunks"):
        tally = report.collections[name]
        assert (tally.written, tally.skipped) == (counts[name].written, dict(counts[name].skipped))

    (held,) = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    held.write_bytes(b"another")
    await scene.link.execute("update archive_files set stored_size = 6 where source_id = 'f1'")
    wrong = await scene.checked(run, files=uploads)
    assert {(each.collection, each.kind, each.source_id) for each in wrong.first} == {
        ("rocketchat_uploads", "bytes", "f1"), ("rocketchat_uploads.files", "bytes", "f1")
    }  # fmt: skip

    await scene.link.execute("update archive_files set stored_size = 7 where source_id = 'f1'")
    mended = await scene.checked(run, files=uploads, repair=True)
    assert (mended.differences, mended.changed) == (0, 1), shown(mended)
    assert balanced(mended)
    assert held.read_bytes() == b"laudo!!"
    assert (await scene.checked(run, files=uploads)).differences == 0


# ---- a real one


@pytest.mark.skipif(not DUMP.is_dir(), reason=f"NOT TESTED: {DUMP} is missing")
async def test_a_real_dump_is_proven(scene: Scene) -> None:
    scene.folder = DUMP
    run = await scene.copy()
    report = await scene.checked(run)
    assert report.differences == 0, shown(report)
    assert balanced(report), shown(report)
    counts = await scene.archive.counts(run.id)
    assert {name: tally.source for name, tally in report.collections.items()} == {
        name: account.source for name, account in counts.items()
    }
    await scene.link.execute("update archive_messages set sent_at = $1", datetime(2020, 1, 1, tzinfo=UTC))
    mended = await scene.checked(run, repair=True, sample=10_000)
    assert mended.differences == 0, shown(mended)
    assert mended.changed == report.collections[MESSAGES].written
    assert (await scene.checked(run, sample=10_000)).differences == 0
