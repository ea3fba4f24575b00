"""The console in a real browser over the real product: log in, watch, flip, answer, move, stop, go out."""

import asyncio
import os
import urllib.request
from collections.abc import Iterator

import pytest

from tests.acceptance.browser import Page, browser, chromium
from tests.acceptance.scene import TENANT, Line, Scene, post, staged

pytestmark = [pytest.mark.server, pytest.mark.postgres]

NUMBER = "106540352242922"
TEXT = "Quanto custa <script>alert(1)</script> a limpeza?"
ANSWER = "Bom dia! Custa R$ 180."


@pytest.fixture(scope="module")
def program() -> str:
    found = chromium()
    if found is None:
        words = "chromium is not on this machine: apt-get install chromium"
        if os.environ.get("FIGUEIRA_TEST_SERVERS") == "require":
            pytest.fail(words)
        pytest.skip(words)
    return found


@pytest.fixture(scope="module")
def scene(program: str) -> Iterator[Scene]:
    with staged([Line("whatsapp", NUMBER)], roles={"all": "all"}) as scene:
        _write(scene, "5511990000001")
        yield scene


def _write(scene: Scene, sender: str) -> None:
    message = {"phone_number_id": NUMBER, "from": sender, "name": "Ana Souza", "text": TEXT}
    assert post(f"{scene.sandbox}/control/patient", message)["status"] == 200


def _number(path: str, name: str) -> str:
    return f"Number(document.querySelector('[data-path={path}] [data-number={name}]').textContent)"


async def _enter(page: Page, scene: Scene, email: str, *, role: str, tenant: str = "all") -> None:
    password = scene.figueira("users", "create", email, "--tenant", tenant, "--role", role)["password"]
    await page.go(f"{scene.url}/console")
    await page.until("location.pathname === '/console/login'")
    await page.fill("#email", email)
    await page.fill("#password", password)
    await page.click("form.login button")
    await page.until("location.pathname === '/console' && document.querySelector('.live.on')")


async def test_a_product_manager_watches_flips_and_stops_a_channel(program: str, scene: Scene) -> None:
    async with browser(program) as page:
        await _enter(page, scene, "chefe@sol.example", role="admin")
        assert await page.js("document.cookie") == ""  # HttpOnly
        await page.until(f"{_number('rocketchat', 'inbound')} === 1")
        assert await page.js("document.querySelector('#rocketchat').className") == "banner up"
        assert "Rocket.Chat responde." in await page.text("#rocketchat")

        await page.click('[data-act="flip"]')
        await page.choose("#virar-estagio", "native")
        await page.choose("#virar [name=now]", "on")
        await page.click("#virar [data-preview]")
        await page.until("document.querySelector('#virar .preview.bad')")  # no reason yet
        await page.fill("#virar-motivo", "teste de aceitação")
        await page.click("#virar [data-preview]")
        await page.until("!document.querySelector('#virar [data-apply]').disabled")
        told = await page.text("#virar .preview")
        assert "pula shadow, canary" in told
        assert f"{TENANT}: 1 conversa aberta, 1 muda de caminho agora" in told
        assert scene.figueira("flags", "show", "whatsapp")["revision"] == 0

        await page.click("#virar [data-apply]")
        await page.until("document.querySelector('.badge.stage').textContent === 'native'")
        flag = scene.figueira("flags", "show", "whatsapp")
        assert (flag["stage"], flag["reason"], flag["updated_by"]) == (
            "native", "teste de aceitação", "user:chefe@sol.example",
        )  # fmt: skip
        _write(scene, "5511990000002")  # the page counts it without being asked to
        await page.until(f"{_number('native', 'inbound')} === 1")

        for act, hidden in (("kill", "false"), ("release", "true")):
            await page.click(f'[data-act="{act}"]')
            await page.fill("#parar-motivo", "ensaio")
            await page.click("#parar [data-apply]")
            await page.until(f"document.querySelector('[data-override]').hidden === {hidden}")
        assert page.complaints == []


async def test_an_agent_answers_moves_and_closes(program: str, scene: Scene) -> None:
    scene.figueira("flags", "set", "whatsapp", "native", "--reason", "a native conversation", "--wait")
    _write(scene, "5511990000002")
    async with browser(program) as page:
        await _enter(page, scene, "ana@sol.example", role="agent", tenant=TENANT)
        assert not await page.js("Boolean(document.querySelector('[data-act]'))")
        for _ in range(80):  # the page is no live one: what was just posted may still be on its way in
            await page.go(f"{scene.url}/console/conversas?caminho=native")
            if await page.js("Boolean(document.querySelector('td.main a'))"):
                break
            await asyncio.sleep(0.25)
        await page.click("td.main a")
        await page.until("document.querySelector('#responder')")
        assert TEXT in await page.text("#mensagens")

        await page.fill("#texto", ANSWER)
        await page.click("#responder button")
        await page.until("document.querySelector('.message.outbound .status.delivered')")
        assert ANSWER in await page.text(".message.outbound")

        await page.fill("#motivo", "pedido da paciente")
        await page.click("#mover button")
        await page.until("document.querySelector('[data-pin]')?.textContent === 'Rocket.Chat'")
        assert "pedido da paciente" in await page.text(".decisions")
        await page.click("aside summary")
        await page.click("#encerrar button")
        await page.until("document.querySelector('.head .state.closed')")
        assert page.complaints == []

        await page.click(".who button")
        await page.until("location.pathname === '/console/login'")
        await page.go(f"{scene.url}/console/conversas")
        await page.until("location.pathname === '/console/login'")


def test_the_console_loads_nothing_from_elsewhere(scene: Scene) -> None:
    with urllib.request.urlopen(f"{scene.url}/console/login", timeout=5) as answer:  # noqa: S310 - our own
        page = answer.read().decode()
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "//" not in page.replace("<!doctype", "")
