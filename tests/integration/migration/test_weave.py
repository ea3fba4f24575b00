"""Archived livechat rooms become people, conversations and messages: once each, silently, with their own times."""

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from router.domain.message import Alias
from router.domain.ports import RoomInfo
from router.storage.postgres import PostgresStore
from router.storage.postgres.people import People
from tests.integration.migration.woven_scene import BEGAN, Scene, report
from tests.unit.router.heart import ANA

pytestmark = pytest.mark.postgres


@pytest.fixture
async def scene(postgres_store: PostgresStore, dsn: str) -> AsyncIterator[Scene]:
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    made = Scene(postgres_store, link)
    await postgres_store.sync_channels(made.channels.values())
    yield made
    await link.close()


async def test_a_closed_room_becomes_one_ended_conversation(scene: Scene) -> None:
    await scene.room()
    await scene.message("m1", 0, "oi, tem horário?")
    await scene.message("m2", 1, "temos sim", author_id="agent", visitor=False)
    await scene.message("m3", 2, "sou um robô", author_id="bot", visitor=False)
    await scene.message("m4", 3, "sem token", visitor=False)  # by its author it is the visitor's
    await scene.message("s1", 4, "", kind="livechat-started")
    await scene.message("h1", 5, "versão antiga", hidden=True, parent_id="m2")
    await scene.message("h2", 6, "apagada", hidden=True)
    await scene.message("r1", 7, None, kind="rm")
    woven = await scene.weave()
    assert (woven.rooms, woven.changed, dict(woven.unplaced)) == (1, 4, {})
    found = [
        (m["source_id"], m["direction"], m["author"], m["status"], m["matched_by"])
        for m in await scene.messages()
    ]
    assert found == [
        ("m1", "inbound", "contact", "received", "import"),
        ("m2", "outbound", "human", "sent", "import"),
        ("m3", "outbound", "bot", "sent", "import"),
        ("m4", "inbound", "contact", "received", "import"),
    ]
    (conversation,) = await scene.rows("select * from conversations")
    assert (conversation["channel"], conversation["kind"], conversation["path"]) == (
        "wa",
        "whatsapp",
        "rocketchat",
    )
    assert (conversation["opened_at"], conversation["closed_at"]) == (BEGAN, BEGAN + timedelta(hours=1))
    assert (conversation["closed_by"], conversation["room_id"]) == ("rocketchat", "room-1")
    assert conversation["heard_at"] == BEGAN + timedelta(minutes=3)
    assert conversation["read_at"] >= conversation["heard_at"]  # nothing is unread
    assert [m["sent_at"] for m in await scene.messages()] == [BEGAN + timedelta(minutes=n) for n in range(4)]
    assert await scene.rows("select * from jobs") == []
    assert len(await scene.rows("select * from decisions")) == 1


async def test_the_visitor_becomes_a_user_of_the_clinic_and_is_mapped(scene: Scene) -> None:
    await scene.room()
    await scene.weave()
    (user,) = await scene.rows(
        "select u.nm_completo, u.ds_origem, u.st_tipo_usuario, m.rc_user_id, m.ds_canal from contacts c"
        " join tb_rocketchat_user_mapping m on m.id_user = c.user_id cross join lateral (select 'Ana' as nm_completo,"
        " 'rocketchat_whatsapp' as ds_origem, 'paciente' as st_tipo_usuario) u"
    )
    assert (user["rc_user_id"], user["ds_canal"]) == ("v1", "whatsapp")
    (contact,) = await scene.rows("select * from contacts")
    assert (contact["name"], contact["tenant_id"], contact["created_at"]) == ("Ana", "sol", BEGAN)


async def test_a_second_run_changes_nothing(scene: Scene) -> None:
    await scene.room()
    await scene.message(
        "m1", files=[{"id": "f1", "ref": "/file-upload/f1/a.jpg", "name": "a.jpg"}], content_kind="image"
    )
    await scene.weave()
    before = (
        await scene.messages(),
        await scene.rows("select * from media"),
        await scene.rows("select * from conversations"),
    )
    await scene.link.execute("update archive_rooms set woven = false")
    assert (await scene.weave()).changed == 0
    after = (
        await scene.messages(),
        await scene.rows("select * from media"),
        await scene.rows("select * from conversations"),
    )
    assert after == before


