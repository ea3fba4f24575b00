"""Paces and duties: what every store must do with them."""

import uuid
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from router.domain.ports import Duty, Tx
from router.storage.memory import MemoryStore
from tests.contract.bench import Bench, HandClock
from tests.contract.rows import AT

SECOND = timedelta(seconds=1)
MINE, YOURS = uuid.UUID(int=1), uuid.UUID(int=2)


# ---- paces


async def test_a_burst_leaves_at_once_and_then_one_in_an_interval(bench: Bench) -> None:
    async def work(tx: Tx) -> list[timedelta]:
        now = await tx.now()
        return [await tx.reserve("pair:a", 6 * SECOND, 3) - now for _ in range(6)]

    assert await bench.store.transact(work) == [n * SECOND for n in (0, 0, 0, 6, 12, 18)]


async def test_without_a_burst_the_first_is_free(bench: Bench) -> None:
    async def work(tx: Tx) -> list[timedelta]:
        now = await tx.now()
        return [await tx.reserve("channel:a", timedelta(milliseconds=50), 1) - now for _ in range(3)]

    assert await bench.store.transact(work) == [timedelta(milliseconds=n) for n in (0, 50, 100)]


async def test_keys_do_not_pace_each_other(bench: Bench) -> None:
    async def work(tx: Tx) -> list[timedelta]:
        now = await tx.now()
        return [await tx.reserve(key, SECOND, 1) - now for key in ("a", "b", "a", "b")]

    assert await bench.store.transact(work) == [n * SECOND for n in (0, 0, 1, 1)]


async def test_no_interval_is_no_pace(bench: Bench) -> None:
    async def work(tx: Tx) -> list[timedelta]:
        now = await tx.now()
        return [await tx.reserve("a", interval, 1) - now for interval in (timedelta(), timedelta(), SECOND)]

    assert await bench.store.transact(work) == [timedelta()] * 3


async def test_reservations_outlive_their_transaction_and_time_frees_them(bench: Bench) -> None:
    span = timedelta(seconds=0.4)
    first = await bench.reserve("a", span, 1)
    second = await bench.reserve("a", span, 1)
    assert second == first + span
    await bench.sleep(1.0)  # both have left: nothing is saved up beyond the burst

    async def work(tx: Tx) -> list[timedelta]:
        now = await tx.now()
        return [await tx.reserve("a", span, 1) - now for _ in range(2)]

    assert await bench.store.transact(work) == [timedelta(), span]


async def test_a_reservation_that_is_undone_is_given_back(bench: Bench) -> None:
    async def work(tx: Tx) -> None:
        await tx.reserve("a", 9 * SECOND, 1)
        raise KeyError("stop")

    for _ in range(2):
        try:
            await bench.store.transact(work)
        except KeyError:
            continue
    now = await bench.store.transact(lambda tx: tx.now())
    assert await bench.reserve("a", 9 * SECOND, 1) < now + SECOND


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    waits=some.lists(some.floats(0, 20), min_size=1, max_size=30),
    burst=some.integers(1, 5),
    interval=some.floats(0.01, 10),
)
async def test_no_span_holds_more_than_the_burst_and_the_rate(
    waits: list[float], burst: int, interval: float
) -> None:
    """On the memory twin, whose arithmetic the cases above hold equal to PostgreSQL's."""
    clock = HandClock()
    store, every = MemoryStore(clock), timedelta(seconds=interval)
    slots = []
    for wait in waits:
        clock.at += timedelta(seconds=wait)
        slot = await store.transact(lambda tx: tx.reserve("a", every, burst))
        assert slot >= clock.at
        slots.append(slot)
    assert slots == sorted(slots)
    for place, slot in enumerate(slots[burst:]):
        assert slot - slots[place] >= every  # of burst + 1 in a row, the last is an interval after the first


# ---- duties


async def test_a_duty_is_had_by_one_at_a_time(bench: Bench) -> None:
    assert await bench.take_duty("sweep", MINE, 60 * SECOND) == Duty("sweep")
    assert await bench.take_duty("sweep", YOURS, 60 * SECOND) is None
    assert await bench.take_duty("other", YOURS, 60 * SECOND) == Duty("other")
    await bench.end_duty("sweep", MINE, AT, timedelta())
    assert await bench.take_duty("sweep", YOURS, 60 * SECOND) == Duty("sweep", AT)
    await bench.end_duty("sweep", YOURS, None, timedelta())
    assert await bench.take_duty("sweep", MINE, 60 * SECOND) == Duty("sweep", AT)


async def test_its_owner_may_renew_the_lease(bench: Bench) -> None:
    assert await bench.take_duty("sweep", MINE, SECOND / 10) is not None
    assert await bench.take_duty("sweep", MINE, 60 * SECOND) == Duty("sweep")
    await bench.sleep(0.2)
    assert await bench.take_duty("sweep", YOURS, SECOND) is None


async def test_a_lease_that_ran_out_goes_to_another_and_the_old_owner_ends_nothing(bench: Bench) -> None:
    assert await bench.take_duty("sweep", MINE, SECOND / 10) is not None
    await bench.sleep(0.2)
    assert await bench.take_duty("sweep", YOURS, 60 * SECOND) == Duty("sweep")
    await bench.end_duty("sweep", MINE, AT, timedelta())
    assert await bench.take_duty("sweep", MINE, SECOND) is None
    await bench.end_duty("sweep", YOURS, None, timedelta())
    assert await bench.take_duty("sweep", MINE, SECOND) == Duty(
        "sweep"
    )  # no mark of the one that was too late


async def test_a_rest_holds_for_everybody(bench: Bench) -> None:
    await bench.take_duty("sweep", MINE, 60 * SECOND)
    await bench.end_duty("sweep", MINE, AT, 0.3 * SECOND)
    assert await bench.take_duty("sweep", YOURS, SECOND) is None
    assert await bench.take_duty("sweep", MINE, SECOND) is None
    await bench.sleep(0.4)
    assert await bench.take_duty("sweep", YOURS, 60 * SECOND) == Duty("sweep", AT)


async def test_ending_what_nobody_has_does_nothing(bench: Bench) -> None:
    await bench.end_duty("sweep", MINE, AT, 60 * SECOND)
    assert await bench.take_duty("sweep", MINE, SECOND) == Duty("sweep")


async def test_a_moment_is_never_before_the_one_asked_for(bench: Bench) -> None:
    first = await bench.reserve("later", timedelta(seconds=1), 1)
    later = first + timedelta(seconds=30)
    assert await bench.reserve("later", timedelta(seconds=1), 1, after=later) == later
    assert await bench.reserve("later", timedelta(seconds=1), 1) == later + timedelta(seconds=1)
