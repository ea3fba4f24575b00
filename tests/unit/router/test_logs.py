import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flags.stage import Stage
from router import logs

LOGGER = logging.getLogger("router.tested")
ID = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    touched = {name: logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")}
    yield
    root.handlers[:] = kept
    root.setLevel(level)
    for logger in touched.values():
        logger.disabled, logger.propagate = False, True
    logs._setup["strict"] = True


def started(form: str = "json", *, strict: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(form, stream=stream, strict=strict)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_with_its_fields() -> None:
    stream = started()
    logs.event(
        LOGGER, "forward.failed", channel="whatsapp", event_id=ID, stage=Stage.SHADOW, seconds=1.5, code=None
    )
    (line,) = lines(stream)
    assert line.pop("at_utc").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "forward.failed",
        "channel": "whatsapp",
        "event_id": str(ID),
        "stage": "shadow",
        "seconds": 1.5,
    }


def test_the_console_form() -> None:
    stream = started("console")
    logs.event(LOGGER, "forward.failed", level=logging.WARNING, channel="whatsapp", tries=2)
    assert stream.getvalue().split(maxsplit=1)[1] == "warning forward.failed channel=whatsapp tries=2\n"


REFUSED: list[dict[str, Any]] = [
    {"text": "oi"},
    {"phone": "5511987654321"},
    {"channel": "5511987654321"},
    {"code": "+5511987654321"},
    {"code": "tel5511987654321"},
    {"reason": "dor de cabeça forte"},
    {"contact_id": "5511987654321"},
    {"contact_id": "maria@example.com"},
    {"event_id": "x" * 36},
    {"count": 5511987654321},
    {"room_id": "55119876543210000"},
    {"seconds": "1.5 s"},
    {"error": ValueError("5511987654321")},
    {"name": "Maria"},
]


@pytest.mark.parametrize("fields", REFUSED)
def test_what_may_not_be_logged_raises_in_tests_and_is_dropped_in_production(fields: dict[str, Any]) -> None:
    stream = started(strict=True)
    with pytest.raises(logs.LogFieldError) as refused:
        logs.event(LOGGER, "thing.happened", **fields)
    for value in fields.values():
        assert str(value) not in str(refused.value)
    assert stream.getvalue() == ""
    stream = started()
    logs.event(LOGGER, "thing.happened", channel="wa", **({} if "channel" in fields else fields))
    logs.event(LOGGER, "thing.happened", **fields)
    assert lines(stream)[-1]["dropped"] == 1
    for value in fields.values():
        assert str(value) not in stream.getvalue()


@given(st.text(), st.text())
def test_no_words_of_a_foreign_record_get_through(words: str, argument: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    secret = f"§{words}§"
    record = logging.LogRecord("asyncio", 40, "x.py", 7, secret + "%s", (argument + "§",), None)
    handler.emit(record)
    assert "§" not in stream.getvalue()
    assert json.loads(stream.getvalue())["event"] == "library.said"


def test_our_own_free_text_does_not_get_through_either() -> None:
    stream = started()
    LOGGER.warning("Maria diz oi")
    LOGGER.warning("thing.%s", "maria")
    LOGGER.warning("flags.stale", extra={"fields": {"error": "ConnectionError", "text": "oi"}})
    free, formatted, named = lines(stream)
    assert free["event"] == formatted["event"] == "library.said"
    assert (named["event"], named["error"], named["dropped"]) == ("flags.stale", "ConnectionError", 1)
    assert "aria" not in stream.getvalue()


def fails() -> None:
    try:
        dict[str, str]()["5511987654321"]
    except KeyError as error:
        raise ValueError("Key (phone)=(5511987654321) already exists") from error


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_its_types_and_places_never_its_words(form: str) -> None:
    stream = started(form)
    try:
        fails()
    except ValueError:
        logs.event(LOGGER, "split.failed", level=logging.ERROR)
        logging.getLogger("asyncio").exception("task failed: 5511987654321")
    said = stream.getvalue()
    assert "5511" not in said
    assert said.count("ValueError:KeyError") == 2
    assert "test_logs" in said


def test_uvicorns_access_log_is_off_and_its_errors_come_through_here() -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    stream = started()
    logging.getLogger("uvicorn.access").info('%s - "GET /?phone=5511987654321"', "10.0.0.1")
    logging.getLogger("uvicorn.error").error("boom 5511987654321")
    (line,) = lines(stream)
    assert line["logger"] == "uvicorn.error"
    assert "5511" not in stream.getvalue()


def test_a_level_that_is_off_costs_nothing_and_says_nothing() -> None:
    stream = started()
    logs.event(LOGGER, "thing.happened", level=logging.DEBUG, text="not even checked")
    assert stream.getvalue() == ""
