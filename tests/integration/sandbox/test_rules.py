"""What Meta enforces, when it is switched on; faults of a send that was or was not acted on."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from tests.integration.sandbox.process import NUMBER, WA_ID, Client, Receiver, until


def template(name: str = "lembrete", parameters: int = 2, language: str = "pt_BR") -> dict[str, Any]:
    given = [{"type": "text", "text": str(at)} for at in range(parameters)]
    components = [{"type": "body", "parameters": given}]
    return {
        "type": "template",
        "template": {"name": name, "language": {"code": language}, "components": components},
    }


async def heard(client: Client, ago: int = 0) -> None:
    message = {"type": "text", "text": {"body": "oi"}, "timestamp": str(int(time.time()) - ago)}
    await client.control("patient", {"phone_number_id": NUMBER, "from": WA_ID, "message": message})


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        (template("outro"), 404, 132001),
        (template(language="en_US"), 404, 132001),
        (template(parameters=1), 400, 132000),
        (template(), 200, None),
    ],
)
async def test_templates(client: Client, given: dict[str, Any], status: int, code: int | None) -> None:
    await client.control("configure", {"templates": {"lembrete": {"body": 2}}})
    got, answer = await client.send(**given)
    assert (got, answer.get("error", {}).get("code")) == (status, code)
    assert len(await client.record("graph")) == (status == 200)


async def test_a_closed_window_is_told_in_a_status(client: Client, receiver: Receiver) -> None:
    await client.control("configure", {"window_hours": 24})
    assert (await client.send())[0] == 200
    await until(receiver.got, 1)
    failed = receiver.values()[0]["statuses"][0]
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131047)
    assert [row["failed"] for row in await client.record("graph")] == [131047]
    await heard(client)
    await client.send()
    assert (await client.record("graph"))[1]["failed"] is None
    _, refusals = await client.call("GET", "/control/refusals")
    assert refusals == {"by_code": {"131047": 1}, "by_rule": {"window": 1}}


async def test_a_closed_window_is_refused_at_once_but_not_to_templates(client: Client) -> None:
    await client.control("configure", {"window_hours": 1, "window_failure": "sync"})
    await heard(client, ago=3700)
    status, answer = await client.send()
    assert (status, answer["error"]["code"]) == (400, 131047)
    assert (await client.send(**template()))[0] == 200
    assert (await client.send())[0] == 400, "a template of ours opens no window"
    await heard(client, ago=3000)
    assert (await client.send())[0] == 200


async def test_pair_and_throughput_limits(client: Client) -> None:
    await client.control("configure", {"pair_seconds": 0.3, "pair_burst": 2})
    codes = [(await client.send())[1].get("error", {}).get("code") for _ in range(3)]
    assert codes == [None, None, 131056]
    assert (await client.send(to="5511900000002"))[0] == 200
    await asyncio.sleep(0.35)
    assert (await client.send())[0] == 200
    await client.control("configure", {"pair_seconds": None, "messages_per_second": 2})
    answers = [await client.send(to=f"55119000000{at:02d}") for at in range(10, 14)]
    assert [status for status, _ in answers] == [200, 200, 429, 429]
    assert answers[3][1]["error"]["code"] == 130429
    _, refusals = await client.call("GET", "/control/refusals")
    assert refusals["by_rule"] == {"pair": 1, "throughput": 2}


async def test_all_is_taken_while_nothing_is_set(client: Client) -> None:
    answers = [await client.send(**template("qualquer", 7)) for _ in range(20)]
    answers += [await client.send() for _ in range(20)]
    assert {status for status, _ in answers} == {200}


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ("reset_before", 0),
        ("timeout_before", 0),
        ("reset_after", 1),
        ("timeout_after", 1),
        ("half_answer", 1),
    ],
)
async def test_no_answer(client: Client, fault: str, sent: int) -> None:
    await client.fault(fault, "graph.send", times=1, seconds=0.1)
    with pytest.raises(aiohttp.ClientError):
        await client.send()
    assert len(await client.record("graph")) == sent


async def test_wrong_answers_after_acting(client: Client) -> None:
    await client.fault("garbage", "graph.send", times=1)
    with pytest.raises(ValueError, match="Expecting value"):
        await client.send()
    await client.fault("status_after", "graph.send", times=1, status=500)
    status, answer = await client.send()
    assert (status, answer["error"]["code"]) == (500, 2)
    rows = await client.record("graph")
    assert [(row["fault"], row["answered"]) for row in rows] == [("garbage", 200), ("status_after", 500)]
    assert await client.record("refused") == []
