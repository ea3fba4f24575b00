"""A patient with a history everywhere, another one in the same events, and a look at everything that is kept."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import bson

from adapters.native.whatsapp import WhatsApp
from adapters.rocketchat.webhook import Webhook
from router.control.desk import Desk
from router.domain.channel import RESERVED
from router.domain.conversation import Contact
from router.domain.errors import Rejected
from router.domain.job import DeadLetter, Event
from router.domain.message import Author, Content, Direction, Message, Status
from router.domain.policy import Policy
from router.domain.ports import Fact, RoomInfo, RoomMessage, Tx
from router.identity import Resolver
from router.ingest import Ingest, Rooms
from router.storage.postgres import PostgresStore
from router.storage.queries.link import link_of
from tests.integration.control.desk_scene import SOL, keep, make_desk, say

MARIA, JOAO = "5511987654321", "5521976543210"
NAME, OTHER = "Maria Quitéria", "João Cabral"
TOKEN = "tok-da-maria-quiteria"
ROOM, VISITOR = "rOOmOfMaria123456", "vISItorMaria12345"
WORDS = "preciso remarcar a laser"
THEIRS = "palavras do outro"


def wamid(number: str, which: int) -> str:
    """As WhatsApp makes them: the number is in there."""
    return "wamid." + base64.b64encode(b"\x1c\x15\x0c" + number.encode() + bytes([which])).decode()


def said(
    number: str, name: str, which: int, text: str, at: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(contact, message) of a webhook."""
    message = {
        "from": number, "id": wamid(number, which), "timestamp": str(int(at.timestamp())), "type": "text",
        "text": {"body": text},
    }  # fmt: skip
    return {"profile": {"name": name}, "wa_id": number}, message


def webhook(
    *parts: tuple[dict[str, Any], dict[str, Any]], statuses: Sequence[dict[str, Any]] = (), salt: int = 0
) -> bytes:
    value: dict[str, Any] = {
        "messaging_product": "whatsapp", "metadata": {"display_phone_number": "551140028922", "phone_number_id": "100"},
    }  # fmt: skip
    if parts:
        value |= {"contacts": [who for who, _ in parts], "messages": [what for _, what in parts]}
    if statuses:
        value["statuses"] = list(statuses)
    entry = {"id": f"88001122{salt}", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


@dataclass
class Scene:
    desk: Desk
    ingest: Ingest
    rooms: Rooms
    began: datetime
    link: "asyncpg.Connection[asyncpg.Record]"
    """As the superuser, who sees all."""

    async def post(self, body: bytes, slug: str = "wa-sol", *, split: bool = True) -> Event:
        tenant = SOL if slug != RESERVED else "*"
        event = Event(
            id=self.desk.ids.new(), tenant=tenant, channel=slug, received_at=datetime.now(UTC),
            digest=hashlib.sha256(body).digest(), method="POST", raw_path=b"", query=b"",
            headers=((b"X-Hub-Signature-256", b"sha256=" + hashlib.sha256(body).hexdigest().encode()),), body=body,
        )  # fmt: skip
        await self.desk.store.accept(event)
        while split and await self.ingest.split(slug):
            pass
        return event

    async def contact(self, number: str) -> Contact | None:
        channel = self.desk.channels["wa-sol"]

        async def find(tx: Tx) -> Contact | None:
            aliases = WhatsApp().addresses(channel, number)
            found = await tx.identities(SOL, aliases)
            return await tx.contact(found[0][1].contact_id) if found else None

        return await self.desk.store.transact(find)

    async def swept(self, *said: RoomMessage, room: str = ROOM) -> list[Fact] | None:
        info = self.info(room)
        return await self.desk.store.transact(lambda tx: self.rooms.swept(tx, info, said))

    def info(self, room: str = ROOM) -> RoomInfo:
        return RoomInfo(
            room, "app", "app", visitor_id=VISITOR, visitor_token_digest=hashlib.sha256(TOKEN.encode()).hexdigest(),
            visitor_phones=(f"+{MARIA}",), visitor_name=NAME, active_at=self.began,
        )  # fmt: skip

    async def fetch(self, statement: str, *values: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.link.fetch(statement, *values)]


async def make_scene(store: PostgresStore, link: "asyncpg.Connection[asyncpg.Record]") -> Scene:
    desk = await make_desk(store)
    desk = replace(desk, kinds={**desk.kinds, "whatsapp": WhatsApp()})
    resolver = Resolver(desk.ids, b"c" * 32)
    rooms = Rooms(
        pins=desk.facade, resolver=resolver, ids=desk.ids, channels=desk.channels,
        webhook=Webhook({"app": "wa-sol"}, desk.channels), bot_user_id="bot",
    )  # fmt: skip
    ingest = Ingest(
        store=store, pins=desk.facade, resolver=resolver, ids=desk.ids, channels=desk.channels, kinds=desk.kinds,
        rooms=rooms, meter=desk.meter, policy=Policy(),
    )  # fmt: skip
    return Scene(desk, ingest, rooms, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2), link)


