"""``/control``: what tests tell the sandbox to do, and what they ask of its record."""

import base64
import binascii
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Faults, Rule
from deploy.sandbox.files import FileStore, content
from deploy.sandbox.graph import Graph
from deploy.sandbox.posting import ONCE, Post, Poster, signature
from deploy.sandbox.record import KINDS, Record, Row, encode
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.shapes import MEDIA, new_wamid
from deploy.sandbox.webhooks import Webhooks
from deploy.sandbox.workspace import Document, Room, Upload, Workspace

_BRIEF = {"voice", "caption", "animated"}
"""What a told file says of itself and the message repeats."""


class Control:
    """Wrong input raises ValueError, TypeError, KeyError or AttributeError: the server answers 400."""

    def __init__(
        self,
        config: Configuration,
        record: Record,
        faults: Faults,
        poster: Poster,
        webhooks: Webhooks,
        files: FileStore,
        graph: Graph,
        chat: RocketChat,
        workspace: Workspace,
        reset: Callable[[], Awaitable[None]],
    ) -> None:
        self._config, self._record, self._faults, self._poster = config, record, faults, poster
        self._webhooks, self._files, self._graph = webhooks, files, graph
        self._chat, self._workspace, self._start_again = chat, workspace, reset

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/control/configure", self._configure),
            web.post("/control/reset", self._reset),
            web.post("/control/patient", self._patient),
            web.post("/control/phone_echo", self._phone_echo),
            web.post("/control/account_event", self._account_event),
            web.post("/control/post", self._post),
            web.post("/control/verify", self._verify),
            web.post("/control/agent", self._agent),
            web.post("/control/edit", self._edit),
            web.post("/control/close", self._close),
            web.get("/control/rocketchat/history", self._history),
            web.get("/control/rocketchat/upload/{id}", self._uploaded),
            web.get("/control/media/{id}", self._medium),
            web.get("/control/callback/{phone_number_id}", self._callback),
            web.post("/control/faults", self._set_faults),
            web.get("/control/faults", self._get_faults),
            web.delete("/control/faults", self._delete_faults),
            web.get("/control/record", self._whole_record),
            web.delete("/control/record", self._delete_record),
            web.get("/control/record/counts", self._counts),
            web.get("/control/record/{kind}", self._one_kind),
            web.get("/control/refusals", self._refusals),
        ]

    # the process -----------------------------------------------------------------------------------------------

    async def _configure(self, request: web.Request) -> web.Response:
        self._config.update(await _body(request))
        return json_answer({"ok": True})

    async def _reset(self, _: web.Request) -> web.Response:
        await self._start_again()
        return json_answer({"ok": True})

    # WhatsApp --------------------------------------------------------------------------------------------------

    async def _patient(self, request: web.Request) -> web.Response:
        """{phone_number_id, from, text, name?, wamid?, wait?=true} or `message`: one in WhatsApp's shape.

        With `media` {content_base64 | size, mime, filename?, voice?, caption?} the message's type says what it is.
        Answers {wamid, status, media_id?, sha256?}: what the callback said to the first attempt, null without an
        answer or with `wait` false. `sha256` in hex.
        """
        given = await _body(request)
        number_id, sender = self._reachable(given), str(given["from"])
        message = {
            "from": sender,
            "id": given.get("wamid") or new_wamid(),
            "timestamp": str(int(time.time())),
            **given.get("message", {"text": {"body": given.get("text", "")}, "type": "text"}),
        }
        answer: dict[str, Any] = {"wamid": message["id"], "status": None}
        if "media" in given:
            answer |= self._attach(number_id, message, given["media"])
        delivery = self._graph.patient(number_id, message, str(given.get("name") or sender))
        if given.get("wait", True):
            answer["status"] = (await delivery).status
        else:
            self._poster.spawn(delivery)
        return json_answer(answer)

    def _attach(self, number_id: str, message: dict[str, Any], told: Mapping[str, Any]) -> dict[str, str]:
        """Keep a customer's file and name it in the message, as Meta does."""
        kind = message.get("type")
        if kind not in MEDIA:
            raise ValueError(f"media goes with a message of type {sorted(MEDIA)}")
        data, mime = content(told)
        file = self._files.add(number_id, data, mime, "patient", told.get("filename"))
        part: dict[str, Any] = {"mime_type": mime, "sha256": file.sha256_base64, "id": file.id}
        if kind == "document":
            part["filename"] = file.filename or "document"
        if kind == "audio":
            part["voice"] = False
        said = {key: value for key, value in told.items() if key in _BRIEF}
        message[kind] = {**part, **said, **message.get(kind, {})}
        return {"media_id": file.id, "sha256": file.sha256}

    async def _phone_echo(self, request: web.Request) -> web.Response:
        """{phone_number_id, to, text | message, wamid?}: the clinic writes on its phone; {wamid, status}."""
        given = await _body(request)
        number_id = self._reachable(given)
        echo = {
            "from": self._config.numbers[number_id].display_phone_number,
            "to": str(given["to"]),
            "id": given.get("wamid") or new_wamid(),
            "timestamp": str(int(time.time())),
            **given.get("message", {"type": "text", "text": {"body": given.get("text", "")}}),
        }
        answer = await self._graph.phone_echo(number_id, echo)
        return json_answer({"wamid": echo["id"], "status": answer.status})

    async def _account_event(self, request: web.Request) -> web.Response:
        """{phone_number_id, field, value}: a template_* or account_* event, to the app's callback; {url, status}."""
        given = await _body(request)
        number_id, field = str(given["phone_number_id"]), str(given["field"])
        url, answer = await self._webhooks.account_event(number_id, field, given["value"])
        return json_answer({"url": url, "status": answer.status})

    async def _callback(self, request: web.Request) -> web.Response:
        """Where a number's messages and its account's events go now: {url, app_url}; "" for nowhere."""
        number_id = request.match_info["phone_number_id"]
        app_url = self._webhooks.app_url(self._config.numbers[number_id])
        return json_answer({"url": self._webhooks.url(number_id), "app_url": app_url})

    async def _post(self, request: web.Request) -> web.Response:
        """{phone_number_id | url, body | body_base64, headers?, sign?, app_secret?, retry?, method?} as it is."""
        given = await _body(request)
        number_id = str(given.get("phone_number_id", ""))
        number = self._config.numbers.get(number_id)
        url = given.get("url") or (self._webhooks.url(number_id) if number else "")
        if not url:
            raise ValueError("needs a url, or a phone_number_id with a callback_url")
        body = _raw(given)
        headers = {"Content-Type": "application/json", **given.get("headers", {})}
        if given.get("sign"):
            secret = given.get("app_secret") or (number.app_secret if number else "")
            headers["X-Hub-Signature-256"] = signature(secret, body)
        post = Post("callback", url, body, headers, {"type": "raw"}, given.get("method", "POST"))
        answer = await self._poster.post(post, self._config.callback_retry if given.get("retry") else ONCE)
        return json_answer({"status": answer.status, "body": answer.text})

    async def _verify(self, request: web.Request) -> web.Response:
        """{phone_number_id}: Meta's handshake with the configured callback; {ok, status}."""
        number = self._config.numbers[str((await _body(request))["phone_number_id"])]
        passed, status = await self._webhooks.handshake(number.callback_url, number.verify_token)
        return json_answer({"ok": passed, "status": status})

    async def _medium(self, request: web.Request) -> web.Response:
        """The bytes WhatsApp holds under a media id."""
        file = self._files.find(request.match_info["id"])
        if file is None:
            raise ValueError("there is no such file")
        return web.Response(body=file.data, headers={"Content-Type": file.mime})

    def _reachable(self, given: Mapping[str, Any]) -> str:
        number_id = str(given["phone_number_id"])
        if not self._webhooks.url(number_id):
            raise ValueError("the number has no callback_url")
        return number_id

    # Rocket.Chat -----------------------------------------------------------------------------------------------

    async def _agent(self, request: web.Request) -> web.Response:
        """{rid | wa_id, text, file?: {content_base64 | size, mime, name}}: an agent writes, or sends a file.

        In a closed room too, as Rocket.Chat's own strays would. Answers {_id, rid, file_id?}.
        """
        given = await _body(request)
        room, agent = self._room(given), self._chat.agent()
        if "file" not in given:
            message = self._chat.say(room, agent, str(given["text"]), by="agent")
            return json_answer({"_id": message["_id"], "rid": message["rid"]})
        data, mime = content(given["file"])
        name = str(given["file"].get("name") or "file")
        upload = self._workspace.add_upload(room.rid, agent["_id"], name, mime, data)
        message = self._chat.say(room, agent, str(given.get("text", "")), by="agent", upload=upload)
        return json_answer({"_id": message["_id"], "rid": message["rid"], "file_id": upload.id})

    async def _edit(self, request: web.Request) -> web.Response:
        """{_id, text}: an agent changes a message. Answers {_id, editedAt}."""
        given = await _body(request)
        message = self._workspace.messages[str(given["_id"])]
        room = self._workspace.rooms[message["rid"]]
        self._chat.edit(room, message, self._chat.agent(), str(given["text"]))
        return json_answer({"_id": message["_id"], "editedAt": message["editedAt"]})

    async def _close(self, request: web.Request) -> web.Response:
        """{rid | wa_id, comment?}: an agent closes the room."""
        given = await _body(request)
        room = self._room(given)
        if not room.is_open:
            raise ValueError("the room is closed")
        self._chat.close(room, self._chat.agent(), str(given.get("comment", "")))
        return json_answer({"rid": room.rid})

    async def _history(self, _: web.Request) -> web.Response:
        """{rid: [{_id, msg, by, by_agent, username, ts, closing, editedAt, file}]}, oldest first."""
        return json_answer(self._chat.history())

    async def _uploaded(self, request: web.Request) -> web.Response:
        """The bytes Rocket.Chat holds under a file id."""
        upload: Upload = self._workspace.uploads[request.match_info["id"]]
        return web.Response(body=upload.data, headers={"Content-Type": upload.mime})

    def _room(self, given: Mapping[str, Any]) -> Room:
        rid = given.get("rid")
        room = self._workspace.rooms.get(str(rid)) if rid else self._workspace.last_room(str(given["wa_id"]))
        if room is None:
            raise ValueError("there is no such room")
        return room

    # faults ------------------------------------------------------------------------------------------------------

    async def _set_faults(self, request: web.Request) -> web.Response:
        """A list of rules, or {rules: [...]}; they go behind those in force."""
        given = orjson.loads(await request.read())
        self._faults.rules += [
            Rule.parse(raw) for raw in (given["rules"] if isinstance(given, dict) else given)
        ]
        return await self._get_faults(request)

    async def _get_faults(self, _: web.Request) -> web.Response:
        return json_answer({"rules": [asdict(rule) for rule in self._faults.rules]})

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self._faults.rules.clear()
        return await self._get_faults(request)

    # the record --------------------------------------------------------------------------------------------------

    async def _whole_record(self, request: web.Request) -> web.Response:
        """{last_seq, counts, <kind>: rows}; `since` bounds the rows, not the counts."""
        since = int(request.query.get("since", 0))
        lists = {kind: self._record.since(kind, since) for kind in KINDS}
        return json_answer({"last_seq": self._record.last_seq, "counts": self._record.counts(), **lists})

    async def _counts(self, _: web.Request) -> web.Response:
        return json_answer({"last_seq": self._record.last_seq, **self._record.counts()})

    async def _one_kind(self, request: web.Request) -> web.Response:
        """{last_seq, items}; for rocketchat also {rooms: {rid: items}}. 404 for a kind there is not."""
        kind = request.match_info["kind"]
        if kind not in KINDS:
            return json_answer({"error": f"kinds are {list(KINDS)}"}, 404)
        items = self._record.since(kind, int(request.query.get("since", 0)))
        answer: dict[str, Any] = {"last_seq": self._record.last_seq, "items": items}
        if kind == "rocketchat":
            rooms: dict[str, list[Row]] = {}
            answer["rooms"] = rooms
            for item in items:
                rooms.setdefault(item["rid"], []).append(item)
        return json_answer(answer)

    async def _refusals(self, _: web.Request) -> web.Response:
        """{"by_code": {code: n}, "by_rule": {window | pair | throughput | template | media: n}}."""
        rows = self._record.since("refused")
        by_code = Counter(str(row["code"]) for row in rows)
        by_rule = Counter(str(row["rule"]) for row in rows if row["rule"])
        return json_answer({"by_code": by_code, "by_rule": by_rule})

    async def _delete_record(self, _: web.Request) -> web.Response:
        self._record.clear()
        return json_answer({"ok": True})


async def _body(request: web.Request) -> Document:
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


def json_answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")
