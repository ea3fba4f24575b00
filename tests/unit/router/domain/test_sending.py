from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flags.stage import Path
from router.domain.conversation import Reach
from router.domain.message import Content
from router.domain.policy import Policy
from router.domain.ports import Rules
from router.domain.sending import asks, chunks, pause, refusal, supported

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT, TEMPLATE = Content("text", "oi"), Content("template")
WINDOWED = Rules(window_hours=24)


@pytest.mark.parametrize(
    ("content", "ago", "path", "expected"),
    [
        (TEXT, timedelta(hours=23, minutes=59), Path.NATIVE, None),
        (TEXT, timedelta(hours=24), Path.NATIVE, "window_closed"),
        (TEXT, timedelta(hours=24), Path.ROCKETCHAT, "window_closed"),
        (TEXT, None, Path.NATIVE, "window_closed"),
        (TEXT, None, Path.ROCKETCHAT, None),
        (TEMPLATE, None, Path.NATIVE, None),
        (TEMPLATE, timedelta(days=30), Path.NATIVE, None),
    ],
)
def test_the_window(content: Content, ago: timedelta | None, path: Path, expected: str | None) -> None:
    heard_at = NOW - ago if ago is not None else None
    assert refusal(content, Reach(heard_at), WINDOWED, path, NOW) == expected


def test_no_window_no_refusal() -> None:
    assert refusal(TEXT, Reach(), Rules(), Path.NATIVE, NOW) is None


@pytest.mark.parametrize("content", [TEXT, TEMPLATE])
@pytest.mark.parametrize("path", list(Path))
def test_who_opted_out_gets_nothing(content: Content, path: Path) -> None:
    assert refusal(content, Reach(NOW, NOW), WINDOWED, path, NOW) == "opted_out"


def test_each_path_carries_its_own_kinds() -> None:
    rules = Rules(sends=frozenset({"text", "template"}))
    assert supported(TEMPLATE, rules, Path.NATIVE)
    assert not supported(TEMPLATE, rules, Path.ROCKETCHAT)
    assert supported(Content("image"), rules, Path.ROCKETCHAT)
    assert not supported(Content("image"), rules, Path.NATIVE)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("SAIR", "out"), ("sair", "out"), (" Parar! ", "out"), ("*PARAR*", "out"), ("stop", "out"),
        ("VOLTAR", "in"), ("quero parar de fumar", None), ("sair?  quando posso sair", None), ("", None),
        ("saír", None), ("parar sair", None),
    ],
)  # fmt: skip
def test_only_a_whole_message_is_a_wish(text: str, wish: str | None) -> None:
    assert asks(Content("text", text)) == wish


def test_a_caption_is_no_wish() -> None:
    assert asks(Content("image", "SAIR")) is None
    assert asks(Content("button", "Parar")) == "out"


def test_the_pause_grows_to_its_cap() -> None:
    policy = Policy()
    assert [pause(count, policy) for count in range(1, 7)] == [4, 16, 64, 256, 256, 256]


def _utf8(words: str) -> int:
    return len(words.encode("utf-8", "surrogatepass"))


@given(st.text(max_size=400), st.integers(4, 60), st.sampled_from([len, _utf8]))
def test_no_piece_is_too_long_and_nothing_is_lost(words: str, limit: int, measure: object) -> None:
    pieces = chunks(words, limit, measure)  # type: ignore[arg-type]
    assert all(measure(piece) <= limit for piece in pieces)  # type: ignore[operator]
    assert "".join("".join(pieces).split()) == "".join(words.split())
    if words.strip():
        assert all(piece.strip() for piece in pieces)


def test_cuts_where_a_reader_would_pause() -> None:
    words = "Bom dia, Ana. Sua consulta é amanhã.\n\nTraga o exame. Até lá!"
    assert chunks(words, 40, len) == ["Bom dia, Ana. Sua consulta é amanhã.", "Traga o exame. Até lá!"]
    assert chunks("a" * 10, 4, len) == ["aaaa", "aaaa", "aa"]
    assert chunks("uma frase só", 100, len) == ["uma frase só"]
    assert chunks("um dois tres", 7, len) == ["um dois", "tres"]
