"""The dispatcher of a worker process: files are slow, and have places of their own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from router.app.serve import SLOTS, TRANSFERS, _dispatch
from router.domain.channel import Channel
from router.domain.job import Result
from router.domain.media import Media, MediaState, Stored
from router.storage.doorbell import Doorbell
from tests.unit.router.delivery.test_files import IMAGE, files
from tests.unit.router.heart import OK, Heart

PATIENCE_SECONDS = 20.0


class Bell:
    """Waiting lets the others work, and moves the clock a little."""

    def __init__(self, heart: Heart) -> None:
        self._heart = heart

    async def wait(self, topic: str, seconds: float) -> bool:
        await asyncio.sleep(0.005)
        self._heart.clock.seconds += 0.5
        return False


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.005)


async def test_slow_files_hold_no_message_and_all_of_them_come(monkeypatch: pytest.MonkeyPatch) -> None:
    heart, dripped, at_once = Heart(), asyncio.Event(), [0, 0]

    async def drips(channel: Channel, media: Media) -> tuple[Result, Stored | None]:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await dripped.wait()
        at_once[0] -= 1
        return OK, Stored("ab" * 32, 3, "image/jpeg")

    monkeypatch.setattr(heart.files, "fetch", drips)
    for number in range(SLOTS):
        await heart.hears("", wa=f"55119{number:08d}", **IMAGE)
    await heart.hears("oi")
    await heart.says("urgente")
    dispatching = asyncio.create_task(_dispatch(heart.delivery, cast("Doorbell", Bell(heart))))
    try:
        await until(lambda: heart.native.sent)
        assert [one.content.text for one in heart.native.sent] == ["urgente"]
        assert {one.state for one in files(heart)} == {MediaState.WAITING}
        dripped.set()
        await until(lambda: not heart.store.tables.active)
    finally:
        dripped.set()
        dispatching.cancel()
        with suppress(asyncio.CancelledError):
            await dispatching
    assert {one.state for one in files(heart)} == {MediaState.STORED}
    assert at_once == [0, TRANSFERS]
