"""Signed WhatsApp webhooks, each with an id of its own."""

import hashlib
import hmac
import json
from collections.abc import Iterator

SECRET = "an-invented-app-secret"  # noqa: S105 - invented
NUMBER = "106540352242922"
WRITTEN = 1762000000
"""When the messages were written, as they say themselves."""
SIZE = 862
"""Bytes of a body: what a text of Meta's comes to."""


def _body(wa_id: str, wamid: str, filling: str, number: str = NUMBER, at: int = WRITTEN) -> bytes:
    message = {
        "from": wa_id, "id": wamid, "timestamp": str(at), "type": "text", "text": {"body": filling},
    }  # fmt: skip
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "5511900000000", "phone_number_id": number},
        "contacts": [{"profile": {"name": "Mariana"}, "wa_id": wa_id}],
        "messages": [message],
    }
    change = {"field": "messages", "value": value}
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1029384756", "changes": [change]}]}
    ).encode()


def signed(wa_id: str, wamid: str, number: str = NUMBER, at: int = WRITTEN) -> tuple[bytes, str]:
    """A body of SIZE bytes for a phone_number_id, written at `at` (epoch seconds), and the value of its
    X-Hub-Signature-256."""
    bare = len(_body(wa_id, wamid, "", number, at))
    body = _body(wa_id, wamid, "x" * (SIZE - bare), number, at)
    return body, "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def requests(path: str, tag: str) -> Iterator[bytes]:
    """HTTP/1.1 requests as they go over the wire, no two with the same body; `tag` keeps two runs apart."""
    place = f"wamid.{tag}.{0:08d}"
    body, _ = signed("5511900000001", place)
    before, after = body.split(place.encode())
    key = hmac.new(SECRET.encode(), before, hashlib.sha256)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-Hub-Signature-256: sha256="
    ).encode()
    number = 0
    while True:
        number += 1
        wamid = f"wamid.{tag}.{number:08d}".encode()
        signature = key.copy()
        signature.update(wamid + after)
        yield b"".join((head, signature.hexdigest().encode(), b"\r\n\r\n", before, wamid, after))
