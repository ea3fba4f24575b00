"""figueira migrate as people run it: killed, gone on with, tampered with, proved, and obeying who was erased."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from secantus import SecantusDBServer

from benchmarks.history import APPS, write_folder
from migration.collections import Copied
from migration.collections.register import REGISTER
from migration.documents import Mask
from router.settings.keys import Keys
from router.storage.archive.shape import SHAPES
from tests.acceptance.scene import FULL, ROOT, TENANT
from tests.conftest import Server, fresh_name
from tests.integration.migration import busy_clinic

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-import")]
SHARED = Path(os.environ.get("FIGUEIRA_SHARED", ROOT / ".." / "shared")) / "data"
FIGUEIRA = Path(sys.executable).with_name("figueira")
SEED = int(os.environ.get("FIGUEIRA_TEST_SEED", "1"))
SEEDS = range(SEED, SEED + (12 if FULL else 2))
MESSAGES = 6_000 if FULL else 1_500
SECRET = "s" * 32
TOML = f"""
[channels.whatsapp]
kind = "whatsapp"
tenant = "{TENANT}"
[channels.segunda]
kind = "whatsapp"
tenant = "{TENANT}"
[rocketchat]
base_url = "http://127.0.0.1:9"
[rocketchat.sources]
"{APPS[0]}" = "whatsapp"
"{APPS[1]}" = "segunda"
"""


@dataclass(frozen=True)
class Place:
    """A folder with settings, and a database of its own. `dsn` is the owner's, `root` sees every tenant."""

    folder: Path
    dsn: str
    root: str

    @property
    def environ(self) -> dict[str, str]:
        own = {"HOME": str(self.folder / "home"), "DATABASE_URL": self.dsn, "SECRET_KEY": SECRET}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FIGUEIRA_")}
        return {
            **kept, "PYTHONPATH": str(ROOT), "FIGUEIRA_COHORT_KEY": "c" * 32,
            **{f"FIGUEIRA_{name}": value for name, value in own.items()},
        }  # fmt: skip

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(FIGUEIRA), *argv, "--json"], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def figueira(self, *argv: str) -> tuple[int, Any, str]:
        """Exit code, the last object of --json, stderr. No command ends with a traceback."""
        process = self.start(*argv)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in out + err, err
        assert "defect of Figueira" not in err, err
        return process.returncode, json.loads(out.splitlines()[-1]) if out else {}, err

    async def ask(self, query: str, *values: object) -> list[Any]:
        link = await asyncpg.connect(self.root)
        try:
            return [tuple(row) for row in await link.fetch(query, *values)]
        finally:
            await link.close()

    async def kept(self) -> dict[str, Any]:
        """What two imports of the same must have in common."""
        found: dict[str, Any] = {}
        for table in SHAPES:
            rows = await self.ask(f"select source_id, md5(raw) from {table} where raw is not null")  # noqa: S608
            xor = 0
            for source_id, digest in rows:
                xor ^= int(
                    hashlib.md5(f"{source_id} {digest}".encode(), usedforsecurity=False).hexdigest(), 16
                )
            found[table] = (len(rows), xor)
        found["accounts"] = await self.ask(
            "select collection, sum(source), sum(written), sum(rejected), sum(erased), bit_xor(digest) from import_parts"
            " where run_id = (select id from imports order by seq desc limit 1) group by 1 order by 1"
        )
        found["conversations"] = await self.ask(
            "select channel, count(*) from conversations group by 1 order by 1"
        )
        found["messages"] = Counter(await self.ask("select channel, source_id, text, sent_at from messages"))
        return found


@pytest.fixture
async def places(postgres: Server, postgres_template: str, tmp_path: Path) -> AsyncIterator["Places"]:
    made = Places(postgres, postgres_template, tmp_path)
    yield made
    for name in made.names:
        await postgres.drop(name)


class Places:
    """As many as a test needs."""

    def __init__(self, server: Server, template: str, folder: Path) -> None:
        self.names: list[str] = []
        self._server, self._template, self._folder = server, template, folder

    async def new(self) -> Place:
        name = fresh_name()
        dsn = await self._server.create(name, self._template)
        self.names.append(name)
        folder = self._folder / name
        folder.mkdir()
        (folder / "figueira.toml").write_text(TOML)
        return Place(folder, dsn, self._server.dsn(name))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("history")
    write_folder(folder, MESSAGES)
    return str(folder)


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"NO SHARED DATA at {SHARED / name}: set FIGUEIRA_SHARED")
    return SHARED / name


def balanced(found: Any) -> bool:
    return bool(found["collections"]) and all(
        one["source"] == one["written"] + one["skipped"] + one["rejected"] + one["erased"]
        for one in found["collections"].values()
    )


# ---- killed


