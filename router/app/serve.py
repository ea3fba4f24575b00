"""`figueira serve`: one process by default, several when asked, the same loops in each."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import uvicorn

from adapters.rocketchat.webhook import authentic, writes_to
from router import console, logs, metrics
from router.api.application import create_api
from router.api.webhooks import Accept, Front
from router.app.edges import open_edges, worker_of
from router.app.parts import Core, declared, open_core
from router.control import access, callbacks, channels, imports, processes, retention
from router.control.desk import Desk, every
from router.delivery import Claim, Delivery
from router.domain.errors import ConfigurationError, Conflict, FigueiraError, Unavailable
from router.domain.ids import Ids
from router.settings import Settings
from router.storage.doorbell import Doorbell
from router.worker import POLL_SECONDS, Worker

LOG = logging.getLogger("figueira.serve")
POOL = 16
"""Connections of each role a serving process opens at most."""
SLOTS = 32
"""Requests a worker process has under way at most."""
TRANSFERS = 8
"""Files a worker process fetches or hands over at once at most."""
POSTPONED_SECONDS = 1.0
SPLITTERS = 2
BEAT_SECONDS = 1.0
GAUGE_SECONDS = 2.0
GRACE_SECONDS = 5
RESTART_SECONDS = 1.0
DRIFT_SECONDS = 60.0
RETENTION_SECONDS = 300.0


def serve(settings: Settings, *, host: str, port: int, role: str, workers: int, metrics_port: int) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. `port` 0 takes a free one and logs it."""
    logs.configure(settings.log_format)
    if role == "worker":
        sock = _listen(host, metrics_port) if metrics_port else None
    else:
        sock = _listen(host, port)
    if workers > 1:
        return _supervise(settings, sock, role, workers)
    return _run(settings, sock, role)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another --port"
        ) from None
    sock.set_inheritable(True)
    return sock


# several processes ---------------------------------------------------------------------------------------


def _child(settings: Settings, sock: socket.socket | None, role: str, parent: int) -> None:
    logs.configure(settings.log_format)
    sys.exit(_run(settings, sock, role, parent=parent))


def _supervise(settings: Settings, sock: socket.socket | None, role: str, workers: int) -> int:
    """Start the children, start again those that die, stop them all on a signal."""
    place = tempfile.mkdtemp(prefix="figueira-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = place  # the children read it before they import the client
    context = multiprocessing.get_context("spawn")
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    def start() -> Any:
        child = context.Process(target=_child, args=(settings, sock, role, os.getpid()))
        child.start()
        return child

    children = [start() for _ in range(workers)]
    try:
        while not stopping:
            for index, child in enumerate(children):
                child.join(RESTART_SECONDS / workers)
                if not child.is_alive() and not stopping:
                    logs.event(LOG, "worker.restarted", level=logging.WARNING)
                    children[index] = start()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join(GRACE_SECONDS * 2)
            if child.is_alive():
                child.kill()
        shutil.rmtree(place, ignore_errors=True)
    return 0


# one process ---------------------------------------------------------------------------------------------


def _run(settings: Settings, sock: socket.socket | None, role: str, *, parent: int | None = None) -> int:
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(_serve(settings, sock, role, parent))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: stopping is ours, for the workers too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, sock: socket.socket | None, role: str, parent: int | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(settings, POOL, history=True))
        bell = await stack.enter_async_context(Doorbell(core.dsn))
        metrics.declare(declared(settings.channels))
        running = _Loops(stop)
        stack.push_async_callback(running.cancel)
        running.start("flags", lambda: _flags(core, bell, role))
        running.start("gauges", lambda: _gauges(core))
        running.start("imports", lambda: _imports(core))
        if parent is not None:
            running.start("parent", lambda: _watch_parent(parent, stop))
        if role != "web":
            edges = await open_edges(settings, core, stack)
            _start_worker(running, worker_of(settings, core, edges, bell), bell)
            running.start("drift", lambda: _drift(core))
            running.start("retention", lambda: _retention(core))
        server = _web(settings, core, role) if sock is not None else None
        serving = asyncio.create_task(server.serve(sockets=[sock])) if server is not None and sock else None
        name = sock.getsockname() if sock is not None else None
        logs.event(LOG, "serve.started", role=role, port=name[1] if name else 0)
        await _until(stop, serving)
        if server is not None and serving is not None:
            server.should_exit = True
            await serving
    logs.event(LOG, "serve.stopped", role=role)
    return 0


async def _until(stop: asyncio.Event, serving: asyncio.Task[None] | None) -> None:
    waiting = {asyncio.create_task(stop.wait())} | ({serving} if serving is not None else set())
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


