"""Health, metrics, the stream, the OpenAPI document."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from openapi_spec_validator import validate

from router.api import operations
from router.control import channels, compare
from router.domain.errors import Unavailable
from tests.unit.api.conftest import Scene


async def test_health_while_others_are_down(scene: Scene) -> None:
    assert (await scene.client.get("/health/live")).json() == {"status": "live"}
    ready = await scene.client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "degraded": []})
    scene.store.tx.shut = {"rocketchat", "native:wb"}
    ready = await scene.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["degraded"] == ["rocketchat", "native:wb"]


async def test_not_ready_without_the_database(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.store.error = Unavailable("gone")
    answer = await scene.client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "degraded": ["database"]})
    assert (await scene.client.get("/health/live")).status_code == 200

    async def hangs(*_: Any, **__: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(operations, "READY_SECONDS", 0.05)
    monkeypatch.setattr(scene.store, "transact", hangs)
    assert (await scene.client.get("/health/ready")).status_code == 503


async def test_metrics(scene: Scene) -> None:
    answer = await scene.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].count("charset") == 1
    assert "figueira_accept_seconds" in answer.text


@pytest.fixture
def overview(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the overview was read; the stream's second passes in a moment of the hand clock's time."""
    reads: list[int] = []

    override = {"stage": "rocketchat", "at": "2026-03-01", "by": "key:other", "reason": "lua complained"}

    async def read(_desk: Any, *, tenant: str | None) -> Any:
        reads.append(1)
        own = {"sol": ["wa"], "lua": ["wb"], None: ["wa", "wb"]}[tenant]
        return [{"channel": slug, "override": override} for slug in own]

    clock = scene.app.state.desk.clock

    async def pause(seconds: float) -> None:
        clock.at += seconds

    monkeypatch.setattr(channels, "overview", read)
    monkeypatch.setattr(asyncio, "sleep", pause)
    return reads


def told(text: str) -> list[list[str]]:
    """Per event, the channels it told of."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [[one["channel"] for one in json.loads(line)["channels"]] for line in lines]


async def test_the_stream_ends_and_shows_only_ones_own(scene: Scene, overview: list[int]) -> None:
    everything = await scene.client.get("/v1/stream", headers=scene.key("operations:read"))
    assert everything.headers["content-type"].startswith("text/event-stream")
    events = told(everything.text)
    assert len(events) == operations.STREAM_SECONDS + 1
    assert all(event == ["wa", "wb"] for event in events)
    assert scene.app.state.streams.open == 0
    assert "complained" in everything.text
    own = await scene.client.get("/v1/stream", headers=scene.key("operations:read", tenant="lua"))
    assert told(own.text)[0] == ["wb"]
    assert "complained" not in own.text


async def test_one_overview_serves_every_stream(scene: Scene, overview: list[int]) -> None:
    streams, desk = operations.Streams(), scene.app.state.desk
    await asyncio.gather(*(streams.overview(desk, None) for _ in range(10)))
    assert len(overview) == 1
    desk.clock.at += 1.0
    await streams.overview(desk, None)
    assert len(overview) == 2
    await streams.overview(desk, "sol")
    assert len(overview) == 3, "never one tenant's for another"


async def test_too_many_streams(scene: Scene, overview: list[int]) -> None:
    scene.app.state.streams.open = operations.STREAMS
    answer = await scene.client.get("/v1/stream", headers=scene.key("all"))
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")


async def test_the_comparison_is_of_ones_own(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def both(_desk: Any, *given: Any, tenant: str | None) -> Any:
        asked.append((*given, tenant))
        return {"paths": {}, "shadow": {}, "guard": {}}

    monkeypatch.setattr(compare, "compare", both)
    own, all_ = scene.key("operations:read", tenant="sol"), scene.key("operations:read")
    for headers, query, status in [
        (own, "?channel=wa&kind=whatsapp", 200),
        (own, "?channel=wb", 404),
        (own, "?channel=none", 404),
        (all_, "?channel=wb&since=2026-03-01", 200),
    ]:
        answer = await scene.client.get(f"/v1/paths/compare{query}", headers=headers)
        assert answer.status_code == status, query
    assert asked == [("whatsapp", "wa", None, "sol"), (None, "wb", datetime(2026, 3, 1, tzinfo=UTC), None)]


async def test_the_document_is_open_and_valid(scene: Scene) -> None:
    document = (await scene.client.get("/openapi.json")).json()
    validate(document)
    assert document["info"]["title"] == "Figueira"
    for path, acts in document["paths"].items():
        for act in acts.values():
            assert bool(act.get("security")) == path.startswith("/v1/"), path
