"""Values of BSON documents as PostgreSQL takes them. What does not fit raises Reject with its code and the field's name;
what a value says never stands in the reason.
"""

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from bson import DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from migration.documents import Reject

FIRST: Final = -62_135_596_800_000
"""0001-01-01 in milliseconds since 1970."""
LAST: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
DEPTH: Final = 200
"""MongoDB nests 100 levels; orjson writes 254."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT64: Final = 2**63
_EXACT: Final = 2**53
"""Up to here every integer is a double."""

# Whoever holds one of these is let in: the visitor's token (uploads call it visitorToken), a login, an invitation.
_TOKENS: Final = frozenset(
    ("token", "visitorToken", "hashedToken", "authToken", "accessToken", "refreshToken", "loginToken", "inviteToken")
)  # fmt: skip
_IN_LINK: Final = re.compile(r"(?<=oken=)[^&#\s\"'<>]+")


# one field -------------------------------------------------------------------------------------------------


def text(document: Mapping[str, Any], name: str) -> str | None:
    """A string; None where it is missing, null or empty."""
    value = document.get(name)
    return sound(value, name) or None if value is not None else None


def sound(value: Any, name: str) -> str:
    """`value` if it is a string that PostgreSQL takes."""
    if type(value) is not str:
        raise Reject("wrong_type", f"{name} is {_called(value)} and no string")
    if "\x00" in value:
        raise Reject("nul", f"{name} holds a NUL character")
    if not value.isascii() and not _encodable(value):
        raise Reject("wrong_type", f"{name} is no valid Unicode")
    return value


def clean(value: str) -> bool:
    """Whether `sound` takes it."""
    return "\x00" not in value and (value.isascii() or _encodable(value))


def identifier(document: Mapping[str, Any], name: str) -> str | None:
    """An id or a label as text: a string, an ObjectId, or a whole number written as one."""
    value = document.get(name)
    if type(value) is str:
        return sound(value, name) or None
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if isinstance(value, ObjectId) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    return sound(value, name) or None


def inner(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An embedded document; empty where it is missing or null."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Reject("wrong_type", f"{name} is {_called(value)} and no document")
    return value


def time(document: Mapping[str, Any], name: str, *, loose: bool = False) -> int | None:
    """Milliseconds since 1970. `loose`: Rocket.Chat is known to write this one as a string or a number, too."""
    value = document.get(name)
    if type(value) is DatetimeMS:
        found = int(value)
    elif value is None:
        return None
    elif loose:
        found = _told(value, name)
    else:
        raise Reject("wrong_type", f"{name} is {_called(value)} and no date")
    if FIRST <= found <= LAST:
        return found
    raise Reject("date_range", f"{name} is not between the years 1 and 9999")


def _told(value: Any, name: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    try:
        told = datetime.fromisoformat(value)
        told = told.replace(tzinfo=UTC) if told.tzinfo is None else told
        return (told - _EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError):
        raise Reject("wrong_type", f"{name} is {_called(value)} and no date") from None


def flag(document: Mapping[str, Any], name: str) -> bool | None:
    """True, False, or None where it is missing or null."""
    value = document.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise Reject("wrong_type", f"{name} is {_called(value)} and neither true nor false")


def integer(document: Mapping[str, Any], name: str) -> int | None:
    """A whole number that a bigint holds: Rocket.Chat mixes int32, int64 and double."""
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, Decimal128):
        value = float(str(value.to_decimal())) if not value.to_decimal().is_nan() else math.nan
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise Reject("wrong_type", f"{name} is {_called(value)} and no whole number")
    if not -_INT64 <= value < _INT64:
        raise Reject("wrong_type", f"{name} does not fit 64 bits")
    return int(value)


# what has no column ----------------------------------------------------------------------------------------


def json(fields: Any) -> bytes | None:
    """JSON without tokens; None when there is nothing. Dates are ISO strings, beyond the years 1 to 9999 integers
    (milliseconds); bytes are base64."""
    if not fields:
        return None
    written = _dumped(fields)
    if b"oken" not in written and b"\\u0000" not in written:
        return written
    swept = _swept(fields, "extra")
    return _dumped(swept) if swept else None


def rest(document: Mapping[str, Any], taken: frozenset[str]) -> bytes | None:
    """The fields that are not `taken`, as JSON; null ones are left out."""
    return json({name: value for name, value in document.items() if name not in taken and value is not None})


def plain(value: Any) -> Any:
    """As the webhooks and REST write it: dates as {"$date": milliseconds}, no BSON types, whole numbers as integers
    (JavaScript has but one kind). Raises Reject when it is nested too deep."""
    return _plain(value, DEPTH)


def _plain(value: Any, depth: int) -> Any:
    if depth < 0:
        raise Reject("wrong_type", f"nested deeper than {DEPTH} levels")
    if isinstance(value, dict):
        return {name: _plain(one, depth - 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, depth - 1) for one in value]
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return (
            str(value) if value.isascii() or _encodable(value) else value.encode("utf-8", "replace").decode()
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)  # an Int64 is one
    return {"$date": int(value)} if isinstance(value, DatetimeMS) else _written(value)


def _number(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _dumped(fields: Any) -> bytes:
    try:
        return orjson.dumps(fields, default=_written)
    except TypeError:  # too deep, a lone surrogate, an integer past 64 bits
        raise Reject("wrong_type", "extra: cannot be written as JSON") from None


def _swept(value: Any, place: str) -> Any:
    """Without tokens, also those in a link; raises Reject for a NUL."""
    if isinstance(value, dict):
        return {
            _clear(name, place): _swept(one, f"{place}.{name}")
            for name, one in value.items()
            if name not in _TOKENS
        }
    if isinstance(value, list):
        return [_swept(one, place) for one in value]
    if isinstance(value, DBRef):
        return _swept(dict(value.as_doc()), place)
    return _clear(value, place) if isinstance(value, str) else value


def _clear(value: str, place: str) -> str:
    if "\x00" in value:
        raise Reject("nul", f"{place} holds a NUL character")
    return _IN_LINK.sub("", value) if "oken=" in value else value


def _written(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, DatetimeMS):
        return iso(int(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Regex):
        return value.pattern if isinstance(value.pattern, str) else _written(value.pattern)
    if isinstance(value, Timestamp):
        return {"$timestamp": {"t": value.time, "i": value.inc}}
    if isinstance(value, DBRef):
        return _plain(dict(value.as_doc()), DEPTH // 2)
    if isinstance(value, ObjectId | Decimal128):
        return str(value)
    if isinstance(value, MinKey | MaxKey):
        return _called(value)
    raise TypeError


def iso(milliseconds: int) -> str | int:
    """As JavaScript writes a Date; the number itself where Python knows no such year."""
    if not FIRST <= milliseconds <= LAST:
        return milliseconds
    at = _EPOCH + timedelta(milliseconds=milliseconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _called(value: Any) -> str:
    return type(value).__name__
