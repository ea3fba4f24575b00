"""The rules of sending, as pure functions: what may leave, in which pieces, when to try again, when to give up, when a
breaker trips."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from flags.stage import Path
from router.domain.channel import Channel
from router.domain.conversation import Reach
from router.domain.job import Breaker, Outcome, Result
from router.domain.media import KINDS
from router.domain.message import Content
from router.domain.policy import Policy
from router.domain.ports.edges import Rules

TO_ROCKETCHAT = KINDS | {"text", "reaction"}
"""The content kinds Rocket.Chat's REST takes."""


def refusal(content: Content, reach: Reach, rules: Rules, path: Path, now: datetime) -> str | None:
    """Why this must not be sent now: "opted_out", "window_closed", or None. On path rocketchat a window that was never
    seen to open is unknown, and its own provider judges; natively nobody has written, so it is closed."""
    if reach.opted_out_at is not None:
        return "opted_out"
    if rules.window_hours is None or content.kind in rules.outside_window:
        return None
    if reach.heard_at is None:
        return "window_closed" if path is Path.NATIVE else None
    return None if now < reach.heard_at + timedelta(hours=rules.window_hours) else "window_closed"


def supported(content: Content, rules: Rules, path: Path) -> bool:
    """Whether a path can carry this kind of content at all."""
    return content.kind in (rules.sends if path is Path.NATIVE else TO_ROCKETCHAT)


def named_by_us(content: Content, path: Path) -> bool:
    """Whether Rocket.Chat takes our `_id` for it: for a file or a reaction it makes its own, or needs none."""
    return path is Path.ROCKETCHAT and content.kind == "text"


def upload_target(path: Path, channel: Channel, room_id: str | None, message_id: UUID) -> str:
    """Where an uploaded file serves: with the provider's account for every message, in Rocket.Chat for one message of one
    room."""
    if path is Path.ROCKETCHAT:
        return f"{room_id}/{message_id}"
    return f"{channel.native.get('provider', '')}:{channel.address or ''}"


_OUT = {"sair", "parar", "stop", "descadastrar"}
_IN = {"voltar", "start"}


def asks(content: Content) -> str | None:
    """What a contact asks for by a whole message, whatever its case and the marks around it: "out" (SAIR, PARAR: to be
    written to no more), "in" (VOLTAR: again), else None. A word inside a sentence asks for nothing."""
    if content.kind not in ("text", "button", "interactive") or content.text is None:
        return None
    word = content.text.strip(" \t\r\n.,;:!?*_~\"'()[]<>").casefold()
    if word in _OUT:
        return "out"
    return "in" if word in _IN else None


_SEAMS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", " ")


def chunks(words: str, limit: int, measure: Callable[[str], int]) -> list[str]:
    """A text in pieces of at most `limit` by the provider's own count, cut where a reader would pause: between
    paragraphs, lines, sentences, words; inside a word only when there is no other way. No piece is blank."""
    pieces, rest = [], words.strip()
    while measure(rest) > limit:
        most = _longest(rest, limit, measure)
        end = _seam(rest[:most]) if not rest[most : most + 1].isspace() else most
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*pieces, rest] if rest or not pieces else pieces


def _longest(words: str, limit: int, measure: Callable[[str], int]) -> int:
    """How many characters from the start fit: `measure` never shrinks with more of them. At least one."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(words[:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _seam(head: str) -> int:
    """Where to cut: after the last of the best seams in the second half, else at the end of the head."""
    for seam in _SEAMS:
        at = head.rfind(seam, len(head) // 2)
        if at > 0:
            return at + len(seam)
    at = head.rfind(" ")
    return at + 1 if at > 0 else len(head)


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


def pause(paced: int, policy: Policy) -> float:
    """Seconds to wait when the provider has said "too fast for this recipient" `paced` times in a row: 4, 16, 64 …."""
    return float(min(4 ** min(paced, 10), policy.paced_cap_seconds))


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
