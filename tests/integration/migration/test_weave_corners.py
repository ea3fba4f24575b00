"""Weaving where the history is odd, or somebody else was there before."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from router.domain.channel import RESERVED, Channel
from router.domain.message import Alias
from router.domain.ports import RoomInfo
from router.storage.postgres import PostgresStore
from router.storage.postgres.people import People
from tests.integration.migration.woven_scene import BEGAN, Scene, report
from tests.simulation.payloads import room_event
from tests.unit.router.heart import ANA

pytestmark = pytest.mark.postgres

EVA = "5521977776666"


@pytest.fixture
async def scene(postgres_store: PostgresStore, dsn: str) -> AsyncIterator[Scene]:
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    made = Scene(postgres_store, link)
    await postgres_store.sync_channels(made.channels.values())
    yield made
    await link.close()


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


# ---- dates


async def test_a_room_of_the_year_9999_opens_no_window_and_stops_no_neighbour(scene: Scene) -> None:
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    await scene.room(created_at=BEGAN, active_at=never, open=True)
    await scene.message("m1", sent_at=never)
    await scene.room("room-2", info={"phones": [EVA], "visitor_id": "v2"})
    await scene.message("m2", room_id="room-2", author_id="v2")
    await scene.weave()
    assert {m["source_id"]: m["sent_at"] for m in await scene.messages()}["m1"] == never
    for one in await scene.rows("select * from conversations"):
        for at in ("heard_at", "read_at", "last_at", "opened_at"):
            assert one[at] is None or one[at] <= datetime.now(UTC)
    await scene.link.execute("update archive_rooms set woven = false")
    assert (await scene.weave()).changed == 0


async def test_dates_from_the_beginning_of_time_are_kept_and_stop_nothing(scene: Scene) -> None:
    await scene.hears("oi", now())  # a row that waits for its id: claims are looked for
    first = datetime(1, 1, 1, 1, tzinfo=UTC)
    await scene.room(created_at=first, active_at=first, closed_at=first)
    await scene.message("m1", sent_at=first)
    await scene.message("m2", sent_at=datetime(1969, 7, 20, tzinfo=UTC))
    await scene.weave()
    await scene.link.execute("update archive_rooms set woven = false")
    await scene.weave()
    assert [m["sent_at"].year for m in await scene.messages()] == [1, 1969, now().year]
    assert len({m["id"] for m in await scene.messages()}) == 3


# ---- ids that are another's


async def test_an_id_somebody_else_used_on_another_channel_draws_no_room_there(scene: Scene) -> None:
    """The flat form's ids are its caller's words."""
    scene.channels["eva"] = Channel("eva", "whatsapp", "lua", {"phone_number_id": "200"}, None)
    scene.sources["lua-app"] = "eva"
    at = now()
    info = RoomInfo("room-x", "app", "lua-app", "v9", None, (EVA,), "Eva", open=True, active_at=at)
    await scene.swept(info, report("m1", "da Eva", at))
    await scene.room()
    await scene.message("m1", 0, "da Ana", edited_at=BEGAN)
    await scene.message("m2", 1, "também da Ana")
    await scene.weave()
    found = await scene.rows(
        "select m.source_id, m.text, m.tenant_id, c.tenant_id as talk, c.channel from messages m"
        " join conversations c on c.id = m.conversation_id order by m.source_id"
    )
    assert [tuple(one.values()) for one in found] == [
        ("m1", "da Eva", "lua", "lua", "eva"),
        ("m2", "também da Ana", "sol", "sol", "wa"),
    ]


async def test_an_erased_message_stays_empty_when_its_copy_was_edited(scene: Scene) -> None:
    at = now()
    info = RoomInfo("room-1", "app", "app", "v1", None, (ANA,), "Ana", open=True, active_at=at)
    await scene.swept(info, report("m1", "segredo", at))
    await scene.link.execute(
        "update messages set content_kind = 'erased', text = null, data = '{}', matched_by = 'erased'"
    )
    await scene.room()
    await scene.message("m1", 0, "segredo, corrigido", edited_at=BEGAN)
    await scene.weave()
    assert [m["text"] for m in await scene.messages()] == [None]


# ---- what is gone


async def test_what_was_deleted_goes_also_where_the_room_goes_on_in_another_conversation(
    scene: Scene,
) -> None:
    await scene.room(open=True)
    await scene.message("m1", 0)
    await scene.message("m2", 1)
    await scene.weave()
    at = now()
    await scene.hears("voltei", at)
    at += timedelta(seconds=2)
    info = RoomInfo("room-1", "app", "app", "v1", None, (ANA,), "Ana", open=True, active_at=at)
    await scene.swept(info, report("m3", "voltei", at))
    assert len(await scene.rows("select * from conversations")) == 2
    await scene.link.execute("delete from archive_messages where source_id = 'm2'")
    await scene.message("m3", sent_at=at, text="voltei")
    await scene.weave()
    assert [m["source_id"] for m in await scene.messages()] == ["m1", "m3"]
    assert list(await scene.weaver.differences()) == []


async def test_a_room_that_is_gone_takes_its_copies_along(scene: Scene) -> None:
    await scene.room()
    await scene.message("m1", 0)
    await scene.weave()
    for table in ("archive_messages", "archive_rooms"):
        await scene.link.execute(f"delete from {table}")  # noqa: S608 - our own names
    await scene.weave()
    assert await scene.messages() == []
    assert list(await scene.weaver.differences()) == []


# ---- who is it


async def two_identities(scene: Scene, token: str) -> None:
    """The visitor's token was met long before, alone; then the number, by the provider."""
    at = BEGAN - timedelta(days=30)
    info = RoomInfo("room-0", "app", "app", "v1", token, (), "Ana", open=False, active_at=at)
    await scene.swept(info, report("m0", "antes", at))
    await scene.link.execute("update conversations set closed_at = opened_at, closed_by = 'api'")


