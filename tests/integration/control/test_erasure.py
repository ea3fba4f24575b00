"""A contact is erased: nothing of the person is left, nothing brings it back, nobody else loses anything."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from router.control import audit, contacts, conversations, erasure, messages
from router.domain.channel import RESERVED
from router.domain.errors import Rejected, Unavailable
from router.domain.ports import Tx
from router.storage.archive import landing
from router.storage.postgres import PostgresStore
from tests.conftest import Server
from tests.integration.control.desk_scene import LUA, SOL, MemoryFiles, held, order
from tests.integration.control.erasure_scene import (
    JOAO,
    MARIA,
    NAME,
    OTHER,
    ROOM,
    THEIRS,
    TOKEN,
    VISITOR,
    WORDS,
    Scene,
    everything,
    history,
    make_scene,
    reported,
    said,
    wamid,
    webhook,
)

pytestmark = pytest.mark.postgres


@pytest.fixture
async def scene(postgres: Server, dsn: str, postgres_store: PostgresStore) -> AsyncIterator[Scene]:
    link = await asyncpg.connect(postgres.dsn(urlsplit(dsn).path.strip("/")))
    yield await make_scene(postgres_store, link)
    await link.close()


def traces_in(dump: str) -> set[str]:
    """The lines that give her away."""
    marks = (MARIA, MARIA[4:], NAME, NAME.encode().decode("latin-1"), "Quit", WORDS, TOKEN, "da Maria")
    return {line for line in dump.split("\n") if any(mark in line for mark in marks)}


async def test_nothing_of_the_person_is_left_and_the_other_keeps_all(scene: Scene) -> None:
    maria, joao = await history(scene)
    before = await everything(scene)
    assert len({line.partition(":")[0] for line in traces_in(before)}) >= 12
    counted = await scene.fetch("select channel, state, count(*) from events group by 1, 2 order by 1, 2")
    told = await erasure.erase(scene.desk, maria, by="ana@sol.example", tenant=SOL)
    dump = await everything(scene)
    assert traces_in(dump) == set()
    assert told["user"] == "dropped"
    assert told["counts"] | {"addresses": 0, "messages": 0, "jobs": 0} == {
        "conversations": 1, "messages": 0, "files": 2, "events": 3, "events_cut": 2, "jobs": 0, "dead_letters": 0,
        "archive_messages": 1, "archive_rooms": 2, "archive_files": 1, "archive_records": 4, "rejects": 1,
        "addresses": 0, "mappings": 1,
    }  # fmt: skip
    # Who wrote in the same webhooks is still there, and so are his words in them, wherever they stood.
    for mark in (JOAO, OTHER, THEIRS):
        assert mark in dump
    bodies = await scene.fetch("select body from events where channel = 'wa-sol' and body is not null")
    assert [one["messages"][0]["from"] for one in map(_value, bodies)] == [JOAO, JOAO]
    assert sorted(held(scene.desk).held.values()) == [b"%PDF de ambos"]
    assert (await contacts.one(scene.desk, joao, SOL))["name"] == OTHER
    (letter,) = await scene.fetch("select job from dead_letters")  # his part of it can still be replayed
    talk = await scene.fetch("select id from conversations where contact_id = $1", joao)
    assert [share[1] for share in json.loads(letter["job"])["shares"]] == [str(talk[0]["id"])]
    # Every event and every message is still counted.
    after = await scene.fetch("select channel, state, count(*) from events group by 1, 2 order by 1, 2")
    assert sum(row["count"] for row in after) == sum(row["count"] for row in counted)
    assert (
        len(await scene.fetch("select from messages where content_kind = 'erased'"))
        == told["counts"]["messages"]
    )
    assert not await scene.fetch("select from tb_rocketchat_user_mapping")
    assert len(await scene.fetch("select from tb_users")) == 1
    erased = await scene.fetch(
        "select source_id from archive_rooms where erased_at is not null and raw is null order by 1"
    )
    assert [row["source_id"] for row in erased] == ["earlierRoom123456", ROOM]


def _value(row: dict[str, bytes]) -> dict[str, list[dict[str, str]]]:
    value: dict[str, list[dict[str, str]]] = json.loads(row["body"])["entry"][0]["changes"][0]["value"]
    assert [one["wa_id"] for one in value["contacts"]] == [JOAO]
    assert "statuses" not in value or value["statuses"] == []
    return value


async def test_the_others_part_is_still_forwarded_by_its_new_name(scene: Scene) -> None:
    maria, joao = await history(scene)
    await erasure.erase(scene.desk, maria, by="cli")
    while await scene.ingest.split("wa-sol"):
        pass
    jobs = await scene.fetch("select * from jobs where kind = 'forward' order by seq")
    assert len(jobs) == 1  # of the second event with him in it he was known already
    event = await scene.desk.store.transact(lambda tx: tx.event(jobs[0]["event_id"], jobs[0]["event_at"]))
    assert event is not None
    kind = scene.desk.kinds["whatsapp"]
    ((ref, _, _),) = json.loads(jobs[0]["shares"])
    assert JOAO.encode() in kind.divide(event.body, [ref])
    assert jobs[0]["whole"] is False
    lanes = await scene.fetch("select lane from lane_jobs")
    conversation = await scene.fetch("select id from conversations where contact_id = $1", joao)
    assert [row["lane"] for row in lanes] == [f"inbound:{conversation[0]['id']}"]
    assert kind.verify(scene.desk.channels["wa-sol"], event.headers, event.body)


async def test_a_dry_run_counts_and_changes_nothing(scene: Scene) -> None:
    maria, _ = await history(scene)
    before = await everything(scene)
    told = await erasure.erase(scene.desk, maria, by="cli", dry_run=True)
    assert await everything(scene) == before
    done = await erasure.erase(scene.desk, maria, by="cli")
    assert told == {**done, "dry_run": True}


async def test_nothing_brings_back_what_was_said_before(scene: Scene) -> None:
    maria, _ = await history(scene)
    at = scene.began
    first = webhook(said(MARIA, NAME, 3, f"{WORDS} tres", at), salt=1)
    await erasure.erase(scene.desk, maria, by="cli")
    rows = len(await scene.fetch("select from messages"))
    await scene.post(first)  # the very same body
    again = webhook(said(MARIA, NAME, 3, f"{WORDS} tres", at), said(MARIA, NAME, 5, WORDS, at), salt=9)
    await scene.post(again)  # another body with the same message, and one that was never seen
    old = at + timedelta(minutes=1)
    await scene.swept(
        reported("rcMessageMaria001", f"{WORDS} mudado", old, edited=True),
        reported("rcNeverSeen000001", WORDS, old),
    )
    assert await scene.desk.store.transact(lambda tx: scene.rooms.learn(tx, scene.info())) is None
    assert len(await scene.fetch("select from messages where direction = 'inbound'")) <= rows
    dump = await everything(scene)
    assert not {line for line in traces_in(dump) if not line.startswith(("events:", "event_digests:"))}
    assert await scene.contact(MARIA) is None


async def test_what_they_say_afterwards_starts_a_new_life(scene: Scene) -> None:
    maria, _ = await history(scene)
    await erasure.erase(scene.desk, maria, by="cli")
    now = datetime.now(UTC) + timedelta(seconds=2)
    await scene.post(webhook(said(MARIA, "Maria", 6, "bom dia", now), salt=6))
    back = await scene.contact(MARIA)
    assert back is not None
    assert back.id != maria
    # The room in Rocket.Chat is the old one: what stands in it from before stays out, also beside what is new.
    old = scene.began + timedelta(minutes=1)
    await scene.swept(
        reported("rcNeverSeen000001", WORDS, old),
        reported("rcMessageMaria001", WORDS, old),
        reported("rcMessageNova0001", "novidade", now + timedelta(seconds=5)),
    )
    said_now = await scene.fetch(
        "select m.text from messages m join conversations c on c.id = m.conversation_id where c.contact_id = $1"
        " order by m.sent_at",
        back.id,
    )
    assert [row["text"] for row in said_now] == ["bom dia", "novidade"]


async def test_a_late_report_finds_the_emptied_message_by_its_digest(scene: Scene) -> None:
    maria, _ = await history(scene)
    await erasure.erase(scene.desk, maria, by="cli")
    sent = wamid(MARIA, 7)

    async def look(tx: Tx) -> tuple[set[str], str | None]:
        found = await tx.message_by_external("wa-sol", sent)
        return await tx.known("wa-sol", [sent, "wamid.other"]), found.external_id if found else None

    known, external_id = await scene.desk.store.transact(look)
    assert known == {sent}
    assert external_id is not None
    assert external_id.startswith("erased:")


async def test_a_room_that_only_live_traffic_knows_is_marked_for_an_import_to_come(scene: Scene) -> None:
    maria, _ = await history(scene)
    room_id = "onlyLiveRoom12345"
    await scene.swept(reported("rcMessageMaria009", WORDS, datetime.now(UTC)), room=room_id)
    await erasure.erase(scene.desk, maria, by="cli")
    (room,) = await scene.fetch(
        "select kind, skipped, raw, erased_at > now() - interval '1 minute' as now from archive_rooms where source_id = $1",
        room_id,
    )
    assert room == {"kind": "l", "skipped": None, "raw": None, "now": True}


async def test_it_waits_for_who_weaves_before_it_holds_anything_weaving_needs(scene: Scene, dsn: str) -> None:
    maria, _ = await history(scene)
    weaving = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    try:
        async with weaving.transaction():
            await landing.alone(weaving, ["rocketchat_message"])  # type: ignore[arg-type]
            erasing = asyncio.create_task(erasure.erase(scene.desk, maria, by="cli"))
            async with asyncio.timeout(10):
                while not await scene.fetch(
                    "select from pg_locks where locktype = 'advisory' and not granted"
                ):
                    await asyncio.sleep(0.02)
            assert not erasing.done()
            held = await weaving.fetch("select id from contacts where id = $1 for update nowait", maria)
            assert len(held) == 1
        await erasing
    finally:
        await weaving.close()


async def test_twice_is_once(scene: Scene) -> None:
    maria, _ = await history(scene)
    await erasure.erase(scene.desk, maria, by="cli")
    before = await everything(scene)
    again = await erasure.erase(scene.desk, maria, by="cli")
    assert {name: count for name, count in again["counts"].items() if count} == {"conversations": 1}
    assert again["user"] == "none"
    assert traces_in(before) == set()
    with pytest.raises(Rejected, match="no such contact"):
        await contacts.one(scene.desk, maria, SOL)


async def test_bytes_that_could_not_be_deleted_are_deleted_the_next_time(scene: Scene) -> None:
    class Down(MemoryFiles):
        async def delete(self, sha256: str) -> None:
            raise Unavailable("the file store does not answer")

    maria, _ = await history(scene)
    down = Down()
    down.held = held(scene.desk).held
    with pytest.raises(Unavailable):
        await erasure.erase(replace(scene.desk, files=down), maria, by="cli")
    assert len(down.held) == 3
    assert traces_in(await everything(scene)) == set()
    await erasure.erase(scene.desk, maria, by="cli")
    assert sorted(held(scene.desk).held.values()) == [b"%PDF de ambos"]
    assert not await scene.fetch("select from media where error_code = 'erased'")


async def test_it_is_audited_without_a_word_of_them(scene: Scene) -> None:
    maria, _ = await history(scene)
    told = await erasure.erase(scene.desk, maria, by="ana@sol.example", tenant=SOL)
    (row,) = await audit.listing(scene.desk)
    assert (row["act"], row["tenant"]) == ("contact.erase", SOL)
    assert row["subject"] == scene.desk.pseudonym(str(maria))
    assert row["detail"] == {**told["counts"], "user": "dropped"}
    assert await audit.verify(scene.desk) is None


async def test_the_clinics_own_user_is_left(scene: Scene) -> None:
    user_id = uuid4()

    async def known(tx: Tx) -> None:
        from router.storage.queries.link import link_of

        await link_of(tx).execute(
            "insert into tb_users (id_user, nm_completo, ds_origem, st_tipo_usuario) values ($1, 'Da Clinica', 'site', 'paciente')",
            user_id,
        )

    await scene.desk.store.transact(known)
    await scene.desk.store.transact(lambda tx: tx.map_rocketchat_user(VISITOR, user_id, "whatsapp"))
    await scene.swept(reported("rcMessageMaria001", WORDS, scene.began))
    maria = await scene.contact(MARIA)
    assert maria is not None
    assert maria.user_id == user_id
    told = await erasure.erase(scene.desk, maria.id, by="cli")
    assert told["user"] == "left"
    assert (await scene.fetch("select nm_completo from tb_users"))[0]["nm_completo"] == "Da Clinica"
    assert not await scene.fetch("select from tb_rocketchat_user_mapping")


async def test_anothers_contact_does_not_exist(scene: Scene) -> None:
    maria, _ = await history(scene)
    before = await everything(scene)
    for attempt in (
        erasure.erase(scene.desk, maria, by="cli", tenant=LUA),
        erasure.erase(scene.desk, uuid4(), by="cli"),
        erasure.erase(scene.desk, "no id", by="cli"),
    ):
        with pytest.raises(Rejected, match="no such contact"):
            await attempt
    assert await everything(scene) == before


async def test_nobody_writes_to_who_was_erased(scene: Scene) -> None:
    maria, _ = await history(scene)
    await erasure.erase(scene.desk, maria, by="cli")
    (talk,) = await scene.fetch("select id from conversations where contact_id = $1", maria)
    for body in ({"contact_id": str(maria)}, {"conversation_id": str(talk["id"])}):
        with pytest.raises(Rejected):
            await messages.send(
                scene.desk,
                key_id="k",
                tenant=SOL,
                idempotency_key=None,
                **order(channel="wa-sol", text="oi", **body),
            )
    shown = await conversations.one(scene.desk, cast("UUID", talk["id"]), SOL)
    assert shown["state"] == "closed"
    assert not await scene.fetch(
        "select from conversations where contact_id = $1 and closed_at is null", maria
    )


async def test_rocketchats_event_of_another_room_stays(scene: Scene) -> None:
    maria, _ = await history(scene)
    body: dict[str, Any] = {
        "_id": "rOOmOfJoao1234567", "type": "Message", "visitor": {"_id": "vJ", "phone": [{"phoneNumber": JOAO}]},
        "messages": [{"_id": "m1", "msg": f"ligue para {MARIA}", "ts": scene.began.isoformat(), "u": {"_id": "vJ"}}],
    }  # fmt: skip
    his = replace(scene.info(body["_id"]), visitor_id="vJ", visitor_phones=(JOAO,), visitor_token_digest=None)
    await scene.desk.store.transact(lambda tx: scene.rooms.swept(tx, his, ()))
    event = await scene.post(json.dumps(body).encode(), RESERVED)
    await erasure.erase(scene.desk, maria, by="cli")
    kept = await scene.desk.store.transact(lambda tx: tx.event(event.id, event.received_at))
    assert kept is not None
