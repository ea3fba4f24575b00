"""`python -m benchmarks`: those with a gate; exit 1 when one failed. `python -m benchmarks hops`: latency per hop."""

import argparse
import sys
from pathlib import Path

from benchmarks import accept, handled, hops
from benchmarks.rounds import finish


def main(argv: list[str]) -> int:
    if argv[:1] == ["hops"]:
        return hops.main(argv[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="default 6")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args(argv)
    return finish([accept.run(wanted.rounds, 1.0), handled.run(wanted.rounds, 3.0)], wanted.json)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