async def test_what_was_edited_or_deleted_since_follows(scene: Scene) -> None:
    await scene.room()
    for number in (1, 2, 3):
        await scene.message(f"m{number}", number, f"texto {number}")
    await scene.weave()
    await scene.message("m1", 1, "texto mudado", edited_at=BEGAN)
    await scene.message("m2", 2, None, kind="rm")
    await scene.link.execute("delete from archive_messages where source_id = 'm3'")
    assert (await scene.weave()).changed == 3
    assert [(m["source_id"], m["text"]) for m in await scene.messages()] == [("m1", "texto mudado")]
    assert [k["value"] for k in await scene.rows("select value from message_keys")] == ["m1"]
    assert list(await scene.weaver.differences()) == []


async def test_an_open_room_that_is_alive_is_an_open_conversation_pinned_where_it_lives(scene: Scene) -> None:
    now = datetime.now(UTC)
    await scene.room(created_at=now - timedelta(hours=2), active_at=now - timedelta(minutes=5), open=True)
    await scene.message("m1", sent_at=now - timedelta(minutes=5))
    await scene.weave()
    (conversation,) = await scene.rows("select * from conversations")
    assert (conversation["closed_at"], conversation["path"], conversation["room_id"]) == (
        None,
        "rocketchat",
        "room-1",
    )
    await scene.hears("ainda estou aqui", now)
    assert len(await scene.rows("select * from conversations")) == 1


async def test_an_open_room_long_silent_has_ended_here_and_stays_open_there(scene: Scene) -> None:
    await scene.room(open=True)
    await scene.message("m1")
    await scene.weave()
    (conversation,) = await scene.rows("select * from conversations")
    assert (conversation["closed_by"], conversation["closed_at"]) == ("idle", BEGAN + timedelta(hours=25))
    assert await scene.rows("select * from jobs") == []


async def test_a_room_closed_since_ends_its_conversation(scene: Scene) -> None:
    now = datetime.now(UTC)
    await scene.room(created_at=now, active_at=now, open=True)
    await scene.weave()
    await scene.room(created_at=now, active_at=now, closed_at=now)
    await scene.link.execute("update archive_rooms set woven = false")
    await scene.weave()
    (conversation,) = await scene.rows("select * from conversations")
    assert (conversation["closed_at"], conversation["closed_by"]) == (now, "rocketchat")


async def test_two_open_rooms_of_one_visitor_are_one_conversation(scene: Scene) -> None:
    now = datetime.now(UTC)
    for room_id in ("room-1", "room-2"):
        await scene.room(room_id, created_at=now, active_at=now, open=True)
        await scene.message(f"m-{room_id}", room_id=room_id, sent_at=now)
    await scene.weave()
    assert len(await scene.rows("select * from conversations")) == 1
    assert len(await scene.messages()) == 2


async def test_an_app_without_a_channel_waits_for_its_mapping(scene: Scene) -> None:
    await scene.room(source_ref="other-app")
    await scene.message("m1")
    woven = await scene.weave()
    assert (dict(woven.unplaced), await scene.messages()) == ({"other-app": 1}, [])
    scene.sources["other-app"] = "wa"
    await scene.weave()
    assert len(await scene.messages()) == 1


async def test_a_widget_room_without_a_channel_goes_to_a_channel_of_history(scene: Scene) -> None:
    await scene.room(source_type=None, source_ref=None, info={"phones": [], "token_digest": "d" * 64})
    await scene.message("m1")
    await scene.weave()
    (message,) = await scene.messages()
    assert (message["channel"], message["kind"], message["tenant_id"]) == (
        "history-webchat",
        "webchat",
        "sol",
    )


