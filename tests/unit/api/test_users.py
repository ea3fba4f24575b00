"""PUT /v1/users over a desk without a database."""

from typing import Any
from unittest.mock import AsyncMock, create_autospec
from uuid import uuid4

import pytest

from router.control import users
from tests.unit.api.conftest import Scene

USER = "0198c0de-0000-7000-8000-000000000001"
AT = f"/v1/users/{USER}"


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    mock: AsyncMock = create_autospec(users.put)
    mock.return_value = {
        "id_user": USER,
        "contact_id": str(uuid4()),
        "rocketchat": {"state": "not_configured"},
    }
    monkeypatch.setattr(users, "put", mock)
    return mock


async def test_a_tenants_key(scene: Scene, put: AsyncMock) -> None:
    headers = scene.key("users:write", tenant="sol")
    body = {"name": "Ana", "phone": "+55 31 99688-0001", "email": "a@b.example"}
    answer = await scene.client.put(AT, headers=headers, json=body)
    assert answer.status_code == 200
    assert answer.json() == put.return_value
    assert put.await_args is not None
    assert put.await_args.args[2] == users.Told("Ana", "+55 31 99688-0001", "a@b.example")
    assert put.await_args.kwargs == {"tenant": "sol", "by": scene.by(headers), "vouched": False}


async def test_a_key_for_all_names_the_tenant(scene: Scene, put: AsyncMock) -> None:
    headers = scene.key("users:write")
    for body, status, code in (
        ({}, 422, "tenant_missing"),
        ({"tenant": "nobody"}, 422, "unknown_tenant"),
        ({"tenant": "lua"}, 200, None),
    ):
        answer = await scene.client.put(AT, headers=headers, json=body)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert put.await_args is not None
    assert (put.await_args.kwargs["tenant"], put.await_args.kwargs["vouched"]) == ("lua", True)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tenant": "lua"}, 403, "other_tenant"),
        ({"nome": "Ana"}, 422, "invalid"),
        ({"name": ""}, 422, "invalid"),
        ({"name": "a\x00"}, 422, "invalid"),
        ({"name": "a" * 256}, 422, "invalid"),
        ({"phone": 5531996880001}, 422, "invalid"),
        ({"email": "a" * 255}, 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
async def test_refused(scene: Scene, put: AsyncMock, body: Any, status: int, code: str) -> None:
    answer = await scene.client.put(AT, headers=scene.key("users:write", tenant="sol"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    put.assert_not_awaited()


async def test_who_may(scene: Scene, put: AsyncMock) -> None:
    assert (await scene.client.put(AT, json={})).status_code == 401
    headers = scene.key("users:read", "contacts:write", tenant="sol")
    assert (await scene.client.put(AT, headers=headers, json={})).status_code == 403
    headers = scene.key("users:write", tenant="sol")
    assert (await scene.client.put("/v1/users/ana", headers=headers, json={})).status_code == 404
    put.assert_not_awaited()


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("Ana.Silva@example.org", "ana.silva"),
        ("joão+x@example.org", "joaox"),
        ("_.@example.org", "paciente"),
        ("日本@example.org", "paciente"),
    ],
)
def test_user_names(email: str, name: str) -> None:
    assert users.username_of(email) == name
