"""The accept path at 64 connections: ours, the usual build (naive), and the bare floor.

`python -m benchmarks.accept`
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

from benchmarks.rounds import Report, alternate, command, medians, paired
from benchmarks.servers import ROOT, SLUG, Ground, execute, fetch, free_port, ground

CONCURRENCY = 64
NAIVE_TIMES = 10.0
FLOOR_SHARE = 0.7
_COUNT = "select (select count(*) from events) as events, (select count(*) from event_digests) as digests"


def _rows(dsn: str) -> int:
    row = asyncio.run(fetch(dsn, _COUNT))[0]
    assert row["events"] == row["digests"], "an event without its digest"
    return int(row["events"])


def _slice(port: int, dsn: str, seconds: float, number: int) -> dict[str, float]:
    """One slice: every answer 200 is a row, and every row was answered."""
    asyncio.run(execute(dsn, "truncate events, event_digests", "checkpoint"))
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.load", "--port", str(port), "--path", f"/webhooks/{SLUG}",
            "--seconds", str(seconds), "--concurrency", str(CONCURRENCY), "--tag", f"{number:04d}",
        ],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=seconds + 60,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    assert not figures.pop("errors"), done.stdout
    rows = _rows(dsn)
    assert rows == figures.pop("answered"), f"{rows} rows for {figures}"
    return figures


def _servers(place: Ground, stack: ExitStack) -> dict[str, tuple[int, str]]:
    """All up at once: port and database of each."""
    databases = {"naive": place.database("naive"), "floor": place.database("floor"), "ours": place.dsn}
    ports = {name: free_port() for name in databases}
    started = {
        name: stack.enter_context(place.process(f"benchmarks.{name}", str(ports[name]), databases[name]))
        for name in ("naive", "floor")
    }
    serve = ("router.cli", "serve", "--role", "web", "--port", str(ports["ours"]))
    started["ours"] = stack.enter_context(place.process(*serve))
    for name, child in started.items():
        place.wait(child, ports[name])
    return {name: (ports[name], databases[name]) for name in databases}


def run(rounds: int, seconds: float) -> Report:
    """Accepted webhooks per second, ours against the naive build and the floor."""
    before = os.getloadavg()[0]
    with ground() as place, ExitStack() as stack:
        servers = _servers(place, stack)
        arms = {name: partial(_slice, port, dsn, seconds) for name, (port, dsn) in servers.items()}
        found = alternate(arms, rounds)
    ratios = [
        paired(found, "rate", "ours", "naive", at_least=NAIVE_TIMES),
        paired(found, "rate", "ours", "floor", at_least=FLOOR_SHARE),
        paired(found, "rate", "floor", "naive"),
    ]
    return Report("accept", rounds, seconds, medians(found), ratios, (before, os.getloadavg()[0]))


if __name__ == "__main__":
    raise SystemExit(command(run, rounds=7, seconds=1.0))
