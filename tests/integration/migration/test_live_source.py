"""A live MongoDB over the wire: SecantusDB, a server of its own kind that speaks the protocol."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient, monitoring
from pymongo.database import Database
from pymongo.errors import AutoReconnect, CursorNotFound, OperationFailure
from secantus import SecantusDBServer

from migration.documents import CODEC, key_of
from migration.sources import Source, SourceError, live, open_source
from migration.sources.live import LiveSource, TokenLost

pytestmark = pytest.mark.server

MIXED: list[Any] = [
    *(f"room{n:02}" for n in range(30)), *(ObjectId(f"{n:024x}") for n in range(20)), 3, Int64(2**40), 1.5,
    Decimal128("7.25"), Binary(b"abc"), True, datetime(2020, 1, 1, tzinfo=UTC), {"a": 1, "b": "x"},
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecantusDBServer]:
    server = SecantusDBServer(storage_path=str(tmp_path_factory.mktemp("mongo")))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: SecantusDBServer) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](server.uri) as client:
        yield client


@pytest.fixture
def mongo(client: MongoClient[dict[str, Any]], request: pytest.FixtureRequest) -> Iterator[Database[Any]]:
    name = request.node.name[:40].translate(str.maketrans("[]. /", "_____"))
    yield client[name]
    client.drop_database(name)


def uri_of(server: SecantusDBServer, mongo: Database[Any]) -> str:
    host, port = server.address
    return f"mongodb://{host}:{port}/{mongo.name}"


@pytest.fixture
def source(server: SecantusDBServer, mongo: Database[Any]) -> Iterator[LiveSource]:
    mongo["users"].insert_one({"_id": "u1"})
    with closing(LiveSource(uri_of(server, mongo))) as source:
        yield source


def stored(mongo: Database[Any], collection: str) -> list[bytes]:
    raw = mongo.client.get_database(
        mongo.name, codec_options=bson.CodecOptions(document_class=RawBSONDocument)
    )
    return [bytes(document.raw) for document in raw[collection].find(sort=[("_id", 1)])]


def read(source: Source, collection: str, part: Any, after: str | None = None) -> list[bytes]:
    return [raw for block in source.read(collection, part, after) for raw in block.raws]


def told(raw: bytes) -> str:
    document = bson.decode(raw, CODEC)
    return key_of(document)


def test_mixed_ids_lose_nothing(source: LiveSource, mongo: Database[Any]) -> None:
    mongo["mixed"].insert_many({"_id": key, "n": n} for n, key in enumerate(MIXED))
    parts = source.plan("mixed", 7)
    assert len(parts) == 9
    assert parts == source.plan("mixed", 7)
    assert parts[0]["from"] is None
    assert parts[-1]["to"] is None
    read_parts = [read(source, "mixed", part) for part in parts]
    assert [raw for part in read_parts for raw in part] == stored(mongo, "mixed")
    assert {len(part) for part in read_parts[:-1]} == {7}


def test_resume_after_every_document(
    source: LiveSource, mongo: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BLOCK_BYTES", 1)  # one document a block
    monkeypatch.setattr(live, "_BATCH", 5)
    mongo["mixed"].insert_many({"_id": key, "n": n} for n, key in enumerate(MIXED))
    [part] = source.plan("mixed")
    blocks = list(source.read("mixed", part))
    assert [list(block.positions) for block in blocks] == [[n] for n in range(len(MIXED))]
    whole = stored(mongo, "mixed")
    for done, block in enumerate(blocks, 1):
        assert read(source, "mixed", part, block.resume) == whole[done:]
    mongo["mixed"].delete_one({"_id": "room04"})
    again = next(at for at, raw in enumerate(whole) if bson.decode(raw)["_id"] == "room04")
    assert read(source, "mixed", part, blocks[again].resume) == whole[again + 1 :]


def test_parts_cover_what_comes_later(source: LiveSource, mongo: Database[Any]) -> None:
    mongo["rooms"].insert_many({"_id": f"k{n:03}"} for n in range(20))
    parts = source.plan("rooms", 10)
    mongo["rooms"].insert_many([{"_id": "A"}, {"_id": "zz"}, {"_id": "k010a"}, {"_id": ObjectId()}])
    assert [raw for part in parts for raw in read(source, "rooms", part)] == stored(mongo, "rooms")
    assert [dict(part) for part in source.plan("nowhere")] == [{"from": None, "to": None}]
    assert read(source, "nowhere", {"from": None, "to": None}) == []


def test_fetch(source: LiveSource, mongo: Database[Any]) -> None:
    mongo["mixed"].insert_many({"_id": key} for key in MIXED)
    mongo["mixed"].insert_one({"_id": "00000000000000000000000a"})
    for key in MIXED:
        name = told(bson.encode({"_id": key}))
        found = [raw for block in source.fetch("mixed", [name, "not there"]) for raw in block.raws]
        assert bson.encode({"_id": key}) in found
        assert {told(raw) for raw in found} == {name}
    assert len([raw for block in source.fetch("mixed", [f"{10:024x}"]) for raw in block.raws]) == 2


def test_about_and_collections(source: LiveSource, mongo: Database[Any], server: SecantusDBServer) -> None:
    mongo["rooms"].insert_many({"_id": n} for n in range(5))
    host, port = server.address
    assert source.name == f"mongodb://{host}:{port}/{mongo.name}"
    about = source.about()
    assert (about.kind, about.database) == ("mongodb", mongo.name)
    assert about.server_version
    assert [(found.name, found.documents) for found in source.collections()] == [("rooms", 5), ("users", 1)]
    opened = open_source(uri_of(server, mongo))
    opened.close()
    assert isinstance(opened, LiveSource)


def test_a_lost_cursor_is_opened_again(
    source: LiveSource, mongo: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo["mixed"].insert_many({"_id": key, "n": n} for n, key in enumerate(MIXED))
    monkeypatch.setattr(live, "_BATCH", 5)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    errors = [CursorNotFound("gone", 43), AutoReconnect("reset"), OperationFailure("killed", 237)] * 3
    given = source._batches

    def breaking(*args: Any) -> Iterator[list[bytes]]:
        for count, raws in enumerate(given(*args)):
            if count == 1 and errors:
                raise errors.pop()
            yield raws

    monkeypatch.setattr(source, "_batches", breaking)
    assert read(source, "mixed", {"from": None, "to": None}) == stored(mongo, "mixed")
    assert not errors

    def never(*args: Any) -> Iterator[list[bytes]]:
        yield from ()
        raise CursorNotFound("gone", 43)

    monkeypatch.setattr(source, "_batches", never)
    with pytest.raises(SourceError, match="CursorNotFound 43"):
        read(source, "mixed", {"from": None, "to": None})


def test_a_cursor_that_the_server_forgot(
    source: LiveSource, mongo: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_BATCH", 10)
    mongo["rooms"].insert_many({"_id": f"{n:05}", "pad": "x" * 30_000} for n in range(60))
    blocks = source.read("rooms", {"from": None, "to": None})
    first = next(blocks)
    mongo.client.admin.command("killAllSessions", [])
    for cursor in mongo.client.admin.aggregate([{"$currentOp": {"idleCursors": True}}]):
        number = (cursor.get("cursor") or {}).get("cursorId")
        if number:
            mongo.command("killCursors", "rooms", cursors=[number])
    rest = [raw for block in blocks for raw in block.raws]
    assert [*first.raws, *rest] == stored(mongo, "rooms")


def test_gridfs(source: LiveSource, mongo: Database[Any]) -> None:
    number = ObjectId()
    pieces = [b"a" * 300, b"b" * 300, b"c"]
    chunks = mongo["rocketchat_uploads.chunks"]
    for key in ("file one", number):
        chunks.insert_many(
            {"files_id": key, "n": n, "data": piece} for n, piece in reversed(list(enumerate(pieces)))
        )
    assert list(source.gridfs("rocketchat_uploads", "file one")) == pieces
    assert list(source.gridfs("rocketchat_uploads", str(number))) == pieces
    chunks.delete_one({"files_id": "file one", "n": 1})
    mongo["rocketchat_uploads.files"].insert_many(
        [{"_id": "empty", "length": 0}, {"_id": "lost", "length": 3}]
    )
    assert list(source.gridfs("rocketchat_uploads", "empty")) == []
    for name, why in (("none", "no_gridfs_file"), ("file one", "chunks_missing"), ("lost", "chunks_missing")):
        with pytest.raises(LookupError, match=why):
            list(source.gridfs("rocketchat_uploads", name))


# ------------------------------------------------------------------------------------- the change stream


def test_the_stream_from_before_the_copy(source: LiveSource, mongo: Database[Any]) -> None:
    rooms = mongo["rooms"]
    rooms.insert_one({"_id": "before"})
    token, at = source.now()
    assert abs((datetime.now(UTC) - at).total_seconds()) < 5
    rooms.insert_one({"_id": "r1", "n": 1})
    rooms.update_one({"_id": "r1"}, {"$set": {"n": 2}})
    rooms.replace_one({"_id": "before"}, {"n": 3})
    mongo["other"].insert_one({"_id": "not watched"})
    number = ObjectId()
    rooms.insert_one({"_id": number})
    rooms.delete_one({"_id": "r1"})
    rooms.insert_one({"_id": "lost"})
    with source.watch(["rooms"], token) as changes:
        events = list(changes.next(5, most=4))
        middle = changes.token()
        events += changes.next(5)
        assert changes.next(0) == []
        last = changes.token()
    assert [(event.key, event.op) for event in events] == [
        ("r1", "upsert"), ("r1", "lost"), ("before", "upsert"), (str(number), "upsert"), ("r1", "delete"),
        ("lost", "upsert"),
    ]  # fmt: skip
    assert events[2].raw == stored(mongo, "rooms")[0]
    assert {event.collection for event in events} == {"rooms"}
    assert all(event.at >= at for event in events)
    assert "raw" not in repr(events[2])
    assert middle is not None
    assert last is not None
    with source.watch(["rooms"], middle) as changes:
        assert list(changes.next(5)) == events[4:]
    rooms.insert_one({"_id": "after"})
    with source.watch(["rooms"], last) as changes:
        assert [event.key for event in changes.next(5)] == ["after"]
    with source.watch(["rooms"], at=Timestamp(int(at.timestamp()), 0)) as changes:
        assert [event.key for event in changes.next(5)][-1] == "after"


def test_raw_is_the_document_byte_for_byte(source: LiveSource, mongo: Database[Any]) -> None:
    token, _ = source.now()
    document = {"_id": "r", "a": Int64(1), "b": 1, "c": {"z": 1.0, "a": [None, "é"]}, "d": Decimal128("1.10")}
    mongo["rooms"].insert_one(document)
    with source.watch(["rooms"], token) as changes:
        [event] = changes.next(5)
    assert event.raw == bson.encode(document)


def test_the_token_moves_while_nothing_happens_here(source: LiveSource, mongo: Database[Any]) -> None:
    token, _ = source.now()
    with source.watch(["rooms"], token) as changes:
        mongo["other"].insert_many({"n": n} for n in range(10))
        assert changes.next(0.5) == []
        assert changes.token() not in {None, token}


def test_events_arrive_while_one_waits(source: LiveSource, mongo: Database[Any]) -> None:
    with source.watch(["rooms"]) as changes:
        later = threading.Timer(0.4, lambda: mongo["rooms"].insert_one({"_id": "late"}))
        later.start()
        assert [event.key for event in changes.next(10)] == ["late"]
        later.join()


@pytest.mark.parametrize("end", ["drop", "rename", "rename onto", "drop database"])
def test_a_collection_taken_away_is_a_lost_token(source: LiveSource, mongo: Database[Any], end: str) -> None:
    mongo["rooms"].insert_one({"_id": "r"})
    mongo["other"].insert_one({"_id": "o"})
    with source.watch(["rooms"]) as changes:
        mongo["rooms"].insert_one({"_id": "last"})
        if end == "drop":
            mongo["rooms"].drop()
        elif end == "rename":
            mongo["rooms"].rename("elsewhere")
        elif end == "rename onto":
            mongo["other"].rename("rooms", dropTarget=True)
        else:
            mongo.client.drop_database(mongo.name)
        assert [event.key for event in changes.next(5)] == ["last"]
        for _ in range(2):
            with pytest.raises(TokenLost, match="copy anew"):
                changes.next(2)


def test_tokens_that_lead_nowhere(source: LiveSource) -> None:
    strange = [b"no bson", bson.encode({"_data": "8263F1"}), bson.encode({})]
    for token in strange:
        with pytest.raises(TokenLost):
            source.watch(["rooms"], token)


@pytest.mark.parametrize("code", [260, 280, 286, 10334])
def test_history_that_the_server_has_no_more(
    source: LiveSource, client: MongoClient[dict[str, Any]], code: int
) -> None:
    fail = {"failCommands": ["aggregate", "getMore"], "errorCode": code}
    token, _ = source.now()
    client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fail)
    try:
        with pytest.raises(TokenLost, match=str(code)):
            source.watch(["rooms"], token).next(1)
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_a_server_that_forgets_early(tmp_path: Path) -> None:
    server = SecantusDBServer(storage_path=str(tmp_path), oplog_max_entries=20)
    server.start()
    try:
        with MongoClient[dict[str, Any]](server.uri) as client:
            rooms = client["rocketchat"]["rooms"]
            rooms.insert_one({"_id": "r"})
            with closing(LiveSource(server.uri)) as source:
                token, _ = source.now()
                rooms.insert_many({"_id": n} for n in range(500))
                client.admin.command("secantusAdmin.pruneOplog")
                with pytest.raises(TokenLost), source.watch(["rooms"], token) as changes:
                    changes.next(1)
    finally:
        server.stop()


# ------------------------------------------------------------------------------------------- refusals


def test_errors_without_the_password(tmp_path: Path, server: SecantusDBServer) -> None:
    host, port = server.address
    closed = "mongodb://u:s3cret@127.0.0.1:9/rocketchat?serverSelectionTimeoutMS=200"
    cases = [
        (closed, "no answer"),
        ("mongodb://u:s3c/ret@127.0.0.1:9/rocketchat", "malformed"),
        ("mongodb://u:s3c@ret:x@127.0.0.1/rocketchat", "malformed"),
        ("mongodb://u:s3cret@:::/rocketchat", "malformed"),
        (f"mongodb://{host}:{port}/nothing_here", "empty or not there"),
    ]
    for uri, said in cases:
        with pytest.raises(SourceError, match=said) as raised:
            open_source(uri)
        chain: BaseException | None = raised.value
        while chain is not None:
            assert "s3c" not in str(chain)
            chain = chain.__cause__
    guarded = SecantusDBServer(storage_path=str(tmp_path), require_auth=True)
    guarded.start()
    try:
        host, port = guarded.address
        for who in ("", "u:s3cret@"):
            with pytest.raises(SourceError, match="refuses user or password") as raised:
                open_source(f"mongodb://{who}{host}:{port}/rocketchat")
            assert "s3c" not in str(raised.value)
    finally:
        guarded.stop()


def test_reads_ask_for_the_majority(server: SecantusDBServer, mongo: Database[Any]) -> None:
    class Heard(monitoring.CommandListener):
        def __init__(self) -> None:
            self.concerns: list[Any] = []

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find":
                self.concerns.append(event.command.get("readConcern", {}).get("level"))

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            pass

        def failed(self, event: monitoring.CommandFailedEvent) -> None:
            pass

    mongo["rooms"].insert_one({"_id": "r"})
    monitoring.register(heard := Heard())
    try:
        with closing(LiveSource(uri_of(server, mongo))) as source:
            read(source, "rooms", {"from": None, "to": None})
    finally:
        monitoring._LISTENERS.command_listeners.remove(heard)
    assert heard.concerns == ["majority"]


def test_a_server_that_stands_alone(tmp_path: Path) -> None:
    server = SecantusDBServer(storage_path=str(tmp_path), replica_set_name=None)
    server.start()
    try:
        with MongoClient[dict[str, Any]](server.uri) as client:
            client["rocketchat"]["rooms"].insert_one({"_id": "r"})
        with closing(LiveSource(server.uri)) as source:
            assert source.name.endswith("/rocketchat")
            assert len(read(source, "rooms", {"from": None, "to": None})) == 1
            with pytest.raises(SourceError, match="stands alone"):
                source.now()
    finally:
        server.stop()


class OldServer(socketserver.BaseRequestHandler):
    """Answers the handshake as MongoDB 4.0 does, which this driver no longer speaks with."""

    def handle(self) -> None:
        while head := self.request.recv(16, socket.MSG_WAITALL):
            length, number = struct.unpack_from("<ii", head)
            self.request.recv(length - 16, socket.MSG_WAITALL)
            hello = bson.encode({"ismaster": True, "minWireVersion": 0, "maxWireVersion": 7, "ok": 1.0})
            answer = struct.pack("<iB", 0, 0) + hello
            self.request.sendall(struct.pack("<iiii", 16 + len(answer), 1, number, 2013) + answer)


def test_a_server_that_is_too_old() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with pytest.raises(SourceError, match=r"older than MongoDB 4\.4.*mongodump"):
            open_source(f"mongodb://127.0.0.1:{server.server_address[1]}/rocketchat")
        server.shutdown()
