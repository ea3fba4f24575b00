"""Faults, control and record of the sandbox as a process."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from deploy.sandbox.patients import talk
from tests.integration.sandbox.process import (
    NUMBER,
    WA_ID,
    Client,
    Receiver,
    until,
)


@pytest.mark.parametrize("fault", ["reset_after", "timeout_after", "half_answer"])
async def test_acts_and_does_not_answer(client: Client, receiver: Receiver, fault: str) -> None:
    await client.fault(fault, "graph.send", times=1, seconds=0.1)
    with pytest.raises(aiohttp.ClientError):
        await client.send(biz_opaque_callback_data="x")
    (row,) = await client.record("graph")
    assert (row["fault"], row["answered"]) == (fault, None)
    await until(receiver.got, 2)
    assert (await client.send())[0] == 200


@pytest.mark.parametrize("fault", ["reset_before", "timeout_before", "down"])
async def test_neither_acts_nor_answers(client: Client, fault: str) -> None:
    await client.fault(fault, "graph.send", times=1, seconds=0.1)
    with pytest.raises(aiohttp.ClientError):
        await client.send()
    assert await client.record("graph") == []
    assert (await client.send())[0] == 200


async def test_error_code_status_and_match(client: Client) -> None:
    await client.fault("error_code", "graph.send", code=131047, match={"text_contains": "fora"})
    await client.fault("status", "graph.send", status=502, times=1)
    assert (await client.send())[0] == 502
    status, answer = await client.send(text={"body": "fora da janela"})
    assert (status, answer["error"]["code"]) == (400, 131047)
    assert (await client.send())[0] == 200
    _, rules = await client.call("GET", "/control/faults")
    assert [rule["hits"] for rule in rules["rules"]] == [1, 1]
    await client.call("DELETE", "/control/faults")
    assert (await client.send(text={"body": "fora da janela"}))[0] == 200


async def test_slow_and_failed_status(client: Client, receiver: Receiver) -> None:
    await client.fault("slow", "graph.send", seconds=0.2, times=1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await client.send())[0] == 200
    assert loop.time() - started >= 0.2
    await until(receiver.got, 2)
    await client.fault("failed_status", "graph.send", code=131026, times=1)
    assert (await client.send())[0] == 200
    await until(receiver.got, 3)
    failed = receiver.values()[2]["statuses"][0]
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131026)


async def test_late_acts_only_after_its_seconds(client: Client) -> None:
    await client.fault("late", "graph.send", seconds=0.3, times=1)
    sending = asyncio.create_task(client.send())
    await asyncio.sleep(0.1)
    assert await client.record("graph") == []
    assert (await sending)[0] == 200
    assert len(await client.record("graph")) == 1


async def test_app_faults_are_recorded(client: Client) -> None:
    await client.fault("reset_after", "rocketchat.app", times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.forward("primeira", "wamid.1")
    await client.fault("status", "rocketchat.app", status=502, times=1)
    assert (await client.forward("segunda", "wamid.2"))[0] == 502
    assert (await client.forward("segunda", "wamid.2"))[0] == 200
    rows = await client.record("forwards")
    assert [(row["acted"], row["answered"]) for row in rows] == [(True, None), (False, 502), (True, 200)]
    assert [row["text"] for row in await client.record("rocketchat")] == ["primeira", "segunda"]


async def test_record_survives_in_the_file_and_can_be_asked_since(
    client: Client, process: tuple[str, Path]
) -> None:
    for _ in range(3):
        await client.send()
    rows = await client.record("graph")
    assert [row["wamid"] for row in await client.record("graph", rows[0]["seq"])] == [
        row["wamid"] for row in rows[1:]
    ]
    kept = [json.loads(line) for line in process[1].read_text().splitlines()]
    assert rows[-1]["wamid"] in {row.get("wamid") for row in kept if row["kind"] == "graph"}
    _, whole = await client.call("GET", "/control/record")
    assert whole["counts"]["graph"] == len(whole["graph"]) == 3
    await client.call("DELETE", "/control/record")
    assert (await client.call("GET", "/control/record/counts"))[1]["graph"] == 0
    assert (await client.call("GET", "/control/record/nada"))[0] == 404


async def test_many_sends_at_once_are_each_recorded(client: Client, receiver: Receiver) -> None:
    texts = [f"mensagem {number}" for number in range(300)]
    answers = await asyncio.gather(*(client.send(text={"body": text}) for text in texts))
    rows = await client.record("graph")
    assert sorted(row["text"] for row in rows) == sorted(texts)
    assert {row["wamid"] for row in rows} == {answer["messages"][0]["id"] for _, answer in answers}
    await until(receiver.got, 600, 10)


async def test_wrong_control_input_is_400(client: Client) -> None:
    for path, body in [
        ("configure", {"nubmers": {}}),
        ("patient", {"from": WA_ID}),
        ("patient", {"phone_number_id": "999", "from": WA_ID}),
        ("faults", [{"target": "graph.send", "fault": "explode"}]),
        ("post", {"body": "x"}),
        ("agent", {"wa_id": "0", "text": "x"}),
    ]:
        status, answer = await client.call("POST", "/control/" + path, body)
        assert (status, "error" in answer) == (400, True), path


async def test_patients_talk_until_stopped(client: Client, receiver: Receiver) -> None:
    stop = asyncio.Event()
    talking = asyncio.create_task(talk(client.base, NUMBER, 100, stop))
    await until(receiver.got, 5)
    stop.set()
    assert await asyncio.wait_for(talking, 2) >= 5
    assert all(value["messages"][0]["from"].startswith("551190000") for value in receiver.values())
