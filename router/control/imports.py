"""The import of history as people look at it: `migrate status`, the console's page, the metrics. Nothing here copies."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from router import metrics
from router.control.desk import stamp
from router.domain.errors import Rejected
from router.storage.archive.model import Account, Refused, Run, RunState

OUTCOMES: Final = metrics.IMPORT_OUTCOMES
OTHER: Final = "other"
"""The label of a collection that is not one of Rocket.Chat's."""
RUNS: Final = 20
EXAMPLES: Final = 50
NOTED: Final = timedelta(seconds=15)
"""A follow that runs notes within this time that it has caught up."""


class History(Protocol):
    """What is read of `router.storage.archive.Archive`."""

    async def runs(self, limit: int = ...) -> list[Run]: ...
    async def status(self, run_id: UUID) -> Mapping[str, Any]: ...
    async def counts(self, run_id: UUID) -> Mapping[str, Account]: ...
    async def refusal_counts(self) -> Mapping[tuple[str, str], int]: ...
    async def refusals(
        self, run_id: UUID | None = ..., *, limit: int = ..., open_only: bool = ...
    ) -> list[Refused]: ...


def numbers(account: Account) -> dict[str, Any]:
    """{source, written, skipped, rejected, erased}, whose last four add up to the first, and `skipped_by_reason`."""
    return {
        "source": account.source,
        "written": account.written,
        "skipped": sum(account.skipped.values()),
        "rejected": account.rejected,
        "erased": account.erased,
        "skipped_by_reason": dict(sorted(account.skipped.items())),
    }


async def status(history: History, now: datetime, run_id: UUID | None = None) -> dict[str, Any]:
    """{run, collections, changed, differences, documents_per_second, seconds, rejects, runs}; of the newest run, or of
    the one that is named. Without any run: `run` is None and nothing is counted. Raises Rejected unknown_run (404).

    `collections`: NAME → `numbers`, parts, parts_done. `rejects`: [{collection, code, open}], of all runs, since a
    document stays refused until it goes in. `differences`: documents known to be missing, which are those rejected.
    """
    runs = await history.runs(limit=RUNS)
    run = next((one for one in runs if run_id in (None, one.id)), None)
    if run is None and run_id is not None:
        raise Rejected("unknown_run", f"there is no import {run_id} among the last {RUNS}", 404)
    open_rejects = _open(await history.refusal_counts())
    found: dict[str, Any] = {
        "run": None, "collections": {}, "changed": 0, "documents_per_second": None, "seconds": 0.0,
        "rejects": open_rejects, "differences": sum(one["open"] for one in open_rejects),
        "runs": [shape(one, now) for one in runs],
    }  # fmt: skip
    if run is None:
        return found
    told = await history.status(run.id)
    collections = {
        name: numbers(one["account"]) | {"parts": one["parts"], "parts_done": one["done"]}
        for name, one in sorted(told["collections"].items())
    }
    return found | {
        "run": shape(run, now),
        "collections": collections,
        "changed": sum(one["account"].changed for one in told["collections"].values()),
        "seconds": round(told["seconds"], 1),
        "documents_per_second": told["documents_per_second"],
    }


def _open(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [
        {"collection": collection, "code": code, "open": number}
        for (collection, code), number in sorted(counts.items())
        if number
    ]


def shape(run: Run, now: datetime) -> dict[str, Any]:
    """A run as JSON. `lag_seconds`: how far the copy of a live source is behind it, None where nothing follows."""
    return {
        "id": str(run.id),
        "source": run.source,
        "live": run.live,
        "state": run.state.value,
        "options": dict(run.options),
        "started_at": stamp(run.started_at),
        "ended_at": stamp(run.ended_at),
        "followed_to": stamp(run.token_at),
        "caught_up_at": stamp(run.caught_up_at),
        "lag_seconds": lag(run, now),
    }


def lag(run: Run, now: datetime) -> float | None:
    """Seconds between now and the last change that is taken in; 0 while nothing waits, which a follow notes every few
    seconds."""
    if run.token_at is None or run.state is RunState.LOST:
        return None
    if run.caught_up_at is not None and now - run.caught_up_at <= NOTED:
        return 0.0
    taken = max(run.token_at, run.caught_up_at or run.token_at)
    return max(0.0, (now - taken).total_seconds())


async def rejects(history: History, *, limit: int = EXAMPLES) -> dict[str, Any]:
    """{counts: [{collection, code, open}], items: [{collection, source_id, position, code, reason, seen_at}]}; what was
    in a document is never shown."""
    counts = await history.refusal_counts()
    found = await history.refusals(limit=limit, open_only=True)
    return {
        "counts": _open(counts),
        "items": [
            {
                "collection": one.collection, "source_id": one.source_id, "position": one.position, "code": one.code,
                "reason": one.reason, "seen_at": stamp(one.seen_at),
            }
            for one in found
        ],
    }  # fmt: skip


# metrics -----------------------------------------------------------------------------------------------------


class Gauges:
    """Carries what the tables say into the metrics of this process: the import runs in another one.

    `known`: the collections that have a label of their own. A run that is over is read once. What grows is added up run
    by run, so that nothing falls when an old run is no longer among the newest.
    """

    def __init__(self, history: History, known: Collection[str]) -> None:
        self._history = history
        self._known = frozenset(known)
        self._over: dict[UUID, tuple[object, Mapping[str, Account]]] = {}
        self._seen: dict[tuple[UUID, str, str], int] = {}
        self._grown: Counter[tuple[str, str]] = Counter()

    async def measure(self, now: datetime) -> None:
        """To be called every few seconds."""
        lags: dict[str, float] = {}
        for run in reversed(await self._history.runs(limit=RUNS)):
            accounts = await self._accounts(run)
            self._grow(run.id, accounts)
            behind = lag(run, now) if run.live else None
            if behind is not None:  # the newest run of a live source comes last, and stays
                lags = {self._label(name): behind for name in accounts}
        for (name, outcome), number in self._grown.items():
            metrics.imported(name, outcome, number)
        for name, seconds in lags.items():
            metrics.import_lag_seconds.labels(name).set(seconds)

    def _grow(self, run_id: UUID, accounts: Mapping[str, Account]) -> None:
        for name, account in accounts.items():
            counted = numbers(account)
            for outcome in metrics.IMPORT_OUTCOMES:
                before = self._seen.get((run_id, name, outcome), 0)
                self._seen[run_id, name, outcome] = counted[outcome]
                self._grown[self._label(name), outcome] += max(0, counted[outcome] - before)

    async def _accounts(self, run: Run) -> Mapping[str, Account]:
        as_it_was = (run.state, run.ended_at)
        kept = self._over.get(run.id)
        if kept is not None and kept[0] == as_it_was:
            return kept[1]
        accounts = await self._history.counts(run.id)
        if run.state is not RunState.RUNNING:
            self._over[run.id] = (as_it_was, accounts)
        return accounts

    def _label(self, collection: str) -> str:
        return collection if collection in self._known else OTHER