async def test_an_erased_person_stays_erased(scene: Scene) -> None:
    alias = Alias("wa_id", "sol", ANA, ANA)

    async def bury(tx: object) -> None:
        assert isinstance(tx, People)
        await tx.bury("sol", (alias,), BEGAN + timedelta(days=1))

    await scene.store.transact(bury)
    await scene.room()
    await scene.message("m1")
    await scene.weave()
    assert await scene.messages() == []
    assert await scene.rows("select * from contacts") == []


async def test_files_of_history_are_stored_or_gone_and_nobody_asks_rocketchat(scene: Scene) -> None:
    await scene.room()
    files = [
        {"id": name, "ref": f"/file-upload/{name}/x.jpg", "name": "x.jpg", "mime": "image/jpeg"}
        for name in ("f1", "f2")
    ]
    await scene.message("m1", files=files, content_kind="image", text=None)
    await scene.link.execute(
        "insert into archive_files (source_id, raw, state, sha256, stored_size) values ('f1', 'x', 'stored', $1, 9)",
        "a" * 64,
    )
    await scene.weave()
    found = await scene.rows("select state, sha256, size, error_code from media order by state desc")
    assert found == [
        {"state": "stored", "sha256": "a" * 64, "size": 9, "error_code": None},
        {"state": "gone", "sha256": None, "size": None, "error_code": "not_imported"},
    ]
    await scene.link.execute(
        "insert into archive_files (source_id, raw, state, sha256, stored_size) values ('f2', 'x', 'stored', $1, 8)",
        "b" * 64,
    )
    await scene.link.execute("update archive_rooms set woven = false")
    assert (await scene.weave()).changed == 1
    assert await scene.rows("select * from jobs") == []


ROADS = list(itertools.permutations(("webhook", "sweep", "import")))


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("order", ROADS, ids="-".join)
async def test_one_row_a_message_whatever_comes_first(
    scene: Scene, order: tuple[str, ...], live: bool
) -> None:
    """The provider's event is first, as Rocket.Chat knows of a message only from us; or it was before our time."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=3)
    asks, answers = now, now + timedelta(seconds=30)
    if live:
        await scene.hears("tem horário?", asks)
    info = RoomInfo("room-1", "app", "app", "v1", None, (ANA,), "Ana", open=True, active_at=answers)
    told = (report("m1", "tem horário?", asks), report("m2", "temos sim", answers, by_agent=True))
    for road in order:
        if road == "import":
            await scene.room(created_at=asks, active_at=answers, open=True)
            await scene.message("m1", text="tem horário?", sent_at=asks)
            await scene.message("m2", text="temos sim", sent_at=answers, author_id="agent", visitor=False)
            await scene.weave()
        else:  # the webhook's event, once its room is placed, is applied by the same code
            await scene.swept(info, *told)
    found = [(m["source_id"], m["direction"], m["text"]) for m in await scene.messages()]
    assert found == [("m1", "inbound", "tem horário?"), ("m2", "outbound", "temos sim")]
    assert len(await scene.rows("select * from conversations")) == 1
    (first, _) = await scene.messages()
    assert (first["external_id"] is not None) is live


async def test_a_late_copy_of_a_conversation_that_ended_since_is_claimed_there(scene: Scene) -> None:
    asked = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=8)
    await scene.hears("tem horário?", asked)
    await scene.link.execute("update conversations set closed_at = now(), closed_by = 'api'")
    await scene.room(created_at=asked, active_at=asked, closed_at=asked + timedelta(minutes=1))
    await scene.message("m1", text="tem horário?", sent_at=asked + timedelta(seconds=1))
    woven = await scene.weave()
    assert (woven.claimed, len(await scene.messages())) == (1, 1)
    assert len(await scene.rows("select * from conversations")) == 1


async def test_rocketchats_own_people_are_listed_for_the_clinic_to_name(scene: Scene) -> None:
    await scene.link.execute(
        "insert into archive_records (collection, source_id, kind, raw) values ('users', 'u1', 'user', 'x'),"
        " ('users', 'rocket.cat', 'bot', 'x')"
    )
    await scene.weave()
    assert await scene.rows("select rc_user_id, id_user from tb_rocketchat_user_mapping") == [
        {"rc_user_id": "u1", "id_user": None}
    ]
