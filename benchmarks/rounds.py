"""Paired rounds: every arm measured in each round, order reversed every second one, ratios taken within the round."""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Ratio:
    """One arm's figure over another's, paired per round: median and quartiles."""

    what: str
    median: float
    low: float
    high: float
    rounds: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def held(self) -> bool:
        """The gate, if there is one, holds for the median."""
        return (self.at_least is None or self.median >= self.at_least) and (
            self.at_most is None or self.median <= self.at_most
        )

    def __str__(self) -> str:
        gate = f">= {self.at_least}" if self.at_least is not None else f"<= {self.at_most}"
        if self.at_least is None and self.at_most is None:
            gate = "no gate"
        word = "" if gate == "no gate" else (": held" if self.held else ": FAILED")
        return f"{self.what:<34} {self.median:7.2f}  (IQR {self.low:.2f} to {self.high:.2f})  {gate}{word}"


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found. `arms`: each arm's medians by figure; `load`: the machine's before and after. `of`: what a
    round is of, where it is no span of time. `missing`: arms that could not be run, and why: their gates are not held, they
    are not judged, which passes only where no server is required."""

    name: str
    rounds: int
    seconds: float
    arms: Mapping[str, Mapping[str, float]]
    ratios: Sequence[Ratio]
    load: tuple[float, float]
    of: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Every gate."""
        required = os.environ.get("FIGUEIRA_TEST_SERVERS") == "require"
        return all(ratio.held for ratio in self.ratios) and not (self.missing and required)

    def as_json(self) -> dict[str, Any]:
        """One object."""
        ratios = [{**asdict(ratio), "held": ratio.held} for ratio in self.ratios]
        return {**asdict(self), "ratios": ratios, "held": self.held, "cores": os.cpu_count()}


Arm = Callable[[int], Mapping[str, float]]
"""Measures one slice; its argument is a number no other slice has."""


def alternate(arms: Mapping[str, Arm], rounds: int) -> list[dict[str, Mapping[str, float]]]:
    """The figures of every round by arm. The first slice of each arm is a warm-up and is thrown away."""
    names, number = list(arms), 0
    found: list[dict[str, Mapping[str, float]]] = []
    for turn in range(-1, rounds):
        order = names if turn % 2 else names[::-1]
        measured = {}
        for name in order:
            measured[name] = arms[name](number)
            number += 1
        if turn >= 0:
            found.append(measured)
    return found


def paired(
    found: Sequence[Mapping[str, Mapping[str, float]]], figure: str, one: str, other: str, *,
    at_least: float | None = None, at_most: float | None = None,
) -> Ratio:  # fmt: skip
    """`one` over `other` in each round."""
    ratios = sorted(turn[one][figure] / turn[other][figure] for turn in found)
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    what = f"{figure}: {one} / {other}"
    return Ratio(what, statistics.median(ratios), low, high, len(ratios), at_least, at_most)


def medians(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """By arm and figure."""
    return {
        name: {
            figure: round(statistics.median(turn[name][figure] for turn in found), 3)
            for figure in found[0][name]
        }
        for name in found[0]
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank of an ascending sequence."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def show(report: Report) -> None:
    """For a person."""
    before, after = report.load
    of = report.of or f"{report.seconds:g} s"
    print(f"{report.name}: {report.rounds} rounds of {of}; load {before:.1f} -> {after:.1f}")
    for name, figures in report.arms.items():
        print(f"  {name:<8}", "  ".join(f"{figure} {value:g}" for figure, value in figures.items()))
    for ratio in report.ratios:
        print(f"  {ratio}")
    for name, why in report.missing.items():
        print(f"  {name}: NOT RUN: {why}")


def command(run: Callable[[int, float], Report], *, rounds: int, seconds: float) -> int:
    """The command line of one benchmark; returns its exit code: 1 when a gate failed."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of one slice, default {seconds:g}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args()
    return finish([run(wanted.rounds, wanted.seconds)], wanted.json)


def finish(reports: Sequence[Report], path: Path | None) -> int:
    """Print tables, then one JSON line; returns the exit code."""
    for report in reports:
        show(report)
    text = json.dumps({report.name: report.as_json() for report in reports})
    print(text)
    if path is not None:
        path.write_text(text + "\n")
    return 0 if all(report.held for report in reports) else 1
