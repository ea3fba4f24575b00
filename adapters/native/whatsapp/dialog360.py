"""360dialog, the other way to the same numbers: its key, its signature, its errors."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from adapters.native import graph
from adapters.payload import items, mapping, text
from adapters.transport import Answer
from router.domain.channel import Channel
from router.domain.job import Outcome, Result

NAME = "360dialog"
BASE_URL = "https://waba-v2.360dialog.io"
_SIGNATURE = b"x-360dialog-signature"
_TOKEN = b"x-figueira-token"
_PREFIX = b"sha256="
_HEX = re.compile(rb"[0-9A-Fa-f]{64}")

# Of the WhatsApp client that 360dialog ran before Meta did; none of them is one of Meta's.
_OLDER: Mapping[int, Outcome] = {
    470: Outcome.PERMANENT,  # more than 24 hours since the person wrote
    471: Outcome.RETRY,  # spam rate
    1005: Outcome.CHANNEL,  # access denied
    1011: Outcome.RETRY,  # service not ready
    1013: Outcome.PERMANENT,  # not on WhatsApp
    1015: Outcome.RETRY,  # too many requests
    1016: Outcome.RETRY,  # overloaded
    1026: Outcome.PERMANENT,  # the receiver's device cannot show it
}


def serves(channel: Channel) -> bool:
    """Whether the channel's number is hosted there."""
    return channel.native.get("provider") == NAME


def verify(headers: graph.Headers, body: bytes, secret: str) -> bool:
    """True when x-360dialog-signature is the secret's over the body, in hex or base64, with "sha256=" or without."""
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    given = [value.removeprefix(_PREFIX) for name, value in headers if name.lower() == _SIGNATURE]
    return any(hmac.compare_digest(_like(value, digest), value) for value in given)


def token(headers: graph.Headers, word: str | None) -> bool:
    """True when the header set along with the webhook's address holds `word`. False without one."""
    expected = (word or "").encode()
    given = [value for name, value in headers if name.lower() == _TOKEN]
    return bool(expected) and any(hmac.compare_digest(value, expected) for value in given)


def resign(headers: graph.Headers, body: bytes, secret: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers in their order, the signature made anew as it was written."""
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    return tuple(
        (name, _written(value, digest)) if name.lower() == _SIGNATURE else (name, value)
        for name, value in headers
    )


def _written(like: bytes, digest: bytes) -> bytes:
    prefix = _PREFIX if like.startswith(_PREFIX) else b""
    return prefix + _like(like.removeprefix(_PREFIX), digest)


def _like(given: bytes, digest: bytes) -> bytes:
    """The digest in the encoding of `given`: hexadecimal in its case, else base64."""
    if not _HEX.fullmatch(given):
        return base64.b64encode(digest)
    written = digest.hex().encode()
    return written.upper() if given != given.lower() else written


def endpoint(channel: Channel) -> graph.Endpoint | None:
    """{base_url}/messages with the number's own key: `api_key`, else `access_token`. None without one."""
    base = channel.native.get("base_url") or BASE_URL
    key = channel.native.get("api_key") or channel.native.get("access_token")
    return graph.Endpoint(f"{base.rstrip('/')}/messages", {"D360-API-KEY": key}, result) if key else None


def result(answer: Answer) -> Result:
    """Meta's answer passed on, or 360dialog's own `{"meta": {…}, "errors": [{"code", "title", "details"}]}`."""
    if answer.ok:
        return graph.result(answer)
    document = answer.document()
    error = mapping(document.get("error")) or mapping(next(iter(items(document.get("errors"))), None))
    code = _number(error.get("code"))
    if code is None:
        return graph.refused(answer, None, f"http_{answer.status}")
    if code in _OLDER:
        return graph.refused(answer, _OLDER[code], str(code))
    return graph.failure(answer, {**error, "code": code})


def _number(code: Any) -> int | None:
    written = text(code) or ""
    if written.isascii() and written.isdigit() and len(written) < 10:  # noqa: PLR2004 - no code is longer
        return int(written)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
