"""Accept: verify the raw body, store one event row durably, answer. Nothing else happens before the answer.

Bare ASGI in front of the FastAPI application (`Front`): a webhook passes no middleware, no routing, no model.
Nothing that arrives here ends in a 500: what cannot be stored is 503 with Retry-After, and the provider comes back.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from router import metrics
from router.domain.channel import EVERY_TENANT, RESERVED, Channel
from router.domain.errors import Unavailable
from router.domain.ids import Ids
from router.domain.job import Event
from router.domain.policy import Policy
from router.domain.ports import Clock, Kind, Random, Store
from router.logs import event as log

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
Authentic = Callable[[Sequence[tuple[bytes, bytes]], bytes], bool]

PREFIX: Final = "/webhooks/"
RETRY_AFTER: Final = b"5"  # seconds
SIGNING_KEYS: Final = (
    "app_secret", "webhook_token", "previous_app_secret", "previous_webhook_token", "secret_token", "auth_token",
)  # fmt: skip
"""What a provider's signature or token is checked with; a channel that has one never takes an unsigned event."""

_BEARER: Final = b"bearer "
_PLAIN: Final = b"text/plain; charset=utf-8"
_JSON: Final = b"application/json"
_XML: Final = b"application/xml"
_TWIML: Final = b"<Response/>"
_LARGEST_HANDSHAKE: Final = 100  # query fields
_DIGITS: Final = 15  # of a Content-Length; int() refuses thousands of them

_logger = logging.getLogger(__name__)


class Answer(Exception):
    """An answer decided before the end: raised, caught once, sent."""

    def __init__(
        self, status: int, body: bytes = b"", content_type: bytes = _PLAIN, *, extra: Headers = ()
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *extra,
        ]


class _Gone(Exception):
    """The caller went away in the middle of its body."""


class Front:
    """The one ASGI callable: webhooks to `accept`, everything else (lifespan too) to `app`."""

    def __init__(self, app: Application, accept: "Accept") -> None:
        self._app = app
        self._accept = accept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._accept(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Accept:
    """`channels` by slug and `kinds` by name are read at each request, so the mappings may be replaced in place.

    `rocketchat_authentic` checks the token of Rocket.Chat's webhook in header or body (False while none is
    configured); `authorize_key` says whether an API key may post this body (scope `webhook`, its own tenant).
    """

    def __init__(
        self,
        *,
        store: Store,
        channels: Mapping[str, Channel],
        kinds: Mapping[str, Kind],
        clock: Clock,
        random: Random,
        rocketchat_authentic: Authentic,
        authorize_key: Callable[[str, bytes], Awaitable[bool]],
        policy: Policy,
    ) -> None:
        self._store = store
        self._channels = channels
        self._kinds = kinds
        self._clock = clock
        self._ids = Ids(clock, random)
        self._rocketchat_authentic = rocketchat_authentic
        self._authorize_key = authorize_key
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except _Gone:
            return
        except Answer as early:
            answer = early
        except Exception as error:  # noqa: BLE001  the promise of this module: never a 500, the provider retries
            log(_logger, "webhook.failed", level=logging.ERROR, error=type(error).__name__)
            answer = _unavailable()
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})
        except OSError:
            # The caller is gone; what was stored is stored, and its retry is a duplicate.
            log(_logger, "webhook.unanswered", status_code=answer.status)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        slug, raw_path = _target(scope)
        channel = self._channels.get(slug)
        if channel is None and slug != RESERVED:
            return Answer(404)
        method = scope["method"]
        if channel is not None and method == "GET":
            return self._handshake(channel, scope["query_string"])
        if method != "POST":
            allowed = b"POST" if channel is None else b"GET, POST"
            return Answer(405, extra=((b"allow", allowed),))
        begun = self._clock.monotonic()
        kind = RESERVED if channel is None else channel.kind
        try:
            answer, outcome = await self._post(channel, raw_path, scope, receive)
        except _Gone:
            raise
        except Exception:
            metrics.events.labels(slug, kind, "unavailable").inc()
            raise
        metrics.events.labels(slug, kind, outcome).inc()
        metrics.accept_seconds.observe(max(0.0, self._clock.monotonic() - begun))
        return answer

    def _handshake(self, channel: Channel, query: bytes) -> Answer:
        """The provider proves that it knows our word for it; we echo its challenge."""
        try:
            pairs = parse_qsl(query.decode("utf-8", "replace"), max_num_fields=_LARGEST_HANDSHAKE)
            challenge = self._kinds[channel.kind].handshake(channel, dict(reversed(pairs)))
        except ValueError:
            challenge = None
        return Answer(403) if challenge is None else Answer(200, challenge.encode("utf-8", "replace"))

    async def _post(
        self, channel: Channel | None, raw_path: bytes, scope: Scope, receive: Receive
    ) -> tuple[Answer, str]:
        """The answer and the outcome it is counted under."""
        policy, received = self._policy, tuple(scope["headers"])
        limit = policy.body_limit_bytes if channel else policy.rocketchat_body_limit_bytes
        body = await _body(received, receive, limit)
        if body is None:
            return Answer(413, extra=((b"connection", b"close"),)), "too_large"
        try:
            if not await self._authentic(channel, received, body):
                return Answer(401), "bad_signature"
            fresh = await self._store.accept(self._event(channel, raw_path, scope, body))
        except Unavailable:
            return _unavailable(), "unavailable"
        return _thanks(channel), "stored" if fresh else "duplicate"

    async def _authentic(self, channel: Channel | None, headers: Headers, body: bytes) -> bool:
        if channel is None:
            return self._rocketchat_authentic(headers, body) or await self._keyed(headers, body)
        if self._kinds[channel.kind].verify(channel, headers, body):
            return True
        # Without any secret nobody here can tell. A pure pass to Rocket.Chat may go: its own app verifies.
        return channel.webhook_url is not None and not any(channel.native.get(key) for key in SIGNING_KEYS)

    async def _keyed(self, headers: Headers, body: bytes) -> bool:
        for name, value in headers:
            if name.lower() == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
                return await self._authorize_key(value[len(_BEARER) :].strip().decode("latin-1"), body)
        return False

    def _event(self, channel: Channel | None, raw_path: bytes, scope: Scope, body: bytes) -> Event:
        return Event(
            id=self._ids.new(),
            tenant=channel.tenant if channel else EVERY_TENANT,
            channel=channel.slug if channel else RESERVED,
            received_at=self._clock.now(),
            digest=hashlib.sha256(body).digest(),
            method=scope["method"],
            raw_path=raw_path,
            query=scope["query_string"],
            headers=forwarded(tuple(scope["headers"]), scope.get("client"), scope.get("scheme", "http")),
            body=body,
        )


