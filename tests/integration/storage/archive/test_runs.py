"""Runs and parts on the real server: who works on what, what a lost lease means."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from router.domain.errors import LeaseLost, StoreError, Unavailable
from router.storage.archive import Archive
from router.storage.archive.model import Account, RunState
from router.storage.archive.shape import MESSAGES
from tests.conftest import Server
from tests.integration.storage.archive.conftest import Place
from tests.integration.storage.archive.documents import (
    AT,
    MESSAGE,
    MINUTE,
    SOURCE,
    begun,
    chunk,
    gone,
    message,
    part_of,
    refused,
)

pytestmark = pytest.mark.postgres
AGES = timedelta(seconds=-1)


async def test_a_run_is_kept_and_the_newest_found(archive: Archive) -> None:
    assert await archive.latest(SOURCE) is None
    first = await archive.start(SOURCE, live=True, options={"rooms": "l"}, token=b"\x01", token_at=AT)
    other = await archive.start("outra", live=False, options={})
    second = await begun(archive)
    assert (first.state, first.options, first.token, first.token_at) == (
        RunState.RUNNING, {"rooms": "l"}, b"\x01", AT,
    )  # fmt: skip
    assert await archive.latest(SOURCE) == second
    assert await archive.runs() == [second, other, first]
    await archive.set_state(second.id, RunState.DONE)
    ended = await archive.latest(SOURCE)
    assert ended is not None
    assert ended.state is RunState.DONE
    assert ended.ended_at is not None
    await archive.set_state(second.id, RunState.RUNNING)
    assert await archive.latest(SOURCE) == second


async def test_parts_go_to_one_worker_each_in_the_order_asked_for(archive: Archive) -> None:
    run = await begun(archive)
    await archive.plan(run.id, "a", [{"from": 0}, {"from": 9}])
    await archive.plan(run.id, "b", [{"from": 0}])
    await archive.plan(run.id, "a", [{"from": 5}, {"from": 6}, {"from": 99}])
    assert [(one.collection, one.spec["from"]) for one in await archive.parts(run.id)] == [
        ("a", 0), ("a", 9), ("a", 99), ("b", 0),
    ]  # fmt: skip
    got = await asyncio.gather(*(archive.claim(run.id, ["b", "a"], uuid.uuid4(), MINUTE) for _ in range(6)))
    taken = sorted((one.collection, one.number) for one in got if one)
    assert taken == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert await archive.claim(run.id, None, uuid.uuid4(), MINUTE) is None
    assert await archive.unfinished(run.id) == 4


async def test_the_first_collection_comes_first_and_others_are_left(archive: Archive) -> None:
    run = await begun(archive)
    for name in ("a", "b", "c"):
        await archive.plan(run.id, name, [{}])
    first = await archive.claim(run.id, ["c", "a"], uuid.uuid4(), MINUTE)
    second = await archive.claim(run.id, ["c", "a"], uuid.uuid4(), MINUTE)
    assert first is not None
    assert second is not None
    assert (first.collection, second.collection) == ("c", "a")
    assert await archive.claim(run.id, ["c", "a"], uuid.uuid4(), MINUTE) is None
    await archive.finish(first)
    assert await archive.unfinished(run.id) == 2


async def test_a_lost_lease_stops_every_step_of_its_owner(archive: Archive, place: Place) -> None:
    run = await begun(archive)
    await archive.plan(run.id, MESSAGE, [{}])
    old = await archive.claim(run.id, None, uuid.uuid4(), AGES)
    assert old is not None
    new = await archive.claim(run.id, None, uuid.uuid4(), MINUTE)
    assert new is not None
    assert new.fence == old.fence + 1
    for step in (
        archive.add(old, chunk(MESSAGES, message("a")), merge=False),
        archive.add(old, chunk(MESSAGES, message("a")), merge=True),
        archive.renew(old, MINUTE),
        archive.release(old),
        archive.finish(old),
    ):
        with pytest.raises(LeaseLost):
            await step
    assert await place.fetch("select count(*) from archive_messages") == [(0,)]
    await archive.renew(new, MINUTE)
    await archive.add(new, chunk(MESSAGES, message("a")), merge=False)
    await archive.finish(new)
    with pytest.raises(LeaseLost):
        await archive.add(new, chunk(MESSAGES, message("b")), merge=False)


async def test_a_part_goes_on_from_its_checkpoint_with_its_account(archive: Archive) -> None:
    part = await part_of(archive)
    rows = [message("a"), message("b")]
    part = await archive.add(part, chunk(MESSAGES, *rows, resume="b"), merge=False)
    nothing = Account(source=3, skipped={"filtered": 2}, rejected=1)
    part = await archive.add(part, replace(chunk(MESSAGES), account=nothing, resume=None), merge=False)
    await archive.release(part)
    again = await archive.claim(part.run_id, None, uuid.uuid4(), MINUTE)
    assert again is not None
    assert (again.after, again.account) == ("b", part.account)
    assert part.account == replace(
        chunk(MESSAGES, *rows).account, source=5, skipped={"filtered": 2}, rejected=1, changed=2
    )
    assert part.account.balanced
    assert await archive.counts(part.run_id) == {MESSAGE: part.account}


async def test_chunks_keep_the_lease(archive: Archive) -> None:
    run = await begun(archive)
    await archive.plan(run.id, MESSAGE, [{}])
    part = await archive.claim(run.id, None, uuid.uuid4(), timedelta(seconds=2))
    assert part is not None
    for step in range(3):
        await asyncio.sleep(1)
        part = await archive.add(part, chunk(MESSAGES, message(str(step))), merge=False)
    assert await archive.claim(run.id, None, uuid.uuid4(), MINUTE) is None


async def test_a_part_whose_chunk_comes_in_is_not_taken(archive: Archive, place: Place) -> None:
    run = await begun(archive)
    await archive.plan(run.id, MESSAGE, [{}])
    part = await archive.claim(run.id, None, uuid.uuid4(), AGES)
    assert part is not None
    async with archive._writers.acquire() as link, link.transaction():
        await link.execute("lock table archive_messages in share mode")  # the chunk waits
        adding = asyncio.create_task(archive.add(part, chunk(MESSAGES, message("a")), merge=False))
        while not await place.fetch("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        assert await archive.claim(run.id, None, uuid.uuid4(), MINUTE) is None
    assert (await adding).account.written == 1


@pytest.mark.parametrize("merge", [False, True])
async def test_nothing_is_left_of_a_chunk_whose_connection_dies(
    archive: Archive, place: Place, upgraded: tuple[Server, str], merge: bool
) -> None:
    part = await part_of(archive)
    told = chunk(MESSAGES, message("a"), refused=[refused("id:x")])
    async with archive._readers.acquire() as link, link.transaction():
        await link.execute("lock table rejects in share mode")  # its rows are in, the refusal waits
        adding = asyncio.create_task(archive.add(part, told, merge=merge))
        while not (held := await place.fetch("select pid from pg_locks where not granted")):
            await asyncio.sleep(0.01)
        await upgraded[0].run(f"select pg_terminate_backend({held[0][0]})")
        with pytest.raises(Unavailable):
            await adding
    assert await archive.parts(part.run_id) == [part]
    assert await archive.kept(MESSAGE, MESSAGES) == 0
    again = await archive.add(part, told, merge=merge)
    assert again.account.written == 1


async def test_a_new_run_forgets_deletions_it_has_read_behind(archive: Archive) -> None:
    run = await begun(archive)
    await archive.apply(run.id, [gone(MESSAGES, "a", MESSAGE)], b"t", None)
    await archive.start(SOURCE, live=True, options={}, token=b"t", token_at=AT - MINUTE)
    assert await archive.tombstones(MESSAGE, ["a", "b"]) == {"a"}
    # Within the second of the token: what was deleted and made again in it is read by the copy.
    await archive.start(SOURCE, live=True, options={}, token=b"t", token_at=AT)
    assert await archive.tombstones(MESSAGE, ["a"]) == set()
    await archive.apply(run.id, [gone(MESSAGES, "a", MESSAGE)], b"t", None)
    await archive.start("dump", live=False, options={})
    assert await archive.tombstones(MESSAGE, ["a"]) == set()


async def test_the_status_of_a_run(archive: Archive) -> None:
    part = await part_of(archive)
    before = await archive.status(part.run_id)
    assert (before["documents"], before["documents_per_second"]) == (0, None)
    told = chunk(MESSAGES, message("a"), refused=[refused("id:b"), refused("at:7", code="orphan")])
    part = await archive.add(part, told, merge=False)
    await archive.finish(part)
    await archive.plan(part.run_id, "users", [{}, {}])
    status = await archive.status(part.run_id)
    assert status["run"].id == part.run_id
    assert (status["parts"], status["done"], status["documents"]) == (3, 1, 1)
    assert status["collections"][MESSAGE] == {"account": part.account, "parts": 1, "done": 1}
    assert status["refused"] == {"nul": 1, "orphan": 1}
    assert status["documents_per_second"] > 0
    with pytest.raises(StoreError, match="no import run"):
        await archive.status(uuid.uuid4())
