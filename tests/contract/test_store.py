"""What every store must do, the memory twin and PostgreSQL alike."""

import asyncio
import contextlib
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from flags.stage import Path, Stage
from router.domain.conversation import Decision, Identity, Reach, Room
from router.domain.errors import Conflict, LeaseLost
from router.domain.job import (
    Attempt,
    Breaker,
    DeadLetter,
    EventState,
    JobKind,
    JobState,
    Outcome,
    Share,
    channel_lane,
    inbound_lane,
    marking_lane,
    media_lane,
    outbound_lane,
)
from router.domain.message import Content, Direction, Status
from router.domain.ports import Answer, Tx
from tests.contract.bench import Bench
from tests.contract.rows import (
    AT,
    SLUG,
    alias,
    contact,
    conversation,
    event,
    identity,
    job,
    message,
    person,
)

LEASE = 0.15
NATIVE = "native:whatsapp"

# ---- transactions


async def test_an_exception_undoes_all(bench: Bench) -> None:
    async def work(tx: Tx) -> None:
        await person(tx, alias())
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        await bench.store.transact(work)
    assert not await bench.identities("sol", [alias()])


async def test_a_conflict_runs_the_work_again_a_few_times(bench: Bench) -> None:
    runs = 0

    async def work(tx: Tx) -> str:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise Conflict
        return "done"

    assert await bench.store.transact(work) == "done"
    assert runs == 4


async def test_now_stands_still_in_a_transaction(bench: Bench) -> None:
    async def work(tx: Tx) -> tuple[datetime, datetime]:
        return await tx.now(), await tx.now()

    first, second = await bench.store.transact(work)
    assert first == second
    assert first.tzinfo is not None


# ---- events


async def test_an_event_comes_back_as_it_was_received(bench: Bench) -> None:
    sent = event(
        b"\x00\xff raw",
        raw_path=b"/x%2Fy",
        query=b"a=1&a=2",
        headers=((b"X-Hub", b"sha256=\xe9"), (b"x-hub", b""), (b"A", b"1")),
    )
    assert await bench.store.accept(sent)
    (found,) = await bench.waiting_events(SLUG, 10)
    assert found == replace(sent, seq=found.seq)
    assert await bench.event(sent.id, sent.received_at) == found


async def test_a_body_is_stored_once_per_channel(bench: Bench) -> None:
    assert await bench.store.accept(event(b"one"))
    assert not await bench.store.accept(event(b"one"))
    assert await bench.store.accept(event(b"one", channel="sms", tenant="lua"))
    assert await bench.backlog(SLUG) == 1
    assert await bench.backlog("sms") == 1


async def test_repeats_at_the_same_moment_are_one_event(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.store.accept(event(b"%d" % (n % 5))) for n in range(50)))
    assert sum(answers) == 5
    assert await bench.backlog(SLUG) == 5


async def test_waiting_events_come_by_seq_and_leave_when_split(bench: Bench) -> None:
    sent = [event(b"%d" % n) for n in range(5)]
    for one in sent:
        await bench.store.accept(one)
    waiting = await bench.waiting_events(SLUG, 3)
    assert [one.id for one in waiting] == [one.id for one in sent[:3]]
    assert [one.seq for one in waiting] == sorted(one.seq for one in waiting)
    await bench.mark_split(waiting[1], EventState.HANDLED)
    assert [one.id for one in await bench.waiting_events(SLUG, 9)] == [
        sent[0].id, *(one.id for one in sent[2:]),
    ]  # fmt: skip
    assert await bench.backlog(SLUG) == 4


async def test_a_failed_event_comes_alone_and_dies_after_three(bench: Bench) -> None:
    for n in range(4):
        await bench.store.accept(event(b"%d" % n))
    waiting = await bench.waiting_events(SLUG, 9)
    await bench.store.fail_split(waiting[2], "ValueError")
    assert [one.id for one in await bench.waiting_events(SLUG, 9)] == [one.id for one in waiting[:2]]
    for one in waiting[:2]:
        await bench.mark_split(one, EventState.HANDLED)
    for tries in (1, 2):
        (alone,) = await bench.waiting_events(SLUG, 9)
        assert (alone.id, alone.tries) == (waiting[2].id, tries)
        await bench.store.fail_split(alone, "ValueError")
    assert [one.id for one in await bench.waiting_events(SLUG, 9)] == [waiting[3].id]
    dead = await bench.event(waiting[2].id, AT)
    assert (dead.state, dead.tries) == (EventState.DEAD, 3)


