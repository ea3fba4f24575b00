"""What a follower has to say is said while it follows, not when it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from migration.watermark import Following
from router.app.imports import checking
from router.control.progress import Watch
from router.storage.archive.model import Run, RunState


async def test_warnings_and_a_lost_place_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    other = Mock(spec=Run, source="mongodb://other/rocketchat", state=RunState.DONE)
    archive = SimpleNamespace(latest=AsyncMock(return_value=None), runs=AsyncMock(return_value=[other]))
    shop = Mock(source=Mock(live=True), archive=archive, of_run=Mock(return_value=(None, None)))
    shop.source.name = "mongodb://here/rocketchat"
    verified = AsyncMock()

    @asynccontextmanager
    async def workshop(*_: Any) -> AsyncIterator[Any]:
        yield shop

    class Follow:
        def __init__(self, *_: Any, **given: Any) -> None:
            self.report, self.repair = given["report"], given["repair"]

        async def run(self, **_: Any) -> Following:
            assert said == ["figueira: few minutes of history"]
            self.report("the place is lost")
            assert said[1:] == ["figueira: the place is lost"]
            await self.repair()
            assert "mongodb://other/rocketchat" in said[2]  # its rows go, and it is told before they do
            verified.assert_awaited_once()
            return Following()

    monkeypatch.setattr(checking, "workshop", workshop)
    monkeypatch.setattr(checking, "Follow", Follow)
    monkeypatch.setattr(checking, "_verified", verified)
    monkeypatch.setattr(checking, "warnings", AsyncMock(return_value=["few minutes of history"]))
    settings: Any = None
    found = await checking.follow(settings, "mongodb://here", Watch("follow", say=said.append))
    assert (found.notes, len(said)) == ([], 3)
