"""What the tables of an import say, carried into the metrics."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from router import metrics
from router.control.imports import Gauges, lag, numbers
from router.storage.archive.model import Account, Refused, Run, RunState

NOW = datetime(2024, 5, 6, tzinfo=UTC)


class History:
    """As the archive."""

    def __init__(self) -> None:
        self.held: dict[Run, dict[str, Account]] = {}
        self.asked: list[UUID] = []

    async def runs(self, limit: int = 20) -> list[Run]:
        return list(self.held)[::-1][:limit]

    async def counts(self, run_id: UUID) -> Mapping[str, Account]:
        self.asked.append(run_id)
        return next(accounts for run, accounts in self.held.items() if run.id == run_id)

    async def status(self, run_id: UUID) -> Mapping[str, Any]:
        raise AssertionError(run_id)

    async def refusal_counts(self) -> Mapping[tuple[str, str], int]:
        return {}

    async def refusals(
        self, run_id: UUID | None = None, *, limit: int = 0, open_only: bool = True
    ) -> list[Refused]:
        return []


class Hashed(Run):
    """A run that can be a key."""

    __hash__ = object.__hash__


def run(number: int, state: RunState = RunState.RUNNING, **more: Any) -> Run:
    ended = None if state is RunState.RUNNING else NOW
    return Hashed(UUID(int=number), "chat", more.pop("live", False), state, {}, NOW, ended, **more)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    monkeypatch.setattr(
        metrics, "imported", lambda name, outcome, total: found.__setitem__((name, outcome), total)
    )
    return found


def test_numbers_add_up() -> None:
    found = numbers(Account(10, 5, {"secret": 1, "filtered": 2}, 1, 1))
    assert found["source"] == found["written"] + found["skipped"] + found["rejected"] + found["erased"]
    assert found["skipped_by_reason"] == {"filtered": 2, "secret": 1}


async def test_it_begins_with_what_stands_there_and_grows(told: dict[tuple[str, str], float]) -> None:
    history = History()
    old, new = run(1, RunState.DONE), run(2)
    history.held = {old: {"users": Account(3, 3)}, new: {"users": Account(2, 1, {}, 1)}}
    gauges = Gauges(history, {"users"})
    await gauges.measure(NOW)
    assert told["users", "written"] == 4
    assert told["users", "rejected"] == 1
    assert told["users", "erased"] == 0
    history.held[new] = {"users": Account(5, 4, {}, 1)}
    await gauges.measure(NOW)
    assert told["users", "written"] == 7
    assert history.asked.count(old.id) == 1  # what is over is not read again


async def test_nothing_falls_when_an_old_run_is_no_longer_among_the_newest(
    told: dict[tuple[str, str], float],
) -> None:
    history = History()
    history.held = {run(1, RunState.DONE): {"users": Account(9, 9)}}
    gauges = Gauges(history, {"users"})
    await gauges.measure(NOW)
    history.held = {run(2): {"users": Account(1, 1)}}
    await gauges.measure(NOW)
    assert told["users", "written"] == 10


async def test_a_run_that_is_gone_on_with_is_read_again(told: dict[tuple[str, str], float]) -> None:
    history = History()
    history.held = {run(1, RunState.STOPPED): {"users": Account(1, 1)}}
    gauges = Gauges(history, {"users"})
    await gauges.measure(NOW)
    history.held = {run(1): {"users": Account(6, 6)}}
    await gauges.measure(NOW)
    assert told["users", "written"] == 6


async def test_a_name_that_is_not_rocketchats_has_no_label_of_its_own(
    told: dict[tuple[str, str], float],
) -> None:
    history = History()
    history.held = {run(1): {"ana": Account(1, 0, {"unknown_collection": 1}), "bia": Account(2, 2)}}
    await Gauges(history, {"users"}).measure(NOW)
    assert {name for name, _ in told} == {"other"}
    assert (told["other", "skipped"], told["other", "written"]) == (1, 2)


async def test_lag_is_a_live_sources(told: dict[tuple[str, str], float]) -> None:
    history = History()
    at = NOW - timedelta(seconds=8)
    accounts = {"rocketchat_room": Account(1, 1)}
    history.held = {run(1, live=True, token_at=at): accounts, run(2): {"rocketchat_team": Account(1, 1)}}
    await Gauges(history, {"rocketchat_room", "rocketchat_team"}).measure(NOW)

    def value(name: str) -> float | None:
        return metrics.REGISTRY.get_sample_value("figueira_import_lag_seconds", {"collection": name})

    assert (value("rocketchat_room"), value("rocketchat_team")) == (8.0, None)
    assert told
    idle = replace(run(1, live=True, token_at=at), caught_up_at=NOW - timedelta(seconds=1))
    assert lag(idle, NOW) == 0.0  # nothing was waiting a moment ago
    assert lag(idle, NOW + timedelta(hours=1)) == 3601.0  # nobody has looked since
    lost = replace(run(1, live=True, token_at=at), state=RunState.LOST)
    assert lag(lost, NOW) is None
