"""REST methods about rooms and messages."""

import json
from collections.abc import Mapping
from typing import Any

from deploy.sandbox.attachments import with_public_path
from deploy.sandbox.calls import Call, Failed, Routes, moment
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.workspace import Document, Room, Workspace

_MOST = 100  # API_Upper_Count_Limit as installed


class Rooms:
    """livechat/rooms, livechat/messages.history, livechat/room.closeByUser, rooms.info, chat.*."""

    def __init__(self, workspace: Workspace, chat: RocketChat) -> None:
        self._workspace, self._chat = workspace, chat
        self.routes: Routes = {
            ("POST", "chat.sendMessage"): self._send_message,
            ("POST", "chat.react"): self._react,
            ("GET", "chat.getMessage"): self._message,
            ("GET", "chat.syncMessages"): self._sync,
            ("GET", "rooms.info"): lambda call: {"room": self._room(call.text("roomId")).document},
            ("GET", "livechat/rooms"): self._rooms,
            ("GET", "livechat/messages.history"): self._history,
            ("POST", "livechat/room.closeByUser"): self._close,
        }

    def _room(self, rid: str) -> Room:
        room = self._workspace.rooms.get(rid)
        if room is None:
            raise Failed('The required "roomId" does not match any channel', "error-room-not-found")
        return room

    def _send_message(self, call: Call) -> Document:
        message = call.given.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("rid"), str):
            raise Failed("The 'rid' property on the message object is missing.", "error-invalid-params")
        text, message_id = message.get("msg"), message.get("_id")
        if not isinstance(text, str) or not text:
            raise Failed("Message text is missing", "error-invalid-params")
        if message_id is not None and not (isinstance(message_id, str) and message_id):
            raise Failed("Match error: Expected string _id", "error-invalid-params")
        if message_id in self._workspace.messages:
            return {"message": self._workspace.messages[message_id]}
        room = self._workspace.rooms.get(message["rid"])
        if room is None:
            raise Failed("Invalid room", "error-invalid-room")
        if not room.is_open:
            raise Failed("Room is closed", "room-closed")
        return {"message": self._chat.say(room, call.user, text, by="api", message_id=message_id)}

    def _react(self, call: Call) -> Document:
        if not call.text("messageId"):
            raise Failed('The required "messageId" param is missing.', "error-messageid-param-not-provided")
        message = self._workspace.messages.get(call.text("messageId"))
        if message is None:
            raise Failed(
                'The provided "messageId" does not match any existing message.', "error-message-not-found"
            )
        emoji = call.text("emoji") or call.text("reaction")
        if not emoji:
            raise Failed('The required "emoji" param is missing.', "error-emoji-param-not-provided")
        name, room = f":{emoji.strip(':')}:", self._workspace.rooms[message["rid"]]
        mine = call.user["username"] in message.get("reactions", {}).get(name, {}).get("usernames", [])
        self._chat.react(room, message, call.user, name, on=bool(call.given.get("shouldReact", not mine)))
        return {}

    def _message(self, call: Call) -> Document:
        if not call.text("msgId"):
            raise Failed('The "msgId" query parameter must be provided.')
        message = self._workspace.messages.get(call.text("msgId"))
        if message is None:
            raise Failed("")
        return {"message": message}

    def _sync(self, call: Call) -> Document:
        for name in ("roomId", "lastUpdate"):
            if not call.text(name):
                raise Failed(
                    f'The required "{name}" query param is missing.', f"error-{name}-param-not-provided"
                )
        since = moment(call.text("lastUpdate"))
        if since is None:
            raise Failed(
                'The "lastUpdate" query parameter must be a valid date.', "error-roomId-param-invalid"
            )
        messages = self._room(call.text("roomId")).messages
        updated = [message for message in messages if _after(message["_updatedAt"], since)]
        return {"result": {"updated": updated, "deleted": []}}

    def _rooms(self, call: Call) -> Document:
        rooms = [room.document for room in self._workspace.rooms.values()]
        if "open" in call.given:
            wanted = call.text("open") == "true"
            rooms = [document for document in rooms if (document.get("open") is True) == wanted]
        for name, key in (("closedAt", "closedAt"), ("createdAt", "ts")):
            if name in call.given:
                bounds = _json(call.text(name), name)
                rooms = [document for document in rooms if _within(document.get(key), bounds)]
        by, order = next(iter(_json(call.text("sort") or '{"ts": -1}', "sort").items()), ("ts", -1))
        rooms.sort(key=lambda document: str(document.get(by, "")), reverse=order == -1)
        offset, count = call.number("offset", 0), min(call.number("count", 50), _MOST)
        page = rooms[offset : offset + count] if count else rooms[offset:]
        return {"rooms": page, "count": len(page), "offset": offset, "total": len(rooms)}

    def _history(self, call: Call) -> Document:
        """Newest first, before `end`; `ls` filters nothing, it is when the visitor last looked."""
        call.needs("token")
        tokens = {room.visitor["token"] for room in self._workspace.rooms.values()}
        if call.text("token") not in tokens:
            raise Failed("invalid-token")
        room = self._workspace.rooms.get(call.tail[0])
        if room is None or room.visitor["token"] != call.text("token"):
            raise Failed("invalid-room")
        end = moment(call.text("end"))
        found = [
            one for one in reversed(room.messages) if end is None or not _after(one["ts"], end, equal=True)
        ]
        offset, limit = call.number("offset", 0), call.number("limit", 20)
        page = found[offset : offset + limit] if limit else found[offset:]
        return {"messages": [with_public_path(message, self._workspace.uploads) for message in page]}

    def _close(self, call: Call) -> Document:
        room = self._workspace.rooms.get(call.text("rid"))
        if room is None:
            raise Failed("Invalid room", "error-invalid-room")
        if not room.is_open:
            raise Failed("Room is already closed", "error-room-already-closed")
        self._chat.close(room, call.user, call.text("comment"))
        return {}


def _after(at: str, since: Any, *, equal: bool = False) -> bool:
    found = moment(at)
    return found is not None and (found > since or (equal and found == since))


def _within(at: str | None, bounds: Mapping[str, Any]) -> bool:
    """Whether a time lies in {start?, end?}, both included."""
    found = moment(at) if at else None
    start, end = (moment(bounds[key]) if bounds.get(key) else None for key in ("start", "end"))
    return found is not None and (start is None or found >= start) and (end is None or found <= end)


def _json(text: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(f'The "{name}" query parameter must be valid JSON.', "error-invalid-params")
    return found
