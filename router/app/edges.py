"""The ways out of a worker, and the worker over them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from adapters import KINDS
from adapters.files.exchange import FileExchange
from adapters.files.rooms import Workspace
from adapters.files.store import open_store as open_files
from adapters.rocketchat.absent import Absent
from adapters.rocketchat.forward import AiohttpForwarder, open_session, within
from adapters.rocketchat.rest import RocketChatSender
from flags.stage import Path
from router.app.parts import Core
from router.delivery import Delivery
from router.domain.ports import Files, RocketChat, Sender
from router.ingest import Ingest
from router.settings import Settings
from router.storage.doorbell import Doorbell
from router.worker import Worker


@dataclass(frozen=True, slots=True)
class Edges:
    """The ways out of a worker."""

    forwarder: AiohttpForwarder
    senders: Mapping[tuple[Path, str], Sender]
    rocketchat: RocketChat
    files: Files


async def open_edges(settings: Settings, core: Core, stack: AsyncExitStack) -> Edges:
    """The session that forwards is closed with the stack; all else goes over the core's client."""
    forwarder = AiohttpForwarder(
        await stack.enter_async_context(open_session()), within(settings.policy.request_timeout_seconds)
    )
    clock, known, rest = core.clock, settings.rocketchat, core.rest
    to_rocketchat: Sender = RocketChatSender(rest, clock.monotonic) if rest is not None else Absent()
    workspace = None
    if known is not None and known.user_id and known.auth_token:
        workspace = Workspace(known.base_url, known.user_id, known.auth_token)
    files = FileExchange(
        core.client, open_files(settings.media), rocketchat=workspace, limit=settings.policy.media_limit_bytes,
        seconds=settings.policy.transfer_seconds, allow_hosts=settings.media.allow_hosts,
    )  # fmt: skip
    senders: dict[tuple[Path, str], Sender] = {}
    for name, adapter in KINDS.items():
        senders[Path.NATIVE, name] = adapter.sender(core.client, clock.monotonic)
        senders[Path.ROCKETCHAT, name] = to_rocketchat
    return Edges(forwarder, senders, rest or Absent(), files)


def worker_of(settings: Settings, core: Core, edges: Edges, bell: Doorbell) -> Worker:
    """The heart of a worker process."""
    desk = core.desk
    ingest = Ingest(
        store=desk.store, pins=desk.facade, resolver=core.resolver, ids=desk.ids, channels=desk.channels,
        kinds=desk.kinds, rooms=core.rooms, meter=desk.meter, policy=settings.policy,
    )  # fmt: skip
    delivery = Delivery(
        store=desk.store, clock=core.clock, random=core.dice, ids=desk.ids, channels=desk.channels, kinds=desk.kinds,
        senders=edges.senders, forwarder=edges.forwarder, rocketchat=edges.rocketchat, rooms=core.rooms,
        pins=desk.facade, files=edges.files, meter=desk.meter, policy=settings.policy,
    )  # fmt: skip
    return Worker(
        store=desk.store, ingest=ingest, delivery=delivery, pins=desk.facade, bell=bell, channels=desk.channels,
        sweeper=desk.sweep, owner=desk.ids.new(),
    )  # fmt: skip