async def test_killed_anywhere_it_goes_on_to_the_same(places: Places, history: str) -> None:
    whole = await places.new()
    began = time.monotonic()
    code, found, err = whole.figueira("migrate", "import", history, "--workers", "1")
    lasts = time.monotonic() - began
    assert (code, balanced(found)) == (0, True), err
    expected = await whole.kept()
    assert expected["archive_messages"][0] >= MESSAGES
    killed = 0
    for seed in SEEDS:
        place = await places.new()
        killed += _imported_amid_kills(place, history, seed, lasts)
        assert await place.kept() == expected, f"seed {seed}"
        if seed == SEEDS[0]:
            code, found, err = place.figueira("migrate", "import", history)
            assert (code, found["changed"]) == (0, 0), err
            assert place.figueira("migrate", "verify", history)[0] == 0
    assert killed >= len(SEEDS)


def _imported_amid_kills(place: Place, history: str, seed: int, lasts: float) -> int:
    """Import until done; how many times it was killed."""
    dice = random.Random(seed)
    workers = "2" if seed == SEEDS[-1] else "1"
    killed = 0
    for attempt in range(2 if not FULL else 5):
        # Past the start of the interpreter, which copies nothing.
        process = place.start("migrate", "import", history, "--workers", workers)
        try:
            process.communicate(timeout=dice.uniform(0.35, 0.95) * lasts / (1 if attempt == 0 else 1.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    status = place.figueira("migrate", "status")[1]["run"]
    if status is None or status["state"] != "done":
        resume = () if status is None else ("--resume",)
        code, found, err = place.figueira("migrate", "import", history, "--workers", workers, *resume)
        assert (code, balanced(found)) == (0, True), err
    return killed


async def test_what_was_tampered_with_is_named_and_mended(places: Places, history: str) -> None:
    place = await places.new()
    assert place.figueira("migrate", "import", history)[0] == 0
    [(source_id,)] = await place.ask("select source_id from archive_messages order by md5(source_id) limit 1")
    await place.ask(
        "update archive_messages set raw = set_byte(raw, length(raw) / 2, get_byte(raw, length(raw) / 2) # 1)"
        " where source_id = $1", source_id,
    )  # fmt: skip
    code, found, _ = place.figueira("migrate", "verify", history)
    assert (code, found["differences"]) == (1, 1)
    assert source_id in json.dumps(found)
    assert place.figueira("migrate", "verify", history, "--repair")[0] == 0
    assert place.figueira("migrate", "verify", history)[:1] == (0,)


# ---- erased


async def test_who_was_erased_stays_erased(places: Places, history: str) -> None:
    place = await places.new()
    assert place.figueira("migrate", "import", history)[0] == 0
    [(contact, number)] = await place.ask(
        "select c.id, min(a.value) from contacts c join identities i on i.contact_id = c.id"
        " join identity_aliases a on a.identity_id = i.id where a.kind in ('wa_id', 'phone')"
        " group by c.id order by md5(min(a.value)) limit 1"
    )
    rooms = await place.ask("select room_id from conversations where contact_id = $1", contact)
    said = await place.ask(
        "select source_id from messages where conversation_id in (select id from conversations where contact_id = $1)"
        " and source_id is not null", contact,
    )  # fmt: skip
    assert rooms
    assert said
    code, _, err = place.figueira("contacts", "erase", str(contact))
    assert code == 0, err
    code, found, err = place.figueira("migrate", "import", history, "--restart")
    assert (code, balanced(found)) == (0, True), err
    assert sum(one["erased"] for one in found["collections"].values()) > 0
    # Names and words are drawn from few, others have the same: only the number is looked for everywhere.
    assert await _holding(place, {number.lstrip("+")}) == {}
    ids = [one for (one,) in said]
    assert await place.ask("select source_id from archive_messages where source_id = any($1)", ids) == []
    assert (
        await place.ask("select text from messages where source_id = any($1) and text is not null", ids) == []
    )
    code, found, err = place.figueira("migrate", "verify", history)
    assert (code, found["differences"]) == (0, 0), err


async def _holding(place: Place, secrets: set[str]) -> dict[str, set[str]]:
    """Tables whose rows, as text, or bytes, have one of these in them."""
    found: dict[str, set[str]] = {}
    tables = await place.ask("select tablename from pg_tables where schemaname = 'public'")
    for (table,) in tables:
        rows = await place.ask(f'select * from "{table}"')  # noqa: S608 - our own tables
        text = "\n".join(
            one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
            for row in rows
            for one in row
        )
        hits = {secret for secret in secrets if secret in text}
        if hits:
            found[table] = hits
    return found


# ---- real ones


async def test_a_real_dump(places: Places) -> None:
    folder = shared("rocketchat-dump")
    place = await places.new()
    code, found, err = place.figueira("migrate", "import", str(folder))
    assert (code, balanced(found)) == (0, True), err
    assert (found["collections"]["rocketchat_message"]["source"], found["rooms_woven"]) == (87, 2)
    assert await place.ask("select count(distinct room_id) from conversations") == [(2,)]
    theirs = await place.ask("select source_id, text from archive_messages where visitor")
    inbound = await place.ask("select source_id, text from messages where direction = 'inbound'")
    assert (len(theirs), sorted(inbound)) == (2, sorted(theirs))
    held = (folder / "rocketchat_uploads.files.bson").read_bytes()
    md5s = sorted(document["md5"] for document in bson.decode_all(held))
    stored = await place.ask("select sha256 from archive_files where state = 'stored'")
    files = {path.name: path for path in place.folder.rglob("*") if path.is_file()}
    mine = [files[sha256].read_bytes() for (sha256,) in stored]
    assert sorted(hashlib.md5(one, usedforsecurity=False).hexdigest() for one in mine) == md5s
    assert len(md5s) == 4
    assert place.figueira("migrate", "verify", str(folder))[0] == 0


async def test_archives_of_elsewhere_and_broken_files_end_clearly(places: Places, tmp_path: Path) -> None:
    place = await places.new()
    for archive in sorted(shared("mongodump-archives").glob("*.archive")):
        code, found, err = place.figueira("migrate", "import", str(archive))
        assert (code, balanced(found)) == (0, True), err
        assert sum(one["source"] for one in found["collections"].values()) > 0
    for broken in sorted(shared("broken-bson").glob("*.bson")):
        folder = tmp_path / broken.stem
        folder.mkdir()
        shutil.copy(broken, folder / "rocketchat_message.bson")
        code, found, err = place.figueira("migrate", "import", str(folder))
        if code == 1:
            assert balanced(found)
            assert found["collections"]["rocketchat_message"]["rejected"] > 0, broken.name
        else:
            assert (code, len(err.strip().splitlines())) == (2, 1), (broken.name, err)


# ---- live


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[tuple[str, MongoClient[dict[str, Any]]]]:
    server = SecantusDBServer(storage_path=str(tmp_path / "mongo"))
    server.start()
    try:
        with MongoClient[dict[str, Any]](server.uri) as client:
            busy_clinic.fill(client["clinic"])
            yield server.uri, client
    finally:
        server.stop()


@pytest.mark.server
async def test_copied_followed_and_proved_while_the_clinic_works(
    places: Places, mongo: tuple[str, MongoClient[dict[str, Any]]]
) -> None:
    place = await places.new()
    uri, client = mongo
    source = f"mongodb://{client.address[0]}:{client.address[1]}/clinic" if client.address else uri
    program = [sys.executable, "-m", "tests.integration.migration.busy_clinic", uri, "clinic", str(SEED)]
    at_work = subprocess.Popen([*program, "6000" if FULL else "600"], cwd=ROOT)
    try:
        code, _, err = await asyncio.to_thread(place.figueira, "migrate", "import", source)
        assert code in (0, 1), err  # a message may come before its room does
        assert at_work.poll() is None, "it was over before the copy was"
        code, _, err = await asyncio.to_thread(
            place.figueira, "migrate", "follow", source, "--until-caught-up"
        )
        assert code in (0, 1), err
        assert await asyncio.to_thread(at_work.wait, 120) == 0
    finally:
        at_work.kill()
        at_work.wait()
    code, found, err = await asyncio.to_thread(
        place.figueira, "migrate", "follow", source, "--until-caught-up"
    )
    assert (code, found["caught_up"]) == (0, True), err
    code, found, err = await asyncio.to_thread(place.figueira, "migrate", "verify", source)
    assert (code, found["differences"]) == (0, 0), (found, err)
    assert await _archived(place) == _there(client)


async def _archived(place: Place) -> dict[tuple[str, str], bytes]:
    names = {"archive_rooms": "rocketchat_room", "archive_messages": "rocketchat_message", "archive_files": "rocketchat_uploads"}  # fmt: skip
    found: dict[tuple[str, str], bytes] = {}
    for table in SHAPES:
        name = f"'{names[table]}'" if table in names else "collection"
        query = f"select {name}, source_id, raw from {table} where raw is not null"  # noqa: S608
        found |= {(one, source_id): raw for one, source_id, raw in await place.ask(query)}
    return found


def _there(client: MongoClient[dict[str, Any]]) -> dict[tuple[str, str], bytes]:
    """Every document of the source, as it is to be kept."""
    mask = Mask(Keys(SECRET.encode(), b"").derive("import-token"))
    raw: Any = client.get_database("clinic", codec_options=bson.CodecOptions(document_class=RawBSONDocument))
    found = {}
    for name in raw.list_collection_names():
        treated = REGISTER.get(name)
        for document in raw[name].find() if isinstance(treated, Copied) else ():
            masked = mask(bytes(document.raw))
            assert isinstance(treated, Copied)
            found[name, str(document["_id"])] = treated.clean(masked) if treated.clean else masked
    return found
