"""The Rocket.Chat stand-in: its WhatsApp app's endpoint, its agents, what it sends to customers.

The app keeps a WhatsApp message once: a forward that is repeated is recorded as a forward, makes no second
message and gets no second reply.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from deploy.sandbox import attachments
from deploy.sandbox.configuration import App, Configuration
from deploy.sandbox.crm import Crm
from deploy.sandbox.faults import Facts, Faults, Rule, acts, answered, respond
from deploy.sandbox.graph import Graph
from deploy.sandbox.media import Media
from deploy.sandbox.posting import Poster, signature
from deploy.sandbox.record import Record, base64_text
from deploy.sandbox.replies import reply
from deploy.sandbox.shapes import MEDIA, text_of
from deploy.sandbox.workspace import AGENTS, Document, Room, Upload, Workspace

_SAYING = frozenset({"visitor", "agent", "api", "close"})


class RocketChat:
    """What the workspace does when WhatsApp, an agent or the REST API speaks to it."""

    def __init__(
        self,
        config: Configuration,
        record: Record,
        faults: Faults,
        poster: Poster,
        graph: Graph,
        media: Media,
        workspace: Workspace,
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._poster, self._graph, self._media, self._workspace = poster, graph, media, workspace
        self._crm = Crm(config, record, faults, poster, workspace)

    async def app_endpoint(self, request: web.Request) -> web.StreamResponse:
        """ANY /rocketchat/api/apps/public/{app}/{path}: what the router forwards."""
        body = await request.read()
        app_id = request.match_info["app"]
        app = self._config.rocketchat.app.get(app_id, App())
        values = list(_values(body))
        messages = [message for value in values for message in _list(value, "messages")]
        number_id = next((_number_id(value) for value in values), "")
        senders = tuple(dict.fromkeys(_sender(message) for message in messages))
        rule = self._faults.take(
            "rocketchat.app", Facts(senders, "\n".join(map(text_of, messages)), number_id)
        )
        if rule is None or rule.fault != "down":
            self._record_forward(request, body, app, values, rule)

        async def act() -> web.Response:
            challenge = request.query.get("hub.challenge")
            if request.method == "GET" and challenge is not None:
                if app.verify_token and request.query.get("hub.verify_token") != app.verify_token:
                    return web.Response(status=403)
                return web.Response(text=challenge)
            for value in values:
                self._take_value(app_id, app, value)
            return web.json_response({"success": True})

        return await respond(request, rule, act, _refuse)

    def say(
        self,
        room: Room,
        user: Document,
        text: str,
        *,
        by: str,
        message_id: str | None = None,
        upload: Upload | None = None,
    ) -> Document:
        """Someone of the clinic writes or sends a file: kept, sent to the customer, told to the webhook.

        `by`: agent or api. The caller has made sure that `message_id` is new. `text` is the file's caption.
        """
        extra = {"_id": message_id} if message_id else {}
        if upload:
            upload.confirmed = True
            extra |= attachments.of_message(upload, text)
        message = self._workspace.add_message(room, text, user, **extra)
        room.document["waitingResponse"] = False
        number_id = self._config.rocketchat.app.get(room.app, App()).phone_number_id
        if upload:
            wamid = self._send_file(number_id, room.wa_id, upload, text)
        else:
            wamid = self._graph.send_for_rocketchat(number_id, room.wa_id, "text", {"body": text})
        self._record_message(room, message, by, wamid)
        self._crm.emit("Message", room, [message])
        return message

    def edit(self, room: Room, message: Document, user: Document, text: str) -> None:
        """An agent changes a message: told to the webhook again where Rocket.Chat does so, to no customer."""
        self._workspace.edit(message, user, text)
        self._record_message(room, message, "edit", None)
        if self._config.rocketchat.webhook_edits:
            self._crm.emit("Message", room, [message])

    def react(self, room: Room, message: Document, user: Document, emoji: str, *, on: bool) -> None:
        """Put a reaction to a message or take it away; no customer and no webhook hears of it."""
        reactions = message.setdefault("reactions", {})
        names = [name for name in reactions.get(emoji, {}).get("usernames", []) if name != user["username"]]
        reactions[emoji] = {"usernames": [*names, user["username"]] if on else names}
        if not reactions[emoji]["usernames"]:
            del reactions[emoji]
        self._record_message(room, message, "react", None)

    def close(self, room: Room, user: Document, comment: str) -> None:
        """Close an open room as an agent and tell the webhook, with all its messages."""
        message = self._workspace.close(room, user, comment)
        self._record_message(room, message, "close", None)
        self._crm.emit("LivechatSession", room, room.messages)

    def take(self, room: Room, user: Document) -> None:
        """An agent takes a room nobody serves yet."""
        room.document["servedBy"] = {
            "_id": user["_id"],
            "username": user["username"],
            "ts": room.document["lm"],
        }
        self._crm.emit("LivechatSessionTaken", room, room.messages)

    def history(self) -> dict[str, list[Document]]:
        """All that was ever said, by room: what a reconciliation has to arrive at."""
        return {
            room.rid: [
                {
                    "_id": message["_id"],
                    "msg": message["msg"],
                    "by": self._workspace.said_by.get(message["_id"]),
                    "by_agent": message["u"]["username"] != room.visitor["username"],
                    "username": message["u"]["username"],
                    "ts": message["ts"],
                    "closing": message.get("t") == "livechat-close",
                    "editedAt": message.get("editedAt"),
                    "file": message.get("file"),
                }
                for message in room.messages
            ]
            for room in self._workspace.rooms.values()
        }

    def agent(self) -> Document:
        """The agent whose turn it is."""
        agent_id = AGENTS[len(self._workspace.rooms) % len(AGENTS)][0]
        return self._workspace.users[agent_id]

    def _take_value(self, app_id: str, app: App, value: Mapping[str, Any]) -> None:
        names = {
            str(contact.get("wa_id") or contact.get("user_id")): str(
                _object(contact, "profile").get("name") or ""
            )
            for contact in _list(value, "contacts")
        }
        for message in _list(value, "messages"):
            sender = _sender(message)
            if sender and self._workspace.first_time(app_id, message.get("id")):
                self._take_message(app_id, app, sender, names.get(sender, ""), message)

    def _take_message(self, app_id: str, app: App, wa_id: str, name: str, message: Mapping[str, Any]) -> None:
        room = self._workspace.open_room(app_id, wa_id)
        if room is None:
            room = self._workspace.create_room(app_id, app.label, wa_id, name, None)
            self._crm.emit("LivechatSessionStart", room, [])
            if self._config.rocketchat.agents:
                self.take(room, self.agent())
        text, file = self._content(room, app, message)
        token = room.visitor["token"]
        kept = self._workspace.add_message(
            room, text, room.visitor, token=token, alias=room.visitor["name"], **file
        )
        room.document["waitingResponse"] = True
        self._record_message(room, kept, "visitor", str(message.get("id")))
        self._crm.emit("Message", room, [kept])
        if self._config.rocketchat.agents:
            self._poster.spawn(self._reply(room, text))

    def _content(self, room: Room, app: App, message: Mapping[str, Any]) -> tuple[str, Document]:
        """The words of a customer's message and, once the app has fetched its file, what is said of that."""
        kind = str(message.get("type", "unknown"))
        text, part = text_of(message), _object(message, kind)
        file = (
            self._media.fetch(str(part["id"]), app.phone_number_id)
            if kind in MEDIA and "id" in part
            else None
        )
        if file is None:
            return text or f"[{kind}]", {}
        name = str(part.get("filename") or f"{kind}.{attachments.extension(file.mime)}")
        upload = self._workspace.add_upload(room.rid, room.visitor["_id"], name, file.mime, file.data)
        upload.confirmed = True
        return text, attachments.of_message(upload, text)

    def _send_file(self, number_id: str, wa_id: str, upload: Upload, caption: str) -> str | None:
        kept = self._media.keep(number_id, upload.data, upload.mime, upload.name)
        if kept is None:
            return None
        kind = attachments.kind_of(upload)
        part: Document = {"id": kept.id}
        if caption and kind in {"image", "video", "document"}:
            part["caption"] = caption
        if kind == "document":
            part["filename"] = upload.name
        return self._graph.send_for_rocketchat(number_id, wa_id, kind, part)

    async def _reply(self, room: Room, text: str) -> None:
        await asyncio.sleep(self._config.rocketchat.agent_delay_seconds)
        if room.is_open:
            user = self._workspace.users[room.document.get("servedBy", {"_id": AGENTS[0][0]})["_id"]]
            self.say(room, user, reply(text, len(room.messages)), by="agent")

    def _record_forward(
        self, request: web.Request, body: bytes, app: App, values: list[Document], rule: Rule | None
    ) -> None:
        path, _, query = request.raw_path.partition("?")
        given = request.headers.get("X-Hub-Signature-256", "")
        self._record.add(
            "forwards",
            {
                "app": request.match_info["app"],
                "method": request.method,
                "raw_path": path,
                "raw_query": query,
                "headers": [[_latin(name), _latin(value)] for name, value in request.raw_headers],
                "body": base64_text(body),
                "signature_ok": given == signature(app.app_secret, body) if app.app_secret else None,
                "wamids": [message.get("id") for value in values for message in _list(value, "messages")],
                "statuses": [
                    [status.get("id"), status.get("status")]
                    for value in values
                    for status in _list(value, "statuses")
                ],
                "acted": acts(rule),
                "answered": answered(rule),
                "fault": rule.fault if rule else None,
            },
        )

    def _record_message(self, room: Room, message: Document, by: str, wamid: str | None) -> None:
        self._record.add(
            "rocketchat",
            {
                "rid": room.rid,
                "_id": message["_id"],
                "app": room.app,
                "wa_id": room.wa_id,
                "by": by,
                "username": message["u"]["username"],
                "text": message["msg"],
                "file": message.get("file"),
                "wamid": wamid,
            },
        )
        if by in _SAYING:
            self._workspace.said_by[message["_id"]] = by


def _refuse(rule: Rule) -> web.Response:
    return web.json_response({"error": "Sandbox fault"}, status=rule.status)


def _latin(raw: bytes) -> str:
    return raw.decode("latin-1")


def _values(body: bytes) -> Iterator[Document]:
    """The value of each change of each entry of a Meta event; nothing for anything else."""
    try:
        event = json.loads(body)
    except ValueError:
        return
    for entry in _list(event, "entry"):
        for change in _list(entry, "changes"):
            value = change.get("value")
            if isinstance(value, dict):
                yield value


def _list(value: object, key: str) -> list[Document]:
    found = value.get(key) if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _object(value: Mapping[str, Any], key: str) -> Document:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _number_id(value: Mapping[str, Any]) -> str:
    return str(_object(value, "metadata").get("phone_number_id") or "")


def _sender(message: Mapping[str, Any]) -> str:
    return str(message.get("from") or message.get("from_user_id") or "")
