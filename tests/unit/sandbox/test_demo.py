import socket
from pathlib import Path

import pytest

from deploy.sandbox.demo import MARK, Failed, alone, choose


def chosen(environ: dict[str, str]) -> tuple[Path, str]:
    place = choose({"PORT": "0", **environ})
    assert place.port > 0
    return place.home, place.prefix


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_need_no_prefix_in_a_directory_without_settings() -> None:
    assert chosen({}) == (Path(".figueira"), "")
    assert chosen({"FIGUEIRA_HOME": "h"}) == (Path("h"), "FIGUEIRA_HOME=h ")


@pytest.mark.parametrize("own", ["figueira.toml", ".figueira/figueira.toml"])
def test_settings_of_their_own_are_left_alone(here: Path, own: str) -> None:
    (here / ".figueira").mkdir()
    (here / own).write_text("# mine\n")
    home, prefix = chosen({})
    assert home == Path(".figueira/demo")
    assert prefix == "FIGUEIRA_HOME=.figueira/demo FIGUEIRA_CONFIG=.figueira/demo/figueira.toml "


def test_an_earlier_demo_s_settings_are_its_own(here: Path) -> None:
    (here / ".figueira").mkdir()
    (here / ".figueira/figueira.toml").write_text(f"{MARK}\n")
    assert chosen({}) == (Path(".figueira"), "")


def test_named_settings_are_somebody_s_own() -> None:
    assert chosen({"FIGUEIRA_CONFIG": "x.toml"})[0] == Path(".figueira/demo")


def test_a_database_of_their_own_is_never_played_with() -> None:
    with pytest.raises(Failed, match="unset it") as refused:
        choose({"FIGUEIRA_DATABASE_URL": "postgresql://u:hunter2@db/f"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("port", ["http", "65536", "-1", "\N{SUPERSCRIPT TWO}"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(Failed, match="PORT=8081 make run"):
        choose({"PORT": port})


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Failed, match="PORT=8081 make run"):
            choose({"PORT": str(taken.getsockname()[1])})


def test_one_demo_a_home(here: Path) -> None:
    with alone(here / "h"), pytest.raises(Failed, match="stop that one first"), alone(here / "h"):
        pass
    with alone(here / "h"):
        pass
