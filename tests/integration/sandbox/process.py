"""The sandbox as tests meet it: what they send it and what its callbacks get."""

import asyncio
import io
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

SECRET = "segredo-do-app"
NUMBER = "106540352242922"
WA_ID = "5511900000001"
SEND = {"messaging_product": "whatsapp", "to": WA_ID, "type": "text", "text": {"body": "Olá, tudo bem?"}}
APP_PATH = "/rocketchat/api/apps/public/app-1/webhook"
BEARER = {"Authorization": "Bearer token"}
API = {"X-Auth-Token": "t", "X-User-Id": "figueiraBotAgnt23"}


@dataclass
class Receiver:
    """What a callback gets, and what it answers: `answers` first, then 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(text=request.query["hub.challenge"])
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    def values(self) -> list[dict[str, Any]]:
        return [json.loads(body)["entry"][0]["changes"][0]["value"] for _, body in self.got]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@dataclass
class Client:
    base: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def control(self, path: str, body: object) -> Any:
        status, answer = await self.call("POST", "/control/" + path, body)
        assert status == 200, answer
        return answer

    async def record(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        _, answer = await self.call("GET", f"/control/record/{kind}?since={since}")
        items: list[dict[str, Any]] = answer["items"]
        return items

    async def send(self, **extra: object) -> tuple[int, Any]:
        return await self.call("POST", f"/graph/v23.0/{NUMBER}/messages", SEND | extra, **BEARER)

    async def rest(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await self.call(method, "/rocketchat/api/v1/" + path, body, **API)

    async def fetch(self, url: str, **headers: str) -> tuple[int, bytes]:
        """GET an address, or a path of the sandbox, as bytes."""
        url = url if url.startswith("http") else self.base + url
        async with self.session.get(url, headers=headers) as response:
            return response.status, await response.read()

    async def upload(
        self, path: str, data: bytes, mime: str, fields: dict[str, str] | None = None, /, **headers: str
    ) -> tuple[int, Any]:
        """POST one file, multipart."""
        form = aiohttp.FormData(fields or {}, quote_fields=False)
        form.add_field("file", io.BytesIO(data), filename="foto 1.jpg", content_type=mime)
        async with self.session.post(self.base + path, data=form, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def forward(self, text: str = "oi", wamid: str = "wamid.1", wa_id: str = WA_ID) -> tuple[int, Any]:
        return await self.call("POST", APP_PATH, inbound(text, wamid, wa_id))

    async def fault(self, fault: str, target: str, **extra: object) -> None:
        await self.control("faults", [{"target": target, "fault": fault, **extra}])


def inbound(text: str, wamid: str, wa_id: str = WA_ID) -> dict[str, Any]:
    message = {"from": wa_id, "id": wamid, "timestamp": "1762000000", "type": "text", "text": {"body": text}}
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"phone_number_id": NUMBER},
        "contacts": [{"profile": {"name": "Mariana"}, "wa_id": wa_id}],
        "messages": [message],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


async def until(found: Any, want: int, seconds: float = 5) -> None:
    """Wait until the list has `want` items; fail with what it has."""
    for _ in range(int(seconds / 0.02)):
        if len(found) >= want:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(found)} of {want}: {found}")
