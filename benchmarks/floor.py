"""The floor of the accept path: bare ASGI, the signature, the same two-table insert in groups, and nothing else.

No channel, no metrics, no limits, no clean-up, no bell: `python -m benchmarks.floor PORT DSN`.
"""

import asyncio
import hashlib
import hmac
import json
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import uvicorn

from benchmarks.bodies import SECRET

IN_FLIGHT = 2
GROUP = 256
INSERT = """
with batch as (
    select * from unnest($1::uuid[], $2::timestamptz[], $3::bytea[], $4::text[], $5::bytea[]) with ordinality
    as b (id, received_at, digest, headers, body, ord)
), fresh as (
    insert into event_digests (channel, digest, tenant_id, received_at)
    select 'whatsapp', digest, 'clinica-sol', received_at from batch order by digest
    on conflict do nothing returning digest
)
insert into events (id, tenant_id, channel, received_at, digest, method, raw_path, query, headers, body)
select id, 'clinica-sol', 'whatsapp', received_at, digest, 'POST', '', '', headers::json, body
from batch join fresh using (digest) order by ord
"""
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY = {"type": "http.response.body", "body": b"ok"}

Row = tuple[uuid.UUID, datetime, bytes, str, bytes]


class Floor:
    """One ASGI callable."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        headers = dict(scope["headers"])
        expected = b"sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
        if not hmac.compare_digest(headers.get(b"x-hub-signature-256", b""), expected):
            raise ValueError("the generator signs every body")
        kept = json.dumps(
            [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        )
        await self._stored((uuid.uuid4(), datetime.now(UTC), hashlib.sha256(body).digest(), kept, body))
        await send(_START)
        await send(_BODY)

    async def _stored(self, row: Row) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._running < IN_FLIGHT:
            self._running += 1
            task = asyncio.create_task(self._flush())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await done

    async def _flush(self) -> None:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(self._dsn, min_size=IN_FLIGHT, max_size=IN_FLIGHT)
        while self._waiting:
            batch, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            columns = [list(column) for column in zip(*(row for row, _ in batch), strict=True)]
            await self._pool.execute(INSERT, *columns)
            for _, done in batch:
                done.set_result(None)
        self._running -= 1


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[2]), port=int(sys.argv[1]), access_log=False, log_level="warning", lifespan="off"
    )  # fmt: skip
