"""A flip there and back amid conversations: what is open stays, what is new goes; `--now` moves what is open."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.outside import Outside, doubled, eventually, in_order, outside
from tests.acceptance.scene import FULL, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-flip")]
SOL = Line("sol", "100200300")
CONVERSATIONS = 100 if FULL else 40
PAUSE = 2.0 if FULL else 1.0
PHASE_SECONDS = 6.0 if FULL else 2.5


@dataclass
class Talk:
    """What one customer wrote and was answered, in the order it was taken."""

    wa_id: str
    phase: int
    wamids: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    refused: int = 0


class Course:
    """All talks; those of a phase begin with it and go on to the end."""

    def __init__(self, out: Outside, phases: int) -> None:
        self.out = out
        self.talks = [Talk(f"55118{number:08d}", number % phases) for number in range(CONVERSATIONS)]
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()

    def begin(self, phase: int) -> None:
        for number, talk in enumerate(self.talks):
            if talk.phase == phase:
                self._tasks.append(asyncio.create_task(self._talk(talk, number / CONVERSATIONS * PAUSE)))

    async def end(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _talk(self, talk: Talk, delay: float) -> None:
        await asyncio.sleep(delay)
        last = False
        while not last:
            last = self._over.is_set()  # one more after the last flip, so that every talk has seen it
            turn = len(talk.wamids)
            talk.wamids.append(await self.out.say(SOL, talk.wa_id, f"pergunta {turn}"))
            text = f"resposta {talk.wa_id} {turn}"
            status, answer = await self.out.send({"channel": "sol", "to": talk.wa_id, "text": text}, text)
            if status == 202:
                talk.answers.append(text)
            else:
                assert (status, answer["code"]) == (409, "no_room_on_path"), answer
                talk.refused += 1
            await asyncio.sleep(PAUSE)

    async def arrived(self) -> None:
        """Every answer that was taken is with its customer."""
        answers = {text for talk in self.talks for text in talk.answers}

        async def all_there() -> bool:
            return answers <= {row["text"] for row in await self.out.sent()}

        try:
            await eventually(all_there, "every answer", 60)
        except AssertionError as late:
            raise AssertionError(await self._missing(answers)) from late
        await self.out.quiet()

    async def _missing(self, answers: set[str]) -> list[dict[str, Any]]:
        """What became of the answers no customer got."""
        missing = answers - {row["text"] for row in await self.out.sent()}
        found = [row for row in await self.out.messages("sol") if row["text"] in missing]
        return [await self.out.status_of(row["id"]) for row in found]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with staged([SOL]) as scene:
        yield scene


@pytest.fixture
async def out(scene: Scene) -> AsyncIterator[Outside]:
    async with outside(scene) as out:
        yield out


async def flip(out: Outside, stage: str, *more: str) -> None:
    told = await asyncio.to_thread(out.scene.flag, stage, *more)
    assert told["laggards"] == []


async def test_flip_there_and_back_keeps_the_pins(out: Outside) -> None:
    course = Course(out, 3)
    for phase, stage in enumerate(["rocketchat", "native", "rocketchat"]):
        if phase:
            await flip(out, stage)
        course.begin(phase)
        await asyncio.sleep(PHASE_SECONDS)
    await course.end()
    await course.arrived()

    forwarded, sent = await out.forwarded("sol"), await out.sent()
    assert not doubled(forwarded)
    assert not doubled(row["text"] for row in sent)
    pinned = {}
    for conversation in await out.conversations("sol"):
        said = await out.all(f"/v1/conversations/{conversation['id']}/messages")
        assert {one["path"] for one in said} == {conversation["path"]}
        for one in said:
            pinned[one["external_id"]] = conversation["path"]
    for talk in course.talks:
        path = "native" if talk.phase == 1 else "rocketchat"
        assert {pinned[wamid] for wamid in talk.wamids} == {path}
        assert in_order(forwarded, talk.wamids if path == "rocketchat" else [])
        assert not set(forwarded) & set(talk.wamids) or path == "rocketchat"
        got = [row for row in sent if row["to"] == talk.wa_id]
        assert [row["text"] for row in got] == talk.answers
        assert {row["by"] for row in got} <= {path}
    assert sum(len(talk.answers) for talk in course.talks if talk.phase == 1) > CONVERSATIONS / 3


async def test_flip_now_moves_open_conversations_and_back(out: Outside) -> None:
    course = Course(out, 1)
    course.begin(0)
    for stage in ("native", "rocketchat"):
        await asyncio.sleep(PHASE_SECONDS)
        await flip(out, stage, "--now")
    await asyncio.sleep(PHASE_SECONDS)
    await course.end()
    await course.arrived()

    forwarded, sent = await out.forwarded("sol"), await out.sent()
    assert not doubled(forwarded)
    assert not doubled(row["text"] for row in sent)
    rows = {row["external_id"]: row for row in await out.messages("sol") if row["direction"] == "inbound"}
    for talk in course.talks:
        paths = [rows[wamid]["path"] for wamid in talk.wamids]
        gone = [wamid for wamid, path in zip(talk.wamids, paths, strict=True) if path == "rocketchat"]
        assert in_order(forwarded, gone), "handled by one path, and in order"
        assert not set(forwarded) & (set(talk.wamids) - set(gone)), "never by both"
        assert [row["text"] for row in sent if row["to"] == talk.wa_id] == talk.answers
    used = {row["path"] for row in rows.values()}
    assert used == {"native", "rocketchat"}
    assert {each["path"] for each in await out.conversations("sol") if each["state"] == "open"} == {
        "rocketchat"
    }


async def test_flip_of_one_conversation_by_hand_lasts(out: Outside) -> None:
    """Its room is closed by us, which Rocket.Chat reports: that is no end of the conversation."""
    wamid = await out.say(SOL, "5511900000001", "oi")
    conversation = await out.conversation_of("sol", wamid)
    await out.quiet()
    status, moved = await out.api(
        "POST", f"/v1/conversations/{conversation['id']}/move", {"path": "native", "reason": "piloto"}
    )
    assert (status, moved["path"]) == (200, "native")
    await eventually(lambda: out.sandbox.record("rest"), "the room is closed")
    await out.quiet()
    second = await out.say(SOL, "5511900000001", "ainda aí?")
    await out.quiet()
    found = await out.conversation_of("sol", second)
    assert (found["id"], found["path"], found["state"]) == (conversation["id"], "native", "open")
    assert await out.forwarded("sol") == [wamid]
