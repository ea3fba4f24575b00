"""Which path a new conversation gets, and what a move takes along."""

from dataclasses import replace

import pytest

from flags.stage import Path, Stage
from router.domain.job import ROCKETCHAT_GATE, Breaker
from tests.simulation.payloads import SECRET
from tests.unit.router.heart import Heart


@pytest.mark.parametrize(("secret", "path"), [(SECRET, Path.NATIVE), ("", Path.ROCKETCHAT)])
async def test_rocketchat_down_opens_natively_only_where_a_batch_can_be_divided(
    secret: str, path: Path
) -> None:
    heart = Heart()
    heart.flags.stage = Stage.ROCKETCHAT
    heart.channels["wa"] = replace(
        heart.channels["wa"],
        on_rocketchat_down="native",
        native={"phone_number_id": "100", "app_secret": secret},
    )
    now = heart.clock.now()
    heart.store.tables.breakers[ROCKETCHAT_GATE] = Breaker(ROCKETCHAT_GATE, 5, now, now.replace(year=2027))
    await heart.hears("Oi")
    assert [one.path for one in heart.conversations] == [path]
