"""A web server on loopback that answers by path, keeps what it was asked, and can be as bad as one likes."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """`pages`: path → handler, or a response made anew for each request. What no page answers is a 404."""

    def __init__(self) -> None:
        self.pages: dict[str, Handler] = {}
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []
        self._runner = web.AppRunner(self._application(), shutdown_timeout=0.2)
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def paths(self) -> list[str]:
        return [str(request.rel_url) for request in self.asked]

    def says(
        self, path: str, body: bytes = b"", status: int = 200, mime: str = "application/octet-stream", **headers: str
    ) -> None:  # fmt: skip
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, content_type=mime, headers=named)

        self.pages[path] = handler

    def json(self, path: str, *documents: object, status: int = 200) -> None:
        """One after the other; the last one stays."""
        left = list(documents)

        async def handler(_: web.Request) -> web.Response:
            return web.json_response(left.pop(0) if len(left) > 1 else left[0], status=status)

        self.pages[path] = handler

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=256 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        return application

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        page = self.pages.get(request.path)
        return await page(request) if page else web.Response(status=404)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
