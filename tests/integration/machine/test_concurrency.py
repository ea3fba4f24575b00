"""Two splitters and four workers at once over one PostgreSQL, with moves, flips, sends, repeats and deaths going on."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from flags.stage import Path, Stage
from router.delivery.claim import Claim
from router.domain.errors import Conflict, LeaseLost
from tests.conftest import Server
from tests.integration.machine.outside import Answer
from tests.integration.machine.scene import Process, Scene

pytestmark = pytest.mark.postgres

PEOPLE = [f"55119{number:08d}" for number in range(100, 115)]  # on each of two channels: 30 conversations
MESSAGES = 10
SPLITTERS, WORKERS, DEATHS = 2, 4, 12
PATIENCE_SECONDS = 60


@pytest.fixture
async def scene(dsn: str, postgres: Server) -> AsyncIterator[Scene]:
    name = dsn.partition("@/")[2].partition("?")[0]
    opened = await Scene.open(dsn, postgres.dsn(name))
    await opened.begin(SPLITTERS + WORKERS)
    yield opened
    await opened.close()


class Bustle:
    """Everything that goes on at the same time; ended by `over`."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.dice = random.Random(5)
        self.over = False
        self.claims: dict[int, Claim] = {}
        self.moved = self.sent = 0

    async def people(self) -> None:
        """Each says one thing after the other: who was answered speaks on."""
        async with asyncio.TaskGroup() as group:
            for slug in ("wa", "wb"):
                for who in PEOPLE:
                    group.create_task(self._person(slug, who))

    async def _person(self, slug: str, who: str) -> None:
        outside = self.scene.outside
        for turn in range(MESSAGES):
            speakers = [who, self.dice.choice(PEOPLE)] if turn == MESSAGES // 2 else [who]
            mail = outside.says(slug, speakers)
            await self.scene.post(mail)
            if self.dice.random() < 0.1:
                await self.scene.post(mail)
            await asyncio.sleep(self.dice.uniform(0, 0.05))

    async def mail(self) -> None:
        while not self.over:
            await self.scene.post_mail()
            await asyncio.sleep(0.01)

    async def splitter(self, process: Process) -> None:
        while not self.over:
            slugs = await self.scene.store.waiting_channels()
            if not any([await process.ingest.split(slug) for slug in slugs]):
                await asyncio.sleep(0.005)

    async def worker(self, place: int, process: Process) -> None:
        while not self.over:
            claim = None
            with suppress(Conflict):
                claim = await process.delivery.claim()
            if claim is None:
                await asyncio.sleep(0.005)
                continue
            self.claims[place] = claim
            await process.delivery.carry_out(claim)
            del self.claims[place]

    async def control(self) -> None:
        """A flip, moves, sends, closes, as they come."""
        while not self.over:
            process = self.dice.choice(self.scene.processes)
            stage = self.dice.choice([Stage.ROCKETCHAT, Stage.CANARY, Stage.NATIVE])
            await self.scene.flip(stage, 50, floor=self.dice.random() < 0.5)
            for which in self.dice.sample(
                found := list(await self.scene.open_conversations()), min(6, len(found))
            ):
                with suppress(Conflict, LeaseLost):
                    await self.scene.move(process, which, self.dice.choice(list(Path)))
                    self.moved += 1
            for _ in range(6):
                await self.scene.send(process, self.dice.choice(["wa", "wb"]), self.dice.choice(PEOPLE))
                self.sent += 1
            await asyncio.sleep(0.05)

    async def weather(self) -> None:
        """Refusals, and lost answers where we may ask again."""
        while not self.over:
            self.scene.outside.answer = self.dice.choice([Answer.OK, Answer.OK, Answer.OK, Answer.RETRY])
            await asyncio.sleep(0.02)
        self.scene.outside.answer = Answer.OK

    async def deaths(self) -> None:
        """A worker dies wherever it is; another takes its place, and its lease runs out."""
        place = SPLITTERS
        tasks = {at: self._start(at) for at in range(SPLITTERS, SPLITTERS + WORKERS)}
        try:
            for _ in range(DEATHS):
                await asyncio.sleep(0.1)
                place = SPLITTERS + (place + 1) % WORKERS
                tasks[place].cancel()
                await asyncio.wait({tasks[place]})
                await self._lapse(self.claims.pop(place, None))
                tasks[place] = self._start(place)
            while not self.over:
                await asyncio.sleep(0.02)
        finally:
            self.over = True
            await asyncio.gather(*tasks.values())

    def _start(self, place: int) -> "asyncio.Task[None]":
        return asyncio.create_task(self.worker(place, self.scene.processes[place]))

    async def _lapse(self, claim: Claim | None) -> None:
        if claim is None:
            return
        if claim.event is not None and claim.event.channel in ("wa", "wb"):
            self.scene.outside.excuse(claim.event.channel, claim.event.body)
        await self.scene.admin.execute(
            "update jobs set lease_until = now() - interval '1 s' where id = $1 and fence = $2",
            claim.job.id, claim.job.fence,
        )  # fmt: skip

    async def until_quiet(self) -> None:
        """People have spoken; give the workers time for most of it, the rest is drained."""
        await self.people()
        for _ in range(PATIENCE_SECONDS * 20):
            if not await self.scene.store.waiting_channels() and not self.scene.outside.mail:
                break
            await asyncio.sleep(0.05)
        self.over = True


async def test_workers_at_once_keep_every_promise(scene: Scene) -> None:
    bustle = Bustle(scene)
    async with asyncio.TaskGroup() as group:
        for process in scene.processes[:SPLITTERS]:
            group.create_task(bustle.splitter(process))
        for act in (bustle.mail, bustle.control, bustle.weather, bustle.deaths, bustle.until_quiet):
            group.create_task(act())
    assert await scene.lanes() == []
    assert await scene.drain() == []
    assert await scene.violations() == []
    said = len(scene.outside.record.said)
    assert said == 2 * len(PEOPLE) * (MESSAGES + 1)
    assert bustle.moved > 20
    assert scene.outside.record.rocketchat
    assert any(by == ["native"] for by in scene.outside.record.by.values())
