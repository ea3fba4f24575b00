"""After the copy: follow what changes, compare, try the refused again, tell how it stands."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from migration.collections import Copied
from migration.collections.register import REGISTER
from migration.documents import Block
from migration.rejects import NotImportedError
from migration.rejects import retry as try_again
from migration.run import RunError
from migration.sources import Source, SourceError
from migration.verify import Difference, Report, Verify
from migration.watermark import Follow, Following, warnings
from router.app.imports.copying import Crew, copied
from router.app.imports.parts import POOL, Board, Outcome, Workshop, obeying, workshop
from router.app.parts import SystemClock, open_core
from router.control.progress import Bar, State, Watch
from router.settings import Settings
from router.storage.archive import open_archive
from router.storage.archive.model import Run, RunState

_RUNS: Final = 10_000
_BRINGING: Final = (RunState.RUNNING, RunState.DONE)


async def follow(settings: Settings, given: str, watch: Watch, *, until_caught_up: bool = False) -> Outcome:
    """Take in what changes. Raises SourceError, Unavailable, LeaseLost, StoreError."""
    async with workshop(settings, given) as shop:
        source: Any = shop.source
        stop = asyncio.Event()
        since = time.monotonic()
        run = await shop.archive.latest(source.name)
        _, loader = shop.of_run(run)

        async def anew_or_on(*, anew: bool) -> Run:
            for note in (await copied(shop, watch, "restart" if anew else "auto", None, 1, Crew({}))).notes:
                watch.say(note)
            found = await shop.archive.latest(source.name)
            assert found is not None  # noqa: S101  the copy made one
            return found

        def shown(state: Following) -> None:
            behind = max(state.lag.values(), default=0.0)
            bars = {"changes": Bar(state.events, None, state.refused)}
            note = "caught up" if state.caught_up else f"{behind:.0f} s behind"
            watch.show(State(watch.act, time.monotonic() - since, bars, 0, note))

        if source.live:
            for line in await warnings(
                source, run.ended_at - run.started_at if run and run.ended_at else None
            ):
                watch.say(f"figueira: {line}")
        else:
            raise _not_live(source)
        following = Follow(
            source, shop.archive, loader, collections=[name for name, one in REGISTER.items() if isinstance(one, Copied)],
            copy=anew_or_on, repair=partial(_repaired, shop, watch), weave=shop.weave.run, uploads=shop.files,
            clock=SystemClock(), report=lambda line: watch.say(f"figueira: {line}"), show=shown,
        )  # fmt: skip
        async with obeying(watch, stop.set):
            found = await following.run(until_caught_up=until_caught_up, stop=stop)
    data: dict[str, Any] = {
        "run": None if found.run_id is None else str(found.run_id), "events": found.events,
        "changed": found.changed + found.deleted, "rejected": found.refused, "differences": 0,
        "caught_up": found.caught_up, "lag_seconds": max(found.lag.values(), default=0.0), "collections": {},
        "resnapshots": found.resnapshots,
    }  # fmt: skip
    return Outcome(data, stopped=stop.is_set(), failed=bool(found.refused))


def _not_live(source: Source) -> SourceError:
    return SourceError(f"{source.name}: a dump does not change; follow a live source, mongodb://…")


async def _repaired(shop: Workshop, watch: Watch) -> None:
    """After history was copied anew: what the source has no more goes."""
    others = await _others(shop)
    if others:
        watch.say(
            f"figueira: what was imported into this database from {', '.join(others)} goes now, unless "
            f"{shop.source.name} has it too: import one Rocket.Chat per database"
        )
    await _verified(shop, watch, repair=True)


async def verify(settings: Settings, given: str, watch: Watch, *, repair: bool = False) -> Outcome:
    """Compare everything; `repair`: and copy anew what differs. Raises SourceError, RunError (a repair would take away
    what came from another source), Unavailable, StoreError."""
    async with workshop(settings, given) as shop:
        others = await _others(shop)
        if repair and others:
            raise RunError(
                f"{shop.source.name}: --repair would delete what was imported into this database from {', '.join(others)}: "
                "import one Rocket.Chat per database"
            )
        task = asyncio.create_task(_verified(shop, watch, repair=repair))
        async with obeying(watch, task.cancel):
            try:
                found = await task
            except asyncio.CancelledError:
                if not watch.stopped():
                    raise
                return Outcome({"collections": {}, "changed": 0, "differences": 0}, stopped=True)
    notes = [*_shared(others)]
    if found.unfinished:
        notes.append(
            f"figueira: {found.unfinished:,} parts of the import are not done: finish it with import --resume"
        )
    return Outcome(found.as_json(), failed=bool(found.unfinished), notes=notes)


async def _others(shop: Workshop) -> list[str]:
    """Other sources whose rows may be in the archive, which does not name a row's source."""
    found: dict[str, None] = {}
    for run in await shop.archive.runs(_RUNS):
        if run.source == shop.source.name or run.source in found:
            continue
        if run.state in _BRINGING or any(
            account.written for account in (await shop.archive.counts(run.id)).values()
        ):
            found[run.source] = None
    return sorted(found)


