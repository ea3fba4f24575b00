"""The Graph stand-in: WhatsApp Cloud's ``/messages``, its statuses, and the patients who write to it.

Every accepted send is a row and a message to the customer: as at Meta there is no idempotency here, so a
send that is repeated shows up twice. A row with `failed` was accepted and did not reach the customer.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from deploy.sandbox.access import Access
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults, Rule, answered, respond
from deploy.sandbox.files import File, FileStore
from deploy.sandbox.posting import Answer, Poster
from deploy.sandbox.record import Record, base64_text, encode
from deploy.sandbox.rules import Rules
from deploy.sandbox.shapes import (
    MEDIA,
    TYPES,
    Refused,
    addressees,
    error_answer,
    fault_refusal,
    json_object,
    new_wamid,
    text_of,
)
from deploy.sandbox.webhooks import Webhooks

_PRICING: Mapping[str, Mapping[str, Any]] = {
    "service": {
        "billable": False,
        "pricing_model": "PMP",
        "category": "service",
        "type": "free_customer_service",
    },
}


@dataclass(frozen=True)
class Door:
    """How a provider lets a caller in (raises Refused) and how it says no."""

    admit: Callable[[web.Request, str], None]
    refuse: Callable[[Refused], web.Response]


class Graph:
    """Accepts sends over HTTP (the router) and in-process (Rocket.Chat), and reports their statuses."""

    def __init__(
        self,
        config: Configuration,
        record: Record,
        faults: Faults,
        poster: Poster,
        webhooks: Webhooks,
        files: FileStore,
        access: Access,
    ) -> None:
        self._config, self._record, self._faults, self._poster = config, record, faults, poster
        self._webhooks, self._files = webhooks, files
        self.rules = Rules(config)
        self._door = Door(access.number, error_answer)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """POST /graph/{version}/{phone_number_id}/messages: a send or a read mark."""
        return await self.take(request, request.match_info["phone_number_id"], self._door)

    async def take(self, request: web.Request, number_id: str, door: Door) -> web.StreamResponse:
        """A send or a read mark of a number, by whichever door it came."""
        raw = await request.read()
        body = json_object(raw)
        is_read = body.get("status") == "read"
        to = tuple(address.removeprefix("+") for address in addressees(body))
        facts = Facts(to, text_of(body), number_id)
        rule = self._faults.take("graph.read" if is_read else "graph.send", facts)

        async def act() -> web.Response:
            try:
                door.admit(request, number_id)
                if is_read:
                    return self._read_mark(number_id, body)
                return web.json_response(self.send(number_id, body, raw, "native", rule))
            except Refused as refused:
                return door.refuse(self._note_refusal(number_id, body, refused))

        def refuse(rule: Rule) -> web.Response:
            return door.refuse(self._note_refusal(number_id, body, fault_refusal(rule)))

        return await respond(request, rule, act, refuse)

    def send(
        self, number_id: str, body: Mapping[str, Any], raw: bytes, by: str, rule: Rule | None = None
    ) -> dict[str, Any]:
        """Accept a send: its row, its statuses, Meta's answer. Raises Refused when Meta would not take it."""
        _validate(body)
        to = addressees(body)[0]
        file = self._file(number_id, body)
        told_later = self.rules.check(number_id, to.removeprefix("+"), body)
        failed = _failure(rule, told_later)
        wamid = new_wamid()
        context = body.get("context")
        self._record.add(
            "graph",
            {
                "phone_number_id": number_id,
                "to": to,
                "type": body.get("type", "text"),
                "text": text_of(body),
                "callback_data": body.get("biz_opaque_callback_data"),
                "reply_to": context.get("message_id") if isinstance(context, dict) else None,
                "media_id": file.id if file else None,
                "media_sha256": file.sha256 if file else None,
                "media_size": len(file.data) if file else None,
                "media_mime": file.mime if file else None,
                "wamid": wamid,
                "by": by,
                "failed": failed,
                "fault": rule.fault if rule else None,
                "answered": answered(rule),
                "body": base64_text(raw),
            },
        )
        if told_later:
            self._note_refusal(number_id, body, told_later, by, told_in="status")
        self._poster.spawn(self._statuses(number_id, to, wamid, body, failed))
        contact = {"input": to, "user_id" if "to" not in body else "wa_id": to.removeprefix("+")}
        return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]}

    def send_for_rocketchat(self, number_id: str, to: str, kind: str, part: Mapping[str, Any]) -> str | None:
        """What an agent or API user wrote, sent by Rocket.Chat's app; the wamid, None when refused."""
        body = {"messaging_product": "whatsapp", "to": to, "type": kind, kind: part}
        rule = self._faults.take("graph.send", Facts((to,), text_of(body), number_id, "rocketchat"))
        try:
            if rule and rule.fault != "failed_status":
                raise fault_refusal(rule)
            answer = self.send(number_id, body, encode(body), "rocketchat", rule)
        except Refused as refused:
            self._note_refusal(number_id, body, refused, "rocketchat")
            return None
        return str(answer["messages"][0]["id"])

    async def patient(self, number_id: str, message: Mapping[str, Any], name: str) -> Answer:
        """Post one inbound message (WhatsApp's shape, with `from` and `id`) to the number's callback."""
        people = (str(message[key]) for key in ("from", "from_user_id") if message.get(key))
        self.rules.heard(number_id, people, float(message["timestamp"]))
        value = {
            "contacts": [{"profile": {"name": name}, "wa_id": message["from"]}],
            "messages": [message],
        }
        return await self._webhooks.post(number_id, value, {"type": "message", "wamids": [message["id"]]})

    async def phone_echo(self, number_id: str, echo: Mapping[str, Any]) -> Answer:
        """Post what the clinic wrote on its own phone (field smb_message_echoes)."""
        about = {"type": "echo", "wamids": [echo["id"]]}
        return await self._webhooks.post(number_id, {"message_echoes": [echo]}, about, "smb_message_echoes")

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
                                     "error_data": {"details": "asked for by a fault or a rule"}}]  # fmt: skip
            else:
                status["pricing"] = self._pricing(body)
            await self._webhooks.post(number_id, {"statuses": [status]}, {"type": name, "wamids": [wamid]})

    def _pricing(self, body: Mapping[str, Any]) -> dict[str, Any]:
        category = self.rules.category(body)
        usual = {"billable": True, "pricing_model": "PMP", "category": category, "type": "regular"}
        return {**usual, **_PRICING.get(category, {}), **self._config.pricing.get(category, {})}

    def _file(self, number_id: str, body: Mapping[str, Any]) -> File | None:
        """The first file a send names by id. Raises Refused for an id the number does not have."""
        found = None
        for kind, part in _media_parts(body):
            media_id, link = part.get("id"), part.get("link")
            if media_id is None:
                if not (isinstance(link, str) and link.startswith(("http://", "https://"))):
                    raise Refused(
                        131009, "Parameter value is not valid", f"{kind} needs an id or a link", rule="media"
                    )
                continue
            file = self._files.find(str(media_id))
            if file is None or file.number_id != number_id:
                details = f"Param {kind}['id'] is not a valid whatsapp business account media attachment ID"
                raise Refused(100, "Invalid parameter", details, rule="media")
            found = found or file
        return found

    def _read_mark(self, number_id: str, body: Mapping[str, Any]) -> web.Response:
        if body.get("messaging_product") != "whatsapp" or not isinstance(body.get("message_id"), str):
            raise Refused(100, "Invalid parameter", "message_id and messaging_product are required")
        row = {
            "phone_number_id": number_id,
            "wamid": body["message_id"],
            "typing": "typing_indicator" in body,
        }
        self._record.add("reads", row)
        return web.json_response({"success": True})

    def _note_refusal(
        self,
        number_id: str,
        body: Mapping[str, Any],
        refused: Refused,
        by: str = "native",
        told_in: str = "answer",
    ) -> Refused:
        row = {"phone_number_id": number_id, "to": next(iter(addressees(body)), None), "text": text_of(body)}
        callback_data = body.get("biz_opaque_callback_data")
        about = {"callback_data": callback_data, "by": by, "code": refused.code, "status": refused.status}
        self._record.add("refused", row | about | {"rule": refused.rule, "told_in": told_in})
        return refused


def _failure(rule: Rule | None, told_later: Refused | None) -> int | None:
    """The code a status `failed` will tell; None: the message arrives."""
    if rule and rule.fault == "failed_status":
        return rule.code
    return told_later.code if told_later else None


def _media_parts(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parts of a send that carry a file: its own, and those in a template's or an interactive's header."""
    kind = str(body.get("type", "text"))
    if kind in MEDIA:
        yield kind, body[kind]
        return
    part = body.get(kind)
    if not isinstance(part, dict):
        return
    components = part.get("components")
    holders = [part.get("header")] if kind == "interactive" else []
    for component in components if isinstance(components, list) else []:
        given = component.get("parameters") if isinstance(component, dict) else None
        holders += given if isinstance(given, list) else []
    for holder in holders:
        if not isinstance(holder, dict):
            continue
        name = str(holder.get("type"))
        if name in MEDIA and isinstance(holder.get(name), dict):
            yield name, holder[name]


def _validate(body: Mapping[str, Any]) -> None:
    if body.get("messaging_product") != "whatsapp":
        raise Refused(100, "The parameter messaging_product is required.")
    if not addressees(body):
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
