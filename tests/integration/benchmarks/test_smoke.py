"""The benchmarks run, count what they claim to count, and say so; what they measure here means nothing."""

import pytest

from benchmarks import accept, handled

pytestmark = pytest.mark.postgres


def test_accept_in_one_short_round() -> None:
    report = accept.run(1, 0.1)
    assert set(report.arms) == {"ours", "naive", "floor"}
    assert all(figures["rate"] > 0 for figures in report.arms.values())
    assert [ratio.at_least for ratio in report.ratios] == [10.0, 0.7, None]


def test_handled_in_one_short_round() -> None:
    report = handled.run(1, 0.2)
    assert set(report.arms) == {"ours", "lease"}
    assert all(0 < figures["p50_ms"] <= figures["p99_ms"] for figures in report.arms.values())
    assert [ratio.at_most for ratio in report.ratios] == [3.0, 3.0]