async def test_an_event_settles_once(bench: Bench) -> None:
    await bench.store.accept(event())
    (one,) = await bench.waiting_events(SLUG, 1)
    await bench.mark_split(one, EventState.WAITING)
    assert (await bench.event(one.id, AT)).state is EventState.WAITING
    await bench.settle_event(one.id, AT, EventState.DEAD)
    await bench.settle_event(one.id, AT, EventState.HANDLED)
    assert (await bench.event(one.id, AT)).state is EventState.DEAD


async def test_the_split_lock_is_had_for_a_free_channel(bench: Bench) -> None:
    assert await bench.lock_channel(SLUG)
    assert await bench.lock_channel(SLUG)  # the first transaction has ended


# ---- messages


async def test_a_message_comes_back_by_each_of_its_keys(bench: Bench) -> None:
    sent = message(external_id="wamid.1", source_id="abcdefghijklmnopq", content=Content("text", None, {}))
    stored = await bench.add_message(sent)
    assert stored == replace(sent, seq=stored.seq)
    assert await bench.message(sent.id) == stored
    assert await bench.message(sent.id, lock=False) == stored
    assert await bench.message_by_external(SLUG, "wamid.1") == stored
    assert await bench.message_by_external("sms", "wamid.1") is None
    assert await bench.message_by_source("abcdefghijklmnopq") == stored
    assert await bench.message_by_source("abcdefghijklmnopq", lock=False) == stored
    assert await bench.message_by_source("pqabcdefghijklmno", lock=False) is None
    assert await bench.known(SLUG, {"wamid.1", "wamid.2"}) == {"wamid.1"}
    assert await bench.message(uuid.uuid4()) is None


@pytest.mark.parametrize("key", ["external_id", "source_id"])
async def test_a_key_has_one_message(bench: Bench, key: str) -> None:
    await bench.add_message(message(None, **{key: "k"}))
    with pytest.raises(Conflict):
        await bench.add_message(message(None, **{key: "k"}))
    other = await bench.add_message(message())
    with pytest.raises(Conflict):
        await bench.save_message(replace(other, **{key: "k"}))


async def test_provider_ids_are_unique_per_channel_only(bench: Bench) -> None:
    await bench.add_message(message(external_id="1"))
    await bench.add_message(message(external_id="1", channel="sms"))


async def test_messages_get_a_rising_seq(bench: Bench) -> None:
    assert (await bench.add_message(message())).seq < (await bench.add_message(message())).seq


async def test_a_saved_message_keeps_its_new_keys(bench: Bench) -> None:
    stored = await bench.add_message(message())
    changed = replace(stored, external_id="e", source_id="s", status=Status.READ, matched_by="digest")
    await bench.save_message(changed)
    await bench.save_message(changed)
    assert await bench.message_by_external(SLUG, "e") == changed
    assert await bench.message_by_source("s") == changed


async def test_unclaimed_messages_nearest_first(bench: Bench) -> None:
    about = uuid.uuid4()

    async def add(minutes: float, **fields: Any) -> uuid.UUID:
        made = message(about, direction=Direction.OUTBOUND, sent_at=AT + timedelta(minutes=minutes), **fields)
        await bench.add_message(made)
        return made.id

    far, near = await add(9), await add(-1)
    await add(11)
    await add(0, source_id="taken")
    await bench.add_message(message(about))
    found = await bench.unclaimed(about, Direction.OUTBOUND, AT, timedelta(minutes=10), key="source_id")
    assert [one.id for one in found] == [near, far]


async def test_handled_at_is_set_where_it_is_empty(bench: Bench) -> None:
    first, second = message(), message(handled_at=AT)
    for one in (first, second):
        await bench.add_message(one)
    later = AT + timedelta(hours=1)
    await bench.mark_handled([first.id, second.id], later)
    assert (await bench.message(first.id)).handled_at == later
    assert (await bench.message(second.id)).handled_at == AT


async def test_the_last_status_of_an_address(bench: Bench) -> None:
    assert await bench.last_status_at(SLUG) is None
    await bench.touch_statuses(SLUG, AT)
    assert await bench.last_status_at(SLUG) == AT
    await bench.note_outcome(SLUG, "x", Status.READ, AT)
    await bench.note_outcome(SLUG, "x", Status.SENT, AT)


# ---- people


