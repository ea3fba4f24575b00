"""The rules of the house that no linter knows: the heart awaits ports only, and stays small."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
HEART = [
    *ROOT.glob("router/ingest/*.py"),
    *ROOT.glob("router/delivery/*.py"),
    *ROOT.glob("flags/*.py"),
    *(ROOT / "router" / name for name in ("facade.py", "identity.py", "worker.py")),
]
LIMIT = 3000


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_heart_uses_no_asyncio_primitive_no_clock_and_no_chance_of_its_own() -> None:
    forbidden = {"asyncio", "threading", "time", "random", "secrets", "socket"}
    awaited = [
        path for path in HEART if path.name != "local.py"
    ]  # a source of flags: handed in, as its clock may be
    assert {path.name: _imported(path) & forbidden for path in awaited if _imported(path) & forbidden} == {}


def test_the_heart_stays_small() -> None:
    assert sum(len(path.read_text().splitlines()) for path in HEART) < LIMIT
