"""A desk that is never opened for real: commands meet autospecs of router.control."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

from router.cli import main, session
from router.domain.channel import Channel
from tests.unit.cli.scene import Control, Figueira

TOML = """
[channels.whatsapp]
kind = "whatsapp"
tenant = "clinica-sol"
[channels.whatsapp.native]
app_secret = "an-invented-secret"
"""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Commands send the process' logs to their stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FIGUEIRA_DATABASE_URL", "FIGUEIRA_CONFIG", "FIGUEIRA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FIGUEIRA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USER", "ana")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figueira.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = SimpleNamespace(channels={"whatsapp": Channel("whatsapp", "whatsapp", "clinica-sol")})

    @asynccontextmanager
    async def opened(_settings: object) -> AsyncIterator[Any]:
        yield made

    monkeypatch.setattr(session, "open_desk", opened)
    return made


@pytest.fixture
def control(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Control:
    """`control(module, "name", answer)`: the function answers so (an exception: raises); arguments are checked."""

    def fake(module: Any, name: str, answer: Any) -> AsyncMock:
        mock: AsyncMock = create_autospec(getattr(module, name))
        if isinstance(answer, Exception):
            mock.side_effect = answer
        else:
            mock.return_value = answer
        monkeypatch.setattr(module, name, mock)
        return mock

    return fake


@pytest.fixture
def figueira(capsys: pytest.CaptureFixture[str]) -> Figueira:
    """Exit code, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return run
