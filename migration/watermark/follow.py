"""Catch-up: the source's change stream, from the place taken before the copy, into the archive.

The stream's place stands in the run and moves in the same transaction as what it brought, so a crash repeats and never
skips. When the place is no longer in the source's history, that is said, and all is copied anew.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from migration.collections import treatment
from migration.sources import SourceError
from migration.sources.live import TokenLost
from migration.watermark.ports import Archive, Copy, Event, Live, Sorts, Uploads, Weave
from migration.watermark.replay import Applied, Replay, Treatment, newest
from migration.watermark.stream import Gathered, Goal, Place, Trouble, aside, gather
from router import logs
from router.domain.errors import Conflict, Unavailable
from router.domain.ports import Clock
from router.storage.archive.binary import BadRows
from router.storage.archive.model import Change, Refused, Run, RunState

IDLE_SECONDS: Final = 5.0
"""Between two notes of the place while nothing happens, and between two looks for a newer run."""
AT_ONCE: Final = timedelta(seconds=2)
"""Where changes never cease, who is at most so far behind has caught up."""
BACKOFF_SECONDS: Final = (0.5, 30.0)
GIVE_UP_SECONDS: Final = 60.0
"""After so long without the source, --until-caught-up fails."""
SAY_SECONDS: Final = 30.0
SHORT_HISTORY: Final = timedelta(hours=1)
_VAIN: Final = 2
"""How often in a row a fresh place may be lost before anything was read from it."""
LATE_TRIES: Final = 120
"""How often the bytes of an upload are asked for that are not there yet: about ten minutes."""
LATE_MOST: Final = 500
"""How many uploads without bytes are taken over from before."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Following:
    """How far the catch-up is. `lag`: seconds behind the source, by collection; 0: caught up. `resnapshots`: how often the
    place was lost and all was copied anew."""

    run_id: UUID | None = None
    events: int = 0
    changed: int = 0
    deleted: int = 0
    refused: int = 0
    caught_up: bool = False
    lag: Mapping[str, float] = field(default_factory=dict)
    resnapshots: int = 0


class HistoryTooShort(SourceError):
    """The source's history is shorter than a copy takes: its operation log must be made larger first."""


def _silent(_: object) -> None:
    """Whoever asks for no report gets none."""


