"""Rocket.Chat's webhook loses events for ever; afterwards the router's history is Rocket.Chat's all the same."""

import asyncio
import base64
import hashlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.acceptance.outside import Outside, eventually, outside
from tests.acceptance.scene import BOT, FULL, RC_TOKEN, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-sweep")]
SOL = Line("sol", "100200300")
PATIENTS = 100 if FULL else 30
TURNS = 4 if FULL else 2
SHARE = 0.2
IMAGE = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
REST = {"X-User-Id": BOT, "X-Auth-Token": RC_TOKEN}

Item = dict[str, Any]


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    # A fetch whose worker was killed is taken up again when its lease ends: in test time.
    policy = {"transfer_seconds": 6, **getattr(request, "param", {})}
    with staged([SOL], delivery=policy) as scene:
        yield scene


@pytest.fixture
async def out(scene: Scene) -> AsyncIterator[Outside]:
    async with outside(scene) as out:
        yield out


class Clinic:
    """Patients and agents of one channel, over the sandbox's controls; `said` counts what patients wrote."""

    def __init__(self, out: Outside) -> None:
        self.out = out
        self.said = 0

    async def loses(self, share: float, **more: object) -> None:
        """Rocket.Chat's webhook loses a share of its events, always the same ones of an order."""
        await self.out.sandbox.fault("drop", "rocketchat.webhook", share=share, seed=7, **more)

    async def writes(self, wa_id: str, text: str) -> None:
        await self._patient(wa_id, text=text)

    async def shows(self, wa_id: str, caption: str | None) -> None:
        """An image, each with bytes of its own."""
        data = IMAGE + f"{wa_id} {self.said}".encode()
        media = {"content_base64": base64.b64encode(data).decode(), "mime": "image/jpeg"}
        told = media | ({"caption": caption} if caption else {})
        await self._patient(wa_id, message={"type": "image"}, media=told)

    async def answers(self, wa_id: str, text: str) -> str:
        """An agent, in the newest room of the patient; waits for there being one. Its `_id`."""

        async def act() -> Item | None:
            status, answer = await self.out.sandbox.call(
                "POST", "/control/agent", {"wa_id": wa_id, "text": text}
            )
            return answer if status == 200 else None

        answer: Item = await eventually(act, "a room")
        return str(answer["_id"])

    async def hands(self, wa_id: str, caption: str) -> None:
        """An agent sends a file."""
        data = base64.b64encode(PDF + f"{wa_id} {caption}".encode()).decode()
        file = {"content_base64": data, "mime": "application/pdf", "name": f"guia {wa_id}.pdf"}
        await self.out.sandbox.control("agent", {"wa_id": wa_id, "text": caption, "file": file})

    async def edits(self, message_id: str, text: str) -> None:
        await self.out.sandbox.control("edit", {"_id": message_id, "text": text})

    async def closes(self, wa_id: str) -> None:
        await self.out.sandbox.call("POST", "/control/close", {"wa_id": wa_id})  # 400: our API was first

    async def ends(self, wa_id: str) -> None:
        """The clinic's own software closes the patient's conversation."""
        for one in await self.out.all("/v1/conversations?channel=sol&state=open"):
            if one["contact_name"] == _name(wa_id):
                await self.out.api("POST", f"/v1/conversations/{one['id']}/close")

    async def notifies(self, wa_id: str, text: str) -> None:
        """The clinic's own software writes; refused while the patient has no room."""
        status, answer = await self.out.send({"channel": "sol", "to": wa_id, "text": text}, text)
        assert status == 202 or answer["code"] == "no_room_on_path", answer

    async def _patient(self, wa_id: str, **what: object) -> None:
        self.said += 1
        told = {"phone_number_id": SOL.number, "from": wa_id, "name": _name(wa_id)}
        await self.out.sandbox.control("patient", {**told, "wait": False, **what})


def _name(wa_id: str) -> str:
    return f"Paciente {wa_id[-3:]}"


