"""The sandbox's server: the stand-ins, and ``/control`` to steer and question them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from deploy.sandbox.access import Access
from deploy.sandbox.callbacks import Callbacks
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.control import Control, json_answer
from deploy.sandbox.dialog360 import Dialog360
from deploy.sandbox.faults import Faults
from deploy.sandbox.files import FileStore
from deploy.sandbox.graph import Graph
from deploy.sandbox.media import Media
from deploy.sandbox.posting import Poster
from deploy.sandbox.record import Record
from deploy.sandbox.rest import Rest
from deploy.sandbox.rocketchat import RocketChat
from deploy.sandbox.webhooks import Webhooks
from deploy.sandbox.workspace import Workspace

_LARGEST_BODY = 160 * 1024 * 1024  # a document of 100 MB, and the same in base64 for control
_LONGEST_LINE = 65536


class Sandbox:
    """All stand-ins on one application; `log` is the record's JSON-lines file."""

    def __init__(self, log: Path | None = None) -> None:
        self.config = Configuration()
        self.record = Record(log)
        self.faults = Faults()
        self.workspace = Workspace()
        self.files = FileStore()
        self.poster = Poster(self.record)
        self.webhooks = Webhooks(self.config, self.poster)
        access = Access(self.config)
        shared = self.config, self.record, self.faults
        self.graph = Graph(*shared, self.poster, self.webhooks, self.files, access)
        self.media = Media(*shared, self.files, access)
        self.callbacks = Callbacks(*shared, self.webhooks, access)
        self.dialog = Dialog360(*shared, self.webhooks, access, self.graph, self.media)
        self.chat = RocketChat(*shared, self.poster, self.graph, self.media, self.workspace)
        self.rest = Rest(*shared, self.workspace, self.chat)
        self.control = Control(
            *shared,
            self.poster,
            self.webhooks,
            self.files,
            self.graph,
            self.chat,
            self.workspace,
            self._reset,
        )

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard])
        app.add_routes(
            [
                *self._whatsapp(),
                web.route("*", "/rocketchat/api/apps/public/{app}/{path:.*}", self.chat.app_endpoint),
                web.route("*", "/rocketchat/api/v1/{method:.+}", self.rest.call),
                web.get("/rocketchat/file-upload/{id}/{name:.*}", self.rest.file),
                *self.control.routes(),
            ]
        )
        app.on_cleanup.append(self._cleanup)
        return app

    def _whatsapp(self) -> list[web.RouteDef]:
        return [
            web.post("/graph/{version}/{phone_number_id}/messages", self.graph.messages),
            web.post("/graph/{version}/{phone_number_id}/media", self.media.upload),
            web.route("*", "/graph/{version}/{node}/subscribed_apps", self.callbacks.subscribed_apps),
            web.route("*", "/graph/{version}/{node}/subscriptions", self.callbacks.subscriptions),
            web.get("/graph/{version}/{node}", self._node),
            web.post("/graph/{version}/{node}", self.callbacks.set_number),
            web.delete("/graph/{version}/{node}", self.media.delete),
            web.get("/whatsapp_business/attachments/", self.media.download),
            web.get("/d360/whatsapp_business/attachments/", self.media.download),
            web.post("/d360/messages", self.dialog.messages),
            web.post("/d360/media", self.dialog.upload),
            web.get("/d360/v1/configs/webhook", self.dialog.webhook),
            web.post("/d360/v1/configs/webhook", self.dialog.webhook),
            web.get("/d360/{media_id}", self.dialog.describe),
            web.delete("/d360/{media_id}", self.dialog.delete),
        ]

    async def start(self, port: int) -> tuple[web.AppRunner, int]:
        """Serve on 127.0.0.1; returns the runner (``await runner.cleanup()`` stops it) and the port taken."""
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=0.2,
            # The record keeps the bytes as they came; decompressing would change them.
            auto_decompress=False,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        return runner, int(runner.addresses[0][1])

    async def _node(self, request: web.Request) -> web.StreamResponse:
        """GET /graph/{version}/{id}: a number's settings, or a file."""
        known = request.match_info["node"] in self.config.numbers
        return await (self.callbacks.show_number if known else self.media.describe)(request)

    async def _reset(self) -> None:
        """Everything as at the start: settings, faults, rooms, records; background work is ended first."""
        await self.poster.stop()
        self.config.reset()
        self.faults.rules.clear()
        self.workspace.clear()
        self.files.clear()
        self.webhooks.clear()
        self.graph.rules.clear()
        self.rest.clear()
        self.record.clear()

    async def _cleanup(self, _: web.Application) -> None:
        await self.poster.close()
        self.record.close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Control: wrong input is 400. Stand-ins: a fault of our own is a row, so that tests can see it."""
        try:
            return await handler(request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if request.path.startswith("/control/"):
                return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)
            self.record.add("errors", {"where": request.path, "error": repr(error)})
            raise
