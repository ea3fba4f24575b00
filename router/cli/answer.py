"""What a command answers, and how it is shown: an object for programs, short aligned lines for people."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141  # what a shell reports of a command whose reader has gone


@dataclass(frozen=True, slots=True)
class Answer:
    """`data` is the object of --json (None: nothing), `text` the lines of stdout without it, `notes` those of
    stderr, `code` the exit."""

    data: Mapping[str, Any] | None = None
    text: Sequence[str] = ()
    notes: Sequence[str] = ()
    code: int = DONE


class WrongUse(Exception):
    """Exit 2 with this line: what is wrong, where, the mend."""


def show(answer: Answer, *, as_json: bool) -> int:
    """Print; the exit code. A reader that has gone (`| head`) is no error to speak of."""
    for note in answer.notes:
        print(clean(note), file=sys.stderr)
    lines = [] if answer.data is None else [as_line(answer.data)]
    try:
        print(
            "".join(f"{line}\n" for line in (lines if as_json else map(clean, answer.text))),
            end="",
            flush=True,
        )
    except BrokenPipeError:
        # What is still in the buffer would be written again, and complained about, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return answer.code


def as_line(data: Mapping[str, Any]) -> str:
    """The object as one line of JSON; times in ISO 8601, ids as text."""
    return json.dumps(data, ensure_ascii=False, default=_plain)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def clean(line: str) -> str:
    """A reason or a name comes from outside and must not steer the terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> list[str]:
    """Aligned columns under their heads; one line when there are no rows."""
    body = [[_cell(value) for value in row] for row in rows]
    if not body:
        return [empty]
    every = [[head.upper() for head in heads], *body]
    widths = [max(len(row[place]) for row in every) for place in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value)


def pairs(items: Iterable[tuple[str, object]]) -> list[str]:
    """`name  value` lines, aligned; what is None is left out."""
    known = [(name, value) for name, value in items if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    return [f"{name.ljust(width)}  {_cell(value)}" for name, value in known]
