"""The embedded server against what really happens to it: kills, stale files, neighbours."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

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
    kill,
    new_place,
    new_template,
    postmaster,
    said,
    sockets_of,
)

pytestmark = pytest.mark.postgres


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


def test_first_start_then_restart_then_attach(place: Path) -> None:
    home = place / "deep" / "new home"
    with attach(home) as first:
        assert ask(first.dsn, "create table kept (n int)") is None
        began = time.perf_counter()
        with attach(home) as second:
            assert time.perf_counter() - began < 0.5  # 5 ms on an idle machine; a start takes longer
            assert second.dsn == first.dsn
            assert second.tcp_dsn == first.tcp_dsn
        assert answers(first.dsn), "the first use goes on"
    assert not answers(first.dsn)
    assert not sockets_of(first).exists()
    with attach(home) as again:
        assert again.dsn == first.dsn, "port and socket stay"
        assert ask(again.dsn, "select count(*) from kept") == 0
        again.release()
        again.release()  # twice is harmless
        assert not answers(again.dsn)


def test_settings_extensions_and_owner(home: Path) -> None:
    wanted = {
        "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
        "TimeZone": "UTC", "server_encoding": "UTF8", "shared_buffers": "128MB", "max_connections": "200",
        "listen_addresses": "127.0.0.1",
    }  # fmt: skip
    with attach(home) as server:
        assert {name: ask(server.dsn, f"show {name}") for name in wanted} == wanted
        for extension in ("vector", "unaccent", "pg_trgm"):
            ask(server.dsn, f"create extension {extension}")
        assert ask(server.dsn, "create role somebody") is None
        assert ask(server.dsn, "select current_database() || current_user") == "figueirafigueira"
        assert ask(server.dsn, "select lower('AÇÃO')") == "ação"


def test_tcp_asks_the_password_and_files_are_private(home: Path) -> None:
    with attach(home) as server:
        assert ask(server.tcp_dsn, "select host(inet_server_addr())") == "127.0.0.1"
        password = (home / "pg.password").read_text()
        assert password in server.tcp_dsn
        assert password not in repr(server)
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(server.tcp_dsn.replace(password, "wrong"), "select 1")
        assert {f.name: f.stat().st_mode & 0o777 for f in home.glob("pg.*")} == dict.fromkeys(
            ("pg.gate", "pg.use", "pg.log", "pg.port", "pg.password"), 0o600
        )
        sockets = sockets_of(server)
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert len(str(sockets)) < 80
        (home / "pg.password").unlink()
        with attach(home) as other:  # a lost password is made anew
            assert answers(other.tcp_dsn)
            assert not answers(server.tcp_dsn)


def test_the_log_keeps_clients_errors_out(home: Path) -> None:
    with attach(home) as server:
        with pytest.raises(asyncpg.PostgresError):
            ask(server.dsn, "select 'olá, meu telefone é 5511988887777'::int")
        assert "5511988887777" not in (home / "pg.log").read_text()


async def test_from_a_running_loop(home: Path) -> None:
    server = await asyncio.to_thread(attach, home)
    link = await asyncpg.connect(server.dsn)
    assert await link.fetchval("select 1") == 1
    await link.close()
    await asyncio.to_thread(server.release)


def test_two_processes_share_and_the_last_one_out_stops(home: Path) -> None:
    first, second = child(home), child(home)
    dsn = said(first)
    assert said(second) == dsn
    finish(first)
    assert answers(dsn)
    finish(second)
    assert not answers(dsn)
    assert not (home / "pg" / "postmaster.pid").exists()


def test_four_processes_attach_at_once(home: Path) -> None:
    children = [child(home) for _ in range(4)]
    assert len({said(process) for process in children}) == 1
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(finish, children))
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_killed_user_neither_stops_nor_keeps_the_server(home: Path) -> None:
    first = child(home)
    dsn = said(first)
    pid = postmaster(home)
    kill(first)
    assert answers(dsn)
    with attach(home):
        assert postmaster(home) == pid
    assert not answers(dsn)


def test_ctrl_c_for_the_group_leaves_the_server(home: Path) -> None:
    argv = [sys.executable, "-c", CHILD, str(home)]
    process = subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    said(process)
    with attach(home) as server:
        pid = postmaster(home)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode != 0
        assert postmaster(home) == pid
        assert answers(server.dsn)


def test_a_leaving_process_stops_it_without_asking(home: Path) -> None:
    code = (
        "import sys, pathlib; from router.storage.embedded import attach; attach(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], cwd=ROOT, check=True, timeout=30)
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_forked_child_holds_nothing(home: Path) -> None:
    server = attach(home)
    pid = os.fork()
    if pid == 0:
        server.release()  # the parent's, not the child's
        time.sleep(30)
        os._exit(0)
    try:
        assert answers(server.dsn)
        server.release()  # stops although the child lives
        assert not answers(server.dsn)
        with attach(home) as again:  # the child kept no lock
            assert answers(again.dsn)
        assert not answers(again.dsn)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_data_survive_a_killed_postmaster_with_a_busy_backend(home: Path) -> None:
    server = attach(home)
    ask(server.dsn, "create table kept as select generate_series(1, 1000) n")

    async def busy() -> None:
        link = await asyncpg.connect(server.dsn)
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            await link.fetchval("select count(*) from generate_series(1, 4000000000)")

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(asyncio.run, busy())
        deadline = time.monotonic() + 10
        count = "select count(*) from pg_stat_activity where state = 'active' and query like '%4000000000%'"
        while ask(server.dsn, count) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        crash(home)
        with attach(home) as again:
            assert ask(again.dsn, "select count(*) from kept") == 1000
            server.release()  # a use of the dead server counts as a use of its successor
            assert answers(again.dsn)
        running.result(timeout=10)
    assert not answers(again.dsn)


def spoil_truncate(pid_file: Path) -> None:
    pid_file.write_text(pid_file.read_text()[:2])


def spoil_empty(pid_file: Path) -> None:
    pid_file.write_text("")


def spoil_reuse(pid_file: Path) -> None:
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")


@pytest.mark.parametrize("spoil", [spoil_truncate, spoil_empty, spoil_reuse])
def test_a_stale_pid_file_is_survived(home: Path, spoil: Callable[[Path], None]) -> None:
    server = attach(home)
    crash(home)
    spoil(home / "pg" / "postmaster.pid")
    with attach(home) as again:
        assert answers(again.dsn)
        server.release()


def test_a_stale_pid_file_of_a_zombie(home: Path) -> None:
    server = attach(home)
    crash(home)
    zombie = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    pid_file = home / "pg" / "postmaster.pid"
    pid_file.write_text("\n".join([str(zombie.pid), *pid_file.read_text().splitlines()[1:]]) + "\n")
    with attach(home) as again:
        assert answers(again.dsn)
        server.release()
    zombie.wait()


def test_a_swept_socket_is_mended(home: Path) -> None:
    server = attach(home)
    pid = postmaster(home)
    shutil.rmtree(sockets_of(server))
    with attach(home) as again:
        assert answers(again.dsn)
        assert postmaster(home) != pid
        server.release()


def test_a_lost_port_file_and_a_taken_port(home: Path) -> None:
    with attach(home) as server:
        (home / "pg.port").unlink()
        with attach(home) as other:
            assert other.dsn == server.dsn
    with attach(home) as server, socket.socket() as taker:
        port = int(server.dsn.rsplit("=", 1)[1])
        server.release()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with attach(home) as moved:
            assert answers(moved.dsn)
            assert not moved.dsn.endswith(f"={port}")


def test_a_first_start_cut_short_is_made_whole(home: Path) -> None:
    with attach(home) as server:
        ask(server.dsn.replace("/figueira?", "/postgres?"), "drop database figueira")
        with attach(home) as other:
            assert answers(other.dsn)
    (home / "pg.new").mkdir()
    (home / "pg.new" / "PG_VERSION").write_text("18\n")
    (home / "pg").rename(home / "gone")
    with attach(home) as anew:
        assert answers(anew.dsn)
        assert answers(anew.tcp_dsn)


def test_errors_say_what_where_and_the_mend(home: Path) -> None:
    attach(home).release()
    (home / "pg" / "PG_VERSION").write_text("11\n")
    with pytest.raises(EmbeddedPostgresError) as caught:
        attach(home)
    assert caught.value.where == home
    assert "does not start" in caught.value.what
    assert "incompatible with server" in caught.value.log
    blocked = home / "pg.log" / "below"
    with pytest.raises(EmbeddedPostgresError, match="Not a directory"):
        attach(blocked)
