"""The rounds of `python -m benchmarks imports`, and their gates."""

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.imports import large
from benchmarks.imports.scene import PEERS, Failed, Figures, Scene
from benchmarks.rounds import Arm, Ratio, Report, alternate, finish, medians, paired
from benchmarks.servers import Ground, execute, fetch, ground

DOCUMENTS = 100_000
FEW = 30_000
ROUNDS = 5
LIVE_ROUNDS = 3
LIMITS_TIMES = 1.15
NAIVE_TIMES = 2.3
DLT_TIMES = 5.0
LIVE_TIMES = 1.5
VERIFY_SHARE = 0.3
NOT_MADE = "its environment is not there: make peers"
_POSTMASTER = "select split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int as pid"

Found = Sequence[Mapping[str, Mapping[str, float]]]


def with_limits(found: Found) -> list[dict[str, Mapping[str, float]]]:
    """And the sum of both limits, round by round: what the work of an import costs without the import."""
    return [
        {
            **turn,
            "limits": {
                figure: turn["decoding"][figure] + turn["copying"][figure] for figure in ("cpu_us", "wall_us")
            },
        }
        for turn in found
    ]


def gates(found: Found, missing: Mapping[str, str]) -> list[Ratio]:
    """Of the folder's arms."""
    ratios = [
        paired(found, "cpu_us", "ours", "limits", at_most=LIMITS_TIMES),
        paired(found, "cpu_us", "naive", "ours", at_least=NAIVE_TIMES),
        paired(found, "cpu_us", "verify", "ours", at_most=VERIFY_SHARE),
        paired(found, "wall_us", "verify", "ours", at_most=VERIFY_SHARE),
        paired(found, "wall_us", "naive", "ours"),
        paired(found, "wall_us", "ours", "copying"),
    ]
    if "dlt" not in missing:
        ratios.insert(2, paired(found, "wall_us", "dlt", "ours", at_least=DLT_TIMES))
    return ratios


def tried(scene: Scene, name: str, source: "Path | str") -> str | None:
    """Why a peer cannot be run; None: it can."""
    if not PEERS.exists():
        return NOT_MADE
    try:
        scene.peer(name, source, scene.fresh(name))
    except Failed as failed:
        return str(failed)
    return None


def _peers(scene: Scene, names: Sequence[str], source: "Path | str") -> tuple[dict[str, Arm], dict[str, str]]:
    """Arms of those that run, and why the others do not."""
    missing = {name: why for name in names if (why := tried(scene, name, source)) is not None}

    def arm(name: str) -> Arm:
        return lambda _: scene.peer(name, source, scene.fresh(name))

    return {name: arm(name) for name in names if name not in missing}, missing


def folder(scene: Scene, rounds: int) -> Report:
    """From a dump: limits, ours, its verification, naive, dlt."""
    before = os.getloadavg()[0]
    every, few = scene.folders["all"], scene.folders["few"]
    peers, missing = _peers(scene, ["dlt"], few)

    def ours(_: int) -> Figures:
        return scene.ours("ours", every, scene.fresh("ours"))

    def verify(_: int) -> Figures:  # what `ours` copied last
        return scene.ours("verify", every, last)

    last = scene.fresh("ours")
    arms: dict[str, Arm] = {
        "decoding": lambda _: scene.ours("decoding", every),
        "copying": lambda _: scene.ours("copying", every, scene.fresh("copying")),
        "ours": ours,
        "verify": verify,
        "naive": lambda _: scene.ours("naive", few, scene.fresh("naive")),
        **peers,
    }
    found = with_limits(alternate(arms, rounds))
    load = (before, os.getloadavg()[0])
    of = f"{scene.documents:,} messages ({', '.join(['naive', *peers])}: {scene.few:,})"
    return Report("import", rounds, 0, medians(found), gates(found, missing), load, of, missing)


def live(scene: Scene, rounds: int) -> Report:
    """From a running server that speaks MongoDB's protocol."""
    before = os.getloadavg()[0]
    with scene.live() as uri:
        peers, missing = _peers(scene, ["mongopg", "omnidbm"], uri)
        arms: dict[str, Arm] = {"ours": lambda _: scene.ours("ours", uri, scene.fresh("live")), **peers}
        found = alternate(arms, rounds)
    ratios = [paired(found, "wall_us", name, "ours", at_least=LIVE_TIMES) for name in peers]
    load, of = (before, os.getloadavg()[0]), f"{scene.few:,} messages"
    return Report("import, live", rounds, 0, medians(found), ratios, load, of, missing)


def _quiet(place: Ground) -> int:
    """The server's process. What works beside by itself would be counted with whoever runs just then."""
    for statement in ("alter system set autovacuum = off", "select pg_reload_conf()"):
        asyncio.run(execute(place.dsn, statement))
    return int(asyncio.run(fetch(place.dsn, _POSTMASTER))[0]["pid"])


def run(rounds: int = ROUNDS, documents: int = DOCUMENTS, few: int = FEW) -> list[Report]:
    """Processor time and wall time of an import, a document."""
    with ground() as place:
        server = _quiet(place)
        scene = Scene(place, server, documents, min(few, documents))
        return [folder(scene, rounds), live(scene, min(rounds, LIVE_ROUNDS))]


def main(argv: list[str]) -> int:
    """`python -m benchmarks imports`."""
    parser = argparse.ArgumentParser(prog="benchmarks imports", description=run.__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help=f"messages, default {DOCUMENTS}")
    parser.add_argument("--few", type=int, default=FEW, help=f"of them for the slow ones, default {FEW}")
    parser.add_argument(
        "--large",
        action="store_true",
        help="instead: memory and time of the command at 100,000 and 1,000,000",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args(argv)
    reports = [large.run()] if wanted.large else run(wanted.rounds, wanted.documents, wanted.few)
    return finish(reports, wanted.json)
