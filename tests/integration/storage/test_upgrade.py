"""Upgrades from older databases, on the wheel's PostgreSQL and on Debian's 15."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, select
from sqlalchemy.ext.asyncio import create_async_engine

from router.domain.conversation import Conversation, Reach
from router.domain.job import JobState
from router.domain.message import Author, Direction, Message, Status
from router.storage.postgres import open_store
from router.storage.tables import conversations, metadata
from router.storage.upgrade import check, head, upgrade
from tests.conftest import TOMBSTONE_KEY, Server, fresh_name
from tests.contract.rows import AT, alias, contact, conversation, event, identity, job, message, person

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


async def _talk_of_old(dsn: str, *said: Message, **fields: Any) -> Conversation:
    """A conversation as the first revision kept it, with messages in it."""
    owner = contact()
    who = identity(owner)
    talk = conversation(who, **fields)
    link = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    async with link.transaction():
        await link.execute(
            "insert into contacts (id, tenant_id, cohort, created_at) values ($1, 'sol', 'c0', $2)",
            owner.id,
            AT,
        )
        await link.execute(
            "insert into identities (id, tenant_id, contact_id, kind, created_at) values ($1, 'sol', $2, 'whatsapp', $3)",
            who.id, owner.id, AT,
        )  # fmt: skip
        await link.execute(
            "insert into conversations (id, tenant_id, channel, kind, identity_id, contact_id, path, pin_version,"
            " opened_at, last_at) values ($1, 'sol', 'whatsapp', 'whatsapp', $2, $3, 'native', 1, $4, $5)",
            talk.id, who.id, owner.id, talk.opened_at, talk.last_at,
        )  # fmt: skip
        for one in said:
            await link.execute(
                "insert into messages (created_at, id, tenant_id, channel, kind, conversation_id, direction, author,"
                " content_kind, status, path, sent_at) values ($1, $2, 'sol', 'whatsapp', 'whatsapp', $3, $4, $5,"
                " 'text', $6, 'native', $7)",
                one.created_at, one.id, talk.id, one.direction, one.author, one.status, one.sent_at,
            )  # fmt: skip
    await link.close()
    return talk


async def test_what_was_heard_and_read_lately_comes_from_the_messages(empty: str) -> None:
    await upgrade(empty, "0002")
    now = datetime.now(UTC)

    def at(hours: int) -> datetime:
        return now - timedelta(hours=hours)

    def heard(hours: int) -> Message:
        return message(sent_at=at(hours))

    def told(hours: int, author: Author) -> Message:
        out = message(direction=Direction.OUTBOUND, author=author, status=Status.SENT)
        return replace(out, sent_at=at(hours))

    answered = await _talk_of_old(empty, heard(9), heard(5), told(4, Author.HUMAN), heard(2), last_at=at(2))
    by_bot = await _talk_of_old(empty, heard(3), told(1, Author.BOT), last_at=at(1))
    only_told = await _talk_of_old(empty, told(3, Author.SYSTEM), last_at=at(3))
    long_ago = await _talk_of_old(empty, heard(24 * 8), last_at=at(24 * 8))
    silent = await _talk_of_old(empty, last_at=at(1))
    for _ in range(2):  # an upgrade that was done does nothing
        await upgrade(empty)
    async with open_store(empty, tombstone_key=TOMBSTONE_KEY) as store:

        async def times(talk: Conversation) -> tuple[datetime | None, datetime | None]:
            found = await store.transact(lambda tx: tx.conversation(talk.id))
            assert found is not None
            return found.heard_at, found.read_at

        assert await times(answered) == (at(2), at(4))
        assert await times(by_bot) == (at(3), None)
        for talk in (only_told, long_ago, silent):
            assert await times(talk) == (None, None)
        reach = await store.transact(lambda tx: tx.reach("whatsapp", answered.identity_id))
        assert reach == Reach(at(2))


async def test_whose_user_is_ours_follows_from_the_mapping(empty: str) -> None:
    await upgrade(empty, "0002")
    link = await asyncpg.connect(empty)

    async def known(
        origin: str, *mapped: int | None, kind: str = "whatsapp", type_: str = "paciente"
    ) -> uuid.UUID:
        """A contact and its user; `mapped`: the seconds between the contact and each row of the mapping."""
        owner, user = contact(), uuid.uuid4()
        await link.execute("insert into tb_users values ($1, 'Ana', $2, $3)", user, origin, type_)
        for seconds in mapped:
            at = None if seconds is None else AT.replace(tzinfo=None) + timedelta(seconds=seconds)
            await link.execute(
                "insert into tb_rocketchat_user_mapping (rc_user_id, id_user, dt_criacao) values ($1, $2, $3)",
                uuid.uuid4().hex, user, at,
            )  # fmt: skip
        async with link.transaction():
            await link.execute("set local role figueira_engine")
            await link.execute(
                "insert into contacts (id, tenant_id, cohort, created_at, user_id) values ($1, 'sol', 'c0', $2, $3)",
                owner.id, AT, user,
            )  # fmt: skip
            await link.execute(
                "insert into identities (id, tenant_id, contact_id, kind, created_at) values ($1, 'sol', $2, $3, $4)",
                uuid.uuid4(), owner.id, kind, AT,
            )  # fmt: skip
        return owner.id

    ours = {
        await known("whatsapp"),
        await known("rocketchat_whatsapp", 0),  # in the contact's own transaction
        await known("rocketchat_facebook", 0, 3600, kind="messenger"),
    }
    theirs = [
        await known("rocketchat_whatsapp", -1),
        await known("rocketchat_whatsapp", 5, -86400),
        await known("whatsapp", None),
        await known("site"),
        await known("instagram"),
        await known("whatsapp", type_="medico"),
    ]
    for _ in range(2):
        await upgrade(empty)
    async with link.transaction():
        await link.execute("set local role figueira_engine")
        found = {row["id"] for row in await link.fetch("select id from contacts where user_made")}
    assert found == ours
    assert not found & set(theirs)
    rights = "select has_column_privilege('figueira_engine', 'tb_users', 'ds_origem', 'select')"
    assert await link.fetchval(rights) is False
    await link.close()


async def test_columns_of_an_upgrade_cut_short_are_no_hindrance(empty: str) -> None:
    await upgrade(empty, "0002")
    link = await asyncpg.connect(empty)
    await link.execute("alter table conversations add column heard_at timestamptz")
    await link.execute("create index conversations_identity on conversations (id)")
    await upgrade(empty)
    made = await link.fetchval("select indexdef from pg_indexes where indexname = 'conversations_identity'")
    await link.close()
    assert "(channel, identity_id)" in made
    await _work_goes_on(empty)


async def test_from_the_first_revision_with_rows_in_it(empty: str) -> None:
    await upgrade(empty, "0001")
    before = await check(empty)
    assert (before.revision, before.ready) == ("0001", False)
    async with open_store(empty, tombstone_key=TOMBSTONE_KEY) as store:
        await store.accept(event(b"kept"))
    talk = await _talk_of_old(empty)
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
