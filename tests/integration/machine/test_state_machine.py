"""The heart on the real PostgreSQL, driven by hypothesis: whatever people, providers, workers and time do, in whatever
order, the simulation's promises hold. One event loop and one database serve all examples.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flags.stage import TRUTH, Path, Stage
from router.delivery.claim import Claim
from router.domain.channel import RESERVED
from tests.conftest import Server, fresh_name
from tests.integration.machine.outside import PATIENTS, Answer, Gate
from tests.integration.machine.scene import Process, Scene

pytestmark = pytest.mark.postgres

T = TypeVar("T")
FULL = os.environ.get("FIGUEIRA_TEST_LENGTH") == "full"
EXAMPLES, STEPS = (400, 60) if FULL else (45, 40)
SLUGS = st.sampled_from(["wa", "wa", "wb"])
WHO = st.sampled_from(PATIENTS)
ANY = st.integers(0, 1 << 16)
ANSWERS = st.sampled_from([Answer.OK, Answer.OK, Answer.LOST_AFTER, *Answer])
WORKERS = st.sampled_from([0, 1])
MOSTLY = st.sampled_from([True, True, True, False])


@pytest.fixture(scope="module")
def stage(postgres: Server, postgres_template: str) -> Iterator[tuple[asyncio.Runner, Scene]]:
    name = fresh_name()
    with asyncio.Runner() as runner:
        dsn = runner.run(postgres.create(name, postgres_template))
        # What is under test is not the disk.
        runner.run(postgres.run(f"alter database {name} set synchronous_commit = off"))
        scene = runner.run(Scene.open(dsn, postgres.dsn(name)))
        yield runner, scene
        runner.run(scene.close())
        runner.run(postgres.drop(name))


@dataclass(frozen=True)
class Held:
    """A worker that stopped half way."""

    claim: Claim
    task: "asyncio.Task[None]"
    gate: Gate


class Machine(RuleBasedStateMachine):
    """One example. Held jobs are workers that stopped half way: before their request left, or after it was acted upon."""

    def __init__(self, runner: asyncio.Runner, scene: Scene) -> None:
        super().__init__()
        self.runner, self.scene = runner, scene
        self.held: list[Held] = []
        self.run(scene.begin(2))

    def run(self, act: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(act)

    def process(self, which: int) -> Process:
        return self.scene.processes[which]

    # people and providers ----------------------------------------------------------------------------------

    @initialize(stage=st.sampled_from([Stage.ROCKETCHAT, Stage.CANARY, Stage.NATIVE]), who=WHO)
    def people_are_talking(self, stage: Stage, who: str) -> None:
        self.run(self.scene.flip(stage, 50, floor=True))
        for slug in ("wa", "wb"):
            self.run(self.scene.post(self.scene.outside.says(slug, [who, PATIENTS[0]])))
        self.split("wa", 0)

    @rule(slug=SLUGS, who=WHO, at_once=MOSTLY)
    def somebody_says(self, slug: str, who: str, at_once: bool) -> None:
        self.run(self.scene.post(self.scene.outside.says(slug, [who])))
        if at_once:
            self.split(slug, 0)

    @rule(slug=SLUGS, speakers=st.lists(WHO, min_size=2, max_size=3), at_once=MOSTLY)
    def several_say(self, slug: str, speakers: list[str], at_once: bool) -> None:
        self.run(self.scene.post(self.scene.outside.says(slug, speakers)))
        if at_once:
            self.split(slug, 1)

    @precondition(lambda self: self.scene.outside.posted)
    @rule(which=ANY)
    def a_body_comes_again(self, which: int) -> None:
        posted = self.scene.outside.posted
        self.run(self.scene.post(posted[which % len(posted)]))

    @precondition(lambda self: self.scene.outside.record.said)
    @rule(which=ANY, who=WHO)
    def an_old_message_comes_in_a_new_batch(self, which: int, who: str) -> None:
        said = list(self.scene.outside.record.said.values())
        old = said[which % len(said)]
        self.run(self.scene.post(self.scene.outside.says(old.slug, [who], again=old)))

    @rule(slug=SLUGS, who=WHO)
    def the_phone_answers(self, slug: str, who: str) -> None:
        self.run(self.scene.post(self.scene.outside.phone_says(slug, who)))

    @precondition(lambda self: self.scene.outside.mail)
    @rule(which=ANY, at_once=MOSTLY)
    def mail_comes(self, which: int, at_once: bool) -> None:
        mail = self.scene.outside.mail
        one = mail.pop(which % len(mail))
        self.run(self.scene.post(one))
        if at_once:
            self.split(one.slug, 1)

    @precondition(lambda self: self.scene.outside.mail)
    @rule()
    def all_mail_comes(self) -> None:
        self.run(self.scene.post_mail())
        for slug in ("wa", "wb", RESERVED):
            self.split(slug, 0)

    @precondition(lambda self: any(mail.from_rocketchat for mail in self.scene.outside.mail))
    @rule(which=ANY)
    def a_webhook_of_rocketchat_is_lost(self, which: int) -> None:
        mail = self.scene.outside.mail
        lossy = [one for one in mail if one.from_rocketchat]
        mail.remove(lossy[which % len(lossy)])

    @rule(on=st.booleans())
    def agents_answer(self, on: bool) -> None:
        self.scene.outside.agents_answer = on

    @precondition(lambda self: self.scene.outside.rooms)
    @rule(which=ANY)
    def an_agent_closes_a_room(self, which: int) -> None:
        rooms = list(self.scene.outside.rooms.values())
        self.scene.outside.close_room(rooms[which % len(rooms)])

    @rule(slug=SLUGS, who=WHO, web=WORKERS, answers=st.lists(ANSWERS, max_size=2))
    def the_clinic_sends(self, slug: str, who: str, web: int, answers: list[Answer]) -> None:
        self.run(self.scene.send(self.process(web), slug, who))
        self.carry_out_some(web, answers)

    # control -----------------------------------------------------------------------------------------------

    @rule(stage=st.sampled_from([Stage.ROCKETCHAT, Stage.CANARY, Stage.NATIVE]), percent=st.integers(0, 100))
    def flip(self, stage: Stage, percent: int) -> None:
        floor = TRUTH[stage].new is Path.ROCKETCHAT or percent % 2 == 0
        self.run(self.scene.flip(stage, percent, floor=floor))

    @rule(which=WORKERS)
    def flags_arrive(self, which: int) -> None:
        self.run(self.process(which).facade.refresh())

    @rule(which=ANY, path=st.sampled_from(Path), web=WORKERS)
    def move(self, which: int, path: Path, web: int) -> None:
        found = self.run(self.scene.open_conversations())
        if found:
            self.run(self.scene.move(self.process(web), found[which % len(found)], path))

    @rule(which=ANY, web=WORKERS)
    def close(self, which: int, web: int) -> None:
        found = self.run(self.scene.open_conversations())
        if found:
            self.run(self.scene.close_conversation(self.process(web), found[which % len(found)]))

    # workers and time --------------------------------------------------------------------------------------

    @rule(slug=st.sampled_from(["wa", "wb", RESERVED]), worker=WORKERS)
    def split(self, slug: str, worker: int) -> None:
        self.run(self.scene.split(self.process(worker), slug))

    @rule(answer=ANSWERS, worker=WORKERS)
    def carry_out_a_job(self, answer: Answer, worker: int) -> None:
        self.run(self.scene.step(self.process(worker), answer))

    @rule(worker=WORKERS, answers=st.lists(ANSWERS, min_size=2, max_size=6))
    def carry_out_some(self, worker: int, answers: list[Answer]) -> None:
        for answer in answers:
            self.run(self.scene.step(self.process(worker), answer))

    @rule(worker=WORKERS)
    def claim_and_die(self, worker: int) -> None:
        self.run(self.process(worker).delivery.claim())

    @precondition(lambda self: len(self.held) < 3)
    @rule(worker=WORKERS, after_acting=st.booleans(), answer=ANSWERS)
    def stop_half_way(self, worker: int, after_acting: bool, answer: Answer) -> None:
        self.run(self._stop_half_way(self.process(worker), after_acting, answer))

    async def _stop_half_way(self, process: Process, after_acting: bool, answer: Answer) -> None:
        claim = await process.delivery.claim()
        if claim is None:
            return
        gate = self.scene.hold_next(after_acting=after_acting)
        self.scene.outside.answer = answer
        task = asyncio.create_task(process.delivery.carry_out(claim))
        reached = asyncio.create_task(gate.reached.wait())
        await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        self.scene.outside.answer, self.scene.outside.gate = Answer.OK, None
        if task.done():  # a claim with no request
            task.result()
        else:
            self.held.append(Held(claim, task, gate))

    @precondition(lambda self: self.held)
    @rule(which=ANY)
    def go_on(self, which: int) -> None:
        self.run(self._go_on(self.held.pop(which % len(self.held))))

    async def _go_on(self, held: "Held") -> None:
        """A worker whose lease was taken meanwhile changes nothing of the job."""
        before = await self.scene.job(held.claim.job.id)
        held.gate.opened.set()
        await held.task
        if before is not None and before["fence"] != held.claim.job.fence:
            assert await self.scene.job(held.claim.job.id) == before

    @precondition(lambda self: self.held)
    @rule(which=ANY, worker=WORKERS)
    def come_back_too_late(self, which: int, worker: int) -> None:
        self.time_passes(31)
        for _ in range(3):  # one of them is the job
            self.run(self.process(worker).delivery.claim())
        self.go_on(which)

    @precondition(lambda self: self.held)
    @rule(which=ANY)
    def die_half_way(self, which: int) -> None:
        held = self.held.pop(which % len(self.held))
        if held.gate.forwarded is not None:
            self.scene.outside.excuse(*held.gate.forwarded)
        held.task.cancel()
        self.run(_ended(held.task))

    @rule(seconds=st.sampled_from([2, 16, 16, 31, 121, 1801]))
    def time_passes(self, seconds: int) -> None:
        """Past a lease, the requests under way may be repeated by whoever holds the lease then."""
        for held in self.held:
            if held.gate.forwarded is not None:
                self.scene.outside.excuse(*held.gate.forwarded)
        self.run(self.scene.pass_time(seconds))

    # promises ----------------------------------------------------------------------------------------------

    @invariant()
    def lanes_are_whole(self) -> None:
        assert self.run(self.scene.lanes()) == []

    @invariant()
    def nobody_hears_a_thing_twice(self) -> None:
        asked, by = self.scene.outside.record.asked, self.scene.outside.record.by
        assert [text for text in asked if len(by.get(text, ())) > 1] == []

    def teardown(self) -> None:
        """Whoever was held goes on, late or not; then all waits for quiet and the promises are checked."""
        for held in self.held:
            self.run(self._go_on(held))
        waiting = self.run(self.scene.drain())
        assert [*waiting, *self.run(self.scene.violations())] == []


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait({task})


def test_the_promises_hold(stage: tuple[asyncio.Runner, Scene]) -> None:
    run_state_machine_as_test(
        cast(type[Machine], lambda: Machine(*stage)),  # it is only called
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=not FULL, database=None,
            print_blob=True, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