async def test_what_live_traffic_has_is_claimed_under_any_of_the_visitors_identities(scene: Scene) -> None:
    await two_identities(scene, "d" * 64)
    at = now() - timedelta(minutes=2)
    await scene.hears("tem horário?", at)
    await scene.room(created_at=at, active_at=at, open=True, info={"token_digest": "d" * 64})
    await scene.message("m1", sent_at=at, text="tem horário?")
    await scene.weave()
    assert [m["source_id"] for m in await scene.messages()] == ["m0", "m1"]
    assert len(await scene.rows("select * from conversations where closed_at is null")) == 1


async def test_an_open_room_joins_the_conversation_any_of_its_identities_has_open(scene: Scene) -> None:
    await two_identities(scene, "d" * 64)
    at = now() - timedelta(minutes=2)
    await scene.hears("oi", at)
    later = at + timedelta(minutes=1)
    await scene.room(created_at=later, active_at=later, open=True, info={"token_digest": "d" * 64})
    await scene.message("m1", sent_at=later, text="outra coisa")
    await scene.weave()
    assert len(await scene.rows("select * from conversations where closed_at is null")) == 1


async def test_a_number_of_long_ago_is_not_the_newest_address(scene: Scene) -> None:
    await scene.hears("oi", now())
    old = "5511933334444"
    await scene.room(info={"phones": [old, ANA]})
    await scene.message("m1")
    await scene.weave()
    (identity,) = await scene.rows("select id from identities")
    aliases = await scene.store.weave(lambda tx: tx.aliases(identity["id"]))
    assert {alias.value for alias in aliases} == {ANA, old}
    assert aliases[0].value == ANA


async def test_an_erased_visitor_whose_room_was_closed_since_does_not_come_back(scene: Scene) -> None:
    alias = Alias("wa_id", "sol", ANA, ANA)

    async def bury(tx: object) -> None:
        assert isinstance(tx, People)
        await tx.bury("sol", (alias,), BEGAN + timedelta(days=1))

    await scene.store.transact(bury)
    closed = BEGAN + timedelta(days=2)
    await scene.room(active_at=closed, closed_at=closed)  # what was said before is not in the archive
    await scene.weave()
    assert await scene.rows("select * from contacts") == []
    await scene.message("m1", sent_at=BEGAN + timedelta(days=1, hours=1))  # they wrote again
    await scene.weave()
    assert len(await scene.rows("select * from contacts")) == 1


# ---- what is unread


async def test_what_is_unread_stays_unread(scene: Scene) -> None:
    at = now() - timedelta(minutes=20)
    await scene.hears("alguém aí?", at)
    later = at + timedelta(minutes=15)
    await scene.room(created_at=at, active_at=later, open=True)
    await scene.message("m1", sent_at=at, text="alguém aí?")
    await scene.message("m2", sent_at=later, text="olá?")
    for _ in range(2):
        await scene.weave()
        (talk,) = await scene.rows("select heard_at, read_at from conversations")
        assert talk["heard_at"] == later
        assert talk["read_at"] is None or talk["read_at"] < at
        await scene.link.execute("update archive_rooms set woven = false")


