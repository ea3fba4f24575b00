"""kill -9 of web and worker amid traffic on both paths: judged by the sandbox's record."""

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.outside import Outside, doubled, eventually, in_order, outside
from tests.acceptance.scene import FULL, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-kills")]
NATIVE = Line("sol", "100200300")
LEGACY = Line("lua", "100200301")
KILLS, MESSAGES, CONVERSATIONS = (20, 2000, 200) if FULL else (3, 240, 40)
SEED = int(os.environ.get("FIGUEIRA_TEST_SEED", "1"))
AT_ONCE = 12
AROUND = 6.0
"""Seconds a request in flight, and its lease, may lie from the kill that made it uncertain."""


@dataclass
class Kill:
    victim: str
    at: float
    back: float = 0.0


@dataclass
class Traffic:
    """One customer's conversation: what was answered 200 and 202, in order."""

    line: Line
    wa_id: str
    wamids: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass
class Course:
    """The whole run."""

    out: Outside
    done: list[float] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def talk(self, traffic: Traffic) -> None:
        for turn in range(MESSAGES // CONVERSATIONS):
            async with self.gate:
                text = f"{traffic.wa_id} {turn}"
                traffic.wamids.append(await self.out.say(traffic.line, traffic.wa_id, f"pergunta {text}"))
                self.done.append(time.time())
                if traffic.line is NATIVE:
                    await self._answer(traffic, f"resposta {text}")

    async def _answer(self, traffic: Traffic, text: str) -> None:
        body = {"channel": traffic.line.slug, "to": traffic.wa_id, "text": text}
        status, answer = await self.out.send(body, text)
        assert (status, answer["path"]) == (202, "native"), answer
        traffic.answers.append(text)

    async def kill(self, scene: Scene) -> None:
        """At even steps of the traffic, a little off by chance."""
        chance = random.Random(SEED)
        for step in range(1, KILLS + 1):
            due = (step - chance.random() * 0.5) * MESSAGES / (KILLS + 1)
            while len(self.done) < due:
                await asyncio.sleep(0.01)
            kill = Kill(
                chance.choice(["web", "worker"]) if step > 2 else ["web", "worker"][step - 1], time.time()
            )
            await asyncio.to_thread(scene.restart, kill.victim)
            kill.back = time.time()
            self.kills.append(kill)

    def resumed(self, rows: list[dict[str, Any]]) -> list[str]:
        """Seconds from each kill to the first thing done after the restart."""
        left = sorted(map(moment, rows))
        told = []
        for kill in self.kills:
            first = next(
                (at for at in (left if kill.victim == "worker" else self.done) if at > kill.back), None
            )
            told.append(f"{kill.victim} {first - kill.at:.1f}" if first else f"{kill.victim} -")
        return told


def moment(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()


async def test_faults_of_killed_processes_lose_and_double_nothing() -> None:
    # A status can come as late as a web is away; what counts as not sent must be older than that.
    with staged([NATIVE, LEGACY], delivery={"unknown_after_seconds": 12}) as scene:
        scene.flag("native", "--channel", NATIVE.slug)
        talks = [
            Traffic((NATIVE, LEGACY)[number % 2], f"55119{number:08d}") for number in range(CONVERSATIONS)
        ]
        async with outside(scene) as out:
            course = Course(out)
            await asyncio.gather(course.kill(scene), *map(course.talk, talks))
            assert len(course.kills) == KILLS
            await _all_arrived(out, talks)
            await out.quiet()
            await _judge(out, course, talks)
        assert scene.figueira("deadletters", "list")["items"] == []
        assert scene.figueira("doctor", "--ledger")["balanced"] is True


async def _all_arrived(out: Outside, talks: list[Traffic]) -> None:
    wamids = {wamid for talk in talks if talk.line is LEGACY for wamid in talk.wamids}
    answers = {text for talk in talks for text in talk.answers}

    async def arrived() -> bool:
        return wamids <= set(await out.forwarded(LEGACY.slug)) and answers <= {
            row["text"] for row in await out.sent("native")
        }

    await eventually(arrived, "everything that was taken", 90)


async def _judge(out: Outside, course: Course, talks: list[Traffic]) -> None:
    forwards = [
        row for row in await out.sandbox.record("forwards") if row["app"] == LEGACY.app and row["wamids"]
    ]
    sent = await out.sent("native")
    rooms = await out.sandbox.record("rocketchat")
    handled = await out.messages(NATIVE.slug)
    went = [wamid for row in forwards if row["acted"] for wamid in row["wamids"]]
    assert not doubled(row["text"] for row in sent)
    assert not doubled(row["wamid"] for row in rooms if row["by"] == "visitor")
    assert not set(await out.forwarded(NATIVE.slug)) & {wamid for talk in talks for wamid in talk.wamids}
    for talk in talks:
        if talk.line is LEGACY:
            assert in_order(went, talk.wamids)
        else:
            own = [row["external_id"] for row in handled if row["direction"] == "inbound"]
            assert [wamid for wamid in own if wamid in talk.wamids] == talk.wamids
            assert [row["text"] for row in sent if row["to"] == talk.wa_id] == talk.answers
    assert {row["status"] for row in handled if row["direction"] == "outbound"} <= {"sent", "delivered"}
    repeats = doubled(went)
    first = {wamid: moment(row) for row in reversed(forwards) for wamid in row["wamids"]}
    for wamid in repeats:
        assert any(abs(kill.at - first[wamid]) < AROUND for kill in course.kills), "a repeat without a kill"
    print(
        f"\nseed {SEED}: {KILLS} kills, {MESSAGES} messages, {len(sent)} answers; 0 lost, 0 doubled to customers,"
        f" {sum(repeats.values()) - len(repeats)} repeated to Rocket.Chat;"
        f" seconds until resumed: {', '.join(course.resumed(forwards + sent))}"
    )
