"""`python -m benchmarks`: those with a gate; exit 1 when one failed. `python -m benchmarks imports`: the import's alone.
`python -m benchmarks hops`: latency per hop."""

import argparse
import sys
from pathlib import Path

from benchmarks import accept, handled, hops
from benchmarks.imports import compare
from benchmarks.rounds import finish

ALONE = {"hops": hops.main, "imports": compare.main}


def main(argv: list[str]) -> int:
    if argv and argv[0] in ALONE:
        return ALONE[argv[0]](argv[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="default 6")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args(argv)
    rounds = wanted.rounds
    return finish([accept.run(rounds, 1.0), handled.run(rounds, 3.0), *compare.run(rounds)], wanted.json)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
