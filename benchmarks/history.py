"""An invented history of a clinic's Rocket.Chat, in Portuguese: the same documents for the same seed, of any length.

Shapes are those of versions 3.x to 8.x as their typings and real dumps show them: livechat rooms of several sources,
team rooms, discussions, visitors with and without the ninth digit, edits with hidden history, the forms of deletion,
threads, reactions, files in GridFS, system messages, agents, departments, inquiries, subscriptions. About one document in
forty is odd in a way that real ones are.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import bson
from bson import Int64, ObjectId

from router.domain.ids import METEOR

Document = dict[str, Any]
BEGIN = datetime(2021, 3, 1, 8, tzinfo=UTC)
APPS = ("5f1c0d2e-whatsapp", "77aa31bc-instagram")
"""`source.id` of the two apps' rooms: map them to channels."""

_FIRST = ("Ana Beatriz", "João Pedro", "Maria Eduarda", "Luiz Otávio", "Conceição", "Antônio", "Sílvia", "Márcio",
          "Verônica", "Cauã", "Letícia", "Íris", "Raimundo", "Dirce", "Wesley", "Thaís", "Elói", "Ângela")  # fmt: skip
_LAST = ("da Silva", "Conceição dos Santos", "Araújo", "Gonçalves", "Müller", "de Sá", "Brandão", "Leão", "Assunção",
         "Takahashi", "Peçanha", "Queirós", "Vasconcelos", "Simões")  # fmt: skip
_ASKS = (
    "Bom dia! Vocês atendem pelo convênio {plan}?", "Queria marcar {what} para {day}, tem horário?",
    "Quanto custa {what}?", "oi, preciso remarcar minha consulta de {day} 😅", "Vocês ficam onde mesmo? tem estacionamento?",
    "Minha mãe pode ir no meu lugar na {day}?", "o resultado do exame já saiu?", "Preciso ficar em jejum pra {what}?",
    "Não consegui abrir o link que vocês mandaram :(", "Obrigada!! até {day}", "Pode ser às {hour}h?",
    "segue a foto da carteirinha", "A Dra. Márcia atende {day} à tarde?", "to com dor desde ontem, dá pra encaixar hoje?",
)  # fmt: skip
_ANSWERS = (
    "Olá, {name}! Aqui é da Clínica Sol, tudo bem?", "Temos {day} às {hour}h ou às {hour}h30, qual fica melhor?",
    "Para {what} o valor particular é combinado na recepção, tá?", "Perfeito, agendado para {day} às {hour}h. Chegue 10 minutinhos antes 🙂",
    "Sim, atendemos {plan}. Pode trazer a carteirinha e um documento com foto.", "Só um momento, por favor, vou verificar com a equipe.",
    "Por gentileza, me confirma seu nome completo e data de nascimento?", "A senhora precisa de 8 horas de jejum.",
    "Resultado disponível no portal. Qualquer dúvida estamos à disposição!", "Segue o preparo em anexo.",
)  # fmt: skip
_SYSTEM = ("uj", "ul", "au", "livechat-started", "livechat_transfer_history", "command", "room_changed_topic")
_SOURCES: tuple[tuple[Document | None, int], ...] = (
    ({"type": "app", "id": APPS[0], "alias": "whatsapp", "label": "WhatsApp"}, 60),
    ({"type": "app", "id": APPS[1], "alias": "instagram", "label": "Instagram"}, 15),
    ({"type": "widget"}, 12), ({"type": "email", "id": "contato@clinica.test"}, 6), ({"type": "sms"}, 3), (None, 4),
)  # fmt: skip
_CHUNK = 261_120


