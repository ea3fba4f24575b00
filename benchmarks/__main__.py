"""`python -m benchmarks`: all of them; exit 1 when a gate failed."""

import argparse
from pathlib import Path

from benchmarks import accept, handled
from benchmarks.rounds import finish


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="default 6")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    wanted = parser.parse_args()
    return finish([accept.run(wanted.rounds, 1.0), handled.run(wanted.rounds, 3.0)], wanted.json)


if __name__ == "__main__":
    raise SystemExit(main())