async def test_identities_are_found_in_the_order_asked(bench: Bench) -> None:
    first = await bench.store.transact(lambda tx: person(tx, alias("1"), alias("1b", kind="bsuid")))
    second = await bench.store.transact(lambda tx: person(tx, alias("2")))
    asked = [alias("2"), alias("9"), alias("1b", kind="bsuid"), alias("1", scope="lua")]
    assert await bench.identities("sol", asked) == [(asked[0], second), (asked[2], first)]
    assert await bench.identities("lua", asked) == []
    assert await bench.identity(first.id) == first
    assert await bench.identity(uuid.uuid4()) is None


async def test_known_addresses_are_told_as_stored(bench: Bench) -> None:
    await bench.store.transact(lambda tx: person(tx, alias("1", value="+55 1")))
    ((known, _),) = await bench.identities("sol", [alias("1", value="1")])
    assert known.value == "+55 1"


async def test_the_later_tombstone_of_an_address_stays(bench: Bench) -> None:
    later = AT + timedelta(days=1)
    await bench.bury("sol", [alias("1"), alias("2")], later)
    await bench.bury("sol", [alias("2"), alias("3")], AT)
    asked = {"1": later, "2": later, "3": AT, "4": None}
    for lookup, at in asked.items():
        assert await bench.erased_at("sol", [alias(lookup, value="other spelling")]) == at
    assert await bench.erased_at("sol", [alias("4"), alias("3"), alias("1")]) == later
    assert await bench.erased_at("lua", [alias("1")]) is None
    assert await bench.erased_at("sol", [alias("1", kind="phone")]) is None


async def test_an_address_has_one_identity(bench: Bench) -> None:
    await bench.store.transact(lambda tx: person(tx, alias("1")))
    second = await bench.store.transact(lambda tx: person(tx, alias("2")))
    with pytest.raises(Conflict):
        await bench.put_alias(second, alias("1"))
    with pytest.raises(Conflict):
        await bench.store.transact(lambda tx: person(tx, alias("1")))


async def test_aliases_most_recently_seen_first(bench: Bench) -> None:
    made = await bench.store.transact(lambda tx: person(tx, alias("1"), alias("2")))
    await bench.sleep(0.002)
    await bench.put_alias(made, alias("1", value="+1"))
    assert await bench.aliases(made.id) == [alias("1", value="+1"), alias("2")]


async def test_contacts_and_the_clinics_users(bench: Bench) -> None:
    made = await bench.add_contact(contact(name="Ana"), "rocketchat_whatsapp")
    assert made.user_id is not None
    assert await bench.contact(made.id) == made
    assert await bench.contact_by_user("sol", made.user_id) == made
    assert await bench.contact_by_user("lua", made.user_id) is None
    assert made.user_made
    theirs = await bench.add_contact(contact(tenant="lua", user_id=made.user_id), "api")
    assert (theirs.user_id, theirs.user_made) == (made.user_id, False)
    assert await bench.contact(theirs.id) == theirs
    await bench.save_contact(replace(theirs, user_id=None))
    renamed = replace(made, name="Ana B.", contact_class="staff", user_made=False)
    await bench.save_contact(renamed)
    assert await bench.contact(made.id) == renamed
    assert await bench.contact(uuid.uuid4()) is None


async def test_the_newest_identity_of_a_contact(bench: Bench) -> None:
    async def work(tx: Tx) -> Any:
        owner = await tx.add_contact(contact(), "whatsapp")
        older, newer = identity(owner), identity(owner, created_at=AT + timedelta(days=1))
        await tx.add_identity(newer, [alias("2")])
        await tx.add_identity(older, [alias("1")])
        found = await tx.identity_of_contact(owner.id, "whatsapp")
        return found == newer, await tx.identity_of_contact(owner.id, "sms")

    assert await bench.store.transact(work) == (True, None)


async def test_an_identity_opts_out_and_in_again_and_changes_its_contact(bench: Bench) -> None:
    born = identity(await bench.add_contact(contact(), "whatsapp"), opted_out_at=AT)
    await bench.add_identity(born, [alias()])
    other = await bench.add_contact(contact(), "whatsapp")
    changed = replace(born, contact_id=other.id, opted_out_at=None)
    for now in (born, changed, replace(changed, opted_out_at=AT + timedelta(days=1))):
        await bench.save_identity(now)
        assert await bench.identity(born.id) == now
        assert await bench.identities("sol", [alias()]) == [(alias(), now)]
        assert await bench.identity_of_contact(now.contact_id, "whatsapp") == now


