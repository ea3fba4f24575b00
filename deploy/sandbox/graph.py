"""The Graph stand-in: WhatsApp Cloud's ``/messages``, its statuses, and the patients who write to it.

Every accepted send is a row and a message to the customer: as at Meta there is no idempotency here, so a
send that is repeated shows up twice.
"""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from deploy.sandbox.configuration import Configuration, Number
from deploy.sandbox.faults import Facts, Faults, Rule, answered, respond
from deploy.sandbox.posting import Answer, Post, Poster, signature
from deploy.sandbox.record import Record, base64_text, encode

_MEDIA = {"image", "audio", "video", "document", "sticker"}
TYPES = _MEDIA | {"text", "location", "contacts", "interactive", "template", "reaction"}
_STATUS_OF_CODE = {2: 503, 4: 429, 10: 403, 190: 401, 368: 403, 80007: 429, 130429: 429, 131000: 500,
                   131005: 403, 131016: 503, 131031: 403, 131048: 429, 131056: 429}  # fmt: skip
_SERVICE = {"billable": False, "pricing_model": "PMP", "category": "service", "type": "free_customer_service"}
_TEMPLATE = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}


class Refused(Exception):
    """A request Meta would not take; becomes its error answer."""

    def __init__(self, code: int, message: str, details: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.details, self.status = code, details or message, status


def new_wamid() -> str:
    return "wamid." + base64.b64encode(b"HBgN" + secrets.token_bytes(21)).decode("ascii")


def meta_bytes(value: object) -> bytes:
    r"""JSON as Meta writes it: ASCII with \u escapes and \/ for every slash."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def error_answer(code: int, message: str, details: str, status: int) -> web.Response:
    error = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details},
        "fbtrace_id": secrets.token_urlsafe(8),
    }
    return web.json_response({"error": error}, status=status)


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


class Graph:
    """Accepts sends over HTTP (the router) and in-process (Rocket.Chat), and reports their statuses."""

    def __init__(self, config: Configuration, record: Record, faults: Faults, poster: Poster) -> None:
        self._config, self._record, self._faults, self._poster = config, record, faults, poster

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """POST /graph/{version}/{phone_number_id}/messages: a send or a read mark."""
        raw = await request.read()
        number_id = request.match_info["phone_number_id"]
        body = _object(raw)
        is_read = body.get("status") == "read"
        to = tuple(address.removeprefix("+") for address in _to(body))
        facts = Facts(to, text_of(body), number_id)
        rule = self._faults.take("graph.read" if is_read else "graph.send", facts)

        async def act() -> web.Response:
            try:
                self._authorise(request, number_id)
                if is_read:
                    return self._read_mark(number_id, body)
                return web.json_response(self.send(number_id, body, raw, "native", rule))
            except Refused as refused:
                return self._refuse(number_id, body, refused)

        def refuse(rule: Rule) -> web.Response:
            return self._refuse(number_id, body, fault_refusal(rule))

        return await respond(request, rule, act, refuse)

    def send(
        self, number_id: str, body: Mapping[str, Any], raw: bytes, by: str, rule: Rule | None = None
    ) -> dict[str, Any]:
        """Accept a send: its row, its statuses, Meta's answer. Raises Refused when Meta would not take it."""
        _validate(body)
        to = _to(body)[0]
        wamid = new_wamid()
        self._record.add(
            "graph",
            {
                "phone_number_id": number_id,
                "to": to,
                "type": body.get("type", "text"),
                "text": text_of(body),
                "callback_data": body.get("biz_opaque_callback_data"),
                "wamid": wamid,
                "by": by,
                "fault": rule.fault if rule else None,
                "answered": answered(rule),
                "body": base64_text(raw),
            },
        )
        failed = rule.code if rule and rule.fault == "failed_status" else None
        self._poster.spawn(self._statuses(number_id, to, wamid, body, failed))
        contact = {"input": to, "user_id" if "to" not in body else "wa_id": to.removeprefix("+")}
        return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]}

    def send_for_rocketchat(self, number_id: str, to: str, text: str) -> str | None:
        """What an agent or API user wrote, sent by Rocket.Chat's app; the wamid, None when refused."""
        body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": text}}
        rule = self._faults.take("graph.send", Facts((to,), text, number_id, "rocketchat"))
        try:
            if rule and rule.fault != "failed_status":
                raise fault_refusal(rule)
            answer = self.send(number_id, body, encode(body), "rocketchat", rule)
        except Refused as refused:
            self._refuse(number_id, body, refused, "rocketchat")
            return None
        return str(answer["messages"][0]["id"])

    async def patient(self, number_id: str, message: Mapping[str, Any], name: str) -> Answer:
        """Post one inbound message (WhatsApp's shape, with `from` and `id`) to the number's callback."""
        value = {
            "contacts": [{"profile": {"name": name}, "wa_id": message["from"]}],
            "messages": [message],
        }
        return await self._post(number_id, value, {"type": "message", "wamids": [message["id"]]})

    async def _statuses(
        self, number_id: str, to: str, wamid: str, body: Mapping[str, Any], failed: int | None
    ) -> None:
        names = ["sent", "delivered", "read"] if self._config.read else ["sent", "delivered"]
        for name in ["failed"] if failed else names:
            await asyncio.sleep(self._config.status_delay_seconds)
            status: dict[str, Any] = {"id": wamid, "status": name, "timestamp": str(int(time.time()))}
            status["recipient_id" if "to" in body else "recipient_user_id"] = to.removeprefix("+")
            if "biz_opaque_callback_data" in body:
                status["biz_opaque_callback_data"] = body["biz_opaque_callback_data"]
            if failed:
                status["errors"] = [{"code": failed, "title": "Sandbox", "message": "Sandbox",
                                     "error_data": {"details": "asked for by a fault"}}]  # fmt: skip
            else:
                status["pricing"] = _TEMPLATE if body.get("type") == "template" else _SERVICE
            await self._post(number_id, {"statuses": [status]}, {"type": name, "wamids": [wamid]})

    async def _post(self, number_id: str, value: Mapping[str, Any], about: Mapping[str, Any]) -> Answer:
        number = self._config.numbers.get(number_id)
        if number is None or not number.callback_url:
            return Answer(None)
        raw = meta_bytes(envelope(number_id, number, value))
        post = Post(
            "callback",
            number.callback_url,
            raw,
            {
                "Content-Type": "application/json",
                "User-Agent": "facebookexternalua",
                "X-Hub-Signature-256": signature(number.app_secret, raw),
            },
            {"phone_number_id": number_id, **about},
        )
        return await self._poster.post(post, self._config.callback_retry)

    def _authorise(self, request: web.Request, number_id: str) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        number = self._config.numbers.get(number_id)
        wanted = number.access_token if number else None
        if scheme.lower() != "bearer" or not token.strip() or (wanted and token.strip() != wanted):
            raise Refused(190, "Invalid OAuth access token", status=401)
        if self._config.numbers and number is None:
            raise Refused(100, f"Unsupported post request. Object with ID '{number_id}' does not exist")

    def _read_mark(self, number_id: str, body: Mapping[str, Any]) -> web.Response:
        if body.get("messaging_product") != "whatsapp" or not isinstance(body.get("message_id"), str):
            raise Refused(100, "Invalid parameter", "message_id and messaging_product are required")
        self._record.add("reads", {"phone_number_id": number_id, "wamid": body["message_id"]})
        return web.json_response({"success": True})

    def _refuse(
        self, number_id: str, body: Mapping[str, Any], refused: Refused, by: str = "native"
    ) -> web.Response:
        row = {"phone_number_id": number_id, "to": next(iter(_to(body)), None), "text": text_of(body)}
        callback_data = body.get("biz_opaque_callback_data")
        about = {"callback_data": callback_data, "by": by, "code": refused.code, "status": refused.status}
        self._record.add("refused", row | about)
        return error_answer(refused.code, str(refused), refused.details, refused.status)