def reported(source_id: str, text: str, at: datetime, **more: Any) -> RoomMessage:
    return RoomMessage(source_id, False, VISITOR, Content("text", text, {"alias": NAME}), at, **more)


async def history(scene: Scene) -> tuple[UUID, UUID]:
    """Both patients' contacts: she wrote in a batch with him, in Rocket.Chat, sent a picture, was written to, has a dead
    letter, an event nobody has split, and a copied history."""
    desk, at = scene.desk, scene.began
    hers, his = said(MARIA, NAME, 1, WORDS, at), said(JOAO, OTHER, 1, THEIRS, at)
    read = {
        "id": wamid(MARIA, 9),
        "status": "read",
        "timestamp": str(int(at.timestamp())),
        "recipient_id": MARIA,
    }
    await scene.post(webhook(hers, his, said(MARIA, NAME, 2, f"{WORDS} dois", at), statuses=[read]))
    await scene.post(webhook(said(MARIA, NAME, 3, f"{WORDS} tres", at), salt=1))
    maria, joao = await scene.contact(MARIA), await scene.contact(JOAO)
    assert maria is not None
    assert joao is not None
    await scene.swept(reported("rcMessageMaria001", f"{WORDS} na sala", at + timedelta(minutes=1)))
    conversation = await desk.store.transact(lambda tx: _conversation(tx, maria.id))
    sent = await say(
        desk, conversation, f"Olá {NAME}", direction=Direction.OUTBOUND, author=Author.HUMAN, status=Status.QUEUED,
        external_id=wamid(MARIA, 7), metadata={"nome": NAME},
    )  # fmt: skip
    await keep(desk, sent, b"\x89PNG retrato da Maria", name=f"{NAME}.png", mime="image/png")
    shared = await say(desk, await desk.store.transact(lambda tx: _conversation(tx, joao.id)), THEIRS)
    for one in (sent, shared):
        await keep(desk, one, b"%PDF de ambos", name="ambos.pdf")
    await _rocketchat(scene, maria)
    await _letter(scene, sent)
    await _archive(scene)
    await scene.post(webhook(said(MARIA, NAME, 4, f"{WORDS} ainda", at), his, salt=2), split=False)
    return maria.id, joao.id


async def _conversation(tx: Tx, contact_id: UUID) -> Any:
    identity = await tx.identity_of_contact(contact_id, "whatsapp")
    assert identity is not None
    conversation = await tx.open_conversation("wa-sol", identity.id)
    assert conversation is not None
    return conversation


async def _rocketchat(scene: Scene, maria: Contact) -> None:
    body = {
        "_id": ROOM, "type": "Message", "visitor": {"_id": VISITOR, "token": TOKEN, "name": NAME, "phone": [{"phoneNumber": f"+{MARIA}"}]},
        "messages": [{"_id": "rcMessageMaria002", "msg": f"{WORDS} pelo webhook", "ts": scene.began.isoformat(), "u": {"_id": VISITOR}}],
    }  # fmt: skip
    await scene.post(json.dumps(body).encode(), RESERVED)
    # Of a room that nobody has placed yet: it waits.
    await scene.post(json.dumps(body | {"_id": "unplacedRoom12345"}).encode(), RESERVED)
    assert maria.user_id is not None
    user_id = maria.user_id
    await scene.desk.store.transact(lambda tx: tx.map_rocketchat_user(VISITOR, user_id, "whatsapp"))


async def _letter(scene: Scene, sent: Message) -> None:
    async def bury(tx: Tx) -> None:
        jobs = await tx.jobs_of_conversation(sent.conversation_id)
        forward = next(job for job in jobs if job.event_id is not None)
        await tx.add_dead_letter(
            DeadLetter(replace(forward, id=scene.desk.ids.new()), "exhausted", await tx.now())
        )

    await scene.desk.store.transact(bury)


