"""Where WhatsApp's webhooks go, and the posting of them in the provider's shape.

At Meta: the number's override, else its WABA's, else the app's callback, else the number's configured callback_url;
template and account events know no overrides. At 360dialog: the webhook set for the number, else callback_url.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from deploy.sandbox.configuration import Configuration, Number
from deploy.sandbox.posting import ONCE, Answer, Post, Poster, signature
from deploy.sandbox.record import encode
from deploy.sandbox.shapes import envelope, meta_bytes


@dataclass
class Places:
    """The callbacks set over HTTP; `left`: WABAs nobody is subscribed to any more."""

    numbers: dict[str, str] = field(default_factory=dict)
    wabas: dict[str, str] = field(default_factory=dict)
    apps: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    dialog: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)


class Webhooks:
    """Posts what happens at WhatsApp to whoever is to be told."""

    def __init__(self, config: Configuration, poster: Poster) -> None:
        self._config, self._poster = config, poster
        self.places = Places()

    def clear(self) -> None:
        self.places = Places()

    def app_url(self, number: Number) -> str:
        """The callback of a number's app: set over HTTP, else configured; "" for none."""
        if number.app_id in self.places.apps:
            return self.places.apps[number.app_id][0]
        app = self._config.apps.get(number.app_id)
        return app.callback_url if app and app.callback_url else number.callback_url

    def url(self, number_id: str) -> str:
        """Where a message of this number is told; "" for nowhere."""
        number = self._config.numbers[number_id]
        if number.provider == "360dialog":
            return self.places.dialog.get(number_id, (number.callback_url, {}))[0]
        if number.waba_id in self.places.left:
            return ""
        override = self.places.numbers.get(number_id) or self.places.wabas.get(number.waba_id)
        return override or self.app_url(number)

    async def post(
        self, number_id: str, value: Mapping[str, Any], about: Mapping[str, Any], field: str = "messages"
    ) -> Answer:
        """Post a value of a number; no attempt is made, and none recorded, when nobody is to be told."""
        number = self._config.numbers.get(number_id)
        url = self.url(number_id) if number else ""
        if number is None or not url:
            return Answer(None)
        if number.provider == "360dialog":
            raw, headers = self._as_dialog(number_id, number, value, field)
        else:
            raw = meta_bytes(envelope(number_id, number, value, field))
            headers = self._as_meta(number, raw)
        post = Post("callback", url, raw, headers, {"phone_number_id": number_id, **about})
        return await self._poster.post(post, self._config.callback_retry)

    async def account_event(self, number_id: str, field: str, value: Mapping[str, Any]) -> tuple[str, Answer]:
        """Post a template_* or account_* event: always to the app's own callback. The URL and its answer."""
        number = self._config.numbers[number_id]
        url = self.url(number_id) if number.provider == "360dialog" else self.app_url(number)
        entry = {
            "id": number.waba_id,
            "time": int(time.time()),
            "changes": [{"value": value, "field": field}],
        }
        raw = meta_bytes({"object": "whatsapp_business_account", "entry": [entry]})
        about = {"phone_number_id": number_id, "type": field}
        post = Post("callback", url, raw, self._as_meta(number, raw), about)
        return url, await self._poster.post(post, self._config.callback_retry) if url else Answer(None)

    async def handshake(self, url: str, verify_token: str) -> tuple[bool, int | None]:
        """Meta's verification GET: whether the challenge came back, and the answer's status."""
        challenge = str(time.monotonic_ns())
        query = urlencode(
            {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
        )
        full = f"{url}{'&' if '?' in url else '?'}{query}"
        answer = await self._poster.post(Post("callback", full, b"", {}, {"type": "verify"}, "GET"), ONCE)
        return answer.status == 200 and answer.text == challenge, answer.status

    def _as_meta(self, number: Number, raw: bytes) -> dict[str, str]:
        app = self._config.apps.get(number.app_id)
        secret = number.app_secret or (app.app_secret if app else "")
        return {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": signature(secret, raw),
        }

    def _as_dialog(
        self, number_id: str, number: Number, value: Mapping[str, Any], field: str
    ) -> tuple[bytes, dict[str, str]]:
        flat = number.payload == "flat"
        raw = encode(value if flat else envelope(number_id, number, value, field))
        own = self.places.dialog.get(number_id, ("", number.webhook_headers))[1]
        headers = {"Content-Type": "application/json", **own}
        if number.platform_secret:
            digest = hmac.new(number.platform_secret.encode(), raw, hashlib.sha256).digest()
            as_hex = number.signature_encoding == "hex"
            headers["x-360dialog-signature"] = (
                digest.hex() if as_hex else base64.b64encode(digest).decode("ascii")
            )
        return raw, headers
