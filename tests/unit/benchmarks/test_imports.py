"""What the import's benchmark reckons with: processor ticks, figures a document, limits, gates, and the first documents."""

from pathlib import Path

import bson
import pytest

from benchmarks.imports import compare, large
from benchmarks.imports.meter import TICKS, cpu_of, parent_of, peak_mib, per_document, server_seconds
from benchmarks.imports.scene import first
from benchmarks.rounds import Report, finish


def stat(pid: int, parent: int, *, own: tuple[int, int], reaped: tuple[int, int] = (0, 0)) -> str:
    """A line of /proc/PID/stat; the name holds what would mislead a split."""
    times = " ".join(map(str, (*own, *reaped)))
    return f"{pid} (postgres) (x 1) S {parent} 1 1 0 -1 4194560 9 8 7 6 {times} 20 0 1 0 100 0 0\n"


def test_ticks_are_read_behind_any_name() -> None:
    line = stat(7, 3, own=(100, 20), reaped=(5, 6))
    assert (cpu_of(line), cpu_of(line, reaped=True), parent_of(line)) == (120, 131, 3)


def test_a_server_is_its_head_its_children_and_those_that_ended(tmp_path: Path) -> None:
    lines = [
        stat(10, 1, own=(1, 2), reaped=(30, 40)),
        stat(11, 10, own=(100, 200), reaped=(7, 7)),
        stat(12, 10, own=(1000, 0)),
        stat(13, 99, own=(5000, 0)),
    ]
    for line in lines:
        place = tmp_path / line.split()[0]
        place.mkdir()
        (place / "stat").write_text(line)
    (tmp_path / "14").mkdir()  # has just ended
    assert server_seconds(10, tmp_path) == pytest.approx((73 + 300 + 1000) / TICKS)


def test_figures_are_told_by_document() -> None:
    found = per_document({"wall": 2.0, "client": 1.0, "server": 0.5, "documents": 100_000})
    assert found == pytest.approx(
        {"cpu_us": 15.0, "client_us": 10.0, "server_us": 5.0, "wall_us": 20.0, "rate": 50_000}
    )


def test_peak_memory_is_the_high_water_mark() -> None:
    assert peak_mib("Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t 1 kB\n") == 200.0
    assert peak_mib("Name:\tpython\nState:\tZ (zombie)\n") is None


def turn(ours: float, dlt: float = 500.0) -> dict[str, dict[str, float]]:
    """A round in which both limits come to 20."""
    cpu = {"decoding": 12.0, "copying": 8.0, "ours": ours, "naive": 60.0, "verify": 5.0}
    return {name: {"cpu_us": value, "wall_us": value} for name, value in {**cpu, "dlt": dlt}.items()}


def held(ours: float, dlt: float, missing: dict[str, str]) -> dict[str, bool]:
    found = compare.with_limits([turn(ours, dlt)] * 3)
    assert found[0]["limits"] == {"cpu_us": 20.0, "wall_us": 20.0}
    return {ratio.what: ratio.held for ratio in compare.gates(found, missing)}


@pytest.mark.parametrize(
    ("ours", "dlt", "failed"),
    [
        (22.0, 500.0, set()),
        (23.1, 500.0, {"cpu_us: ours / limits"}),
        (26.5, 500.0, {"cpu_us: ours / limits", "cpu_us: naive / ours"}),
        (22.0, 100.0, {"wall_us: dlt / ours"}),
        (16.0, 500.0, {"cpu_us: verify / ours", "wall_us: verify / ours"}),
    ],
)
def test_each_gate_can_fail(ours: float, dlt: float, failed: set[str]) -> None:
    assert {what for what, well in held(ours, dlt, {}).items() if not well} == failed


def test_a_peer_that_is_not_there_is_told_and_not_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not any("dlt" in what for what in held(22.0, 500.0, {"dlt": "why"}))
    report = Report("import", 1, 0, {}, [], (0.0, 0.0), "3 messages", {"dlt": "it would not"})
    monkeypatch.delenv("FIGUEIRA_TEST_SERVERS", raising=False)
    assert finish([report], None) == 0
    printed = capsys.readouterr().out
    assert "import: 1 rounds of 3 messages" in printed
    assert "dlt: NOT RUN: it would not" in printed
    monkeypatch.setenv("FIGUEIRA_TEST_SERVERS", "require")
    assert finish([report], None) == 1


@pytest.mark.parametrize(("small", "big", "well"), [(200, 220, True), (200, 240, False), (390, 401, False)])
def test_memory_is_bounded_and_flat(small: float, big: float, well: bool) -> None:
    times = {"wall_us": 1.0, "wall_s": 1.0, "verify_wall_s": 1.0}
    ratios = large.gates({"peak_mib": small, **times}, {"peak_mib": big, **times})
    assert all(ratio.held for ratio in ratios) is well


def test_the_first_documents_are_whole(tmp_path: Path) -> None:
    documents = [{"_id": str(n), "filling": "x" * n} for n in range(10)]
    (tmp_path / "all.bson").write_bytes(b"".join(map(bson.encode, documents)))
    target = tmp_path / "few" / "all.bson"
    assert first(tmp_path / "all.bson", target, 4) == 4
    assert bson.decode_all(target.read_bytes()) == documents[:4]
    assert first(tmp_path / "all.bson", target, 400) == 10
