"""The pages: channels, conversations, dead letters. What changes anything else than a dead letter goes by /v1."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from router.console.talk import paused, shown
from router.console.visitor import AtDesk, Closed, Seen, Visitor, meant, only, render
from router.console.words import DRIFTS
from router.control import channels, conversations, deadletters
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.job import ROCKETCHAT_GATE

router = APIRouter(include_in_schema=False, route_class=Closed)

PAGE: Final = 30
MESSAGES: Final = 100
SEARCH: Final = 200  # characters
READ: Final = {"nova": True, "lida": False}
"""Whether a conversation holds what nobody has read."""


@router.get("/")
async def home() -> Response:
    """Where a person who only knows the address ends up."""
    return RedirectResponse("/console", HTTPStatus.SEE_OTHER)


# channels --------------------------------------------------------------------------------------------------


@router.get("/console")
async def channels_page(request: Request, desk: AtDesk, visitor: Seen) -> Response:
    """Every channel the visitor may see, both paths side by side."""
    return render(request, "canais.html", **await _now(desk, visitor))


@router.get("/console/agora")
async def now(desk: AtDesk, visitor: Seen) -> Response:
    """{channels: as the stream has them, gates: [{gate, open, opened_at, words}], drifts: {slug: words}}: what the page
    asks for again and again."""
    return JSONResponse(await _now(desk, visitor))


async def _now(desk: Desk, visitor: Visitor) -> dict[str, Any]:
    listed = await channels.overview(desk, tenant=visitor.bound)
    for one in listed:
        override = one["override"]
        if override is not None and visitor.bound is not None:  # whose and why may be about another tenant
            one["override"] = {"stage": override.get("stage"), "at": override.get("at")}
    gates = await channels.breakers(desk, tenant=visitor.bound)
    told = [
        {name: gate[name] for name in ("gate", "open", "opened_at")}
        | {"words": paused(gate["reason"]) if gate["open"] else None}
        for gate in gates
    ]
    drifts = await channels.drifts(desk, tenant=visitor.bound)
    return {
        "channels": listed,
        "gates": told,
        "drifts": {slug: DRIFTS.get(drift, drift) for slug, drift in drifts.items()},
        "rocketchat_gate": ROCKETCHAT_GATE,
    }


# conversations ---------------------------------------------------------------------------------------------


@router.get("/console/conversas")
async def conversations_page(
    request: Request, desk: AtDesk, visitor: Seen, canal: str = "", caminho: str = "", estado: str = "",
    leitura: str = "", q: str = "", cursor: str = "",
) -> Response:  # fmt: skip
    """By last activity, newest first."""
    own = [one for _, one in sorted(desk.channels.items()) if visitor.bound in (None, one.tenant)]
    if canal and canal not in {one.slug for one in own}:
        raise Rejected("unknown_channel", "there is no such channel", 404)
    asked = {"canal": canal, "caminho": caminho, "estado": estado, "leitura": leitura, "q": q[:SEARCH]}
    items, following = await conversations.listing(
        desk,
        tenant=visitor.bound,
        channel=canal or None,
        path=caminho or None,
        state=estado or None,
        unread=READ.get(leitura),
        q=asked["q"] or None,
        cursor=cursor or None,
        limit=PAGE,
    )
    kept = {name: value for name, value in asked.items() if value}
    return render(
        request, "conversas.html", items=items, following=following, asked=asked, kept=kept, channels=own
    )


@router.get("/console/conversas/{conversation_id}")
async def conversation_page(
    request: Request, desk: AtDesk, visitor: Seen, conversation_id: str, antes: str = ""
) -> Response:
    """What was said, why it is on its path, and what an attendant may do."""
    one = await conversations.one(desk, conversation_id, visitor.bound)
    made, _ = await conversations.decisions(desk, conversation_id, tenant=visitor.bound, limit=None)
    said = await _said(desk, visitor, conversation_id, antes)
    return render(request, "conversa.html", conversation=one, decisions=made[::-1], antes=antes, **said)


@router.get("/console/conversas/{conversation_id}/mensagens")
async def messages_part(request: Request, desk: AtDesk, visitor: Seen, conversation_id: str) -> Response:
    """The newest messages alone: the open page puts them in place of its own."""
    said = await _said(desk, visitor, conversation_id, "")
    return render(request, "_mensagens.html", conversation={"id": conversation_id}, **said)


async def _said(desk: Desk, visitor: Visitor, conversation_id: str, before: str) -> dict[str, Any]:
    found, earlier = await conversations.messages(
        desk, conversation_id, tenant=visitor.bound, cursor=before or None, limit=MESSAGES, newest=True
    )
    return {"messages": shown(found[::-1]), "earlier": earlier}


# dead letters ----------------------------------------------------------------------------------------------


@router.get("/console/mortas")
async def dead_letters_page(request: Request, desk: AtDesk, visitor: Seen, reenviada: str = "") -> Response:
    """What was given up and waits for a person."""
    only(visitor.operates)
    letters = await deadletters.listing(desk, tenant=visitor.bound)
    return render(request, "mortas.html", letters=letters, done=bool(reenviada))


@router.post("/console/mortas/{job_id}/reenviar")
async def replay(
    request: Request, desk: AtDesk, visitor: Seen, job_id: str, csrf: Annotated[str, Form()] = ""
) -> Response:
    """Put one back at the end of its lanes."""
    meant(request, csrf)
    only(visitor.replays and job_id != deadletters.EVERYTHING)
    await deadletters.replay(desk, job_id, by=visitor.by, tenant=visitor.bound)
    return RedirectResponse("/console/mortas?reenviada=1", HTTPStatus.SEE_OTHER)
