"""What goes wrong at Meta and at Rocket.Chat, end to end, judged by the sandbox's record."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.acceptance.outside import (
    Outside,
    as_meta,
    doubled,
    envelope,
    eventually,
    in_order,
    message,
    outside,
)
from tests.acceptance.scene import TENANT, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("acceptance-faults")]
SOL = Line("sol", "100200300")
RIO = Line("rio", "100200301")
MAR = Line("mar", "100200302", extra='on_rocketchat_down = "native"')


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with staged([SOL, RIO, MAR], roles={"all": "all"}) as scene:
        scene.flag("native", "--channel", SOL.slug)
        yield scene


@pytest.fixture
async def out(scene: Scene) -> AsyncIterator[Outside]:
    async with outside(scene) as out:
        yield out
        await out.sandbox.call("DELETE", "/control/faults")
        await eventually(lambda: healthy(out), "health")
        await out.quiet()


async def healthy(out: Outside) -> bool:
    return await degraded(out) == []


async def degraded(out: Outside) -> list[str]:
    status, answer = await out.api("GET", "/health/ready")
    assert (status, answer["status"]) == (200, "ready")
    found: list[str] = answer["degraded"]
    return found


async def send(out: Outside, to: str, text: str, channel: str = "sol") -> str:
    """A text to somebody who has written: to others only a template may go."""
    if to not in out.written:
        out.written.add(to)
        await out.say(SOL, to, "oi")
    status, answer = await out.send({"channel": channel, "to": to, "text": text}, f"{to} {text}")
    assert status == 202, answer
    return str(answer["id"])


async def copies(out: Outside, text: str) -> list[dict[str, Any]]:
    return [row for row in await out.sent() if row["text"] == text]


@pytest.mark.parametrize("fault", ["timeout_after", "reset_after", "half_answer"])
async def test_faults_after_acting_are_unknown_until_the_status_tells(out: Outside, fault: str) -> None:
    # Longer than a request may take until its status comes, to see that nobody knows.
    await out.sandbox.control("configure", {"status_delay_seconds": 4})
    await out.sandbox.fault(fault, "graph.send", times=1, seconds=30)
    number = await send(out, "5511900000010", f"agiu sem resposta {fault}")
    await out.reaches(number, "unknown", seconds=10)
    told = await out.reaches(number, "sent", "delivered", seconds=15)
    await out.sandbox.control("configure", {"status_delay_seconds": 0.05})
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["unknown"]
    (row,) = await copies(out, f"agiu sem resposta {fault}")
    assert told["external_id"] == row["wamid"]
    # Its last status is on its way with the long delay: it must not count as evidence in the next scenario.
    await out.reaches(number, "delivered", seconds=15)


async def test_faults_before_acting_are_sent_again_once_when_others_got_through(out: Outside) -> None:
    await out.sandbox.fault("reset_before", "graph.send", times=1, match={"to": "5511900000011"})
    number = await send(out, "5511900000011", "perdida no caminho")
    behind = await send(out, "5511900000011", "a seguinte")
    await out.reaches(number, "unknown")
    await asyncio.sleep(1)
    assert await copies(out, "perdida no caminho") == []
    for turn in range(3):  # evidence: statuses of others arrive on the same address
        await send(out, "5511900000012", f"outra {turn}")
    told = await out.reaches(number, "sent", "delivered")
    await out.reaches(behind, "sent", "delivered")
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["unknown", "ok"]
    got = [row["text"] for row in await out.sent() if row["to"] == "5511900000011"]
    assert got == ["perdida no caminho", "a seguinte"]


async def test_faults_of_one_message_are_a_dead_letter_and_free_the_lane(out: Outside) -> None:
    await out.sandbox.fault(
        "error_code", "graph.send", times=1, code=131047, match={"text_contains": "fora da janela"}
    )
    number = await send(out, "5511900000013", "fora da janela")
    behind = await send(out, "5511900000013", "a de tr\u00e1s")
    told = await out.reaches(number, "failed")
    assert told["error_code"] == "131047"
    await out.reaches(behind, "sent", "delivered")
    letters = (await out.figueira("deadletters", "list", "--kind", "whatsapp"))["items"]
    assert [letter["reason"] for letter in letters] == ["131047"]
    assert await copies(out, "fora da janela") == []


async def test_faults_of_the_whole_channel_hold_its_lanes_until_it_recovers(out: Outside) -> None:
    await out.sandbox.fault("error_code", "graph.send", code=190, match={"phone_number_id": SOL.number})
    texts = [f"token vencido {turn}" for turn in range(3)]
    numbers = [await send(out, "5511900000014", text) for text in texts]
    await eventually(lambda: degraded(out), "degraded")
    assert await degraded(out) == ["native:sol"]
    assert {(await out.status_of(number))["status"] for number in numbers} == {"queued"}
    await out.sandbox.call("DELETE", "/control/faults")
    for number in numbers:
        await out.reaches(number, "sent", "delivered")
    assert [row["text"] for row in await out.sent() if row["to"] == "5511900000014"] == texts


async def test_faults_of_rocketchat_hold_in_order_and_only_new_conversations_may_go_native(
    out: Outside,
) -> None:
    before = await out.say(MAR, "5511900000020", "antes da queda")
    await out.quiet()
    await out.sandbox.fault("down", "rocketchat")
    held: dict[str, list[str]] = {"5511900000021": [], "5511900000022": []}
    for turn in range(4):
        for wa_id, wamids in held.items():
            wamids.append(await out.say(RIO, wa_id, f"durante a queda {turn}"))
    await eventually(lambda: degraded(out), "degraded")
    assert await degraded(out) == ["rocketchat"]
    pinned = await out.say(MAR, "5511900000020", "sigo no mesmo lugar")
    fresh = await out.say(MAR, "5511900000023", "sou nova")
    found = await out.conversation_of("mar", fresh)
    assert found["path"] == "native"
    (why,) = (await out.figueira("explain", found["id"]))["decisions"]
    assert why["rule"] == "rocketchat_down"
    assert (await out.conversation_of("mar", pinned))["path"] == "rocketchat"
    assert not set(await out.forwarded("mar")) & {pinned, fresh}
    await out.sandbox.call("DELETE", "/control/faults")
    await out.quiet()
    went = await out.forwarded("rio")
    assert not doubled(went)
    assert all(in_order(went, wamids) for wamids in held.values())
    assert await out.forwarded("mar") == [before, pinned]


async def test_faults_of_an_answer_lost_by_rocketchat_are_forwarded_again(out: Outside) -> None:
    await out.sandbox.fault("reset_after", "rocketchat.app", times=1)
    first = await out.say(RIO, "5511900000024", "resposta perdida")
    second = await out.say(RIO, "5511900000024", "e mais uma")
    await eventually(lambda: _seen(out, second), "the second")
    went = [wamid for wamid in await out.forwarded("rio") if wamid in {first, second}]
    assert went == [first, first, second]
    said = [row["text"] for row in await out.sandbox.record("rocketchat") if row["wa_id"] == "5511900000024"]
    assert said == ["resposta perdida", "e mais uma"]


async def _seen(out: Outside, wamid: str) -> bool:
    return wamid in await out.forwarded("rio")


async def test_faults_of_placing_wait_and_are_then_placed(out: Outside) -> None:
    """rooms.info fails: the room's events wait, in their order, and nothing else does."""
    await out.sandbox.fault("status", "rocketchat.rest.rooms.info", status=400)
    wamid = await out.say(RIO, "5511900000025", "quem me atende?")
    await eventually(lambda: _seen(out, wamid), "the forward")
    await out.sandbox.control("agent", {"wa_id": "5511900000025", "text": "sou eu"})
    assert await eventually(lambda: out.metric("figueira_unplaced_events"), "unplaced")
    status, answer = await out.api(
        "POST", "/v1/messages", {"channel": "rio", "to": "5511900000025", "text": "x"}
    )
    assert (status, answer["code"]) == (409, "no_room_on_path")
    await out.sandbox.call("DELETE", "/control/faults")
    await eventually(lambda: _told(out, wamid), "the agent's turn")
    number = await send(out, "5511900000025", "pelo sistema", "rio")
    told = await out.reaches(number, "sent", "delivered")
    assert told["path"] == "rocketchat"
    assert [row["by"] for row in await copies(out, "pelo sistema")] == ["rocketchat"]


