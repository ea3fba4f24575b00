"""Prism as a judge: it plays a provider from its OpenAPI file and refuses what that file does not allow."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("FIGUEIRA_SHARED", HERE.parents[2] / ".." / "shared"))
CONTRACTS = SHARED / "contracts"
_COMMAND = HERE / "node_modules/@stoplight/prism-cli/dist/index.js"
# One by one: Prism cuts the header off after some 8,000 characters.
_VIOLATION = re.compile(r'\{"location":\[.*?"message":".*?"\}')
_START_SECONDS = 60.0  # about two alone; more while other tests have the processors


def argv() -> list[str]:
    """How Prism is started. Skips loudly, or fails under FIGUEIRA_TEST_SERVERS=require, when it is not there."""
    node = shutil.which("node")
    if node and _COMMAND.exists():
        return [node, str(_COMMAND)]
    missing = "Prism is not installed: `make test` does it where npm is there (Node.js 18.20 or newer)"
    if os.environ.get("FIGUEIRA_TEST_SERVERS") == "require":
        pytest.fail(missing)
    pytest.skip(f"NOT TESTED: {missing}")


def contract(name: str) -> Path:
    """A file of the shared contracts; skips loudly when they are not there."""
    path = CONTRACTS / name
    if not path.exists():
        pytest.skip(f"NO SHARED CONTRACT at {path}: set FIGUEIRA_SHARED")
    return path


class Prism:
    """One process for one specification; all it prints goes to `log`."""

    def __init__(self, specification: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        self._name, self._log = specification.name, log
        # Without --errors: it would turn examples that break their own file into 500s. Wrong requests get 4xx anyway.
        command = [*argv(), "mock", "--host", "127.0.0.1", "--port", str(port)]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, str(specification)],
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until it listens."""
        deadline = time.monotonic() + _START_SECONDS
        while b"Prism is listening" not in (told := self._log.read_bytes()):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"Prism does not serve {self._name}: {told[-2000:].decode(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


class Prisms:
    """Those that run, by specification. Each takes some 200 MB, so only one folder's run at a time."""

    def __init__(self, logs: Path) -> None:
        self._logs, self._running = logs, dict[str, Prism]()

    def __call__(self, name: str) -> str:
        """The address of the one for a shared contract."""
        self.start(name)
        return self._running[name].url

    def start(self, *names: str) -> None:
        """All at once: that is how starting several takes the shortest time."""
        folders = {Path(name).parent for name in names}
        for other in [name for name in self._running if Path(name).parent not in folders]:
            self._running.pop(other).stop()
        missing = [name for name in names if name not in self._running]
        started = {name: Prism(contract(name), self._logs / f"{Path(name).name}.log") for name in missing}
        self._running |= started
        for one in started.values():
            one.wait()

    def stop(self) -> None:
        for one in self._running.values():
            one.stop()


@dataclass
class Verdict:
    """What Prism thought of one request. `wrong`: where and why, empty when the specification allows it."""

    call: str
    status: int
    wrong: list[str] = field(default_factory=list)


@dataclass
class Witness:
    """Hooks for an HTTP client: every answer of Prism's is kept as a verdict."""

    verdicts: list[Verdict] = field(default_factory=list)

    async def saw(self, response: httpx.Response) -> None:
        call = f"{response.request.method} {response.request.url.path}"
        told = _VIOLATION.findall(response.headers.get("sl-violations", ""))
        wrong = [_told(one) for one in map(json.loads, told) if one["location"][0] == "request"]
        # Where a file describes no refusal Prism answers with a problem of its own; so it does for an unknown route.
        if response.headers.get("Content-Type", "").startswith("application/problem+json"):
            await response.aread()
            problem = response.json()
            wrong = [_told(one) for one in problem.get("validation", [])] or [str(problem["title"])]
        self.verdicts.append(Verdict(call, response.status_code, wrong))

    def assert_allowed(self, *calls: str) -> None:
        """These calls were made, in this order, and the specification allows each."""
        assert [verdict.call for verdict in self.verdicts] == list(calls)
        assert {verdict.call: verdict.wrong for verdict in self.verdicts if verdict.wrong} == {}
        assert [verdict for verdict in self.verdicts if verdict.status >= 400] == []


def _told(violation: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, violation['location']))}: {violation['message']}"


Rewrite = Callable[[dict[str, Any]], dict[str, Any]]


class Rewriting(httpx.AsyncBaseTransport):
    """Changes the JSON of a request on its way: for what a specification does not know and the provider takes."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite, self._inner = rewrite, httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Content-Type") == "application/json":
            body = json.dumps(self._rewrite(json.loads(await request.aread()))).encode()
            kept = [pair for pair in request.headers.raw if pair[0].lower() != b"content-length"]
            request = httpx.Request(
                request.method, request.url, headers=kept, content=body, extensions=request.extensions
            )
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class ByRoute(httpx.AsyncBaseTransport):
    """One workspace, several files: each request goes to the Prism whose specification has its path."""

    def __init__(self, prisms: Prisms, names: Sequence[str]) -> None:
        self._prisms, self._inner = prisms, httpx.AsyncHTTPTransport()
        self._routes = [(route, name) for name in names for route in _routes(contract(name))]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        name = next((name for route, name in self._routes if route.fullmatch(path)), None)
        if name is None:
            return httpx.Response(404, headers=_PROBLEM, json={"title": NOWHERE}, request=request)
        base = httpx.URL(self._prisms(name))
        request.url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


NOWHERE = "in no specification"
_PROBLEM = {"Content-Type": "application/problem+json"}
_PATH = re.compile(r"^  '?(/api/[^'\s:]+)'?:\s*$", re.MULTILINE)


def _routes(specification: Path) -> list[re.Pattern[str]]:
    """The paths of a YAML file, which need no YAML reader: they are its keys of the second level."""
    found = _PATH.findall(specification.read_text())
    return [re.compile(re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path))) for path in found]


def open_client(
    witness: Witness, *, prefer: str = "", transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client under a witness's eyes; `prefer` chooses Prism's answer (`code=429, example=…`)."""
    return httpx.AsyncClient(
        headers={"Prefer": prefer} if prefer else None,
        event_hooks={"response": [witness.saw]},
        transport=transport,
        timeout=20,
        trust_env=False,
    )