async def test_reach_is_the_newest_word_on_the_channel_and_the_opt_out(bench: Bench) -> None:
    async def work(tx: Tx) -> tuple[Identity, Identity]:
        who, other = await person(tx, alias("1")), await person(tx, alias("2"))
        closed = {"closed_at": AT, "closed_by": "idle"}
        for talk in (
            conversation(who, heard_at=AT + timedelta(hours=2), **closed),
            conversation(who, heard_at=AT + timedelta(hours=1), **closed),
            conversation(who, channel="sms", heard_at=AT + timedelta(hours=3)),
            conversation(other, heard_at=AT + timedelta(hours=4)),
        ):
            await tx.add_conversation(replace(talk, closed_at=None, closed_by=None))
            await tx.save_conversation(talk)
        await tx.add_conversation(conversation(who))  # the open one, where nothing was said yet
        return who, other

    who, other = await bench.store.transact(work)
    assert await bench.reach(SLUG, who.id) == Reach(AT + timedelta(hours=2))
    assert await bench.reach("sms", who.id) == Reach(AT + timedelta(hours=3))
    assert await bench.reach(SLUG, other.id) == Reach(AT + timedelta(hours=4))
    assert await bench.reach("sms", other.id) == Reach()
    assert await bench.reach(SLUG, uuid.uuid4()) == Reach()
    await bench.save_identity(replace(other, opted_out_at=AT))
    assert await bench.reach("sms", other.id) == Reach(None, AT)
    assert await bench.reach(SLUG, other.id) == Reach(AT + timedelta(hours=4), AT)
    assert await bench.reach(SLUG, who.id) == Reach(AT + timedelta(hours=2))  # somebody else


async def test_an_opt_out_holds_for_every_address_of_the_person(bench: Bench) -> None:
    async def work(tx: Tx) -> list[Identity]:
        first = await person(tx, alias("1"))
        owner = await tx.contact(first.contact_id)
        assert owner is not None
        others = [identity(owner), identity(owner, kind="sms"), identity(owner, kind="email")]
        for place, one in enumerate(others):
            await tx.add_identity(one, [alias(str(place), kind="phone")])
        await tx.add_conversation(conversation(others[0], heard_at=AT))
        return [first, *others]

    first, second, by_sms, by_mail = theirs = await bench.store.transact(work)
    for one in theirs:
        assert (await bench.reach(SLUG, one.id)).opted_out_at is None
    await bench.save_identity(replace(by_sms, opted_out_at=AT))
    for one in theirs:
        assert (await bench.reach(SLUG, one.id)).opted_out_at == AT
    newest = AT + timedelta(days=1)
    await bench.save_identity(replace(first, opted_out_at=newest))
    assert await bench.reach("email", by_mail.id) == Reach(None, newest)
    assert await bench.reach(SLUG, second.id) == Reach(AT, newest)  # heard by its own address alone
    assert await bench.reach(SLUG, first.id) == Reach(None, newest)
    elsewhere = await bench.add_contact(contact(), "whatsapp")
    await bench.save_identity(replace(second, contact_id=elsewhere.id))
    assert await bench.reach(SLUG, second.id) == Reach(AT)


async def test_the_mapping_of_rocketchats_users(bench: Bench) -> None:
    made = await bench.add_contact(contact(), "whatsapp")
    for _ in range(2):
        await bench.map_rocketchat_user("rc1", made.user_id, "whatsapp")
    assert await bench.user_of_rocketchat("rc1") == made.user_id
    assert await bench.user_of_rocketchat("rc2") is None


# ---- conversations


async def test_one_open_conversation_per_identity_and_channel(bench: Bench) -> None:
    who = await bench.store.transact(lambda tx: person(tx, alias()))
    first = conversation(who)
    await bench.add_conversation(first)
    assert await bench.open_conversation(SLUG, who.id) == first
    with pytest.raises(Conflict):
        await bench.add_conversation(conversation(who))
    await bench.add_conversation(conversation(who, channel="sms"))
    closed = replace(first, closed_at=AT, closed_by="idle", path=Path.ROCKETCHAT, pin_version=2)
    await bench.save_conversation(closed)
    assert await bench.open_conversation(SLUG, who.id) is None
    assert await bench.conversation(first.id) == closed
    second = conversation(who)
    await bench.add_conversation(second)
    assert await bench.open_conversation(SLUG, who.id) == second