def _target(scope: Scope) -> tuple[str, bytes]:
    """The slug, and what follows it undecoded (with its slash). Raises Answer(404) for a path that would climb.

    Rocket.Chat's endpoint is joined with this path, and a server behind it may decode before it resolves.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    prefix = PREFIX.encode()
    if not raw.startswith(prefix):
        raise Answer(404)
    slug, slash, rest = raw[len(prefix) :].partition(b"/")
    decoded = unquote_to_bytes(rest).replace(b"\\", b"/")
    if any(segment in {b".", b".."} for segment in decoded.split(b"/")):
        raise Answer(404)
    return slug.decode("ascii", "replace"), slash + rest


async def _body(headers: Headers, receive: Receive, limit: int) -> bytes | None:
    """The whole body; None as soon as it is known to be larger than `limit`."""
    for name, value in headers:
        if (
            name.lower() == b"content-length"
            and value.isdigit()
            and (len(value) > _DIGITS or int(value) > limit)
        ):
            return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def forwarded(headers: Headers, client: Sequence[Any] | None, scheme: str) -> Headers:
    """The received headers in order, with this hop written into X-Forwarded-*: the peer is appended, so that the
    first address received stays first; host and proto are added where absent, never replaced."""
    kept = list(headers)
    names = [name.lower() for name, _ in kept]
    if client and client[0]:
        peer = str(client[0]).encode()
        if b"x-forwarded-for" in names:
            last = len(names) - 1 - names[::-1].index(b"x-forwarded-for")
            name, value = kept[last]
            kept[last] = (name, value + b", " + peer if value.strip() else peer)
        else:
            kept.append((b"x-forwarded-for", peer))
    if b"x-forwarded-host" not in names and b"host" in names:
        kept.append((b"x-forwarded-host", kept[names.index(b"host")][1]))
    if b"x-forwarded-proto" not in names:
        kept.append((b"x-forwarded-proto", scheme.encode()))
    return tuple(kept)


def _thanks(channel: Channel | None) -> Answer:
    """What the caller reads as "taken": Twilio would send any other text to the customer as a reply."""
    if channel is None:
        return Answer(200, b"{}", _JSON)
    if channel.native.get("provider") == "twilio":
        return Answer(200, _TWIML, _XML)
    return Answer(200, b"ok")


def _unavailable() -> Answer:
    return Answer(503, extra=((b"retry-after", RETRY_AFTER),))