class _Loops:
    """Background loops of this process. One that raises is logged and started again: the others never notice."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `loop()` for as long as the process serves."""
        self._tasks.append(asyncio.create_task(self._keep(name, loop), name=name))

    async def _keep(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self._stop.is_set():
            try:
                await loop()
            except Exception as error:  # noqa: BLE001 - logged by type and place, and the loop goes on
                logs.event(LOG, "loop.failed", level=logging.ERROR, loop=name, **logs.failure(error))
            await asyncio.sleep(RESTART_SECONDS)

    async def cancel(self) -> None:
        """Stop them all and wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _web(settings: Settings, core: Core, role: str) -> _Server:
    desk = core.desk
    app: Any = create_api(desk, settings=settings, operations_only=role == "worker")
    if role != "worker":
        console.mount(app, secure=(settings.public_url or "").startswith("https:"))
        known = settings.rocketchat

        def from_rocketchat(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
            return known is not None and authentic(
                headers, body, webhook_token=known.webhook_token, integration_token=known.integration_token
            )

        app = Front(
            app,
            Accept(
                store=desk.store, channels=settings.channels, kinds=desk.kinds, clock=core.clock, random=core.dice,
                rocketchat_authentic=from_rocketchat, authorize_key=partial(may_post, desk), policy=settings.policy,
            ),
        )  # fmt: skip
    return _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, proxy_headers=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS, http="httptools",
        )
    )  # fmt: skip


async def may_post(desk: Desk, token: str, body: bytes) -> bool:
    """Whether a key may post this to Rocket.Chat's webhook: one bound to a tenant, only its own channels' flat forms."""
    key = await access.key(desk, token)
    if key is None or not key.allows("webhook"):
        return False
    channel = writes_to(body, desk.channels)
    return every(key.tenant) or (channel is not None and channel.tenant == key.tenant)


def _start_worker(running: _Loops, worker: Worker, bell: Doorbell) -> None:
    for _ in range(SPLITTERS):
        running.start("split", worker.split)
    running.start("idle", worker.close_idle)
    running.start("sweep", worker.sweep)
    running.start("work", lambda: _dispatch(worker.delivery, bell))


async def _dispatch(delivery: Delivery, bell: Doorbell) -> None:
    """Claim while there are free slots; each claim is carried out on its own."""
    slots, under_way = asyncio.Semaphore(SLOTS), set[asyncio.Task[None]]()
    transfers = asyncio.Semaphore(TRANSFERS)
    try:
        while True:
            await slots.acquire()
            claim = None
            with contextlib.suppress(Unavailable, Conflict):
                claim = await delivery.claim()
            if claim is None:
                slots.release()
                await bell.wait("work", POLL_SECONDS)
                continue
            taken = slots
            if (
                claim.media is not None
            ):  # files are slow: they have places of their own, so that no message waits
                slots.release()
                if transfers.locked():
                    with contextlib.suppress(Unavailable, Conflict):
                        await delivery.postpone(claim, POSTPONED_SECONDS)
                    continue
                await transfers.acquire()
                taken = transfers
            task = asyncio.create_task(_carry(delivery, claim, taken))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    finally:
        if under_way:
            await asyncio.wait(under_way, timeout=GRACE_SECONDS)


async def _carry(delivery: Delivery, claim: Claim, slots: asyncio.Semaphore) -> None:
    try:
        await delivery.carry_out(claim)
    except FigueiraError as error:  # the lease runs out and the job is claimed again
        logs.event(LOG, "job.interrupted", level=logging.WARNING, **logs.failure(error))
    except Exception as error:  # noqa: BLE001 - logged by type and place; the lease runs out
        logs.event(LOG, "job.failed", level=logging.ERROR, **logs.failure(error))
    finally:
        slots.release()


async def _flags(core: Core, bell: Doorbell, role: str) -> None:
    """Keep the flags fresh and tell the others which revision this process has."""
    process_id = Ids(core.clock, core.dice).new()
    try:
        while True:
            await core.source.refresh()
            for kind in core.desk.kinds:
                flag = core.source.flag(kind)
                metrics.flag_revision.labels(kind).set(flag.revision)
            metrics.flag_age_seconds.set(core.source.age_seconds())
            with contextlib.suppress(Unavailable):
                await processes.beat(core.desk, process_id, role, core.source.revision)
            await bell.wait("flags", BEAT_SECONDS)
    finally:
        with contextlib.suppress(FigueiraError):
            await processes.leave(core.desk, process_id)


async def _gauges(core: Core) -> None:
    told: dict[str, str] = {}
    while True:
        with contextlib.suppress(Unavailable):
            ill = await channels.measure(core.desk)
            for slug in ill.keys() - told.keys():
                logs.event(LOG, "channel.ill", level=logging.ERROR, channel=slug, code=ill[slug])
            for slug in told.keys() - ill.keys():
                logs.event(LOG, "channel.well", channel=slug)
            told = ill
        await asyncio.sleep(GAUGE_SECONDS)


async def _imports(core: Core) -> None:
    """What imports have done, in whatever process they ran."""
    if core.desk.history is None:
        return
    from migration.collections.register import REGISTER  # loads MongoDB's formats

    gauges = imports.Gauges(core.desk.history, REGISTER)
    while True:
        with contextlib.suppress(Unavailable):
            await gauges.measure(core.clock.now())
        await asyncio.sleep(GAUGE_SECONDS)


async def _drift(core: Core) -> None:
    owner = core.desk.ids.new()
    while True:
        with contextlib.suppress(Unavailable, Conflict):
            await callbacks.drift_loop_once(core.desk, owner)
        await asyncio.sleep(DRIFT_SECONDS)


async def _retention(core: Core) -> None:
    owner = core.desk.ids.new()
    while True:
        with contextlib.suppress(Unavailable, Conflict):
            await retention.sweep_once(core.desk, owner)
        await asyncio.sleep(RETENTION_SECONDS)


async def _watch_parent(parent: int, stop: asyncio.Event) -> None:
    """A child whose parent was killed ends too."""
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel sends no event for this
        await asyncio.sleep(RESTART_SECONDS)
    stop.set()
