from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flags.change import FlagError, clear, concerned, kill, release, set_stage, shape, warnings
from flags.local import validate
from flags.ports import Flag, Snapshot, Strategy
from flags.stage import TRUTH, Path, Stage

AT = datetime(2026, 3, 1, tzinfo=UTC)
SIGNED: dict[str, Any] = {"reason": "trial", "by": "ana", "at": AT}
SETTABLE = [stage for stage in Stage if stage is not Stage.RETIRED]


@dataclass(frozen=True)
class Door:
    slug: str
    kind: str
    tenant: str
    can_divide: bool


def at_stage(stage: Stage) -> Flag:
    if stage is Stage.CANARY:
        return Flag("whatsapp", stage, percent=5, base=Stage.SHADOW, revision=3)
    return Flag("whatsapp", stage, base=stage, revision=3)


def put(flag: Flag, stage: str, **more: Any) -> Flag:
    asked = {"dividable": {"whatsapp": True}, **SIGNED, **more}
    if stage == "canary" and not {"percent", "tenants", "channels", "contact_class"} & set(more):
        asked["percent"] = 10
    changed = set_stage(flag, stage=stage, **asked)
    validate(Snapshot(1, {changed.kind: changed}))  # whatever is set must be loadable
    return changed


def code(error: pytest.ExceptionInfo[FlagError]) -> str:
    assert len(str(error.value)) > len(error.value.code)
    return error.value.code


# every stage and operation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", list(Stage))
@pytest.mark.parametrize("after", list(Stage))
@pytest.mark.parametrize("divides", [True, False])
def test_setting_each_stage_from_each(before: Stage, after: Stage, divides: bool) -> None:
    def change() -> Flag:
        return put(at_stage(before), after, dividable={"whatsapp": divides})

    if after is Stage.RETIRED:
        with pytest.raises(FlagError, match="gate") as refused:
            change()
        assert code(refused) == "gated"
        return
    if not divides and TRUTH[after].new is Path.NATIVE:
        with pytest.raises(
            FlagError, match=r"'whatsapp'.*app_secret in \[channels.whatsapp.native\]"
        ) as refused:
            change()
        assert code(refused) == "cannot_divide"
        return
    changed = change()
    assert changed.stage is after
    assert changed.percent == (10 if after is Stage.CANARY else None)
    if after is Stage.CANARY:
        assert changed.base is (Stage.SHADOW if before in {Stage.SHADOW, Stage.CANARY} else Stage.ROCKETCHAT)
    else:
        assert changed.base is after
    assert (changed.updated_by, changed.updated_at, changed.reason, changed.revision) == (
        "ana",
        AT,
        "trial",
        3,
    )
    skips = any("skips" in line for line in warnings(at_stage(before), changed))
    assert skips is (list(Stage).index(after) - list(Stage).index(before) > 1)
    assert any("nothing is compared" in line for line in warnings(at_stage(before), changed)) is (
        after is Stage.SHADOW and before is not Stage.SHADOW
    )


@pytest.mark.parametrize("stage", list(Stage))
def test_kill_and_release_in_each_stage(stage: Stage) -> None:
    flag = replace(at_stage(stage), strategies=(Strategy("tenant", ("sol",), Stage.NATIVE),))
    with pytest.raises(FlagError) as refused:
        release(flag, by="ana", at=AT)
    assert code(refused) == "no_override"
    if stage is Stage.RETIRED:
        with pytest.raises(FlagError) as refused:
            kill(flag, by="ana", at=AT, reason="down")
        assert code(refused) == "retired"
        return
    killed = kill(flag, by="ana", at=AT, reason="down")
    assert killed.override == {"stage": "rocketchat", "by": "ana", "reason": "down", "at": AT.isoformat()}
    assert (killed.stage, killed.percent, killed.strategies) == (flag.stage, flag.percent, flag.strategies)
    assert kill(killed, by="bia", at=AT).override == {
        **(killed.override or {}),
        "by": "bia",
        "reason": "killed",
    }
    released = release(killed, by="ana", at=AT)
    assert (released.override, released.stage, released.strategies) == (None, flag.stage, flag.strategies)


@pytest.mark.parametrize("stage", list(Stage))
def test_clear_in_each_stage_leaves_the_stage(stage: Stage) -> None:
    ruled = replace(at_stage(stage), strategies=(Strategy("tenant", ("luar", "sol"), Stage.SHADOW),))
    assert clear(ruled, tenants=["sol"], **SIGNED).strategies == (
        Strategy("tenant", ("luar",), Stage.SHADOW),
    )
    assert clear(ruled, **SIGNED).strategies == ()
    assert clear(ruled, **SIGNED).stage is stage
    for missing in ({"tenants": ["mar"]}, {"channels": ["sol"]}, {"contact_class": "staff"}):
        with pytest.raises(FlagError) as refused:
            clear(ruled, **missing, **SIGNED)
        assert code(refused) == "no_such_rule"


# percent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [-1, 101, 10.5, "10", True])
def test_percent_is_an_integer_from_0_to_100(percent: Any) -> None:
    with pytest.raises(FlagError) as refused:
        put(at_stage(Stage.SHADOW), "canary", percent=percent)
    assert code(refused) == "percent_invalid"


@pytest.mark.parametrize("percent", [0, 1, 100])
def test_the_ends_of_percent(percent: int) -> None:
    assert put(at_stage(Stage.SHADOW), "canary", percent=percent).percent == percent


