import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router import metrics
from router.control import audit, channels, conversations, deadletters, flags, messages
from router.control.compare import compare
from router.control.desk import Desk
from router.control.ledger import ledger
from router.domain.conversation import Conversation
from router.domain.errors import Rejected
from router.domain.job import (
    Breaker,
    DeadLetter,
    Event,
    EventState,
    Job,
    JobKind,
    JobState,
    Share,
    channel_lane,
    native_gate,
)
from router.domain.message import Author, Direction, Status
from router.domain.ports import Tx
from tests.integration.control.desk_scene import LUA, SOL, event, open_conversation, order, say

pytestmark = pytest.mark.postgres


async def refused(awaitable: object) -> tuple[str, int]:
    with pytest.raises(Rejected) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code, raised.value.status


async def forwarding(desk: Desk, one: Event, **fields: Any) -> Job:
    """A forward of the event in the channel's lane."""

    async def work(tx: Tx) -> Job:
        now = await tx.now()
        job = Job(
            desk.ids.new(), one.tenant, one.channel, JobKind.FORWARD, (channel_lane(one.channel),), "rocketchat",
            now, now, event_id=one.id, event_at=one.received_at, shares=(Share("a"),), whole=True, **fields,
        )  # fmt: skip
        await tx.mark_split(one, EventState.WAITING)
        return await tx.add_job(job)

    return await desk.store.transact(work)


async def bury(desk: Desk, job: Job, reason: str) -> None:
    async def work(tx: Tx) -> None:
        await tx.add_dead_letter(DeadLetter(replace(job, attempts=10), reason, await tx.now()))
        await tx.finish_job(job, JobState.DEAD)
        if job.event_id and job.event_at:
            await tx.settle_event(job.event_id, job.event_at, EventState.DEAD)
        if job.message_id:
            message = await tx.message(job.message_id)
            assert message is not None
            status = Status.UNKNOWN if reason == "unknown" else Status.FAILED
            await tx.save_message(replace(message, status=status, error_code=reason))

    await desk.store.transact(work)


async def failed_send(desk: Desk, conversation: Conversation, reason: str = "permanent") -> tuple[str, Job]:
    _, answer = await messages.send(
        desk, key_id="", tenant=None, idempotency_key=None,
        **order(conversation_id=str(conversation.id), text="a"),
    )  # fmt: skip

    async def job_of(tx: Tx) -> Job | None:
        return await tx.job_of_message(uuid.UUID(answer["id"]))

    job = await desk.store.transact(job_of)
    assert job is not None
    await bury(desk, job, reason)
    return str(job.id), job


async def jobs(desk: Desk) -> list[Any]:
    return list(await desk.store.engine.fetch("select * from jobs order by seq"))


