"""What only the real server can show: locks between connections, row-level security, shared commits."""

import asyncio
import contextlib
import random
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from flags.ports import Flag
from router.domain.errors import Conflict, StoreError, Unavailable
from router.domain.job import Breaker, EventState, Job, JobState
from router.domain.message import Content, Message
from router.domain.ports import Tx
from router.storage.doorbell import Doorbell
from router.storage.flags import PostgresFlagStore
from router.storage.postgres import PostgresStore, PostgresTx, open_store
from tests.conftest import TOMBSTONE_KEY, Server
from tests.contract.rows import AT, CHANNELS, SLUG, alias, contact, conversation, event, job, message, person

pytestmark = pytest.mark.postgres


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection of the engine's role, beside the store."""
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    yield link
    await link.close()


def appending(*lanes: str) -> Callable[[Tx], Awaitable[Job]]:
    return lambda tx: tx.add_job(job(*lanes))


def saving(one: Job) -> Callable[[Tx], Awaitable[None]]:
    return lambda tx: tx.save_job(one)


def finishing(one: Job) -> Callable[[Tx], Awaitable[None]]:
    return lambda tx: tx.finish_job(one, JobState.DONE)


def adding(one: Message) -> Callable[[Tx], Awaitable[Message]]:
    return lambda tx: tx.add_message(one)


async def in_step(
    store: PostgresStore, first: Callable[[Tx], Awaitable[None]], second: Callable[[Tx], Awaitable[None]]
) -> list[str]:
    """`second` begins while the transaction of `first` is still open; the order in which they ended."""
    done: list[str] = []
    held = asyncio.Event()

    async def slow(tx: Tx) -> None:
        await first(tx)
        held.set()
        await asyncio.sleep(0.1)
        done.append("first")

    async def quick(tx: Tx) -> None:
        await second(tx)
        done.append("second")

    async def follow() -> None:
        await held.wait()
        await store.transact(quick)

    await asyncio.gather(store.transact(slow), follow())
    return done


# ---- order between connections


async def test_appending_to_one_lane_waits_so_that_seq_is_commit_order(postgres_store: PostgresStore) -> None:
    first, second = job("a"), job("b", "a")

    async def add_first(tx: Tx) -> None:
        await tx.add_job(first)

    async def add_second(tx: Tx) -> None:
        await tx.add_job(second)

    assert await in_step(postgres_store, add_first, add_second) == ["first", "second"]
    claimed = await postgres_store.transact(lambda tx: tx.claim(60))
    assert claimed is not None
    assert claimed.id == first.id
    assert await postgres_store.transact(lambda tx: tx.claim(60)) is None


async def test_finishing_while_another_appends_frees_it(postgres_store: PostgresStore) -> None:
    head = await postgres_store.transact(lambda tx: tx.add_job(job("a")))
    claimed = await postgres_store.transact(lambda tx: tx.claim(60))
    assert claimed is not None

    async def add(tx: Tx) -> None:
        await tx.add_job(job("a"))

    async def finish(tx: Tx) -> None:
        await tx.finish_job(await tx.fenced(claimed), JobState.DONE)

    assert await in_step(postgres_store, add, finish) == ["first", "second"]
    after = await postgres_store.transact(lambda tx: tx.claim(60))
    assert after is not None
    assert after.id != head.id


async def test_eight_workers_keep_every_lane_in_order_and_to_itself(postgres_store: PostgresStore) -> None:
    dice = random.Random(7)
    lanes = [f"lane{n}" for n in range(20)]
    for _ in range(200):
        chosen = dice.sample(lanes, 3 if dice.random() < 0.1 else 1)
        await postgres_store.transact(appending(*chosen))
    busy: set[str] = set()
    order: defaultdict[str, list[int]] = defaultdict(list)
    done = 0

    async def worker() -> None:
        nonlocal done
        while done < 200:
            claimed = await postgres_store.transact(lambda tx: tx.claim(60))
            if claimed is None:
                await asyncio.sleep(0.002)
                continue
            mine = set(claimed.lanes)
            assert not mine & busy
            busy.update(mine)
            for lane in mine:
                order[lane].append(claimed.seq)
            await asyncio.sleep(0.001)
            busy.difference_update(mine)
            await postgres_store.transact(finishing(claimed))
            done += 1

    await asyncio.wait_for(asyncio.gather(*(worker() for _ in range(8))), 60)
    assert all(seqs == sorted(seqs) for seqs in order.values())
    assert sum(map(len, order.values())) >= 200


