"""Planted secrets, numbers and words appear in no log, no metric and no error, whatever goes wrong."""

import json
import re
from typing import Any

import pytest

from tests.acceptance.outside import Outside, as_meta, envelope, eventually, message, outside
from tests.acceptance.scene import (
    ACCESS_TOKEN,
    APP_SECRET,
    RC_TOKEN,
    VERIFY_TOKEN,
    WEBHOOK_TOKEN,
    Line,
    staged,
)

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("acceptance-secrecy")]
SOL = Line("sol", "100200300")
RIO = Line("rio", "100200301")
PATIENT, OTHER = "5511900000061", "5511900000062"
WORDS = "minha glicemia plantada deu 187"
NAME = "Marilda Plantada"


async def test_nothing_planted_is_told(request: pytest.FixtureRequest) -> None:
    with staged([SOL, RIO]) as scene:
        scene.flag("native", "--channel", SOL.slug)
        async with outside(scene) as out:
            told = await _everything_happens(out)
            for path in ("/metrics", "/health/ready", "/health/live", "/openapi.json"):
                async with out._session.get(scene.url + path) as answer:
                    told.append(await answer.text())
        scene.stop()
        logs = scene.logs()
    lines = [json.loads(line) for line in logs.splitlines() if line]
    assert {"serve.started", "serve.stopped"} <= {line["event"] for line in lines}, (
        "logs are JSON, line by line"
    )
    local = (PATIENT[2:], OTHER[2:], PATIENT[4:], "glicemia", "Marilda", "pergunta plantada")
    planted = [APP_SECRET, ACCESS_TOKEN, VERIFY_TOKEN, WEBHOOK_TOKEN, RC_TOKEN, scene.key, *local]
    for place in (logs, *told):
        found = [word for word in planted if word in place]
        assert not found, re.sub(r"\s+", " ", place)[:500]


async def _everything_happens(out: Outside) -> list[str]:
    """Traffic on both paths, wrong signatures, wrong calls, errors of providers, dead letters: the error bodies."""
    for line in (SOL, RIO):
        said = message(PATIENT, WORDS)
        await out.deliver(line.slug, as_meta(envelope(line.number, said, names={PATIENT: NAME})))
        assert await out.post(line.slug, as_meta(envelope(line.number, said)), **_signed(APP_SECRET)) == 401
    await out.quiet()
    await _send(out, "sol", "errado 131047", "error_code", code=131047)
    await _send(out, "sol", "queda 190", "error_code", code=190)
    await _send(out, "sol", "meia resposta", "half_answer")
    await out.sandbox.fault("status", "rocketchat.app", status=400, times=1)
    await out.say(RIO, OTHER, "pergunta plantada recusada")
    await out.sandbox.fault("status", "rocketchat.rest", status=401, times=2)
    await out.say(RIO, OTHER, "pergunta plantada outra")
    assert (await out.sandbox.rest("POST", "chat.sendMessage", {"message": {}}))[0] in {400, 401}
    told = [await _error(out, *call) for call in _wrong_calls(out.scene.key)]
    await out.sandbox.call("DELETE", "/control/faults")
    await eventually(lambda: out.figueira("deadletters", "list"), "dead letters")
    letters = (await out.figueira("deadletters", "list"))["items"]
    assert {"131047", "400"} <= {letter["reason"] for letter in letters}
    return [*told, json.dumps(letters)]


def _signed(words: str) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={words}"}


async def _send(out: Outside, channel: str, words: str, fault: str, **more: Any) -> None:
    await out.sandbox.fault(fault, "graph.send", times=1, **more)
    status, answer = await out.send({"channel": channel, "to": PATIENT, "text": f"{WORDS} {words}"}, words)
    assert status == 202
    await out.reaches(answer["id"], "failed", "sent", "delivered", seconds=30)


def _wrong_calls(key: str) -> list[tuple[str, str, object, str]]:
    good = f"Bearer {key}"
    return [
        ("POST", "/v1/messages", {"channel": "rio", "to": "5511900000069", "text": WORDS}, good),
        ("POST", "/v1/messages", {"channel": APP_SECRET, "to": PATIENT, "text": WORDS}, good),
        ("POST", "/v1/messages", {"channel": "sol", "to": f"{PATIENT}x", "text": WORDS}, good),
        ("POST", "/v1/messages", {"channel": "sol", "contact_id": PATIENT, "text": WORDS}, good),
        ("POST", "/v1/messages", {"channel": "sol", "to": PATIENT, "text": {"body": WORDS}}, good),
        ("POST", "/v1/messages", [WORDS, PATIENT], good),
        ("POST", "/v1/messages", {"channel": "sol", "to": PATIENT, "text": WORDS}, f"{good}x"),
        ("GET", f"/v1/messages/{PATIENT}", None, good),
        ("GET", f"/v1/conversations?cursor={PATIENT}&limit={PATIENT}", None, good),
        ("GET", f"/v1/nothing/{PATIENT}", None, good),
        ("PUT", "/v1/flags/whatsapp", {"stage": WORDS, "reason": PATIENT}, good),
        ("POST", f"/webhooks/rocketchat?token={WEBHOOK_TOKEN}", {"text": WORDS, "token": "wrong"}, ""),
        ("POST", f"/webhooks/{PATIENT}", {"text": WORDS}, ""),
        (
            "GET",
            f"/webhooks/sol?hub.mode=subscribe&hub.verify_token=x{VERIFY_TOKEN}&hub.challenge=1",
            None,
            "",
        ),
    ]


async def _error(out: Outside, method: str, path: str, body: object, bearer: str) -> str:
    headers = {"Authorization": bearer} if bearer else {}
    async with out._session.request(method, out.scene.url + path, json=body, headers=headers) as answer:
        text = await answer.text()
        assert 400 <= answer.status < 500, (method, answer.status)
        if path.startswith("/v1"):
            assert answer.content_type == "application/problem+json"
    return text
