import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from flags.local import InvalidFlags, LocalSource, read, state, validate
from flags.ports import Context, Flag, Snapshot, Strategy, Verdict
from flags.stage import Stage


class Table:
    def __init__(self, *flags: Flag) -> None:
        self.now: Snapshot | Exception = snapshot(*flags)

    async def snapshot(self) -> Snapshot:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def save(self, flag: Flag, *, expected: int | None, floor: bool) -> Flag:
        raise NotImplementedError

    async def history(self, kind: str, limit: int = 100) -> Sequence[Flag]:
        raise NotImplementedError


def snapshot(*flags: Flag) -> Snapshot:
    return Snapshot(max((flag.revision for flag in flags), default=0), {flag.kind: flag for flag in flags})


def flag(stage: Stage = Stage.ROCKETCHAT, *strategies: Strategy, **more: Any) -> Flag:
    base = more.pop("base", Stage.ROCKETCHAT if stage is Stage.CANARY else stage)
    return Flag(kind="whatsapp", stage=stage, base=base, strategies=strategies, revision=7, **more)


def asking(contact: str | None = "c1", **more: str) -> Context:
    basis = {"kind": "whatsapp", "tenant": "sol", "channel": "whatsapp", **more}
    return Context(contact_id=contact, **basis)


async def loaded(*flags: Flag) -> LocalSource:
    source = LocalSource(Table(*flags))
    await source.refresh()
    return source


CONTACTS = [f"contact-{number}" for number in range(3000)]


async def test_a_growing_share_never_lets_a_contact_go() -> None:
    held: set[str] = set()
    sizes = []
    for percent in (0, 1, 5, 25, 50, 100):
        source = await loaded(flag(Stage.CANARY, percent=percent))
        inside = {one for one in CONTACTS if source.evaluate(asking(one)).stage is Stage.CANARY}
        assert held <= inside
        held = inside
        sizes.append(len(inside))
    assert sizes[0] == 0
    assert sizes[-1] == len(CONTACTS)
    for percent, size in zip((1, 5, 25, 50), sizes[1:], strict=False):
        assert abs(size / len(CONTACTS) * 100 - percent) < 3


async def test_a_growing_share_of_a_tenant_never_lets_a_contact_go_either() -> None:
    held: set[str] = set()
    for percent in (1, 25, 100):
        source = await loaded(flag(Stage.SHADOW, Strategy("tenant", ("sol",), Stage.CANARY, percent)))
        inside = {one for one in CONTACTS[:500] if source.evaluate(asking(one)).rule == "tenant"}
        assert held <= inside
        assert not any(source.evaluate(asking(one, tenant="luar")).rule == "tenant" for one in CONTACTS[:50])
        held = inside
    assert len(held) == 500


RULES = {
    "class": Strategy("class", ("staff",), Stage.NATIVE),
    "channel": Strategy("channel", ("whatsapp",), Stage.SHADOW),
    "tenant": Strategy("tenant", ("sol",), Stage.CANARY),
}


@pytest.mark.parametrize("matching", range(16))
async def test_class_then_channel_then_tenant_then_share_then_base(matching: int) -> None:
    present = [rule for bit, rule in enumerate(RULES) if matching & 1 << bit]
    share = 100 if matching & 8 else 0
    # Stored the wrong way round: the order of the answer is the rules', not the table's.
    asked = flag(Stage.CANARY, *(RULES[rule] for rule in reversed(present)), percent=share, base=Stage.SHADOW)
    verdict = (await loaded(asked)).evaluate(asking(contact_class="staff"))
    expected = [*((rule, RULES[rule].stage) for rule in present), ("share", Stage.CANARY)]
    rule, stage = expected[0] if present or share else ("base", Stage.SHADOW)
    assert verdict == Verdict(stage, rule, 7)


@pytest.mark.parametrize("other", [{"contact_class": "patient"}, {"channel": "x"}, {"tenant": "luar"}])
async def test_a_rule_is_for_those_it_names_only(other: dict[str, str]) -> None:
    source = await loaded(flag(Stage.ROCKETCHAT, *RULES.values()))
    everything = {"contact_class": "staff", "channel": "whatsapp", "tenant": "sol"}
    assert source.evaluate(asking(**everything)).rule == "class"
    nobody = {"contact_class": "patient", "channel": "x", "tenant": "luar"}
    assert source.evaluate(asking(**nobody)).rule == "base"
    assert source.evaluate(asking(**(everything | other))).rule == (
        "channel" if "contact_class" in other else "class"
    )


async def test_without_a_contact_id_shares_pass_by_and_whole_rules_hold() -> None:
    source = await loaded(flag(Stage.CANARY, percent=100))
    assert source.evaluate(asking(None)) == Verdict(Stage.ROCKETCHAT, "base", 7)
    whole = await loaded(flag(Stage.SHADOW, RULES["tenant"]))
    assert whole.evaluate(asking(None)) == Verdict(Stage.CANARY, "tenant", 7)


@pytest.mark.parametrize("stage", [Stage.ROCKETCHAT, Stage.SHADOW, Stage.NATIVE, Stage.RETIRED])
async def test_each_base_stage_comes_through(stage: Stage) -> None:
    assert (await loaded(flag(stage))).evaluate(asking()) == Verdict(stage, "base", 7)


