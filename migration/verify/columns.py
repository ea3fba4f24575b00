"""Typed columns against what the mapper makes of the document."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from migration.collections import Row
from migration.documents import Reject, decode
from router.storage.archive.shape import Shape, Type

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def wrong_columns(shape: Shape, made: Row, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a stored row that do not hold what the mapper made; `raw` is not looked at."""
    return tuple(
        name
        for (name, kind), value in zip(shape.columns, made, strict=True)
        if kind is not Type.RAW and _plain(kind, value) != _plain(kind, row[name])
    )


def wrong_fields(ours: bytes, theirs: bytes) -> tuple[str, ...]:
    """The top-level fields in which two documents differ; none: in the bytes of one only, or in their order."""
    first, second = decode([ours])[0], decode([theirs])[0]
    if isinstance(first, Reject) or isinstance(second, Reject):
        return ()
    absent = object()
    return tuple(
        name for name in {**first, **second} if _other(first.get(name, absent), second.get(name, absent))
    )


def _other(one: Any, two: Any) -> bool:
    return type(one) is not type(two) or bool(one != two)


def _plain(kind: Type, value: Any) -> Any:
    if value is None:
        return None
    if kind is Type.TIME and isinstance(value, datetime):
        return (value - _EPOCH) // _MILLISECOND
    if kind is Type.JSON and isinstance(value, bytes | str):
        return json.loads(value)
    return value
