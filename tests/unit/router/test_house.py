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


def _code_lines(path: Path) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings."""
    text = path.read_text()
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        1 for at, line in lines if line.strip() and not line.strip().startswith("#") and at not in told
    )


def test_the_heart_stays_small() -> None:
    assert sum(map(_code_lines, HEART)) < LIMIT
