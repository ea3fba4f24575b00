"""The send fault table: for each way a provider fails a send, how it ends, what was tried, what the customer got.

Every row has a channel and two customers of its own, and all rows run at once. The first customer's first message meets
the fault; behind it waits another one; beside it somebody else is written to. The customer's side is the sandbox's record.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.gate import Gate, once, plainly
from tests.acceptance.outside import Outside, eventually, outside
from tests.acceptance.scene import ACCESS_TOKEN, APP_SECRET, VERIFY_TOKEN, Line, Scene, free_port, staged

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("acceptance-send-faults")]
FIRST, SECOND, BESIDE = "a que falha", "a de tr\u00e1s", "a outra pessoa"
POLICY = {
    "request_timeout_seconds": 1.5, "unknown_after_seconds": 3, "unknown_dead_seconds": 9, "max_attempts": 7,
    "retry_base_seconds": 0.6, "retry_cap_seconds": 1, "paced_cap_seconds": 1,
}  # fmt: skip
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
AGAIN = ("retry", "retry", "ok")


@dataclass(frozen=True)
class Row:
    """One line of the table. `tries`: the outcome of each request that left; `copies`: what the customer got of the
    first message; `code`: why it failed. `lone`: nobody else is written to, so nothing proves the way is open."""

    name: str
    status: str
    tries: tuple[str, ...]
    copies: int
    fault: Mapping[str, Any] = field(default_factory=dict)
    answer: tuple[str, ...] = ()
    code: str | None = None
    lone: bool = False


def _error(code: int, **more: object) -> dict[str, Any]:
    return {"fault": "error_code", "code": code, "times": 2, **more}


def _once(fault: str, **more: object) -> dict[str, Any]:
    return {"fault": fault, "times": 1, **more}


ROWS = [
    # Too fast: the provider says it did nothing, so it goes again, and once only.
    Row("throughput", "delivered", AGAIN, 1, _error(130429)),
    Row("account-rate", "delivered", AGAIN, 1, _error(80007)),
    Row("app-rate", "delivered", AGAIN, 1, _error(4)),
    Row("pair-rate", "delivered", ("paced", "paced", "ok"), 1, _error(131056)),
    Row("wordless-429", "delivered", ("retry", "ok"), 1, answer=("429 Too Many Requests", "", "Retry-After: 1")),
    # 5xx: Meta's own word for it is a refusal; a proxy's page or a bare 500 proves nothing.
    Row("unavailable", "delivered", AGAIN, 1, {"fault": "status", "times": 2}),
    Row("crashed", "delivered", AGAIN, 1, _error(131000)),
    Row("proxy-page", "delivered", ("unknown", "ok"), 1, answer=("502 Bad Gateway", HTML)),
    Row("bare-500", "delivered", ("unknown", "ok"), 1, answer=("500 Internal Server Error", "{}")),
    Row("for-ever", "failed", ("retry",) * 7, 0, {"fault": "error_code", "code": 131000}, code="131000"),
    # No answer, and nothing was done: sent again once others prove that the way is open.
    Row("silence-before", "delivered", ("unknown", "ok"), 1, _once("timeout_before")),
    Row("reset-before", "delivered", ("unknown", "ok"), 1, _once("reset_before")),
    Row("reset-twice", "unknown", ("unknown", "unknown"), 0, {"fault": "reset_before", "times": 2}, code="unknown"),
    Row("reset-unproven", "unknown", ("unknown",), 0, _once("reset_before"), code="unknown", lone=True),
    Row("garbage-before", "delivered", ("unknown", "ok"), 1, answer=("200 OK", "certo!")),
    # No answer, and it was done: never again, the status tells.
    Row("silence-after", "delivered", ("unknown",), 1, _once("timeout_after")),
    Row("reset-after", "delivered", ("unknown",), 1, _once("reset_after")),
    Row("half-answer", "delivered", ("unknown",), 1, _once("half_answer")),
    Row("garbage-after", "delivered", ("unknown",), 1, _once("garbage")),
    # Refused for good: a dead letter, and the lane is free.
    Row("window", "failed", ("permanent",), 0, _error(131047, times=None), code="131047"),
    Row("undeliverable", "failed", ("permanent",), 0, _error(131026, times=None), code="131026"),
    Row("window-later", "failed", ("ok",), 0, _once("failed_status", code=131047), code="131047"),
    Row("undeliverable-later", "failed", ("ok",), 0, _once("failed_status", code=131026), code="131026"),
]  # fmt: skip
AT_ONCE = {"window", "undeliverable", "window-later", "undeliverable-later"}
"""Their lane is free again before somebody else could be written to."""


@dataclass(frozen=True)
class Through(Line):
    """A channel whose provider is asked at an address of ours. `at`: scheme, host and port."""

    at: str = ""

    def toml(self, sandbox: str) -> str:
        written = super().toml(sandbox)
        return written.replace(f"{sandbox}/graph", f"{self.at}/graph") if self.at else written


def _number(place: int) -> str:
    return f"1002005{place:02}"


def _line(place: int, row: Row) -> Through:
    at = f"http://127.0.0.1:{free_port()}" if row.answer else ""
    return Through(row.name, _number(place), forwards=False, at=at)


LINES = {row.name: _line(place, row) for place, row in enumerate(ROWS)}
REVOKED = Line("revoked", _number(90), forwards=False)
NO_TLS = Through("no-tls", _number(91), forwards=False, at=f"https://127.0.0.1:{free_port()}")
NOBODY = Through("nobody", _number(92), forwards=False, at=f"http://127.0.0.1:{free_port()}")


def faulted(line: Line) -> str:
    """The customer whose message meets the fault."""
    return f"55119{line.number}1"


def other(line: Line) -> str:
    return f"55119{line.number}2"


@dataclass(frozen=True)
class Seen:
    """How a row went. `got`: the texts the faulted customer got; `order`: all texts of the channel as they left."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    beside: Mapping[str, Any] | None
    got: list[str]
    order: list[str]

    @property
    def tries(self) -> tuple[str, ...]:
        return tuple(attempt["outcome"] for attempt in self.first["attempts"])


