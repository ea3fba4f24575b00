"""Who answers in the demo while no person does: the native path's attendant, and the end of talks on both paths.

Rocket.Chat's agents answer by themselves (``agents`` in the sandbox's settings). On the native path this one reads
and answers over the HTTP interface, as the clinic's own programs do. Talks that have run their course are closed, so
that new ones begin and a flip of the flag is seen at work.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from deploy.sandbox import keepsakes
from deploy.sandbox.replies import reply

EVERY_SECONDS = 1.0
THINKING = timedelta(seconds=0.5)
"""An attendant reads before they answer."""
LENGTH = timedelta(seconds=25)
SILENCE = timedelta(seconds=5)
"""A talk this long, whose last word was the clinic's and this long ago, is over."""
OTHER_EVERY = 4
"""One of so many answers over HTTP is a file, a template or buttons; one of so many rooms gets a file."""
KEPT_ROWS = 20_000
"""Rows of the sandbox's record; more are forgotten, so that a demo may run for days."""

Item = dict[str, Any]

TEMPLATE: Item = {
    "name": "lembrete_consulta",
    "language": {"code": "pt_BR"},
    "components": [{"type": "body", "parameters": [{"type": "text", "text": "quinta-feira, 14h30"}]}],
}
BUTTONS: Item = {
    "type": "button",
    "body": {"text": "Posso confirmar sua consulta de quinta às 14h30?"},
    "action": {
        "buttons": [
            {"type": "reply", "reply": {"id": "confirmo", "title": "Confirmo"}},
            {"type": "reply", "reply": {"id": "quero-remarcar", "title": "Quero remarcar"}},
        ]
    },
}


@dataclass
class Room:
    """An open room of the stand-in Rocket.Chat, as its record tells."""

    opened_at: datetime
    last_at: datetime
    answered: bool = False
    gets_file: bool = False


class Attendant:
    """Answers native conversations and ends talks, on one channel.

    Args:
        session: with the API key as its default Authorization header.
        api: base URL of the router. Needs conversations:read, conversations:write and, for files, messages:write.
        control: base URL of the sandbox.
        channel: the slug.
    """

    def __init__(self, session: aiohttp.ClientSession, api: str, control: str, channel: str) -> None:
        self._session = session
        self._api = api
        self._control = control
        self._channel = channel
        self._rooms: dict[str, Room] = {}
        self._seen = 0
        self._forgotten = 0
        self._met = 0
        self._answers = 0
        self._leaflet: str | None = None

    async def work(self) -> None:
        """Until cancelled. A router or sandbox that does not answer is asked again."""
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                await self._native()
                await self._in_rocketchat()
            await asyncio.sleep(EVERY_SECONDS)

    async def close_leftovers(self) -> None:
        """What an earlier run left open: its Rocket.Chat is gone with its rooms."""
        async for one in self._open():
            await self._post(f"{self._api}/v1/conversations/{one['id']}/close")

    async def close_rooms(self) -> None:
        """Close every room, as agents do at the end of the day."""
        await self._learn()
        for rid in list(self._rooms):
            await self._post(f"{self._control}/control/close", {"rid": rid})

    async def _native(self) -> None:
        now = datetime.now(UTC)
        async for one in self._open(path="native"):
            opened_at, last_at = map(datetime.fromisoformat, (one["opened_at"], one["last_at"]))
            url = f"{self._api}/v1/conversations/{one['id']}"
            if one["last_direction"] == "inbound" and now - last_at >= THINKING:
                await self._post(f"{url}/read", {"typing": True})
                self._answers += 1
                answer = await self._answer(self._answers, one["last_text"] or "", int(last_at.timestamp()))
                # One answer to one message, also when this post is repeated after a lost answer.
                await self._post(f"{url}/messages", answer, {"Idempotency-Key": one["last_at"]})
            elif one["last_direction"] == "outbound" and _over(opened_at, last_at, now):
                await self._post(f"{url}/close")

    async def _answer(self, number: int, text: str, turn: int) -> Item:
        """Words; now and then the leaflet, the reminder (a template), buttons."""
        kind = number // OTHER_EVERY % 3 if number % OTHER_EVERY == 2 else None
        if kind == 0 and (leaflet := await self._upload()):
            return {
                "media": {"media_id": leaflet, "caption": "Aqui está o preparo. Qualquer dúvida me chama!"}
            }
        if kind == 1:
            return {"template": TEMPLATE}
        return {"interactive": BUTTONS} if kind == 2 else {"text": reply(text, turn)}

    async def _upload(self) -> str | None:
        """The leaflet's media id, uploaded once; None for a key that may not."""
        if self._leaflet is None:
            url = f"{self._api}/v1/media?filename=preparo.pdf"
            headers = {"Content-Type": "application/pdf"}
            async with self._session.post(url, data=_leaflet(), headers=headers) as answer:
                if answer.ok:
                    self._leaflet = str((await answer.json())["id"])
        return self._leaflet

    async def _in_rocketchat(self) -> None:
        await self._learn()
        now = datetime.now(UTC)
        for rid, room in list(self._rooms.items()):
            if room.answered and room.gets_file:
                room.gets_file = False
                file = keepsakes.told(_leaflet(), "application/pdf", name="preparo.pdf")
                body = {"rid": rid, "text": "Segue o preparo para a sua sessão", "file": file}
                await self._post(f"{self._control}/control/agent", body)
            if room.answered and _over(room.opened_at, room.last_at, now):
                await self._post(f"{self._control}/control/close", {"rid": rid})

    async def _learn(self) -> None:
        told = await self._get(f"{self._control}/control/record/rocketchat", since=self._seen)
        for item in told["items"]:
            at = datetime.fromisoformat(item["at"])
            if item["by"] == "close":
                self._rooms.pop(item["rid"], None)
                continue
            if item["rid"] not in self._rooms:
                self._met += 1
                self._rooms[item["rid"]] = Room(at, at, gets_file=self._met % OTHER_EVERY == 1)
            room = self._rooms[item["rid"]]
            room.last_at, room.answered = at, item["by"] != "visitor"
        self._seen = told["last_seq"]
        if self._seen - self._forgotten > KEPT_ROWS:
            await self._session.delete(f"{self._control}/control/record")
            self._forgotten = self._seen

    async def _open(self, **query: str) -> AsyncIterator[Item]:
        """Open conversations, the last active first, page after page."""
        asked = {"channel": self._channel, "state": "open", "limit": "200", **query}
        while True:
            page = await self._get(f"{self._api}/v1/conversations", **asked)
            for one in page["items"]:
                yield one
            if page["next_cursor"] is None:
                return
            asked["cursor"] = page["next_cursor"]

    async def _get(self, url: str, **query: object) -> Item:
        async with self._session.get(
            url, params={name: str(value) for name, value in query.items()}
        ) as answer:
            answer.raise_for_status()
            found: Item = await answer.json()
            return found

    async def _post(self, url: str, body: Item | None = None, headers: dict[str, str] | None = None) -> None:
        """A refusal (closed meanwhile, answered already) needs nothing done."""
        async with self._session.post(url, json=body or {}, headers=headers):
            return


def _leaflet() -> bytes:
    return keepsakes.pdf(
        "Clínica Sol", "Preparo para a sua sessão", "Venha sem maquiagem e traga seus exames."
    )


def _over(opened_at: datetime, last_at: datetime, now: datetime) -> bool:
    return now - opened_at >= LENGTH and now - last_at >= SILENCE
