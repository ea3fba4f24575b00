"""Meta's and 360dialog's callback routes over a bare socket: they keep what is set, and refuse as the originals do."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integration.adapters.raw import RawServer

Reply = tuple[int, Any]


def error(code: int, status: int = 400) -> Reply:
    return status, {
        "error": {"message": f"(#{code}) a-token-chave in words", "type": "OAuthException", "code": code}
    }


class Provider:
    """One number 700 of account 900 and app 800; `handshake` is asked about each address that is set."""

    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.number: str | None = None
        self.waba: str | None = None
        self.app: str | None = "https://rc.example/hook"
        self.fields: list[Any] | None = [
            {"name": "messages", "version": "v23.0"},
            "message_template_status_update",
        ]
        self.d360: dict[str, Any] = {
            "url": "https://rc.example/hook",
            "headers": {"Authorization": "Bearer rc"},
        }
        self.refuse: Reply | None = None
        self.handshake: Callable[[str, str], bool] = lambda _url, _token: True
        self.asked: list[tuple[str, str, Any]] = []
        server.script = self._play

    async def _play(self, raw: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
        given = json.loads(body) if body else None
        self.asked.append((method, urlsplit(target).path, given))
        status, answer = self.refuse or self._answer(method, target, headers, given)
        text = json.dumps(answer).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text
        )
        await writer.drain()

    def _answer(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> Reply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v1/configs/webhook":
            return self._dialog(method, headers, body)
        secret = "800|segredo" if parts.path.endswith("/subscriptions") else "chave"
        if headers.get("authorization") != f"Bearer {secret}":
            return error(190, 401)
        told: dict[str, Any]
        match method, parts.path:
            case "GET", "/v23.0/700":
                assert query == {"fields": "webhook_configuration"}
                told = {
                    "phone_number": self.number,
                    "whatsapp_business_account": self.waba,
                    "application": self.app,
                }
                return 200, {
                    "webhook_configuration": {key: url for key, url in told.items() if url},
                    "id": "700",
                }
            case "POST", "/v23.0/700":
                return self._set("number", body["webhook_configuration"])
            case "GET", "/v23.0/900/subscribed_apps":
                own: dict[str, Any] = {"whatsapp_business_api_data": {"id": "800", "name": "Clinica"}}
                if self.waba:
                    own["override_callback_uri"] = self.waba
                return 200, {"data": [{"whatsapp_business_api_data": {"id": "801"}}, own]}
            case "POST", "/v23.0/900/subscribed_apps":
                return self._set("waba", body or {"override_callback_uri": ""})
            case "GET", "/v23.0/800/subscriptions":
                told = {
                    "object": "whatsapp_business_account",
                    "callback_url": self.app,
                    "fields": self.fields,
                }
                return 200, {
                    "data": [{"object": "page", "callback_url": "x"}, *([told] if self.fields else [])]
                }
            case "POST", "/v23.0/800/subscriptions":
                assert body["object"] == "whatsapp_business_account"
                self.fields = body["fields"].split(",")
                return self._set(
                    "app",
                    {"override_callback_uri": body["callback_url"], "verify_token": body["verify_token"]},
                )
        return error(803, 404)

    def _set(self, level: str, given: Mapping[str, str]) -> Reply:
        url = given["override_callback_uri"]
        if url and not self.handshake(url, given["verify_token"]):
            return error(2200)
        setattr(self, level, url or None)
        return 200, {"success": True}

    def _dialog(self, method: str, headers: Mapping[str, str], body: Any) -> Reply:
        if headers.get("d360-api-key") != "chave":
            return 401, {"meta": {"developer_message": "Invalid api key", "http_code": 401, "success": False}}
        if method == "POST":
            self.d360 = body
        return 200, self.d360