async def _archive(scene: Scene) -> None:
    stored = (
        await scene.desk.files.save(_piece(b"OggS voz da Maria"), limit=1000) if scene.desk.files else None
    )
    assert stored is not None
    visitor = bson.encode({"_id": VISITOR, "name": NAME, "phone": [{"phoneNumber": f"+{MARIA}"}]})
    message = bson.encode({"_id": "rcMessageMaria003", "rid": ROOM, "msg": WORDS})
    info = {"visitor_id": VISITOR, "phones": [f"+{MARIA}"], "name": NAME}
    statements: list[tuple[str, tuple[object, ...]]] = [
        ("insert into archive_rooms (source_id, kind, name, visitor_id, contact_ref, info, raw) values ($1, 'l', $2, $3, 'rcContact1', $4, $5)",
         (ROOM, NAME, VISITOR, info, bson.encode({"fname": NAME}))),
        ("insert into archive_rooms (source_id, kind, name, visitor_id, info, raw) values ('earlierRoom123456', 'l', $1, $2, $3, $4)",
         (NAME, VISITOR, info, bson.encode({"fname": NAME}))),
        ("insert into archive_rooms (source_id, kind, name, visitor_id, info, raw) values ('rOOmOfJoao1234567', 'l', $1, 'vJ', $2, $3)",
         (OTHER, {"phones": [JOAO]}, bson.encode({"fname": OTHER}))),
        ("insert into archive_messages (source_id, room_id, sent_at, author, text, raw) values ('rcMessageMaria003', 'earlierRoom123456', now(), $1, $2, $3)",
         (NAME, WORDS, message)),
        ("insert into archive_messages (source_id, room_id, sent_at, author, text, raw) values ('rcMessageJoao0001', 'rOOmOfJoao1234567', now(), $1, $2, 'x')",
         (OTHER, THEIRS)),
        ("insert into archive_files (source_id, room_id, name, raw, state, sha256, stored_size) values ('upl1', $1, $2, $3, 'stored', $4, $5)",
         (ROOM, f"{NAME}.ogg", visitor, stored.sha256, stored.size)),
        ("insert into archive_records (collection, source_id, name, raw) values ('rocketchat_livechat_visitor', $1, $2, $3)",
         (VISITOR, NAME, visitor)),
        ("insert into archive_records (collection, source_id, name, raw) values ('rocketchat_livechat_visitor', 'another-of-hers', $1, $2)",
         (NAME, visitor)),
        ("insert into archive_records (collection, source_id, name, raw) values ('rocketchat_livechat_contact', 'rcContact1', $1, $2)",
         (NAME, visitor)),
        ("insert into archive_records (collection, source_id, name, room_id, raw) values ('rocketchat_livechat_inquiry', 'inq1', $1, $2, $3)",
         (NAME, ROOM, visitor)),
        ("insert into archive_records (collection, source_id, name, raw) values ('users', 'agent', 'Atendente', 'x')", ()),
        ("insert into rejects (collection, key, position, code, reason, raw, seen_at) values ('rocketchat_message', 'at:7', '7', 'nul', 'r', $1, now())",
         (message,)),
        ("insert into rejects (collection, key, position, code, reason, raw, seen_at) values ('rocketchat_message', 'at:8', '8', 'nul', 'r', 'x', now())", ()),
    ]  # fmt: skip

    async def put(tx: Tx) -> None:
        for statement, values in statements:
            await link_of(tx).execute(statement, *(v.encode() if v == "x" else v for v in values))

    await scene.desk.store.transact(put)


async def _piece(whole: bytes) -> Any:
    yield whole


async def everything(scene: Scene) -> str:
    """Every row of every table as text; bytes as latin-1 and decoded from base64 wherever something looks like it."""
    link = scene.link
    tables = await link.fetch(
        "select table_name as name from information_schema.tables where table_schema = 'public' order by 1"
    )
    found = []
    for table in tables:
        for row in await link.fetch(f"select * from {table['name']}"):  # noqa: S608 - the catalogue's own names
            for value in row.values():
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                found.append(f"{table['name']}: {text}")
                found += [
                    f"{table['name']}: {_decoded(one)}"
                    for one in re.findall(r"wamid\.([A-Za-z0-9+/=]+)", text)
                ]
    return "\n".join(line.replace("\n", " ") for line in found)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("latin-1")
    except ValueError:
        return text


__all__ = ["Rejected", "everything", "history", "make_scene"]
