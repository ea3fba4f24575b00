"""An import from its first look at the source to its last index: what is to be done stands in a table of parts, and
whoever works takes the next one from there. So a run that was stopped, killed or lost half its workers goes on where its
checkpoints are, and another engine may drive the same parts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, Protocol, runtime_checkable
from uuid import UUID, uuid4

from migration.load import Archive, Loader, Options, Sorter
from migration.rejects import AGAIN, ORPHAN, Retried, retry
from migration.sources import Source
from migration.stages import STAGES, stage
from router.domain.errors import FigueiraError, LeaseLost, Unavailable
from router.storage.archive.model import Account, Part, Run, RunState
from router.storage.archive.shape import SHAPES

WAIT_SECONDS: Final = 0.2
"""How often a worker with nothing to do looks whether another one's part has come free."""
PROGRESS_SECONDS: Final = 0.5
_DIRECT: Final = "direct"

Mode = Literal["auto", "resume", "restart"]


class RunError(FigueiraError):
    """This import cannot be begun or gone on with like this."""


@runtime_checkable
class Live(Protocol):
    """A source that changes."""

    def now(self) -> tuple[bytes, datetime | None]:
        """The change stream's place as of now, and its time. Raises SourceError."""
        ...


Loaders = Callable[[Options, frozenset[str]], tuple[Sorter, Loader]]
"""Makes sorter and loader for a run's options and the tables that take rows directly."""

Spawn = Callable[[UUID], Awaitable[int]]
"""Runs `figueira migrate work RUN` in a process of its own to its end; its exit status. Cancelled: tells it to stop, and
waits. The source goes to it by environment, never as an argument: it may hold a password."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one collection: what became of its documents so far, of how many (None: not known), after how many seconds."""

    collection: str
    account: Account
    expected: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """`counts` by collection, of the whole run. `failed`: worker processes that ended badly; their parts were done by
    others."""

    run: Run
    counts: Mapping[str, Account]
    stopped: bool
    seconds: float
    failed: int = 0
    retried: Retried = field(default_factory=Retried)

    @property
    def rejected(self) -> int:
        return sum(account.rejected for account in self.counts.values())

    @property
    def how_to_go_on(self) -> str | None:
        """One line for people, when there is something left to do."""
        if not self.stopped:
            return None
        return "stopped at a checkpoint; `figueira migrate import SOURCE --resume` goes on, --restart begins anew"


