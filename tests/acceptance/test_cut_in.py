"""docs/how-to/cut-whatsapp-in.md, word by word in one shell; between its blocks the sandbox says whether it holds."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.outside import eventually
from tests.acceptance.scene import ROOT, environment, free_port
from tests.integration.sandbox.process import Client
from tests.integration.storage.embedded_scene import new_place

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-cut-in")]
PAGE = ROOT / "docs" / "how-to" / "cut-whatsapp-in.md"
NUMBER = "100200300"
BEFORE, AFTER, NEW, LAST = (f"551199000000{number}" for number in range(1, 5))
BLOCK_SECONDS = 90
_FENCE = re.compile(r"^(?P<in> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=in)```$", re.MULTILINE | re.DOTALL)
_PATH_LINE = 'export PATH="$PWD/.venv/bin:$PATH"'

Row = dict[str, Any]


@dataclass
class Block:
    """Commands, and the screens the page shows after them."""

    section: str
    commands: str
    screens: list[str] = field(default_factory=list)


def blocks(page: str) -> list[Block]:
    """The page's commands in order. What it shows before the first of them is a drawing."""
    found: list[Block] = []
    for fence in _FENCE.finditer(page):
        section = page[: fence.start()].rpartition("\n## ")[2].partition("\n")[0]
        text = textwrap.dedent(fence["text"])
        if fence["kind"] == "sh":
            found.append(Block(section, text))
        elif not fence["kind"] and found and found[-1].section == section:
            found[-1].screens.append(text)
    return found


class Shell:
    """A reader's terminal in a directory of its own; ends at the first command that fails, and its jobs with it."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running

    async def run(self, commands: str) -> str:
        """What they print. AssertionError, with that, when one of them fails."""
        running = self._running
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(f"{commands}\nprintf '\\n--done--\\n'\n".encode())
        await running.stdin.drain()
        try:
            told = await asyncio.wait_for(running.stdout.readuntil(b"\n--done--\n"), BLOCK_SECONDS)
        except asyncio.IncompleteReadError as ended:
            raise AssertionError(f"{commands}\n{ended.partial.decode()}") from None
        return told.decode().removesuffix("\n--done--\n")


@contextlib.asynccontextmanager
async def terminal(folder: Path) -> AsyncIterator[Shell]:
    tools = str(Path(sys.executable).parent)
    environ = environment() | {"PYTHONPATH": str(ROOT), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    running = await asyncio.create_subprocess_exec(
        shutil.which("bash") or "bash", cwd=folder, env={**environ, "USER": "ana"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=2**20,
    )  # fmt: skip
    shell = Shell(running)
    try:
        await shell.run("set -em; trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT")
        yield shell
    finally:
        await asyncio.wait_for(running.communicate(b""), 30)  # the end of its input ends it


class Reader:
    """Does what the page says, section by section, on ports that are free."""

    def __init__(self, shell: Shell, session: aiohttp.ClientSession) -> None:
        self.shell = shell
        self.router, self._outside = free_port(), free_port()
        self.sandbox = Client(f"http://127.0.0.1:{self._outside}", session)
        self.left = blocks(self.here(PAGE.read_text(encoding="utf-8").replace(_PATH_LINE, "")))
        self.done: dict[str, list[Block]] = {}

    def here(self, text: str) -> str:
        return re.sub(r"\b9100\b", str(self._outside), re.sub(r"\b8080\b", str(self.router), text))

    async def section(self, title: str, count: int | None = None) -> None:
        """The next `count` blocks, else all, of the section whose title begins so."""
        took = 0
        while self.left and self.left[0].section.startswith(title) and took != count:
            block = self.left.pop(0)
            printed = words(await self.shell.run(block.commands))
            for screen in block.screens:
                assert words(screen) in printed, printed
            self.done.setdefault(title, []).append(block)
            took += 1
        assert took == (count or took) > 0, f"the page has no such section next: {title}"

    async def figueira(self, command: str, code: int = 0) -> Row:
        told = await self.shell.run(f"figueira {command} --json || test $? = {code}")
        answer: Row = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
        return answer

    async def called(self) -> str:
        """Where the provider posts the number's messages now."""
        _, told = await self.sandbox.call("GET", f"/control/callback/{NUMBER}")
        return str(told["url"])

    async def writes(self, sender: str, text: str) -> None:
        told = {"phone_number_id": NUMBER, "from": sender, "text": text}
        assert (await self.sandbox.control("patient", told))["status"] == 200

    async def one(self, kind: str, **wanted: object) -> Row:
        """The only row of the record with these values; waits for it."""

        async def found() -> list[Row]:
            return matching(await self.sandbox.record(kind), wanted)

        (row,) = await eventually(found, f"{kind} {wanted}")
        return dict(row)


