"""Sends that go wrong in ways a provider can make them go wrong."""

from dataclasses import replace

import pytest

from flags.stage import Path, Stage
from router.delivery import Delivery
from router.domain.job import ROCKETCHAT_GATE, Breaker, JobKind, Outcome, Result, native_gate
from router.domain.message import Status
from router.domain.ports import Outbound
from tests.simulation.payloads import echo, meta, status
from tests.unit.router.heart import ANA, Heart

UNKNOWN = Result(Outcome.UNKNOWN, code="timeout")
REVOKED = Result(Outcome.CHANNEL, code="190")


async def test_an_echo_that_outruns_the_answer_is_our_own_send() -> None:
    """Taken for a human turn it would take the provider's id away, and the send would go again."""
    heart = Heart()
    message = await heart.says("Bom dia!")
    heart.native.answer = Result(Outcome.OK, "wamid.out")

    async def echoed(_: Outbound) -> None:
        change = echo(ANA, "wamid.out", "Bom dia!", int(heart.clock.now().timestamp()))
        await heart.accept(meta("100", [change], 1))

    heart.native.meanwhile = echoed
    await heart.run()
    (stored,) = heart.messages
    assert (stored.id, stored.status, stored.external_id) == (message.id, Status.SENT, "wamid.out")
    assert not heart.store.tables.active


async def test_an_answer_whose_id_a_human_turn_has_taken_still_counts() -> None:
    """Two equal texts are under way: an echo cannot be told to be of one of them."""
    heart = Heart()
    await heart.says("Bom dia!")
    heart.native.answer = Result(Outcome.OK, "wamid.out")

    async def echoed(_: Outbound) -> None:
        change = echo(ANA, "wamid.out", "Bom dia", int(heart.clock.now().timestamp()))  # spelled otherwise
        await heart.accept(meta("100", [change], 1))

    heart.native.meanwhile = echoed
    await heart.run()
    assert heart.messages[0].status is Status.SENT
    heart.native.meanwhile = None
    await heart.run(seconds=200)
    assert len(heart.native.sent) == 1


async def test_a_send_of_a_removed_channel_is_given_up_once() -> None:
    heart = Heart()
    await heart.says("Bom dia!")
    del heart.channels["wa"]
    assert await heart.run(seconds=5) < 3
    assert [letter.reason for letter in heart.store.tables.dead_letters.values()] == ["channel_removed"]
    assert heart.messages[0].status is Status.FAILED


async def test_unknown_sends_that_wait_do_not_use_up_the_probe() -> None:
    """Five answers lost trip the breaker; what comes after is the probe, not what only waits for evidence."""
    heart = Heart()
    heart.native.answer = UNKNOWN
    for number in range(heart.policy.breaker_failures):
        await heart.says("Oi", wa=f"55119888800{number:02}")
    await heart.run()
    heart.native.answer = Result(Outcome.OK, "wamid.next")
    heart.clock.seconds += 60
    await heart.says("Tudo bem?")
    await heart.run(seconds=1)
    assert heart.native.sent[-1].content.text == "Tudo bem?"


async def test_a_send_refused_for_the_account_moves_with_its_conversation() -> None:
    heart = Heart()
    await heart.hears("Oi")
    heart.native.answer = REVOKED
    message = await heart.says("Bom dia!")
    await heart.run()
    await heart.move(Path.ROCKETCHAT)
    (job,) = heart.store.tables.jobs.values()
    assert (job.path, job.gate, job.message_id) == (Path.ROCKETCHAT, ROCKETCHAT_GATE, message.id)