async def test_a_failed_send_is_replayed_on_its_conversations_path(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    name, job = await failed_send(desk, conversation)
    listed = await deadletters.listing(desk, "whatsapp", tenant=SOL)
    assert [(one["job_id"], one["kind"], one["reason"], one["attempts"]) for one in listed] == [
        (name, "whatsapp", "permanent", 10)
    ]
    assert await deadletters.listing(desk, "sms") == await deadletters.listing(desk, tenant=LUA) == []
    assert (await deadletters.show(desk, name, tenant=SOL))["lanes"] == list(job.lanes)
    assert await refused(deadletters.show(desk, name, tenant=LUA)) == ("unknown_dead_letter", 404)
    assert await refused(deadletters.replay(desk, name, by="b", tenant=LUA)) == ("unknown_dead_letter", 404)
    assert await deadletters.replay(desk, "all", by="b", tenant=LUA) == 0
    await conversations.move(desk, conversation.id, "native", reason="r", by="b")
    assert await deadletters.replay(desk, name, by="b", tenant=SOL) == 1
    _closing, replayed = await jobs(desk)
    assert str(replayed["id"]) != name
    assert (replayed["attempts"], replayed["fence"], replayed["state"], replayed["path"]) == (
        0, 0, "ready", "native",
    )  # fmt: skip
    assert (replayed["pin_version"], replayed["gate"]) == (2, native_gate("wa-sol"))
    shown = await messages.one(desk, job.message_id or "", SOL)
    assert (shown["status"], shown["path"], shown["error_code"]) == ("queued", "native", None)
    assert await refused(deadletters.replay(desk, name, by="b")) == ("already_replayed", 409)
    assert await deadletters.listing(desk) == []
    assert (await audit.listing(desk))[0]["act"] == "deadletter.replay"


async def test_only_a_text_gets_an_id_of_ours_on_its_way_back(desk: Desk) -> None:
    await open_conversation(desk)
    for kind, ours in (("text", True), ("image", False), ("reaction", False)):
        conversation = await open_conversation(desk)
        name, job = await failed_send(desk, conversation)
        assert job.message_id
        await desk.store.engine.execute(
            "update messages set content_kind = $2, source_id = null where id = $1", job.message_id, kind
        )
        assert await deadletters.replay(desk, name, by="b") == 1
        shown = await messages.one(desk, job.message_id, SOL)
        assert (shown["path"], shown["source_id"] is not None) == ("rocketchat", ours), kind


async def test_unknown_is_replayed_only_by_name(desk: Desk) -> None:
    conversation = await open_conversation(desk)
    unknown, _ = await failed_send(desk, conversation, "unknown")
    plain, _ = await failed_send(desk, conversation)
    sent, sent_job = await failed_send(desk, conversation)
    await desk.store.engine.execute(
        "update messages set status = 'delivered' where id = $1", sent_job.message_id
    )
    assert await deadletters.replay(desk, "all", by="b") == 1
    assert [one["job_id"] for one in await deadletters.listing(desk)] == [unknown, sent]
    assert await refused(deadletters.replay(desk, sent, by="b")) == ("already_sent", 409)
    assert await refused(deadletters.replay(desk, plain, by="b")) == ("already_replayed", 409)
    assert await deadletters.replay(desk, unknown, by="b") == 1
    assert len(await jobs(desk)) == 2
    assert await refused(deadletters.replay(desk, uuid.uuid4(), by="b")) == ("unknown_dead_letter", 404)


async def test_a_refusal_after_an_unanswered_try_is_replayed_only_by_name(desk: Desk) -> None:
    """The first try may have reached the customer, whatever the second one was told."""
    name, job = await failed_send(desk, await open_conversation(desk), "131026")
    document = {"uncertain": True}
    await desk.store.engine.execute(
        "update dead_letters set job = job || $2::jsonb where job_id = $1", job.id, document
    )
    assert await deadletters.replay(desk, "all", by="b") == 0
    assert await deadletters.replay(desk, name, by="b") == 1


async def test_an_event_that_could_not_be_split_is_listed_and_split_again(desk: Desk) -> None:
    """A defect that was mended must not have cost what a patient wrote."""
    one = event(body=b"poison")
    await desk.store.accept(one)
    for _ in range(3):
        await desk.store.fail_split(one, "KeyError")
    assert await desk.store.waiting_channels() == []
    (listed,) = await deadletters.listing(desk, "whatsapp", tenant=SOL)
    assert (listed["job_id"], listed["job_kind"], listed["reason"]) == (str(one.id), "split", "KeyError")
    assert await deadletters.listing(desk, "sms") == await deadletters.listing(desk, tenant=LUA) == []
    assert (await deadletters.show(desk, one.id, tenant=SOL))["attempts"] == 3
    assert await refused(deadletters.show(desk, one.id, tenant=LUA)) == ("unknown_dead_letter", 404)
    (counted,) = [line for line in await channels.overview(desk) if line["channel"] == "wa-sol"]
    assert counted["dead"] == 1
    assert await refused(deadletters.replay(desk, one.id, by="b", tenant=LUA)) == ("unknown_dead_letter", 404)
    assert await deadletters.replay(desk, "all", by="b", tenant=LUA) == 0
    assert await deadletters.replay(desk, one.id, by="b", tenant=SOL) == 1
    assert await desk.store.waiting_channels() == ["wa-sol"]
    assert await deadletters.listing(desk) == []
    assert (await ledger(desk))["balanced"]
    for _ in range(3):
        await desk.store.fail_split(one, "KeyError")
    assert await deadletters.replay(desk, "all", by="b") == 1


async def test_the_ledger_balances_through_death_and_replay(desk: Desk) -> None:
    waiting, handled, ignored, dead = (event(body=bytes([number])) for number in range(4))
    for one in (waiting, handled, ignored, dead):
        assert await desk.store.accept(one)
    assert not await desk.store.accept(replace(waiting, id=uuid.uuid4()))
    await desk.store.transact(lambda tx: tx.mark_split(handled, EventState.HANDLED))
    await desk.store.transact(lambda tx: tx.mark_split(ignored, EventState.IGNORED, "nothing_for_anybody"))
    job = await forwarding(desk, dead)
    await bury(desk, job, "exhausted")
    found = await ledger(desk)
    assert found["channels"]["wa-sol"] == {
        "events": 4, "handled": 1, "waiting": 1, "dead": 1, "ignored": 1, "balanced": True,
    }  # fmt: skip
    assert found["balanced"]
    assert found["channels"]["rocketchat"]["events"] == found["channels"]["wa-lua"]["events"] == 0
    assert await deadletters.replay(desk, "all", by="b") == 1
    line = (await ledger(desk))["channels"]["wa-sol"]
    assert (line["waiting"], line["dead"], line["balanced"]) == (2, 0, True)


@pytest.mark.parametrize(
    "damage",
    [
        "delete from events where seq = 1",
        "delete from event_digests where ctid in (select ctid from event_digests limit 1)",
        "update events set split = true where seq = 1",
        "update events set state = 'dead', split = true where seq = 1",
    ],
)
async def test_the_ledger_sees_what_is_missing(desk: Desk, damage: str) -> None:
    await desk.store.accept(event(body=b"1"))
    await desk.store.accept(event("wa-lua", body=b"2"))
    await desk.store.engine.execute("update events set seq = 1 where channel = 'wa-sol'")
    assert (await ledger(desk))["balanced"]
    await desk.store.engine.execute(damage)
    assert not (await ledger(desk))["balanced"]


async def test_an_event_that_failed_to_split_is_accounted_for(desk: Desk) -> None:
    one = event()
    await desk.store.accept(one)
    for _ in range(3):
        await desk.store.fail_split(one, "KeyError")
    line = (await ledger(desk))["channels"]["wa-sol"]
    assert (line["dead"], line["balanced"]) == (1, True)


async def test_an_event_with_two_dead_letters_stays_dead_until_both_are_replayed(desk: Desk) -> None:
    one = event()
    await desk.store.accept(one)
    letters = [await forwarding(desk, one) for _ in range(2)]
    for job in letters:
        await bury(desk, job, "exhausted")
    states = []
    for job in letters:
        await deadletters.replay(desk, job.id, by="b")
        states.append(await desk.store.engine.fetchval("select state from events"))
    assert states == ["dead", "waiting"]
    for job in await jobs(desk):
        assert job["event_id"] == one.id


async def test_a_forward_without_its_bytes_is_not_replayed(desk: Desk) -> None:
    one = event()
    await desk.store.accept(one)
    job = await forwarding(desk, one)
    await bury(desk, job, "exhausted")
    await desk.store.engine.execute("update events set body = null")
    assert await refused(deadletters.replay(desk, job.id, by="b")) == ("body_dropped", 409)
    assert await deadletters.replay(desk, "all", by="b") == 0
    assert await jobs(desk) == []


async def test_compare_counts_both_paths(desk: Desk) -> None:
    old = await open_conversation(desk)
    await flags.set_stage(desk, "whatsapp", stage="native", reason="r", by="b")
    new, theirs = await open_conversation(desk), await open_conversation(desk, "wa-lua")
    now = datetime.now(UTC)
    outbound: dict[str, Any] = {"direction": Direction.OUTBOUND, "author": Author.SYSTEM, "sent_at": now}
    await say(desk, old, "a")
    await say(desk, old, "b", handled_at=now)
    await say(desk, old, "agent", status=Status.SENT, **outbound)
    await say(desk, new, "c", handled_at=now)
    for seconds in (1, 3):
        at = now + timedelta(seconds=seconds)
        await say(desk, new, "d", status=Status.READ, delivered_at=at, **outbound)
    for status in (Status.FAILED, Status.UNKNOWN, Status.QUEUED):
        await say(desk, theirs, "e", status=status, **outbound)

    async def outcomes(tx: Tx) -> None:
        await tx.note_outcome("wa-sol", "theirs-1", Status.DELIVERED, now)
        await tx.note_outcome("wa-sol", "theirs-2", Status.FAILED, now)

    await desk.store.transact(outcomes)
    both = (await compare(desk, "whatsapp"))["paths"]
    assert both["rocketchat"] == {
        "accepted": 2, "handled": 1, "sent": 1, "delivered": 1, "failed": 1, "unknown": 0,
        "delivery_seconds": None, "delivery_seconds_p95": None,
    }  # fmt: skip
    assert both["native"] | {"delivery_seconds": 2.0} == {
        "accepted": 1, "handled": 1, "sent": 2, "delivered": 2, "failed": 1, "unknown": 1,
        "delivery_seconds": 2.0, "delivery_seconds_p95": pytest.approx(2.9),
    }  # fmt: skip
    lua = (await compare(desk, tenant=LUA))["paths"]
    assert (lua["native"]["failed"], lua["native"]["sent"], lua["rocketchat"]["failed"]) == (1, 0, 0)
    later = await compare(desk, channel="wa-sol", since=now + timedelta(hours=1))
    assert not any(later["paths"]["native"][name] for name in ("accepted", "sent", "failed"))
    assert later["guard"] == {"verdict": "insufficient", "evidence": {}}
    assert await refused(compare(desk, "fax")) == ("unknown_kind", 422)
    assert await refused(compare(desk, channel="fax")) == ("unknown_channel", 422)


async def test_overview_and_gauges(desk: Desk) -> None:
    await flags.set_stage(desk, "whatsapp", stage="canary", percent=30, tenants=[SOL], reason="r", by="b")
    await flags.set_stage(desk, "whatsapp", stage="shadow", channels=["wa-lua-2"], reason="r", by="b")
    conversation = await open_conversation(desk, "wa-lua")
    await say(desk, conversation, "a")
    await messages.send(
        desk, key_id="", tenant=LUA, idempotency_key=None,
        **order(conversation_id=str(conversation.id), text="b"),
    )  # fmt: skip
    await failed_send(desk, conversation)
    await desk.store.accept(event("wa-lua"))
    now = datetime.now(UTC)
    shut = Breaker("rocketchat", 5, now, now + timedelta(seconds=9), "http_503")
    await desk.store.transact(lambda tx: tx.save_breaker(shut))
    by_slug = {one["channel"]: one for one in await channels.overview(desk)}
    stages = {slug: (one["stage"], one["percent"]) for slug, one in by_slug.items()}
    assert stages == {
        "wa-sol": ("canary", 30), "wa-lua": ("rocketchat", None), "wa-lua-2": ("shadow", None),
        "sms-sol": ("rocketchat", None),
    }  # fmt: skip
    lua = by_slug["wa-lua"]
    assert lua["paths"]["rocketchat"] == {
        "inbound": 1, "handled": 0, "sent": 0, "delivered": 0, "failed": 1, "waiting": 1,
    }  # fmt: skip
    assert (lua["lanes"]["split"]["depth"], lua["lanes"]["outbound"]["depth"], lua["dead"]) == (1, 1, 1)
    assert lua["lanes"]["outbound"]["age_seconds"] > 0
    assert lua["lanes"]["inbound"] == {"depth": 0, "age_seconds": 0.0}
    mine = await channels.overview(desk, tenant=SOL)
    assert [one["channel"] for one in mine] == ["sms-sol", "wa-sol"]
    assert all(one["dead"] == 0 for one in mine)
    gates = await channels.breakers(desk, tenant=SOL)
    assert [(one["gate"], one["open"]) for one in gates] == [
        ("rocketchat", True), ("native:sms-sol", False), ("native:wa-sol", False),
    ]  # fmt: skip
    await channels.measure(desk)
    text = metrics.exposition()[0].decode()
    for line in (
        'figueira_lane_depth{lane="split"} 1.0',
        'figueira_lane_depth{lane="outbound"} 1.0',
        'figueira_pins{kind="whatsapp",path="rocketchat"} 1.0',
        'figueira_dead_letters{kind="whatsapp"} 1.0',
        "figueira_unplaced_events 0.0",
        "figueira_rocketchat_up 0.0",
        'figueira_stage{channel="wa-sol",stage="canary"} 1.0',
        'figueira_stage{channel="wa-sol",stage="native"} 0.0',
    ):
        assert line in text
