"""The accept path as it is usually written: FastAPI, a pydantic model, a SQLAlchemy session per request.

The same tables, index and durability as ours, the same signature checked. `python -m benchmarks.naive PORT DSN`.
"""

import hashlib
import hmac
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks.bodies import SECRET
from router.storage import tables

TENANT = "clinica-sol"


class Base(DeclarativeBase):
    metadata = tables.metadata


class EventRow(Base):
    __table__ = tables.events


class DigestRow(Base):
    __table__ = tables.event_digests


class Change(BaseModel):
    field: str
    value: dict[str, Any]


class Entry(BaseModel):
    id: str
    changes: list[Change]


class Webhook(BaseModel):
    object: str
    entry: list[Entry]


class Answer(BaseModel):
    status: str


def application(dsn: str) -> FastAPI:
    """The app; pool of ten."""

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(dsn)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_size=10, max_overflow=0)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    async def verified(request: Request) -> bytes:
        body = await request.body()
        expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(request.headers.get("x-hub-signature-256", ""), expected):
            raise HTTPException(401)
        return body

    @app.post("/webhooks/{slug}")
    async def receive(
        slug: str, webhook: Webhook, request: Request, body: Annotated[bytes, Depends(verified)],
        opened: Annotated[AsyncSession, Depends(session)],
    ) -> Answer:  # fmt: skip
        if webhook.object != "whatsapp_business_account":
            raise HTTPException(400)
        now, digest = datetime.now(UTC), hashlib.sha256(body).digest()
        opened.add(DigestRow(channel=slug, digest=digest, tenant_id=TENANT, received_at=now))
        opened.add(
            EventRow(
                id=uuid.uuid4(), tenant_id=TENANT, channel=slug, received_at=now, digest=digest, method="POST",
                raw_path=b"", query=b"", headers=list(request.headers.items()), body=body,
            )
        )  # fmt: skip
        try:
            await opened.commit()
        except IntegrityError:
            return Answer(status="duplicate")
        return Answer(status="stored")

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[2]), port=int(sys.argv[1]), access_log=False, log_level="warning", lifespan="off"
    )