async def test_a_refused_rest_token_does_not_hold_the_forwards() -> None:
    """Forwards carry the provider's signature, not our token."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.legacy.answer = Result(Outcome.CHANNEL, code="unauthorized")
    body, slug = heart.flat(channel=None, type="Message", _id="room-1", visitor={"_id": "v1"}, messages=[])
    await heart.accept(body, slug)
    await heart.run()
    heart.legacy.answer = Result(Outcome.OK)
    await heart.hears("Oi")
    await heart.run()
    assert len(heart.legacy.received) == 1


@pytest.mark.parametrize("outcome", [Outcome.CHANNEL, Outcome.UNKNOWN])
async def test_a_room_that_never_takes_a_send_frees_its_lane(outcome: Outcome) -> None:
    """Rocket.Chat works for others and fails for this one, always."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    (conversation,) = heart.conversations
    heart.store.tables.conversations[conversation.id] = replace(conversation, room_id="room-1")
    await heart.run()
    await heart.says("Bom dia!")
    heart.room.answer = Result(outcome, code="500")
    for _ in range(3600 if outcome is Outcome.UNKNOWN else 200):
        await heart.run(most=3)
        heart.clock.seconds += 5
        if not heart.store.tables.active:
            break
        await heart.hears("Ainda aí?", wa="5511900000001")  # its forward answers 2xx: Rocket.Chat is up
        await heart.run(most=5)
    if outcome is Outcome.UNKNOWN:
        assert [letter.reason for letter in heart.store.tables.dead_letters.values()] == ["unknown"]
        assert len(heart.room.sent) == heart.policy.max_attempts
    else:
        (job,) = [
            job
            for job in heart.store.tables.jobs.values()
            if job.kind is JobKind.SEND and job.id in heart.store.tables.active
        ]
        assert len(heart.room.sent) < 30, "an account that is ill is asked about once a minute"
        assert job.attempts <= 1


async def test_statuses_received_before_the_send_are_no_evidence() -> None:
    """They were split late; nothing says that the address reports just now."""
    heart = Heart()
    await heart.hears("Oi")
    early = heart.clock.now()
    heart.clock.seconds += 30
    heart.native.answer = UNKNOWN
    await heart.says("Bom dia!")
    await heart.run()
    heart.clock.seconds += 1
    change = status(ANA, "wamid.other", "delivered", 1, None)
    await heart.accept(meta("100", [change], 7), received_at=early)
    await heart.run(seconds=300)
    assert len(heart.native.sent) == 1


async def test_a_forward_that_lost_its_worker_stays_uncertain_behind_a_shut_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held for the probe it must not be forgotten that it may have arrived: a move would answer it natively too."""
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    claim = await heart.delivery.claim()  # and the worker is gone
    assert claim is not None
    heart.clock.seconds += heart.policy.lease_seconds + 1

    async def shut(*_: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "_pass_gate", shut)
        await heart.delivery.claim()
    assert heart.store.tables.jobs[claim.job.id].uncertain
    await heart.move(Path.NATIVE)
    assert heart.messages[0].path is Path.ROCKETCHAT


async def test_a_probe_whose_status_outruns_its_answer_opens_the_gate() -> None:
    heart = Heart()
    gate, now = native_gate("wa"), heart.clock.now()
    heart.store.tables.breakers[gate] = Breaker(gate, 5, now, now)
    heart.native.answer = Result(Outcome.OK, "wamid.out")

    async def reported(outbound: Outbound) -> None:
        change = status(ANA, "wamid.out", "delivered", 1, outbound.callback_data)
        await heart.accept(meta("100", [change], 1))

    heart.native.meanwhile = reported
    await heart.says("Bom dia!")
    await heart.run()
    assert not heart.store.tables.breakers[gate].is_open


async def test_a_forward_that_makes_its_worker_fall_over_is_given_up() -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    await heart.hears("Oi")
    for _ in range(heart.policy.max_attempts):
        assert await heart.delivery.claim() is not None  # and nobody carries it out
        heart.clock.seconds += heart.policy.lease_seconds + 1
    await heart.run()
    assert [letter.reason for letter in heart.store.tables.dead_letters.values()] == ["abandoned"]
    assert not heart.store.tables.active