async def send(out: Outside, line: Line, to: str, text: str) -> str:
    status, answer = await out.send(
        {"channel": line.slug, "to": to, "text": text}, f"{line.slug} {to} {text}"
    )
    assert status == 202, answer
    return str(answer["id"])


async def record(out: Outside, line: Line) -> list[dict[str, Any]]:
    """What reached the customers of a channel, in order."""
    rows = await out.sent()
    return [row for row in rows if row["phone_number_id"] == line.number and not row.get("failed")]


async def play(out: Outside, row: Row) -> Seen:
    line = LINES[row.name]
    if row.fault:
        match = {"phone_number_id": line.number, "text_contains": FIRST}
        await out.sandbox.control(
            "faults", [{"target": "graph.send", "seconds": 20, **row.fault, "match": match}]
        )
    first = await send(out, line, faulted(line), FIRST)
    beside = None if row.lone else await send(out, line, other(line), BESIDE)
    second = await send(out, line, faulted(line), SECOND)
    ended = asyncio.create_task(out.reaches(second, "delivered", seconds=90))
    turn = 0
    while not ended.done() and not row.lone:
        await send(out, line, other(line), f"prova {turn}")  # its statuses prove that the way is open
        turn += 1
        await asyncio.wait([ended], timeout=0.6)
    await ended
    with contextlib.suppress(AssertionError):  # the test says what it is instead
        await out.reaches(first, row.status, seconds=5)
    rows = await record(out, line)
    return Seen(
        await out.status_of(first),
        await out.status_of(second),
        await out.status_of(beside) if beside else None,
        [found["text"] for found in rows if found["to"] == faulted(line)],
        [found["text"] for found in rows],
    )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    lines = [*LINES.values(), REVOKED, NO_TLS, NOBODY]
    with staged(lines, roles={"all": "all"}, stage="native", delivery=POLICY) as scene:
        # A status comes late enough to see who waits for it.
        scene.configure(status_delay_seconds=0.8)
        yield scene


@pytest.fixture(scope="module")
def seen(scene: Scene) -> dict[str, Seen | BaseException]:
    """All rows, at once."""
    return asyncio.run(_all(scene))


async def _all(scene: Scene) -> dict[str, Seen | BaseException]:
    async with contextlib.AsyncExitStack() as stack:
        for row in ROWS:
            if row.answer:
                status, body, *headers = row.answer
                spoil = once(FIRST, status, body, *headers)
                gate = Gate(int(LINES[row.name].at.rpartition(":")[2]), scene.sandbox, spoil)
                await stack.enter_async_context(await gate.start())
        out = await stack.enter_async_context(outside(scene))
        await greeted(out, *LINES.values())
        told = await asyncio.gather(*(play(out, row) for row in ROWS), return_exceptions=True)
        await out.quiet()
    return dict(zip(LINES, told, strict=True))


async def greeted(out: Outside, *lines: Line) -> None:
    """Everybody has written: their windows are open."""
    await asyncio.gather(*(out.say(line, who(line), "oi") for line in lines for who in (faulted, other)))

    async def all_here() -> bool:
        found = [await out.conversations(line.slug) for line in lines]
        return all(len(each) == 2 for each in found)

    await eventually(all_here, "the conversations")


@pytest.fixture
def outcome(seen: Mapping[str, Seen | BaseException], row: Row) -> Seen:
    found = seen[row.name]
    if isinstance(found, BaseException):
        raise found
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault(row: Row, outcome: Seen) -> None:
    first = outcome.first
    assert first["status"] == row.status
    if row.name == "for-ever":  # a try made while the breaker is shut does not count against the message
        assert set(outcome.tries) == {"retry"}
        assert len(row.tries) <= len(outcome.tries) <= len(row.tries) + 3
    else:
        assert outcome.tries == row.tries
    assert first.get("error_code") == row.code
    assert outcome.got == [FIRST] * row.copies + [SECOND], "never twice, and in the order of the lane"
    assert outcome.second["status"] == "delivered"
    assert [attempt["outcome"] for attempt in outcome.second["attempts"]] == ["ok"]
    if outcome.beside is not None:
        assert outcome.beside["status"] == "delivered"
        assert [attempt["outcome"] for attempt in outcome.beside["attempts"]] == ["ok"]
    if outcome.beside is not None and row.name not in AT_ONCE:
        assert outcome.order.index(BESIDE) < outcome.order.index(SECOND), "the other conversation was held"