class Follow:
    """One source's catch-up. `report` is told lines for people, `show` the figures after each batch. `repair` compares all
    of the source with the archive and mends what differs (`Verify.run(repair=True)`)."""

    def __init__(
        self, source: Live, archive: Archive, sorter: Sorts, *, collections: Collection[str], copy: Copy,
        repair: Callable[[], Awaitable[object]], weave: Weave, uploads: Uploads | None, clock: Clock,
        report: Callable[[str], None] = _silent, show: Callable[[Following], None] = _silent,
        jitter: Callable[[], float] = random.random, treat: Treatment = treatment,
    ) -> None:  # fmt: skip
        self._source, self._archive, self._clock = source, archive, clock
        self._collections = tuple(collections)
        self._copy, self._repair, self._weave, self._uploads = copy, repair, weave, uploads
        self._report, self._show, self._jitter = report, show, jitter
        self._replay = Replay(source, archive, sorter, treat)
        self._late: dict[str, int] = {}
        self._asked_late = float("-inf")
        self._trouble: Trouble | None = None
        self._in_vain = 0
        self._state = Following()

    @property
    def state(self) -> Following:
        """How far it is."""
        return self._state

    async def run(self, *, until_caught_up: bool = False, stop: asyncio.Event | None = None) -> Following:
        """Follow until stopped; `until_caught_up`: only until nothing is waiting. Being stopped in the middle is
        harmless. Raises SourceError (with `until_caught_up`, or when the source's history is too short to be followed
        at all), Unavailable (likewise), LeaseLost (another process follows this source), StoreError."""
        stop = stop or asyncio.Event()
        lost: TokenLost | None = None
        while not stop.is_set():
            try:
                if lost is not None:
                    await self._lost(lost)
                    lost = None
                run = await self._ready()
                if run is None or (await self._drain(run, stop, until_caught_up) and until_caught_up):
                    break
            except HistoryTooShort:
                raise
            except TokenLost as error:
                lost = error
            except (SourceError, Unavailable, Conflict) as error:
                await self._wait(error, stop, until_caught_up)
        return self._state

    # ---- the copy before it

    async def _ready(self) -> Run | None:
        """A finished copy to go on from; None: a person stopped it."""
        run = await self._archive.latest(self._source.name)
        if run is None:
            self._say("follow.copying", "this source was never copied: copying it first")
            run = await self._copy(anew=False)
        elif run.state is RunState.LOST:
            self._say("follow.copying", "the place in the source's history is lost: copying all of it anew")
            run = await self._copy(anew=True)
        elif run.state is not RunState.DONE:
            self._say("follow.copying", "the last copy was not finished: finishing it first")
            run = await self._copy(anew=False)
        if run.state is not RunState.DONE:
            return None
        if run.token is None:
            raise SourceError(
                f"{self._source.name} has no change stream to follow: it must be a replica set, of one member at least"
            )
        await self._mend(run)
        await self._weave(None)
        return run

    async def _mend(self, run: Run) -> None:
        """What a lost place has left: rows of documents that were deleted meanwhile. A run stays LOST until that is done,
        so that a crash does not forget it."""
        lost = [
            one for one in await self._archive.runs()
            if one.source == run.source and one.state is RunState.LOST
        ]  # fmt: skip
        if not lost:
            return
        self._say("follow.repairing", "copied anew: now taking away what the source no longer has")
        await self._repair()
        for one in lost:
            await self._archive.set_state(one.id, RunState.DONE)

    async def _lost(self, lost: TokenLost) -> None:
        """Never skipped: said, noted, and copied anew."""
        run = await self._archive.latest(self._source.name)
        if run is None:
            return
        await self._archive.set_state(run.id, RunState.LOST)
        since = run.token_at or run.started_at
        behind = (self._clock.now() - since).total_seconds()
        logs.event(_log, "follow.lost", level=logging.WARNING, reason="history_lost", seconds=round(behind))
        self._report(
            f"WARNING: {lost}; what happened since {since:%Y-%m-%d %H:%M:%S} UTC cannot be replayed: "
            "all of the source is copied anew and compared"
        )
        self._in_vain += 1
        if self._in_vain > _VAIN:
            raise HistoryTooShort(
                f"{self._source.name}: the change history is shorter than a copy takes; make the oplog larger "
                "(replSetResizeOplog), then follow again"
            )
        self._state = replace(self._state, resnapshots=self._state.resnapshots + 1, caught_up=False)

    # ---- the stream

    async def _drain(self, run: Run, stop: asyncio.Event, until_caught_up: bool) -> bool:
        """Whether it has caught up, and was to end then; else it was stopped, or a newer run is there to follow."""
        self._state = replace(self._state, run_id=run.id, caught_up=False)
        place = Place(run.id, run.token or b"", run.token_at)
        stream = await aside(self._source.watch, self._collections, run.token)
        try:
            await self._open(place)
            looked = noted = self._clock.monotonic()
            goal = await self._goal()
            while not stop.is_set():
                gathered = await aside(gather, stream, self._clock.monotonic)
                before = self._state.caught_up
                reached = self._reached(goal, gathered)
                now = self._clock.monotonic()
                if gathered.events or before != self._state.caught_up or now - noted >= IDLE_SECONDS:
                    place = await self._take(place, gathered, goal)
                    noted = now
                self._trouble, self._in_vain = None, 0
                self._tell(gathered.events)
                if self._state.caught_up and until_caught_up:
                    return True
                if reached and (gathered.events or self._clock.now() - goal.asked > AT_ONCE):
                    goal = await self._goal()
                if now - looked >= IDLE_SECONDS:
                    if await self._superseded(run):
                        return False
                    looked = now
        finally:
            await asyncio.to_thread(stream.close)
        return False

    async def _goal(self) -> Goal:
        """What the source has done so far: to be reached."""
        asked = self._clock.now()
        token, at = await aside(self._source.now)
        return Goal(token, at, asked)

    def _reached(self, goal: Goal, gathered: Gathered) -> bool:
        """Where changes never cease, a goal that was set just now counts as the end; an older one is set anew."""
        reached = gathered.reaches(goal)
        caught_up = reached and (not gathered.events or self._clock.now() - goal.asked <= AT_ONCE)
        self._state = replace(self._state, caught_up=caught_up)
        return reached

    async def _superseded(self, run: Run) -> bool:
        """Another copy was made since: its rows may be older than what the stream brought, so its place counts."""
        latest = await self._archive.latest(run.source)
        return latest is not None and latest.id != run.id and latest.state is RunState.DONE

    async def _open(self, place: Place) -> None:
        """What was left behind: orphans whose rooms are there by now, uploads without bytes."""
        made = await self._replay.overdue(place.at or self._clock.now())
        if made.changes or made.settled:
            await self._put(place, made, place)
            await self._weave(None)
        for row in await self._archive.files_waiting(None, LATE_MOST):
            self._late.setdefault(row["source_id"], 0)

    async def _take(self, place: Place, gathered: Gathered, goal: Goal) -> Place:
        """One batch: the rooms that nobody knew, then all of it and the new place in one transaction, then what follows
        from it, which the archive remembers to be due. Where it cannot, the place moves last: cut off anywhere, it is
        done again."""
        batch = newest(gathered.events)
        first = await self._replay.rooms(batch)
        if first.changes:
            await self._put(place, first, place)
        rest = await self._replay.others(batch, first)
        at = goal.at if self._state.caught_up else _newest(gathered.events, place.at)
        after = Place(place.run_id, gathered.token or place.token, at)
        await self._put(place, rest, place if rest.gone else after, caught_up=self._state.caught_up)
        self._count(gathered.events, [*first.changes, *rest.changes])
        rooms = first.rooms | rest.rooms
        if rooms:
            await self._weave(rooms)
        if rest.blind:
            await self._weave(None)
        if rest.gone:
            await self._apply(place, (), after, caught_up=self._state.caught_up)
        await self._bytes(rest.uploads)
        return after

    async def _put(self, before: Place, made: Applied, after: Place, *, caught_up: bool = False) -> None:
        if made.nameless:
            await self._archive.refuse(made.nameless, before.run_id)
        settled: dict[str, list[str]] = {}
        for collection, key in made.settled:
            settled.setdefault(collection, []).append(f"id:{key}")
        for collection, keys in settled.items():
            await self._archive.settle(collection, keys)
        await self._apply(before, made.changes, after, caught_up=caught_up)

    async def _apply(
        self, before: Place, changes: Sequence[Change], after: Place, *, caught_up: bool = False
    ) -> None:
        """In one transaction; where the database refuses a row, in several, whose last one moves the place."""
        try:
            await self._archive.apply(
                before.run_id, changes, after.token, after.at, after=before.token, caught_up=caught_up
            )
        except BadRows as error:
            if len(changes) == 1:
                await self._apply(before, [_refused(changes[0], error)], after, caught_up=caught_up)
                return
            middle = len(changes) // 2
            await self._apply(before, changes[:middle], before)
            await self._apply(before, changes[middle:], after, caught_up=caught_up)

    async def _bytes(self, uploads: Iterable[str]) -> None:
        """Fetch the bytes of uploads; those that are not there yet are asked for again every few seconds."""
        if self._uploads is None:
            return
        now = self._clock.monotonic()
        asked = dict.fromkeys(uploads)
        if now - self._asked_late >= IDLE_SECONDS:
            self._asked_late = now
            asked |= dict.fromkeys(self._late)
        self._late |= {upload_id: self._late.get(upload_id, 0) for upload_id in asked}
        for upload_id in asked:
            found = await self._uploads.one(self._source, upload_id)
            tries = self._late.pop(upload_id) + 1
            if found is not None and found[0] == "missing" and tries < LATE_TRIES:
                self._late[upload_id] = tries

    # ---- figures and trouble

    def _count(self, events: Sequence[Event], changes: Sequence[Change]) -> None:
        state = self._state
        self._state = replace(
            state,
            events=state.events + len(events),
            changed=state.changed + sum(change.row is not None for change in changes),
            deleted=state.deleted + sum(change.deleted for change in changes),
            refused=state.refused + sum(change.refused is not None for change in changes),
        )

    def _tell(self, events: Sequence[Event]) -> None:
        now = self._clock.now()
        lag = dict.fromkeys(self._state.lag, 0.0) if self._state.caught_up else dict(self._state.lag)
        for event in events:
            behind = max(0.0, (now - event.at).total_seconds())
            lag[event.collection] = 0.0 if self._state.caught_up else behind
        self._state = replace(self._state, lag=lag)
        self._show(self._state)

    def _say(self, name: str, line: str) -> None:
        logs.event(_log, name)
        self._report(line)

    async def _wait(
        self, error: SourceError | Unavailable | Conflict, stop: asyncio.Event, until_caught_up: bool
    ) -> None:
        """Before the next try. The lag grows meanwhile, and that is said."""
        now = self._clock.monotonic()
        trouble = self._trouble = self._trouble or Trouble(now)
        away = now - trouble.since
        if until_caught_up and away >= GIVE_UP_SECONDS:
            raise error
        if now - trouble.said >= SAY_SECONDS:
            trouble.said = now
            logs.event(
                _log, "follow.waiting", level=logging.WARNING, error=type(error).__name__, seconds=round(away)
            )
            self._report(f"WARNING: {error}; trying again, for {away:.0f} s so far")
        first, most = BACKOFF_SECONDS
        pause = min(most, first * 2**trouble.tries) * (0.5 + self._jitter() / 2)
        trouble.tries += 1
        self._state = replace(self._state, caught_up=False)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def warnings(source: Live, needed: timedelta | None) -> list[str]:
    """Before a follow: lines for people on a source whose history is too short. `needed`: what the last copy took."""
    reach = await aside(source.history)
    least = max(SHORT_HISTORY, needed or SHORT_HISTORY)
    if reach is None or reach >= least:
        return []
    line = (
        f"WARNING: {source.name} keeps only {reach.total_seconds() / 60:.0f} minutes of change history, and "
        f"{least.total_seconds() / 60:.0f} are wanted; when catch-up stands still for longer, all is copied anew "
        "(make the oplog larger: replSetResizeOplog)"
    )
    return [line]


def _newest(events: Sequence[Event], before: datetime | None) -> datetime | None:
    return max((event.at for event in events), default=before)


def _refused(change: Change, error: BadRows) -> Change:
    """A row that the database does not take, kept as a reject."""
    if change.row is None:
        raise error
    raw = change.row[-1]
    refused = Refused(
        change.collection, f"id:{change.source_id}", change.source_id, "", "server", str(error), raw
    )
    return replace(change, row=None, refused=refused)
