"""The traffic of the soak: patients, the clinic's software, Rocket.Chat's agents, and a flag that flips among them."""

import asyncio
import base64
import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.acceptance.outside import Outside, eventually
from tests.acceptance.scene import Line

HEADS: Mapping[str, tuple[str, bytes]] = {
    "image/jpeg": ("image", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"),
    "image/png": ("image", b"\x89PNG\r\n\x1a\n"),
    "audio/ogg": ("audio", b"OggS\x00\x02"),
    "application/pdf": ("document", b"%PDF-1.7\n"),
}
SMALLEST, LARGEST = 1024, 300 * 1024
TEMPLATE = "lembrete"
AGAIN_SECONDS = 2.0
EARLY_SECONDS = 120.0
"""How long an answer may come before the router has read what it answers."""
LATE_SECONDS = 120.0
THROUGH = ("sent", "delivered", "read", "failed")

Item = dict[str, Any]


@dataclass(frozen=True)
class Paper:
    """A file somebody sends. `upload`: its id at the router, once it was uploaded there."""

    mime: str
    data: bytes = field(repr=False)
    upload: str = ""

    @property
    def kind(self) -> str:
        return HEADS[self.mime][0]

    @property
    def name(self) -> str:
        return f"arquivo.{self.mime.rpartition('/')[2]}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def told(self) -> Item:
        """As the sandbox's control takes it."""
        return {
            "content_base64": base64.b64encode(self.data).decode(),
            "mime": self.mime,
            "filename": self.name,
        }


def paper(chance: random.Random) -> Paper:
    """1 KB to 300 KB, small ones more often; no two alike."""
    mime = chance.choice(list(HEADS))
    size = int(math.exp(chance.uniform(math.log(SMALLEST), math.log(LARGEST))))
    head = HEADS[mime][1]
    return Paper(mime, head + chance.randbytes(size - len(head)))


@dataclass
class Talk:
    """One patient. `answers`: what the API took, in order, by what tells it at the customer: its words, or, where it
    can have none (audio), its bytes' sha256. `refused`: codes of answers that were not taken."""

    wa_id: str
    chance: random.Random
    wamids: list[str] = field(default_factory=list)
    papers: dict[str, Paper] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    """Words → sha256 of the answers that carry a file."""
    refused: Counter[str] = field(default_factory=Counter)
    last: str = ""
    """The id of the newest answer."""


@dataclass
class Rhythm:
    """`seconds` of traffic from `patients`, each with a turn about every `pause`, a flip every `flip` seconds."""

    patients: int
    seconds: float
    pause: float
    flip: float


class Course:
    """The whole run."""

    def __init__(self, out: Outside, line: Line, rhythm: Rhythm, seed: int) -> None:
        self.out, self.line, self.rhythm = out, line, rhythm
        self.chance = random.Random(seed)
        self.talks = [
            Talk(f"55117{number:08d}", random.Random(f"{seed} {number}")) for number in range(rhythm.patients)
        ]
        self.said: dict[str, Paper | None] = {}
        """What agents sent: `_id` → its file."""
        self.flips: list[str] = []
        self.moves = 0
        self._uploads: list[Paper] = []
        self._over = asyncio.Event()

    async def run(self) -> None:
        self._uploads = [await self._upload() for _ in range(8)]
        agents = asyncio.create_task(self._agents())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flip())
            for talk in self.talks:
                group.create_task(self._talk(talk))
            await asyncio.sleep(self.rhythm.seconds)
            self._over.set()
        await agents

    async def _upload(self) -> Paper:
        made = paper(self.chance)
        status, kept = await self.out.upload(made.data, made.mime, made.name)
        assert (status, kept["sha256"]) == (201, made.sha256), kept
        return Paper(made.mime, made.data, kept["id"])

    # a patient, and the software that answers -------------------------------------------------------------------

    async def _talk(self, talk: Talk) -> None:
        await asyncio.sleep(talk.chance.random() * self.rhythm.seconds / 3)
        last = False
        while not last:
            last = self._over.is_set()  # one more turn after the last flip
            await self._write(talk)
            if talk.chance.random() < 0.8:
                await self._answer(talk)
            if talk.chance.random() < 0.25:
                await self._close(talk)
            await asyncio.sleep(self.rhythm.pause * (0.5 + talk.chance.random()))

    async def _write(self, talk: Talk) -> None:
        """A text or a file reaches the router, which answers 200."""
        told: Item = {"phone_number_id": self.line.number, "from": talk.wa_id}
        made = paper(talk.chance) if talk.chance.random() < 0.4 else None
        if made is None:
            told["text"] = f"pergunta {talk.wa_id} {len(talk.wamids)}"
        else:
            told |= {"message": {"type": made.kind}, "media": made.told()}
            if made.kind != "audio" and talk.chance.random() < 0.5:
                told["media"]["caption"] = f"legenda {talk.wa_id} {len(talk.wamids)}"
        answer = await self.out.sandbox.control("patient", told)
        assert answer["status"] in (200, None), answer
        if (
            answer["status"] is None
        ):  # its connection ended as it was used again: the sandbox comes back, as Meta does
            await asyncio.sleep(AGAIN_SECONDS)
        talk.wamids.append(answer["wamid"])
        if made is not None:
            assert answer["sha256"] == made.sha256
            talk.papers[answer["wamid"]] = made

    async def _answer(self, talk: Talk) -> None:
        words = f"resposta {talk.wa_id} {len(talk.answers)}"
        said, made = self._content(talk, words)
        body = {"channel": self.line.slug, "to": talk.wa_id, **said}
        deadline = asyncio.get_running_loop().time() + EARLY_SECONDS
        while True:
            status, answer = await self.out.send(body, f"{words} {sum(talk.refused.values())}")
            if status == 202:
                break
            talk.refused[answer["code"]] += 1
            assert answer["code"] in {"window_closed", "no_room_on_path", "unsupported"}, answer
            if answer["code"] != "window_closed":
                return
            # The first message was accepted and is not read yet: nobody would answer it so soon.
            assert asyncio.get_running_loop().time() < deadline, answer
            await asyncio.sleep(0.3)
        told = made.sha256 if made is not None and made.kind == "audio" else words
        talk.answers.append(told)
        talk.last = answer["id"]
        if made is not None:
            talk.sent[told] = made.sha256

    def _content(self, talk: Talk, words: str) -> tuple[Item, Paper | None]:
        """What is said, as the API takes it, and its file."""
        draw = talk.chance.random()
        if draw < 0.55:
            return {"text": words}, None
        if draw < 0.65:
            parts = [{"type": "body", "parameters": [{"type": "text", "text": words}]}]
            return {"template": {"name": TEMPLATE, "language": {"code": "pt_BR"}, "components": parts}}, None
        made = talk.chance.choice(self._uploads)
        more = {"voice": True} if made.kind == "audio" else {"caption": words}
        return {"media": {"media_id": made.upload, **more}}, made

    async def _close(self, talk: Talk) -> None:
        """Once all that was said is through, whoever has the conversation ends it; the next message opens one where the
        flag then says."""
        if talk.last:
            await self.out.reaches(talk.last, *THROUGH, seconds=LATE_SECONDS)
        status, found = await self.out.api(
            "GET", f"/v1/conversations?channel={self.line.slug}&state=open&q={talk.wa_id}"
        )
        assert status == 200, found
        for one in found["items"]:
            if one["path"] == "native":
                await self.out.api("POST", f"/v1/conversations/{one['id']}/close")
                continue
            status, _ = await self.out.sandbox.call("POST", "/control/close", {"wa_id": talk.wa_id})
            if status == 200:  # otherwise its room is closed, or not there yet
                await eventually(partial(self._left, one["id"]), "the end of a room", LATE_SECONDS)

    async def _left(self, conversation_id: str) -> bool:
        """The conversation has ended with its room, or had been moved away from it."""
        _, now = await self.out.api("GET", f"/v1/conversations/{conversation_id}")
        return bool(now["state"] == "closed" or now["path"] == "native")

    # Rocket.Chat's agents -----------------------------------------------------------------------------------------

    async def _agents(self) -> None:
        """They read what comes into their rooms, and answer some of it a little later."""
        chance = random.Random(self.chance.random())
        seen = 0
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                for row in await self.out.sandbox.record("rocketchat", seen):
                    seen = row["seq"]
                    if row["by"] == "visitor" and chance.random() < 0.4:
                        made = paper(chance) if chance.random() < 0.3 else None
                        group.create_task(self._say(row, made, 0.2 + chance.random()))
                await asyncio.sleep(0.5)

    async def _say(self, row: Item, made: Paper | None, delay: float) -> None:
        await asyncio.sleep(delay)
        told: Item = {"rid": row["rid"], "text": f"recepção {row['wa_id']} {row['seq']}"}
        if made is not None:
            file = made.told()
            told["file"] = {**file, "name": file.pop("filename")}
        since = await self.out.sandbox.record("rocketchat", row["seq"])
        if any(one["rid"] == row["rid"] and one["by"] == "close" for one in since):
            return  # Rocket.Chat has no way to write into a closed room
        answer = await self.out.sandbox.control("agent", told)
        self.said[answer["_id"]] = made

    # the operator -------------------------------------------------------------------------------------------------

    async def _flip(self) -> None:
        """There and back from the start; every third takes what is open along. After each, two go the other way."""
        stages = ("native", "rocketchat")
        async with asyncio.TaskGroup() as group:
            while True:
                turn = len(self.flips)
                now = ["--now"] if turn % 3 == 1 else []
                self.flips.append(" ".join([stages[turn % 2], *now]))
                told = await asyncio.to_thread(self.out.scene.flag, stages[turn % 2], *now)
                assert told["laggards"] == []
                group.create_task(self._move(stages[(turn + 1) % 2]))
                if await self._waited(self.rhythm.flip):
                    return

    async def _waited(self, seconds: float) -> bool:
        """True: the traffic is over."""
        try:
            async with asyncio.timeout(seconds):
                return await self._over.wait()
        except TimeoutError:
            return False

    async def _move(self, path: str) -> None:
        """Two open conversations go to this path."""
        status, found = await self.out.api(
            "GET", f"/v1/conversations?channel={self.line.slug}&state=open&limit=200"
        )
        assert status == 200, found
        here = [one["id"] for one in found["items"] if one["path"] != path]
        for one in self.chance.sample(here, min(2, len(here))):
            try:
                await self.out.figueira("move", one, path, "--reason", "soak")
                self.moves += 1
            except AssertionError as said:
                if "conversation_closed" not in str(said):
                    raise