class Import:
    """`options` None: as the run that is gone on with has them, else the defaults. `workers` counts this process.
    `files` settles uploads' bytes when all their documents are in; `weave` makes conversations of what was copied.
    `told` gets what changed, about twice a second."""

    def __init__(
        self, source: Source, archive: Archive, loaders: Loaders, *, weave: Callable[[], Awaitable[object]],
        files: Callable[[], Awaitable[object]] | None = None, options: Options | None = None, workers: int = 1,
        spawn: Spawn | None = None, told: Callable[[Progress], None] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._source = source
        self._archive = archive
        self._loaders = loaders
        self._weave = weave
        self._files = files
        self._options = options
        self._workers = workers
        self._spawn = spawn
        self._told = told
        self._pause = pause
        self._clock = clock
        self._owner = uuid4()
        self._stopping = False
        self._expected: dict[str, int | None] = {}

    def stop(self) -> None:
        """At the next checkpoint. May be called from a signal's handler."""
        self._stopping = True

    async def run(self, mode: Mode = "auto") -> Outcome:
        """Import. Raises RunError, SourceError, Unavailable, StoreError."""
        began = self._clock()
        run = await self._begin(mode)
        sorter, loader = self._made(run)
        await self._plan(run)
        watch = asyncio.create_task(self._watch(run.id, began))
        try:
            failed = await self._copy(run, loader)
            retried = await self._complete(loader, sorter)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        stopped = self._stopping
        await self._archive.set_state(run.id, RunState.STOPPED if stopped else RunState.DONE)
        counts = dict.fromkeys(self._expected, Account()) | dict(await self._archive.counts(run.id))
        await self._tell(run.id, began, {})
        return Outcome(run, counts, stopped, self._clock() - began, failed, retried)

    async def __call__(self, *, anew: bool) -> Run:
        """As catch-up asks for it: the run, which is not DONE when it was stopped. `anew`: whatever there is."""
        outcome = await self.run("restart" if anew else "auto")
        return await self._archive.latest(self._source.name) or outcome.run

    async def work(self, run_id: UUID) -> None:
        """Take parts until none is left: one more worker of a run that was planned. Raises as `run`."""
        run = await self._archive.latest(self._source.name)
        if run is None or run.id != run_id:
            raise RunError(f"{self._source.name}: its newest run is not {run_id}")
        _, loader = self._made(run)
        await self._stages(run, loader)

    # ---- begin

    async def _begin(self, mode: Mode) -> Run:
        last = await self._archive.latest(self._source.name)
        unfinished = last is not None and last.state in {RunState.RUNNING, RunState.STOPPED}
        if last is not None and unfinished:
            if mode != "restart":
                return await self._resumed(last)
            await self._archive.set_state(last.id, RunState.STOPPED)
        elif mode == "resume":
            raise RunError(f"{self._source.name}: there is no unfinished import; leave --resume out")
        token: bytes | None = None
        token_at: datetime | None = None
        if isinstance(self._source, Live) and self._source.live:
            token, token_at = (
                self._source.now()
            )  # before anything is looked at: what changes from here on is replayed
        direct = [shape.table for shape in SHAPES.values() if await self._archive.empty(shape)]
        options = {**(self._options or Options()).as_json(), _DIRECT: direct}
        return await self._archive.start(
            self._source.name, live=self._source.live, options=options, token=token, token_at=token_at
        )

    async def _resumed(self, run: Run) -> Run:
        if self._options not in {None, Options.of(run.options)}:
            raise RunError(
                f"{self._source.name}: the unfinished import has other filters; leave them out, or give --restart"
            )
        await self._archive.set_state(run.id, RunState.RUNNING)
        return run

    def _made(self, run: Run) -> tuple[Sorter, Loader]:
        return self._loaders(Options.of(run.options), frozenset(run.options.get(_DIRECT, ())))

    async def _plan(self, run: Run) -> None:
        """Parts for every collection; one that has some keeps them."""
        found = self._source.collections()
        self._expected = {each.name: each.documents for each in found}
        planned = await self._archive.parts(run.id)
        for name in sorted(self._expected.keys() - {part.collection for part in planned}):
            await self._archive.plan(run.id, name, self._source.plan(name))
        if not all(part.done for part in planned) or not planned:
            for table in run.options.get(_DIRECT, ()):
                await self._archive.drop_indexes(SHAPES[table])

    # ---- copy

    async def _copy(self, run: Run, loader: Loader) -> int:
        """How many worker processes ended badly."""
        several = self._workers - 1 if self._spawn is not None else 0
        others = [
            asyncio.ensure_future(self._spawn(run.id)) for _ in range(several) if self._spawn is not None
        ]
        try:
            await self._stages(run, loader)
        except BaseException:
            _cancel(others)
            raise
        finally:
            if self._stopping:
                _cancel(others)
            ended = await asyncio.gather(*others, return_exceptions=True)
        return sum(1 for status in ended if status != 0 and not isinstance(status, asyncio.CancelledError))

    async def _stages(self, run: Run, loader: Loader) -> None:
        names: dict[int, list[str]] = {number: [] for number in STAGES}
        sorter, _ = self._made(run)
        for name in sorted({part.collection for part in await self._archive.parts(run.id)}):
            names[stage(sorter.treatment(name))].append(name)
        for number in STAGES:
            if names[number]:
                await self._stage(run, loader, names[number])

    async def _stage(self, run: Run, loader: Loader, names: Sequence[str]) -> None:
        while not self._stopping:
            part = await self._archive.claim(run.id, names, self._owner, loader.lease)
            if part is not None:
                await self._part(loader, part)
            elif await self._waiting(run, names):
                await self._pause(WAIT_SECONDS)
            else:
                return

    async def _part(self, loader: Loader, part: Part) -> None:
        copied = part
        try:
            if AGAIN in part.spec:  # of a retry that was cut off: nothing to read
                copied = replace(part, done=True)
                await self._archive.finish(part)
                return
            blocks = self._source.read(part.collection, part.spec, part.after)
            copied = await loader.copy(part, blocks, lambda: self._stopping)
        except LeaseLost:
            return
        finally:
            if not copied.done:
                # Whoever goes on need not wait for the lease to run out.
                with suppress(LeaseLost, Unavailable):
                    await self._archive.release(copied)

    async def _waiting(self, run: Run, names: Sequence[str]) -> bool:
        return any(not part.done and part.collection in names for part in await self._archive.parts(run.id))

    # ---- complete

    async def _complete(self, loader: Loader, sorter: Sorter) -> Retried:
        """What comes after the last document; stopped between two steps. A step may stop by itself, so a run is DONE only
        when nobody wished to stop. Every step may be done again."""
        retried = Retried()

        async def late() -> None:
            nonlocal retried
            if self._source.live:
                retried = await retry(self._source, self._archive, loader, sorter, code=ORPHAN)

        steps: list[Callable[[], Awaitable[object]]] = [late]
        if self._files is not None:
            steps.append(self._files)
        steps += [partial(self._archive.build_indexes, shape) for shape in SHAPES.values()]
        for step in (*steps, self._weave):
            if not self._stopping:
                await step()
        return retried

    # ---- tell

    async def _watch(self, run_id: UUID, began: float) -> None:
        seen: dict[str, Account] = {}
        while True:
            with suppress(Unavailable):  # the import itself says so
                await self._tell(run_id, began, seen)
            await self._pause(PROGRESS_SECONDS)

    async def _tell(self, run_id: UUID, began: float, seen: dict[str, Account]) -> None:
        if self._told is None:
            return
        for name, account in (await self._archive.counts(run_id)).items():
            if seen.get(name) != account:
                seen[name] = account
                self._told(Progress(name, account, self._expected.get(name), self._clock() - began))


def _cancel(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    for task in tasks:
        task.cancel()