async def test_what_was_given_up_is_a_dead_letter(scene: Scene, seen: Mapping[str, Seen]) -> None:
    async with outside(scene) as out:
        letters = (await out.figueira("deadletters", "list", "--kind", "whatsapp"))["items"]
    given_up = {(row.name, row.code) for row in ROWS if row.code and "ok" not in row.tries}
    assert {(letter["channel"], letter["reason"]) for letter in letters} == given_up


async def degraded(out: Outside) -> list[str]:
    status, answer = await out.api("GET", "/health/ready")
    assert (status, answer["status"]) == (200, "ready")
    found: list[str] = answer["degraded"]
    return found


async def test_a_revoked_token_holds_the_channel_until_it_works_again(
    scene: Scene, seen: Mapping[str, Seen]
) -> None:
    def token(value: str) -> None:
        number = {
            "callback_url": f"{scene.url}/webhooks/{REVOKED.slug}", "app_secret": APP_SECRET,
            "verify_token": VERIFY_TOKEN, "access_token": value,
        }  # fmt: skip
        scene.configure(numbers={REVOKED.number: number})

    healthy = LINES["throughput"]
    async with outside(scene) as out:
        await greeted(out, REVOKED)
        token("another")
        sent = [await send(out, REVOKED, faulted(REVOKED), text) for text in (FIRST, SECOND)]
        sent.append(await send(out, REVOKED, other(REVOKED), BESIDE))
        await eventually(lambda: _is_degraded(out, "native:revoked"), "degraded")
        elsewhere = await send(out, healthy, other(healthy), "noutro canal")
        await out.reaches(elsewhere, "sent", "delivered")
        states = [await out.status_of(one) for one in sent]
        assert {state["status"] for state in states} == {"queued"}
        assert await record(out, REVOKED) == []
        token(ACCESS_TOKEN)
        ends = [await out.reaches(one, "delivered") for one in sent]
        got = await record(out, REVOKED)
    for end in ends:
        *refused, last = [attempt["outcome"] for attempt in end["attempts"]]
        assert last == "ok"
        assert set(refused) <= {"channel"}
        assert len(refused) <= 5  # one look in two seconds, not one a lane and turn
    assert [row["text"] for row in got if row["to"] == faulted(REVOKED)] == [FIRST, SECOND]
    assert [row["text"] for row in got if row["to"] == other(REVOKED)] == [BESIDE]


async def _is_degraded(out: Outside, name: str) -> bool:
    return name in await degraded(out)


async def test_nobody_listens_for_a_while(scene: Scene, seen: Mapping[str, Seen]) -> None:
    async with outside(scene) as out:
        await greeted(out, NOBODY)
        first = await send(out, NOBODY, faulted(NOBODY), FIRST)
        second = await send(out, NOBODY, faulted(NOBODY), SECOND)
        await eventually(lambda: _is_degraded(out, "native:nobody"), "degraded")
        assert (await out.status_of(first))["status"] == "queued"
        gate = Gate(int(NOBODY.at.rpartition(":")[2]), scene.sandbox, lambda _: None)
        async with await gate.start():
            told = await out.reaches(first, "delivered")
            await out.reaches(second, "delivered")
    outcomes = [attempt["outcome"] for attempt in told["attempts"]]
    assert outcomes == ["retry"] * (len(outcomes) - 1) + ["ok"]
    async with outside(scene) as out:
        assert [row["text"] for row in await record(out, NOBODY)] == [FIRST, SECOND]


async def test_no_tls_where_it_was_to_be_sends_nothing_and_holds_nobody_else(
    scene: Scene, seen: Mapping[str, Seen]
) -> None:
    """Runs last: its message waits until the scene ends."""
    healthy = LINES["throughput"]
    port = int(NO_TLS.at.rpartition(":")[2])
    async with outside(scene) as out, await asyncio.start_server(plainly, "127.0.0.1", port):
        await greeted(out, NO_TLS)
        begun = time.monotonic()
        waiting = await send(out, NO_TLS, faulted(NO_TLS), FIRST)
        await eventually(lambda: _is_degraded(out, "native:no-tls"), "degraded")
        elsewhere = await send(out, healthy, other(healthy), "com TLS ou sem")
        await out.reaches(elsewhere, "sent", "delivered")
        held = await out.status_of(waiting)
        seconds = time.monotonic() - begun
        assert await record(out, NO_TLS) == []
    assert held["status"] == "queued"
    tries = [(attempt["outcome"], attempt["code"]) for attempt in held["attempts"] if attempt["outcome"]]
    assert set(tries) == {("retry", "connect")}
    assert len(tries) <= 6 + seconds / POLICY["retry_base_seconds"]
