"""Files, paces, duties on the real server: who sees what, and what two connections do to each other."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from router.domain.errors import StoreError
from router.domain.media import MediaState
from router.domain.ports import Duty, Tx
from router.storage.postgres import PostgresStore, PostgresTx
from router.storage.queries import files
from tests.contract.rows import AT, CHANNELS, SLUG, media

pytestmark = pytest.mark.postgres

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["wheel", pytest.param("debian", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest) -> PostgresStore:
    found = request.getfixturevalue({"wheel": "postgres_store", "debian": "postgres_15_store"}[request.param])
    assert isinstance(found, PostgresStore)
    return found


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection of the engine's role, beside the store."""
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    yield link
    await link.close()


def asking(sql: str) -> Callable[[Tx], Awaitable[list[str]]]:
    """The first column of a query whose author forgot the WHERE."""

    async def work(tx: Tx) -> list[str]:
        assert isinstance(tx, PostgresTx)
        return sorted(str(row[0]) for row in await tx._link.fetch(sql))

    return work


# ---- concurrency


@pytest.mark.parametrize("burst", [1, 5])
async def test_callers_at_the_same_moment_get_slots_of_their_own(store: PostgresStore, burst: int) -> None:
    interval = timedelta(seconds=30)  # far longer than the test: every caller is early
    slots: list[datetime] = await asyncio.gather(
        *(store.transact(lambda tx: tx.reserve("pair:a", interval, burst)) for _ in range(40))
    )
    slots.sort()
    last_free = slots[burst - 1]
    assert last_free - slots[0] < interval
    waiting = slots[burst:]
    assert len(set(waiting)) == 40 - burst
    assert {later - earlier for earlier, later in itertools.pairwise(waiting)} == {interval}
    # An interval after the first to get the row, which need not be the first to have begun.
    assert slots[0] <= waiting[0] - interval <= last_free
    tats = await store.engine.fetch("select tat from paces")
    assert [row["tat"] for row in tats] == [slots[-1] + interval * burst]


async def test_a_reservation_waits_for_the_one_under_way(store: PostgresStore) -> None:
    held = asyncio.Event()

    async def slow(tx: Tx) -> datetime:
        slot = await tx.reserve("a", 9 * SECOND, 1)
        held.set()
        await asyncio.sleep(0.1)
        return slot

    async def quick() -> datetime:
        await held.wait()
        return await store.transact(lambda tx: tx.reserve("a", 9 * SECOND, 1))

    first, second = await asyncio.gather(store.transact(slow), quick())
    assert second == first + 9 * SECOND


async def test_of_many_processes_one_gets_the_duty(store: PostgresStore) -> None:
    owners = [uuid.uuid4() for _ in range(12)]

    def taking(owner: uuid.UUID) -> Callable[[Tx], Awaitable[Duty | None]]:
        return lambda tx: tx.take_duty("sweep", owner, 60 * SECOND)

    for rounds in range(3):
        taken = await asyncio.gather(*(store.transact(taking(owner)) for owner in owners))
        (winner,) = [owner for owner, duty in zip(owners, taken, strict=True) if duty is not None]
        (duty,) = [duty for duty in taken if duty is not None]
        assert duty == Duty("sweep", AT + rounds * SECOND if rounds else None)
        mark = AT + (rounds + 1) * SECOND

        async def end(tx: Tx, winner: uuid.UUID = winner, mark: datetime = mark) -> None:
            await tx.end_duty("sweep", winner, mark, timedelta())

        await store.transact(end)


async def test_a_message_is_billed_by_one_of_many(store: PostgresStore) -> None:
    first = await asyncio.gather(
        *(store.transact(lambda tx: tx.first_billed(SLUG, "wamid.1", "utility")) for _ in range(8))
    )
    assert sorted(first) == [False] * 7 + [True]


async def test_a_locked_file_is_changed_by_one_after_the_other(store: PostgresStore) -> None:
    one = media(size=0)
    await store.transact(lambda tx: tx.add_media(one))

    async def grow(tx: Tx) -> None:
        found = await tx.media(one.id, lock=True)
        assert found is not None
        await asyncio.sleep(0.01)
        await tx.save_media(replace(found, size=(found.size or 0) + 1))

    await asyncio.gather(*(store.transact(grow) for _ in range(6)))
    found = await store.transact(lambda tx: tx.media(one.id))
    assert found is not None
    assert found.size == 6


# ---- tenants


