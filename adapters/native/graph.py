"""What Meta's kinds share: signature, handshake, dividing and re-signing a body, the Graph API's answers."""

import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from adapters.payload import Malformed, exact, identifier, items, mapping
from adapters.transport import Answer, exchange, retry_after
from flags.stage import Path
from router.domain.channel import Channel
from router.domain.job import Outcome, Result
from router.domain.ports import Outbound, Permit

Headers = Sequence[tuple[bytes, bytes]]

# Both cover the raw body; the older one is still sent beside the newer and never trusted alone.
_SIGNATURES = {b"x-hub-signature-256": ("sha256", hashlib.sha256), b"x-hub-signature": ("sha1", hashlib.sha1)}


def _signature(name: bytes, secret: str, body: bytes) -> bytes:
    scheme, algorithm = _SIGNATURES[name]
    return f"{scheme}={hmac.new(secret.encode(), body, algorithm).hexdigest()}".encode()


def verify(channel: Channel, headers: Headers, body: bytes, *, secret: str | None = None) -> bool:
    """True when X-Hub-Signature-256 is `secret`'s (unset: the app secret's) over these very bytes. False without one.

    Exactly as Meta writes it: "sha256=" and 64 lower-case hexadecimal digits.
    """
    secret = secret or channel.native.get("app_secret")
    if not secret:
        return False
    expected = _signature(b"x-hub-signature-256", secret, body)
    given = [value for name, value in headers if name.lower() == b"x-hub-signature-256"]
    return any(hmac.compare_digest(value, expected) for value in given)


def handshake(channel: Channel, query: Mapping[str, str]) -> str | None:
    """Meta's verification GET: `hub.challenge`, or None when the mode or the token is wrong."""
    token = channel.native.get("verify_token")
    given = query.get("hub.verify_token", "")
    if not token or not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        return None
    return query.get("hub.challenge") or None if query.get("hub.mode") == "subscribe" else None


def resign(
    channel: Channel, headers: Headers, body: bytes, *, secret: str | None = None
) -> tuple[tuple[bytes, bytes], ...]:
    """The headers in their order, each of Meta's signatures made anew with `secret` (unset: the app secret)."""
    secret = secret or channel.native.get("app_secret")
    if not secret:
        return tuple(headers)
    return tuple(
        (name, _signature(name.lower(), secret, body)) if name.lower() in _SIGNATURES else (name, value)
        for name, value in headers
    )


# dividing --------------------------------------------------------------------------------------------------

# Every list whose elements are parts, or hold them. All else in an envelope stays as it is.
_LISTS = {
    "entry",
    "changes",
    "messages",
    "statuses",
    "message_echoes",
    "user_id_update",
    "messaging",
    "standby",
}
_Tree = dict[str, "_Tree"]
Narrow = Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]


def divide(body: bytes, keep: Collection[str], narrow: Narrow | None = None) -> bytes:
    """The envelope with only the parts at the refs `keep`, written as Meta writes.

    Values stay what they are; what cannot be parsed had no parts and comes back as it is.
    `narrow(kept, whole)` may take more out of an object that lost parts (contacts that nobody refers to any more).
    """
    try:
        # An empty tree would mean "all of it": a step that no key has means "nothing".
        return written(_prune(exact(body), _tree(keep) or {"": {}}, narrow))
    except (Malformed, RecursionError):
        return body


def written(value: Any) -> bytes:
    r"""JSON in Meta's style: no spaces, ASCII with \u escapes, every slash as \/."""
    return json.dumps(value, separators=(",", ":")).replace("/", r"\/").encode("ascii")


def _tree(refs: Iterable[str]) -> _Tree:
    tree: _Tree = {}
    for ref in refs:
        node = tree
        for step in ref.split("/"):
            node = node.setdefault(step, {})
    return tree


def _prune(value: Any, tree: _Tree, narrow: Narrow | None) -> Any:
    if not tree:  # a ref ends here: this part stays whole
        return value
    if isinstance(value, list):
        return [_prune(item, tree[str(at)], narrow) for at, item in enumerate(value) if str(at) in tree]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key in tree:
            kept[key] = _prune(item, tree[key], narrow)
        elif key not in _LISTS or not isinstance(item, list):
            kept[key] = item
    return narrow(kept, value) if narrow else kept


# the Graph API ---------------------------------------------------------------------------------------------

# By `error.code`, which Meta keeps stable where titles and HTTP statuses move.
_RETRY = {
    1,
    2,
    4,
    17,
    613,
    80004,
    80007,
    130429,
    131000,
    131016,
    131048,
    131057,
    131208,
    133004,
    133016,
    135000,
    138013,
    2494100,
}
_NO_OBJECT = (100, 33)  # code and subcode: the number is no more, or the token no longer sees it
_PACED = 131056  # too many messages to the same person; about one in six seconds is borne
_CHANNEL = {0, 3, 10, 33, 190, 368, 131005, 131031, 131037, 131042, 131044, 131045, 131064, 133010}
_CHANNEL |= set(range(200, 300))  # permission not granted, or removed
_PERMANENT = {100, 130472, 130497, 131008, 131009, 131021, 131026, 131030, 131047, 131049, 131050, 131051}
_PERMANENT |= {131052, 131053, 131062, 131063, 132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016}
_PERMANENT |= {131020, 131041, 131059, 132068, 132069, 137000}
_PERMANENT |= set(range(131201, 131216)) - _RETRY  # groups

