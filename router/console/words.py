"""The console's words: Portuguese for what the product names in one word each."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment
from markupsafe import Markup

from flags.stage import Path, Stage
from router.domain.errors import Rejected

KINDS: Final = {
    "whatsapp": "WhatsApp",
    "instagram": "Instagram",
    "messenger": "Messenger",
    "telegram": "Telegram",
    "sms": "SMS",
    "email": "E-mail",
    "webchat": "Chat do site",
}
PATHS: Final = {Path.ROCKETCHAT: "Rocket.Chat", Path.NATIVE: "Nativo"}
STAGES: Final = {
    Stage.ROCKETCHAT: "tudo pelo Rocket.Chat",
    Stage.SHADOW: "Rocket.Chat atende, o nativo ensaia",
    Stage.CANARY: "uma parte vai pelo nativo",
    Stage.NATIVE: "conversas novas pelo nativo",
    Stage.RETIRED: "Rocket.Chat desligado",
}
COUNTERS: Final = {
    "inbound": "recebidas",
    "handled": "tratadas",
    "sent": "enviadas",
    "delivered": "entregues",
    "failed": "falhas",
    "waiting": "esperando",
}
LANES: Final = {"split": "divisão", "inbound": "entrada", "outbound": "saída", "channel": "canal"}
STATES: Final = {"open": "aberta", "closed": "encerrada"}
STATUSES: Final = {
    "queued": "na fila",
    "unknown": "sem confirmação",
    "sent": "enviada",
    "failed": "falhou",
    "rejected": "recusada",
    "delivered": "entregue",
    "read": "lida",
    "received": "recebida",
}
AUTHORS: Final = {"contact": "Contato", "system": "Sistema", "human": "Atendente", "bot": "Assistente"}
CONTENTS: Final = {
    "image": "imagem",
    "audio": "áudio",
    "video": "vídeo",
    "document": "documento",
    "location": "localização",
    "reaction": "reação",
    "unsupported": "conteúdo não suportado",
}
RULES: Final = {
    "class": "classe do contato",
    "channel": "regra do canal",
    "tenant": "regra da clínica",
    "share": "sorteio da parte",
    "base": "regra geral",
    "override": "parada de emergência",
    "last_known_good": "última regra conhecida",
    "rocketchat_down": "Rocket.Chat fora do ar",
    "move": "movida",
}
JOBS: Final = {
    "send": "envio ao contato",
    "forward": "repasse ao Rocket.Chat",
    "place": "mensagem do Rocket.Chat sem lugar",
    "close_room": "encerramento da sala",
    "split": "evento que não pôde ser lido",
}
REASONS: Final = {
    "unknown": "enviada sem resposta: pode ter chegado",
    "exhausted": "tentativas esgotadas",
    "no_such_room": "sala desconhecida no Rocket.Chat",
}
ROLES: Final = {
    "agent": "atendimento",
    "product": "produto",
    "auditor": "auditoria",
    "admin": "administração",
}
_TABLES: Final[Mapping[str, Mapping[Any, str]]] = {
    "kind": KINDS, "path": PATHS, "stage": STAGES, "counter": COUNTERS, "lane": LANES, "state": STATES,
    "status": STATUSES, "author": AUTHORS, "content": CONTENTS, "rule": RULES, "job": JOBS, "reason": REASONS,
    "role": ROLES,
}  # fmt: skip

_REFUSALS: Final = {
    "unknown_conversation": "Esta conversa não existe ou não é da sua clínica.",
    "unknown_dead_letter": "Esta carta morta não existe ou não é da sua clínica.",
    "already_replayed": "Esta carta morta já foi reenviada.",
    "already_sent": "A mensagem já foi enviada nesse meio-tempo.",
    "body_dropped": "O conteúdo recebido já foi descartado: não há o que repassar.",
    "channel_removed": "O canal não existe mais na configuração.",
    "csrf": "O formulário venceu. Volte, recarregue a página e tente de novo.",
    "missing_scope": "Seu perfil não permite ver ou fazer isto.",
    "invalid_cursor": "Este endereço de página não vale mais: volte ao começo da lista.",
    "unknown_channel": "Este canal não existe ou não é da sua clínica.",
    "unknown_path": "Filtro desconhecido.",
    "unknown_state": "Filtro desconhecido.",
}


def refusal(error: Rejected) -> str:
    """What a person reads for a refusal; never a value of the request."""
    return _REFUSALS.get(error.code, "O pedido não pôde ser atendido.")


def install(templates: Environment) -> None:
    """Give the templates these words as filters: `{{ "canary" | stage }}`; an unknown word stays as it is."""
    for name, table in _TABLES.items():
        templates.filters[name] = lambda word, table=table: table.get(word, word)
    templates.filters |= {"time": _time, "span": span}
    templates.globals |= {
        "stages": list(Stage), "paths": list(Path), "counters": list(COUNTERS), "lanes": list(LANES),
        "states": list(STATES),
    }  # fmt: skip


def _time(stamp: str | None) -> Markup:
    """An ISO time as an element the browser rewrites in its own zone."""
    if stamp is None:
        return Markup("—")
    at = datetime.fromisoformat(stamp).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%d/%m/%Y %H:%M UTC"))


def span(seconds: float) -> str:
    """Seconds in the largest unit that fits: 42 s, 3 min, 2 h, 5 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
