"""The product as its users start it: processes on free ports, beside the sandbox that judges them."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.storage.embedded_scene import new_place

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("FIGUEIRA_TEST_LENGTH") == "full"
TENANT = "clinica-sol"
APP_SECRET = "segredo-plantado-do-app-7f3a"
ACCESS_TOKEN = "token-plantado-do-graph-91cc"
VERIFY_TOKEN = "palavra-plantada-da-verificacao"
WEBHOOK_TOKEN = "token-plantado-do-webhook-55e0"
RC_TOKEN = "token-plantado-da-rest-0b1d"
BOT = "figueira-bot"
START_SECONDS = 60.0
QUICK = {
    "lease_seconds": 5, "permit_seconds": 4, "request_timeout_seconds": 3, "unknown_after_seconds": 4,
    "unknown_again_seconds": 0.5, "unknown_dead_seconds": 60, "retry_base_seconds": 0.2, "retry_cap_seconds": 1,
    "breaker_base_seconds": 0.5, "breaker_cap_seconds": 1, "channel_ill_seconds": 2, "place_retry_seconds": 1,
}  # fmt: skip
"""[delivery] in test time; the order of the product's own numbers is kept."""


@dataclass(frozen=True)
class Line:
    """A channel and the number behind it. `number` "": it takes events for any number."""

    slug: str
    number: str = ""
    secret: str = APP_SECRET
    forwards: bool = True
    extra: str = ""
    """More lines of [channels.<slug>]."""

    @property
    def app(self) -> str:
        return f"{self.slug}-app"

    def toml(self, sandbox: str) -> str:
        native = {
            "base_url": f"{sandbox}/graph/v23.0", "phone_number_id": self.number, "access_token": ACCESS_TOKEN,
            "app_secret": self.secret, "verify_token": VERIFY_TOKEN,
        }  # fmt: skip
        lines = [f"[channels.{self.slug}]", 'kind = "whatsapp"', f'tenant = "{TENANT}"', self.extra]
        lines += [
            f"[channels.{self.slug}.native]",
            *(f'{key} = "{value}"' for key, value in native.items() if value),
        ]
        if self.forwards:
            lines += [f"[channels.{self.slug}.rocketchat]", f'webhook_url = "{self.endpoint(sandbox)}"']
        return "\n".join(lines)

    def endpoint(self, sandbox: str) -> str:
        return f"{sandbox}/rocketchat/api/apps/public/{self.app}/webhook"


class Process:
    """One process of the product; all it prints goes to `log`."""

    def __init__(self, argv: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._argv, self._folder, self._environ = argv, folder, environ
        self._running: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                self._argv,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def wait_started(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.log.read_bytes().count(b"serve.started") < self._starts:
            assert self._running is not None
            assert self._running.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self, number: int) -> int:
        """Send a signal and wait; the exit code."""
        assert self._running is not None
        self._running.send_signal(number)
        try:
            return self._running.wait(20)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait(20)
            raise

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None


@dataclass
class Scene:
    """A running product and its sandbox."""

    folder: Path
    sandbox: str
    port: int
    lines: Sequence[Line]
    environ: Mapping[str, str]
    processes: dict[str, Process] = field(default_factory=dict)
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, role: str) -> None:
        """Start `figueira serve` as `name`; "web" and "all" listen on the scene's port."""
        port = str(self.port) if role != "worker" else "0"
        argv = [sys.executable, "-m", "router.cli", "serve", "--role", role, "--port", port]
        self.processes[name] = Process(argv, self.folder, self.environ, self.folder / f"{name}.log")
        self.processes[name].start()

    def figueira(self, *argv: str, code: int = 0) -> Any:
        """A command with --json: what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", *argv, "--json"],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def flag(self, stage: str, *more: str) -> Any:
        return self.figueira("flags", "set", "whatsapp", stage, "--reason", "acceptance", "--wait", *more)

    def configure(self, **settings: object) -> None:
        post(f"{self.sandbox}/control/configure", settings)

    def logs(self) -> str:
        return "\n".join(process.log.read_text() for process in self.processes.values())

    def restart(self, name: str) -> None:
        """kill -9 and start again at once; returns when it serves."""
        self.processes[name].end(signal.SIGKILL)
        self.processes[name].start()
        self.processes[name].wait_started()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.alive:
                assert process.end(signal.SIGTERM) == 0, process.log.read_text()


@functools.cache
def _compiled() -> str:
    place = tempfile.mkdtemp(prefix="figueira-pyc-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def environment() -> dict[str, str]:
    """Ours for the processes. Where bytecode may not be written beside the code they share a place for it: without
    any, each start would compile everything, and starts are what is measured here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FIGUEIRA_")}
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):
        kept["PYTHONPYCACHEPREFIX"] = _compiled()
    return kept


