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
    "sticker": "figurinha",
    "location": "localização",
    "contacts": "cartão de contato",
    "interactive": "mensagem com botões",
    "button": "resposta de botão",
    "template": "modelo",
    "order": "pedido",
    "reaction": "reação",
    "edit": "edição",
    "delete": "mensagem apagada",
    "unsupported": "conteúdo não suportado",
    "erased": "mensagem apagada",
}
FEMININE: Final = frozenset({"image", "sticker"})
"""Of the contents that carry a file."""
_GONE: Final = "arquivo não existe mais na origem"
PLACEHOLDERS: Final = {
    "too_large": "grande demais",
    "hash": "chegou corrompido",
    "address": "endereço não permitido",
    "type": "tipo não permitido",
    "empty_file": "vazio",
}
"""Why a file was refused."""
FAILURES: Final = {
    # ours
    "window_closed": "janela de 24 h fechada: use um modelo",
    "opted_out": "pediu para não receber mensagens",
    "unsupported": "este caminho não envia este tipo de mensagem",
    "too_long": "texto longo demais",
    "no_address": "contato sem endereço neste canal",
    "no_room": "sem sala no Rocket.Chat",
    "no_such_room": "sala desconhecida no Rocket.Chat",
    "channel_removed": "canal fora da configuração",
    "exhausted": "tentativas esgotadas",
    "too_large": "arquivo grande demais",
    "hash": "arquivo corrompido",
    "address": "endereço do arquivo não permitido",
    "type": "tipo de arquivo não permitido",
    "empty_file": "arquivo vazio",
    "not_stored": _GONE,
    "no_file": _GONE,
    "no_context": "a mensagem respondida não existe para o provedor",
    "cannot_clear": "o Rocket.Chat não retira uma reação",
    "invalid_content": "conteúdo que o canal não aceita",
    "gone": _GONE,
    "expired": _GONE,
    "media_gone": _GONE,
    # Meta's
    "190": "token recusado pelo provedor",
    "0": "token recusado pelo provedor",
    "10": "sem permissão no provedor",
    "200": "sem permissão no provedor",
    "368": "conta bloqueada pelo provedor",
    "130429": "limite de envio do número atingido",
    "80007": "limite de envio da conta atingido",
    "130472": "retida pelo provedor: experimento de marketing",
    "131005": "sem permissão no provedor",
    "131008": "falta um campo obrigatório",
    "131009": "valor recusado pelo provedor",
    "131021": "o destinatário é o próprio número do canal",
    "131026": "não pôde ser entregue: o número não usa o WhatsApp ou não aceita",
    "131031": "número bloqueado pelo provedor",
    "131037": "o nome do número ainda não foi aprovado",
    "131042": "problema de pagamento na conta do provedor",
    "131045": "número não registrado no provedor",
    "131047": "janela de 24 h fechada: use um modelo",
    "131048": "limite por denúncias de spam",
    "131049": "retida pelo provedor para não incomodar o contato",
    "131050": "a pessoa parou de receber mensagens de marketing",
    "131051": "tipo de mensagem não suportado",
    "131052": "o provedor não conseguiu baixar o arquivo",
    "131053": "o provedor recusou o arquivo",
    "131056": "mensagens demais para este contato em pouco tempo",
    "132000": "o número de parâmetros não confere com o modelo",
    "132001": "o modelo não existe neste idioma",
    "132005": "o texto do modelo ficou longo demais",
    "132007": "o modelo viola a política do provedor",
    "132012": "parâmetro em formato que o modelo não aceita",
    "132015": "modelo pausado por baixa qualidade",
    "132016": "modelo desativado por baixa qualidade",
    "133010": "número não registrado no provedor",
}
"""Why a message did not arrive, or a channel rests."""
DRIFTS: Final = {
    "level_moved": "o endereço de entrega foi trocado no provedor: as mensagens novas não chegam mais aqui",
    "overridden": "um endereço mais específico foi posto no provedor: as mensagens novas não chegam mais aqui",
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
    "fetch": "busca de arquivo",
    "mark": "confirmação de leitura",
    "typing": "aviso de digitação",
}
REASONS: Final = FAILURES | {"unknown": "enviada sem resposta: pode ter chegado"}
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
    "unknown_media": "Este arquivo não existe ou não é da sua clínica.",
    "media_waiting": "Este arquivo ainda não foi baixado.",
    "media_gone": "Este arquivo não existe mais.",
    "media_refused": "Este arquivo foi recusado.",
    "no_file_store": "Esta instalação não guarda arquivos.",
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
    templates.filters |= {"time": _time, "span": span, "clock": _clock, "bytes": _bytes, "count": count}
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


def _clock(stamp: str) -> Markup:
    """The same for a time that is near: the browser leaves the day out when it is today."""
    at = datetime.fromisoformat(stamp).astimezone(UTC)
    return Markup('<time datetime="{}" data-near>{}</time>').format(
        at.isoformat(), at.strftime("%d/%m %H:%M UTC")
    )


def count(number: int) -> str:
    """As Brazil writes it: 12.345."""
    return f"{number:,}".replace(",", ".")


def _bytes(size: int | None) -> str:
    """1 KB, 2,4 MB; nothing for what is not known."""
    if size is None:
        return ""
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20)):
        if size >= length:
            return f"{size / length:.1f} {unit}".replace(".", ",")
    return f"{max(1, round(size / 1024))} KB"


def span(seconds: float) -> str:
    """Seconds in the largest unit that fits: 42 s, 3 min, 2 h, 5 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