async def talk(clinic: Clinic, number: int) -> None:
    """What one patient and the agents say; the same for a number, whatever the others do."""
    wa_id, draw = f"5511980000{number:03d}", random.Random(number)
    for turn in range(TURNS):
        await asyncio.sleep(draw.random())
        await clinic.writes(wa_id, f"pergunta {turn} de {number}")
        first = await clinic.answers(wa_id, f"resposta {turn} para {number}")
        await clinic.shows(wa_id, f"foto {turn}" if draw.random() < 0.5 else None)
        await clinic.writes(wa_id, "ok")
        if draw.random() < 0.5:
            await clinic.edits(first, f"resposta {turn} para {number}, corrigida")
        await clinic.answers(wa_id, "ok")
        await clinic.writes(wa_id, "ok")  # the same again is another message
        await asyncio.sleep(draw.random() / 2)
        if draw.random() < 0.4:
            await clinic.hands(wa_id, f"guia {turn}")
        if draw.random() < 0.4:
            await clinic.notifies(wa_id, f"lembrete {turn} para {number}")
        if draw.random() < 0.3:
            await clinic.edits(first, f"resposta {turn} para {number}, e mais uma vez")
        if (ending := draw.random()) < 0.4:
            await clinic.closes(wa_id)
        elif ending < 0.6:
            await clinic.ends(wa_id)


class Compared:
    """Rocket.Chat's own history, and ours."""

    def __init__(self, rooms: dict[str, list[Item]], rows: list[Item], wa_ids: dict[str, str]) -> None:
        self.rows = rows
        self.said = {one["_id"]: one for room in rooms.values() for one in room if not one["closing"]}
        self.patient = {
            one["_id"]: wa_ids[rid] for rid, room in rooms.items() for one in room if one["_id"] in self.said
        }
        self.known = {row["source_id"]: row for row in rows}

    @property
    def lost(self) -> set[str]:
        """What the clinic's side said that we have no row of."""
        return {key for key, one in self.said.items() if one["by_agent"]} - self.known.keys()

    def check(self) -> None:
        """One row for each message, with its newest words, on its side, among the messages of its patient."""
        nameless = [row for row in self.rows if row["source_id"] is None]
        assert not nameless, "rows without Rocket.Chat's _id"
        twice = {key: n for key, n in Counter(row["source_id"] for row in self.rows).items() if n > 1}
        assert not twice
        missing = [self.said[key] for key in self.said.keys() - self.known.keys()]
        strange = [self.known[key] for key in self.known.keys() - self.said.keys()]
        assert (missing, strange) == ([], [])
        assert {key: _ours(row) for key, row in self.known.items()} == {
            key: _theirs(one) for key, one in self.said.items()
        }
        patients: dict[str, set[str]] = {}
        for key, row in self.known.items():
            patients.setdefault(row["conversation_id"], set()).add(self.patient[key])
        assert all(len(of) == 1 for of in patients.values()), "a conversation of two patients"


def _ours(row: Item) -> tuple[str, str, int]:
    return row["direction"], row["text"] or "", len(row["media"])


def _theirs(one: Item) -> tuple[str, str, int]:
    return "outbound" if one["by_agent"] else "inbound", one["msg"], int(one["file"] is not None)


async def compared(out: Outside) -> Compared:
    _, rooms = await out.sandbox.call("GET", "/control/rocketchat/history")
    wa_ids = {row["rid"]: row["wa_id"] for row in await out.sandbox.record("rocketchat")}

    async def said(conversation: Item) -> list[Item]:
        found = await out.all(f"/v1/conversations/{conversation['id']}/messages")
        return [{**one, "conversation_id": conversation["id"]} for one in found]

    rows = await asyncio.gather(*map(said, await out.conversations("sol")))
    return Compared(rooms, [one for each in rows for one in each if not _refused(one)], wa_ids)


def _refused(row: Item) -> bool:
    """A send of ours that Rocket.Chat would not take: its room was closed, and the event that says so lost."""
    return (row["author"], row["status"], row["error_code"]) == ("system", "failed", "room-closed")


async def check_files(out: Outside, both: Compared) -> int:
    """Every file is here with the bytes it has there; how many they are. Compared by patient, side and words: which of
    two images without any is which, Rocket.Chat does not say."""
    access = {"Authorization": f"Bearer {out.scene.key}"}

    async def ours(row: Item) -> str:
        (kept,) = row["media"]
        path = f"/v1/media/{kept['id']}"

        async def stored() -> bool:  # its fetch may have been on its way when the worker was killed
            return bool((await out.api("GET", path))[1]["state"] == "stored")

        await eventually(stored, f"the file {kept}")
        return _digest(await out.sandbox.fetch(f"{out.scene.url}{path}/content", **access))

    async def theirs(file: Item) -> str:
        return _digest(await out.sandbox.fetch(f"/control/rocketchat/upload/{file['_id']}"))

    keys = [key for key, one in both.said.items() if one["file"]]
    found = await asyncio.gather(*(ours(both.known[key]) for key in keys))
    wanted = await asyncio.gather(*(theirs(both.said[key]["file"]) for key in keys))
    about = [(both.patient[key], _theirs(both.said[key])) for key in keys]
    assert Counter(zip(about, found, strict=True)) == Counter(zip(about, wanted, strict=True))
    return len(keys)