@dataclass
class History:
    """`messages` is how many there are at least (a room is told to its end)."""

    messages: int
    seed: int = 1
    _random: random.Random = field(init=False)
    _now: datetime = field(init=False, default=BEGIN)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._agents = [self._person(f"agente{n}", ["user", "livechat-agent"]) for n in range(12)]
        self._visitors: list[Document] = []
        self._span = timedelta(days=1500) / max(self.messages // 14, 1)

    def documents(self) -> Iterator[tuple[str, Document]]:
        """(collection, document), as they would have been written in time."""
        yield from (("users", agent) for agent in self._agents)
        bot = {"_id": "rocket.cat", "name": "Rocket.Cat", "username": "rocket.cat", "type": "bot", "active": True,
               "roles": ["bot"], "_updatedAt": BEGIN}  # fmt: skip
        yield "users", bot
        yield from self._departments()
        told = 0
        while told < self.messages:
            self._now += self._span * self._random.uniform(0.2, 1.8)
            room = self._livechat() if self._random.random() < 0.9 else self._team()
            for collection, document in room:
                told += collection == "rocketchat_message"
                yield collection, document

    # ---- people

    def _id(self) -> str:
        if self._random.random() < 0.1:
            return f"{self._random.getrandbits(96):024x}"
        return "".join(self._random.choices(METEOR, k=17))

    def _name(self) -> str:
        return f"{self._random.choice(_FIRST)} {self._random.choice(_LAST)}"

    def _person(self, username: str, roles: list[str]) -> Document:
        name = self._name()
        return {
            "_id": self._id(), "createdAt": BEGIN, "roles": roles, "type": "user", "active": True, "username": username,
            "name": name, "emails": [{"address": f"{username}@clinica.test", "verified": True}],
            "services": {"password": {"bcrypt": "$2b$10$" + "x" * 53}, "resume": {"loginTokens": [{"hashedToken": "t" * 44}]}},
            "status": "offline", "utcOffset": -3, "statusLivechat": "available", "_updatedAt": BEGIN,
        }  # fmt: skip

    def _visitor(self) -> tuple[Document, bool]:
        if self._visitors and self._random.random() < 0.35:
            return self._random.choice(self._visitors), False
        number = f"55{self._random.choice((11, 21, 31, 48, 85))}" + (
            "9" if self._random.random() < 0.8 else ""
        )
        number += f"{self._random.randrange(60_000_000, 99_999_999)}"
        visitor: Document = {
            "_id": self._id(), "username": f"guest-{self._random.randrange(10**9)}", "ts": self._now,
            "token": f"{self._random.getrandbits(128):032x}", "name": self._name(), "_updatedAt": self._now,
        }  # fmt: skip
        visitor["phone"] = [{"phoneNumber": number}] if self._random.random() < 0.8 else None
        if self._random.random() < 0.3:
            visitor["visitorEmails"] = [{"address": f"paciente{self._random.randrange(10**9)}@exemplo.test"}]
        if len(self._visitors) < 500:  # who comes back; more would grow with the history
            self._visitors.append(visitor)
        return visitor, True

    def _departments(self) -> Iterator[tuple[str, Document]]:
        for name in ("Recepção", "Financeiro", "Exames"):
            made: Document = {
                "_id": self._id(),
                "name": name,
                "enabled": True,
                "numAgents": 4,
                "_updatedAt": BEGIN,
            }
            yield "rocketchat_livechat_department", made
            for agent in self._agents[:4]:
                yield "rocketchat_livechat_department_agents", {
                    "_id": self._id(), "agentId": agent["_id"], "departmentId": made["_id"],
                    "username": agent["username"], "_updatedAt": BEGIN,
                }  # fmt: skip
        yield "rocketchat_canned_response", {
            "_id": self._id(), "shortcut": "oi", "text": "Olá! Em que posso ajudar?", "scope": "global", "_updatedAt": BEGIN,
        }  # fmt: skip

    # ---- rooms

    def _livechat(self) -> Iterator[tuple[str, Document]]:
        visitor, new = self._visitor()
        if new:
            yield "rocketchat_livechat_visitor", visitor
        agent = self._random.choice(self._agents)
        served = {"_id": agent["_id"], "username": agent["username"], "ts": self._now}
        source = self._random.choices([s for s, _ in _SOURCES], [w for _, w in _SOURCES])[0]
        room: Document = {
            "_id": self._id(), "t": "l", "ts": self._now, "msgs": 0, "usersCount": 2, "fname": visitor["name"],
            "v": {"_id": visitor["_id"], "username": visitor["username"], "token": visitor["token"], "status": "online",
                  "name": visitor["name"], "phone": visitor["phone"]},
            "servedBy": served, "cl": False, "open": True, "waitingResponse": False, "metrics": {},
        }  # fmt: skip
        if source is not None:
            room["source"] = source
        at, said = self._now, list(self._talk(room, visitor, agent))
        at = max((document["ts"] for _, document in said if "ts" in document), default=at)
        room |= {"lm": at, "msgs": len(said), "_updatedAt": at}
        if self._random.random() < 0.985:
            del room["open"]
            room |= {
                "closedAt": at,
                "closer": "user",
                "closedBy": {"_id": agent["_id"], "username": agent["username"]},
            }
        else:
            yield "rocketchat_livechat_inquiry", {
                "_id": self._id(), "rid": room["_id"], "name": visitor["name"], "ts": self._now, "status": "taken",
                "message": "", "v": room["v"], "_updatedAt": at,
            }  # fmt: skip
        yield "rocketchat_room", room
        yield from said

    def _team(self) -> Iterator[tuple[str, Document]]:
        kind = self._random.choice("cpd")
        members = self._random.sample(self._agents, 3)
        room: Document = {
            "_id": self._id(), "t": kind, "ts": self._now, "msgs": 12, "usersCount": 3, "default": False, "ro": False,
            "uids": [member["_id"] for member in members], "_updatedAt": self._now + timedelta(hours=1),
        }  # fmt: skip
        if kind != "d":
            room |= {"name": f"equipe-{self._random.randrange(10**9)}", "fname": "Equipe", "topic": "avisos"}
        yield "rocketchat_room", room
        first: str | None = None
        for step in range(12):
            author = self._random.choice(members)
            said = self._message(
                room, author, self._now + timedelta(minutes=step), self._line(_ANSWERS, "pessoal")
            )
            if first is not None and self._random.random() < 0.2:
                said["tmid"] = first
            if self._random.random() < 0.1:
                said["reactions"] = {
                    ":+1:": {"usernames": [author["username"]]},
                    ":smile.x:": {"usernames": []},
                }
            first = first or said["_id"]
            yield "rocketchat_message", said
        for member in members:
            yield "rocketchat_subscription", {
                "_id": self._id(), "rid": room["_id"], "u": {"_id": member["_id"], "username": member["username"]},
                "t": kind, "open": True, "unread": 0, "ls": self._now, "ts": self._now, "_updatedAt": self._now,
            }  # fmt: skip

    # ---- messages

    def _line(self, lines: tuple[str, ...], name: str) -> str:
        pick = self._random.choice
        return pick(lines).format(
            plan=pick(("Unimed", "Bradesco Saúde", "Amil", "SulAmérica")), name=name, hour=self._random.randrange(8, 19),
            what=pick(("limpeza de pele", "ultrassom", "consulta com a nutricionista", "exame de sangue", "botox")),
            day=pick(("segunda", "terça-feira", "amanhã", "sexta que vem", "dia 15")),
        )  # fmt: skip

    def _message(self, room: Document, author: Document, at: datetime, text: str) -> Document:
        return {
            "_id": self._id(), "rid": room["_id"], "msg": text, "ts": at,
            "u": {"_id": author["_id"], "username": author["username"], "name": author["name"]},
            "_updatedAt": at + timedelta(milliseconds=self._random.randrange(5, 400)), "urls": [], "mentions": [],
            "channels": [], "md": [{"type": "PARAGRAPH", "value": [{"type": "PLAIN_TEXT", "value": text}]}],
        }  # fmt: skip

    def _talk(self, room: Document, visitor: Document, agent: Document) -> Iterator[tuple[str, Document]]:
        at, chance = self._now, self._random.random
        for step in range(self._random.randrange(4, 26)):
            at += timedelta(seconds=self._random.randrange(3, 600), milliseconds=self._random.randrange(1000))
            if chance() < 0.08 or step == 0:
                note = self._message(room, agent, at, "")
                note |= {
                    "t": "livechat-started" if step == 0 else self._random.choice(_SYSTEM),
                    "groupable": False,
                }
                yield "rocketchat_message", note
                continue
            theirs = chance() < 0.55
            said = self._message(
                room, visitor if theirs else agent, at,
                self._line(_ASKS if theirs else _ANSWERS, str(visitor["name"]).partition(" ")[0]),
            )  # fmt: skip
            if theirs:
                said |= {"token": visitor["token"], "alias": visitor["name"]}
            if chance() < 0.012:
                yield from self._upload(room, said, visitor if theirs else None)
            yield from self._later(said)
            yield "rocketchat_message", said

    def _later(self, said: Document) -> Iterator[tuple[str, Document]]:
        """Edited, deleted, starred."""
        chance = self._random.random()
        by = {"_id": said["u"]["_id"], "username": said["u"]["username"]}
        if chance < 0.024:
            older = {
                **said,
                "_id": self._id(),
                "_hidden": True,
                "parent": said["_id"],
                "editedAt": said["ts"],
                "editedBy": by,
            }
            said |= {
                "msg": said["msg"] + " (corrigido)",
                "editedAt": said["ts"] + timedelta(seconds=40),
                "editedBy": by,
            }
            yield "rocketchat_message", older
        elif chance < 0.030:
            said |= {
                "t": "rm",
                "msg": "",
                "urls": [],
                "attachments": [],
                "reactions": {},
                "editedAt": said["ts"],
                "editedBy": by,
            }
            del said["md"]
        elif chance < 0.033:
            said["_hidden"] = True
        elif chance < 0.040:
            said |= {"starred": [{"_id": by["_id"]}], "pinned": True, "pinnedAt": said["ts"]}

    def _upload(
        self, room: Document, said: Document, visitor: Document | None
    ) -> Iterator[tuple[str, Document]]:
        upload_id, size = self._id(), self._random.choices((0, 900, 9_000, 300_000), (1, 8, 8, 1))[0]
        content = self._random.randbytes(size)
        name, at = f"carteirinha-{self._random.randrange(999)}.jpg", said["ts"]
        yield "rocketchat_uploads", {
            "_id": upload_id, "name": name, "size": Int64(size), "type": "image/jpeg", "rid": room["_id"],
            ("visitorToken" if visitor else "userId"): visitor["token"] if visitor else said["u"]["_id"],
            "store": "GridFS:Uploads", "path": f"/ufs/GridFS:Uploads/{upload_id}/{name}", "complete": True,
            "uploading": False, "uploadedAt": at, "_updatedAt": at, "token": "f" * 10,
        }  # fmt: skip
        yield "rocketchat_uploads.files", {
            "_id": upload_id, "length": size, "chunkSize": _CHUNK, "uploadDate": at, "filename": upload_id,
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(), "contentType": "image/jpeg",
        }  # fmt: skip
        pieces = [(n, content[n * _CHUNK : (n + 1) * _CHUNK]) for n in range(-(-size // _CHUNK))]
        for n, data in reversed(pieces):
            chunk_id = ObjectId(self._random.randbytes(12))
            yield "rocketchat_uploads.chunks", {"_id": chunk_id, "files_id": upload_id, "n": n, "data": data}
        said |= {
            "msg": "", "file": {"_id": upload_id, "name": name, "type": "image/jpeg", "size": size},
            "files": [{"_id": upload_id, "name": name, "type": "image/jpeg", "size": size}],
            "attachments": [{"title": name, "type": "file", "image_url": f"/file-upload/{upload_id}/{name}",
                             "title_link": f"/file-upload/{upload_id}/{name}", "image_type": "image/jpeg", "image_size": size}],
        }  # fmt: skip


def write_folder(folder: Path, messages: int, seed: int = 1) -> dict[str, int]:
    """A mongodump folder; documents by collection. Written as it goes: of any length in the same memory."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, BinaryIO] = {}
    counts: dict[str, int] = {}
    try:
        for collection, document in History(messages, seed).documents():
            if collection not in files:
                files[collection] = (folder / f"{collection}.bson").open("wb")
            files[collection].write(bson.encode(document))
            counts[collection] = counts.get(collection, 0) + 1
    finally:
        for file in files.values():
            file.close()
    return counts


def main() -> None:
    """`python -m benchmarks.history FOLDER --messages N`."""
    parser = argparse.ArgumentParser(description="write an invented history as a mongodump folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for collection, count in sorted(write_folder(given.folder, given.messages, given.seed).items()):
        print(f"{count:>9}  {collection}")


if __name__ == "__main__":
    main()
