"""What every flag store must do."""

from dataclasses import replace

import pytest

from flags.ports import Flag, FlagStore, RevisionMoved, Snapshot, Strategy
from flags.stage import Stage
from router.storage.flags import PostgresFlagStore
from router.storage.memory_flags import MemoryFlagStore
from router.storage.postgres import PostgresStore
from tests.contract.bench import HandClock


@pytest.fixture
def memory_flags() -> FlagStore:
    return MemoryFlagStore(HandClock())


@pytest.fixture
def postgres_flags(postgres_store: PostgresStore) -> FlagStore:
    return PostgresFlagStore(postgres_store)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def flags(request: pytest.FixtureRequest) -> FlagStore:
    found: FlagStore = request.getfixturevalue(f"{request.param}_flags")
    return found


async def test_nothing_is_set_at_first(flags: FlagStore) -> None:
    assert await flags.snapshot() == Snapshot(0, {})


async def test_a_flag_comes_back_whole(flags: FlagStore) -> None:
    wanted = Flag(
        "whatsapp",
        Stage.CANARY,
        10,
        Stage.SHADOW,
        (Strategy("tenant", ("sol", "lua"), Stage.NATIVE, 50),),
        {"stage": "rocketchat", "by": "ana"},
        updated_by="ana",
        reason="test",
    )
    saved = await flags.save(wanted, expected=0, floor=False)
    assert saved == replace(wanted, revision=1, updated_at=saved.updated_at)
    assert saved.updated_at is not None
    assert await flags.snapshot() == Snapshot(1, {"whatsapp": saved})


async def test_one_counter_for_all_kinds(flags: FlagStore) -> None:
    await flags.save(Flag("whatsapp"), expected=None, floor=False)
    sms = await flags.save(Flag("sms"), expected=0, floor=True)
    third = await flags.save(Flag("whatsapp", Stage.NATIVE), expected=1, floor=False)
    assert (sms.revision, third.revision) == (2, 3)
    assert (await flags.snapshot()).revision == 3
    assert [flag.revision for flag in await flags.history("whatsapp")] == [3, 1]
    assert [flag.revision for flag in await flags.history("whatsapp", limit=1)] == [3]


async def test_a_moved_revision_is_refused(flags: FlagStore) -> None:
    await flags.save(Flag("whatsapp"), expected=None, floor=False)
    with pytest.raises(RevisionMoved):
        await flags.save(Flag("whatsapp", Stage.NATIVE), expected=0, floor=True)
    assert (await flags.snapshot()).flags["whatsapp"].stage is Stage.ROCKETCHAT
    assert len(await flags.history("whatsapp")) == 1
