"""What every command of an import is put together from: source, archive, loader, files, weave."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from adapters.files.store import open_store as open_files
from adapters.files.uploads import open_uploads
from adapters.rocketchat.documents import Documents
from adapters.rocketchat.webhook import Webhook
from migration.documents import Mask
from migration.erasures import Erasures
from migration.load import Loader, Options, Sorter
from migration.run import Progress
from migration.sources import Source, open_source
from migration.uploads import Uploads
from migration.weave import Weave
from migration.weave.claims import Claims
from migration.weave.places import Places
from router.app.parts import Core, open_core
from router.control.progress import Bar, State, Watch
from router.domain.errors import Unavailable
from router.settings import Settings
from router.storage.archive import Archive, open_archive
from router.storage.archive.model import Run, RunState

POOL: Final = 4
OBEY_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """`data` ends the command's --json; `stopped`: by a person, at a checkpoint; `failed` without anything to count;
    `notes` are lines for stderr."""

    data: dict[str, Any]
    stopped: bool = False
    failed: bool = False
    notes: list[str] = field(default_factory=list)


@contextmanager
def opened(given: str) -> Iterator[Source]:
    """The source, closed afterwards. Raises SourceError."""
    source = open_source(given)
    try:
        yield source
    finally:
        source.close()


def webhook_of(settings: Settings) -> Webhook:
    """What reads Rocket.Chat, with the channels its rooms belong to."""
    known = settings.rocketchat
    sources = {name: one.channel for name, one in known.sources.items()} if known is not None else {}
    return Webhook(sources, settings.channels)


def mask_of(settings: Settings) -> Mask:
    """Visitors' tokens, overwritten under a key of their own."""
    return Mask(settings.keys.derive("import-token"))


def options_of(chosen: Mapping[str, Any]) -> Options:
    """What the commands' options say."""
    times = {name: _milliseconds(chosen[name]) for name in ("since", "until")}
    return Options(rooms=chosen["rooms"], orphans=chosen["orphans"], **times)


def _milliseconds(at: datetime | None) -> int | None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return None if at is None else (at - epoch) // timedelta(milliseconds=1)


class Workshop:
    """Everything an import works with. `uploads`: where Rocket.Chat keeps its files, as `--uploads` says it."""

    def __init__(
        self, settings: Settings, core: Core, archive: Archive, source: Source, uploads: str | None = None
    ) -> None:
        self.settings, self.core, self.archive, self.source = settings, core, archive, source
        desk, known, webhook = core.desk, settings.rocketchat, webhook_of(settings)
        bot = known.bot_user_id if known is not None else None
        self.reader, self.mask = Documents(), mask_of(settings)
        self.places = Places(webhook, settings.channels)
        self.erasures = Erasures(desk.store, webhook, settings.channels, self.places)
        claims = Claims(
            pins=desk.facade, resolver=core.resolver, ids=desk.ids, channels=desk.channels, webhook=webhook,
            bot_user_id=bot,
        )  # fmt: skip
        self.weave = Weave(
            store=desk.store, resolver=core.resolver, claims=claims, webhook=webhook, places=self.places,
            ids=desk.ids, bot_user_id=bot,
        )  # fmt: skip
        place = open_uploads(uploads, settings.media.s3) if uploads else None
        spool = settings.home / "import" / hashlib.sha256(source.name.encode()).hexdigest()[:16]
        self.files = Uploads(
            archive, open_files(settings.media), spool, limit=settings.policy.media_limit_bytes, place=place
        )

    def loaders(self, options: Options, direct: frozenset[str]) -> tuple[Sorter, Loader]:
        """Sorter and loader of a run."""
        sorter = Sorter(self.reader, self.mask, options)
        return sorter, Loader(self.archive, sorter, self.erasures, sink=self.files, direct=direct)

    def of_run(self, run: Run | None) -> tuple[Sorter, Loader]:
        """Those that a run was begun with."""
        return self.loaders(Options.of(run.options) if run is not None else Options(), frozenset())


@asynccontextmanager
async def workshop(settings: Settings, given: str, uploads: str | None = None) -> AsyncIterator[Workshop]:
    """Opened, and closed when the block ends. Raises SourceError, Unavailable, ConfigurationError."""
    with opened(given) as source:  # what cannot be read says so before a database is started
        async with open_core(settings, POOL) as core, open_archive(core.dsn, pool_size=POOL) as archive:
            yield Workshop(settings, core, archive, source, uploads)


@asynccontextmanager
async def obeying(watch: Watch, stop: Callable[[], object]) -> AsyncIterator[None]:
    """While the block runs, a person's wish to stop is passed on."""

    async def look() -> None:
        while not watch.stopped():  # noqa: ASYNC110  a signal's handler set it, not a task
            await asyncio.sleep(OBEY_SECONDS)
        stop()

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Board:
    """From the tables of an import to what is shown. `totals` None: not known; then the parts that are done tell about
    how many the others will have."""

    def __init__(self, watch: Watch, totals: Mapping[str, int | None]) -> None:
        self._watch = watch
        self._totals = totals
        self._bars = {name: Bar(total=total) for name, total in totals.items()}
        self._begun: int | None = None
        self._since = time.monotonic()
        self._note: str | None = None

    @asynccontextmanager
    async def following(self, archive: Archive, source: str) -> AsyncIterator[None]:
        """While the block runs, what stands in the tables is shown: also what other processes do."""

        async def look() -> None:
            while True:
                with suppress(Unavailable):  # whoever copies says so
                    await self._look(archive, source)
                await asyncio.sleep(LOOK_SECONDS)

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self, archive: Archive, source: str) -> None:
        run = await archive.latest(source)
        if run is None or run.state is not RunState.RUNNING:
            return
        for name, one in (await archive.status(run.id))["collections"].items():
            account, parts, done = one["account"], one["parts"], one["done"]
            total = self._totals.get(name)
            if total is None and done:
                total = account.source * parts // done
            self._bars[name] = Bar(account.source, total, account.rejected, ended=parts == done)
        if self._begun is None:
            self._begun = sum(bar.documents for bar in self._bars.values())
        self._show()

    def told(self, progress: Progress) -> None:
        """As `Verify` tells."""
        name, documents = progress.collection, progress.account.source
        self._bars = {
            other: bar if other == name or not bar.documents else replace(bar, ended=True)
            for other, bar in self._bars.items()
        }
        self._bars[name] = Bar(documents, self._totals.get(name))
        self._show()

    def during(self, note: str, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same work, named while it lasts."""

        async def named(*given: Any) -> Any:
            self._note = note
            self._show()
            try:
                return await work(*given)
            finally:
                self._note = None

        return named

    def _show(self) -> None:
        seconds = time.monotonic() - self._since
        self._watch.show(State(self._watch.act, seconds, dict(self._bars), self._begun or 0, self._note))