_BY_STATUS: Mapping[int, Outcome] = {
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.RETRY,
    HTTPStatus.UNAUTHORIZED: Outcome.CHANNEL,
    HTTPStatus.FORBIDDEN: Outcome.CHANNEL,
    HTTPStatus.REQUEST_TIMEOUT: Outcome.UNKNOWN,
}


def result(answer: Answer) -> Result:
    """What the Graph API's answer to a send means. `code` is Meta's, else "http_<status>"."""
    document = answer.document()
    if not answer.ok:
        return failure(answer, mapping(document.get("error")))
    first = next(iter(items(document.get("messages"))), None)
    sent = identifier(mapping(first).get("id"))
    return Result(Outcome.OK, sent) if sent else Result(Outcome.UNKNOWN, code="no_id")


def failure(answer: Answer, error: Mapping[str, Any]) -> Result:
    """What an answer other than 2xx means: by Meta's `error.code`, else by the HTTP status."""
    code = error.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        return refused(answer, None, f"http_{answer.status}")
    if (code, error.get("error_subcode")) == _NO_OBJECT:
        return refused(answer, Outcome.CHANNEL, str(code))
    # Of a crash, "it passes" tells nothing of what had been done before it.
    crashed = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    transient = error.get("is_transient") is True and not crashed
    return refused(answer, _by_code(code, transient=transient), str(code))


def refused(answer: Answer, outcome: Outcome | None, code: str) -> Result:
    """The Result of a refusal; `outcome` None: the HTTP status says it."""
    found = outcome or _by_status(answer.status)
    return Result(
        found, code=code, retry_after=retry_after(answer.headers) if found is Outcome.RETRY else None
    )


def _by_code(code: int, *, transient: bool) -> Outcome | None:
    if code == _PACED:
        return Outcome.PACED
    if code in _CHANNEL:
        return Outcome.CHANNEL
    if code in _PERMANENT:
        return Outcome.PERMANENT
    return Outcome.RETRY if transient or code in _RETRY else None


def _by_status(status: int) -> Outcome:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.UNKNOWN  # a proxy's 502 or a crash: Meta may have acted before it
    return _BY_STATUS.get(status, Outcome.PERMANENT)


Render = Callable[[Outbound], Mapping[str, Any] | Result]
"""A kind's message body for the Graph API, or the Result (not asked) of not being able to write one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how an account is written to. The headers hold its key."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    read: Callable[[Answer], Result]


BASE_URL = "https://graph.facebook.com/v23.0"


def endpoint(channel: Channel) -> Endpoint | None:
    """{base_url}/{address}/messages. None without `access_token` or the address (`phone_number_id`, `page_id`)."""
    base, token = channel.native.get("base_url") or BASE_URL, channel.native.get("access_token")
    if not (token and channel.address):
        return None
    return Endpoint(
        f"{base.rstrip('/')}/{channel.address}/messages", {"Authorization": f"Bearer {token}"}, result
    )


class GraphSender:
    """POST to the endpoint's URL. Not idempotent: what left without an answer is UNKNOWN."""

    idempotent = False

    def __init__(
        self,
        client: httpx.AsyncClient,
        monotonic: Callable[[], float],
        render: Render,
        endpoint: Callable[[Channel], Endpoint | None] = endpoint,
    ) -> None:
        self._client, self._monotonic, self._render, self._endpoint = client, monotonic, render, endpoint

    async def send(self, permit: Permit, outbound: Outbound) -> Result:
        body = self._render(outbound)
        if isinstance(body, Result):
            return body
        to, raw = self._endpoint(outbound.channel), _json(body)
        if to is None:
            return Result(Outcome.CHANNEL, code="configuration", asked=False)
        if raw is None:
            return Result(Outcome.PERMANENT, code="invalid_content", asked=False)
        # Asked last, so that nothing stands between the answer and the request.
        if permit.path != Path.NATIVE or self._monotonic() >= permit.expires:
            return Result(Outcome.RETRY, code="permit", asked=False)
        answer = await self._post(to, raw)
        return answer if isinstance(answer, Result) else to.read(answer)

    async def _post(self, to: Endpoint, raw: bytes) -> Answer | Result:
        headers = {**to.headers, "Content-Type": "application/json"}
        return await exchange(self._client, "POST", to.url, headers=headers, content=raw)


def _json(body: Mapping[str, Any]) -> bytes | None:
    """None for what JSON has no word for: NaN, bytes, nesting past the stack."""
    try:
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError):
        return None
