"""Every failure is a problem, and none repeats what was sent."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from router.api import limits
from router.api.limits import UPLOADS_AT_ONCE, Limits
from router.control import conversations
from router.domain.errors import Conflict, Rejected, StaleFlags, Unavailable
from tests.unit.api.conftest import Scene

SECRET = "5511987654321"


@dataclass
class Door:
    """An application that answers once it is `opened`."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    error: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside += 1
        try:
            if self.error is not None:
                raise self.error
            await self.opened.wait()
        finally:
            self.inside -= 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def guarded(door: Door) -> Any:
    """As the application stands behind its limits."""
    within, desk = Limits(door), SimpleNamespace(media_limit_bytes=1024)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await within({**scope, "app": SimpleNamespace(state=SimpleNamespace(desk=desk))}, receive, send)

    return application


def raises(error: Exception) -> Any:
    async def act(*_: Any, **__: Any) -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Rejected("gated", "not yet", 422), 422, "gated"),
        (Rejected("conversation_closed", "it is closed", 409), 409, "conversation_closed"),
        (Unavailable(SECRET), 503, "unavailable"),
        (Conflict(SECRET), 503, "busy"),
        (StaleFlags(SECRET), 503, "busy"),
        (RuntimeError(SECRET), 500, "internal"),
    ],
)
async def test_what_control_raises(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    monkeypatch.setattr(conversations, "listing", raises(error))
    answer = await scene.client.get("/v1/conversations", headers=scene.key("all"))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:figueira:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert SECRET not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"stage": "5511987654321", "reason": "r"}', "stage"),
        ('{"stage": "canary", "percent": 5511987654321, "reason": "r"}', "percent"),
        ('{"stage": "canary", "percent": true, "reason": "r"}', "percent"),
        ('{"stage": "native"}', "reason"),
        ('{"stage": "native", "reason": "  "}', "reason"),
        ('{"stage": "native", "reason": "r", "5511987654321": 1}', "body"),
        ('{"stage": "native", "reason": "r", "tenants": ["5511987654321 @"]}', "tenants"),
        ('{"stage": "native", "reason": "r", "class": "5511987654321"}', "class"),
        ("5511987654321", "body"),
        ("{5511987654321", "body"),
        ("", "body"),
    ],
)
async def test_validation_names_the_field_and_no_value(scene: Scene, body: str, field: str) -> None:
    headers = scene.key("flags:write") | {"Content-Type": "application/json"}
    answer = await scene.client.put("/v1/flags/whatsapp", headers=headers, content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert answer.json()["code"] == "invalid"
    assert SECRET not in answer.text


async def test_an_unknown_field_is_counted_and_not_named(scene: Scene) -> None:
    headers = scene.key("flags:write")
    body = {"stage": "native", "reason": "r", SECRET: {SECRET: 1}, "outro": 1}
    answer = await scene.client.put("/v1/flags/whatsapp", headers=headers, json=body)
    assert answer.json()["detail"] == "There is no such field (2 unknown)"
    assert (answer.json()["field"], SECRET in answer.text) == ("body", False)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000])
async def test_a_body_that_cannot_be_read(scene: Scene, content: bytes) -> None:
    headers = scene.key("flags:write") | {"Content-Type": "application/json"}
    answer = await scene.client.put("/v1/flags/whatsapp", headers=headers, content=content)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"malformed", "invalid"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/redoc", 404, "not_found"),
        ("PATCH", "/v1/conversations", 405, "method_not_allowed"),
        ("GET", "/v1/conversations/5511987654321", 404, "not_found"),
        ("GET", "/v1/flags/5511987654321", 404, "unknown_kind"),
        ("GET", "/v1/conversations?limit=201", 422, "invalid"),
        ("GET", "/v1/conversations?limit=0", 422, "invalid"),
        ("GET", "/v1/conversations?path=5511987654321", 422, "invalid"),
        ("GET", "/v1/conversations?q=%00", 422, "invalid"),
        ("GET", "/v1/conversations?since=yesterday", 422, "invalid"),
        ("GET", "/v1/conversations?cursor=5511987654321", 422, "invalid_cursor"),
        ("GET", "/v1/contacts?cursor=%F0%9F%8C%B3", 422, "invalid"),
    ],
)
async def test_addresses_and_queries(scene: Scene, method: str, path: str, status: int, code: str) -> None:
    answer = await scene.client.request(method, path, headers=scene.key("all"))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text


async def test_too_large_by_its_length_or_by_its_bytes(scene: Scene) -> None:
    headers = scene.key("messages:write") | {"Content-Type": "application/json"}
    large = b'{"text": "' + b"x" * (256 * 1024) + b'"}'

    async def chunks() -> Any:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for content in (large, chunks()):
        answer = await scene.client.post("/v1/messages", headers=headers, content=content)
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"
    announced = await scene.client.post(
        "/v1/messages", headers=headers | {"Content-Length": "9" * 5000}, content=b""
    )
    assert announced.status_code == 413


async def test_only_the_upload_takes_more(scene: Scene) -> None:
    scene.app.state.desk.media_limit_bytes = 1024 * 1024
    headers, large = scene.key("flags:read"), b"x" * 300_000  # a scope that lets nothing of it in
    for path, status in (
        ("/v1/media", 403),
        ("/v1/media/", 413),
        ("/v1/messages", 413),
        ("/v1/media/x", 413),
    ):
        answer = await scene.client.post(path, headers=headers, content=large)
        assert answer.status_code == status, path
    larger = await scene.client.post("/v1/media", headers=headers, content=b"x" * 1_200_000)
    assert (larger.status_code, larger.json()["code"]) == (413, "too_large")


@pytest.fixture
def door() -> Door:
    return Door()


async def test_so_many_uploads_at_once(door: Door) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded(door)), base_url="http://f") as client:
        for round_ in (1, 2):
            coming = [asyncio.create_task(client.post("/v1/media")) for _ in range(UPLOADS_AT_ONCE)]
            async with asyncio.timeout(5):
                while door.inside < UPLOADS_AT_ONCE:
                    await asyncio.sleep(0)
            for at in ("/v1/media", "/console/conversas/x/arquivo"):
                refused = await client.post(at)
                assert (refused.status_code, refused.json()["code"]) == (503, "busy")
                assert refused.headers["retry-after"]
            others = [
                asyncio.create_task(client.request(*one))
                for one in (("POST", "/v1/messages"), ("GET", "/v1/media"))
            ]
            door.opened.set()
            assert {one.status_code for one in await asyncio.gather(*coming, *others)} == {204}, round_
            door.opened.clear()


async def test_an_upload_that_drips(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_SECONDS", 0.05)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded(door)), base_url="http://f") as client:
        slow = await client.post("/v1/media")
        assert (slow.status_code, slow.json()["code"]) == (408, "too_slow")
        assert door.inside == 0
        door.opened.set()
        assert (await client.post("/v1/media")).status_code == 204


async def test_another_timeout_is_no_drip(door: Door) -> None:
    door.error = TimeoutError()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded(door)), base_url="http://f") as client:
        with pytest.raises(TimeoutError):
            await client.post("/v1/media")


async def test_no_answer_is_cached_or_sniffed(scene: Scene) -> None:
    answer = await scene.client.get("/health/live")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
