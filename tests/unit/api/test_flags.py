"""Flags over HTTP: revisions as ETags, and what a caller bound to a tenant may see and set."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flags.ports import Flag, Strategy
from flags.stage import Stage
from router.control import flags
from router.control.flags import FlagChange
from router.domain.errors import Rejected
from tests.unit.api.conftest import Scene

FLAG = Flag(
    "whatsapp",
    Stage.SHADOW,
    base=Stage.SHADOW,
    strategies=(
        Strategy("class", ("staff",), Stage.NATIVE),
        Strategy("channel", ("wa", "wb"), Stage.NATIVE),
        Strategy("tenant", ("lua",), Stage.CANARY, 10),
        Strategy("tenant", ("sol",), Stage.NATIVE),
    ),
    override={"stage": "rocketchat", "by": "key:other", "reason": "lua complained", "at": "2026-03-01"},
    revision=7,
    updated_by="key:other",
    updated_at=datetime(2026, 3, 1, tzinfo=UTC),
    reason="lua complained",
)
PUT = {"stage": "native", "reason": "ready"}
OVERRIDE = {"reason": "trouble"}


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What reached control, by name."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def change(name: str) -> Any:
        async def act(_desk: Any, kind: str, **named: Any) -> FlagChange:
            calls.append((name, {"kind": kind, **named}))
            if named.get("expected") not in {None, FLAG.revision}:
                raise Rejected("revision_moved", "read it again", 412)
            flag = replace(FLAG, revision=8, updated_by=named["by"], reason=named["reason"])
            return FlagChange(flag, ("a warning",), 3)

        return act

    for name in ("set_stage", "clear", "kill", "release"):
        monkeypatch.setattr(flags, name, change(name))

    async def show(*_: Any) -> Flag:
        return FLAG

    async def several(*_: Any) -> list[Flag]:
        return [FLAG]

    monkeypatch.setattr(flags, "show", show)
    monkeypatch.setattr(flags, "listing", several)
    monkeypatch.setattr(flags, "history", several)
    return calls


async def test_reading(scene: Scene, acts: list[Any]) -> None:
    headers = scene.key("flags:read")
    one = await scene.client.get("/v1/flags/whatsapp", headers=headers)
    assert one.headers["etag"] == '"7"'
    assert one.json() == {
        "kind": "whatsapp", "stage": "shadow", "percent": None, "base": "shadow", "revision": 7,
        "strategies": [
            {"rule": "class", "values": ["staff"], "stage": "native", "percent": 100},
            {"rule": "channel", "values": ["wa", "wb"], "stage": "native", "percent": 100},
            {"rule": "tenant", "values": ["lua"], "stage": "canary", "percent": 10},
            {"rule": "tenant", "values": ["sol"], "stage": "native", "percent": 100},
        ],
        "override": {"stage": "rocketchat", "by": "key:other", "reason": "lua complained", "at": "2026-03-01"},
        "updated_by": "key:other", "updated_at": "2026-03-01T00:00:00Z", "reason": "lua complained",
    }  # fmt: skip
    for path in ("/v1/flags", "/v1/flags/whatsapp/history"):
        page = (await scene.client.get(path, headers=headers)).json()
        assert page["items"] == [one.json()]
        assert page["next_cursor"] is None
    assert acts == []


async def test_a_tenant_sees_its_own_rules_and_nobodys_words(scene: Scene, acts: list[Any]) -> None:
    headers = scene.key("flags:read", tenant="sol")
    for path in ("/v1/flags/whatsapp", "/v1/flags", "/v1/flags/whatsapp/history"):
        answer = await scene.client.get(path, headers=headers)
        seen = answer.json()
        seen = seen["items"][0] if "items" in seen else seen
        assert [(rule["rule"], rule["values"]) for rule in seen["strategies"]] == [
            ("class", ["staff"]),
            ("channel", ["wa"]),
            ("tenant", ["sol"]),
        ]
        assert seen["override"] == {"stage": "rocketchat", "at": "2026-03-01"}
        for word in ("lua", "wb", "key:other", "complained"):
            assert word not in answer.text


@pytest.mark.parametrize(
    ("if_match", "expected"),
    [(None, None), ('"7"', 7), ("7", 7), (" 7 ", 7), ("*", None)],
)
async def test_put_takes_the_revision(
    scene: Scene, acts: list[Any], if_match: str | None, expected: int | None
) -> None:
    key = scene.key("flags:write")
    headers = key | ({} if if_match is None else {"If-Match": if_match})
    body = {**PUT, "channels": ["wa"], "class": "staff", "now": True, "percent": None}
    answer = await scene.client.put("/v1/flags/whatsapp", headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == '"8"'
    assert answer.json()["warnings"] == ["a warning"]
    assert answer.json()["moved"] == 3
    assert answer.json()["reason"] == "ready"
    assert acts == [
        ("set_stage", {
            "kind": "whatsapp", "stage": "native", "percent": None, "tenants": (), "channels": ("wa",),
            "contact_class": "staff", "reason": "ready", "by": scene.by(key), "expected": expected, "now": True,
            "dry_run": False,
        })
    ]  # fmt: skip


@pytest.mark.parametrize("if_match", ['"6"', "6", '"six"', 'W/"7"', '"7", "8"', '""', "9" * 90, b"\xd9\xa7"])
async def test_a_moved_revision(scene: Scene, acts: list[Any], if_match: str | bytes) -> None:
    key = scene.key("flags:write")
    sent: Any = [*key.items(), ("If-Match", if_match)]
    for method, extra in (("PUT", {"json": PUT}), ("DELETE", {})):
        answer = await scene.client.request(method, "/v1/flags/whatsapp", headers=sent, **extra)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (412, "revision_moved")


async def test_delete(scene: Scene, acts: list[Any]) -> None:
    key = scene.key("flags:write")
    query = "tenant=sol&tenant=lua&channel=wa&class=test"
    answer = await scene.client.delete(f"/v1/flags/whatsapp?{query}", headers=key | {"If-Match": "7"})
    assert answer.status_code == 200
    ((name, given),) = acts
    assert name == "clear"
    assert given["tenants"] == ("sol", "lua")
    assert given["channels"] == ("wa",)
    assert (given["contact_class"], given["expected"]) == ("test", 7)


async def test_kill_and_release(scene: Scene, acts: list[Any]) -> None:
    key = scene.key("flags:write")
    for path, body in (("kill", {**OVERRIDE, "now": True}), ("release", OVERRIDE)):
        answer = await scene.client.post(f"/v1/flags/whatsapp/{path}", headers=key, json=body)
        assert answer.status_code == 200
        assert answer.headers["etag"] == '"8"'
    common = {"kind": "whatsapp", "reason": "trouble", "by": scene.by(key)}
    assert acts == [("kill", {**common, "now": True}), ("release", common)]
    refused = await scene.client.post(
        "/v1/flags/whatsapp/release", headers=key, json={**OVERRIDE, "now": True}
    )
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "", {**PUT, "tenants": ["sol"]}, 200),
        ("PUT", "", PUT, 403),
        ("PUT", "", {**PUT, "tenants": ["lua"]}, 403),
        ("PUT", "", {**PUT, "tenants": ["sol", "lua"]}, 403),
        ("PUT", "", {**PUT, "tenants": ["sol"], "channels": ["wb"]}, 403),
        ("PUT", "", {**PUT, "tenants": ["sol"], "class": "staff"}, 403),
        ("PUT", "", {**PUT, "channels": ["wa"]}, 403),
        ("DELETE", "?tenant=sol", None, 200),
        ("DELETE", "", None, 403),
        ("DELETE", "?tenant=lua", None, 403),
        ("DELETE", "?tenant=sol&class=staff", None, 403),
        ("POST", "/kill", OVERRIDE, 403),
        ("POST", "/release", OVERRIDE, 403),
    ],
)
async def test_what_a_tenants_key_may_set(
    scene: Scene, acts: list[Any], method: str, path: str, body: Any, status: int
) -> None:
    headers = scene.key("flags:write", tenant="sol")
    answer = await scene.client.request(method, f"/v1/flags/whatsapp{path}", headers=headers, json=body)
    assert answer.status_code == status
    assert bool(acts) == (status == 200)
    if acts:
        assert acts[0][1]["tenants"] == ("sol",)
        assert answer.json()["reason"], "its own words it may see"


async def test_a_misspelt_selector_clears_nothing(scene: Scene, acts: list[Any]) -> None:
    key = scene.key("flags:write")
    answer = await scene.client.delete("/v1/flags/whatsapp?tenants=sol", headers=key)
    assert (answer.status_code, answer.json()["code"], acts) == (422, "invalid", [])
