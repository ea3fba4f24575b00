"""Look at a source, and copy it: here, and in further processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from migration.load import Options
from migration.report import report
from migration.run import Import, Mode
from migration.weave import Woven
from router.app.imports.parts import Board, Outcome, Workshop, obeying, options_of, workshop
from router.control.progress import Watch
from router.settings import Settings

SOURCE_VARIABLE: Final = "FIGUEIRA_MIGRATE_SOURCE"
PARENT_VARIABLE: Final = "FIGUEIRA_MIGRATE_PARENT"
"""The process that a worker belongs to: it ends when that one does."""
NOTHING_IN_IT: Final = "empty_file"
"""Why an upload without a byte is not stored: it lacks none."""
OWN: Final = "rocketchat_"
"""How Rocket.Chat's collections begin, but for `users` and a few old ones."""
_SAID: Final = 2_000  # characters of a worker's last words that are kept


async def copy(
    settings: Settings, given: str, chosen: Mapping[str, Any] | None, watch: Watch, *, workers: int = 1,
    mode: Mode = "auto", uploads: str | None = None, environ: Mapping[str, str] | None = None,
) -> Outcome:  # fmt: skip
    """Copy. `chosen` None: as the run that is gone on with has it; `environ`: of the further workers. Raises RunError,
    SourceError, Unavailable, StoreError."""
    async with workshop(settings, given, uploads) as shop:
        options = None if chosen is None else options_of(chosen)
        return await copied(
            shop, watch, mode, options, workers, Crew({**(environ or {}), SOURCE_VARIABLE: given})
        )


async def copied(
    shop: Workshop, watch: Watch, mode: Mode, options: Options | None, workers: int, crew: "Crew"
) -> Outcome:
    totals = {one.name: one.documents for one in shop.source.collections()}
    board = Board(watch, totals)
    results: dict[str, Any] = {}

    async def files() -> None:
        results["files"] = await shop.files.finish()

    async def weave() -> None:
        results["woven"] = await shop.weave.run(stopped=watch.stopped)

    work = Import(
        shop.source, shop.archive, shop.loaders, options=options, workers=workers, spawn=crew.spawn,
        weave=board.during("making conversations", weave), files=board.during("storing files", files),
    )  # fmt: skip
    async with obeying(watch, work.stop), board.following(shop.archive, shop.source.name):
        outcome = await work.run(mode)
    woven: Woven = results.get("woven", Woven())
    data = report(outcome.counts)
    data |= {
        "changed": data["changed"] + woven.changed,
        "run": str(outcome.run.id),
        "seconds": round(outcome.seconds, 1),
        "rooms_woven": woven.rooms,
        "unmapped_sources": dict(woven.unplaced),
        "files": dict(results["files"].states) if "files" in results else {},
    }
    notes = [*crew.words, *_foreign(shop.source.name, totals), *_notes(woven, results.get("files"))]
    return Outcome(data, stopped=outcome.stopped, notes=notes)


def _foreign(source: str, names: Collection[str]) -> Iterator[str]:
    """That it does not look like Rocket.Chat's."""
    if not any(name.startswith(OWN) for name in names):
        yield (
            f"figueira: {source}: none of its {len(names)} collections is named {OWN}…; if this is not what was meant, give "
            "Rocket.Chat's own database or its dump"
        )


def _notes(woven: Woven, files: Any) -> Iterator[str]:
    for name, rooms in woven.unplaced.items():
        yield (
            f"figueira: {rooms:,} rooms of source {name} are kept, but belong to no channel: map it in sources of "
            "[rocketchat], then import again"
        )
    found: Mapping[str, int] = files.reasons if files is not None else {}
    reasons = {reason: number for reason, number in found.items() if reason != NOTHING_IN_IT}
    if reasons:
        told = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
        mend = "; say where they are with --uploads" if "no_place" in reasons else ""
        yield f"figueira: files without their bytes: {told}{mend}"


class Crew:
    """Further workers, each a process of its own. The source goes to them by environment: arguments are seen by all."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **environ, PARENT_VARIABLE: str(os.getpid())}
        self.words: list[str] = []

    async def spawn(self, run_id: UUID) -> int:
        """As `migration.run.Spawn`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router.cli", "migrate", "work", str(run_id), "--json",
            env=self._environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        said = asyncio.create_task(process.communicate())
        try:
            _, words = await asyncio.shield(said)
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await said
            raise
        code = process.returncode or 0
        if code:
            told = words.decode("utf-8", "replace").strip()[-_SAID:].splitlines()
            self.words.append(
                f"figueira: a worker ended with {code}: {told[-1] if told else 'without a word'}"
            )
        return code


async def work(settings: Settings, given: str, run_id: UUID, watch: Watch) -> Outcome:
    """One more worker, until nothing is left to take."""
    parent = os.environ.get(PARENT_VARIABLE)
    heed = watch
    if parent is not None:
        heed = replace(watch, stopped=lambda: watch.stopped() or str(os.getppid()) != parent)
    async with workshop(settings, given) as shop:

        async def never() -> None:
            """The process that planned the run weaves."""

        one = Import(shop.source, shop.archive, shop.loaders, weave=never)
        async with obeying(heed, one.stop):
            await one.work(run_id)
        return Outcome(report(await shop.archive.counts(run_id)), stopped=heed.stopped())
