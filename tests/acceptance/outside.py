"""What the outside does to a running scene: Meta posts, the clinic's software calls, the judge is asked."""

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import aiohttp

from tests.acceptance.scene import APP_SECRET, Line, Scene
from tests.integration.sandbox.process import Client

_wamids = itertools.count(1)


def message(sender: str, text: str, wamid: str | None = None) -> dict[str, Any]:
    """A text in Meta's shape."""
    return {
        "from": sender, "id": wamid or f"wamid.ACEITE{next(_wamids):08d}", "timestamp": str(int(time.time())),
        "type": "text", "text": {"body": text},
    }  # fmt: skip


def envelope(
    number: str, *messages: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One event of Meta with these messages, and a contact for each sender."""
    senders = dict.fromkeys(str(one["from"]) for one in messages)
    contacts = [
        {"profile": {"name": (names or {}).get(wa, f"Paciente {wa[-2:]}")}, "wa_id": wa} for wa in senders
    ]
    metadata = {"display_phone_number": "551130000001", "phone_number_id": number or "106540352242922"}
    value = {
        "messaging_product": "whatsapp",
        "metadata": metadata,
        "contacts": contacts,
        "messages": list(messages),
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def as_meta(value: object) -> bytes:
    r"""As Meta writes: ASCII, \/ for every slash."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def signature(body: bytes, secret: str = APP_SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Outside:
    """HTTP from without; `sandbox` asks the judge."""

    def __init__(self, scene: Scene, session: aiohttp.ClientSession) -> None:
        self.scene = scene
        self.sandbox = Client(scene.sandbox, session)
        self.written: set[str] = set()  # who has written to us
        self._session = session

    async def figueira(self, *argv: str) -> Any:
        """A command with --json, while the rest goes on."""
        return await asyncio.to_thread(self.scene.figueira, *argv)

    # Meta ---------------------------------------------------------------------------------------------------

    async def post(self, slug: str, body: bytes, **headers: str) -> int | None:
        """One signed webhook; the status, None without an answer."""
        given = {"Content-Type": "application/json", "X-Hub-Signature-256": signature(body), **headers}
        try:
            async with self._session.post(
                f"{self.scene.url}/webhooks/{slug}", data=body, headers=given
            ) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def deliver(self, slug: str, body: bytes) -> None:
        """Post until it is answered 200, as Meta does."""
        for _ in range(1200):
            if await self.post(slug, body) == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("never answered 200")

    async def say(self, line: Line, sender: str, text: str, wamid: str | None = None) -> str:
        """A customer's text, delivered; its wamid."""
        said = message(sender, text, wamid)
        await self.deliver(line.slug, as_meta(envelope(line.number, said)))
        return str(said["id"])

    # the clinic's software ------------------------------------------------------------------------------------

    async def api(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        given = {"Authorization": f"Bearer {self.scene.key}", **headers}
        async with self._session.request(method, self.scene.url + path, json=body, headers=given) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(self, body: Mapping[str, Any], idempotency_key: str) -> tuple[int, Any]:
        """POST /v1/messages until it is answered, each time with the same key and bytes."""
        for _ in range(1200):
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                status, answer = await self.api(
                    "POST", "/v1/messages", body, **{"Idempotency-Key": idempotency_key}
                )
                if status < 500:
                    return status, answer
            await asyncio.sleep(0.05)
        raise AssertionError("POST /v1/messages was never answered")

    async def upload(self, data: bytes, mime: str, name: str) -> tuple[int, Any]:
        """POST /v1/media with the bytes as they are."""
        given = {"Authorization": f"Bearer {self.scene.key}", "Content-Type": mime}
        url = f"{self.scene.url}/v1/media?filename={name}"
        async with self._session.post(url, data=data, headers=given) as answer:
            return answer.status, await answer.json(content_type=None)

    async def content(self, media_id: str) -> tuple[int, bytes]:
        """GET /v1/media/{id}/content."""
        given = {"Authorization": f"Bearer {self.scene.key}"}
        async with self._session.get(
            f"{self.scene.url}/v1/media/{media_id}/content", headers=given
        ) as answer:
            return answer.status, await answer.read()

    async def all(self, path: str) -> list[dict[str, Any]]:
        """Every page of a listing."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            joint = "&" if "?" in path else "?"
            status, page = await self.api("GET", f"{path}{joint}limit=200{cursor}")
            assert status == 200, page
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def conversations(self, slug: str) -> list[dict[str, Any]]:
        return await self.all(f"/v1/conversations?channel={slug}")

    async def messages(self, slug: str) -> list[dict[str, Any]]:
        """Every message of a channel, conversation after conversation, oldest first in each."""
        found = await self.conversations(slug)
        return [one for each in found for one in await self.all(f"/v1/conversations/{each['id']}/messages")]

    async def conversation_of(self, slug: str, wamid: str) -> dict[str, Any]:
        """The conversation a customer's message opened; waits for it."""

        async def found() -> dict[str, Any] | None:
            for each in await self.conversations(slug):
                said = await self.all(f"/v1/conversations/{each['id']}/messages")
                if any(one["external_id"] == wamid for one in said):
                    return each
            return None

        conversation: dict[str, Any] = await eventually(found, "the conversation")
        return conversation

    async def status_of(self, message_id: str) -> dict[str, Any]:
        status, answer = await self.api("GET", f"/v1/messages/{message_id}")
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    async def reaches(self, message_id: str, *wanted: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until a message has one of the statuses."""

        async def found() -> dict[str, Any] | None:
            now = await self.status_of(message_id)
            return now if now["status"] in wanted else None

        reached: dict[str, Any] = await eventually(found, f"status {wanted}", seconds)
        return reached

    # the judge ------------------------------------------------------------------------------------------------

    async def forwarded(self, slug: str) -> list[str]:
        """The wamids Rocket.Chat's app acted on, in order, repeats included."""
        rows = await self.sandbox.record("forwards")
        return [
            wamid for row in rows if row["app"] == f"{slug}-app" and row["acted"] for wamid in row["wamids"]
        ]

    async def sent(self, by: str | None = None) -> list[dict[str, Any]]:
        """What customers got, in order."""
        rows = await self.sandbox.record("graph")
        return [row for row in rows if by is None or row["by"] == by]

    async def quiet(self, seconds: float = 60) -> None:
        """Wait until the record stands still, nothing waits in the router, and the ledger balances."""
        deadline = time.monotonic() + seconds
        seen = -1
        while True:
            _, counts = await self.sandbox.call("GET", "/control/record/counts")
            if counts["last_seq"] == seen:
                told = await self.figueira("doctor", "--ledger")
                assert told["balanced"], told
                if not told["waiting"]:
                    return
            assert time.monotonic() < deadline, await self.figueira("doctor", "--ledger")
            seen = counts["last_seq"]
            await asyncio.sleep(0.7)

    async def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's series that have these `key="value"` labels, on the scene's port."""
        async with self._session.get(f"{self.scene.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        rows = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows if all(label in row for label in labels))


@contextlib.asynccontextmanager
async def outside(scene: Scene) -> AsyncIterator[Outside]:
    timeout = aiohttp.ClientTimeout(total=15)
    # A connection for each request: one kept alive may be closed by the server just as it is used again.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Outside(scene, session)


async def eventually(ask: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Ask until the answer is true; that answer."""
    deadline = time.monotonic() + seconds
    while True:
        found = await ask()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.2)


def in_order(found: Iterable[str], posted: Iterable[str]) -> bool:
    """Whether what was posted stands in this order among the first appearances of what was found."""
    wanted = list(posted)
    known = set(wanted)
    return [one for one in dict.fromkeys(found) if one in known] == wanted


def doubled(found: Iterable[str]) -> dict[str, int]:
    return {one: count for one, count in Counter(found).items() if count > 1}