# ---- history alone


async def test_a_conversation_of_history_alone_is_never_open(scene: Scene) -> None:
    """No worker looks after such a channel: nobody would ever close it."""
    at = now()
    info = {"phones": [], "token_digest": "d" * 64}
    await scene.room(created_at=at, active_at=at, open=True, source_type="widget", source_ref=None, info=info)
    await scene.message("m1", sent_at=at)
    await scene.weave()
    (talk,) = await scene.rows("select channel, closed_at, closed_by from conversations")
    assert (talk["channel"], talk["closed_by"]) == ("history-webchat", "idle")
    assert talk["closed_at"] is not None
    await scene.message("m2", sent_at=at + timedelta(seconds=1))
    await scene.weave()
    assert len(await scene.rows("select * from conversations")) == 1


async def test_a_room_woven_as_history_goes_on_live(scene: Scene) -> None:
    at = now()
    await scene.room(created_at=at, active_at=at, open=True, source_type="widget", source_ref=None)
    await scene.message("m1", sent_at=at)
    await scene.weave()
    assert [row["channel"] for row in await scene.rows("select channel from rooms")] == ["history-webchat"]
    await scene.post(room_event("Message", "room-1", ANA, "m2", "ainda aqui", None, at.isoformat()), RESERVED)
    (event,) = await scene.rows("select state from events where channel = $1", RESERVED)
    (job,) = await scene.rows("select kind, room_id from jobs")
    assert (event["state"], job["kind"], job["room_id"]) == ("waiting", "place", "room-1")
    info = RoomInfo("room-1", "app", "app", "v1", None, (ANA,), "Ana", open=True, active_at=at)
    await scene.swept(info, report("m1", "oi", at), report("m2", "ainda aqui", at + timedelta(seconds=1)))
    await scene.message("m2", sent_at=at + timedelta(seconds=1), text="ainda aqui")
    await scene.weave()
    found = [(m["source_id"], m["channel"]) for m in await scene.messages()]
    assert found == [("m1", "history-webchat"), ("m2", "wa")]
    assert [row["channel"] for row in await scene.rows("select channel from rooms")] == ["wa"]
    assert list(await scene.weaver.differences()) == []


# ---- races


async def test_a_message_that_lands_while_its_room_is_woven_is_woven_too(scene: Scene, dsn: str) -> None:
    """The loader finds the room not woven and says nothing of it; whoever weaves must see the row, or come again."""
    from router.storage.archive import open_archive
    from router.storage.archive.model import Change
    from router.storage.archive.shape import MESSAGES

    await scene.room()
    await scene.message("m1")
    row = tuple(
        {"source_id": "m2", "room_id": "room-1", "sent_at": int(BEGAN.timestamp() * 1000), "author_id": "v1",
         "visitor": True, "content_kind": "text", "text": "atrasada", "hidden": False, "raw": b"m2"}.get(name)
        for name in MESSAGES.names
    )  # fmt: skip
    async with open_archive(dsn, pool_size=2) as archive:
        run = await archive.start("mongodb://x", live=True, options={}, token=b"1")
        change = Change("rocketchat_message", "m2", MESSAGES, BEGAN, row=row)
        held, landed = asyncio.Event(), asyncio.Event()

        async def late() -> None:
            await held.wait()
            await archive.apply(run.id, [change], b"2", BEGAN)
            landed.set()

        mark = scene.weaver._store.weave
        landing = asyncio.create_task(late())

        async def slow(work):  # type: ignore[no-untyped-def]
            async def slowly(tx):  # type: ignore[no-untyped-def]
                done = tx.mark_woven

                async def marking(rooms):  # type: ignore[no-untyped-def]
                    held.set()
                    # Whoever lands meanwhile either waits for us, or is through before we end.
                    await asyncio.wait({asyncio.create_task(landed.wait())}, timeout=1.5)
                    await done(rooms)

                tx.mark_woven = marking
                return await work(tx)

            return await mark(slowly)

        scene.weaver._store = type("Slow", (), {"weave": staticmethod(slow)})()
        await scene.weaver.run()
        await landing
        scene.weaver._store = scene.store
        await scene.weaver.run()
    assert [m["source_id"] for m in await scene.messages()] == ["m1", "m2"]