def _digest(answer: tuple[int, bytes]) -> str:
    status, data = answer
    assert status == 200
    return hashlib.sha256(data).hexdigest()


async def test_reconcile_finds_what_the_webhook_lost_amid_everything(out: Outside) -> None:
    clinic = Clinic(out)
    await clinic.loses(SHARE)
    talks = asyncio.gather(*(talk(clinic, number) for number in range(PATIENTS)))
    await asyncio.sleep(1.5)
    await asyncio.to_thread(out.scene.restart, "worker")
    await talks
    await out.quiet()

    before = await compared(out)
    dropped = [row for row in await out.sandbox.record("webhooks") if row.get("dropped")]
    assert len(dropped) > PATIENTS
    assert len(before.lost) > PATIENTS / 10
    closed = [row for row in await out.sandbox.record("rocketchat") if row["by"] == "close"]
    ended = {one["closed_by"] for one in await out.conversations("sol")}
    assert len(closed) > PATIENTS / 3
    assert {"api", "rocketchat"} <= ended

    found = await out.figueira("reconcile", "--since", "1h")
    assert (found["complete"], found["unplaced"], found["added"]) == (True, 0, len(before.lost))
    both = await compared(out)
    both.check()
    inbound = [row for row in both.rows if row["direction"] == "inbound"]
    assert len(inbound) == len({row["external_id"] for row in inbound} - {None}) == clinic.said
    assert await check_files(out, both) > PATIENTS * TURNS

    again = await out.figueira("reconcile", "--since", "1h")
    assert (again["complete"], again["added"], again["rooms"]) == (True, 0, found["rooms"])
    after = await compared(out)
    after.check()
    assert {row["id"] for row in after.rows} == {row["id"] for row in both.rows}


@pytest.mark.parametrize("scene", [{"sweep_seconds": 2}], indirect=True)
async def test_the_sweep_comes_by_itself_and_bears_a_rate_limit(out: Outside) -> None:
    clinic = Clinic(out)
    people = [f"5511980000{number:03d}" for number in range(12)]
    for wa_id in people:
        await clinic.writes(wa_id, "bom dia")
        await clinic.answers(wa_id, "bom dia, em que ajudo?")
    await out.quiet()
    await clinic.loses(1.0)
    lost = await clinic.answers(people[0], "a clínica fecha às 18 h")
    assert (await compared(out)).lost == {lost}

    async def found() -> bool:
        return not (await compared(out)).lost

    await eventually(found, "the sweep", 30)
    (await compared(out)).check()

    await asyncio.to_thread(out.scene.processes["worker"].end, signal.SIGTERM)  # the sweep of a person alone
    for wa_id in people:
        await clinic.answers(wa_id, "até logo")
    await asyncio.to_thread(limit, out.scene, 600)
    for _ in range(10):  # another program of this user was here
        await out.sandbox.call("GET", "/rocketchat/api/v1/livechat/rooms", **REST)
    stopped = await asyncio.to_thread(out.scene.figueira, "reconcile", "--since", "1h", code=1)
    assert (stopped["complete"], stopped["reason"], stopped["added"]) == (False, "error-too-many-requests", 0)

    await asyncio.to_thread(limit, out.scene, 3)
    swept = await out.figueira("reconcile", "--since", "1h")  # more histories than a window has calls
    assert (swept["complete"], swept["rooms"], swept["added"]) == (True, 12, 12)
    refused = [row for row in await out.sandbox.record("rest") if row["answered"] == 429]
    assert {row["method"] for row in refused} == {"livechat/rooms"}, (
        "once its headers told it, no call is wasted on it"
    )
    (await compared(out)).check()


def limit(scene: Scene, seconds: float) -> None:
    """Ten calls of a kind in so many seconds, as Rocket.Chat is installed with its minute."""
    scene.configure(rocketchat={"rate_limit": {"calls": 10, "seconds": seconds}})
