"""The console's scripts in a real browser, over the real application: a file, a template, an opt-out, an ill channel."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import uvicorn
from fastapi import FastAPI

from router.control import access, contacts, conversations, flags
from router.control.desk import Desk
from router.domain.conversation import Conversation
from router.domain.job import Breaker, native_gate
from router.domain.media import MediaState
from router.domain.message import Content
from router.domain.ports import Kind
from tests.acceptance.browser import Page, browser, chromium
from tests.integration.control.desk_scene import SOL, Numbers, heard, keep, open_conversation, say

pytestmark = [pytest.mark.server, pytest.mark.postgres]
PICK = """(() => {
  const list = new DataTransfer();
  list.items.add(new File([new Uint8Array([137, 80, 78, 71, 1])], %s, {type: "image/png"}));
  document.querySelector("#arquivo").files = list.files;
})()"""


@pytest.fixture(scope="module")
def program() -> str:
    found = chromium()
    if found is None:
        words = "chromium is not on this machine: apt-get install chromium"
        if os.environ.get("FIGUEIRA_TEST_SERVERS") == "require":
            pytest.fail(words)
        pytest.skip(words)
    return found


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def talk(desk: Desk) -> Conversation:
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = Numbers("whatsapp", window_hours=24)
    await flags.set_stage(desk, "whatsapp", stage="native", reason="go", by="cli")
    made = await open_conversation(desk)
    await say(desk, made, "bom dia", external_id="wamid.1")
    await heard(desk, made, datetime.now(UTC) - timedelta(hours=1))
    return made


async def _enter(desk: Desk, page: Page, url: str) -> None:
    password = await access.create_user(desk, "chefe@sol.example", SOL, "admin")
    await page.go(f"{url}/console")
    await page.until("location.pathname === '/console/login'")
    await page.fill("#email", "chefe@sol.example")
    await page.fill("#password", password)
    await page.click("form.login button")
    await page.until("location.pathname === '/console' && document.querySelector('.live.on')")


async def test_an_agent_sends_a_file_and_a_template_and_lifts_an_opt_out(
    desk: Desk, program: str, url: str, talk: Conversation
) -> None:
    lost = await keep(
        desk, await say(desk, talk, "", content=Content("image")), state=MediaState.GONE, error_code="gone"
    )
    async with browser(program) as page:
        await _enter(desk, page, url)
        await page.go(f"{url}/console/conversas/{talk.id}")
        await page.until("document.querySelector('#mensagens').innerText.includes('[imagem indisponível]')")
        for _ in range(100):  # what is on the screen is read
            if not (await conversations.one(desk, talk.id))["unread"]:
                break
            await asyncio.sleep(0.05)
        assert (await conversations.one(desk, talk.id))["unread"] is False

        await page.click(f'[data-fetch="{lost.id}"]')
        await page.until("document.querySelector('#mensagens').innerText.includes('ainda não baixada')")

        await page.js(PICK % json.dumps("raio x.png"))
        await page.fill("#texto", "veja")
        await page.click("#responder button")
        await page.until("document.querySelector('.message.outbound img[alt=\"raio x.png\"]')")
        assert "veja" in await page.text(".message.outbound")
        assert await page.js("document.querySelector('#texto').value") == ""

        await page.click("details.answer summary")
        await page.fill("#modelo-nome", "lembrete")
        await page.fill("#modelo-linhas", "Ana\n\n amanhã ")
        await page.click("#modelo button")
        await page.until("document.querySelector('#mensagens').innerText.includes('Modelo: lembrete')")
        items, _ = await conversations.messages(desk, talk.id)
        (body,) = items[-1]["data"]["template"]["components"]
        assert [one["text"] for one in body["parameters"]] == ["Ana", "amanhã"]

        await contacts.opt_out(desk, talk.contact_id, True, reason="pediu", by="cli")
        await page.fill("#texto", "mais uma")
        await page.click("#responder button")
        await page.until("document.querySelector('#recado.bad')")
        assert await page.text("#recado") == "O contato pediu para não receber mensagens."
        refusal = page.complaints.pop()  # the browser's own line about the 422
        assert ("422" in refusal, page.complaints) == (True, [])
        await page.go(f"{url}/console/conversas/{talk.id}")
        await page.until("document.querySelector('[data-opted]')")
        await page.js("document.querySelector('#descadastro').closest('details').open = true")
        await page.fill("#descadastro-motivo", "voltou a pedir")
        await page.click("#descadastro button")
        await page.until(
            "document.readyState === 'complete' && !document.querySelector('.head [data-opted]')"
        )
        assert (await contacts.one(desk, talk.contact_id))["opted_out"] is False
        assert page.complaints == []


async def test_a_channel_that_falls_ill_is_told_without_reloading(
    desk: Desk, program: str, url: str, talk: Conversation
) -> None:
    gate = native_gate(talk.channel)
    banner = f"document.querySelector('[data-gate=\"{gate}\"]')"
    async with browser(program) as page:
        await _enter(desk, page, url)
        assert await page.js(f"{banner}.hidden") is True
        now = datetime.now(UTC)
        fallen = Breaker(gate, 1, now, now + timedelta(hours=1), "190")
        await desk.store.transact(lambda tx: tx.save_breaker(fallen))
        await page.until(f"!{banner}.hidden")
        told = await page.text(f'[data-gate="{gate}"]')
        assert "token recusado pelo provedor (190), desde" in told
        await desk.store.transact(lambda tx: tx.save_breaker(Breaker(gate)))
        await page.until(f"{banner}.hidden")
        assert page.complaints == []
