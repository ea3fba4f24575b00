"""An import as a process of its own: `python -m tests.integration.migration.import_scene DSN FOLDER CHUNK [KILL_AT]`.

KILL_AT: it kills itself, as `kill -9` does, at that call of the archive's `add`: before it when the number is even, after
it when it is odd.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import bson

from adapters.rocketchat.documents import Documents
from migration.documents import Mask
from migration.load import Loader, Options, Sorter
from migration.run import Import, Outcome
from migration.sources import Source, open_source
from router.storage.archive import Archive, open_archive
from router.storage.archive.model import Chunk, Part
from router.storage.archive.shape import SHAPES
from tests.unit.migration.load_scene import Erased

MASK = Mask(b"m" * 32)
BEGAN = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=1)


async def nothing() -> None:
    """Nobody weaves here."""


def importer(
    source: Source, archive: Archive, *, documents: int = 50, erased: Erased | None = None, **more: Any
) -> Import:
    def loaders(options: Options, direct: frozenset[str]) -> tuple[Sorter, Loader]:
        sorter = Sorter(Documents(), MASK, options)
        return sorter, Loader(
            archive, sorter, erased or Erased(), direct=direct, documents=documents, lease=LEASE
        )

    return Import(source, archive, loaders, **{"weave": nothing, **more})


async def imported(dsn: str, folder: Path, **more: Any) -> Outcome:
    source = open_source(str(folder))
    try:
        async with open_archive(dsn) as archive:
            return await importer(source, archive, **more).run()
    finally:
        source.close()


async def everything(dsn: str) -> dict[str, Any]:
    """What two imports of the same must have in common, row by row."""
    link = await asyncpg.connect(dsn)
    try:
        found = {}
        for name in SHAPES:
            rows = await link.fetch(f"select * from {name} order by source_id")  # noqa: S608 - our own table names
            found[name] = {row["source_id"]: str(dict(row)) for row in rows}
        rejects = await link.fetch(
            "select collection, key, code, position, raw, resolved_at is null as open from rejects order by 1, 2"
        )
        accounts = await link.fetch(
            "select collection, sum(source) as source, sum(written) as written, sum(rejected) as rejected,"
            " sum(erased) as erased, bit_xor(digest) as digest, sum(changed) as changed from import_parts"
            " where run_id = (select id from imports order by seq desc limit 1) group by 1 order by 1"
        )
        return {
            **found,
            "rejects": [dict(row) for row in rejects],
            "accounts": [dict(row) for row in accounts],
        }
    finally:
        await link.close()


# ---- a dump


def make_dump(folder: Path, *, messages: int, seed: int = 1, odd: bool = True) -> dict[str, list[bytes]]:
    """Rooms of three kinds, messages in them and, `odd`, elsewhere or broken; the documents by collection."""
    dice = random.Random(seed)
    rooms = [_room(n) for n in range(max(3, messages // 20))]
    said = [_message(dice, n, len(rooms), odd=odd) for n in range(messages)]
    users = [bson.encode({"_id": f"u{n}", "username": f"user{n}", "createdAt": BEGAN}) for n in range(20)]
    secrets = [bson.encode({"_id": "SMTP_Password", "value": "secret"})]
    dump = {
        "rocketchat_room": rooms,
        "rocketchat_message": said,
        "users": users,
        "rocketchat_settings": secrets,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, raws in dump.items():
        (folder / f"{name}.bson").write_bytes(b"".join(raws))
    return dump


def _room(number: int) -> bytes:
    kind = "lcd"[number % 3]
    document: dict[str, Any] = {
        "_id": f"room{number:04}",
        "t": kind,
        "ts": BEGAN,
        "_updatedAt": BEGAN,
        "lm": BEGAN,
    }
    if kind == "l":
        document["v"] = {"_id": f"v{number}", "token": f"token-{number}", "phone": None}
    return bson.encode(document)


def _message(dice: random.Random, number: int, rooms: int, *, odd: bool) -> bytes:
    at = BEGAN + timedelta(seconds=number)
    document: dict[str, Any] = {
        "_id": f"message{number:09}", "rid": f"room{dice.randrange(rooms):04}", "msg": f"Olá, número {number} ✓",
        "ts": at, "u": {"_id": f"u{number % 20}", "username": f"user{number % 20}"}, "_updatedAt": at,
    }  # fmt: skip
    which = number % 97 if odd else 0
    if which == 13:
        document["msg"] = "a\x00b"
    if which == 14:
        document["rid"] = "nowhere"
    if which == 15:
        document["_id"] = "long" * 1000 + str(number)  # no index holds it
    if which == 16:
        document["token"] = "a-visitors-token"
    raw = bson.encode(document)
    return raw[:4] + b"\x66" + raw[5:] if which == 17 else raw


# ---- the process


def killing(archive: Archive, kill_at: int) -> None:
    """Let the archive's `add` be the last that is called."""
    calls = iter(range(10**9))
    add: Callable[..., Any] = archive.add

    async def deadly(part: Part, chunk: Chunk, *, merge: bool) -> Part:
        mine = next(calls) == kill_at // 2
        if mine and kill_at % 2 == 0:
            # While the transaction is under way, as often as not.
            asyncio.get_running_loop().call_later(random.Random(kill_at).random() / 50, _die)
        done: Part = await add(part, chunk, merge=merge)
        if mine and kill_at % 2:
            _die()
        return done

    archive.add = deadly  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _main(dsn: str, folder: str, documents: int, kill_at: int | None) -> None:
    source = open_source(folder)
    async with open_archive(dsn) as archive:
        if kill_at is not None:
            killing(archive, kill_at)
        await importer(source, archive, documents=documents).run()


if __name__ == "__main__":
    asyncio.run(
        _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
    )