async def test_a_conversation_keeps_when_it_was_heard_read_and_pinned(bench: Bench) -> None:
    who = await bench.store.transact(lambda tx: person(tx, alias()))
    talk = conversation(
        who, heard_at=AT, read_at=AT - timedelta(minutes=1), pinned_at=AT - timedelta(minutes=2)
    )
    await bench.add_conversation(talk)
    assert await bench.open_conversation(SLUG, who.id) == talk
    later = [AT + timedelta(minutes=n) for n in (1, 2, 3)]
    for heard, read, pinned in (later, [None, None, None]):
        talk = replace(talk, heard_at=heard, read_at=read, pinned_at=pinned)
        await bench.save_conversation(talk)
        assert await bench.conversation(talk.id) == talk


async def test_the_conversation_before_a_moment_is_the_newest_opened_by_then(bench: Bench) -> None:
    who = await bench.store.transact(lambda tx: person(tx, alias()))
    first = conversation(who, closed_at=AT + timedelta(minutes=1), closed_by="idle")
    second = conversation(who, opened_at=AT + timedelta(minutes=2))
    await bench.add_conversation(replace(first, closed_at=None, closed_by=None))
    await bench.save_conversation(first)
    await bench.add_conversation(second)
    for minutes, expected in ((-1, None), (0, first), (1.5, first), (2, second), (9, second)):
        found = await bench.conversation_before(SLUG, who.id, AT + timedelta(minutes=minutes))
        assert found == expected
    assert await bench.conversation_before("sms", who.id, AT + timedelta(minutes=9)) is None


async def test_idle_conversations(bench: Bench) -> None:
    async def work(tx: Tx) -> uuid.UUID:
        old = conversation(await person(tx, alias("1")), last_at=AT - timedelta(days=2))
        await tx.add_conversation(old)
        await tx.add_conversation(conversation(await person(tx, alias("2"))))
        return old.id

    idle = await bench.store.transact(work)
    assert await bench.idle_conversations(SLUG, AT - timedelta(days=1), 9) == [idle]
    assert await bench.idle_conversations("sms", AT, 9) == []


async def test_decisions_rooms_and_floors(bench: Bench) -> None:
    async def work(tx: Tx) -> None:
        talk = conversation(await person(tx, alias()))
        await tx.add_conversation(talk)
        await tx.add_decision(
            Decision(
                uuid.uuid4(), "sol", talk.id, Path.NATIVE, Stage.CANARY, "share", 7, "because", 1, AT, "healthy"
            )
        )  # fmt: skip

    await bench.store.transact(work)
    room = Room("r1", "sol", SLUG, None, AT)
    assert await bench.room("r1") is None
    spoke = replace(room, conversation_id=uuid.UUID(int=5), spoke_at=AT + timedelta(hours=1))
    for now in (room, spoke, replace(spoke, spoke_at=AT + timedelta(hours=2))):
        await bench.save_room(now)
        assert await bench.room("r1") == now
    first_spoken = replace(room, id="r2", spoke_at=AT)
    await bench.save_room(first_spoken)
    assert await bench.room("r2") == first_spoken
    assert await bench.flag_floor("whatsapp") == 0


# ---- lanes: order


async def test_a_job_comes_back_as_it_went(bench: Bench) -> None:
    sent = job(
        "a", "b", kind=JobKind.FORWARD, event_id=uuid.uuid4(), event_at=AT, conversation_id=uuid.uuid4(),
        path=Path.ROCKETCHAT, pin_version=3, whole=True, uncertain=True, error="e", room_id="r",
        media_id=uuid.uuid4(), slot_at=AT + timedelta(seconds=1),
        shares=(Share("0/1", uuid.uuid4(), uuid.uuid4()), Share("0/2")),
    )  # fmt: skip
    stored = await bench.add_job(sent)
    claimed = await bench.claim(60)
    assert claimed == replace(stored, attempts=1, fence=1, lease_until=claimed.lease_until)
    assert (await bench.fenced(claimed)).state is JobState.RUNNING
    moved = replace(claimed, state=JobState.RUNNING, slot_at=AT + timedelta(seconds=2), media_id=None)
    await bench.save_job(moved)
    assert await bench.fenced(moved) == moved
    assert await bench.open_jobs(sent.event_id) == 1
    assert await bench.claim(60) is None