async def test_movers_finishers_and_appenders_never_lock_each_other_out(
    postgres_store: PostgresStore,
) -> None:
    """Random work on few lanes; every transaction ends, and nothing stays blocked behind nobody."""
    dice = random.Random(11)
    lanes = ["x", "y", "z"]

    async def append() -> None:
        for _ in range(25):
            chosen = dice.sample(lanes, dice.randint(1, 3))
            await postgres_store.transact(appending(*chosen))

    async def work() -> None:
        for _ in range(40):
            claimed = await postgres_store.transact(lambda tx: tx.claim(60))
            if claimed is None:
                await asyncio.sleep(0.005)
            elif dice.random() < 0.3:
                back = replace(claimed, state=JobState.READY, lanes=claimed.lanes[:1])
                await postgres_store.transact(saving(back))
            else:
                await postgres_store.transact(finishing(claimed))

    await asyncio.wait_for(asyncio.gather(append(), append(), work(), work(), work()), 60)
    left = 0
    while claimed := await postgres_store.transact(lambda tx: tx.claim(60)):
        await postgres_store.transact(finishing(claimed))
        left += 1
    assert await postgres_store.engine.fetchval("select count(*) from jobs") == 0
    assert await postgres_store.engine.fetchval("select count(*) from lane_jobs") == 0


async def test_one_transaction_alone_splits_a_channel(postgres_store: PostgresStore) -> None:
    seen = []

    async def first(tx: Tx) -> None:
        seen.append(await tx.lock_channel(SLUG))

    async def second(tx: Tx) -> None:
        seen.extend([await tx.lock_channel(SLUG), await tx.lock_channel("sms")])

    assert await in_step(postgres_store, first, second) == ["second", "first"]
    assert seen == [True, False, True]


