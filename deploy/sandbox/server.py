"""The sandbox's server: both stand-ins, and ``/control`` to steer and question them."""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Faults, Rule
from deploy.sandbox.graph import Graph, new_wamid
from deploy.sandbox.posting import ONCE, Post, Poster, signature
from deploy.sandbox.record import KINDS, Record, Row, encode
from deploy.sandbox.rest import Rest
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.workspace import Room, Workspace

_LARGEST_BODY = 64 * 1024 * 1024
_LONGEST_LINE = 65536


class Sandbox:
    """Both stand-ins on one application; `log` is the record's JSON-lines file."""

    def __init__(self, log: Path | None = None) -> None:
        self.config = Configuration()
        self.record = Record(log)
        self.faults = Faults()
        self.workspace = Workspace()
        self.poster = Poster(self.record)
        self.graph = Graph(self.config, self.record, self.faults, self.poster)
        self.chat = RocketChat(self.config, self.record, self.faults, self.poster, self.graph, self.workspace)
        self.rest = Rest(self.config, self.record, self.faults, self.workspace, self.chat)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard])
        app.add_routes(
            [
                web.post("/graph/{version}/{phone_number_id}/messages", self.graph.messages),
                web.route("*", "/rocketchat/api/apps/public/{app}/{path:.*}", self.chat.app_endpoint),
                web.route("*", "/rocketchat/api/v1/{method:.+}", self.rest.call),
                web.post("/control/configure", self._configure),
                web.post("/control/reset", self._reset),
                web.post("/control/patient", self._patient),
                web.post("/control/post", self._post),
                web.post("/control/verify", self._verify),
                web.post("/control/agent", self._agent),
                web.post("/control/close", self._close),
                web.post("/control/faults", self._set_faults),
                web.get("/control/faults", self._get_faults),
                web.delete("/control/faults", self._delete_faults),
                web.get("/control/record", self._whole_record),
                web.delete("/control/record", self._delete_record),
                web.get("/control/record/counts", self._counts),
                web.get("/control/record/{kind}", self._one_kind),
            ]
        )
        app.on_cleanup.append(self._cleanup)
        return app

    async def start(self, port: int) -> tuple[web.AppRunner, int]:
        """Serve on 127.0.0.1; returns the runner (``await runner.cleanup()`` stops it) and the port taken."""
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=0.2,
            # The record keeps the bytes as they came; decompressing would change them.
            auto_decompress=False,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        return runner, int(runner.addresses[0][1])

    async def _cleanup(self, _: web.Application) -> None:
        await self.poster.close()
        self.record.close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Control: wrong input is 400. Stand-ins: a fault of our own is a row, so that tests can see it."""
        try:
            return await handler(request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if request.path.startswith("/control/"):
                return _json({"error": f"{type(error).__name__}: {error}"}, 400)
            self.record.add("errors", {"where": request.path, "error": repr(error)})
            raise

    async def _configure(self, request: web.Request) -> web.Response:
        self.config.update(await _body(request))
        return _json({"ok": True})

    async def _reset(self, _: web.Request) -> web.Response:
        """Everything as at the start: settings, faults, rooms, records; background work is ended first."""
        await self.poster.stop()
        self.config.reset()
        self.faults.rules.clear()
        self.workspace.clear()
        self.rest.clear()
        self.record.clear()
        return _json({"ok": True})

    async def _patient(self, request: web.Request) -> web.Response:
        """{phone_number_id, from, text, name?, wamid?, wait?=true} or `message`: one in WhatsApp's shape.

        Answers {wamid, status}: what the callback said to the first attempt, null without an answer or
        with `wait` false.
        """
        given = await _body(request)
        number_id, sender = str(given["phone_number_id"]), str(given["from"])
        if not self.config.numbers[number_id].callback_url:
            raise ValueError("the number has no callback_url")
        message = {
            "from": sender,
            "id": given.get("wamid") or new_wamid(),
            "timestamp": str(int(time.time())),
            **given.get("message", {"text": {"body": given.get("text", "")}, "type": "text"}),
        }
        delivery = self.graph.patient(number_id, message, str(given.get("name") or sender))
        if not given.get("wait", True):
            self.poster.spawn(delivery)
            return _json({"wamid": message["id"], "status": None})
        return _json({"wamid": message["id"], "status": (await delivery).status})

    async def _post(self, request: web.Request) -> web.Response:
        """{phone_number_id | url, body | body_base64, headers?, sign?, app_secret?, retry?, method?} as it is."""
        given = await _body(request)
        number = self.config.numbers.get(str(given.get("phone_number_id", "")))
        url = given.get("url") or (number.callback_url if number else "")
        if not url:
            raise ValueError("needs a url, or a phone_number_id with a callback_url")
        body = _raw(given)
        headers = {"Content-Type": "application/json", **given.get("headers", {})}
        if given.get("sign"):
            secret = given.get("app_secret") or (number.app_secret if number else "")
            headers["X-Hub-Signature-256"] = signature(secret, body)
        post = Post("callback", url, body, headers, {"type": "raw"}, given.get("method", "POST"))
        answer = await self.poster.post(post, self.config.callback_retry if given.get("retry") else ONCE)
        return _json({"status": answer.status, "body": answer.text})

    async def _verify(self, request: web.Request) -> web.Response:
        """{phone_number_id}: Meta's handshake with the callback; {ok, status}."""
        number = self.config.numbers[str((await _body(request))["phone_number_id"])]
        challenge = str(time.monotonic_ns())
        query = f"hub.mode=subscribe&hub.verify_token={number.verify_token}&hub.challenge={challenge}"
        url = f"{number.callback_url}{'&' if '?' in number.callback_url else '?'}{query}"
        answer = await self.poster.post(Post("callback", url, b"", {}, {"type": "verify"}, "GET"), ONCE)
        return _json({"ok": answer.status == 200 and answer.text == challenge, "status": answer.status})

    async def _agent(self, request: web.Request) -> web.Response:
        """{rid | wa_id, text}: an agent writes; in a closed room too, as Rocket.Chat's own strays would."""
        given = await _body(request)
        message = self.chat.say(self._room(given), self.chat.agent(), str(given["text"]), by="agent")
        return _json({"_id": message["_id"], "rid": message["rid"]})

    async def _close(self, request: web.Request) -> web.Response:
        """{rid | wa_id, comment?}: an agent closes the room."""
        given = await _body(request)
        room = self._room(given)
        if not room.is_open:
            raise ValueError("the room is closed")
        self.chat.close(room, self.chat.agent(), str(given.get("comment", "")))
        return _json({"rid": room.rid})

    def _room(self, given: Mapping[str, Any]) -> Room:
        rid = given.get("rid")
        room = self.workspace.rooms.get(str(rid)) if rid else self.workspace.last_room(str(given["wa_id"]))
        if room is None:
            raise ValueError("there is no such room")
        return room

    async def _set_faults(self, request: web.Request) -> web.Response:
        """A list of rules, or {rules: [...]}; they go behind those in force."""
        given = orjson.loads(await request.read())
        self.faults.rules += [
            Rule.parse(raw) for raw in (given["rules"] if isinstance(given, dict) else given)
        ]
        return await self._get_faults(request)

    async def _get_faults(self, _: web.Request) -> web.Response:
        return _json({"rules": [asdict(rule) for rule in self.faults.rules]})

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self.faults.rules.clear()
        return await self._get_faults(request)

    async def _whole_record(self, request: web.Request) -> web.Response:
        """{last_seq, counts, <kind>: rows}; `since` bounds the rows, not the counts."""
        since = int(request.query.get("since", 0))
        lists = {kind: self.record.since(kind, since) for kind in KINDS}
        return _json({"last_seq": self.record.last_seq, "counts": self.record.counts(), **lists})

    async def _counts(self, _: web.Request) -> web.Response:
        return _json({"last_seq": self.record.last_seq, **self.record.counts()})

    async def _one_kind(self, request: web.Request) -> web.Response:
        """{last_seq, items}; for rocketchat also {rooms: {rid: items}}. 404 for a kind there is not."""
        kind = request.match_info["kind"]
        if kind not in KINDS:
            return _json({"error": f"kinds are {list(KINDS)}"}, 404)
        items = self.record.since(kind, int(request.query.get("since", 0)))
        answer: dict[str, Any] = {"last_seq": self.record.last_seq, "items": items}
        if kind == "rocketchat":
            rooms: dict[str, list[Row]] = {}
            answer["rooms"] = rooms
            for item in items:
                rooms.setdefault(item["rid"], []).append(item)
        return _json(answer)

    async def _delete_record(self, _: web.Request) -> web.Response:
        self.record.clear()
        return _json({"ok": True})


async def _body(request: web.Request) -> dict[str, Any]:
    given = orjson.loads(await request.read())
    if not isinstance(given, dict):
        raise TypeError("the body must be a JSON object")
    return given


def _raw(given: Mapping[str, Any]) -> bytes:
    if "body_base64" not in given:
        return str(given.get("body", "")).encode()
    try:
        return base64.b64decode(given["body_base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"body_base64: {error}") from None


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")