async def test_a_lane_goes_in_order_one_at_a_time(bench: Bench) -> None:
    jobs = [await bench.add_job(job("a")) for _ in range(3)]
    assert [one.seq for one in jobs] == sorted(one.seq for one in jobs)
    for expected in jobs:
        (claimed,) = await bench.claims()
        assert claimed.id == expected.id
        await bench.finish_job(claimed, JobState.DONE)
    assert await bench.claim(60) is None


async def test_lanes_do_not_wait_for_each_other(bench: Bench) -> None:
    jobs = [await bench.add_job(job(lane)) for lane in ("a", "a", "b", "c")]
    assert [one.id for one in await bench.claims()] == [jobs[0].id, jobs[2].id, jobs[3].id]


async def test_a_job_in_several_lanes_starts_when_it_heads_them_all(bench: Bench) -> None:
    first = await bench.add_job(job("a"))
    second = await bench.add_job(job("b"))
    both = await bench.add_job(job("a", "b"))
    after_a, after_b = await bench.add_job(job("a")), await bench.add_job(job("b"))
    one, two = await bench.claims()
    assert [one.id, two.id] == [first.id, second.id]
    await bench.finish_job(one, JobState.DONE)
    assert await bench.claim(60) is None
    await bench.finish_job(two, JobState.DEAD)
    (held,) = await bench.claims()
    assert held.id == both.id
    await bench.finish_job(held, JobState.DEAD)
    assert {one.id for one in await bench.claims()} == {after_a.id, after_b.id}


async def test_a_head_that_waits_blocks_its_lane(bench: Bench) -> None:
    now = await bench.now()
    await bench.add_job(job("a", due=now + timedelta(hours=1)))
    await bench.add_job(job("a"))
    assert await bench.claim(60) is None


async def test_leaving_a_lane_lets_the_next_one_go(bench: Bench) -> None:
    both = await bench.add_job(job("a", "b"))
    await bench.add_job(job("a"))
    next_b = await bench.add_job(job("b"))
    claimed = await bench.claim(60)
    assert claimed.id == both.id
    held = await bench.fenced(claimed)
    await bench.save_job(replace(held, lanes=("a",)))
    assert [one.id for one in await bench.claims()] == [next_b.id]


async def test_leaving_the_lane_it_waits_in_frees_the_job_itself(bench: Bench) -> None:
    await bench.add_job(job("a"))
    both = await bench.add_job(job("a", "b"))
    await bench.save_job(replace(both, lanes=("b",)))
    assert both.id in {one.id for one in await bench.claims()}


async def test_leaving_from_the_middle_frees_nobody(bench: Bench) -> None:
    first = await bench.add_job(job("a"))
    middle = await bench.add_job(job("a", "b"))
    last = await bench.add_job(job("a"))
    await bench.save_job(replace(middle, lanes=("b",)))
    assert [one.id for one in await bench.claims()] == [first.id, middle.id]
    await bench.finish_job(replace(first, fence=1), JobState.DONE)
    assert [one.id for one in await bench.claims()] == [last.id]


async def test_the_lowest_seq_is_claimed_first_over_all_gates(bench: Bench) -> None:
    gates = ["native:whatsapp", "rocketchat", "native:sms", "rocketchat", "native:whatsapp"]
    jobs = [await bench.add_job(job(f"lane{n}", gate=gate)) for n, gate in enumerate(gates)]
    assert [one.id for one in await bench.claims()] == [one.id for one in jobs]


# ---- lanes: leases, fences, gates


async def test_a_lease_that_ran_out_is_claimed_again_and_the_old_fence_refused(bench: Bench) -> None:
    await bench.add_job(job("a"))
    first = await bench.claim(LEASE)
    assert first.state is JobState.READY
    assert await bench.claim(LEASE) is None
    await bench.sleep(LEASE + 0.05)
    second = await bench.claim(60)
    assert (second.id, second.fence, second.attempts) == (first.id, 2, 2)
    assert second.state is JobState.RUNNING
    with pytest.raises(LeaseLost):
        await bench.fenced(first)
    assert (await bench.fenced(second)).fence == 2


async def test_a_job_set_back_is_claimed_when_due(bench: Bench) -> None:
    await bench.add_job(job("a"))
    claimed = await bench.claim(60)
    due = await bench.now() + timedelta(seconds=LEASE)
    await bench.save_job(replace(claimed, state=JobState.READY, due_at=due, lease_until=None, error="503"))
    assert await bench.claim(60) is None
    await bench.sleep(LEASE + 0.05)
    again = await bench.claim(60)
    assert (again.id, again.attempts, again.error) == (claimed.id, 2, "503")


