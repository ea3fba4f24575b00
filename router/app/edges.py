"""The ways out of a worker, and the worker over them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from adapters import KINDS
from adapters.rocketchat.absent import Absent
from adapters.rocketchat.forward import AiohttpForwarder, open_session, within
from adapters.rocketchat.rest import RocketChatRest, RocketChatSender
from adapters.rocketchat.webhook import Webhook
from adapters.transport import open_client
from flags.stage import Path
from router.app.parts import Core, SystemClock
from router.delivery import Delivery
from router.domain.ports import RocketChat, Sender
from router.ingest import Ingest, Rooms
from router.settings import Settings
from router.storage.doorbell import Doorbell
from router.worker import Worker


@dataclass(frozen=True, slots=True)
class Edges:
    """The ways out of a worker."""

    forwarder: AiohttpForwarder
    senders: Mapping[tuple[Path, str], Sender]
    rocketchat: RocketChat


async def open_edges(settings: Settings, clock: SystemClock, stack: AsyncExitStack) -> Edges:
    """HTTP clients, closed with the stack."""
    seconds = settings.policy.request_timeout_seconds
    client = await stack.enter_async_context(open_client(seconds))
    session = await stack.enter_async_context(open_session())
    forwarder = AiohttpForwarder(session, within(seconds))
    rocketchat: RocketChat
    to_rocketchat: Sender
    known = settings.rocketchat
    if known is not None and known.user_id and known.auth_token:
        rocketchat = RocketChatRest(client, known.base_url, known.user_id, known.auth_token, clock)
        to_rocketchat = RocketChatSender(rocketchat, clock.monotonic)
    else:
        rocketchat = to_rocketchat = Absent()
    senders: dict[tuple[Path, str], Sender] = {}
    for name, adapter in KINDS.items():
        senders[Path.NATIVE, name] = adapter.sender(client, clock.monotonic)
        senders[Path.ROCKETCHAT, name] = to_rocketchat
    return Edges(forwarder, senders, rocketchat)


def worker_of(settings: Settings, core: Core, edges: Edges, bell: Doorbell) -> Worker:
    """The heart of a worker process."""
    desk, known = core.desk, settings.rocketchat
    sources = {name: source.channel for name, source in known.sources.items()} if known is not None else {}
    rooms = Rooms(
        pins=desk.facade, resolver=core.resolver, ids=desk.ids, channels=desk.channels,
        webhook=Webhook(sources, desk.channels), bot_user_id=known.bot_user_id if known is not None else None,
    )  # fmt: skip
    ingest = Ingest(
        store=desk.store, pins=desk.facade, resolver=core.resolver, ids=desk.ids, channels=desk.channels,
        kinds=desk.kinds, rooms=rooms, meter=desk.meter, policy=settings.policy,
    )  # fmt: skip
    delivery = Delivery(
        store=desk.store, clock=core.clock, random=core.dice, ids=desk.ids, channels=desk.channels, kinds=desk.kinds,
        senders=edges.senders, forwarder=edges.forwarder, rocketchat=edges.rocketchat, rooms=rooms, meter=desk.meter,
        policy=settings.policy,
    )  # fmt: skip
    return Worker(
        store=desk.store,
        ingest=ingest,
        delivery=delivery,
        pins=desk.facade,
        bell=bell,
        channels=desk.channels,
    )
