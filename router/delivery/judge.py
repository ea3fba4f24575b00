"""The rules of sending, as pure functions: when to try again, when to give up, when a breaker trips."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from router.domain.job import Breaker, Outcome, Result
from router.domain.policy import Policy

RESENDS = 1
"""How often an unknown send is re-sent on evidence: once; after that a person decides."""


class Verdict(StrEnum):
    """What to do with a send nobody knows the end of."""

    SEND = "send"
    WAIT = "wait"
    DEAD = "dead"


def judge_unknown(
    *, tries: int, since: timedelta, evidence: bool, idempotent: bool, policy: Policy
) -> Verdict:
    """Re-send, wait or give up. `tries` attempts were made; `since` the last began; `evidence` = other statuses arrived
    on the address since then, and none of its events is still waiting to be read."""
    if idempotent:
        return Verdict.SEND
    if tries > RESENDS:
        return Verdict.DEAD if since >= timedelta(seconds=policy.unknown_after_seconds) else Verdict.WAIT
    if evidence and since >= timedelta(seconds=policy.unknown_after_seconds):
        return Verdict.SEND
    return Verdict.DEAD if since >= timedelta(seconds=policy.unknown_dead_seconds) else Verdict.WAIT


def backoff(attempts: int, fraction: float, policy: Policy) -> float:
    """Seconds until the next try: doubling from the base to the cap, with full jitter over its upper half."""
    span = min(policy.retry_base_seconds * 2 ** min(attempts - 1, 20), policy.retry_cap_seconds)
    return float(span * (0.5 + fraction / 2))


def tripped(breaker: Breaker, result: Result, now: datetime, policy: Policy) -> Breaker:
    """The breaker after a result that speaks about the other side's health."""
    if result.outcome in (Outcome.OK, Outcome.PERMANENT):
        return Breaker(breaker.gate)
    failures = breaker.failures + 1
    if result.outcome is Outcome.CHANNEL:
        until = now + timedelta(seconds=policy.channel_ill_seconds)
        return Breaker(breaker.gate, failures, breaker.opened_at or now, until, result.code or "channel")
    if failures < policy.breaker_failures and not breaker.is_open:
        return replace(breaker, failures=failures)
    over = min(max(failures - policy.breaker_failures, 0), 20)
    span = min(policy.breaker_base_seconds * 2**over, policy.breaker_cap_seconds)
    return Breaker(
        breaker.gate, failures, breaker.opened_at or now, now + timedelta(seconds=span), result.code
    )
