"""Replay one seed, or look through many: `python -m tests.simulation SEED [--steps N] [--seeds COUNT]`."""

import argparse
import sys
import time

from tests.simulation.drive import run


def main() -> int:
    """Exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    wanted = parser.parse_args()
    began, failed = time.perf_counter(), 0
    for seed in range(wanted.seed, wanted.seed + wanted.seeds):
        found = run(seed, wanted.steps)
        failed += bool(found)
        for line in found[:6]:
            sys.stdout.write(f"seed {seed}: {line}\n")
    sys.stdout.write(f"{wanted.seeds} seeds, {failed} failed, {time.perf_counter() - began:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
