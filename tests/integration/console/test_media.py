"""A conversation with everything in it; files through the console; a channel that is ill."""

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from router.control import contacts
from router.control.desk import Desk
from router.domain.conversation import Conversation
from router.domain.job import Breaker, native_gate
from router.domain.media import MediaState
from router.domain.message import Author, Content, Direction, Status
from router.domain.ports import Kind, Tx
from router.storage.queries import callbacks
from tests.integration.console.conftest import Enter
from tests.integration.control.desk_scene import (
    LUA,
    SOL,
    Numbers,
    heard,
    keep,
    open_conversation,
    say,
)

pytestmark = pytest.mark.postgres
PNG = b"\x89PNG" + bytes(range(40))
OUT = {"direction": Direction.OUTBOUND, "author": Author.HUMAN, "status": Status.SENT}


@pytest.fixture
async def talk(desk: Desk) -> Conversation:
    return await open_conversation(desk)


async def test_files_are_shown_or_what_is_missing(desk: Desk, enter: Enter, talk: Conversation) -> None:
    picture = await keep(desk, await say(desk, talk, "", content=Content("image", "olhe")), PNG)
    sound = await keep(desk, await say(desk, talk, "", content=Content("audio")), b"OggS1")
    paper = await keep(desk, await say(desk, talk, "", content=Content("document")), b"%PDF1", name="<b>.pdf")
    for kind, state, code in (
        ("image", "waiting", None), ("audio", "waiting", None), ("image", "gone", "gone"),
        ("video", "refused", "too_large"),
    ):  # fmt: skip
        message = await say(desk, talk, "", content=Content(kind))
        await keep(desk, message, state=MediaState(state), error_code=code)
    agent, auditor = await enter(SOL, "agent"), await enter(SOL, "auditor")
    page = await agent.page(f"/console/conversas/{talk.id}")
    assert f'<img src="/console/arquivos/{picture.id}"' in page
    assert f'<audio controls preload="metadata" src="/console/arquivos/{sound.id}"' in page
    assert f'<a class="download" href="/console/arquivos/{paper.id}" download>&lt;b&gt;.pdf' in page
    for words in (
        "[imagem: ainda não baixada]", "[áudio: ainda não baixado]", "[imagem indisponível]",
        "[arquivo recusado: grande demais]",
    ):  # fmt: skip
        assert words in page
    assert page.count("data-fetch=") == 4
    assert "data-fetch=" not in await auditor.page(f"/console/conversas/{talk.id}")


async def test_a_file_is_streamed_to_who_may_see_it(desk: Desk, enter: Enter, talk: Conversation) -> None:
    picture = await keep(desk, await say(desk, talk, "x"), PNG, name="a.png")
    page = await keep(desk, await say(desk, talk, "x"), b"<script>alert(1)</script>", name="a.html")
    agent = await enter(SOL, "agent")
    answer = await agent.http.get(f"/console/arquivos/{picture.id}")
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''a.png"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    part = await agent.http.get(f"/console/arquivos/{picture.id}", headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, PNG[4:10])
    assert part.headers["content-range"] == "bytes 4-9/44"
    rest = await agent.http.get(f"/console/arquivos/{picture.id}", headers={"Range": "bytes=40-"})
    assert (rest.content, rest.headers["content-length"]) == (PNG[40:], "4")
    beyond = await agent.http.get(f"/console/arquivos/{picture.id}", headers={"Range": "bytes=44-"})
    assert beyond.status_code == 416
    active = await agent.http.get(f"/console/arquivos/{page.id}")
    assert active.headers["content-disposition"].startswith("attachment")
    assert active.headers["content-type"] == "application/octet-stream"
    other = await (await enter(LUA, "admin")).http.get(f"/console/arquivos/{picture.id}")
    assert (other.status_code, "não é da sua clínica" in other.text) == (404, True)


async def test_a_file_is_taken_in_to_be_sent(desk: Desk, enter: Enter, talk: Conversation) -> None:
    agent, auditor = await enter(SOL, "product"), await enter(SOL, "auditor")
    at = f"/console/conversas/{talk.id}/arquivo?filename=foto.png"
    assert (await agent.http.post(at, content=PNG)).status_code == 403
    token = {"X-Figueira-Csrf": await agent.csrf()}
    large = await agent.http.post(at, content=bytes(desk.media_limit_bytes + 1), headers=token)
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    kept = await agent.http.post(at, content=PNG + bytes(300_000), headers=token)
    assert (kept.status_code, kept.json()["mime"]) == (201, "image/png")
    body = {"media": {"media_id": kept.json()["id"], "caption": "olhe"}}
    sent = await agent.http.post(f"/v1/conversations/{talk.id}/messages", json=body, headers=token)
    assert sent.status_code == 202, sent.text
    assert f'<img src="/console/arquivos/{kept.json()["id"]}" alt="foto.png"' in await agent.page(
        f"/console/conversas/{talk.id}"
    )
    looks = await auditor.http.post(at, content=PNG, headers={"X-Figueira-Csrf": await auditor.csrf()})
    assert looks.status_code == 403
    theirs = await open_conversation(desk, "wa-lua")
    foreign = await agent.http.post(f"/console/conversas/{theirs.id}/arquivo", content=PNG, headers=token)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_conversation")


