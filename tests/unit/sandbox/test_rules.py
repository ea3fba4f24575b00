import time

import pytest

from deploy.sandbox.configuration import Configuration
from deploy.sandbox.rules import Rules
from deploy.sandbox.shapes import Refused

TEXT = {"type": "text", "text": {"body": "oi"}}


def rules(**settings: object) -> Rules:
    config = Configuration()
    config.update(settings)
    return Rules(config)


def test_nothing_is_refused_while_nothing_is_set() -> None:
    free = rules()
    assert [free.check("1", "55", TEXT) for _ in range(200)] == [None] * 200


def test_the_window_is_that_of_one_number_and_one_person() -> None:
    limited = rules(window_hours=24)
    limited.heard("1", ["55"], time.time() - 23 * 3600)
    told = [limited.check(number, to, TEXT) for number, to in (("1", "55"), ("1", "56"), ("2", "55"))]
    assert [refused and refused.code for refused in told] == [None, 131047, 131047]


def test_an_older_message_that_comes_late_does_not_close_it() -> None:
    limited = rules(window_hours=24)
    limited.heard("1", ["55"], time.time())
    limited.heard("1", ["55"], time.time() - 50 * 3600)
    assert limited.check("1", "55", TEXT) is None


def test_a_burst_and_then_one_each_pair_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1000.0
    monkeypatch.setattr("deploy.sandbox.rules.time.monotonic", lambda: at)
    limited = rules(pair_seconds=6, pair_burst=3)
    for _ in range(3):
        limited.check("1", "55", TEXT)
    with pytest.raises(Refused) as refused:
        limited.check("1", "55", TEXT)
    assert (refused.value.code, refused.value.rule) == (131056, "pair")
    limited.check("1", "56", TEXT)
    at += 6
    limited.check("1", "55", TEXT)
    with pytest.raises(Refused):
        limited.check("1", "55", TEXT)


def test_throughput_counts_what_is_heard_too() -> None:
    limited = rules(messages_per_second=2)
    limited.heard("1", ["55"], time.time())
    limited.check("1", "55", TEXT)
    with pytest.raises(Refused) as refused:
        limited.check("1", "56", TEXT)
    assert refused.value.code == 130429
    limited.check("2", "55", TEXT)


def test_headers_of_templates_count_too() -> None:
    limited = rules(templates={"a": {"body": 0, "header": 1}})
    template = {"name": "a", "language": {"code": "pt_BR"}}
    with pytest.raises(Refused) as refused:
        limited.check("1", "55", {"type": "template", "template": template})
    assert refused.value.code == 132000
    header = {"type": "header", "parameters": [{"type": "text", "text": "x"}]}
    limited.check("1", "55", {"type": "template", "template": {**template, "components": [header]}})
