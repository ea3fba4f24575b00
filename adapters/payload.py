"""Reading JSON that others wrote: total, and every string in it fit for PostgreSQL.

The received bytes are kept elsewhere as the truth. What `load` returns may differ from them in what text and jsonb
columns cannot hold: NUL and lone surrogates become U+FFFD, numbers out of range become floats or None.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

DEPTH = 120
"""Deeper nesting is no provider's message; it only breaks what recurses later (orjson writes 254 levels)."""
_ID_LENGTH = 500  # of a B-tree entry's 2,700 bytes, at four bytes a character
_NAME_LENGTH = 240
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138; as milliseconds, 1973


class Malformed(Exception):
    """The bytes are not JSON, or nested deeper than DEPTH."""


def load(body: bytes) -> Any:
    """The JSON value of `body`, made storable. Raises Malformed and nothing else."""
    strict = True
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value, strict = _lenient(body), False
    # Walking the tree costs more than parsing it; most bodies cannot need it.
    if strict and b"\\u0000" not in body and body.count(b"{") + body.count(b"[") <= DEPTH:
        return value
    return _clean(value, DEPTH)


def exact(body: bytes) -> Any:
    """The JSON value of `body` with nothing replaced, for bytes that are to be written again. Raises Malformed."""
    try:
        return json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Malformed from error


def _lenient(body: bytes) -> Any:
    """What orjson refuses and PHP may have sent: lone surrogates, numbers past a double."""
    try:
        text = body.decode("utf-8", "surrogatepass")
        return json.loads(text, parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed from error


def _integer(written: str) -> int | float:
    return int(written) if len(written) < 19 else float(written)  # noqa: PLR2004 - what fits 64 bits


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _clean(value: Any, depth: int) -> Any:
    if depth < 0:
        raise Malformed
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def storable(text: str) -> str:
    """`text` with what PostgreSQL refuses replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A string with something in it; None for anything else."""
    return value if isinstance(value, str) and value else None


def identifier(value: Any) -> str | None:
    """An id: a string, or an integer written as one. One too long for an index is replaced by its digest."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = text(value)
    if found is not None and len(found) > _ID_LENGTH:
        return f"sha256:{hashlib.sha256(found.encode()).hexdigest()}"
    return found


def file_name(value: Any) -> str | None:
    """What a stranger calls a file: the last part of a path, at most 240 characters, without controls (those that turn
    the reading direction are some); None when nothing is left."""
    last = (text(value) or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip(" .")[:_NAME_LENGTH] or None


def moment(value: Any) -> datetime | None:
    """Aware UTC from seconds or milliseconds since 1970 (number or string), ISO 8601, or MongoDB's {"$date": …}.

    None for what is no point in time after 1970.
    """
    if isinstance(value, dict):
        value = value.get("$date")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = _from_number(float(value))
    except ValueError:
        found = _from_iso(str(value))
    except OverflowError:  # an integer past any double
        return None
    return found


def _from_number(seconds: float) -> datetime | None:
    if seconds >= _MILLISECONDS_FROM:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _from_iso(written: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(written)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.timestamp() > 0 else None
