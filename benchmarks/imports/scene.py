"""Where the arms of an import run: the documents, a database like new for each slice, a live server, the processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.history import write_folder
from benchmarks.imports.meter import per_document
from benchmarks.servers import ROOT, Ground, free_port

NAME = "rocketchat_message"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
TEMPLATE = "with_rooms"
PATIENCE_SECONDS = 600.0
_WORDS = 300
"""Characters of a tool's last words that are told."""

Figures = dict[str, float]


class Failed(RuntimeError):
    """A process ended badly, or copied not everything."""


def first(source: Path, target: Path, documents: int) -> int:
    """The first documents of a .bson file as a file; how many there were."""
    data, at, count = source.read_bytes(), 0, 0
    while at < len(data) and count < documents:
        at += int.from_bytes(data[at : at + 4], "little")
        count += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data[:at])
    return count


class Scene:
    """`documents`: about how many messages there are; `few`: of how many the slow ones get the first."""

    def __init__(self, place: Ground, server: int, documents: int, few: int) -> None:
        self._place, self._server = place, server
        self._home = place.home / "imports"
        history = self._home / "history"
        self.documents = write_folder(history, documents)[NAME]
        self.folders = {name: self._home / name for name in ("all", "few", "rooms")}
        first(history / f"{NAME}.bson", self.folders["all"] / f"{NAME}.bson", self.documents)
        self.few = first(history / f"{NAME}.bson", self.folders["few"] / f"{NAME}.bson", few)
        self.folders["rooms"].mkdir()
        (history / "rocketchat_room.bson").rename(self.folders["rooms"] / "rocketchat_room.bson")
        shutil.rmtree(history)
        self._rows = self._home / "rows"
        self._rows.mkdir()
        self.ours("rooms", self.folders["rooms"], place.database(TEMPLATE))
        self.ours("prebuild", self.folders["all"])

    def fresh(self, name: str) -> str:
        """A database with the rooms and without messages; the DSN."""
        self._place.drop(name)
        return self._place.database(name, TEMPLATE)

    def ours(self, arm: str, source: "Path | str", dsn: str = "") -> Figures:
        """Run an arm of `benchmarks.imports.arms`."""
        given = {"source": str(source), "dsn": dsn, "rows": str(self._rows), "server": self._server}
        return _figures([sys.executable, "-m", "benchmarks.imports.arms", arm, json.dumps(given)])

    def peer(self, name: str, source: "Path | str", dsn: str) -> Figures:
        """Run a tool of `benchmarks.imports.peers`. Raises Failed: also when documents are missing."""
        place = self._home / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        database = dsn.partition("@/")[2].partition("?")[0]
        given = {
            "source": str(source), "dsn": dsn, "server": self._server, "place": str(place),
            "tcp_dsn": self._place.tcp_dsn.rpartition("/")[0] + f"/{database}",
        }  # fmt: skip
        found = _figures([str(PEERS), "-m", "benchmarks.imports.peers", name, json.dumps(given)])
        if found["documents"] != self.few:
            raise Failed(f"it copied {found['documents']:.0f} of {self.few} documents")
        return found

    @contextmanager
    def live(self) -> Iterator[str]:
        """A MongoDB stand-in with the first messages; its address."""
        port = free_port()
        command = ("secantus", "--port", str(port), "--storage-path", str(self._home / "mongo"))
        with self._place.process(*command) as child:
            self._place.wait(child, port)
            uri = f"mongodb://127.0.0.1:{port}/rocketchat"
            self.ours("serve", self.folders["few"], uri)
            yield uri


def _figures(command: list[str]) -> Figures:
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    if done.returncode:
        raise Failed(" ".join(done.stderr.split())[-_WORDS:] or f"exit {done.returncode}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**per_document(found), "documents": found["documents"]}
