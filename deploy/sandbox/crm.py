"""Rocket.Chat's omnichannel webhook: which events it tells, their bodies, and the events it loses."""

from collections.abc import Mapping

from deploy.sandbox.attachments import with_public_path
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults
from deploy.sandbox.posting import Post, Poster
from deploy.sandbox.record import Record, encode
from deploy.sandbox.workspace import Document, Room, Upload, Workspace, author

_SETTING_OF_TYPE = {
    "LivechatSessionStart": "Livechat_webhook_on_start",
    "LivechatSessionTaken": "Livechat_webhook_on_chat_taken",
    "LivechatSession": "Livechat_webhook_on_close",
}


class Crm:
    """Posts events to the workspace's webhook; a fault ``drop`` on rocketchat.webhook loses them for ever."""

    def __init__(
        self, config: Configuration, record: Record, faults: Faults, poster: Poster, workspace: Workspace
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._poster, self._workspace = poster, workspace

    def emit(self, kind: str, room: Room, messages: list[Document]) -> None:
        """Tell an event, in the background, when the workspace is set to tell it."""
        settings = self._config.rocketchat
        if not settings.webhook_url or not settings.settings.get(self._setting(kind, room, messages), True):
            return
        about = {"type": kind, "rid": room.rid, "messages": [message["_id"] for message in messages]}
        app = settings.app.get(room.app)
        number_id = app.phone_number_id if app else ""
        text = "\n".join(str(message["msg"]) for message in messages)
        if self._faults.take("rocketchat.webhook", Facts((room.wa_id,), text, number_id)):
            dropped = {"post": None, "attempt": 0, "target": "omnichannel", "status": None, "answer": "",
                       "error": None, "final": True, "dropped": True}  # fmt: skip
            self._record.add("webhooks", about | dropped)
            return
        headers = {"Content-Type": "application/json", "User-Agent": f"RocketChat/{settings.version}"}
        if settings.webhook_token:
            headers["X-RocketChat-Livechat-Token"] = settings.webhook_token
        body = encode(payload(kind, room, messages, self._workspace.users, self._workspace.uploads))
        post = Post("omnichannel", settings.webhook_url, body, headers, about)
        self._poster.spawn(self._post(post, room))

    async def _post(self, post: Post, room: Room) -> None:
        answer = await self._poster.post(post, self._config.rocketchat.retry)
        if answer.status == 200 and answer.text:
            # Rocket.Chat keeps what the CRM answered and echoes it in later events.
            room.document["crmData"] = answer.text

    @staticmethod
    def _setting(kind: str, room: Room, messages: list[Document]) -> str:
        if kind != "Message":
            return _SETTING_OF_TYPE[kind]
        visitors = messages[0]["u"]["username"] == room.visitor["username"]
        return f"Livechat_webhook_on_{'visitor' if visitors else 'agent'}_message"


def payload(
    kind: str,
    room: Room,
    messages: list[Document],
    users: Mapping[str, Document],
    uploads: Mapping[str, Upload] | None = None,
) -> Document:
    """An omnichannel webhook as sendToCRM.ts builds it."""
    document = room.document
    served_by = document.get("servedBy")
    body: Document = {
        "_id": room.rid,
        "label": document["fname"],
        "createdAt": document["ts"],
        "lastMessageAt": document["lm"],
        "tags": [],
        "customFields": {},
        "visitor": {
            **room.visitor,
            "department": None,
            "ip": None,
            "os": None,
            "browser": None,
            "customFields": {},
        },
        "type": kind,
        "messages": [_event_message(message, room, uploads or {}) for message in messages],
    }
    if served_by:
        user = users[served_by["_id"]]
        body["agent"] = {**author(user), "email": [{"address": f"{user['username']}@clinica.example.com"}]}
    if "crmData" in document:
        body["crmData"] = document["crmData"]
    if kind != "Message":
        body["departmentId"] = None
    if kind in {"LivechatSessionTaken", "LivechatSession"}:
        body["servedBy"] = served_by
    if kind == "LivechatSession":
        body |= {key: document[key] for key in ("closedAt", "closedBy", "closer")}
    return body


def _event_message(message: Document, room: Room, uploads: Mapping[str, Upload]) -> Document:
    shown = {
        "_id": message["_id"],
        "username": message["u"]["username"],
        "msg": message["msg"],
        "ts": message["ts"],
        "rid": message["rid"],
        "u": message["u"],
        "_updatedAt": message["_updatedAt"],
    }
    shown |= {key: message[key] for key in ("editedAt", "file", "attachments") if key in message}
    if message["u"]["username"] != room.visitor["username"]:
        shown["agentId"] = message["u"]["_id"]
    if message.get("t") == "livechat-close":
        shown["closingMessage"] = True
    return with_public_path(shown, uploads)