def _shared(others: Sequence[str]) -> Iterator[str]:
    if others:
        yield (
            f"figueira: another source was imported into this database too: {', '.join(others)}; its documents show as "
            "extra here; import one Rocket.Chat per database"
        )


async def _verified(shop: Workshop, watch: Watch, *, repair: bool) -> Report:
    run = await shop.archive.latest(shop.source.name)
    if run is None:
        raise NotImportedError(
            f"{shop.source.name}: nothing was imported from it; run `figueira migrate import` first"
        )
    _, loader = shop.of_run(run)
    totals = {one.name: one.documents for one in shop.source.collections()}
    board = Board(watch, totals)

    async def woven() -> list[Difference]:
        if repair:
            await shop.weave.run()
        return [_difference(one) for one in await shop.weave.differences()]

    return await Verify(
        shop.source, shop.archive, run, sorts=loader, mask=shop.mask, reader=shop.reader, files=shop.files,
        woven=woven, told=lambda one: board.told(replace(one, expected=totals.get(one.collection))),
    ).run(repair=repair)  # fmt: skip


def _difference(one: Mapping[str, str]) -> Difference:
    return Difference("rocketchat_message", one["what"], one.get("source_id"), one.get("room_id"))


class Kept:
    """Instead of a source: what was refused is tried from the bytes that were kept."""

    live = False

    def __init__(self, name: str) -> None:
        self.name = name

    def fetch(self, collection: str, ids: Collection[str]) -> Iterator[Block]:
        """As `Source`: nothing is there."""
        del collection, ids
        return iter(())


async def retry(settings: Settings, given: str | None, watch: Watch) -> Outcome:
    """What was refused, once more: from the source, or from the bytes that were kept. Raises NotImportedError,
    SourceError, Unavailable, StoreError."""
    if given is not None:
        async with workshop(settings, given) as shop:
            return await _retried(shop, [shop.source], watch)
    async with open_core(settings, POOL) as core, open_archive(core.dsn, pool_size=POOL) as archive:
        names = dict.fromkeys(run.source for run in await archive.runs())
        sources: list[Any] = [Kept(name) for name in names]
        nothing: Any = Kept("nothing")
        shop = Workshop(settings, core, archive, nothing)
        return await _retried(shop, sources, watch)


async def _retried(shop: Workshop, sources: Sequence[Any], watch: Watch) -> Outcome:
    tried = settled = 0
    notes: list[str] = []
    for source in sources:
        if watch.stopped():
            break
        sorter, loader = shop.of_run(await shop.archive.latest(source.name))
        try:
            found = await try_again(source, shop.archive, loader, sorter)
        except NotImportedError as error:
            if len(sources) == 1:
                raise
            notes.append(f"figueira: {error}")
            continue
        tried, settled = tried + found.tried, settled + found.settled
    await shop.files.finish()
    woven = await shop.weave.run(stopped=watch.stopped)
    left = sum((await shop.archive.refusal_counts()).values())
    data: dict[str, Any] = {
        "retried": {"tried": tried, "settled": settled, "still": tried - settled}, "collections": {},
        "changed": settled + woven.changed, "differences": left,
    }  # fmt: skip
    return Outcome(data, stopped=watch.stopped(), failed=bool(left), notes=notes)