def envelope(number_id: str, number: Number, value: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook of field ``messages`` around a value."""
    metadata = {"display_phone_number": number.display_phone_number, "phone_number_id": number_id}
    full = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    entry = {"id": number.waba_id, "changes": [{"value": full, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def fault_refusal(rule: Rule) -> Refused:
    """The refusal a fault asks for; a plain `status` is Meta's "service unavailable" (code 2)."""
    if rule.fault == "error_code":
        status = rule.status if rule.status != 503 else _STATUS_OF_CODE.get(rule.code, 400)
        return Refused(rule.code, "Sandbox error", "asked for by a fault", status)
    return Refused(2, "Service temporarily unavailable", "asked for by a fault", rule.status)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _to(body: Mapping[str, Any]) -> tuple[str, ...]:
    # With both, the phone wins, as at Meta.
    to = body.get("to") or body.get("recipient")
    return (str(to),) if to else ()


def _validate(body: Mapping[str, Any]) -> None:
    if body.get("messaging_product") != "whatsapp":
        raise Refused(100, "The parameter messaging_product is required.")
    if not _to(body):
        raise Refused(100, "The parameter to is required.")
    kind = body.get("type", "text")
    if kind not in TYPES:
        raise Refused(100, f"Param type must be one of {sorted(TYPES)}")
    part = body.get(kind)
    if not isinstance(part, list if kind == "contacts" else dict) or not part:
        raise Refused(131008, "Required parameter is missing", f"Parameter {kind} is missing")
    if kind == "text" and not (isinstance(part, dict) and 1 <= len(str(part.get("body") or "")) <= 4096):
        raise Refused(100, "Invalid parameter", "text.body must have 1 to 4096 characters")
    if len(str(body.get("biz_opaque_callback_data") or "")) > 512:
        raise Refused(100, "Invalid parameter", "biz_opaque_callback_data is longer than 512 characters")