async def test_a_tenant_sees_only_its_own_files(store: PostgresStore) -> None:
    await store.sync_channels(CHANNELS)
    text = uuid.uuid4()
    sol, lua = media(message_id=text), media(tenant="lua", channel="sms", message_id=text)
    await store.transact(lambda tx: tx.add_media(sol), tenant="sol")
    await store.transact(lambda tx: tx.add_media(lua), tenant="lua")
    every = asking("select id from media")
    assert await store.transact(every, tenant="sol") == [str(sol.id)]
    assert await store.transact(every, tenant="lua") == [str(lua.id)]
    assert (
        await store.transact(every)
        == await store.transact(every, tenant="*")
        == sorted([str(sol.id), str(lua.id)])
    )
    for nobody in ("", "mar"):
        assert await store.transact(every, tenant=nobody) == []
    assert await store.transact(lambda tx: tx.media(lua.id), tenant="sol") is None
    assert await store.transact(lambda tx: tx.media(lua.id, lock=True), tenant="sol") is None
    assert await store.transact(lambda tx: tx.media_of(text), tenant="sol") == [sol]
    assert await store.transact(lambda tx: files.media(tx, lua.id), tenant="sol") is None
    stolen = replace(lua, tenant="sol", state=MediaState.GONE)
    await store.transact(lambda tx: tx.save_media(stolen), tenant="sol")
    assert await store.transact(lambda tx: tx.media(lua.id)) == lua
    for foreign in (
        lambda tx: tx.add_media(media(tenant="lua")),
        lambda tx: tx.save_media(replace(sol, tenant="lua")),
    ):
        with pytest.raises(StoreError):
            await store.transact(foreign, tenant="sol")


async def test_bills_and_callbacks_are_read_by_their_tenant_and_written_by_the_engine(
    store: PostgresStore,
) -> None:
    await store.sync_channels(CHANNELS)
    for slug in (SLUG, "sms", "gone"):
        await store.transact(lambda tx, slug=slug: tx.first_billed(slug, f"id-{slug}", "utility"))  # type: ignore[misc]
        await store.engine.execute(
            "insert into callbacks (channel, tenant_id, level, url, set_at, set_by) select $1::text,"
            " coalesce((select tenant_id from channels where slug = $1), '*'), 'number', 'https://x', now(), 'ana'",
            slug,
        )
    for table in ("billables", "callbacks"):
        every = asking(f"select channel from {table}")  # noqa: S608 - the test's own names
        assert await store.transact(every, tenant="sol") == [SLUG]
        assert await store.transact(every, tenant="lua") == ["sms"]
        assert await store.transact(every) == ["gone", "sms", SLUG]
        with pytest.raises(StoreError):
            await store.transact(asking(f"delete from {table}"), tenant="sol")  # noqa: S608
    with pytest.raises(StoreError):
        await store.transact(lambda tx: tx.first_billed(SLUG, "2", "utility"), tenant="sol")


async def test_an_upload_belongs_to_its_channels_tenant(store: PostgresStore) -> None:
    await store.sync_channels(CHANNELS)
    await store.transact(lambda tx: tx.save_upload("sms", "", "0f", "file", AT))
    row = await store.engine.fetchrow("select tenant_id, file_id from media_uploads")
    assert tuple(row or ()) == ("lua", "file")


async def test_uploads_paces_and_duties_are_the_engines_alone(store: PostgresStore) -> None:
    for table in ("media_uploads", "paces", "duties"):
        with pytest.raises(StoreError):
            await store.transact(asking(f"select 1 from {table}"), tenant="*")  # noqa: S608


# ---- what providers claim


async def test_what_no_column_holds_is_kept_as_far_as_it_goes(store: PostgresStore) -> None:
    odd = media(name="a\x00b\ud800.pdf", mime="x\x00", ref="r\x00", sha256="\x00", size=10**30)
    await store.transact(lambda tx: tx.add_media(odd))
    found = await store.transact(lambda tx: tx.media(odd.id))
    mark = "\ufffd"
    assert found == replace(
        odd, name=f"a{mark}b{mark}.pdf", mime=f"x{mark}", ref=f"r{mark}", sha256=mark, size=None
    )


async def test_one_file_as_the_api_shows_it(store: PostgresStore) -> None:
    one = media(
        ref="https://files.example/a?sig=secret", name="a.pdf", size=7, state=MediaState.STORED, sha256="0f"
    )
    await store.transact(lambda tx: tx.add_media(one))
    found = await store.transact(lambda tx: files.media(tx, one.id), tenant="sol")
    assert found == {
        "id": one.id, "tenant": "sol", "channel": SLUG, "message_id": None, "origin": "provider", "state": "stored",
        "mime": None, "name": "a.pdf", "size": 7, "sha256": "0f", "created_at": AT, "expires_at": None,
        "stored_at": None, "error_code": None,
    }  # fmt: skip
    assert await store.transact(lambda tx: files.media(tx, uuid.uuid4())) is None


# ---- plans


async def test_reach_uses_the_index(
    postgres_store: PostgresStore, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await owner.execute("set enable_seqscan = off")
    plan = await owner.fetch(
        "explain select max(heard_at) from conversations where channel = 'a' and identity_id = gen_random_uuid()"
    )
    assert any("conversations_identity" in row[0] for row in plan)
