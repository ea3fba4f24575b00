import pytest

from deploy.sandbox.faults import Facts, Faults, Rule, acts, answered

ANY = Facts(("5511900000001",), "quero marcar", "100")


def test_times_bounds_a_rule_and_null_is_for_ever() -> None:
    faults = Faults()
    faults.rules = [
        Rule.parse({"target": "graph.send", "fault": "status", "times": 1}),
        Rule.parse({"target": "graph.send", "fault": "slow", "times": None}),
    ]
    struck = [faults.take("graph.send", ANY) for _ in range(3)]
    assert [rule and rule.fault for rule in struck] == ["status", "slow", "slow"]


@pytest.mark.parametrize(
    ("match", "strikes"),
    [
        ({}, True),
        ({"to": "5511900000001"}, True),
        ({"to": "5511900000002"}, False),
        ({"text_contains": "marcar"}, True),
        ({"text_contains": "preço"}, False),
        ({"phone_number_id": "100", "to": "5511900000001"}, True),
        ({"phone_number_id": "200"}, False),
        ({"by": "rocketchat"}, False),
    ],
)
def test_match(match: dict[str, str], strikes: bool) -> None:
    rule = Rule.parse({"target": "graph.send", "fault": "status", "match": match})
    assert rule.strikes("graph.send", ANY) is strikes


def test_rocketchats_own_sends_are_struck_only_by_name() -> None:
    own = Facts(by="rocketchat")
    assert not Rule("graph.send", "status").strikes("graph.send", own)
    assert Rule("graph.send", "status", {"by": "rocketchat"}).strikes("graph.send", own)


def test_a_target_covers_what_stands_below_it() -> None:
    rule = Rule("rocketchat.rest", "status")
    assert rule.strikes("rocketchat.rest.chat.sendMessage", ANY)
    assert rule.strikes("rocketchat.rest", ANY)
    assert not rule.strikes("rocketchat.app", ANY)
    assert not Rule("rocketchat.rest.chat", "status").strikes("rocketchat.rest.chats", ANY)


@pytest.mark.parametrize(
    ("fault", "does", "status"),
    [
        ("status", False, 503),
        ("timeout_before", False, None),
        ("timeout_after", True, None),
        ("reset_before", False, None),
        ("reset_after", True, None),
        ("half_answer", True, None),
        ("slow", True, 200),
        ("late", True, 200),
        ("failed_status", True, 200),
        ("status_after", True, 503),
        ("garbage", True, 200),
        ("wrong_bytes", True, 200),
        ("endless", True, None),
    ],
)
def test_what_a_fault_does_is_known_before_it_is_done(fault: str, does: bool, status: int | None) -> None:
    rule = Rule("graph.send", fault)
    assert (acts(rule), answered(rule)) == (does, status)


@pytest.mark.parametrize(
    "raw",
    [
        {"target": "graph.send"},
        {"fault": "status"},
        {"target": "graph.send", "fault": "explode"},
        {"target": "graph.send", "fault": "status", "tmies": 1},
        {"target": "graph.send", "fault": "status", "match": {"form": "1"}},
        {"target": "graph.send", "fault": "drop"},
        {"target": "rocketchat", "fault": "drop"},
        {"target": "rocketchat.webhook", "fault": "status"},
    ],
)
def test_a_misspelt_rule_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Rule.parse(raw)


def test_a_share_is_drawn_the_same_way_for_the_same_seed() -> None:
    def struck(seed: int) -> list[bool]:
        rule = Rule.parse({"target": "rocketchat.webhook", "fault": "drop", "share": 0.2, "seed": seed})
        return [rule.strikes("rocketchat.webhook", ANY) for _ in range(500)]

    assert struck(1) == struck(1) != struck(2)
    assert 60 < sum(struck(1)) < 140


def test_events_are_struck_by_their_own_rules_only() -> None:
    faults = Faults()
    faults.rules = [Rule("rocketchat", "down"), Rule("rocketchat.webhook", "drop", times=1)]
    found = [faults.take("rocketchat.webhook", ANY) for _ in range(2)]
    assert [rule and rule.fault for rule in found] == ["drop", None]
    assert faults.rules[0].hits == 0