async def _told(out: Outside, wamid: str) -> bool:
    conversation = await out.conversation_of("rio", wamid)
    said = await out.all(f"/v1/conversations/{conversation['id']}/messages")
    return [(row["direction"], row["text"]) for row in said] == [
        ("inbound", "quem me atende?"), ("outbound", "sou eu"),
    ]  # fmt: skip


@pytest.mark.parametrize("line", [SOL, RIO], ids=["native", "rocketchat"])
async def test_the_call_the_clinic_makes_today_works_on_both_paths(out: Outside, line: Line) -> None:
    """{user_id, text, channel}; faults of the network make it call again with the same key."""
    wa_id = f"55119000001{line.number[-2:]}"
    wamid = await out.say(line, wa_id, "quero falar com a cl\u00ednica")
    conversation = await out.conversation_of(line.slug, wamid)
    await out.quiet()
    _, contact = await out.api("GET", f"/v1/contacts/{conversation['contact_id']}")
    body = {"user_id": contact["user_id"], "text": f"pois n\u00e3o {line.slug}", "channel": line.slug}
    key = {"Idempotency-Key": f"chave-{line.slug}"}
    first = await out.api("POST", "/v1/messages", body, **key)
    again = await out.api("POST", "/v1/messages", body, **key)
    other = await out.api("POST", "/v1/messages", {**body, "text": "outro"}, **key)
    assert first[0] == 202
    assert first == again
    assert (other[0], other[1]["code"]) == (409, "idempotency_conflict")
    path = "native" if line is SOL else "rocketchat"
    assert (first[1]["path"], first[1]["conversation_id"]) == (path, conversation["id"])
    told = await out.reaches(first[1]["id"], "delivered")
    assert told["path"] == path
    (row,) = await copies(out, body["text"])
    assert (row["to"], row["by"], told["external_id"]) == (wa_id, path, row["wamid"])


async def test_strangers_on_rocketchat_have_no_room(out: Outside) -> None:
    status, answer = await out.api(
        "POST", "/v1/messages", {"channel": "rio", "to": "+5511900000099", "text": "oi"}
    )
    assert (status, answer["code"]) == (409, "no_room_on_path")
    unknown = {"channel": "rio", "user_id": "01890a5d-ac96-774b-bcce-b302099a8057", "text": "oi"}
    status, answer = await out.api("POST", "/v1/messages", unknown)
    assert (status, answer["code"]) == (422, "not_mapped")
    status, answer = await out.api(
        "POST", "/v1/messages", {"channel": "whatsapp", "to": "5511900000099", "text": "oi"}
    )
    assert (status, answer["code"]) == (422, "ambiguous_channel")
    assert TENANT not in str(answer)
    assert as_meta(envelope(RIO.number, message("5511900000099", "x")))
