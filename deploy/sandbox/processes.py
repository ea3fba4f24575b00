"""The demo's processes: each ends when the demo does, however that ends."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

STOP_SECONDS = 15

Words = dict[str, Any]


def _die_with_parent() -> None:
    """In the child: SIGTERM when the demo is killed outright, and no Ctrl-C but through the demo."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Processes:
    """Long ones by `start`, commands by `figueira`. `environ` is added to the demo's own environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **environ}
        self._running: list[tuple[str, asyncio.subprocess.Process]] = []

    async def start(
        self, name: str, *argv: str, stdout: int | IO[bytes], stderr: int | IO[bytes] | None
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=self._environ,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        self._running.append((name, process))
        return process

    async def figueira(self, *argv: str) -> tuple[int, Words]:
        """One command with --json: exit code and object ({} when it has none)."""
        process = await asyncio.create_subprocess_exec(
            *command(), *argv, "--json", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=self._environ, start_new_session=True,
        )  # fmt: skip
        # It is let finish whatever happens here: cut short it could leave a database server behind.
        told, _ = await asyncio.shield(process.communicate())
        return process.returncode or 0, json.loads(told) if told.strip() else {}

    async def ended(self) -> str:
        """Waits for the first long one that ends by itself: its name."""
        waits = {asyncio.create_task(process.wait()): name for name, process in self._running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """All of them, the last started first. A router that did not end well may have left its database running."""
        clean = True
        for name, process in reversed(self._running):
            code = await _stopped(process)
            clean = clean and (code == 0 or name != "figueira serve")
        if not clean:
            await self.figueira("db", "url")  # attaches, and as the last one out stops the server


async def _stopped(process: asyncio.subprocess.Process) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        return await process.wait()


def command() -> tuple[str, ...]:
    """`figueira` of this environment."""
    return (str(Path(sys.executable).with_name("figueira")),)
