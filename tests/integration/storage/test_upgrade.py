"""Upgrades from older databases, on the wheel's PostgreSQL and on Debian's 15."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, select
from sqlalchemy.ext.asyncio import create_async_engine

from router.domain.job import JobState
from router.storage.postgres import open_store
from router.storage.tables import conversations, metadata
from router.storage.upgrade import check, head, upgrade
from tests.conftest import TOMBSTONE_KEY, Server, fresh_name
from tests.contract.rows import alias, conversation, event, job, person

pytestmark = [pytest.mark.postgres, pytest.mark.server]


@pytest.fixture(params=["wheel", "debian"])
def server(request: pytest.FixtureRequest) -> Server:
    found = request.getfixturevalue({"wheel": "postgres", "debian": "postgres_15"}[request.param])
    assert isinstance(found, Server)
    return found


@pytest.fixture
async def empty(server: Server) -> AsyncIterator[str]:
    """A database nothing was done to; the DSN of its owner, who is no superuser."""
    name = fresh_name()
    yield await server.create(name)
    await server.drop(name)


async def _work_goes_on(dsn: str) -> None:
    async with open_store(dsn, tombstone_key=TOMBSTONE_KEY) as store:
        assert await store.accept(event(uuid.uuid4().bytes))
        await store.transact(lambda tx: tx.add_job(job("a")), tenant="sol")
        claimed = await store.transact(lambda tx: tx.claim(60))
        assert claimed is not None
        await store.transact(lambda tx: tx.finish_job(claimed, JobState.DONE))


async def test_from_the_first_revision_with_rows_in_it(empty: str) -> None:
    await upgrade(empty, "0001")
    before = await check(empty)
    assert (before.revision, before.ready) == ("0001", False)
    async with open_store(empty, tombstone_key=TOMBSTONE_KEY) as store:
        await store.accept(event(b"kept"))
        who = await store.transact(lambda tx: person(tx, alias()))
        talk = conversation(who)
        await store.transact(lambda tx: tx.add_conversation(talk))
    await upgrade(empty)
    after = await check(empty)
    assert after.ready
    assert after.revision == head()
    assert after.roles == ("figueira_engine", "figueira_tenant")
    async with open_store(empty, tombstone_key=TOMBSTONE_KEY) as store:
        assert await store.transact(lambda tx: tx.conversation(talk.id)) == talk
        assert await store.transact(lambda tx: tx.backlog("whatsapp")) == 1
    await _work_goes_on(empty)


async def test_several_processes_at_once_and_again(empty: str) -> None:
    await asyncio.gather(*(upgrade(empty) for _ in range(3)))
    link = await asyncpg.connect(empty)
    shape = "select md5(string_agg(x::text, ',' order by x::text)) from pg_attribute x where attrelid > 16384"
    before = await link.fetchval(shape)
    await upgrade(empty)
    assert await link.fetchval(shape) == before
    await link.close()
    await _work_goes_on(empty)


async def test_an_index_build_cut_short_is_mended(empty: str) -> None:
    await upgrade(empty, "0001")
    link = await asyncpg.connect(empty)
    await link.execute("create index conversations_recent on conversations (id)")
    await upgrade(empty)
    made = await link.fetchval("select indexdef from pg_indexes where indexname = 'conversations_recent'")
    await link.close()
    assert "(tenant_id, last_at, id)" in made


async def test_the_clinics_users_are_not_altered(empty: str) -> None:
    link = await asyncpg.connect(empty)
    await link.execute(
        "create table tb_users (id_user uuid primary key, nm_completo varchar(80) not null, ds_origem varchar(40),"
        " st_tipo_usuario varchar(20), nr_cpf char(11))"
    )
    await link.execute("insert into tb_users values (gen_random_uuid(), 'Ana', 'balcao', 'paciente', '1')")
    columns = (
        "select column_name, data_type, is_nullable, column_default from information_schema.columns"
        " where table_name = 'tb_users' order by ordinal_position"
    )
    before = await link.fetch(columns)
    await upgrade(empty)
    assert await link.fetch(columns) == before
    async with open_store(empty, tombstone_key=TOMBSTONE_KEY) as store:
        await store.transact(lambda tx: person(tx, alias()))
    rows = await link.fetch(
        "select nm_completo, ds_origem, st_tipo_usuario from tb_users order by nm_completo"
    )
    assert [tuple(row) for row in rows] == [
        ("Ana", "balcao", "paciente"),
        ("Sem nome", "whatsapp", "paciente"),
    ]
    await link.close()


async def test_users_of_another_shape_stop_the_upgrade(empty: str) -> None:
    link = await asyncpg.connect(empty)
    await link.execute("create table tb_users (id_user uuid primary key, nm_completo text)")
    with pytest.raises(RuntimeError, match="ds_origem, st_tipo_usuario"):
        await upgrade(empty)
    assert await link.fetchval("select to_regclass('events')") is None
    await link.close()


async def test_the_tables_are_what_tables_py_says(empty: str) -> None:
    await upgrade(empty)

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": "figueira_upgrades", "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(empty)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    async with engine.connect() as link:
        assert await link.run_sync(differences) == []
        assert (await link.execute(select(conversations))).all() == []
    await engine.dispose()
