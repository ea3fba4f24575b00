"""Keys, sessions, scopes."""

from typing import Any

import pytest

from router.control import access, conversations, csrf
from tests.unit.api.conftest import Scene


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What reached control."""
    calls: list[dict[str, Any]] = []

    async def listing(_desk: Any, **named: Any) -> Any:
        calls.append(named)
        return [], None

    async def close(_desk: Any, _id: Any, **named: Any) -> None:
        calls.append(named)

    async def one(*_: Any) -> Any:
        return {
            "id": "0198c0de-0000-7000-8000-000000000001", "channel": "wa", "kind": "whatsapp", "tenant": "sol",
            "contact_id": "0198c0de-0000-7000-8000-000000000002", "path": "native", "pin_version": 1,
            "state": "closed", "opened_at": "2026-03-01T12:00:00+00:00", "closed_at": None,
        }  # fmt: skip

    monkeypatch.setattr(conversations, "listing", listing)
    monkeypatch.setattr(conversations, "close", close)
    monkeypatch.setattr(conversations, "one", one)
    return calls


CLOSE = "/v1/conversations/0198c0de-0000-7000-8000-000000000001/close"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic dTpw"}])
async def test_no_key(scene: Scene, headers: dict[str, str], asked: list[Any]) -> None:
    answer = await scene.client.get("/v1/conversations", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert asked == []


async def test_who_is_nobody_learns_nothing_of_the_body(scene: Scene) -> None:
    answer = await scene.client.post(
        "/v1/messages", content=b"{broken", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 401


async def test_scopes(scene: Scene, asked: list[Any]) -> None:
    for scopes, status in [
        (("conversations:read",), 200),
        (("all",), 200),
        (("conversations:write", "messages:read"), 403),
        ((), 403),
        (("webhook",), 403),
    ]:
        answer = await scene.client.get("/v1/conversations", headers=scene.key(*scopes))
        assert answer.status_code == status, scopes
    assert len(asked) == 2
    missing = await scene.client.get("/v1/conversations", headers=scene.key())
    assert missing.json()["code"] == "missing_scope"


async def test_a_key_is_bound_to_its_tenant(scene: Scene, asked: list[Any]) -> None:
    bound, free = scene.key("all", tenant="sol"), scene.key("all")
    await scene.client.get("/v1/conversations", headers=bound)
    await scene.client.get("/v1/conversations?tenant=sol", headers=bound)
    assert [(call["tenant"], call["only_tenant"]) for call in asked] == [("sol", "sol"), ("sol", "sol")]
    assert (await scene.client.get("/v1/conversations?tenant=lua", headers=bound)).status_code == 403
    await scene.client.get("/v1/conversations?tenant=lua", headers=free)
    assert (asked[-1]["tenant"], asked[-1]["only_tenant"]) == (None, "lua")


def person(role: str, tenant: str = "sol") -> access.User:
    return access.User("ana@sol.example", tenant, role)


async def test_a_session_reads_and_needs_its_token_to_write(scene: Scene, asked: list[Any]) -> None:
    scene.session = person("agent")
    cookie = {"Cookie": "figueira_session=s"}
    assert (await scene.client.get("/v1/conversations", headers=cookie)).status_code == 200
    assert asked[-1]["tenant"] == "sol"
    token, other = (csrf.token(scene.app.state.desk, session) for session in ("s", "t"))
    for given in ({}, {"X-Figueira-Csrf": other}, {"X-Figueira-Csrf": ""}):
        refused = await scene.client.post(CLOSE, headers=cookie | given)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf")
    assert len(asked) == 1
    done = await scene.client.post(CLOSE, headers=cookie | {"X-Figueira-Csrf": token})
    assert done.status_code == 200
    assert asked[-1] == {"by": "agent", "tenant": "sol"}
    ended = await scene.client.get("/v1/conversations", headers={"Cookie": "figueira_session=gone"})
    assert ended.status_code == 401


@pytest.mark.parametrize(
    ("role", "status"), [("agent", 200), ("admin", 200), ("product", 200), ("auditor", 403)]
)
async def test_roles(scene: Scene, asked: list[Any], role: str, status: int) -> None:
    scene.session = person(role)
    token = csrf.token(scene.app.state.desk, "s")
    headers = {"Cookie": "figueira_session=s", "X-Figueira-Csrf": token}
    assert (await scene.client.post(CLOSE, headers=headers)).status_code == status
