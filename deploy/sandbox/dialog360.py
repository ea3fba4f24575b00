"""The 360dialog stand-in: Meta's bodies behind another door, its own errors, its own setting of webhooks.

Faults and rows are those of the Graph stand-in (graph.send, graph.read, graph.media.*, graph.callbacks).
"""

from aiohttp import web

from deploy.sandbox.access import Access
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.faults import Facts, Faults, Rule, respond
from deploy.sandbox.graph import Door, Graph
from deploy.sandbox.media import Media
from deploy.sandbox.record import Record
from deploy.sandbox.shapes import Refused, error_answer, fault_refusal, json_object
from deploy.sandbox.webhooks import Webhooks

_LOOKASIDE = "https://lookaside.fbsbx.com"
"""What its media addresses name; the caller puts 360dialog's own host in its place."""
_OWN_ERRORS = frozenset({2, 190})


class Dialog360:
    """The number is known by its key, so no address names one."""

    def __init__(
        self,
        config: Configuration,
        record: Record,
        faults: Faults,
        webhooks: Webhooks,
        access: Access,
        graph: Graph,
        media: Media,
    ) -> None:
        self._config, self._record, self._faults, self._webhooks = config, record, faults, webhooks
        self._access, self._graph, self._media = access, graph, media
        self._door = Door(access.key, refusal)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """POST /d360/messages."""
        return await self._graph.take(request, self._number(request), self._door)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """POST /d360/media."""
        return await self._media.take(request, self._number(request), self._door)

    async def describe(self, request: web.Request) -> web.StreamResponse:
        """GET /d360/{media-id}: as at Meta; the url is Meta's own."""
        return await self._media.show(request, request.match_info["media_id"], _LOOKASIDE, self._door)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /d360/{media-id}."""
        return await self._media.forget(request, request.match_info["media_id"], self._door)

    async def webhook(self, request: web.Request) -> web.StreamResponse:
        """GET POST /d360/v1/configs/webhook {url, headers?}."""
        given = json_object(await request.read())
        number_id = self._number(request)
        rule = self._faults.take("graph.callbacks", Facts((), "", number_id))

        async def act() -> web.Response:
            try:
                self._access.key(request, number_id)
                if request.method == "POST":
                    self._set(number_id, given)
            except Refused as refused:
                return refusal(refused)
            number = self._config.numbers[number_id]
            usual = number.callback_url, number.webhook_headers
            url, headers = self._webhooks.places.dialog.get(number_id, usual)
            return web.json_response({"url": url, "headers": headers})

        def refuse(rule: Rule) -> web.Response:
            return refusal(fault_refusal(rule))

        return await respond(request, rule, act, refuse)

    def _set(self, number_id: str, given: dict[str, object]) -> None:
        url, headers = given.get("url"), given.get("headers") or {}
        row: dict[str, object] = {"level": "360dialog", "id": number_id, "url": url}
        if not (
            isinstance(url, str) and url.startswith(("http://", "https://")) and isinstance(headers, dict)
        ):
            self._record.add("callbacks", row | {"action": "refused", "code": 2})
            raise Refused(2, "Invalid webhook url", status=400)
        self._webhooks.places.dialog[number_id] = (
            url,
            {str(key): str(value) for key, value in headers.items()},
        )
        self._record.add("callbacks", row | {"action": "set", "code": None})

    def _number(self, request: web.Request) -> str:
        return self._access.keyed(request) or ""


def refusal(refused: Refused) -> web.Response:
    """360dialog's own errors in its own shape, Meta's as Meta writes them."""
    if refused.code not in _OWN_ERRORS:
        return error_answer(refused)
    meta = {"http_code": refused.status, "success": False, "developer_message": str(refused)}
    return web.json_response({"meta": meta}, status=refused.status)
