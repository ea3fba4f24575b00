"""A headless Chromium driven by its own protocol (CDP) over aiohttp's WebSocket: what a page test needs, no more."""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--no-proxy-server", "--remote-debugging-port=0", "--window-size=1280,900",
)  # fmt: skip
_PORT_FILE = "DevToolsActivePort"


def chromium() -> str | None:
    """Where the browser is; None when this machine has none."""
    return shutil.which("chromium")


class Page:
    """One tab. What the page itself complains about (CSP, exceptions, failed loads) is kept in `complaints`."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse) -> None:
        self._link = link
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self._link:
            told = json.loads(frame.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.complaints.append(told["params"]["entry"]["text"])
            elif told["method"] == "Runtime.exceptionThrown":
                thrown = told["params"]["exceptionDetails"]
                self.complaints.append(thrown.get("exception", {}).get("description", thrown["text"]))

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        answer = self._waiting[number]
        await self._link.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(answer, 10)
        assert "error" not in told, told
        return told["result"]

    async def begin(self) -> None:
        for domain in ("Page", "Log", "Runtime"):
            await self.call(f"{domain}.enable")

    async def end(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def go(self, url: str) -> None:
        """Open an address and wait until its scripts have run."""
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href.startsWith({json.dumps(url.partition('?')[0][:30])})")
        await self.until("document.readyState === 'complete'")

    async def js(self, expression: str) -> Any:
        """The value of an expression (a promise is awaited)."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, expression: str, seconds: float = 10) -> None:
        """Ask again and again until the expression is true."""
        async with asyncio.timeout(seconds):
            while True:
                # A page on its way to another one has no context to ask in.
                with contextlib.suppress(AssertionError):
                    if await self.js(f"Boolean({expression})"):
                        return
                await asyncio.sleep(0.05)

    async def fill(self, selector: str, text: str) -> None:
        """Type into a field, as keys would come."""
        await self.js(
            f"(() => {{ const f = document.querySelector({json.dumps(selector)}); f.focus(); f.select(); }})()"
        )
        await self.call("Input.insertText", text=text)

    async def choose(self, selector: str, value: str) -> None:
        """Choose an option, or tick a box (`on`)."""
        await self.js(
            f"(() => {{ const f = document.querySelector({json.dumps(selector)});"
            f" if (f.type === 'checkbox') f.checked = true; else f.value = {json.dumps(value)};"
            " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    async def click(self, selector: str) -> None:
        """Click in the middle of an element, with the mouse: what lies over it gets the click."""
        # A page that is still loading scrolls back to where it was before its reload, away from under the mouse.
        await self.until("document.readyState === 'complete'")
        await self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        place = await self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    async def text(self, selector: str) -> str:
        """What a person reads there."""
        found: str = await self.js(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    async def screenshot(self) -> bytes:
        """The window, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Page]:
    """Start Chromium with a profile of its own; its one tab. Stopped, and the profile removed, at the end."""
    profile = Path(tempfile.mkdtemp(prefix="figueira-chromium-"))
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await _port(profile, process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as link:
                page = Page(link)
                await page.begin()
                yield page
                await page.end()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(profile: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(20):
        while True:
            assert process.returncode is None, "chromium ended at once"
            with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
                return int((profile / _PORT_FILE).read_text().splitlines()[0])
            await asyncio.sleep(0.05)
