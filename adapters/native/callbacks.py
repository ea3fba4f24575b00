"""Where WhatsApp's providers post: Meta's three levels, 360dialog's one. Read, set, and set back.

Meta asks the levels in the order number, account (WABA), app: the first with an address gets the messages. What Meta
says of templates and accounts goes to the app's address whatever the other two say.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from adapters.handshake import handshake
from adapters.native import graph
from adapters.native.whatsapp import dialog360
from adapters.payload import identifier, items, mapping, text
from adapters.transport import Answer, exchange
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Callback, Callbacks

NUMBER, WABA, APP = "number", "waba", "app"
URL_LENGTH: Final = 200  # of an override, says Meta
TOKEN_HEADER: Final = "X-Figueira-Token"  # noqa: S105 - the name of a header
"""What 360dialog sends along with every webhook when it was set by us: our `webhook_token`."""
_OBJECT: Final = "whatsapp_business_account"
_CONFIGURED: Final = ((NUMBER, "phone_number"), (WABA, _OBJECT), (APP, "application"))
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    NUMBER: ("access_token", "phone_number_id"),
    WABA: ("access_token", "waba_id"),
    APP: ("app_id", "app_secret"),
}
_D360_KEY: Final = ("api_key | access_token",)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_RENEW = "the access token is wrong or has run out: set a lasting one (access_token)"
_RIGHT = (
    "the token may not do this: give its system user whatsapp_business_management on this account and app"
)
_REACHED = "the provider cannot be reached from here: try again"
_MENDS: Final[Mapping[str, str]] = {
    "3": _RIGHT,
    "10": _RIGHT,
    "200": _RIGHT,
    "100": "the provider does not know the id (phone_number_id, waba_id, app_id), refuses the address, or the app is not"
    " subscribed to the account (POST {waba_id}/subscribed_apps)",
    "190": _RENEW,
    "http_401": _RENEW,
    "http_403": _RIGHT,
    "803": "the provider does not know the id: compare phone_number_id, waba_id and app_id with its console",
    "2200": "the provider called the address and did not get its challenge back: compare verify_token with that of the"
    " address, and look for a proxy or firewall that answers in its place",
    "http_404": "nothing of ours answers there: compare the public address with the proxy's routes",
    "challenge": "something else answers at the public address: look at the proxy before Figueira",
    "connect": _REACHED,
    "timeout": _REACHED,
    "broken": _REACHED,
    "url_too_long": f"the address must not be longer than {URL_LENGTH} characters: shorten public_url or the slug",
    "host": "360dialog takes no address with an underscore or a port in its host: use a plain name on port 443",
    "not_subscribed": "the app has no subscription to whatsapp_business_account: add it in the App Dashboard first",
    "cannot_clear": "this level cannot be left empty and what stood there is not known: set it in the provider's console",
    "configuration": "an address or a credential of the channel cannot be written: look at [channels.*.native]",
}


def _mend(code: str) -> str:
    return _MENDS.get(code) or ("the token may not do this" if code.isdigit() and len(code) == 3 else "")  # noqa: PLR2004 - 200 to 299


def _lacking(channel: Channel, names: Sequence[str]) -> list[str]:
    """Those that are not set; of `a | b`, either does."""
    return [name for name in names if not any(channel.native.get(one) for one in name.split(" | "))]


class MetaCallbacks:
    """Provider `cloud`. Needs of `channel.native`: access_token, phone_number_id, app_secret, verify_token;
    waba_id for the level waba, app_id for the level app. `restore_verify_token` is that of the address that was there
    before us; without it Meta is told ours when it is set back."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def levels(self, channel: Channel) -> Sequence[str]:
        return [level for level, names in _NEEDED.items() if not _lacking(channel, names)]

    def missing(self, channel: Channel) -> Sequence[str]:
        return _lacking(channel, (*_NEEDED[NUMBER], "app_secret", "verify_token"))

    def mend(self, code: str) -> str:
        return _mend(code)

    async def reaches(self, channel: Channel, url: str) -> Result:
        return await handshake(self._client, url, channel.native.get("verify_token", ""))

    async def show(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        reads = {NUMBER: self._read_number, WABA: self._read_waba, APP: self._read_app}
        found: dict[str, Callback] = {}
        for level in self.levels(channel):
            result, seen = await reads[level](channel)
            if result.outcome is not Outcome.OK:
                return result, ()
            for callback in seen:
                told = found.get(callback.level)
                if told is None:
                    found[callback.level] = callback
                elif level == callback.level:  # what a level says of itself, unless only the number knows it
                    found[level] = replace(callback, url=callback.url or told.url)
            found.setdefault(level, Callback(level, None))
        return Result(Outcome.OK), [found[level] for level in _NEEDED if level in found]

    async def set(self, channel: Channel, level: str, url: str) -> Result:
        return await self._put(channel, level, url, channel.native.get("verify_token", ""), {})

    async def restore(self, channel: Channel, previous: Callback) -> Result:
        token = channel.native.get("restore_verify_token") or channel.native.get("verify_token", "")
        return await self._put(channel, previous.level, previous.url, token, previous.settings)

    async def _put(
        self, channel: Channel, level: str, url: str | None, token: str, settings: Mapping[str, Any]
    ) -> Result:
        if level not in self.levels(channel):
            return Result(Outcome.CHANNEL, code="configuration")
        if level == APP:
            return await self._put_app(channel, url, token, settings)
        if len(url or "") > URL_LENGTH:
            return Result(Outcome.PERMANENT, code="url_too_long")
        override = {"override_callback_uri": url, "verify_token": token} if url else None
        if level == WABA:  # subscribing again without a word takes the override away
            result, _ = await self._ask(
                channel, "POST", f"{channel.native['waba_id']}/subscribed_apps", override
            )
            return result
        body = {"webhook_configuration": override or {"override_callback_uri": ""}}
        result, _ = await self._ask(channel, "POST", channel.native["phone_number_id"], body)
        return result

    async def _put_app(
        self, channel: Channel, url: str | None, token: str, settings: Mapping[str, Any]
    ) -> Result:
        if url is None:
            return Result(Outcome.PERMANENT, code="cannot_clear")
        result, seen = await self._read_app(channel)
        if result.outcome is not Outcome.OK:
            return result
        fields = settings.get("fields") or (seen[0].settings.get("fields") if seen else None)
        if not fields:
            return Result(Outcome.PERMANENT, code="not_subscribed")
        body = {
            "object": _OBJECT,
            "callback_url": url,
            "verify_token": token,
            "fields": ",".join(fields),
            "include_values": True,
        }
        result, _ = await self._ask(
            channel, "POST", f"{channel.native['app_id']}/subscriptions", body, app=True
        )
        return result

    async def _read_number(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        """Of all three levels, for the app whose token asks; a level without an address is left out of the answer."""
        result, document = await self._ask(
            channel, "GET", channel.native["phone_number_id"], params={"fields": "webhook_configuration"}
        )
        told = mapping(document.get("webhook_configuration"))
        return result, [
            Callback(
                level, text(told.get(name)), of=channel.native["phone_number_id"] if level == NUMBER else ""
            )
            for level, name in _CONFIGURED
            if level == NUMBER or text(told.get(name))
        ]

    async def _read_waba(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        result, document = await self._ask(channel, "GET", f"{channel.native['waba_id']}/subscribed_apps")
        apps = [mapping(one) for one in items(document.get("data"))]
        wanted = channel.native.get("app_id")
        own = [one for one in apps if _app_id(one) == wanted] if wanted else apps
        if len(own) > 1:  # not known which is ours: the number's answer tells
            return result, []
        url = text(own[0].get("override_callback_uri")) if own else None
        return result, [Callback(WABA, url, of=channel.native["waba_id"])]

    async def _read_app(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        app_id = channel.native["app_id"]
        result, document = await self._ask(channel, "GET", f"{app_id}/subscriptions", app=True)
        for one in map(mapping, items(document.get("data"))):
            if one.get("object") == _OBJECT:
                fields = [name for field in items(one.get("fields")) if (name := _field(field))]
                return result, [Callback(APP, text(one.get("callback_url")), {"fields": fields}, app_id)]
        return result, [Callback(APP, None, of=app_id)]

    async def _ask(
        self,
        channel: Channel,
        method: str,
        route: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        app: bool = False,
    ) -> tuple[Result, Mapping[str, Any]]:
        native = channel.native
        token = f"{native['app_id']}|{native['app_secret']}" if app else native["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        base = (native.get("base_url") or graph.BASE_URL).rstrip("/")
        return await _ask(
            self._client, graph.result, method, f"{base}/{route}", headers, body=body, params=params
        )


def _app_id(subscribed: Mapping[str, Any]) -> str | None:
    return identifier(mapping(subscribed.get("whatsapp_business_api_data")).get("id"))


def _field(told: Any) -> str | None:
    """Newer versions name a field and its version, older ones only the field."""
    return text(told) or text(mapping(told).get("name"))


class D360Callbacks:
    """Provider `360dialog`: one address a number, and a header of ours that comes along with every webhook. Needs
    api_key (or access_token), webhook_token or app_secret, and verify_token for the look at our own address."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def levels(self, channel: Channel) -> Sequence[str]:
        return [] if _lacking(channel, _D360_KEY) else [NUMBER]

    def missing(self, channel: Channel) -> Sequence[str]:
        return _lacking(channel, (*_D360_KEY, "app_secret | webhook_token", "verify_token"))

    def mend(self, code: str) -> str:
        return _mend(code)

    async def reaches(self, channel: Channel, url: str) -> Result:
        return await handshake(self._client, url, channel.native.get("verify_token", ""))

    async def show(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        result, document = await self._ask(channel, "GET")
        if result.outcome is not Outcome.OK:
            return result, ()
        headers = dict(mapping(document.get("headers")))
        of = f"{dialog360.NAME}:{channel.address or ''}"
        return result, [Callback(NUMBER, text(document.get("url")), {"headers": headers}, of)]

    async def set(self, channel: Channel, level: str, url: str) -> Result:
        token = channel.native.get("webhook_token")
        return await self._put(channel, level, url, {TOKEN_HEADER: token} if token else {})

    async def restore(self, channel: Channel, previous: Callback) -> Result:
        if previous.url is None:
            return Result(Outcome.PERMANENT, code="cannot_clear")
        return await self._put(
            channel, previous.level, previous.url, mapping(previous.settings.get("headers"))
        )

    async def _put(self, channel: Channel, level: str, url: str, headers: Mapping[str, str]) -> Result:
        if level not in self.levels(channel):
            return Result(Outcome.CHANNEL, code="configuration")
        if not _plain_host(url):
            return Result(Outcome.PERMANENT, code="host")
        # Always with `headers`: left out, those of the address before would go on coming.
        result, _ = await self._ask(channel, "POST", {"url": url, "headers": dict(headers)})
        return result

    async def _ask(
        self, channel: Channel, method: str, body: Mapping[str, Any] | None = None
    ) -> tuple[Result, Mapping[str, Any]]:
        native = channel.native
        key = native.get("api_key") or native.get("access_token")
        if not key:
            return Result(Outcome.CHANNEL, code="configuration"), {}
        url = f"{(native.get('base_url') or dialog360.BASE_URL).rstrip('/')}/v1/configs/webhook"
        return await _ask(self._client, dialog360.result, method, url, {"D360-API-KEY": key}, body=body)


def _plain_host(url: str) -> bool:
    """No underscore and no port, which 360dialog does not take; a stand-in on loopback takes both."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return host in _LOOPBACK or ("_" not in host and port is None)


async def _ask(
    client: httpx.AsyncClient,
    verdict: Callable[[Answer], Result],
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    body: Mapping[str, Any] | None = None,
    params: Mapping[str, str] | None = None,
) -> tuple[Result, Mapping[str, Any]]:
    """The document of a 2xx answer; what another means says `verdict`."""
    content = None if body is None else json.dumps(body).encode("ascii")
    given = headers if content is None else {**headers, "Content-Type": "application/json"}
    answer = await exchange(client, method, url, headers=given, params=params, content=content)
    if isinstance(answer, Result):
        return answer, {}
    if not answer.ok:
        return verdict(answer), {}
    document = answer.document()
    if not document:  # a page of a proxy is no answer of the provider's
        return Result(Outcome.UNKNOWN, code="no_document"), {}
    if document.get("success") is False:
        return Result(Outcome.PERMANENT, code="refused"), {}
    return Result(Outcome.OK), document


class WhatsAppCallbacks:
    """Implements `router.domain.ports.Callbacks`: by the channel's `provider`. Of a provider whose address cannot be set
    from here there are no levels."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._of: Mapping[str, Callbacks] = {
            "cloud": MetaCallbacks(client),
            "360dialog": D360Callbacks(client),
        }

    def _provider(self, channel: Channel) -> Callbacks | None:
        return self._of.get(channel.native.get("provider") or "cloud")

    def levels(self, channel: Channel) -> Sequence[str]:
        edge = self._provider(channel)
        return edge.levels(channel) if edge else ()

    def missing(self, channel: Channel) -> Sequence[str]:
        edge = self._provider(channel)
        return edge.missing(channel) if edge else ()

    def mend(self, code: str) -> str:
        return _mend(code)

    async def reaches(self, channel: Channel, url: str) -> Result:
        edge = self._provider(channel)
        return await edge.reaches(channel, url) if edge else _UNSUPPORTED

    async def show(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        edge = self._provider(channel)
        return await edge.show(channel) if edge else (_UNSUPPORTED, ())

    async def set(self, channel: Channel, level: str, url: str) -> Result:
        edge = self._provider(channel)
        return await edge.set(channel, level, url) if edge else _UNSUPPORTED

    async def restore(self, channel: Channel, previous: Callback) -> Result:
        edge = self._provider(channel)
        return await edge.restore(channel, previous) if edge else _UNSUPPORTED


_UNSUPPORTED: Final = Result(Outcome.PERMANENT, code="unsupported")
