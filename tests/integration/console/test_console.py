"""Who comes in, what each role is offered, and that no clinic sees another's words."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from router import console
from router.api.auth import ROLES
from router.console.throttle import TRIES, WINDOW_SECONDS
from router.console.visitor import Visitor
from router.control import access, flags
from router.control.desk import Desk
from router.domain.job import ROCKETCHAT_GATE, Breaker, DeadLetter, Job, JobKind, outbound_lane
from router.domain.message import Author, Direction, Status
from router.domain.ports import Tx
from tests.integration.console.conftest import Enter, Visit
from tests.integration.control.desk_scene import LUA, SOL, keep, open_conversation, say

pytestmark = pytest.mark.postgres

SECRET = "segredo da lua"
OPEN = {"/console/login"}
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def _addresses(app: FastAPI) -> list[tuple[str, str]]:
    routes = [context.route for context in iter_route_contexts(app.routes)]
    found = [(str(one.path), one.methods or set()) for one in routes if isinstance(one, APIRoute)]
    return [(method, path) for path, methods in found if path.startswith("/console") for method in methods]


# coming in -------------------------------------------------------------------------------------------------


async def test_every_page_but_the_login_leads_a_stranger_to_the_login(
    app: FastAPI, stranger: httpx.AsyncClient
) -> None:
    addresses = _addresses(app)
    assert len(addresses) >= 9
    for method, path in addresses:
        if path in OPEN:
            continue
        answer = await stranger.request(method, path.format(conversation_id=ID, job_id=ID, media_id=ID))
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/console/login?voltar=/console"), path
    stranger.cookies.set("figueira_session", "made-up")
    assert (await stranger.get("/console")).status_code == 303
    assert (await stranger.get("/")).headers["location"].startswith("/console/login")


async def test_a_login_sets_a_strict_cookie_and_goes_back(desk: Desk, stranger: httpx.AsyncClient) -> None:
    password = await access.create_user(desk, "ana@sol.example", SOL, "agent")
    form = {"email": " Ana@Sol.example ", "password": password, "voltar": f"/console/conversas/{ID}"}
    answer = await stranger.post("/console/login", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/conversas/{ID}")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("figueira_session=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "; secure" not in cookie
    for evil in (
        "//evil.example",
        "https://evil.example",
        "/console/../..",
        "/console//evil",
        "/v1/stream",
        "\\\\e",
    ):
        answer = await stranger.post("/console/login", data={**form, "voltar": evil})
        assert answer.headers["location"] == "/console"


@pytest.mark.parametrize(("secure", "scheme"), [(True, "http"), (False, "https")])
async def test_the_cookie_is_for_https_where_there_is_https(
    desk: Desk, app: FastAPI, secure: bool, scheme: str
) -> None:
    console.mount(app, secure=secure)
    password = await access.create_user(desk, "ana@sol.example", SOL, "agent")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=f"{scheme}://figueira"
    ) as client:
        answer = await client.post("/console/login", data={"email": "ana@sol.example", "password": password})
    assert "; secure" in answer.headers["set-cookie"].lower()


async def test_what_is_wrong_is_not_told_apart(desk: Desk, stranger: httpx.AsyncClient) -> None:
    await access.create_user(desk, "ana@sol.example", SOL, "agent")
    wrong = [
        {"email": "ana@sol.example", "password": "not it"},
        {"email": "nobody@sol.example", "password": "not it"},
        {"email": "a\x00na", "password": "x" * 5000},
        {},
    ]
    pages = set()
    for form in wrong:
        answer = await stranger.post("/console/login", data=form)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        pages.add(answer.text)
    assert len(pages) == 1
    assert "E-mail ou senha não conferem." in pages.pop()


async def test_too_many_tries_are_refused_even_with_the_password(
    desk: Desk, app: FastAPI, stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = await access.create_user(desk, "ana@sol.example", SOL, "agent")
    right = {"email": "ANA@sol.example", "password": password}
    for _ in range(TRIES):
        assert (await stranger.post("/console/login", data={**right, "password": "no"})).status_code == 401
    answer = await stranger.post("/console/login", data=right)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, str(int(WINDOW_SECONDS)))

    other = httpx.ASGITransport(app, client=("10.0.0.9", 1))
    async with httpx.AsyncClient(transport=other, base_url="http://figueira") as elsewhere:
        assert (await elsewhere.post("/console/login", data=right)).status_code == 303
    now = desk.clock.monotonic()
    monkeypatch.setattr(type(desk.clock), "monotonic", lambda _: now + WINDOW_SECONDS)
    assert (await stranger.post("/console/login", data=right)).status_code == 303


async def test_another_site_cannot_log_somebody_in(desk: Desk, stranger: httpx.AsyncClient) -> None:
    password = await access.create_user(desk, "ana@sol.example", SOL, "agent")
    answer = await stranger.post(
        "/console/login",
        data={"email": "ana@sol.example", "password": password},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_going_out_needs_the_token_and_ends_the_session(enter: Enter) -> None:
    visit = await enter(SOL, "agent")
    for data in ({}, {"csrf": "0" * 64}):
        assert (await visit.http.post("/console/logout", data=data)).status_code == 403
    held = visit.http.cookies["figueira_session"]
    answer = await visit.http.post("/console/logout", data={"csrf": await visit.csrf()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
    visit.http.cookies.set("figueira_session", held)
    assert (await visit.http.get("/console")).status_code == 303


async def test_every_answer_carries_the_headers(enter: Enter, stranger: httpx.AsyncClient) -> None:
    visit = await enter(SOL, "admin")
    answers = [
        await visit.http.get("/console"),
        await visit.http.get("/console/conversas/none"),
        await visit.http.get("/console/nothing"),
        await stranger.get("/console"),
        await stranger.get("/console/login"),
        await stranger.get("/console/static/figueira.css"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert answers[0].headers["cache-control"] == "no-store"
    for answer in answers[:5]:
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
    assert "content-security-policy" not in (await stranger.get("/health/live")).headers


# who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_pages_offer_what_the_interface_allows(role: str) -> None:
    visitor, scopes = Visitor("a@b", SOL, role, ""), ROLES[role]

    def may(scope: str) -> bool:
        return "all" in scopes or scope in scopes

    assert may("conversations:read")
    assert visitor.talks == may("conversations:write")
    assert visitor.flips == may("flags:write")
    assert visitor.operates == may("operations:read")
    assert visitor.replays == may("operations:write")
    assert visitor.curates == may("contacts:write")


@pytest.mark.parametrize(
    ("tenant", "role", "flip", "kill"),
    [
        ("all", "admin", True, True), ("all", "product", True, True), (SOL, "product", True, False),
        ("all", "agent", False, False), ("all", "auditor", False, False),
    ],
)  # fmt: skip
async def test_who_may_flip_is_offered_it(
    desk: Desk, enter: Enter, tenant: str, role: str, flip: bool, kill: bool
) -> None:
    visit = await enter(tenant, role)
    page = await visit.page("/console")
    assert ('data-act="flip"' in page) == flip
    assert ('data-act="kill"' in page) == kill

    body = {"stage": "native", "reason": "r", **({"tenants": [tenant]} if tenant != "all" else {})}
    without = await visit.http.put("/v1/flags/whatsapp", json=body)
    assert (without.status_code, without.json()["code"]) == (403, "csrf")
    sent = await visit.http.put(
        "/v1/flags/whatsapp", json=body, headers={"X-Figueira-Csrf": await visit.csrf()}
    )
    assert sent.status_code == (200 if flip else 403)
    assert ((await flags.show(desk, "whatsapp")).revision == 1) == flip
    assert ('data-stage="native"' in await visit.page("/console")) == flip


async def test_an_agent_talks_and_an_auditor_only_looks(desk: Desk, enter: Enter) -> None:
    conversation = await open_conversation(desk)
    await say(desk, conversation, "quero <b>marcar</b>")
    address = f"/console/conversas/{conversation.id}"
    agent, auditor = await enter(SOL, "agent"), await enter(SOL, "auditor")
    for visit, offered in ((agent, True), (auditor, False)):
        page = await visit.page(address)
        assert "quero &lt;b&gt;marcar&lt;/b&gt;" in page
        assert ('id="responder"' in page) == offered
        assert ('id="mover"' in page) == offered
        assert ('id="encerrar"' in page) == offered
    assert "data-act" not in await agent.page("/console")
    await agent.page("/console/mortas", 403)
    await auditor.page("/console/mortas")


# channels and conversations --------------------------------------------------------------------------------


async def test_the_channels_show_counters_stage_and_the_state_of_rocketchat(desk: Desk, enter: Enter) -> None:
    conversation = await open_conversation(desk)
    await say(desk, conversation, "oi")
    await flags.set_stage(desk, "whatsapp", stage="canary", percent=35, reason="r", by="cli")
    visit = await enter("all", "admin")
    page = await visit.page("/console")
    assert "canary 35 %" in page
    assert 'class="banner up"' in page
    told = (await visit.http.get("/console/agora")).json()
    one = next(one for one in told["channels"] if one["channel"] == "wa-sol")
    assert one["paths"]["rocketchat"]["inbound"] == 1

    async def down(tx: Tx) -> None:
        now = await tx.now()
        await tx.save_breaker(
            Breaker(ROCKETCHAT_GATE, failures=9, opened_at=now, open_until=now + timedelta(hours=1))
        )

    await desk.store.transact(down)
    page = await visit.page("/console")
    assert 'class="banner down"' in page


async def test_why_a_kill_was_made_stays_with_who_sees_all(desk: Desk, enter: Enter) -> None:
    await flags.kill(desk, "whatsapp", reason=SECRET, by="user:chefe@lua.example")
    bound = await (await enter(SOL, "product")).http.get("/console/agora")
    assert SECRET not in bound.text
    assert "chefe" not in bound.text
    assert SECRET in (await (await enter("all", "product")).http.get("/console/agora")).text


async def test_conversations_are_filtered_and_paged(desk: Desk, enter: Enter) -> None:
    for number in range(31):
        await say(desk, await open_conversation(desk), f"mensagem {number:02}")
    await say(desk, await open_conversation(desk, "sms-sol"), "por sms")
    visit = await enter(SOL, "agent")
    page = await visit.page("/console/conversas?canal=wa-sol&caminho=rocketchat&estado=open&q=")
    assert page.count('class="main"') == 30
    assert "por sms" not in page
    following = page.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "canal=wa-sol" in following
    assert (await visit.page(following)).count('class="main"') == 1
    assert "Nenhuma conversa" in await visit.page("/console/conversas?estado=closed")
    assert "mensagem 07" in await visit.page("/console/conversas?q=mensagem%2007")
    for wrong, status in (("caminho=x", 422), ("cursor=x", 422), ("canal=%00", 404), ("canal=wa-lua", 404)):
        assert "Erro" in await visit.page(f"/console/conversas?{wrong}", status)


async def test_a_conversation_shows_its_messages_and_why(desk: Desk, enter: Enter) -> None:
    conversation = await open_conversation(desk)
    for number in range(101):
        await say(desk, conversation, f"m{number:03}")
    await say(
        desk,
        conversation,
        "resposta",
        direction=Direction.OUTBOUND,
        author=Author.HUMAN,
        status=Status.UNKNOWN,
    )
    visit = await enter(SOL, "agent")
    page = await visit.page(f"/console/conversas/{conversation.id}")
    assert "sem confirmação" in page
    assert "Por que aqui" in page
    assert "m100" in page
    assert "m001" not in page
    earlier = page.partition('href="?antes=')[2].partition('"')[0]
    assert "m001" in await visit.page(f"/console/conversas/{conversation.id}?antes={earlier}")
    part = await visit.page(f"/console/conversas/{conversation.id}/mensagens")
    assert part.count("<li") == 100
    assert "<html" not in part


# dead letters ----------------------------------------------------------------------------------------------


async def _dead_letter(desk: Desk, slug: str) -> Job:
    conversation = await open_conversation(desk, slug)
    now = datetime.now(UTC)
    message = await say(desk, conversation, SECRET, direction=Direction.OUTBOUND, status=Status.FAILED)
    job = Job(
        id=desk.ids.new(), tenant=conversation.tenant, channel=slug, kind=JobKind.SEND,
        lanes=(outbound_lane(conversation.id),), gate=ROCKETCHAT_GATE, created_at=now, due_at=now, path=conversation.path,
        conversation_id=conversation.id, message_id=message.id, pin_version=conversation.pin_version,
    )  # fmt: skip
    await desk.store.transact(lambda tx: tx.add_dead_letter(DeadLetter(job, "exhausted", now)))
    return job


async def test_a_dead_letter_is_replayed_by_an_admin_with_the_token(desk: Desk, enter: Enter) -> None:
    job = await _dead_letter(desk, "wa-sol")
    address = f"/console/mortas/{job.id}/reenviar"
    auditor, admin = await enter(SOL, "auditor"), await enter(SOL, "admin")
    assert f"figueira deadletters replay {job.id}" in await auditor.page("/console/mortas")
    assert (await _replay(auditor, address)).status_code == 403
    assert (await admin.http.post(address)).status_code == 403

    page = await admin.page("/console/mortas")
    assert "tentativas esgotadas" in page
    assert SECRET not in page
    assert (await _replay(admin, "/console/mortas/all/reenviar")).status_code == 403
    assert (await _replay(admin, address)).status_code == 303
    assert "Nenhuma carta morta" in await admin.page("/console/mortas?reenviada=1")
    again = await _replay(admin, address)
    assert again.status_code == 409
    assert "já foi reenviada" in again.text


async def _replay(visit: Visit, address: str) -> httpx.Response:
    return await visit.http.post(address, data={"csrf": await visit.csrf()})


# isolation -------------------------------------------------------------------------------------------------


async def test_no_page_shows_another_clinic(desk: Desk, app: FastAPI, enter: Enter) -> None:
    job = await _dead_letter(desk, "wa-lua")
    conversation = job.conversation_id
    message_id = job.message_id
    assert message_id is not None
    message = await desk.store.transact(lambda tx: tx.message(message_id))
    assert message is not None
    file = await keep(desk, message, SECRET.encode())
    await say(desk, await open_conversation(desk), "da nossa")
    visit, whole = await enter(SOL, "admin"), await enter("all", "admin")
    assert SECRET in await whole.page(f"/console/conversas/{conversation}")
    for method, path in _addresses(app):
        if method != "GET":
            continue
        answer = await visit.http.get(path.format(conversation_id=conversation, media_id=file.id))
        # One Rocket.Chat's history is every clinic's.
        whole_only = path.startswith("/console/imports")
        assert answer.status_code == (404 if "{" in path else 403 if whole_only else 200), path
        for word in (SECRET, LUA, "wa-lua", str(job.id)):
            assert word not in answer.text, path
    assert (await _replay(visit, f"/console/mortas/{job.id}/reenviar")).status_code == 404
    assert "da nossa" in await visit.page("/console/conversas")
