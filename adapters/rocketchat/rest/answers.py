"""What Rocket.Chat's REST answers, read: both error shapes, its rate limit, its licence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from adapters.payload import text
from router.domain.job import Outcome, Result

TOO_MANY: Final = "error-too-many-requests"
LICENCE: Final = "licence-limit"
TOTP: Final = frozenset({"totp-required", "totp-invalid"})

_SUFFIX: Final = re.compile(r"\[([\w-]+)\]\s*$")  # "Room not found [error-room-not-found]": the stable bit
_BARE: Final = re.compile(r"[\w-]{1,80}")
_WAIT: Final = re.compile(r"wait (\d{1,6}) seconds?")
_LICENCE: Final = re.compile(
    r"licen[cs]e|mac-limit|monthly active contacts|(user|users|seats)[ -]limit|air-?gapped", re.IGNORECASE
)
# The older shape says it in a sentence only.
_CODE_OF_STATUS: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended and what came with it. `status` 0: no answer was read."""

    result: Result
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """It did what was asked."""
        return self.result.outcome is Outcome.OK


def repeatable(result: Result) -> Result:
    """Of a call that may be made again freely: not knowing is as good as not done."""
    if result.outcome is Outcome.UNKNOWN:
        return Result(Outcome.RETRY, code=result.code, retry_after=result.retry_after)
    return result


def judged(status: int, document: Mapping[str, Any]) -> Result:
    """Both error shapes, `{success: false, error, errorType}` and `{status: "error", message}`, to one Result."""
    failed = document.get("success") is False or document.get("status") == "error"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and not failed:
        # A page of a proxy is no answer of Rocket.Chat.
        return Result(Outcome.OK) if document else Result(Outcome.UNKNOWN, code="no_document")
    words = text(document.get("error")) or text(document.get("message")) or ""
    code = _code(words, document) or _CODE_OF_STATUS.get(status) or f"http_{status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or code == TOO_MANY:
        wait = _WAIT.search(words)
        return Result(Outcome.RETRY, code=TOO_MANY, retry_after=float(wait[1]) if wait else None)
    if code in TOTP or _LICENCE.search(words) or _LICENCE.search(code):
        return Result(Outcome.CHANNEL, code=code if code in TOTP else LICENCE)
    return Result(_by_status(status), code=code)


def _code(words: str, document: Mapping[str, Any]) -> str | None:
    suffix = _SUFFIX.search(words)
    candidates = (text(document.get("errorType")), suffix[1] if suffix else None, words)
    return next((code for code in candidates if code and _BARE.fullmatch(code)), None)


def _by_status(status: int) -> Outcome:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Outcome.CHANNEL
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Outcome.RETRY
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Outcome.UNKNOWN
    return Outcome.PERMANENT
