"""What the sandbox received and posted: the evidence tests judge by.

A row is added in the same step in which the stand-in acts, before anything is answered, so a request
that was acted on and never answered still has its row. Rows are never changed or reordered.
"""

import base64
import json
from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Row = dict[str, Any]

KINDS = (
    "graph", "reads", "refused", "media", "callbacks", "forwards", "rocketchat", "rest", "webhooks", "errors",
)  # fmt: skip


def now() -> str:
    """The time as ISO 8601 in UTC with milliseconds, as Rocket.Chat writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(value: object) -> bytes:
    """JSON bytes; falls back to the slower encoder for lone surrogates, which strangers do send."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def base64_text(body: bytes) -> str:
    return base64.b64encode(body).decode("ascii")


class Record:
    """Append-only lists of rows, one per kind, sharing one sequence.

    Args:
        log: a file to append every row to as one JSON line ``{"kind", "seq", "at", ...}``, flushed at
            once so that it outlives a kill of the process. A reset is a line of kind ``reset``.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._rows: dict[str, list[Row]] = {kind: [] for kind in KINDS}
        self._seq = 0
        self._log: BinaryIO | None = log.open("ab") if log else None

    def add(self, kind: str, row: Mapping[str, Any]) -> Row:
        """Append a row; returns it with its ``seq`` (from 1, over all kinds) and ``at``."""
        self._seq += 1
        full: Row = {"seq": self._seq, "at": now(), **row}
        self._rows[kind].append(full)
        self._write(kind, full)
        return full

    def since(self, kind: str, seq: int = 0) -> list[Row]:
        """The rows of a kind after `seq`, oldest first. KeyError for a kind there is not."""
        rows = self._rows[kind]
        return rows[bisect_right(rows, seq, key=itemgetter("seq")) :]

    def counts(self) -> dict[str, int]:
        return {kind: len(rows) for kind, rows in self._rows.items()}

    @property
    def last_seq(self) -> int:
        return self._seq

    def clear(self) -> None:
        """Forget the rows; the sequence goes on, so a `since` of before stays valid."""
        for rows in self._rows.values():
            rows.clear()
        self._write("reset", {"seq": self._seq, "at": now()})

    def close(self) -> None:
        if self._log:
            self._log.close()

    def _write(self, kind: str, row: Row) -> None:
        if self._log:
            self._log.write(encode({"kind": kind, **row}) + b"\n")
            self._log.flush()
