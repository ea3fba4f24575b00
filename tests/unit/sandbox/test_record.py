import time
from pathlib import Path

import orjson
import pytest

from deploy.sandbox.record import Record, encode


def test_sequence_runs_over_all_kinds_and_since_is_exclusive() -> None:
    record = Record()
    for kind in ("graph", "forwards", "graph", "webhooks", "graph"):
        record.add(kind, {"of": kind})
    assert [row["seq"] for row in record.since("graph")] == [1, 3, 5]
    assert [row["seq"] for row in record.since("graph", 3)] == [5]
    assert [row["seq"] for row in record.since("graph", 2)] == [3, 5]
    assert record.since("graph", 5) == []
    assert record.counts()["graph"] == 3
    with pytest.raises(KeyError):
        record.since("nothing")


def test_clear_keeps_the_sequence_going() -> None:
    record = Record()
    record.add("graph", {})
    record.clear()
    assert record.since("graph") == []
    assert record.add("graph", {})["seq"] == 2


def test_log_has_each_row_at_once(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    record = Record(path)
    record.add("graph", {"text": "Olá"})
    first = orjson.loads(path.read_bytes())
    assert (first["kind"], first["seq"], first["text"]) == ("graph", 1, "Olá")
    record.clear()
    record.close()
    assert orjson.loads(path.read_bytes().splitlines()[-1])["kind"] == "reset"


def test_lone_surrogates_are_written() -> None:
    assert encode({"text": "\ud83d"}) == b'{"text": "\\ud83d"}'


def test_twenty_thousand_rows_are_asked_for_quickly() -> None:
    record = Record()
    for _ in range(20_000):
        record.add("graph", {"to": "5511900000001", "text": "x" * 100})
    started = time.perf_counter()
    for _ in range(1_000):
        assert len(record.since("graph", 19_990)) == 10
    assert time.perf_counter() - started < 1
