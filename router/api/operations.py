"""Is it alive, is it ready, how does it go: health, metrics, the comparison of the paths, the console's stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from router import metrics
from router.api.auth import AtDesk, Caller, Needs, guarded
from router.api.flags import redacted
from router.api.models import Comparison, Name, Ready, Since
from router.control import channels, compare
from router.control.desk import Desk
from router.domain.errors import FigueiraError, Rejected
from router.domain.job import ROCKETCHAT_GATE, native_gate
from router.domain.ports import Tx

public = APIRouter(tags=["operations"])
"""Open to whoever reaches the port: no tenant, no contact, no text in any of it."""
router = guarded("operations")

Reads = Annotated[Caller, Depends(Needs("operations:read"))]

READY_SECONDS: Final = 2.0
"""How long the database may take to answer before this process counts as not ready."""
STREAMS: Final = 32
"""Open streams of one process; one more is refused."""
STREAM_SECONDS: Final = 60.0
"""A stream ends after this and the browser comes back: so a revoked session ends too, and a stop is not held up."""
EVERY_SECONDS: Final = 1.0


@public.get("/health/live")
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "live"}


@public.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(desk: AtDesk) -> Response:
    """200 while the database answers; what else is down is in `degraded`, and is held for."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            degraded = await desk.store.transact(lambda tx: _open_gates(tx, desk))
    except (FigueiraError, TimeoutError):
        return JSONResponse({"status": "unavailable", "degraded": ["database"]}, 503)
    return JSONResponse({"status": "ready", "degraded": degraded})


async def _open_gates(tx: Tx, desk: Desk) -> list[str]:
    gates = [ROCKETCHAT_GATE, *map(native_gate, sorted(desk.channels))]
    return [gate for gate in gates if (await tx.breaker(gate, lock=False)).is_open]


@public.get("/metrics", response_class=Response)
async def exposition() -> Response:
    """For Prometheus."""
    body, content_type = metrics.exposition()
    return Response(body, headers={"Content-Type": content_type})


@router.get("/paths/compare", response_model=Comparison)
async def comparison(
    desk: AtDesk,
    caller: Reads,
    kind: Name | None = None,
    channel: Name | None = None,
    since: Since = None,
) -> Any:
    """Both paths side by side, of what the caller may see."""
    if channel is not None and caller.bound is not None:
        named = desk.channels.get(channel)
        if named is None or named.tenant != caller.bound:
            raise Rejected("unknown_channel", "there is no such channel", 404)
    return await compare.compare(desk, kind, channel, since, tenant=caller.bound)


# the stream ------------------------------------------------------------------------------------------------


class Streams:
    """What all streams of a process share: how many there are, and for each tenant (None: all) one overview, a
    moment old at most."""

    def __init__(self) -> None:
        self.open = 0
        self._lock = asyncio.Lock()
        self._kept: dict[str | None, tuple[float, list[dict[str, Any]]]] = {}

    async def overview(self, desk: Desk, tenant: str | None) -> list[dict[str, Any]]:
        """The state of every channel the tenant has."""
        async with self._lock:
            kept = self._kept.get(tenant)
            if kept is None or desk.clock.monotonic() - kept[0] >= EVERY_SECONDS / 2:
                read = await channels.overview(desk, tenant=tenant)
                kept = self._kept[tenant] = (desk.clock.monotonic(), read)
            return kept[1]


@router.get(
    "/stream", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}, 503: {}}
)
async def stream(request: Request, desk: AtDesk, caller: Reads) -> Response:
    """Server-sent events `overview`, about one a second: every channel the caller may see. Ends after a minute."""
    streams: Streams = request.app.state.streams
    if streams.open >= STREAMS:
        raise Rejected("busy", "too many streams are open on this process", 503)
    first = await _event(streams, desk, caller)  # what fails now still has a status of its own
    return StreamingResponse(
        _events(streams, desk, caller, first),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(streams: Streams, desk: Desk, caller: Caller, first: bytes) -> AsyncIterator[bytes]:
    if streams.open >= STREAMS:  # others began while this one waited for its first event
        return
    streams.open += 1
    try:
        end = desk.clock.monotonic() + STREAM_SECONDS
        yield b"retry: 1000\n\n" + first
        while desk.clock.monotonic() < end:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                yield await _event(streams, desk, caller)
            except FigueiraError:
                yield b"event: unavailable\ndata: {}\n\n"
    finally:
        streams.open -= 1


async def _event(streams: Streams, desk: Desk, caller: Caller) -> bytes:
    overview = await streams.overview(desk, caller.bound)
    if caller.bound is not None:
        overview = [{**one, "override": redacted(one["override"])} for one in overview]
    return b"event: overview\ndata: " + orjson.dumps({"channels": overview}) + b"\n\n"