async def test_a_late_commit_with_a_lower_seq_is_still_found(
    postgres_store: PostgresStore, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    early = await owner.fetchval("select nextval('event_seq')")
    await postgres_store.accept(event(b"quick"))
    (quick,) = await postgres_store.transact(lambda tx: tx.waiting_events(SLUG, 9))
    await postgres_store.transact(lambda tx: tx.mark_split(quick, EventState.HANDLED))
    await owner.execute(
        "insert into events (seq, received_at, id, tenant_id, channel, digest, method, raw_path, query, headers, body)"
        " values ($1, $2, $3, 'sol', $4, 'd', 'POST', '', '', '[]', 'late')",
        early, AT, uuid.uuid4(), SLUG,
    )  # fmt: skip
    (late,) = await postgres_store.transact(lambda tx: tx.waiting_events(SLUG, 9))
    assert (late.seq, late.body) == (early, b"late")


async def test_the_first_of_two_writers_opens_the_conversation(postgres_store: PostgresStore) -> None:
    who = await postgres_store.transact(lambda tx: person(tx, alias()))

    async def open_or_find(tx: Tx) -> uuid.UUID:
        found = await tx.open_conversation(SLUG, who.id)
        if found is None:
            found = conversation(who)
            await tx.add_conversation(found)
            await asyncio.sleep(0.02)
        return found.id

    assert len(set(await asyncio.gather(*(postgres_store.transact(open_or_find) for _ in range(6))))) == 1


async def test_a_deadlock_is_run_again(postgres_store: PostgresStore) -> None:
    one, two = message(), message()
    for each in (one, two):
        await postgres_store.transact(adding(each))
    runs = []

    def crossing(first: uuid.UUID, second: uuid.UUID) -> Callable[[Tx], Awaitable[None]]:
        async def work(tx: Tx) -> None:
            runs.append(first)
            await tx.message(first)
            await asyncio.sleep(0.1)
            await tx.message(second)

        return work

    await asyncio.gather(
        postgres_store.transact(crossing(one.id, two.id)), postgres_store.transact(crossing(two.id, one.id))
    )
    assert len(runs) == 3


async def test_raising_a_floor_waits_for_the_decisions_under_way(postgres_store: PostgresStore) -> None:
    flags = PostgresFlagStore(postgres_store)
    order: list[str] = []
    read = asyncio.Event()

    async def decide(tx: Tx) -> None:
        assert await tx.flag_floor("whatsapp") == 0
        read.set()
        await asyncio.sleep(0.1)
        order.append("decided")

    async def kill() -> None:
        await read.wait()
        await flags.save(Flag("whatsapp"), expected=None, floor=True)
        order.append("killed")

    await asyncio.gather(postgres_store.transact(decide), kill())
    assert order == ["decided", "killed"]
    assert await postgres_store.transact(lambda tx: tx.flag_floor("whatsapp")) == 1


# ---- claim stays fast


async def test_a_shut_gate_with_many_jobs_costs_the_claim_little(
    postgres_store: PostgresStore, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for gate, count in (("rocketchat", 10_000), ("native:whatsapp", 1)):
        await owner.execute(
            "insert into jobs (id, tenant_id, channel, kind, lanes, gate, created_at, due_at, state)"
            " select gen_random_uuid(), 'sol', 'whatsapp', 'forward', array['l' || n], $1, now(), now(), 'ready'"
            " from generate_series(1, $2::int) n",
            gate, count,
        )  # fmt: skip
    now = await postgres_store.transact(lambda tx: tx.now())
    shut = Breaker("rocketchat", 9, now, now + timedelta(hours=1))
    await postgres_store.transact(lambda tx: tx.save_breaker(shut))
    began = time.perf_counter()
    for _ in range(20):
        found = await postgres_store.transact(lambda tx: tx.claim(0))
        assert found is not None
        assert found.gate == "native:whatsapp"
        await asyncio.sleep(0.001)
    assert (time.perf_counter() - began) / 20 < 0.02


# ---- accept


async def test_concurrent_events_share_commits(postgres_store: PostgresStore) -> None:
    flushes: list[int] = []
    inner = postgres_store._group._flush

    async def counted(events: list[object]) -> object:
        flushes.append(len(events))
        return await inner(events)  # type: ignore[arg-type]

    postgres_store._group._flush = counted  # type: ignore[assignment]
    assert all(await asyncio.gather(*(postgres_store.accept(event(b"%d" % n)) for n in range(300))))
    assert sum(flushes) == 300
    assert len(flushes) <= 4


async def test_arrival_order_is_seq_order_within_a_batch(postgres_store: PostgresStore) -> None:
    sent = [event(b"%d" % n) for n in range(100)]
    await asyncio.gather(*(postgres_store.accept(one) for one in sent))
    waiting = await postgres_store.transact(lambda tx: tx.waiting_events(SLUG, 100))
    assert [one.id for one in waiting] == [one.id for one in sent]


async def test_a_bad_event_fails_alone(postgres_store: PostgresStore) -> None:
    sent = [event(b"%d" % n, method="PO\x00ST" if n == 3 else "POST") for n in range(6)]
    answers = await asyncio.gather(*(postgres_store.accept(one) for one in sent), return_exceptions=True)
    assert isinstance(answers[3], StoreError)
    assert "ST" not in str(answers[3]).replace("StoreError", "")
    assert [answer for n, answer in enumerate(answers) if n != 3] == [True] * 5
    assert await postgres_store.transact(lambda tx: tx.backlog(SLUG)) == 5


async def test_a_cancelled_caller_cancels_nobody_else(postgres_store: PostgresStore) -> None:
    tasks = [asyncio.create_task(postgres_store.accept(event(b"%d" % n))) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1::2] == [True] * 10


async def test_without_the_database_accept_says_so(
    postgres: Server, postgres_template: str, tmp_path: object
) -> None:
    name = f"gone_{uuid.uuid4().hex[:8]}"
    dsn = await postgres.create(name, postgres_template)
    async with open_store(dsn, tombstone_key=TOMBSTONE_KEY) as store:
        assert await store.accept(event(b"1"))
        await postgres.drop(name)
        with pytest.raises(Unavailable):
            await store.accept(event(b"2"))
        with pytest.raises(Unavailable):
            await store.transact(lambda tx: tx.now())
    with pytest.raises(Unavailable):
        await PostgresStore.open(f"postgresql://x@/y?host={tmp_path}", tombstone_key=TOMBSTONE_KEY)


# ---- what cannot be stored as it is


async def test_nul_and_lone_surrogates_do_not_stop_a_message(postgres_store: PostgresStore) -> None:
    sent = message(content=Content("text", "a\x00b\ud800", {"t\x00": ["\x00", "\udfff", 2**70]}))
    await postgres_store.transact(lambda tx: tx.add_message(sent))
    found = await postgres_store.transact(lambda tx: tx.message(sent.id))
    assert found is not None
    assert found.content.text == "a\ufffdb\ufffd"
    assert list(found.content.data) == ["t\ufffd"]
    assert type(found.id) is uuid.UUID


async def test_errors_name_no_values(postgres_store: PostgresStore) -> None:
    secret = "+5511987654321"
    broken = conversation(
        await postgres_store.transact(lambda tx: person(tx, alias())), identity_id=uuid.uuid4()
    )

    async def work(tx: Tx) -> None:
        await tx.add_contact(contact(name=secret), secret * 9)  # too long for ds_origem

    with pytest.raises(StoreError) as caught:
        await postgres_store.transact(work)
    assert secret not in repr(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(StoreError):  # an identity that does not exist
        await postgres_store.transact(lambda tx: tx.add_conversation(broken))


# ---- tombstones


async def test_tombstones_hold_no_address(
    postgres_store: PostgresStore, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async def bury(tx: Tx) -> None:
        assert isinstance(tx, PostgresTx)
        await tx.bury("sol", [alias("5511")], AT + timedelta(days=1))
        await tx.bury("sol", [alias("5511"), alias("5522")], AT)

    await postgres_store.transact(bury)
    asked = [alias("9"), alias("5522"), alias("5511", value="other spelling")]
    assert await postgres_store.transact(lambda tx: tx.erased_at("sol", asked)) == AT + timedelta(days=1)
    assert await postgres_store.transact(lambda tx: tx.erased_at("lua", asked)) is None
    assert await postgres_store.transact(lambda tx: tx.erased_at("sol", asked[:1])) is None
    rows = await owner.fetch("select * from tombstones")
    assert len(rows) == 2
    assert not any("5511" in str(dict(row)) or b"5511" in row["digest"] for row in rows)


# ---- tenants


async def test_a_tenant_sees_and_writes_only_its_own(postgres_store: PostgresStore) -> None:
    sol, lua = message(external_id="1"), message(tenant="lua", channel="sms", external_id="1")
    for each in (sol, lua):
        await postgres_store.transact(adding(each), tenant=each.tenant)

    async def all_rows(tx: Tx) -> set[uuid.UUID]:
        assert isinstance(tx, PostgresTx)  # a query whose author forgot the WHERE
        return {row["id"] for row in await tx._link.fetch("select id from messages")}

    assert await postgres_store.transact(all_rows, tenant="sol") == {sol.id}
    assert await postgres_store.transact(all_rows, tenant="lua") == {lua.id}
    assert await postgres_store.transact(all_rows, tenant="*") == {sol.id, lua.id}
    assert await postgres_store.transact(all_rows) == {sol.id, lua.id}
    for nobody in ("", "mar"):
        assert await postgres_store.transact(all_rows, tenant=nobody) == set()
    assert await postgres_store.transact(lambda tx: tx.message(lua.id), tenant="sol") is None
    with pytest.raises(StoreError):
        await postgres_store.transact(lambda tx: tx.add_message(message(tenant="lua")), tenant="sol")
    with pytest.raises((StoreError, LookupError)):
        await postgres_store.transact(lambda tx: tx.save_message(replace(sol, tenant="lua")), tenant="sol")


async def test_the_setting_ends_with_its_transaction(postgres_store: PostgresStore) -> None:
    await postgres_store.transact(lambda tx: tx.add_message(message()), tenant="sol")
    async with postgres_store._tenant.acquire() as link:
        assert await link.fetchval("select count(*) from messages") == 0


async def test_every_table_with_a_tenant_is_under_forced_security(
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    bare = await owner.fetch(
        "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'"
        " where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace"
        " and not (c.relrowsecurity and c.relforcerowsecurity)"
    )
    # COPY refuses a table under row-level security: a tenant's role has no right at all on what is copied in.
    copied = {"archive_messages", "archive_rooms", "archive_files", "archive_records"}
    assert {row["relname"] for row in bare} == copied
    for table in copied:
        rights = "select, insert, update, delete, truncate, references, trigger"
        allowed = "select has_table_privilege('figueira_tenant', $1, $2)"
        assert not await owner.fetchval(allowed, table, rights)
    assert await owner.fetchval("select count(*) from pg_policies where policyname = 'tenant'") > 15


async def test_a_tenants_transaction_can_do_the_apis_work(postgres_store: PostgresStore) -> None:
    await postgres_store.sync_channels(CHANNELS)

    async def send(tx: Tx) -> None:
        who = await person(tx, alias())
        talk = conversation(who)
        await tx.add_conversation(talk)
        assert await tx.flag_floor("whatsapp") == 0
        assert not (await tx.breaker("native:whatsapp", lock=False)).is_open
        await tx.last_status_at(SLUG)
        text = await tx.add_message(message(talk.id))
        await tx.add_job(job("a", "b", message_id=text.id))
        added = await tx.job_of_message(text.id)
        assert added is not None
        await tx.save_job(replace(added, lanes=("a",)))
        await tx.finish_job(added, JobState.DONE)
        owner = await tx.contact(who.contact_id)
        assert owner is not None
        assert owner.user_id is not None
        await tx.map_rocketchat_user("rc", owner.user_id, "whatsapp")

    await postgres_store.transact(send, tenant="sol")
    for refused in ("select * from api_keys", "select nm_completo from tb_users", "delete from flags"):

        async def work(tx: Tx, sql: str = refused) -> None:
            assert isinstance(tx, PostgresTx)
            await tx._link.execute(sql)

        with pytest.raises(StoreError):
            await postgres_store.transact(work, tenant="sol")


# ---- doorbell


async def test_the_bell_rings_for_events_work_and_flags(dsn: str, postgres_store: PostgresStore) -> None:
    async with Doorbell(dsn) as bell:
        await asyncio.wait_for(bell.listening.wait(), 5)
        assert not await bell.wait("split:", 0.02)
        await postgres_store.accept(event())
        assert await bell.wait("split:", 5)
        assert not await bell.wait("work", 0.02)
        await postgres_store.transact(lambda tx: tx.add_job(job("a")))
        assert await bell.wait("work", 5)
        await postgres_store.transact(lambda tx: tx.add_job(job("a")))  # blocked: nothing to do for anybody
        assert not await bell.wait("work", 0.05)
        claimed = await postgres_store.transact(lambda tx: tx.claim(60))
        assert claimed is not None
        await postgres_store.transact(finishing(claimed))
        assert await bell.wait("work", 5)
        await bell.wait("flags", 0)
        await PostgresFlagStore(postgres_store).save(Flag("sms"), expected=None, floor=False)
        assert await bell.wait("flags", 5)


async def test_nothing_rings_for_what_was_undone(dsn: str, postgres_store: PostgresStore) -> None:
    async with Doorbell(dsn) as bell:
        await asyncio.wait_for(bell.listening.wait(), 5)
        await bell.wait("work", 0)

        async def work(tx: Tx) -> None:
            await tx.add_job(job("a"))
            raise Conflict

        with contextlib.suppress(Conflict):
            await postgres_store.transact(work)
        assert not await bell.wait("work", 0.05)


async def test_the_bell_comes_back_after_its_connection_was_cut(
    dsn: str, postgres: Server, postgres_store: PostgresStore
) -> None:
    async with Doorbell(dsn) as bell:
        await asyncio.wait_for(bell.listening.wait(), 5)
        await bell.wait("work", 0)
        await postgres.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'"
        )
        assert await bell.wait("work", 10)  # rung by the reconnection itself
        await postgres_store.transact(lambda tx: tx.add_job(job("a")))
        assert await bell.wait("work", 5)


async def test_a_lost_bell_is_no_failure(postgres: Server, postgres_store: PostgresStore) -> None:
    postgres_store.ring(["work"])
    await postgres_store.transact(lambda tx: tx.now())
    await postgres.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'clinic_owner'"
    )
    postgres_store.ring(["work"])
    await asyncio.sleep(0.2)
    assert await postgres_store.waiting_channels() == []
