"""The stores that the contract suite runs on."""

import pytest

from router.storage.memory import MemoryStore
from router.storage.postgres import PostgresStore
from tests.contract.bench import Bench, HandClock
from tests.contract.rows import CHANNELS


@pytest.fixture
def memory_bench() -> Bench:
    clock = HandClock()
    return Bench(MemoryStore(clock), clock)


@pytest.fixture
async def postgres_bench(postgres_store: PostgresStore) -> Bench:
    await postgres_store.sync_channels(CHANNELS)
    return Bench(postgres_store, None)


@pytest.fixture
async def postgres_15_bench(postgres_15_store: PostgresStore) -> Bench:
    await postgres_15_store.sync_channels(CHANNELS)
    return Bench(postgres_15_store, None)


@pytest.fixture(
    params=[
        "memory",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("postgres_15", marks=[pytest.mark.postgres, pytest.mark.server]),
    ]
)
def bench(request: pytest.FixtureRequest) -> Bench:
    found = request.getfixturevalue(f"{request.param}_bench")
    assert isinstance(found, Bench)
    return found
