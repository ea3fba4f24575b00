"""Keyset pages: an opaque cursor, a bounded limit."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from router.domain.errors import Rejected

T = TypeVar("T")
LIMIT = 50
MOST = 200


def bounded(limit: int | None) -> int:
    """The page's length; 50 when none is asked for. Raises Rejected outside 1 to 200."""
    if limit is None:
        return LIMIT
    if not 1 <= limit <= MOST:
        raise Rejected("invalid_limit", f"limit is a number from 1 to {MOST}")
    return limit


def cursor(*place: object) -> str:
    """Where the next page begins; opaque, and good for a URL."""
    return base64.urlsafe_b64encode(json.dumps(place, default=str).encode()).decode().rstrip("=")


def _place(text: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        found = None
    if not isinstance(found, list):
        raise Rejected("invalid_cursor", "the cursor is none of ours")
    return found


def after_number(text: str | None) -> int | None:
    """The place of a page by seq. Raises Rejected."""
    if text is None:
        return None
    match _place(text):
        case [int(number)] if abs(number) < 1 << 62:
            return number
    raise Rejected("invalid_cursor", "the cursor belongs to another list")


def after_time(text: str | None) -> tuple[datetime, UUID] | None:
    """The place of a page by time and id. Raises Rejected."""
    if text is None:
        return None
    try:
        at, one = _place(text)
        return datetime.fromisoformat(at).astimezone(UTC), UUID(one)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise Rejected("invalid_cursor", "the cursor belongs to another list") from None


def page(
    found: Sequence[dict[str, Any]], limit: int, place: Callable[[dict[str, Any]], tuple[object, ...]]
) -> tuple[Sequence[dict[str, Any]], str | None]:
    """What was found with one row more than `limit`: the page, and the cursor when there is more."""
    kept = found[:limit]
    return kept, cursor(*place(kept[-1])) if len(found) > limit else None
