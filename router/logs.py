"""Logs as events with fields: `noun.verb`, ids and numbers. Never text, addresses or secrets.

What may stand in a line is an allow-list: each field has a name listed here and a value of that name's shape.
Driver and library messages may hold values of rows and requests, so a foreign record keeps its place in the code
and the type of its exception, and loses its words.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from traceback import walk_tb
from types import TracebackType
from typing import Any, Final, TextIO
from uuid import UUID

import orjson

Value = str | int | float | bool | None

_EVENT: Final = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METEOR: Final = re.compile(r"[0-9A-Za-z]{17}")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,79}|[0-9]{1,6}")
_DIGITS: Final = re.compile(r"[0-9]{7}")
_PLACE: Final = re.compile(r"[\w.<>]+:[0-9]+( [\w.<>]+:[0-9]+)*")
_HOST: Final = re.compile(r"[A-Za-z0-9.:-]{1,100}")
_LARGEST: Final = 10**9  # a telephone number with its country code is larger
_FRAMES: Final = 8
_OURS: Final = frozenset({"router", "adapters", "flags", "migration", "figueira", "deploy"})

_QUIET: Final = (
    "uvicorn",
    "httpx",
    "aiohttp",
    "asyncio",
    "apscheduler",
    "alembic",
    "sqlalchemy",
    "UnleashClient",
)


class LogFieldError(ValueError):
    """A log call names a field that may not be logged, or gives it a value of another shape."""


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _word(value: object) -> bool:
    """A slug, a code, a name of our own: short, and no run of digits long enough to be a telephone number."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None and not _DIGITS.search(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _id(value: object) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _rocketchat_id(value: object) -> bool:
    return isinstance(value, str) and _METEOR.fullmatch(value) is not None and not value.isdecimal()


_SHAPES: Final[Mapping[Callable[[object], bool], str]] = {
    _id: """attempt_id contact_id conversation_id decision_id event_id identity_id job_id key_id message_id
        request_id worker_id""",
    _rocketchat_id: "room_id source_id",
    _word: """action author channel code collection command direction error feature flags gate job kind lane method
        metric mode outcome path reason role route rule signal source stage state status step table tenant type
        verdict version""",
    _number: """attempt attempts bytes count depth dropped duplicate events failures fence handled jobs limit number
        parts percent pid pin_version port revision rows seconds seq size status_code tries waiting workers""",
    _matches(_PLACE): "at",
    _matches(_HOST): "host",
}
_ALLOWED: Final[dict[str, Callable[[object], bool]]] = {
    name: shape for shape, names in _SHAPES.items() for name in names.split()
}

_setup: Final = {"strict": True}  # lenient only once `configure` has said so: a test sees every slip


def _plain(value: object) -> Value:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    return value if isinstance(value, bool | int | float) else None


def _checked(fields: Mapping[str, object]) -> dict[str, Value]:
    """The fields that may be logged. A field of None is left out."""
    kept: dict[str, Value] = {}
    refused = 0
    for name, raw in fields.items():
        if raw is None:
            continue
        value = _plain(raw)
        if name in _ALLOWED and _ALLOWED[name](value):
            kept[name] = value
        elif _setup["strict"]:
            raise LogFieldError(
                f"the field {name!r} may not be logged so: router/logs.py lists names and shapes"
            )
        else:
            refused += 1
    if refused:
        kept["dropped"] = refused
    return kept


def event(logger: logging.Logger, name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event. `name` is "noun.verb"; fields are those of the allow-list, UUIDs as they are.

    Inside an `except` block at level ERROR or above the type and place of the exception come along.
    A field that may not be logged raises LogFieldError until `configure(strict=False)`; then it is dropped.
    """
    if not logger.isEnabledFor(level):
        return
    failed = level >= logging.ERROR and sys.exc_info()[0] is not None
    logger.log(level, name, exc_info=failed, extra={"fields": _checked(fields)}, stacklevel=2)


def failure(error: BaseException) -> dict[str, Value]:
    """An exception without its words: the types along its chain, and the innermost places in the code."""
    types: list[str] = []
    current: BaseException | None = error
    while current is not None and len(types) < _FRAMES:
        types.append(type(current).__qualname__.replace("<locals>", "local"))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return {"error": ":".join(types), "at": _places(error.__traceback__)}


def _places(trace: TracebackType | None) -> str | None:
    frames = [f"{frame.f_globals.get('__name__', 'unknown')}:{line}" for frame, line in walk_tb(trace)]
    return " ".join(frames[-_FRAMES:]) or None


def _record(record: logging.LogRecord) -> dict[str, Value]:
    """What a line says, in order."""
    line: dict[str, Value] = {
        "at_utc": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
    }
    ours = record.name.partition(".")[0] in _OURS and isinstance(record.msg, str) and not record.args
    if ours and _EVENT.fullmatch(record.msg):
        fields: Any = getattr(record, "fields", {})
        line |= {"event": record.msg, **_checked(fields)}
    else:
        line |= {"event": "library.said", "logger": record.name, "where": f"{record.module}:{record.lineno}"}
    if record.exc_info and record.exc_info[1] is not None:
        line |= {key: value for key, value in failure(record.exc_info[1]).items() if value is not None}
    return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(_record(record)).decode()


class ConsoleFormatter(logging.Formatter):
    """`12:00:00 info forward.failed channel=whatsapp`: for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = _record(record)
        head = f"{str(line.pop('at_utc'))[11:19]} {line.pop('level'):<7} {line.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in line.items())])


def configure(
    form: str = "json", *, level: int = logging.INFO, stream: TextIO | None = None, strict: bool = False
) -> None:
    """Send every log of the process through here (`form`: json or console; default stream: stderr).

    uvicorn's own handlers go; its access log, which would hold addresses and queries, is off.
    """
    _setup["strict"] = strict
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter() if form == "console" else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        logger.disabled = name == "uvicorn.access"
    # Libraries say at INFO what the metrics say better (every poll, every request).
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
