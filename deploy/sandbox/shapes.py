"""What Meta's bodies look like: envelopes, errors, the words in a message. No state, no network."""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from deploy.sandbox.configuration import Number
from deploy.sandbox.faults import Rule

MEDIA = frozenset({"image", "audio", "video", "document", "sticker"})
TYPES = MEDIA | {"text", "location", "contacts", "interactive", "template", "reaction"}
_STATUS_OF_CODE = {2: 503, 4: 429, 10: 403, 190: 401, 368: 403, 80007: 429, 130429: 429, 131000: 500,
                   131005: 403, 131016: 503, 131031: 403, 131048: 429, 131056: 429}  # fmt: skip


class Refused(Exception):
    """A request Meta would not take; becomes its error answer. `rule`: which of its rules, in the record's words."""

    def __init__(
        self,
        code: int,
        message: str,
        details: str = "",
        status: int = 400,
        *,
        subcode: int | None = None,
        rule: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.details, self.status = code, details or message, status
        self.subcode, self.rule = subcode, rule


def unknown_object(object_id: str, method: str = "get") -> Refused:
    """Meta's answer for an id it does not know, or that is not the caller's."""
    message = (
        f"Unsupported {method} request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation"
    )
    return Refused(100, message, subcode=33)


def new_wamid() -> str:
    return "wamid." + base64.b64encode(b"HBgN" + secrets.token_bytes(21)).decode("ascii")


def meta_bytes(value: object) -> bytes:
    r"""JSON as Meta writes it: ASCII with \u escapes and \/ for every slash."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def error_answer(refused: Refused) -> web.Response:
    error: dict[str, Any] = {
        "message": f"(#{refused.code}) {refused}",
        "type": "OAuthException",
        "code": refused.code,
        "error_data": {"messaging_product": "whatsapp", "details": refused.details},
        "fbtrace_id": secrets.token_urlsafe(8),
    }
    if refused.subcode is not None:
        error["error_subcode"] = refused.subcode
    return web.json_response({"error": error}, status=refused.status)


def fault_refusal(rule: Rule) -> Refused:
    """The refusal a fault asks for; a plain `status` is Meta's "service unavailable" (code 2)."""
    if rule.fault == "error_code":
        status = rule.status if rule.status != 503 else _STATUS_OF_CODE.get(rule.code, 400)
        return Refused(rule.code, "Sandbox error", "asked for by a fault", status)
    return Refused(2, "Service temporarily unavailable", "asked for by a fault", rule.status)


def text_of(message: Mapping[str, Any]) -> str:
    """What a person reads of a message in WhatsApp's shape (sent or received); "" when it has no words."""
    kind = str(message.get("type", "text"))
    part = message.get(kind)
    if not isinstance(part, dict):
        return ""
    found = part.get("body") or part.get("caption") or part.get("text") or part.get("name")
    if isinstance(found, str):
        return found
    reply = part.get("button_reply") or part.get("list_reply") or part.get("body") or {}
    return str(reply.get("title") or reply.get("text") or "") if isinstance(reply, dict) else ""


def addressees(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Whom a send is for; with both, the phone wins, as at Meta."""
    to = body.get("to") or body.get("recipient")
    return (str(to),) if to else ()


def envelope(
    number_id: str, number: Number, value: Mapping[str, Any], field: str = "messages"
) -> dict[str, Any]:
    """A webhook of one field around a value."""
    metadata = {"display_phone_number": number.display_phone_number, "phone_number_id": number_id}
    full = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    entry = {"id": number.waba_id, "changes": [{"value": full, "field": field}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def json_object(raw: bytes) -> dict[str, Any]:
    """The object in a body; {} for anything else."""
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
