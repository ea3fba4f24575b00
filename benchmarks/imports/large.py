"""Memory and time of `figueira migrate import` at two lengths of history: everything is copied, files and conversations too."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.history import APPS, write_folder
from benchmarks.imports.meter import MICROSECONDS, peak_mib
from benchmarks.rounds import Ratio, Report
from benchmarks.servers import Ground, ground

SIZES = (100_000, 1_000_000)
PEAK_MIB = 400.0
FLAT_TIMES = 1.15
_LOOK_SECONDS = 0.02
_SOURCES = "\n[rocketchat.sources]\n" + "".join(f'"{app}" = "whatsapp"\n' for app in APPS)


def _watched(place: Ground, *argv: str) -> tuple[str, float, float]:
    """Run a command to its end: what it printed, its wall seconds, the most MiB it ever had resident. PostgreSQL's processes
    are others."""
    began = time.perf_counter()
    said = place.home / "said"
    with (place.home / "log").open("ab") as log, said.open("wb") as out:  # a pipe that nobody reads fills up
        child = subprocess.Popen(
            [sys.executable, "-m", "router.cli", *argv], cwd=place.home, env=place.environment(),
            stdout=out, stderr=log,
        )  # fmt: skip
    status, peak = Path(f"/proc/{child.pid}/status"), 0.0
    while child.poll() is None:
        with suppress(OSError):
            peak = peak_mib(status.read_text()) or peak
        time.sleep(_LOOK_SECONDS)
    wall = time.perf_counter() - began
    told = said.read_text().splitlines()[-1:]
    whole = bool(told) and "collections" in json.loads(told[0])
    assert child.returncode == 0 and whole, (told, (place.home / "log").read_text(errors="replace")[-2000:])  # noqa: PT018
    return said.read_text(), wall, peak


def _last(printed: str) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
    found: Mapping[str, Mapping[str, Mapping[str, int]]] = json.loads(printed.splitlines()[-1])
    return found


def _one(messages: int) -> dict[str, float]:
    with ground() as place:
        settings = place.home / "figueira.toml"
        settings.write_text(settings.read_text() + _SOURCES)
        history = place.home / "history"
        documents = sum(write_folder(history, messages).values())
        printed, wall, peak = _watched(place, "migrate", "import", str(history), "--json", "--workers", "1")
        told = _last(printed)["collections"]
        assert sum(one["source"] for one in told.values()) == documents, told
        proven, verified, checked = _watched(place, "migrate", "verify", str(history), "--json")
        assert not _last(proven)["differences"], proven[-2000:]
        shutil.rmtree(history)
    return {
        "documents": documents,
        "peak_mib": peak,
        "wall_s": wall,
        "wall_us": wall * MICROSECONDS / documents,
        "verify_wall_s": verified,
        "verify_peak_mib": checked,
    }


def gates(small: Mapping[str, float], large: Mapping[str, float]) -> list[Ratio]:
    """Memory below its bound and flat; time linear, which is told, not judged."""

    def one(what: str, value: float, at_most: float | None = None) -> Ratio:
        return Ratio(what, value, value, value, 1, None, at_most)

    return [
        one("peak_mib: 1,000,000", large["peak_mib"], PEAK_MIB),
        one("peak_mib: 1,000,000 / 100,000", large["peak_mib"] / small["peak_mib"], FLAT_TIMES),
        one("wall_us: 1,000,000 / 100,000", large["wall_us"] / small["wall_us"]),
        one("wall_s: verify / import, 100,000", small["verify_wall_s"] / small["wall_s"]),
        one("wall_s: verify / import, 1,000,000", large["verify_wall_s"] / large["wall_s"]),
    ]


def run() -> Report:
    """Once each: a second run would say the same of memory."""
    before = os.getloadavg()[0]
    small, large = (_one(messages) for messages in SIZES)
    arms = {
        f"{size:,}": {name: round(value, 3) for name, value in found.items()}
        for size, found in zip(SIZES, (small, large), strict=True)
    }
    load = (before, os.getloadavg()[0])
    return Report("import, large", 1, 0, arms, gates(small, large), load, "the whole command")
