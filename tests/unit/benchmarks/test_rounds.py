"""How rounds are paired, gates judged and figures told."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.bodies import SIZE, requests, signed
from benchmarks.rounds import Ratio, Report, alternate, finish, paired


def test_order_is_reversed_every_round_and_the_first_is_thrown_away() -> None:
    seen: list[tuple[str, int]] = []

    def arm(name: str, number: int) -> Mapping[str, float]:
        seen.append((name, number))
        return {"rate": number}

    found = alternate({"a": lambda number: arm("a", number), "b": lambda number: arm("b", number)}, 2)
    assert [name for name, _ in seen] == ["a", "b", "b", "a", "a", "b"]
    assert [number for _, number in seen] == list(range(6))
    assert found == [{"b": {"rate": 2}, "a": {"rate": 3}}, {"a": {"rate": 4}, "b": {"rate": 5}}]


def test_ratios_are_taken_within_a_round() -> None:
    found = [{"a": {"rate": 10.0 * speed}, "b": {"rate": speed}} for speed in (1.0, 7.0, 100.0)]
    ratio = paired(found, "rate", "a", "b", at_least=10.0)
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds, ratio.held) == (10.0, 10.0, 10.0, 3, True)


@pytest.mark.parametrize(
    ("median", "at_least", "at_most", "held"),
    [(1.0, None, None, True), (9.9, 10.0, None, False), (3.1, None, 3.0, False), (3.0, None, 3.0, True)],
)
def test_a_gate_judges_the_median(
    median: float, at_least: float | None, at_most: float | None, held: bool
) -> None:
    assert Ratio("x", median, 0, 20, 3, at_least, at_most).held is held


def test_a_failed_gate_is_said_written_and_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratio = Ratio("rate: ours / naive", 2.0, 1.0, 3.0, 3, at_least=10.0)
    report = Report("accept", 3, 1.0, {"ours": {"rate": 5.0}}, [ratio], (1.0, 2.0))
    assert finish([report], tmp_path / "found.json") == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    told = json.loads(printed.splitlines()[-1])
    assert told == json.loads((tmp_path / "found.json").read_text())
    assert told["accept"]["held"] is False


def test_requests_are_signed_and_never_the_same() -> None:
    supply = requests("/webhooks/whatsapp", "t")
    sent = [next(supply) for _ in range(3)]
    assert len(set(sent)) == 3
    for number, request in enumerate(sent, 1):
        body, signature = signed("5511900000001", f"wamid.t.{number:08d}")
        head, _, rest = request.partition(b"\r\n\r\n")
        assert (rest, len(rest)) == (body, SIZE)
        assert signature.encode() in head
