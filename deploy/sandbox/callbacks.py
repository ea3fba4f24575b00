"""Meta's settings of callbacks: overrides of a number and of a WABA, the app's own subscription.

A new address has to pass Meta's handshake before it is taken. Every change and every refusal is a row.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from deploy.sandbox.access import Access
from deploy.sandbox.configuration import Configuration, MetaApp, Number
from deploy.sandbox.faults import Facts, Faults, Rule, respond
from deploy.sandbox.record import Record
from deploy.sandbox.shapes import Refused, error_answer, fault_refusal, json_object
from deploy.sandbox.webhooks import Webhooks

_LONGEST_URI = 200
Given = dict[str, Any]


class Callbacks:
    """Fault target of all of them: graph.callbacks."""

    def __init__(
        self, config: Configuration, record: Record, faults: Faults, webhooks: Webhooks, access: Access
    ) -> None:
        self._config, self._record, self._faults = config, record, faults
        self._webhooks, self._access = webhooks, access

    # number --------------------------------------------------------------------------------------------------

    async def show_number(self, request: web.Request) -> web.StreamResponse:
        """GET /graph/{v}/{phone_number_id}?fields=webhook_configuration."""
        number_id = request.match_info["node"]

        async def act(_: Given) -> Given:
            self._access.number(request, number_id)
            number, places = self._config.numbers[number_id], self._webhooks.places
            urls = {
                "phone_number": places.numbers.get(number_id),
                "whatsapp_business_account": places.wabas.get(number.waba_id),
                "application": self._webhooks.app_url(number),
            }
            known = {
                "verified_name": "Clinic",
                "display_phone_number": number.display_phone_number,
                "quality_rating": "GREEN",
                "webhook_configuration": {level: url for level, url in urls.items() if url},
            }
            fields = request.query.get("fields")
            wanted = fields.split(",") if fields else list(known)
            return {"id": number_id, **{name: known[name] for name in wanted if name in known}}

        return await self._do(request, number_id, act)

    async def set_number(self, request: web.Request) -> web.StreamResponse:
        """POST /graph/{v}/{phone_number_id} {webhook_configuration: {override_callback_uri, verify_token}}."""
        number_id = request.match_info["node"]

        async def act(given: Given) -> Given:
            self._access.number(request, number_id)
            wanted = _object(given.get("webhook_configuration"))
            if wanted:
                number, places = self._config.numbers[number_id], self._webhooks.places
                await self._override("number", number_id, number.waba_id, places.numbers, wanted)
            return {"success": True}

        return await self._do(request, number_id, act)

    # WABA ----------------------------------------------------------------------------------------------------

    async def subscribed_apps(self, request: web.Request) -> web.StreamResponse:
        """GET POST DELETE /graph/{v}/{waba_id}/subscribed_apps; a POST without a URI clears the override."""
        waba_id = request.match_info["node"]

        async def act(given: Given) -> Given:
            number, places = self._access.waba(request, waba_id)[0], self._webhooks.places
            if request.method == "GET":
                return {
                    "data": []
                    if waba_id in places.left
                    else [self._subscribed(number, places.wabas.get(waba_id))]
                }
            if request.method == "DELETE":
                places.left.add(waba_id)
                places.wabas.pop(waba_id, None)
                self._note("waba", waba_id, "unsubscribe", None)
            elif given.get("override_callback_uri"):
                await self._override("waba", waba_id, waba_id, places.wabas, given)
            else:
                places.left.discard(waba_id)
                places.wabas.pop(waba_id, None)
                self._note("waba", waba_id, "subscribe", None)
            return {"success": True}

        return await self._do(request, waba_id, act)

    def _subscribed(self, number: Number, override: str | None) -> Given:
        app = self._config.apps.get(number.app_id, MetaApp())
        link = f"https://www.facebook.com/games/?app_id={number.app_id}"
        shown: Given = {"whatsapp_business_api_data": {"id": number.app_id, "link": link, "name": app.name}}
        return shown | ({"override_callback_uri": override} if override else {})

    # app -----------------------------------------------------------------------------------------------------

    async def subscriptions(self, request: web.Request) -> web.StreamResponse:
        """GET POST /graph/{v}/{app_id}/subscriptions, with the app's own token."""
        app_id = request.match_info["node"]

        async def act(given: Given) -> Given:
            self._access.app(request, app_id)
            if request.method == "GET":
                return {"data": self._subscriptions(app_id)}
            if given.get("object") != "whatsapp_business_account":
                raise Refused(100, "Invalid parameter", "object must be whatsapp_business_account")
            fields = given.get("fields")
            named = (
                fields.split(",") if isinstance(fields, str) else fields if isinstance(fields, list) else []
            )
            url, token = str(given.get("callback_url") or ""), str(given.get("verify_token") or "")
            await self._verified("app", app_id, url, token)
            self._webhooks.places.apps[app_id] = url, tuple(map(str, named))
            self._note("app", app_id, "set", url)
            return {"success": True}

        return await self._do(request, app_id, act)

    def _subscriptions(self, app_id: str) -> list[Given]:
        app = self._config.apps.get(app_id, MetaApp())
        url, fields = self._webhooks.places.apps.get(app_id, (app.callback_url, app.fields))
        if not url:
            return []
        named = [{"name": name, "version": "v23.0"} for name in fields]
        return [{"object": "whatsapp_business_account", "callback_url": url, "active": True, "fields": named}]

    # ---------------------------------------------------------------------------------------------------------

    async def _override(
        self, level: str, key: str, waba_id: str, places: dict[str, str], given: Mapping[str, Any]
    ) -> None:
        """Set or, with an empty URI, clear an override. Raises Refused."""
        url = str(given.get("override_callback_uri") or "")
        if not url:
            places.pop(key, None)
            self._note(level, key, "clear", None)
            return
        if waba_id in self._webhooks.places.left:
            message = (
                "Before override the current callback uri, your app must be subscribed to receive messages for"
                " WhatsApp Business Account."
            )
            raise self._refused(level, key, url, Refused(100, message))
        await self._verified(level, key, url, str(given.get("verify_token") or ""))
        places[key] = url
        self._note(level, key, "set", url)

    async def _verified(self, level: str, key: str, url: str, token: str) -> None:
        """Meta's handshake with an address. Raises Refused, code 2200, when it does not pass."""
        if not url.startswith(("http://", "https://")) or len(url) > _LONGEST_URI or not token:
            details = f"a callback is an address of at most {_LONGEST_URI} characters with a verify_token"
            raise self._refused(level, key, url, Refused(100, "Invalid parameter", details))
        passed, status = await self._webhooks.handshake(url, token)
        if not passed:
            message = (
                "Callback verification failed with the following errors: "
                f"HTTP Status Code = {status or 'none'}; the challenge was not echoed"
            )
            raise self._refused(level, key, url, Refused(2200, message))

    def _refused(self, level: str, key: str, url: str, refused: Refused) -> Refused:
        self._note(level, key, "refused", url, refused.code)
        return refused

    def _note(self, level: str, key: str, action: str, url: str | None, code: int | None = None) -> None:
        self._record.add("callbacks", {"level": level, "id": key, "action": action, "url": url, "code": code})

    async def _do(
        self, request: web.Request, node: str, do: Callable[[Given], Awaitable[Given]]
    ) -> web.StreamResponse:
        given = await _parameters(request)
        rule = self._faults.take("graph.callbacks", Facts((), "", node))

        async def act() -> web.Response:
            try:
                return web.json_response(await do(given))
            except Refused as refused:
                return error_answer(refused)

        def refuse(rule: Rule) -> web.Response:
            return error_answer(fault_refusal(rule))

        return await respond(request, rule, act, refuse)


async def _parameters(request: web.Request) -> Given:
    """What Graph takes as parameters: query, form or JSON."""
    if request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        return {**request.query, **(await request.post())}
    return {**request.query, **json_object(await request.read())}


def _object(value: object) -> Mapping[str, Any]:
    """An object, or one written as JSON in a form."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
