"""What work costs: seconds by the clock, and of processors: this process's own and a PostgreSQL server's.

Standard library only: the peers' environment runs it too.
"""

import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MICROSECONDS = 1e6
_TRIES = 20


def cpu_of(stat: str, *, reaped: bool = False) -> int:
    """Clock ticks of one line of /proc/PID/stat; `reaped`: with those of its children that have ended."""
    fields = stat.rpartition(")")[2].split()  # from `state`, the third, on
    return sum(map(int, fields[11 : 15 if reaped else 13]))


def parent_of(stat: str) -> int:
    """Of the same line."""
    return int(stat.rpartition(")")[2].split()[1])


def server_seconds(postmaster: int, proc: Path = Path("/proc")) -> float:
    """Processor seconds of a PostgreSQL server until now: all its processes, also those that have ended."""
    for _ in range(_TRIES):
        before = cpu_of((proc / str(postmaster) / "stat").read_text(), reaped=True)
        living = sum(_children(postmaster, proc))
        head = (proc / str(postmaster) / "stat").read_text()
        if cpu_of(head, reaped=True) == before:  # else one ended meanwhile, and may be counted twice
            return (before + living) / TICKS
    raise RuntimeError(f"processes of the server {postmaster} end all the time")


def _children(postmaster: int, proc: Path) -> Iterator[int]:
    for entry in proc.glob("[0-9]*"):
        with suppress(OSError):
            stat = (entry / "stat").read_text()
            if parent_of(stat) == postmaster:
                yield cpu_of(stat)


def own_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime


@contextmanager
def metered(postmaster: int | None) -> Iterator[dict[str, float]]:
    """After the block: seconds `wall`, `client`, `server`. None: no server is in it."""
    found: dict[str, float] = {}
    server = server_seconds(postmaster) if postmaster else 0.0
    client, began = own_seconds(), time.perf_counter()
    yield found
    found["wall"] = time.perf_counter() - began
    found["client"] = own_seconds() - client
    found["server"] = (server_seconds(postmaster) if postmaster else 0.0) - server


def per_document(found: Mapping[str, float]) -> dict[str, float]:
    """`wall`, `client`, `server` (seconds) and `documents` → microseconds a document, and documents a second."""
    documents = found["documents"]
    wall, client, server = (
        found[name] * MICROSECONDS / documents for name in ("wall", "client", "server")
    )  # fmt: skip
    return {
        "cpu_us": client + server,
        "client_us": client,
        "server_us": server,
        "wall_us": wall,
        "rate": documents / found["wall"],
    }


def peak_mib(status: str) -> float | None:
    """The most memory a process ever had resident, of /proc/PID/status; None: it has ended."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None
