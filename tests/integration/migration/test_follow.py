"""Catch-up with a live source over the wire (SecantusDB), into a real PostgreSQL, by the product's own copy and loader."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from bson import CodecOptions, encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database
from secantus import SecantusDBServer

from adapters.rocketchat.documents import Documents
from migration.collections import Copied
from migration.collections.register import REGISTER
from migration.documents import Mask
from migration.load import Loader, Options, Sorter
from migration.run import Import
from migration.sources.live import LiveSource
from migration.verify import Verify
from migration.watermark import Follow, Following, warnings
from router.app.parts import SystemClock
from router.storage.archive import Archive, open_archive
from router.storage.archive.model import RunState
from router.storage.archive.shape import SHAPES
from tests.integration.migration import busy_clinic
from tests.integration.migration.verify_scene import Nobody

pytestmark = [pytest.mark.server, pytest.mark.postgres]
COPIED = [name for name, treated in REGISTER.items() if isinstance(treated, Copied)]


class CrashError(Exception):
    """The process is gone."""


class Scene:
    def __init__(self, source: LiveSource, archive: Archive) -> None:
        self.source, self.archive = source, archive
        self.mask = Mask(b"k" * 32)
        self.said: list[str] = []
        self.woven: list[Collection[str] | None] = []
        self.repaired = 0

    def made(self, options: Options, direct: frozenset[str] = frozenset()) -> tuple[Sorter, Loader]:
        sorter = Sorter(Documents(), self.mask, options)
        return sorter, Loader(self.archive, sorter, Nobody(), direct=direct)

    async def weave(self, rooms: Collection[str] | None = None) -> None:
        self.woven.append(rooms)

    async def verified(self, *, repair: bool = False) -> int:
        """How many differences there are."""
        run = await self.archive.latest(self.source.name)
        assert run is not None
        _, loader = self.made(Options())
        check = Verify(
            self.source, self.archive, run, sorts=loader, mask=self.mask, reader=Documents(), pause=0.05
        )
        report = await check.run(repair=repair)
        return int(report.as_json()["differences"])

    async def repair(self) -> None:
        self.repaired += 1
        await self.verified(repair=True)

    def follow(self) -> Follow:
        copy = Import(self.source, self.archive, self.made, weave=self.weave)
        return Follow(
            self.source, self.archive, self.made(Options())[1], collections=COPIED, copy=copy, repair=self.repair,
            weave=self.weave, uploads=None, clock=SystemClock(), report=self.said.append,
        )  # fmt: skip

    async def caught_up(self) -> Following:
        found = await asyncio.wait_for(self.follow().run(until_caught_up=True), 120)
        assert found.caught_up
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecantusDBServer]:
    server = SecantusDBServer(storage_path=str(tmp_path_factory.mktemp("mongo")))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mongo(server: SecantusDBServer, request: pytest.FixtureRequest) -> Iterator[Database[Any]]:
    yield from _database(server, request.node.name[:40])


def _database(server: SecantusDBServer, name: str) -> Iterator[Database[Any]]:
    with MongoClient[dict[str, Any]](server.uri) as client:
        busy_clinic.fill(client[name])
        yield client[name]
        client.drop_database(name)


def uri_of(server: SecantusDBServer, mongo: Database[Any]) -> str:
    host, port = server.address
    return f"mongodb://{host}:{port}/{mongo.name}"


@pytest.fixture
async def archive(dsn: str) -> AsyncIterator[Archive]:
    async with open_archive(dsn) as archive:
        yield archive


@pytest.fixture
def scene(server: SecantusDBServer, mongo: Database[Any], archive: Archive) -> Iterator[Scene]:
    with closing(LiveSource(uri_of(server, mongo))) as source:
        yield Scene(source, archive)


async def kept(dsn: str) -> dict[tuple[str, str], bytes]:
    """Every copied document."""
    link = await asyncpg.connect(dsn)
    found: dict[tuple[str, str], bytes] = {}
    names = {
        "archive_rooms": "rocketchat_room", "archive_messages": "rocketchat_message",
        "archive_files": "rocketchat_uploads",
    }  # fmt: skip
    try:
        await link.execute("set role figueira_engine")
        for table in SHAPES:
            name = f"'{names[table]}'" if table in names else "collection"
            for row in await link.fetch(
                f"select {name} as collection, source_id, raw from {table} where raw is not null"  # noqa: S608
            ):
                found[row["collection"], row["source_id"]] = row["raw"]
    finally:
        await link.close()
    return found


def there(scene: Scene, mongo: Database[Any]) -> dict[tuple[str, str], bytes]:
    """Every document of the source, as it is to be kept."""
    raw = mongo.client.get_database(mongo.name, codec_options=CodecOptions(document_class=RawBSONDocument))
    found: dict[tuple[str, str], bytes] = {}
    for name in mongo.list_collection_names():
        treated = REGISTER.get(name)
        if isinstance(treated, Copied):
            for document in raw[name].find():
                masked = scene.mask(bytes(document.raw))
                found[name, document["_id"]] = treated.clean(masked) if treated.clean else masked
    return found


async def test_every_kind_of_change_follows(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)
    messages = mongo["rocketchat_message"]
    messages.insert_one(busy_clinic.message(1, 500))
    messages.update_one({"_id": "message001x00001"}, {"$set": {"msg": "outra coisa"}})
    messages.replace_one({"_id": "message001x00002"}, busy_clinic.message(1, 2, "trocada"))
    messages.delete_one({"_id": "message001x00003"})
    messages.delete_one({"_id": "message001x00004"})
    messages.insert_one(busy_clinic.message(1, 4, "de volta"))
    messages.insert_one(busy_clinic.message(1, 501))
    messages.delete_one({"_id": "message001x00501"})
    messages.delete_many({"rid": "room002"})
    mongo["rocketchat_room"].delete_one({"_id": "room002"})
    mongo["rocketchat_department"].insert_one({"_id": "nobody copies this"})
    mongo["users"].insert_one({"_id": "new", "username": "nova", "type": "user"})
    found = await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)
    assert found.events >= 30
    assert set(found.lag.values()) == {0.0}
    deleted = await scene.archive.tombstones(
        "rocketchat_message", ["message001x00003", "message001x00004", "message001x00501"]
    )
    assert deleted == {"message001x00003", "message001x00501"}
    run = await scene.archive.latest(scene.source.name)
    assert run is not None
    assert run.caught_up_at is not None
    assert run.token_at is not None
    assert await scene.verified() == 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_copied_and_followed_while_the_clinic_works(
    scene: Scene, server: SecantusDBServer, mongo: Database[Any], dsn: str, seed: int
) -> None:
    program = [sys.executable, "-m", "tests.integration.migration.busy_clinic"]
    at_work = subprocess.Popen([*program, server.uri, mongo.name, str(seed), "600"])
    try:
        while mongo["rocketchat_message"].count_documents({}) == busy_clinic.ROOMS * 20:
            await asyncio.sleep(0.01)  # the copy begins in the middle of it
        rounds = 0
        while at_work.poll() is None or rounds < 2:
            await scene.caught_up()
            rounds += 1
    finally:
        at_work.kill()
        at_work.wait()
    assert at_work.returncode == 0
    await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)
    assert await scene.verified() == 0
    assert scene.repaired == 0


async def test_killed_anywhere_it_goes_on_and_converges(
    scene: Scene, mongo: Database[Any], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.caught_up()
    dice = random.Random(7)
    whole = {name: getattr(scene.archive, name) for name in ("apply", "standing")}
    crashes = 0

    def dying(name: str, after: bool) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            nonlocal crashes
            found = await whole[name](*args, **more) if after else None
            crashes += 1
            raise CrashError(found)

        return call

    async def dying_weave(_rooms: Any = None) -> None:
        nonlocal crashes
        crashes += 1
        raise CrashError

    for number in range(60):
        busy_clinic.work(mongo, dice, number)
        if number % 10 == 9:
            name, after = dice.choice(
                [("apply", True), ("apply", False), ("standing", True), ("weave", True)]
            )
            with monkeypatch.context() as patched:
                if name == "weave":
                    patched.setattr(scene, "weave", dying_weave)
                else:
                    patched.setattr(scene.archive, name, dying(name, after))
                with pytest.raises(CrashError):
                    await scene.follow().run(until_caught_up=True)
    assert crashes == 6
    scene.woven.clear()
    await scene.caught_up()
    assert scene.woven[0] is None  # whatever was left unwoven
    assert await kept(dsn) == there(scene, mongo)
    assert await scene.verified() == 0


async def test_a_message_before_its_room(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    await scene.caught_up()
    mongo["rocketchat_message"].insert_one(busy_clinic.message(77, 1))
    await scene.caught_up()
    assert ("rocketchat_message", "message077x00001") not in await kept(dsn)
    assert await scene.archive.refusal_counts() == {("rocketchat_message", "orphan"): 1}
    mongo["rocketchat_room"].insert_one(busy_clinic.room(77))
    await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)
    assert await scene.archive.refusal_counts() == {}


async def _lose_and_compare(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    found = await scene.caught_up()
    assert found.resnapshots == 1
    assert scene.repaired == 1
    assert sum(line.startswith("WARNING") and "copied anew" in line for line in scene.said) == 1
    assert await kept(dsn) == there(scene, mongo)
    assert [run.state for run in await scene.archive.runs()] == [RunState.DONE, RunState.DONE]
    mongo["users"].insert_one({"_id": "later", "username": "depois", "type": "user"})
    await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)
    assert await scene.verified() == 0


async def test_a_place_that_left_the_oplog(tmp_path: Path, archive: Archive, dsn: str) -> None:
    server = SecantusDBServer(storage_path=str(tmp_path), oplog_max_entries=50)
    server.start()
    try:
        for mongo in _database(server, "short"):
            with closing(LiveSource(uri_of(server, mongo))) as source:
                scene = Scene(source, archive)
                await scene.caught_up()
                dice = random.Random(3)
                mongo["users"].delete_one({"_id": "user3"})
                for number in range(400):
                    busy_clinic.work(mongo, dice, number)
                await _lose_and_compare(scene, mongo, dsn)
    finally:
        server.stop()


async def test_a_place_that_is_none(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    await scene.caught_up()
    run = await scene.archive.latest(scene.source.name)
    assert run is not None
    await scene.archive.apply(run.id, [], encode({"_data": "82" + "00" * 20}), None)
    mongo["users"].delete_one({"_id": "user3"})
    await _lose_and_compare(scene, mongo, dsn)


async def test_a_dropped_collection(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    await scene.caught_up()
    mongo["rocketchat_subscription"].drop()
    await _lose_and_compare(scene, mongo, dsn)


async def test_two_followers(scene: Scene, mongo: Database[Any], dsn: str) -> None:
    await scene.caught_up()
    stop = asyncio.Event()
    two = [asyncio.ensure_future(scene.follow().run(stop=stop)) for _ in range(2)]
    dice = random.Random(5)
    for number in range(40):
        busy_clinic.work(mongo, dice, number)
        await asyncio.sleep(0.05)
    stop.set()
    ended = await asyncio.gather(*two, return_exceptions=True)
    assert any(isinstance(one, Following) for one in ended)
    await scene.caught_up()
    assert await kept(dsn) == there(scene, mongo)


async def test_the_reach_of_its_history(scene: Scene) -> None:
    assert any("minutes of change history" in line for line in await warnings(scene.source, None))
