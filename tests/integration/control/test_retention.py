"""What is dropped when it is old enough, and what stands beside it and stays."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from router import metrics
from router.control import conversations, deadletters, retention
from router.control.desk import Desk
from router.control.ledger import ledger
from router.control.retention import sweep_once
from router.domain.errors import Rejected
from router.domain.job import DeadLetter, Event, EventState, Job, JobKind, JobState, channel_lane
from router.domain.ports import Tx
from router.storage.postgres.base import insert
from router.storage.queries import retention as rows
from router.storage.queries.retention import OLD
from tests.integration.control.desk_scene import event, open_conversation, say, told

pytestmark = pytest.mark.postgres

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OWNER = uuid.UUID(int=1)
NOTHING = dict.fromkeys([*OLD, "bodies"], 0)


@pytest.fixture
async def now(desk: Desk) -> datetime:
    return await desk.store.transact(lambda tx: tx.now())


async def put(desk: Desk, table: str, **values: object) -> None:
    await desk.store.engine.execute(insert(table, tuple(values)), *values.values())


async def left(desk: Desk, table: str, column: str) -> list[Any]:
    found = await desk.store.engine.fetch(f"select {column} from {table} order by {column}")  # noqa: S608 - our own names
    return [row[0] for row in found]


async def again(desk: Desk, **differences: int) -> None:
    """Another hour, another sweep: it drops the `differences` and nothing else."""
    await desk.store.engine.execute("update duties set rest_until = null where name = 'retention'")
    assert await sweep_once(desk, OWNER) == NOTHING | differences


def test_what_is_dropped_is_one_list_everywhere() -> None:
    assert set(metrics.DROPPED) == {*OLD, retention.BODIES}
    assert set(OLD) == set(retention.KEPT)


ROWS: Mapping[str, tuple[str, timedelta, str, Mapping[str, object]]] = {
    "idempotency": ("idem_key", timedelta(hours=48), "created_at", {
        "key_id": "k", "tenant_id": "t", "body_digest": b"", "status": 202, "answer": {}}),
    "media_uploads": ("sha256", 30 * DAY, "expires_at", {
        "channel": "wa-sol", "target": "", "tenant_id": "t", "file_id": "f"}),
    "paces": ("key", HOUR, "tat", {}),
    "outcomes": ("external_id", 90 * DAY, "at", {"channel": "wa-sol", "tenant_id": "t", "status": "read"}),
    "billables": ("external_id", 90 * DAY, "at", {"channel": "wa-sol", "tenant_id": "t", "category": "utility"}),
}  # fmt: skip


@pytest.mark.parametrize("table", ROWS)
async def test_a_row_goes_when_its_time_is_over_and_not_before(desk: Desk, now: datetime, table: str) -> None:
    name, kept, moment, others = ROWS[table]
    for key, age in {"a": kept + HOUR, "b": kept + 999 * DAY, "c": kept - HOUR / 4, "d": -HOUR}.items():
        await put(desk, table, **{name: key, moment: now - age}, **others)
    assert await sweep_once(desk, OWNER) == NOTHING | {table: 2}
    assert await left(desk, table, name) == ["c", "d"]
    await again(desk)


async def test_a_session_goes_a_week_after_it_ended(desk: Desk, now: datetime) -> None:
    await put(
        desk, "console_users", email="a@b.c", tenant_id="*", role="viewer", password_hash="", created_at=now
    )
    for key, ended in {b"a": 7 * DAY + HOUR, b"b": 7 * DAY - HOUR, b"c": -HOUR}.items():
        await put(
            desk, "console_sessions", token_hash=key, tenant_id="*", email="a@b.c", created_at=now - 40 * DAY,
            expires_at=now - ended,
        )  # fmt: skip
    assert await sweep_once(desk, OWNER) == NOTHING | {"console_sessions": 1}
    assert await left(desk, "console_sessions", "token_hash") == [b"b", b"c"]
    assert await left(desk, "console_users", "email") == ["a@b.c"]


async def test_only_an_upload_that_was_never_sent_goes(desk: Desk, now: datetime) -> None:
    old, young = now - 7 * DAY - HOUR, now - 7 * DAY + HOUR
    for name, origin, at, message_id in (
        ("never sent", "upload", old, None),
        ("sent", "upload", old, uuid.uuid4()),
        ("young", "upload", young, None),
        ("fetched", "provider", old, None),
    ):
        await put(
            desk, "media", id=uuid.uuid4(), tenant_id="t", channel="", message_id=message_id, origin=origin,
            ref="r", created_at=at, state="stored", name=name,
        )  # fmt: skip
    assert await sweep_once(desk, OWNER) == NOTHING | {"media": 1}
    assert await left(desk, "media", "name") == ["fetched", "sent", "young"]


def received(body: bytes, at: datetime) -> Event:
    return replace(event(body=body), received_at=at, headers=((b"X-Hub-Signature-256", b"sha256=00"),))


async def kept_event(desk: Desk, body: bytes, received_at: datetime, state: EventState | None) -> uuid.UUID:
    """An event that was split and ended so; None: not split yet."""
    one = received(body, received_at)
    assert await desk.store.accept(one)
    if state is not None:
        await desk.store.transact(lambda tx: tx.mark_split(one, state))
    return one.id


async def bodies(desk: Desk) -> set[bytes]:
    return {body for body in await left(desk, "events", "body") if body is not None}


async def test_bodies_go_after_thirty_days_unless_somebody_waits_for_them(desk: Desk, now: datetime) -> None:
    old = now - 31 * DAY
    for state in (EventState.HANDLED, EventState.IGNORED, EventState.DEAD):
        await kept_event(desk, state.encode(), old, state)
    await kept_event(desk, b"waits", old, EventState.WAITING)
    await kept_event(desk, b"not split", old, None)
    await kept_event(desk, b"29 days 23 h", now - 30 * DAY + HOUR, EventState.HANDLED)
    await kept_event(desk, b"new", now, EventState.HANDLED)
    half = await kept_event(desk, b"half dead", old, EventState.DEAD)
    job = forward(desk, half, old, now)
    await desk.store.transact(lambda tx: tx.add_job(job))
    stay = {b"waits", b"not split", b"29 days 23 h", b"new", b"half dead"}
    assert await sweep_once(desk, OWNER) == NOTHING | {"bodies": 3}
    assert await bodies(desk) == stay
    emptied = await desk.store.engine.fetch(
        "select headers, digest, state from events where body is null order by state"
    )
    assert [(row["headers"], row["state"]) for row in emptied] == [
        ([], "dead"), ([], "handled"), ([], "ignored"),
    ]  # fmt: skip
    assert all(row["digest"] for row in emptied)
    assert await desk.store.engine.fetchval("select count(*) from event_digests") == 8
    assert not await desk.store.accept(received(b"handled", now))  # a repeat, all the same
    whole = await desk.store.engine.fetchval("select count(*) from events where headers::text <> '[]'")
    assert whole == len(stay)
    # What was waited for goes once it is over, although later ones have gone before it.
    waits = await desk.store.engine.fetchrow("select id, received_at from events where body = 'waits'::bytea")
    assert waits is not None
    await desk.store.transact(
        lambda tx: tx.settle_event(waits["id"], waits["received_at"], EventState.HANDLED)
    )
    await again(desk, bodies=1)
    assert await bodies(desk) == stay - {b"waits"}


def forward(desk: Desk, event_id: uuid.UUID, event_at: datetime, now: datetime) -> Job:
    return Job(
        desk.ids.new(), "clinica-sol", "wa-sol", JobKind.FORWARD, (channel_lane("wa-sol"),), "rocketchat", now, now,
        event_id=event_id, event_at=event_at, whole=True,
    )  # fmt: skip


async def test_what_lost_its_body_is_not_replayed(desk: Desk, now: datetime) -> None:
    old = now - 31 * DAY
    forwarded = await kept_event(desk, b"a forward", old, EventState.DEAD)
    job = forward(desk, forwarded, old, now)

    async def bury(tx: Tx) -> None:
        await tx.add_dead_letter(DeadLetter(job, "exhausted", now))
        added = await tx.add_job(job)
        await tx.finish_job(added, JobState.DEAD)

    await desk.store.transact(bury)
    unsplit = received(b"not split", old)
    await desk.store.accept(unsplit)
    for _ in range(3):
        await desk.store.fail_split(unsplit, "KeyError")
    assert await sweep_once(desk, OWNER) == NOTHING | {"bodies": 2}
    for one in (job.id, unsplit.id):
        with pytest.raises(Rejected, match="dropped") as raised:
            await deadletters.replay(desk, one, by="b")
        assert (raised.value.code, raised.value.status) == ("body_dropped", 409)
    assert await deadletters.replay(desk, "all", by="b") == 0
    assert await left(desk, "events", "state") == ["dead", "dead"]
    assert await left(desk, "jobs", "id") == []
    assert (await ledger(desk))["balanced"]


async def test_what_was_given_up_yesterday_is_split_again(desk: Desk, now: datetime) -> None:
    one = received(b"x", now - DAY)
    await desk.store.accept(one)
    for _ in range(3):
        await desk.store.fail_split(one, "KeyError")
    assert await sweep_once(desk, OWNER) == NOTHING
    assert await deadletters.replay(desk, one.id, by="b") == 1
    (waiting,) = await desk.store.transact(lambda tx: tx.waiting_events("wa-sol", 9))
    assert (waiting.body, waiting.tries) == (b"x", 0)


async def test_talk_stays(desk: Desk, now: datetime) -> None:
    conversation = await open_conversation(desk)
    long_ago = now - 3000 * DAY
    await say(desk, conversation, "bom dia", created_at=long_ago, sent_at=long_ago)
    await desk.store.engine.execute("update conversations set opened_at = $1, last_at = $1", long_ago)
    before = await conversations.messages(desk, conversation.id)
    assert await sweep_once(desk, OWNER) == NOTHING
    assert await conversations.messages(desk, conversation.id) == before
    assert len(await left(desk, "messages", "id")) == 1


async def test_one_process_sweeps_and_all_rest_for_an_hour(desk: Desk, now: datetime) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    assert await sweep_once(desk, first) == NOTHING
    await put(desk, "paces", key="a", tat=now - 2 * HOUR)
    assert await sweep_once(desk, first) is None
    assert await sweep_once(desk, second) is None
    await desk.store.engine.execute("update duties set rest_until = now() - interval '1 second'")
    rest = await desk.store.engine.fetchval("select rest_until from duties")
    assert await sweep_once(desk, second) == NOTHING | {"paces": 1}
    ended = await desk.store.engine.fetchrow("select * from duties")
    assert ended is not None
    assert (ended["name"], ended["owner"]) == ("retention", None)
    assert HOUR <= ended["rest_until"] - rest <= HOUR + timedelta(minutes=1)


async def test_many_go_in_batches_and_the_rest_next_time(
    desk: Desk, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "BATCHES", 3)
    for n in range(11):
        await put(desk, "paces", key=str(n), tat=now - 2 * HOUR)
        # Three each received at the same moment, one of them still waiting.
        at = now - (40 - n // 3) * DAY
        await kept_event(desk, str(n).encode(), at, EventState.WAITING if n % 3 == 1 else EventState.IGNORED)
    for n in range(20, 26):
        await kept_event(desk, str(n).encode(), now - 33 * DAY, EventState.HANDLED)
    assert await sweep_once(desk, OWNER) == NOTHING | {"paces": 9, "bodies": 9}
    await again(desk, paces=2, bodies=4)
    assert await bodies(desk) == {b"1", b"4", b"7", b"10"}
    await again(desk)


async def test_a_row_in_use_is_left_for_the_next_time(desk: Desk, now: datetime, dsn: str) -> None:
    for key in ("a", "b"):
        await put(desk, "paces", key=key, tat=now - 2 * HOUR)
        await kept_event(desk, key.encode(), now - 31 * DAY, EventState.HANDLED)
    other = await asyncpg.connect(dsn, server_settings={"role": "figueira_engine"})
    async with other.transaction():
        await other.execute("select from paces where key = 'a' for update")
        await other.execute("select from events where body = 'a'::bytea for update")
        assert await sweep_once(desk, OWNER) == NOTHING | {"paces": 1, "bodies": 1}
    await other.close()
    await again(desk, paces=1, bodies=1)


async def test_who_lost_the_lease_stops(desk: Desk, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(desk, "paces", key="a", tat=now - 2 * HOUR)
    await desk.store.transact(lambda tx: tx.take_duty("retention", OWNER, -HOUR))
    taken = uuid.uuid4()
    monkeypatch.setattr(retention, "LEASE", -HOUR)  # ours lapses at once, and another takes it before paces

    real = rows.drop

    async def drop(tx: Tx, table: str, before: datetime, limit: int) -> int:
        count: int = await real(tx, table, before, limit)
        if table == "media_uploads":
            await tx.take_duty("retention", taken, HOUR)
        return count

    monkeypatch.setattr(rows, "drop", drop)
    assert await sweep_once(desk, OWNER) == {"idempotency": 0, "media": 0, "media_uploads": 0}
    assert await left(desk, "paces", "key") == ["a"]
    assert await left(desk, "duties", "owner") == [taken]


async def test_it_is_counted_and_logged_by_name(
    desk: Desk, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    await put(desk, "paces", key="pair:5511999990000", tat=now - 2 * HOUR)
    with caplog.at_level("INFO", logger="router.control.retention"):
        await sweep_once(desk, OWNER)
    (line,) = caplog.records
    assert (line.msg, line.__dict__["fields"]) == ("retention.done", {"table": "paces", "rows": 1})
    facts = [fact for fact in told(desk) if fact[0] == "dropped_total"]
    assert sorted(facts) == sorted(
        ("dropped_total", count, (what,)) for what, count in (NOTHING | {"paces": 1}).items()
    )
    metrics.Recorder().record(facts)
