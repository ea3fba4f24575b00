"""The page of imports: how far the copy of Rocket.Chat's history is, and what was refused."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from router.console.visitor import AtDesk, Closed, Seen, only, render
from router.console.words import count
from router.control import imports
from router.control.desk import Desk

router = APIRouter(prefix="/console/imports", include_in_schema=False, route_class=Closed)

STATES: Final = {
    "running": "em andamento",
    "stopped": "parada",
    "done": "concluída",
    "lost": "precisa recomeçar",
}
COLLECTIONS: Final = {
    "rocketchat_room": "salas",
    "rocketchat_message": "mensagens",
    "users": "usuários",
    "rocketchat_subscription": "inscrições em salas",
    "rocketchat_livechat_visitor": "visitantes",
    "rocketchat_livechat_contact": "contatos",
    "rocketchat_livechat_inquiry": "fila de atendimento",
    "rocketchat_livechat_department": "departamentos",
    "rocketchat_livechat_department_agents": "atendentes dos departamentos",
    "rocketchat_canned_response": "respostas prontas",
    "rocketchat_livechat_custom_field": "campos próprios",
    "rocketchat_livechat_tag": "etiquetas",
    "rocketchat_uploads": "arquivos",
    "rocketchat_uploads.files": "conteúdo dos arquivos: fichas",
    "rocketchat_uploads.chunks": "conteúdo dos arquivos: pedaços",
    "rocketchat_read_receipts": "confirmações de leitura",
    "rocketchat_message_read_receipt": "confirmações de leitura",
    "rocketchat_team": "equipes",
    "rocketchat_team_member": "membros das equipes",
}
REASONS: Final = {
    # left out
    "secret": "segredo, nunca é copiado",
    "trash": "lixeira do Rocket.Chat",
    "transient": "passageiro",
    "presentation": "só aparência",
    "unknown_collection": "coleção desconhecida",
    "filtered": "fora do que foi pedido",
    "duplicate": "repetido na origem",
    "orphan_chunk": "pedaço sem arquivo",
    # refused
    "no_id": "documento sem _id",
    "nul": "texto com o caractere NUL",
    "date_range": "data impossível",
    "wrong_type": "campo de outro tipo",
    "invalid_bson": "documento danificado",
    "truncated": "arquivo cortado",
    "too_large": "maior que 16 MiB",
    "orphan": "mensagem de uma sala que não existe",
    "missing": "falta na origem",
    "server": "recusado pelo banco de dados",
}


@router.get("")
async def page(request: Request, desk: AtDesk, visitor: Seen) -> Response:
    """The newest run with its collections, what was refused, the runs before."""
    only(visitor.sees_imports)
    return render(request, "importacao.html", **await _now(desk))


@router.get("/agora")
async def now(request: Request, desk: AtDesk, visitor: Seen) -> Response:
    """The part that moves: the page asks for it again and again."""
    only(visitor.sees_imports)
    return render(request, "_importacao.html", **await _now(desk))


async def _now(desk: Desk) -> Mapping[str, Any]:
    if desk.history is None:
        return {"run": None, "runs": [], "rejects": [], "collections": [], "sums": {}}
    found = await imports.status(desk.history, desk.clock.now())
    collections = [_shown(name, one) for name, one in found["collections"].items()]
    refused = [
        {**one, "words": COLLECTIONS.get(one["collection"]), "why": REASONS.get(one["code"], one["code"])}
        for one in found["rejects"]
        if one["open"]
    ]
    return {
        **found,
        "collections": collections,
        "rejects": refused,
        "runs": [{**one, "words": STATES.get(one["state"], one["state"])} for one in found["runs"]],
        "sums": _sums(collections),
    }


def _shown(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    reasons = [
        f"{count(number)}: {REASONS.get(reason, reason)}"
        for reason, number in one["skipped_by_reason"].items()
    ]
    return {**one, "name": name, "words": COLLECTIONS.get(name), "told": reasons}


def _sums(collections: list[dict[str, Any]]) -> dict[str, int]:
    names = ("source", "written", "skipped", "rejected", "erased", "parts", "parts_done")
    return {name: sum(one[name] for one in collections) for name in names}
