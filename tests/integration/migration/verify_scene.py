"""A small clinic's dump, imported by the product's own loader into a real PostgreSQL, and what verifies it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import bson

from adapters.rocketchat.documents import Documents
from migration.documents import Mask
from migration.load import Loader, Options, Sorter
from migration.run import Import
from migration.sources import Source, open_source
from migration.uploads import Uploads
from migration.verify import Report, Verify
from router.domain.ports import RoomInfo
from router.storage.archive.model import Run
from router.storage.archive.store import Archive

BEGAN = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
TOKEN = "visitor-secret-token"
TABLES = ("archive_rooms", "archive_messages", "archive_files", "archive_records")
Docs = dict[str, list[dict[str, Any]]]


def clinic(rooms: int = 6, messages: int = 20) -> Docs:
    """By collection. Every room has as many messages; the first is omnichannel, the others are channels."""
    found: Docs = {
        "rocketchat_room": [],
        "rocketchat_message": [],
        "users": [
            {"_id": f"u{n}", "username": f"agent{n}", "name": f"Agente {n}", "type": "user", "active": True,
             "services": {"password": {"bcrypt": "secret-hash"}}, "createdAt": BEGAN, "_updatedAt": BEGAN}
            for n in range(5)
        ],
        "rocketchat_livechat_department": [{"_id": "d1", "name": "Vendas", "enabled": True, "_updatedAt": BEGAN}],
        "rocketchat_livechat_visitor": [
            {"_id": "v1", "token": TOKEN, "name": "Ana", "username": "guest-1", "phone": [{"phoneNumber": "+5521999990000"}],
             "ts": BEGAN, "_updatedAt": BEGAN},
        ],
        "rocketchat_uploads": [
            {"_id": "f1", "name": "laudo.pdf", "size": 7, "type": "application/pdf", "rid": "r0", "store": "GridFS:Uploads",
             "complete": True, "uploadedAt": BEGAN, "_updatedAt": BEGAN},
        ],
        "rocketchat_settings": [{"_id": f"s{n}", "value": n} for n in range(3)],
    }  # fmt: skip
    for n in range(rooms):
        room: dict[str, Any] = {
            "_id": f"r{n}",
            "t": "c",
            "name": f"canal-{n}",
            "ts": BEGAN,
            "_updatedAt": BEGAN,
            "msgs": messages,
        }
        if n == 0:
            visitor = {"_id": "v1", "username": "guest-1", "token": TOKEN}
            room |= {"t": "l", "v": visitor, "open": True, "source": {"type": "app", "id": "app"}}
        found["rocketchat_room"].append(room)
        found["rocketchat_message"] += [
            message(f"m{n}-{at}", f"r{n}", at, visitor=n == 0) for at in range(messages)
        ]
    return found


def message(source_id: str, room: str, at: int = 0, *, visitor: bool = False, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "_id": source_id, "rid": room, "msg": f"olá {at}", "ts": BEGAN + timedelta(minutes=at),
        "u": {"_id": "u1", "username": "agent1"}, "_updatedAt": BEGAN + timedelta(minutes=at),
    }  # fmt: skip
    return said | ({"token": TOKEN} if visitor else {}) | more


def write(folder: Path, documents: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, some in documents.items():
        (folder / f"{name}.bson").write_bytes(b"".join(bson.encode(each) for each in some))
    return folder


class Nobody:
    """Nobody was erased, but those of these rooms."""

    def __init__(self) -> None:
        self.rooms: dict[str, datetime] = {}

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        return [self.rooms.get(info.room_id) for info in infos]


@dataclass
class Scene:
    archive: Archive
    link: "asyncpg.Connection[asyncpg.Record]"
    folder: Path
    mask: Mask = field(default_factory=lambda: Mask(b"k" * 32))
    erasures: Nobody = field(default_factory=Nobody)
    source: Source | None = None
    uploads: Uploads | None = None

    @property
    def there(self) -> Source:
        self.source = self.source or open_source(str(self.folder))
        return self.source

    def made(self, options: Options, direct: frozenset[str] = frozenset()) -> tuple[Sorter, Loader]:
        sorter = Sorter(Documents(), self.mask, options)
        return sorter, Loader(self.archive, sorter, self.erasures, sink=self.uploads, direct=direct)

    async def copy(self, options: Options | None = None) -> Run:
        async def nothing() -> None:
            """What was copied is not woven here."""

        files = None if self.uploads is None else self.uploads.finish
        work = Import(self.there, self.archive, self.made, weave=nothing, files=files, options=options)
        return (await work.run()).run

    def verify(self, run: Run, **more: Any) -> Verify:
        _, loader = self.made(Options.of(run.options))
        given: dict[str, Any] = {
            "sorts": loader,
            "mask": self.mask,
            "reader": Documents(),
            "pause": 0.05,
        } | more
        return Verify(self.there, self.archive, run, **given)

    async def checked(self, run: Run, *, repair: bool = False, **more: Any) -> Report:
        return await self.verify(run, **more).run(repair=repair)

    async def tables(self) -> dict[str, list[dict[str, Any]]]:
        """All that was copied."""
        return {
            name: [
                {key: value for key, value in row.items() if key != "woven"}
                for row in await self.link.fetch(f"select * from {name} order by source_id, raw")  # noqa: S608
            ]
            for name in TABLES
        }

    async def places(self) -> dict[tuple[str, str], str]:
        """Where each row's version stands: another one once it was written."""
        return {
            (name, row["source_id"]): row["at"]
            for name in TABLES
            for row in await self.link.fetch(
                f"select source_id, xmin::text || ctid::text as at from {name}"  # noqa: S608
            )
        }


def shown(report: Report) -> str:
    return json.dumps(report.as_json(), ensure_ascii=False)
