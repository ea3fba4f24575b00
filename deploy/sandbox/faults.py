"""Faults on demand: how a stand-in misbehaves, and for which requests.

A fault is chosen before the stand-in acts, so the record knows at once whether the request was acted
on and whether it will be answered.
"""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FAULTS = frozenset(
    {
        "status",  # answer `status`, do nothing
        "error_code",  # answer Meta's error `code`, do nothing
        "failed_status",  # Graph only: accept, answer 200, then report `failed` with `code` by webhook
        "timeout_before",  # do nothing, hang `seconds`, abort
        "timeout_after",  # act, hang `seconds`, abort
        "reset_before",  # do nothing, abort the connection
        "reset_after",  # act, abort the connection
        "slow",  # act, answer after `seconds`
        "late",  # wait `seconds`, then act and answer
        "half_answer",  # act, send half of the answer, abort
        "status_after",  # act, answer `status` all the same
        "garbage",  # act, answer 200 with something that is no JSON
        "wrong_bytes",  # act, answer as long as it should be, with other bytes
        "endless",  # act, then write for `seconds` without an end, abort
        "drop",  # rocketchat.webhook only: the event is never posted
        "down",  # abort, leave no row: as if nothing listened
    }
)
_IDLE = frozenset({"status", "error_code", "timeout_before", "reset_before", "down"})
_ANSWERED = frozenset({"status", "error_code", "failed_status", "slow", "late", "wrong_bytes"})
_CHUNK = bytes(65536)
_DROPPED = "rocketchat.webhook"
_COUNTS = frozenset({"hits", "asked"})
_MATCH = frozenset({"to", "text_contains", "phone_number_id", "by"})


@dataclass(frozen=True)
class Facts:
    """What a rule can match: the customers' ids, the text, the number, who calls (native, rocketchat)."""

    to: tuple[str, ...] = ()
    text: str = ""
    phone_number_id: str = ""
    by: str = "native"


@dataclass
class Rule:
    """One fault; `times` None is for ever, `hits` counts the requests it struck.

    `share` of those it matches are struck, by a draw that `seed` and the order of arrival decide.
    """

    target: str
    fault: str
    match: dict[str, str] = field(default_factory=dict)
    status: int = 503
    code: int = 131000
    seconds: float = 30.0
    times: int | None = None
    hits: int = 0
    share: float = 1.0
    seed: int = 0
    asked: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Rule":
        """Raises ValueError on an unknown fault, match or key."""
        given = {key: value for key, value in raw.items() if value is not None and key not in _COUNTS}
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown or not {"target", "fault"} <= set(given):
            raise ValueError(f"a rule has target, fault and their options; wrong: {sorted(unknown)}")
        if given["fault"] not in FAULTS:
            raise ValueError(f"fault must be one of {sorted(FAULTS)}")
        if set(given.get("match", {})) - _MATCH:
            raise ValueError(f"match takes {sorted(_MATCH)}")
        if (given["fault"] == "drop") != str(given["target"]).startswith(_DROPPED):
            raise ValueError(f"drop is the fault of {_DROPPED}, and its only one")
        return cls(**given)

    def strikes(self, target: str, facts: Facts) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        if target != self.target and not target.startswith(self.target + "."):
            return False
        if target == _DROPPED and self.fault != "drop":
            return False  # a rule for all of Rocket.Chat is about requests to it
        # Rocket.Chat's own sends are spared unless asked for: a fault is nearly always meant for the router.
        if facts.by != self.match.get("by", "native"):
            return False
        return all(self._matches(key, wanted, facts) for key, wanted in self.match.items()) and self._drawn()

    def _drawn(self) -> bool:
        if self.share >= 1:
            return True
        self.asked += 1
        return random.Random(f"{self.seed}:{self.asked}").random() < self.share

    @staticmethod
    def _matches(key: str, wanted: str, facts: Facts) -> bool:
        if key == "to":
            return wanted in facts.to
        if key == "text_contains":
            return wanted in facts.text
        return bool(getattr(facts, key) == wanted)


def acts(rule: Rule | None) -> bool:
    """Whether the stand-in does its work in spite of the rule."""
    return rule is None or rule.fault not in _IDLE


def answered(rule: Rule | None, status: int = 200) -> int | None:
    """The status the caller will see when the work itself answers `status`; None when it sees none."""
    if rule is None:
        return status
    if rule.fault in {"status", "error_code", "status_after"}:
        return rule.status
    if rule.fault == "garbage":
        return 200
    return status if rule.fault in _ANSWERED else None


class Faults:
    """The rules in force; the first that matches strikes."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def take(self, target: str, facts: Facts) -> Rule | None:
        """The rule that strikes a request, or an event of Rocket.Chat's; None: it goes its way."""
        rule = next((rule for rule in self.rules if rule.strikes(target, facts)), None)
        if rule:
            rule.hits += 1
        return rule


async def respond(
    request: web.Request,
    rule: Rule | None,
    act: Callable[[], Awaitable[web.Response]],
    refuse: Callable[[Rule], web.Response],
) -> web.StreamResponse:
    """Answer as the rule says; `act` does the work and answers, `refuse` answers without doing it."""
    if rule is None:
        return await act()
    if rule.fault in {"status", "error_code"}:
        return refuse(rule)
    if rule.fault == "late":
        await asyncio.sleep(rule.seconds)
        return await act()
    answer = await act() if acts(rule) else web.Response()
    if rule.fault in _REWRITES:
        return _REWRITES[rule.fault](rule, answer)
    if rule.fault == "endless":
        return await _write_endless(request, answer, rule.seconds)
    if rule.fault in {"slow", "timeout_before", "timeout_after"}:
        await asyncio.sleep(rule.seconds)
    if rule.fault == "slow":
        return answer
    if rule.fault == "half_answer":
        await _write_half(request, answer)
    abort(request)
    return answer


def _status_after(rule: Rule, _: web.Response) -> web.Response:
    error = {"message": "(#2) Service temporarily unavailable", "type": "OAuthException", "code": 2}
    return web.json_response({"error": error}, status=rule.status)


def _garbage(_: Rule, answer: web.Response) -> web.Response:
    return web.Response(
        body=b'{"messaging_product":"whatsapp","messages":[{"id":', content_type=answer.content_type
    )


def _wrong_bytes(_: Rule, answer: web.Response) -> web.Response:
    body = answer.body if isinstance(answer.body, bytes) else b""
    answer.body = bytes(byte ^ 0x55 for byte in body)
    return answer


_REWRITES: Mapping[str, Callable[[Rule, web.Response], web.Response]] = {
    "failed_status": lambda _, answer: answer,
    "status_after": _status_after,
    "garbage": _garbage,
    "wrong_bytes": _wrong_bytes,
}


async def _write_endless(request: web.Request, answer: web.Response, seconds: float) -> web.StreamResponse:
    """Chunks of the answer's type until the caller goes away, or for `seconds`."""
    endless = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    endless.enable_chunked_encoding()
    until = time.monotonic() + seconds
    try:
        await endless.prepare(request)
        while time.monotonic() < until:
            await endless.write(_CHUNK)
            await asyncio.sleep(0)  # a full speed loop would leave the others no turn
    except ConnectionError:
        return endless
    abort(request)
    return endless


async def _write_half(request: web.Request, answer: web.Response) -> None:
    body = answer.body if isinstance(answer.body, bytes) else b""
    half = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    half.content_length = len(body) + 1  # one more than there is, so that even an empty answer is cut short
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    # An abort drops what is still in the kernel's send buffer; let the half reach the caller first.
    await asyncio.sleep(0.02)


def abort(request: web.Request) -> None:
    """Cut the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
