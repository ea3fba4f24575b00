"""Bodies as Meta and Rocket.Chat write them, signed: the simulated outside speaks through the real adapters."""

import hashlib
import hmac
from typing import Any

import orjson

SECRET = "simulated-app-secret"


def signed(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Headers of a provider's POST."""
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return ((b"content-type", b"application/json"), (b"x-hub-signature-256", b"sha256=" + digest.encode()))


def meta(phone_number_id: str, changes: list[tuple[str, str, dict[str, Any]]], salt: int) -> bytes:
    """One webhook; `changes` = (field, list name, item). `salt` makes equal content another body."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for field, name, item in changes:
        grouped.setdefault((field, name), []).append(item)
    values = [
        {
            "field": field,
            "value": {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": "5511", "phone_number_id": phone_number_id},
                name: items,
            },
        }
        for (field, name), items in grouped.items()
    ]
    return orjson.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": f"waba{salt}", "changes": values}]}
    )


def said(wa: str, wamid: str, text: str, at: int) -> tuple[str, str, dict[str, Any]]:
    """A contact's text."""
    item = {"from": wa, "id": wamid, "timestamp": str(at), "type": "text", "text": {"body": text}}
    return "messages", "messages", item


def pictured(wa: str, wamid: str, caption: str, file: str, at: int) -> tuple[str, str, dict[str, Any]]:
    """A contact's picture."""
    image = {"id": file, "mime_type": "image/jpeg", "caption": caption}
    item = {"from": wa, "id": wamid, "timestamp": str(at), "type": "image", "image": image}
    return "messages", "messages", item


def echo(wa: str, wamid: str, text: str, at: int) -> tuple[str, str, dict[str, Any]]:
    """What somebody typed on the clinic's phone."""
    item = {
        "from": "5511",
        "to": wa,
        "id": wamid,
        "timestamp": str(at),
        "type": "text",
        "text": {"body": text},
    }
    return "smb_message_echoes", "message_echoes", item


def status(wa: str, wamid: str, name: str, at: int, callback: str | None) -> tuple[str, str, dict[str, Any]]:
    """A status of a send."""
    item: dict[str, Any] = {"id": wamid, "status": name, "timestamp": str(at), "recipient_id": wa}
    if callback is not None:
        item["biz_opaque_callback_data"] = callback
    return "messages", "statuses", item


def room_event(
    kind: str,
    room: str,
    wa: str,
    source_id: str | None,
    text: str,
    agent: str | None,
    at: str,
    file: str = "",
) -> bytes:
    """Rocket.Chat's omnichannel webhook."""
    messages = []
    if source_id is not None:
        item: dict[str, Any] = {
            "_id": source_id,
            "msg": text,
            "ts": at,
            "rid": room,
            "u": {"_id": agent or "v" + wa},
        }
        if agent is not None:
            item["agentId"] = agent
        if file:
            item["file"] = {"_id": file, "name": "foto.jpg", "type": "image/jpeg"}
        messages.append(item)
    visitor = {"_id": "v" + wa, "token": "tok" + wa, "name": "Paciente", "phone": [{"phoneNumber": wa}]}
    return orjson.dumps(
        {"_id": room, "type": kind, "visitor": visitor, "messages": messages, "label": source_id or at}
    )