@pytest.mark.parametrize("stage", [Stage.ROCKETCHAT, Stage.SHADOW, Stage.NATIVE])
def test_percent_belongs_to_canary(stage: Stage) -> None:
    with pytest.raises(FlagError) as refused:
        put(at_stage(Stage.SHADOW), stage, percent=10)
    assert code(refused) == "percent_without_canary"


def test_canary_of_a_whole_kind_needs_a_percent_and_a_selected_one_is_whole() -> None:
    with pytest.raises(FlagError) as refused:
        set_stage(at_stage(Stage.SHADOW), stage="canary", dividable={}, **SIGNED)
    assert code(refused) == "percent_missing"
    changed = put(at_stage(Stage.SHADOW), "canary", tenants=["sol"])
    assert changed.strategies == (Strategy("tenant", ("sol",), Stage.CANARY, 100),)
    assert (changed.stage, changed.percent) == (Stage.SHADOW, None)


# selectors -------------------------------------------------------------------------------------------------


def test_each_selector_is_a_rule_in_the_order_in_which_they_win() -> None:
    before = at_stage(Stage.SHADOW)
    after = put(
        before,
        "canary",
        tenants=["sol", "luar", "sol"],
        channels=["whatsapp"],
        contact_class="test",
        percent=5,
    )
    assert after.strategies == (
        Strategy("class", ("test",), Stage.CANARY, 5),
        Strategy("channel", ("whatsapp",), Stage.CANARY, 5),
        Strategy("tenant", ("luar", "sol"), Stage.CANARY, 5),
    )
    assert any("rule of its own" in line for line in warnings(before, after))


def test_a_name_has_one_rule_and_like_rules_are_joined() -> None:
    flag = put(at_stage(Stage.SHADOW), "canary", tenants=["sol", "luar"])
    flag = put(flag, "native", tenants=["sol"])
    assert flag.strategies == (
        Strategy("tenant", ("luar",), Stage.CANARY),
        Strategy("tenant", ("sol",), Stage.NATIVE),
    )
    assert put(flag, "native", tenants=["luar"]).strategies == (
        Strategy("tenant", ("luar", "sol"), Stage.NATIVE),
    )


def test_a_rule_is_warned_about_when_it_skips() -> None:
    before = at_stage(Stage.ROCKETCHAT)
    after = put(before, "native", tenants=["sol"])
    assert warnings(before, after) == ("tenant sol: rocketchat → native skips shadow, canary",)
    assert warnings(after, put(after, "native", tenants=["luar"])) == (
        "tenant luar: rocketchat → native skips shadow, canary",
    )


def test_an_override_in_the_way_is_told() -> None:
    killed = kill(at_stage(Stage.CANARY), by="ana", at=AT)
    assert any("release" in line for line in warnings(killed, put(killed, "native")))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"stage": "sideways"}, "unknown_stage"),
        ({"contact_class": "patient"}, "unknown_class"),
        ({"tenants": [""]}, "empty_selector"),
        ({"channels": ["nowhere"]}, "unknown_channel"),
        ({"reason": "  "}, "reason_missing"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(FlagError) as refused:
        put(at_stage(Stage.SHADOW), **{"stage": "native", **asked})
    assert code(refused) == expected


def test_with_channels_alone_only_those_must_divide() -> None:
    divides = {"whatsapp": True, "old": False}
    assert put(at_stage(Stage.SHADOW), "native", channels=["whatsapp"], dividable=divides).strategies
    for selected in ({"channels": ["old"]}, {}, {"tenants": ["sol"]}, {"contact_class": "staff"}):
        with pytest.raises(FlagError, match="'old'"):
            put(at_stage(Stage.SHADOW), "native", dividable=divides, **selected)


def test_which_channels_are_concerned() -> None:
    doors = [
        Door("a", "whatsapp", "sol", True),
        Door("b", "whatsapp", "luar", False),
        Door("c", "telegram", "sol", True),
    ]
    assert concerned("whatsapp", doors) == {"a": True, "b": False}
    assert concerned("whatsapp", doors, tenants=["sol"]) == {"a": True}
    assert concerned("whatsapp", doors, tenants=["sol"], channels=["b"]) == {"a": True, "b": False}
    assert concerned("whatsapp", doors, tenants=["sol"], contact_class="staff") == {"a": True, "b": False}
    for asked, expected in (
        (("sms", {}), "unknown_kind"),
        (("whatsapp", {"channels": ["c"]}), "unknown_channel"),
        (("telegram", {"tenants": ["luar"]}), "unknown_tenant"),
    ):
        with pytest.raises(FlagError) as refused:
            concerned(asked[0], doors, **asked[1])  # type: ignore[arg-type]
        assert code(refused) == expected


def test_the_shape_people_see() -> None:
    flag = kill(
        put(at_stage(Stage.SHADOW), "canary", tenants=["sol"], percent=5), by="ana", at=AT, reason="down"
    )
    assert shape(flag) == {
        "kind": "whatsapp",
        "stage": "shadow",
        "percent": None,
        "base": "shadow",
        "strategies": [{"rule": "tenant", "values": ["sol"], "stage": "canary", "percent": 5}],
        "revision": 3,
        "override": {"stage": "rocketchat", "by": "ana", "reason": "down", "at": AT.isoformat()},
        "updated_by": "ana",
        "updated_at": AT.isoformat(),
        "reason": "down",
    }
    assert shape(Flag("sms"))["updated_at"] is None
