"""The list of conversations and their messages, as the API and the console read them."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from router.domain.conversation import Conversation
from router.domain.media import MediaState
from router.domain.ports import Tx
from router.storage.postgres import PostgresStore
from router.storage.queries import talk
from tests.contract.rows import AT, alias, conversation, media, message, person

pytestmark = pytest.mark.postgres

MINUTE = timedelta(minutes=1)


async def a_talk(store: PostgresStore, number: str, **fields: Any) -> Conversation:
    async def work(tx: Tx) -> Conversation:
        made = conversation(await person(tx, alias(number)), **fields)
        await tx.add_conversation(made)
        return made

    return await store.transact(work)


async def test_unread_is_what_was_said_after_it_was_last_read(postgres_store: PostgresStore) -> None:
    silent = await a_talk(postgres_store, "1")
    never_read = await a_talk(postgres_store, "2", heard_at=AT)
    read = await a_talk(postgres_store, "3", heard_at=AT, read_at=AT)
    said_more = await a_talk(postgres_store, "4", heard_at=AT + MINUTE, read_at=AT)
    closed = await a_talk(postgres_store, "5", heard_at=AT, closed_at=AT, closed_by="idle")
    only_opened = await a_talk(postgres_store, "6", read_at=AT)

    async def ids(**asked: Any) -> set[uuid.UUID]:
        wanted = talk.Asked(**asked)
        found = await postgres_store.transact(lambda tx: talk.conversations(tx, wanted, 99), tenant="sol")
        return {row["id"] for row in found}

    unread = {never_read.id, said_more.id, closed.id}
    rest = {silent.id, read.id, only_opened.id}
    assert await ids(unread=True) == unread
    assert await ids(unread=False) == rest
    assert await ids() == unread | rest
    assert await ids(unread=True, state="open") == unread - {closed.id}
    assert await ids(unread=True, tenant="lua") == set()


async def test_a_conversation_tells_when_it_was_heard_and_read_and_the_opt_out(
    postgres_store: PostgresStore,
) -> None:
    made = await a_talk(postgres_store, "1", heard_at=AT, read_at=AT + MINUTE)

    async def opt_out(tx: Tx) -> None:
        who = await tx.identity(made.identity_id)
        assert who is not None
        await tx.save_identity(replace(who, opted_out_at=AT + 2 * MINUTE))

    await postgres_store.transact(opt_out)
    row = await postgres_store.transact(lambda tx: talk.conversation(tx, made.id), tenant="sol")
    assert row is not None
    assert (row["heard_at"], row["read_at"], row["opted_out_at"]) == (AT, AT + MINUTE, AT + 2 * MINUTE)


async def test_messages_come_with_their_files_and_metadata(postgres_store: PostgresStore) -> None:
    made = await a_talk(postgres_store, "1")
    plain, album = message(made.id, metadata={"ref": {"a": 1}}), message(made.id)
    first = media(message_id=album.id, state=MediaState.STORED, mime="image/png", name="a.png", size=5 << 30)
    second = media(
        message_id=album.id, state=MediaState.REFUSED, error_code="too_large", ref="https://x/?sig=1"
    )

    async def work(tx: Tx) -> None:
        for said in (plain, album):
            await tx.add_message(said)
        for one in (first, second, media(message_id=uuid.uuid4()), media(message_id=album.id, tenant="lua")):
            await tx.add_media(one)

    await postgres_store.transact(work)

    async def ask(*, newest: bool = False, limit: int = 9) -> Sequence[dict[str, Any]]:
        return await postgres_store.transact(
            lambda tx: talk.messages(tx, made.id, after=None, limit=limit, newest=newest), tenant="sol"
        )

    wanted = [
        {"id": str(first.id), "state": "stored", "mime": "image/png", "name": "a.png", "size": 5 << 30, "error_code": None},
        {"id": str(second.id), "state": "refused", "mime": None, "name": None, "size": None, "error_code": "too_large"},
    ]  # fmt: skip
    rows = await ask()
    assert [(row["id"], row["media"]) for row in rows] == [(plain.id, []), (album.id, wanted)]
    assert [row["metadata"] for row in rows] == [{"ref": {"a": 1}}, {"a": [1, None]}]
    assert [row["id"] for row in await ask(newest=True, limit=1)] == [album.id]
    one = await postgres_store.transact(lambda tx: talk.message(tx, album.id), tenant="sol")
    assert one is not None
    assert one["media"] == wanted
    assert one["contact_id"] == made.contact_id