async def test_the_override_comes_before_every_rule() -> None:
    killed = flag(Stage.NATIVE, *RULES.values(), override={"stage": "rocketchat", "by": "x"})
    assert (await loaded(killed)).evaluate(asking(contact_class="staff")) == Verdict(
        Stage.ROCKETCHAT, "override", 7
    )


async def test_nothing_loaded_and_an_unknown_flag_are_rocketchat() -> None:
    assert LocalSource(Table()).evaluate(asking()) == Verdict(Stage.ROCKETCHAT, "last_known_good", 0)
    source = await loaded(flag(Stage.NATIVE))
    assert source.revision == 7
    assert source.evaluate(asking(kind="telegram")) == Verdict(Stage.ROCKETCHAT, "base", 0)


BAD = [
    flag(Stage.NATIVE, percent=5),
    flag(Stage.CANARY),
    flag(Stage.CANARY, percent=101),
    flag(Stage.CANARY, percent=True),
    flag(Stage.CANARY, percent=10.5),
    flag(Stage.NATIVE, base=Stage.SHADOW),
    flag(Stage.CANARY, percent=5, base=Stage.CANARY),
    flag(override={"stage": "sideways"}),
    flag(override={}),
    flag(Stage.SHADOW, Strategy("weather", ("rain",), Stage.NATIVE)),
    flag(Stage.SHADOW, Strategy("tenant", (), Stage.NATIVE)),
    flag(Stage.SHADOW, Strategy("tenant", ("",), Stage.NATIVE)),
    flag(Stage.SHADOW, Strategy("class", ("patient",), Stage.NATIVE)),
    flag(Stage.SHADOW, Strategy("tenant", ("sol",), Stage.NATIVE, 50)),
    flag(Stage.SHADOW, Strategy("tenant", ("sol",), Stage.CANARY, -1)),
    flag(Stage.SHADOW, Strategy("tenant", ("sol",), "sideways")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("bad", BAD)
async def test_a_malformed_snapshot_is_refused_whole_and_the_last_good_one_goes_on(bad: Flag) -> None:
    with pytest.raises(InvalidFlags):
        validate(snapshot(bad))
    table = Table(flag(Stage.SHADOW))
    source = LocalSource(table)
    await source.refresh()
    table.now = snapshot(replace(bad, revision=8), replace(flag(Stage.NATIVE), kind="sms", revision=9))
    await source.refresh()
    assert source.revision == 7
    assert source.evaluate(asking()) == Verdict(Stage.SHADOW, "base", 7)


async def test_a_flag_stored_under_another_name_is_refused() -> None:
    with pytest.raises(InvalidFlags, match="telegram"):
        validate(Snapshot(1, {"telegram": flag()}))


async def test_a_store_that_fails_leaves_the_flags_and_shows_in_their_age() -> None:
    now = [100.0]
    table = Table(flag(Stage.NATIVE))
    source = LocalSource(table, monotonic=lambda: now[0])
    await source.refresh()
    now[0] = 130.0
    assert source.age_seconds() == 30.0
    table.now = ConnectionError("postgresql://user:password@host")
    await source.refresh()
    assert source.age_seconds(140.0) == 40.0
    assert source.evaluate(asking()).stage is Stage.NATIVE
    table.now = snapshot(flag(Stage.NATIVE))
    await source.refresh()
    assert source.age_seconds() == 0.0


async def test_an_engine_without_an_answer_falls_to_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    source = await loaded(flag(Stage.SHADOW))
    source._engine.take_state(
        '{"version":2,"features":[{"name":"channel.whatsapp","enabled":true,"strategies":[]}]}'
    )
    assert source.evaluate(asking()) == Verdict(Stage.SHADOW, "last_known_good", 7)


@pytest.mark.parametrize(
    ("found", "enabled", "name", "payload"),
    [
        (False, True, "native", {"value": '{"rule":"base"}'}),
        (True, False, "native", {"value": '{"rule":"base"}'}),
        (True, True, "sideways", {"value": '{"rule":"base"}'}),
        (True, True, "native", None),
        (True, True, "native", {"value": "[]"}),
        (True, True, "native", {"value": "no json"}),
    ],
)
def test_a_half_answer_is_no_answer(
    found: bool, enabled: bool, name: str, payload: dict[str, str] | None
) -> None:
    variant = SimpleNamespace(enabled=enabled, name=name, payload=payload)
    answer = read(SimpleNamespace(is_found=found, variant=variant), flag(Stage.SHADOW))
    assert answer == Verdict(Stage.SHADOW, "last_known_good", 7)


def test_the_state_is_unleashs_own_shape() -> None:
    made = state(snapshot(flag(Stage.CANARY, RULES["tenant"], RULES["class"], percent=5)))
    (feature,) = made["features"]
    assert feature["name"] == "channel.whatsapp"
    assert [one["name"] for one in feature["strategies"]] == [
        "default",
        "default",
        "flexibleRollout",
        "default",
    ]
    rules = [json.loads(one["variants"][0]["payload"]["value"])["rule"] for one in feature["strategies"]]
    assert rules == ["class", "tenant", "share", "base"]
    assert all(
        [one["weight"] for one in strategy["variants"]] == [1000] for strategy in feature["strategies"]
    )
    share = feature["strategies"][2]["parameters"]
    assert share == {"rollout": "5", "stickiness": "contactId", "groupId": "channel.whatsapp"}
    assert "sortOrder" not in json.dumps(made)
