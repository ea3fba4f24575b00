"""`make run` as a newcomer meets it: the demo's processes, the commands it prints, and nothing left behind."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
FIGUEIRA = Path(sys.executable).with_name("figueira")
READY_SECONDS = 90

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("run")]

Item = dict[str, Any]


def until(found: Callable[[], Any], seconds: float = 30) -> Any:
    """The first truthy answer; fails when none comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if answer := found():
                return answer
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {found}")


@dataclass
class Home:
    """A newcomer's directory: no settings of their own."""

    path: Path
    port: int

    @property
    def environ(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("FIGUEIRA_")}
        return {**plain, "PORT": str(self.port), "PYTHONPATH": str(ROOT)}

    def start(self, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.sandbox.demo"],
            cwd=self.path, env=self.environ | environ, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def figueira(self, *argv: str) -> Item:
        """As typed in another terminal: no settings but where it is typed."""
        done = subprocess.run(
            [FIGUEIRA, *argv, "--json"], cwd=self.path, env=self.environ, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer: Item = json.loads(done.stdout)
        return answer

    def login(self) -> Item:
        login: Item = json.loads((self.path / ".figueira/demo.json").read_text())
        return login

    def get(self, route: str, **query: str) -> Item:
        answer = httpx.get(
            f"http://127.0.0.1:{self.port}{route}", params=query, headers={"Authorization": f"Bearer {self.login()['key']}"}
        )  # fmt: skip
        answer.raise_for_status()
        found: Item = answer.json()
        return found

    def conversations(self, **query: str) -> list[Item]:
        items: list[Item] = self.get("/v1/conversations", limit="200", **query)["items"]
        return items

    def handled(self, path: str) -> int:
        return int(self.get("/v1/paths/compare")["paths"][path]["handled"])

    def answered(self, path: str) -> int:
        return int(self.get("/v1/paths/compare")["paths"][path]["sent"])

    def processes(self) -> list[int]:
        """Whoever has this directory in its arguments or environment: the demo's, and PostgreSQL's."""
        mark, found = str(self.path).encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if mark in told or (entry / "cwd").readlink() == self.path:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def home() -> Iterator[Home]:
    # Not tmp_path: its parents are closed to the system user that runs root's PostgreSQL.
    path = Path(tempfile.mkdtemp(prefix="figueira-run-"))
    path.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Home(path, port)
    try:
        yield found
    finally:
        for pid in found.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(path)


def read_screen(demo: subprocess.Popen[str]) -> str:
    """What is printed until the demo runs."""
    lines = []
    assert demo.stdout is not None
    for line in demo.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    raise AssertionError(f"it ended: {''.join(lines)}")


def end(demo: subprocess.Popen[str], number: signal.Signals) -> int:
    os.killpg(demo.pid, number)  # as a terminal does it
    demo.communicate(timeout=40)
    return demo.returncode


def test_flip_move_and_back_while_patients_write_then_nothing_is_left(home: Home) -> None:
    began = time.monotonic()
    demo = home.start()
    screen = read_screen(demo)
    assert time.monotonic() - began < READY_SECONDS
    assert f"http://127.0.0.1:{home.port}/console" in screen
    assert home.login()["password"] in screen
    for stage in ("canary --percent 25", "native", "rocketchat"):
        assert f"figueira flags set whatsapp {stage} --reason demo --wait" in screen
    until(lambda: home.handled("rocketchat") >= 3 and home.answered("rocketchat") >= 2)
    assert home.handled("native") == 0

    # new conversations at once, open ones stay
    before = {one["id"] for one in home.conversations(state="open")}
    home.figueira("flags", "set", "whatsapp", "native", "--reason", "demo", "--wait")
    known = {one["id"] for one in home.conversations()}
    until(lambda: [one for one in home.conversations() if one["id"] not in known])
    for one in home.conversations():
        if one["id"] not in known:
            assert one["path"] == "native"
        if one["id"] in before:
            assert (one["path"], one["pin_version"]) == ("rocketchat", 1)
    until(lambda: home.answered("native") >= 1)

    # --now moves them
    home.figueira("flags", "set", "whatsapp", "native", "--reason", "demo", "--wait", "--now")
    assert {one["path"] for one in home.conversations(state="open")} == {"native"}

    # and back
    natives = {one["id"] for one in home.conversations(state="open")}
    home.figueira("flags", "set", "whatsapp", "rocketchat", "--reason", "demo", "--wait", "--now")
    moved = {one["id"]: one["path"] for one in home.conversations(state="open")}
    assert set(moved.values()) <= {"rocketchat"}
    assert natives & set(moved)
    handled = home.handled("rocketchat")
    until(lambda: home.handled("rocketchat") > handled)
    assert home.figueira("doctor", "--ledger")["balanced"]

    where = home.figueira("db", "url")["url"].partition("host=")[2]
    socket_of = Path(where.partition("&")[0], f".s.PGSQL.{where.partition('port=')[2]}")
    assert socket_of.exists()
    assert len(home.processes()) >= 4
    assert end(demo, signal.SIGINT) == 0
    until(lambda: not home.processes(), 10)
    assert not socket_of.exists()


def test_a_second_run_knows_the_login_and_a_killed_one_leaves_nothing(home: Home) -> None:
    first = home.start()
    read_screen(first)
    login = home.login()
    home.figueira("flags", "set", "whatsapp", "native", "--channel", "whatsapp", "--reason", "left so")
    home.figueira("flags", "set", "whatsapp", "native", "--reason", "left so")
    rival = home.start(PORT="0")
    assert "running on .figueira already" in rival.communicate(timeout=20)[0]
    assert rival.returncode == 2
    assert end(first, signal.SIGTERM) == 0

    second = home.start()
    assert login["password"] in read_screen(second)
    flag = home.get("/v1/flags/whatsapp")
    assert (flag["stage"], flag["strategies"], flag["override"]) == ("rocketchat", [], None)
    until(lambda: home.answered("rocketchat") >= 1)
    end(second, signal.SIGKILL)
    until(lambda: not home.processes(), 20)


def test_a_taken_port_is_one_line_with_the_mend(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", home.port))
        taken.listen()
        demo = home.start()
        told = demo.communicate(timeout=20)[0].strip()
    assert demo.returncode == 2
    assert "\n" not in told
    assert f"port {home.port}" in told
    assert "PORT=8081 make run" in told
    assert not (home.path / ".figueira").exists()
