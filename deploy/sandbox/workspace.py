"""What the Rocket.Chat stand-in holds: users, visitors, livechat rooms, messages. Plain state, no network."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from deploy.sandbox.record import now

_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz"  # Meteor's Random.id
API_USER_ID = "figueiraBotAgnt23"
AGENTS = (
    ("agenteAnaRecep234", "ana.recepcao", "Ana Recepção"),
    ("agenteBiaRecep234", "bia.recepcao", "Bia Recepção"),
    ("agenteCaioAtend23", "caio.atendimento", "Caio Atendimento"),
)

Document = dict[str, Any]


def new_id() -> str:
    """17 characters, as Meteor makes them."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(17))


def author(user: Document) -> Document:
    return {"_id": user["_id"], "username": user["username"], "name": user["name"]}


def _addresses(user: Document) -> list[str]:
    return [str(email["address"]).lower() for email in user.get("emails", [])]


@dataclass
class Upload:
    """A file in Rocket.Chat; `confirmed` once it is a message. `token` opens it without a login."""

    id: str
    rid: str
    user_id: str
    name: str
    mime: str
    data: bytes = field(repr=False)
    at: float = field(default_factory=time.time)
    confirmed: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def path(self) -> str:
        return f"/file-upload/{self.id}/{quote(self.name)}"


@dataclass
class Room:
    """A livechat room: its document, as REST shows it, and its messages, oldest first."""

    document: Document
    app: str
    wa_id: str
    visitor: Document
    messages: list[Document] = field(default_factory=list)

    @property
    def rid(self) -> str:
        return str(self.document["_id"])

    @property
    def is_open(self) -> bool:
        return self.document.get("open") is True


class Workspace:
    """One Rocket.Chat's data. At most one open room per (app, wa_id)."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.users: dict[str, Document] = {}
        self.rooms: dict[str, Room] = {}
        self.messages: dict[str, Document] = {}
        self._open: dict[tuple[str, str], str] = {}
        self._visitors: dict[tuple[str, str], Document] = {}
        self._wamids: set[tuple[str, str]] = set()
        self.uploads: dict[str, Upload] = {}
        self.integrations: dict[str, Document] = {}
        self.said_by: dict[str, str] = {}
        self.add_user(API_USER_ID, "figueira.bot", "Figueira", "bot")
        self.add_user("rocket.cat", "rocket.cat", "Rocket.Cat", "bot")
        for user_id, username, name in AGENTS:
            self.add_user(user_id, username, name, "user")

    def add_user(self, user_id: str, username: str, name: str, kind: str) -> Document:
        user = {
            "_id": user_id,
            "username": username,
            "name": name,
            "type": kind,
            "active": True,
            "status": "online",
            "roles": ["user", "livechat-agent"] if kind == "user" else ["bot", "livechat-agent"],
            "emails": [],
            "createdAt": now(),
            "utcOffset": -3,
        }
        self.users[user_id] = user
        return user

    def find_user(
        self, user_id: str | None, username: str | None, email: str | None = None
    ) -> Document | None:
        """By the first of the three that is given."""
        if user_id:
            return self.users.get(user_id)
        if username:
            return next((user for user in self.users.values() if user["username"] == username), None)
        wanted = (email or "").lower()
        return (
            next((user for user in self.users.values() if wanted in _addresses(user)), None)
            if wanted
            else None
        )

    def first_time(self, app: str, wamid: object) -> bool:
        """Whether the app has not had this WhatsApp message yet; remembers it. Without an id (or with what is none) all
        are new."""
        if not isinstance(wamid, str):
            return True
        key = (app, wamid)
        if key in self._wamids:
            return False
        self._wamids.add(key)
        return True

    def open_room(self, app: str, wa_id: str) -> Room | None:
        rid = self._open.get((app, wa_id))
        return self.rooms[rid] if rid else None

    def last_room(self, wa_id: str) -> Room | None:
        """The newest room of a customer, open or closed."""
        return next((room for room in reversed(self.rooms.values()) if room.wa_id == wa_id), None)

    def create_room(self, app: str, label: str, wa_id: str, name: str, agent: Document | None) -> Room:
        visitor = self._visitor(app, wa_id, name)
        at = now()
        document: Document = {
            "_id": new_id(),
            "t": "l",
            "fname": visitor["name"],
            "ts": at,
            "lm": at,
            "msgs": 0,
            "usersCount": 1 if agent else 0,
            "open": True,
            "waitingResponse": True,
            "v": {
                "_id": visitor["_id"],
                "token": visitor["token"],
                "username": visitor["username"],
                "name": visitor["name"],
                "phone": wa_id,
                "status": "online",
            },
            "source": {"type": "app", "id": app, "label": label, "alias": label.lower()},
            "_updatedAt": at,
        }
        if agent:
            document["servedBy"] = {"_id": agent["_id"], "username": agent["username"], "ts": at}
        room = Room(document, app, wa_id, visitor)
        self.rooms[room.rid] = room
        self._open[app, wa_id] = room.rid
        return room

    def add_message(self, room: Room, text: str, user: Document, **extra: object) -> Document:
        """Append a message; `extra` may bring its own `_id`, `token`, `t`."""
        at = now()
        message: Document = {
            "_id": new_id(),
            "rid": room.rid,
            "msg": text,
            "ts": at,
            "u": author(user),
            "_updatedAt": at,
            **extra,
        }
        room.messages.append(message)
        self.messages[message["_id"]] = message
        room.document.update(lm=at, _updatedAt=at, msgs=len(room.messages))
        return message

    def add_upload(self, rid: str, user_id: str, name: str, mime: str, data: bytes) -> Upload:
        upload = Upload(new_id(), rid, user_id, name, mime, data)
        self.uploads[upload.id] = upload
        return upload

    def edit(self, message: Document, user: Document, text: str) -> None:
        at = now()
        message.update(msg=text, editedAt=at, editedBy=author(user), _updatedAt=at)

    def close(self, room: Room, user: Document, comment: str) -> Document:
        """Close an open room as an agent; `open` is unset, as Rocket.Chat does. Returns the closing message."""
        message = self.add_message(room, comment, user, t="livechat-close")
        room.document.pop("open")
        room.document.update(
            closedAt=message["ts"],
            closer="user",
            closedBy={"_id": user["_id"], "username": user["username"]},
            closingMessage=comment,
        )
        self._open.pop((room.app, room.wa_id), None)
        return message

    def _visitor(self, app: str, wa_id: str, name: str) -> Document:
        key = (app, wa_id)
        if key not in self._visitors:
            self._visitors[key] = {
                "_id": new_id(),
                "token": secrets.token_hex(16),
                "username": f"guest-{len(self._visitors) + 1}",
                "name": name or wa_id,
                "phone": [{"phoneNumber": wa_id}],
            }
        return self._visitors[key]
