"""Posting webhooks, with the retries Meta and Rocket.Chat make, and the background work of the process.

Exactly 200 counts; no answer, 5xx and 429 are tried again with the same bytes; any other answer is final.
"""

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from deploy.sandbox.configuration import Retry
from deploy.sandbox.record import Record

ONCE = Retry(attempts=1)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_KEPT_OF_ANSWER = 500


def signature(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature-256 over the raw bytes."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Post:
    """One webhook: `target` is callback or omnichannel; `about` goes into its rows (ids, type)."""

    target: str
    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True)
class Answer:
    """`status` None: there was no answer."""

    status: int | None
    text: str = ""

    @property
    def wants_retry(self) -> bool:
        return self.status is None or self.status >= 500 or self.status == 429


class Poster:
    """Posts webhooks and owns every background task, so that closing it leaves none behind."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run in the background; an exception becomes a row of kind ``errors``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def post(self, post: Post, retry: Retry) -> Answer:
        """Post once and return that answer; further attempts, if due, go on in the background."""
        number = next(self._ids)
        answer = await self._attempt(post, number, 1, retry)
        if answer.wants_retry and retry.attempts > 1:
            self.spawn(self._retry(post, number, retry))
        return answer

    async def stop(self) -> None:
        """End all background work: delayed answers and statuses, retries."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.stop()
        if self._session:
            await self._session.close()

    async def _retry(self, post: Post, number: int, retry: Retry) -> None:
        for attempt in range(2, retry.attempts + 1):
            await asyncio.sleep(retry.delay(attempt - 1))
            answer = await self._attempt(post, number, attempt, retry)
            if not answer.wants_retry:
                return

    async def _attempt(self, post: Post, number: int, attempt: int, retry: Retry) -> Answer:
        error = None
        try:
            answer = await self._send(post)
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            answer, error = Answer(None), type(failure).__name__
        self._record.add(
            "webhooks",
            {
                **post.about,
                "post": number,
                "attempt": attempt,
                "target": post.target,
                "status": answer.status,
                "answer": answer.text,
                "error": error,
                "final": not answer.wants_retry or attempt >= retry.attempts,
                "dropped": False,
            },
        )
        return answer

    async def _send(self, post: Post) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        async with self._session.request(
            post.method, post.url, data=post.body or None, headers=post.headers, allow_redirects=False
        ) as response:
            body = await response.read()
            return Answer(response.status, body[:_KEPT_OF_ANSWER].decode("utf-8", "replace"))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self._record.add("errors", {"where": "background", "error": repr(task.exception())})
