"""What an inspection tells is what the import would do: the same sorter decides."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId

from adapters.rocketchat.documents import Documents
from adapters.rocketchat.webhook import Webhook
from migration.documents import Mask
from migration.inspecting import Inspection, ordered
from migration.load import Options, Sorter
from migration.sources import Found, open_source
from migration.weave.places import Places
from router.control.progress import State, Watch
from router.domain.channel import Channel
from router.domain.ports import RoomInfo

AT = datetime(2024, 5, 6, 12, tzinfo=UTC)
CHANNELS = {"whatsapp": Channel("whatsapp", "whatsapp", "sol"), "insta": Channel("insta", "instagram", "sol")}
ALL, QUIET = Options(), Watch("inspect")
TOKEN = "a-visitors-token-that-opens-a-chat"
Dumped = Mapping[str, Sequence[Mapping[str, Any] | bytes]]


def room(room_id: str, kind: str = "l", **more: Any) -> dict[str, Any]:
    return {"_id": room_id, "t": kind, "ts": AT, "_updatedAt": AT, "open": True, **more}


def app(room_id: str, source_id: str) -> dict[str, Any]:
    visitor = {"_id": "v1", "token": TOKEN, "username": "guest-1"}
    return room(room_id, source={"type": "app", "id": source_id}, v=visitor)


def message(source_id: str, room_id: str, text: str = "segredo", **more: Any) -> dict[str, Any]:
    user = {"_id": "u1", "username": "ana"}
    return {"_id": source_id, "rid": room_id, "msg": text, "ts": AT, "_updatedAt": AT, "u": user, **more}


def dump(folder: Path, documents: Dumped) -> Path:
    folder.mkdir(exist_ok=True)
    for name, some in documents.items():
        raws = [one if isinstance(one, bytes) else bson.encode(one) for one in some]
        (folder / f"{name}.bson").write_bytes(b"".join(raws))
    return folder


async def inspected(
    folder: Path,
    options: Options = ALL,
    watch: Watch = QUIET,
    limit: int = 1000,
) -> dict[str, Any]:
    places = Places(Webhook({"App1": "whatsapp"}, CHANNELS), CHANNELS)

    def place(info: RoomInfo) -> str | None:
        channel = places.of(info)
        return None if channel is None else channel.slug

    source = open_source(str(folder))
    try:
        sorter = Sorter(Documents(), Mask(b"k"), options)
        return await Inspection(source, sorter, place, CHANNELS, watch, limit=limit).run()
    finally:
        source.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dump(
        tmp_path / "dump",
        {
            "rocketchat_room": [app("r1", "App1"), app("r2", "Insta9"), app("r3", "Insta9"), room("c1", "c", name="geral")],
            "rocketchat_message": [
                message("m1", "r1"), message("m2", "c1"), message("m3", "gone"), message("m4", "r1", "a\x00b"),
                {"_id": "m5", "msg": "segredo", "ts": AT},
            ],
            "rocketchat_settings": [{"_id": "SMTP_Password", "value": "segredo"}],
            "something_else": [{"_id": 1}],
            "rocketchat_statistics": [
                {"_id": "s2", "version": "6.5.1", "createdAt": AT}, {"_id": "s1", "version": "6.4.0", "createdAt": datetime(2023, 1, 1, tzinfo=UTC)},
            ],
        },
    )  # fmt: skip


async def test_every_document_has_its_fate(folder: Path) -> None:
    found = await inspected(folder)
    for name, one in found["collections"].items():
        assert one["source"] == one["written"] + one["skipped"] + one["rejected"] + one["erased"], name
    messages = found["collections"]["rocketchat_message"]
    assert (messages["source"], messages["written"]) == (5, 2)
    assert messages["codes"] == {"orphan": 2, "nul": 1}
    assert messages["bytes"] == (folder / "rocketchat_message.bson").stat().st_size
    assert found["collections"]["rocketchat_settings"]["skipped_by_reason"] == {"secret": 1}
    assert found["collections"]["something_else"]["skipped_by_reason"] == {"unknown_collection": 1}
    assert (found["changed"], found["differences"], found["orphan_messages"], found["ended"]) == (
        0,
        0,
        2,
        True,
    )


async def test_rooms_are_told_by_their_source_and_the_missing_line_is_given(folder: Path) -> None:
    found = await inspected(folder)
    assert found["rooms"] == {"livechat": 3, "channels": 1}
    assert found["rooms_by_source"] == [
        {"source_type": "app", "source_id": "Insta9", "channel": "unmapped", "rooms": 2},
        {"source_type": "app", "source_id": "App1", "channel": "whatsapp", "rooms": 1},
    ]
    assert found["unmapped_sources"] == [{"source_id": "Insta9", "rooms": 2, "toml": '"Insta9" = "insta"'}]


async def test_a_source_whose_name_gives_nothing_away_is_for_a_person_to_map(tmp_path: Path) -> None:
    found = await inspected(dump(tmp_path / "d", {"rocketchat_room": [app("r1", 'X"y\\')]}))
    assert found["unmapped_sources"][0]["toml"] == '"X\\"y\\\\" = "CHANNEL"'


async def test_examples_say_where_and_never_what(folder: Path) -> None:
    found = await inspected(folder)
    assert {(one["collection"], one["code"]) for one in found["examples"]} == {
        ("rocketchat_message", "orphan"), ("rocketchat_message", "nul"),
    }  # fmt: skip
    assert all(one["position"].isdecimal() for one in found["examples"])
    assert "segredo" not in str(found)
    assert TOKEN not in str(found)


async def test_filters_are_the_imports_own(folder: Path) -> None:
    found = await inspected(folder, Options(rooms="l", orphans="keep"))
    assert found["collections"]["rocketchat_room"]["skipped_by_reason"] == {"filtered": 1}
    messages = found["collections"]["rocketchat_message"]
    assert messages["skipped_by_reason"] == {"filtered": 1}  # that of the team's room
    assert messages["codes"] == {"nul": 1, "orphan": 1}  # one names no room at all
    later = await inspected(folder, Options(since=int(AT.timestamp() * 1000) + 1))
    assert later["collections"]["rocketchat_message"]["written"] == 0


@pytest.mark.parametrize(
    ("documents", "version"),
    [
        ({"rocketchat_migrations": [{"_id": "control", "version": 285}]}, "migration 285"),
        ({"rocketchat_statistics": [{"_id": ObjectId(), "version": 7}]}, None),
        ({}, None),
    ],
)
async def test_the_version_is_known_from_what_there_is(
    tmp_path: Path, documents: Dumped, version: str | None
) -> None:
    folder = dump(tmp_path / "d", {**documents, "users": [{"_id": "u"}]})
    assert (await inspected(folder))["rocketchat_version"] == version


async def test_the_newest_statistics_tell_the_version(folder: Path) -> None:
    assert (await inspected(folder))["rocketchat_version"] == "6.5.1"


async def test_gridfs_is_judged_without_a_file_store(tmp_path: Path) -> None:
    upload = {
        "_id": "f1",
        "name": "a.bin",
        "rid": "r1",
        "store": "GridFS:Uploads",
        "complete": True,
        "uploadedAt": AT,
    }
    large = {**upload, "_id": "f2"}
    files = [
        {"_id": name, "length": size, "chunkSize": 4}
        for name, size in (("f1", 6), ("f2", 2000), ("stray", 1))
    ]
    chunks = [
        {"_id": ObjectId(), "files_id": "f1", "n": 1, "data": b"56"},
        {"_id": ObjectId(), "files_id": "f1", "n": 0, "data": b"1234"},
        {"_id": ObjectId(), "files_id": "f1", "n": 0, "data": b"123"},
        {"_id": ObjectId(), "files_id": "f2", "n": 0, "data": b"1234"},
        {"_id": ObjectId(), "files_id": "nobody", "n": 0, "data": b"1234"},
    ]
    names = ("rocketchat_uploads", "rocketchat_uploads.files", "rocketchat_uploads.chunks")
    documents = {
        "rocketchat_room": [app("r1", "App1")],
        **dict(zip(names, ([upload, large], files, chunks), strict=True)),
    }
    found = (await inspected(dump(tmp_path / "d", documents)))["collections"]
    assert found[names[1]]["skipped_by_reason"] == {"no_upload": 1}
    assert found[names[1]]["written"] == 2
    assert found[names[2]]["skipped_by_reason"] == {"too_large": 1, "orphan_chunk": 1}
    assert (found[names[2]]["written"], found[names[2]]["codes"]) == (2, {"wrong_type": 1})


async def test_damage_is_told_with_its_place(tmp_path: Path) -> None:
    whole = bson.encode(message("m1", "r1"))
    folder = dump(
        tmp_path / "d", {"rocketchat_message": [whole + whole[:20]], "rocketchat_room": [app("r1", "App1")]}
    )
    found = await inspected(folder)
    assert found["collections"]["rocketchat_message"]["codes"] == {"truncated": 1}
    assert found["examples"][0]["position"] == str(len(whole))


async def test_it_ends_where_a_person_stops_it(folder: Path) -> None:
    shown: list[State] = []
    found = await inspected(folder, watch=Watch("inspect", lambda: bool(shown), shown.append))
    assert found["ended"] is False
    assert list(found["collections"]) == ["rocketchat_room"]
    assert shown[0].documents == 4


async def test_the_time_needed_follows_from_the_time_taken(folder: Path) -> None:
    found = await inspected(folder)
    assert found["seconds_needed"] >= 0
    assert "mapping 13 documents" in found["seconds_told"]
    assert "; 1 messages become" in found["seconds_told"]


def test_rooms_come_first_and_chunks_last() -> None:
    names = [
        "users",
        "rocketchat_uploads.chunks",
        "rocketchat_message",
        "rocketchat_uploads.files",
        "rocketchat_room",
    ]
    found = [one.name for one in ordered([Found(name, None, None) for name in names])]
    assert found[0] == "rocketchat_room"
    assert found[-2:] == ["rocketchat_uploads.files", "rocketchat_uploads.chunks"]
