"""One message of every content kind the product sends, as the heart hands it to a sender."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from router.domain.channel import Channel
from router.domain.media import Media, MediaState, Origin
from router.domain.message import Alias, Content
from router.domain.ports import Outbound, Permit

PERMIT = Permit(UUID(int=1), "native", 1, expires=100.0)
NUMBER = "106540352242922"
_MEDIA_ID = UUID(int=7)
_TARGET = UUID(int=9)

_REPLY_BUTTONS = {
    "type": "button",
    "header": {"type": "text", "text": "Consulta"},
    "body": {"text": "Confirma amanhã às 9h?"},
    "footer": {"text": "Clínica Sol"},
    "action": {
        "buttons": [
            {"type": "reply", "reply": {"id": "sim", "title": "Sim"}},
            {"type": "reply", "reply": {"id": "nao", "title": "Não"}},
        ]
    },
}
_LIST = {
    "type": "list",
    "body": {"text": "Escolha um horário"},
    "action": {
        "button": "Horários",
        "sections": [{"title": "Manhã", "rows": [{"id": "9", "title": "9h", "description": "Dra. Ana"}]}],
    },
}
_FLOW = {
    "type": "flow",
    "body": {"text": "Preencha a ficha"},
    "action": {
        "name": "flow",
        "parameters": {
            "flow_message_version": "3", "flow_token": "ficha-1", "flow_id": "1234567890", "flow_cta": "Abrir",
            "flow_action": "navigate", "flow_action_payload": {"screen": "FICHA"},
        },
    },
}  # fmt: skip
_LINK = {
    "type": "cta_url",
    "body": {"text": "Como chegar"},
    "action": {
        "name": "cta_url",
        "parameters": {"display_text": "Abrir o mapa", "url": "https://clinica.example"},
    },
}
_WHERE = {
    "type": "location_request_message",
    "body": {"text": "Onde você está?"},
    "action": {"name": "send_location"},
}
_WORDED = [{"type": "body", "parameters": [{"type": "text", "text": "Marina"}]}]
_PICTURED = [
    {"type": "header", "parameters": [{"type": "image", "image": {"id": "987"}}]},
    {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "SIM"}]},
]  # fmt: skip
_CARD = {
    "name": {"formatted_name": "Dra. Ana Reis", "first_name": "Ana"},
    "phones": [{"phone": "+55 31 99688-0001", "type": "WORK", "wa_id": "553196880001"}],
    "emails": [{"email": "ana@clinica.example", "type": "WORK"}],
}


def _media(**more: object) -> dict[str, object]:
    return {"media_id": str(_MEDIA_ID), **more}


def _interactive(given: dict[str, Any]) -> Content:
    return Content("interactive", given["body"]["text"], {"interactive": given})


def _template(**more: object) -> Content:
    template = {"name": "lembrete", "language": {"code": "pt_BR"}, **more}
    return Content("template", None, {"template": template})


SENDS: dict[str, Content] = {
    "text": Content("text", "Olá, tudo bem? 😀"),
    "text with a preview": Content("text", "https://clinica.example", {"preview_url": True}),
    "text in reply": Content("text", "Sim.", {"reply_to": str(_TARGET)}),
    "image": Content("image", None, _media()),
    "image with a caption": Content("image", "O mapa", _media(filename="mapa.jpg")),
    "audio": Content("audio", None, _media()),
    "voice": Content("audio", None, _media(voice=True)),
    "video": Content("video", "O vídeo", _media()),
    "document": Content("document", "O exame", _media(filename="exame.pdf")),
    "sticker": Content("sticker", None, _media()),
    "template": _template(),
    "template with words": _template(components=_WORDED),
    "template with a picture": _template(components=_PICTURED),
    "buttons": _interactive(_REPLY_BUTTONS),
    "list": _interactive(_LIST),
    "flow": _interactive(_FLOW),
    "link": _interactive(_LINK),
    "asking where": _interactive(_WHERE),
    "location": Content("location", "Clínica Sol", {"location": {"latitude": -19.92, "longitude": -43.93, "name": "Clínica Sol", "address": "Rua A, 1"}}),
    "bare location": Content("location", None, {"location": {"latitude": -19.92, "longitude": -43.93}}),
    "contacts": Content("contacts", None, {"contacts": [_CARD]}),
    "reaction": Content("reaction", "👍", {"message_id": str(_TARGET), "emoji": "👍"}),
    "reaction taken back": Content("reaction", "", {"message_id": str(_TARGET), "emoji": ""}),
}  # fmt: skip


def channel(base_url: str, provider: str = "cloud") -> Channel:
    settings = {
        "provider": provider, "base_url": base_url, "phone_number_id": NUMBER, "access_token": "chave-1",
        "verify_token": "palavra", "app_secret": "segredo", "waba_id": "102290129340398",
    }  # fmt: skip
    return Channel("zap", "whatsapp", "sol", settings)


def outbound(base_url: str, content: Content, provider: str = "cloud", user: str | None = None) -> Outbound:
    """What the heart makes of a content; `user`: addressed by WhatsApp's user id instead of a number."""
    address = (
        Alias("bsuid", "sol", user, user) if user else Alias("wa_id", "sol", "5531996880001", "553196880001")
    )
    carries = "media_id" in content.data
    return Outbound(
        channel(base_url, provider),
        (address,),
        content,
        "01890a5d-ac96-774b-bcce-b302099a8057",
        media=_file(content) if carries else None,
        file_id="1013859600285441" if carries else None,
        context_id="wamid.HBgMNTUzMTk2ODgwMDAxFQIAEhg" if {"reply_to", "message_id"} & set(content.data) else None,
    )  # fmt: skip


def _file(content: Content) -> Media:
    mime = {"image": "image/jpeg", "audio": "audio/ogg", "video": "video/mp4", "document": "application/pdf"}
    return Media(
        _MEDIA_ID, "sol", "zap", Origin.UPLOAD, "", datetime(2026, 3, 1, tzinfo=UTC), MediaState.STORED,
        mime=mime.get(content.kind, "image/webp"), name="arquivo", size=10, sha256="0" * 64,
    )  # fmt: skip