def matching(rows: Sequence[Row], wanted: Row) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def words(text: str) -> str:
    """Without the widths of columns, which follow those of the ports."""
    return " ".join(text.split())


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    with new_place() as folder:
        async with aiohttp.ClientSession() as session, terminal(folder) as shell:
            yield Reader(shell, session)


async def test_the_page_holds_from_the_first_command_to_the_last(reader: Reader) -> None:
    await reader.section("0. A clinic to practise on")
    old, ours = await reader.called(), f"http://127.0.0.1:{reader.router}/webhooks/whatsapp"
    assert old.endswith("/rocketchat/api/apps/public/wa-app/webhook")
    room = await reader.one("rocketchat", by="visitor", wa_id=BEFORE)
    await reader.section("2. Look before anything moves")
    await reader.section("3. Try it dry")
    assert await reader.called() == old, "a dry run changes nothing"

    await reader.section("4. Cut in")
    assert await reader.called() == ours
    await reader.section("5. See that everything still goes through Rocket.Chat")
    assert (await reader.figueira("doctor --ledger"))["balanced"]
    arrived = await reader.one("rocketchat", by="visitor", wa_id=AFTER)
    assert arrived["text"] == "Olá, quanto custa a consulta?"
    answer = await reader.one("graph", to=AFTER)
    assert answer["by"] == "rocketchat"
    await somebody_takes_the_address_back(reader, old, ours)

    await reader.section("6. The first canary", 1)
    assert (await reader.figueira("flags show whatsapp"))["percent"] == 5
    await reader.figueira("flags set whatsapp native --reason 'beyond the page' --wait")
    await reader.writes(BEFORE, "Ainda tem horário?")
    await reader.writes(NEW, "Bom dia!")
    kept = await reader.one("rocketchat", by="visitor", wa_id=BEFORE, text="Ainda tem horário?")
    assert kept["rid"] == room["rid"], "whoever was in the middle of a conversation stays where they are"
    assert not matching(await reader.sandbox.record("rocketchat"), {"wa_id": NEW})

    await reader.section("6. The first canary")
    await reader.writes(NEW, "Alguém?")
    moved = await reader.one("rocketchat", by="visitor", wa_id=NEW)
    assert moved["text"] == "Alguém?"

    await reader.section("7. Going back")
    assert await reader.called() == old
    taken = await events(reader)
    await reader.writes(LAST, "Até que horas abrem?")
    await reader.one("rocketchat", by="visitor", wa_id=LAST)
    assert await events(reader) == taken, "not by way of Figueira"

    await reader.section("What does not come along")
    assert await reader.called() == old
    await reader.section("Leave the practice clinic")
    assert not reader.left
    assert await reader.shell.run("ls -A") == ""
    with pytest.raises(aiohttp.ClientConnectionError):
        await reader.sandbox.call("GET", "/control/record/counts")


async def events(reader: Reader) -> int:
    """How many of the provider's events Figueira ever took."""
    return int((await reader.figueira("doctor --ledger"))["channels"]["whatsapp"]["events"])


async def somebody_takes_the_address_back(reader: Reader, old: str, ours: str) -> None:
    """As a save in the provider's console would; mended as the page says: with the command of step 4."""
    away = {"override_callback_uri": old, "verify_token": "another"}
    status, _ = await reader.sandbox.call(
        "POST", f"/graph/v23.0/{NUMBER}", {"webhook_configuration": away}, Authorization="Bearer practice-token"
    )  # fmt: skip
    assert (status, await reader.called()) == (200, old)
    told = await reader.figueira("callbacks show whatsapp", code=1)
    assert told["drift"] == "level_moved"
    (cut_in,) = reader.done["4. Cut in"]
    await reader.shell.run(cut_in.commands)
    assert await reader.called() == ours
    assert (await reader.figueira("callbacks show whatsapp"))["drift"] is None