def post(url: str, body: object) -> Any:
    request = urllib.request.Request(  # noqa: S310 - the sandbox's address
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    argv = [sys.executable, "-m", "deploy.sandbox", "--port", "0", "--record", str(folder / "record.jsonl")]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, env=environment()) as running:
        assert running.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(running.stdout.readline())['port']}"
        finally:
            running.terminate()
            running.wait(10)


@contextlib.contextmanager
def staged(
    lines: Sequence[Line], *, roles: Mapping[str, str] | None = None, delivery: Mapping[str, float] | None = None,
    stage: str = "rocketchat",
) -> Iterator[Scene]:  # fmt: skip
    """Start it all, make a key, set the stage; afterwards every process ends by SIGTERM with exit code 0."""
    with new_place() as folder, sandbox(folder) as stand_in:
        environ = {**environment(), "FIGUEIRA_HOME": str(folder / "home"), "FIGUEIRA_LOG_FORMAT": "json", "USER": "ana",
                   "PYTHONPATH": str(ROOT)}  # fmt: skip
        scene = Scene(folder, stand_in, free_port(), lines, environ)
        (folder / "figueira.toml").write_text(_toml(stand_in, lines, {**QUICK, **(delivery or {})}))
        _introduce(scene)
        try:
            for name, role in (roles or {"web": "web", "worker": "worker"}).items():
                scene.add(name, role)
            for process in scene.processes.values():
                process.wait_started()
            wait_ready(scene.url)
            scene.key = scene.figueira("keys", "create", "clinic", "--tenant", TENANT, "--scopes", "all")[
                "key"
            ]
            if stage != "rocketchat":
                scene.flag(stage)
            yield scene
            scene.stop()
        finally:
            for process in scene.processes.values():
                if process.alive:
                    process.end(signal.SIGKILL)


def _toml(stand_in: str, lines: Sequence[Line], delivery: Mapping[str, float]) -> str:
    sources = ", ".join(f'"{line.app}" = "{line.slug}"' for line in lines if line.forwards)
    head = f"""
[rocketchat]
base_url = "{stand_in}/rocketchat"
user_id = "{BOT}"
auth_token = "{RC_TOKEN}"
bot_user_id = "{BOT}"
webhook_token = "{WEBHOOK_TOKEN}"
sources = {{ {sources} }}
[delivery]
"""
    policy = "\n".join(f"{key} = {value}" for key, value in delivery.items())
    return "\n".join([head + policy, *(line.toml(stand_in) for line in lines)])


def _introduce(scene: Scene) -> None:
    """Tell the sandbox where the product listens."""
    numbers = {
        line.number: {"callback_url": f"{scene.url}/webhooks/{line.slug}", "app_secret": line.secret,
                      "verify_token": VERIFY_TOKEN, "access_token": ACCESS_TOKEN}
        for line in scene.lines if line.number
    }  # fmt: skip
    apps = {line.app: {"phone_number_id": line.number, "app_secret": line.secret} for line in scene.lines}
    scene.configure(
        numbers=numbers,
        # Meta comes back for days; in test time, often enough to meet every restart.
        callback_retry={"attempts": 200, "delay_seconds": 0.1, "factor": 1.5, "cap_seconds": 0.5},
        rocketchat={
            "webhook_url": f"{scene.url}/webhooks/rocketchat", "webhook_token": WEBHOOK_TOKEN, "app": apps,
            "user_id": BOT, "auth_token": RC_TOKEN,
        },
    )  # fmt: skip


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2) as answer:  # noqa: S310 - our own
                answer.read()
                return
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.05)
