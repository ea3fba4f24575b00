"""2,000 seeds of at least 300 steps, and every broken variant caught. A failing seed prints its replay command."""

import os

import pytest

from tests.simulation.broken import VARIANTS, Patch
from tests.simulation.drive import run

SEEDS = int(os.environ.get("FIGUEIRA_SIMULATION_SEEDS", "2000"))
BATCHES = 20
STEPS = 300
VARIANT_SEEDS = 150


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_promise_is_kept(batch: int) -> None:
    per_batch = SEEDS // BATCHES
    for seed in range(batch * per_batch, (batch + 1) * per_batch):
        found = run(seed, STEPS)
        assert not found, f"replay: .venv/bin/python -m tests.simulation {seed}\n" + "\n".join(found[:8])


def test_a_seed_is_one_run() -> None:
    from tests.simulation.drive import Driver
    from tests.simulation.world import World

    def trace(seed: int) -> tuple[int, float, list[str], dict[str, list[str]]]:
        world = World(seed)
        Driver(world).run(STEPS)
        return world.kernel.steps, world.kernel.seconds, world.record.rocketchat, world.record.inbox

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_broken_variants_are_caught(variant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    variant(monkeypatch)
    assert any(_caught(seed) for seed in range(VARIANT_SEEDS)), (
        f"{variant.__name__} survived: an invariant is blind"
    )


def _caught(seed: int) -> bool:
    try:
        return bool(run(seed, STEPS))
    except Exception:  # noqa: BLE001 - a variant may break the run itself: caught is caught
        return True
