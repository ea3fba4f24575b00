"""What the tests of the embedded server share: children that use it, questions to it, crashes."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from router.storage.embedded import Embedded, attach

ROOT = Path(__file__).parents[3]
# Becomes another user only after its imports: the interpreter itself may lie where that user cannot read.
CHILD = """
import os, sys
from pathlib import Path
from router.storage.embedded import attach
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
server = attach(Path(sys.argv[1]))
print(server.dsn, flush=True)
sys.stdin.readline()
server.release()
print("released", flush=True)
"""


def child(home: Path, *ids: int) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", CHILD, str(home), *map(str, ids)]
    return subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: "subprocess.Popen[str]") -> None:
    out, _ = process.communicate("\n", timeout=20)
    assert out.strip() == "released"
    assert process.returncode == 0


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=20)


def ask(dsn: str, sql: str) -> Any:
    async def one() -> Any:
        link = await asyncpg.connect(dsn, timeout=10)
        try:
            return await link.fetchval(sql)
        finally:
            await link.close()

    return asyncio.run(one())


def answers(dsn: str) -> bool:
    try:
        return bool(ask(dsn, "select true"))
    except (OSError, asyncpg.PostgresError):
        return False


def postmaster(home: Path) -> int:
    return int((home / "pg" / "postmaster.pid").read_text().split()[0])


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.01)


def crash(home: Path) -> None:
    pid = postmaster(home)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)


def wipe(place: Path) -> None:
    for link in place.glob("**/pg"):
        if link.is_symlink():
            shutil.rmtree(link.resolve().parent, ignore_errors=True)
    shutil.rmtree(place)


@contextlib.contextmanager
def new_place() -> Iterator[Path]:
    """A directory that every user may pass; pytest's own is closed to the server's user when root runs."""
    path = Path(tempfile.mkdtemp(prefix="figueira-test-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        wipe(path)


@contextlib.contextmanager
def new_template() -> Iterator[Path]:
    """A home whose first start is over: to be copied, because initdb for every test takes long."""
    with new_place() as place:
        attach(place / "home").release()
        yield place / "home"


def copied(template: Path, home: Path) -> Path:
    subprocess.run(["cp", "-a", str(template), str(home)], check=True)
    return home


def sockets_of(server: Embedded) -> Path:
    return Path(server.dsn.split("host=")[1].split("&")[0])