async def test_what_is_no_text_is_told_in_words(desk: Desk, enter: Enter, talk: Conversation) -> None:
    place = {"latitude": -23.5, "longitude": -46.6, "name": "Clínica", "address": "Rua <1>"}
    template = {"name": "lembrete", "components": [{"parameters": [{"type": "text", "text": "amanhã"}]}]}
    cards = [{"name": {"formatted_name": "Bia"}, "phones": [{"phone": "+55 11 5555"}]}]
    first = await say(desk, talk, "quanto custa?", external_id="w1")
    for content, fields in (
        (Content("location", "Clínica", {"location": place}), {}),
        (Content("contacts", "Bia", {"contacts": cards}), {}),
        (Content("reaction", "😀", {"reaction": {"message_id": "w1"}}), {}),
        (Content("edit", "quanto é?", {"edit": {"original_message_id": "w1"}}), {}),
        (Content("interactive", "às 10h", {"interactive": {"type": "list_reply"}}), {}),
        (Content("template", None, {"template": template}), OUT),
        (Content("text", "claro", {"reply_to": str(first.id)}), OUT | {"metadata": {"chunk": [2, 3]}}),
        (Content("text", "e aí?"), OUT | {"status": Status.FAILED, "error_code": "131047"}),
        (Content("text", "oi?"), OUT | {"status": Status.FAILED, "error_code": "777"}),
    ):
        await say(desk, talk, "", content=content, **fields)
    page = await (await enter(SOL, "agent")).page(f"/console/conversas/{talk.id}")
    for words in (
        "https://www.openstreetmap.org/?mlat=-23.5&amp;mlon=-46.6", "Rua &lt;1&gt;", "<strong>Bia</strong>",
        "+55 11 5555", "reagiu com 😀", "editada depois", "editou a mensagem", "escolheu", "às 10h",
        "Modelo: lembrete", "amanhã", '<p class="quote">quanto custa?</p>', "parte 2 de 3",
        "janela de 24 h fechada: use um modelo", '<p class="failure">777</p>',
    ):  # fmt: skip
        assert words in page, words


async def test_the_window_and_the_opt_out_stand_above_the_talk(
    desk: Desk, enter: Enter, talk: Conversation
) -> None:
    agent, admin = await enter(SOL, "agent"), await enter(SOL, "admin")
    at = f"/console/conversas/{talk.id}"
    assert "anela" not in await agent.page(at)  # this kind has none
    assert 'id="modelo"' not in await agent.page(at)
    cast("dict[str, Kind]", desk.kinds)["whatsapp"] = Numbers("whatsapp", window_hours=24)
    assert "Janela fechada: só modelos" in await agent.page(at)
    await heard(desk, talk, datetime(2026, 1, 2, 14, 32, tzinfo=UTC) + timedelta(days=36500))
    page = await agent.page(at)
    assert "Janela aberta até <time" in page
    assert "14:32 UTC" in page
    assert 'id="modelo"' in page
    assert "pediu para não receber" not in page
    assert 'id="descadastro"' not in page
    await contacts.opt_out(desk, talk.contact_id, True, reason="r", by="cli")
    assert "pediu para não receber mensagens" in await agent.page(at)
    assert "não quer mensagens" in await agent.page("/console/conversas")
    assert "Voltar a enviar" in await admin.page(at)
    lifted = await admin.http.put(
        f"/v1/contacts/{talk.contact_id}/opt-out", json={"opted_out": False, "reason": "voltou"},
        headers={"X-Figueira-Csrf": await admin.csrf()},
    )  # fmt: skip
    assert lifted.status_code == 200
    assert "pediu para não receber" not in await agent.page(at)


async def test_unread_ones_are_marked_and_asked_for(desk: Desk, enter: Enter, talk: Conversation) -> None:
    await say(desk, talk, "olá de novo")
    await heard(desk, talk, datetime.now(UTC))
    quiet = await open_conversation(desk)
    agent = await enter(SOL, "agent")
    page = await agent.page("/console/conversas?leitura=nova")
    assert (str(talk.id) in page, str(quiet.id) in page) == (True, False)
    assert 'class="unread"' in page
    token = {"X-Figueira-Csrf": await agent.csrf()}
    await agent.http.post(f"/v1/conversations/{talk.id}/read", headers=token)
    page = await agent.page("/console/conversas?leitura=lida")
    assert (str(talk.id) in page, 'class="unread"' in page) == (True, False)
    assert 'data-reads="sim"' in await agent.page(f"/console/conversas/{talk.id}")
    auditor = await enter(SOL, "auditor")
    assert 'data-reads=""' in await auditor.page(f"/console/conversas/{talk.id}")


async def test_an_ill_channel_and_a_callback_that_drifted_are_banners(desk: Desk, enter: Enter) -> None:
    visit, lua = await enter(SOL, "admin"), await enter(LUA, "admin")
    ill = '<p class="banner down ill" role="status" data-gate="native:wa-sol" hidden>'
    assert ill in await visit.page("/console")

    async def fall(tx: Tx) -> None:
        now = await tx.now()
        gate = native_gate("wa-sol")
        await tx.save_breaker(Breaker(gate, 1, now, now + timedelta(hours=1), "190"))
        await callbacks.keep(
            tx, channel="wa-sol", tenant=SOL, level="app", url="https://us.example", previous={}, by="cli"
        )
        await callbacks.checked(tx, "wa-sol", "level_moved")

    await desk.store.transact(fall)
    page = await visit.page("/console")
    assert ill not in page
    assert "token recusado pelo provedor (190)" in page
    assert '<span data-since><time datetime="' in page
    assert "o endereço de entrega foi trocado no provedor" in page
    told = (await visit.http.get("/console/agora")).json()
    assert list(told["drifts"]) == ["wa-sol"]
    words = {one["gate"]: one["words"] for one in told["gates"]}
    assert words["native:wa-sol"] == "token recusado pelo provedor (190)"
    assert words["native:sms-sol"] is None
    assert (await lua.http.get("/console/agora")).json()["drifts"] == {}
    assert "190" not in (await lua.http.get("/console/agora")).text