async def test_an_unknown_job_comes_back_as_unknown(bench: Bench) -> None:
    await bench.add_job(job("a"))
    claimed = await bench.claim(60)
    await bench.save_job(replace(claimed, state=JobState.UNKNOWN, due_at=AT, lease_until=None))
    again = await bench.claim(60)
    assert (again.id, again.state) == (claimed.id, JobState.UNKNOWN)


async def test_nothing_is_claimed_behind_a_shut_gate(bench: Bench) -> None:
    held = await bench.add_job(job("a"))
    other = await bench.add_job(job("b", gate="rocketchat"))
    assert await bench.breaker(NATIVE) == Breaker(NATIVE)
    assert await bench.breaker(NATIVE, lock=False) == Breaker(NATIVE)
    now = await bench.now()
    shut = Breaker(NATIVE, 3, now, now + timedelta(seconds=LEASE), "timeout")
    await bench.save_breaker(shut)
    assert await bench.breaker(NATIVE, lock=False) == shut
    assert [one.id for one in await bench.claims()] == [other.id]
    await bench.sleep(LEASE + 0.05)
    assert [one.id for one in await bench.claims()] == [held.id]


async def test_a_lapsed_lease_waits_for_its_gate_too(bench: Bench) -> None:
    await bench.add_job(job("a"))
    await bench.claim(0)
    now = await bench.now()
    await bench.save_breaker(Breaker(NATIVE, 1, now, now + timedelta(hours=1)))
    await bench.sleep(0.01)
    assert await bench.claim(60) is None


async def test_jobs_are_found_by_what_they_are_about(bench: Bench) -> None:
    talk, text, call = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    first = await bench.add_job(job(inbound_lane(talk), kind=JobKind.FORWARD, event_id=call))
    # Marks and files are about the conversation too, but nothing is moved or waited for because of them.
    await bench.add_job(job(marking_lane(talk), kind=JobKind.MARK, message_id=text, conversation_id=talk))
    await bench.add_job(job(media_lane(uuid.uuid4()), kind=JobKind.FETCH, message_id=text))
    second = await bench.add_job(job(outbound_lane(talk), message_id=text))
    await bench.add_job(job(channel_lane("room:r"), kind=JobKind.PLACE, room_id="r"))
    assert [one.id for one in await bench.jobs_of_conversation(talk)] == [first.id, second.id]
    assert (await bench.job_of_message(text)).id == second.id
    assert await bench.job_of_message(uuid.uuid4()) is None
    assert await bench.room_jobs("r") == 1
    assert await bench.open_jobs(call) == 1
    for one in (first, second):
        await bench.finish_job(one, JobState.DONE)
    assert await bench.jobs_of_conversation(talk) == []
    assert await bench.job_of_message(text) is None
    assert await bench.open_jobs(call) == 0


async def test_attempts_and_dead_letters(bench: Bench) -> None:
    text = uuid.uuid4()
    tried = await bench.add_job(job("a", message_id=text, shares=(Share("x", text),)))
    second = Attempt(uuid.uuid4(), "sol", text, tried.id, 2, Path.NATIVE, 1, AT)
    first = replace(second, id=uuid.uuid4(), number=1)
    await bench.add_attempt(first)
    await bench.add_attempt(second)
    ended = replace(first, ended_at=AT, outcome=Outcome.RETRY, code="503")
    await bench.end_attempt(ended)
    assert list(await bench.attempts(text)) == [ended, second]
    for _ in range(2):  # it may be replayed, and die again
        await bench.add_dead_letter(DeadLetter(tried, "unknown", AT))


# ---- answers


async def test_an_answer_is_kept_for_the_key(bench: Bench) -> None:
    answer = Answer(b"\x01" * 32, 202, {"id": "x", "n": [1, None]})
    assert await bench.answered("key", "idem") is None
    await bench.remember("key", "idem", answer)
    assert await bench.answered("key", "idem") == answer
    assert await bench.answered("other", "idem") is None
    with contextlib.suppress(Conflict):
        await bench.remember("key", "idem", replace(answer, status=500))
        pytest.fail("a second answer was taken")
    assert await bench.answered("key", "idem") == answer
