"""The store on PostgreSQL: asyncpg pools, plain SQL on the hot paths. Nothing of asyncpg leaves this package."""

from router.storage.postgres.store import PostgresStore, PostgresTx, open_store

__all__ = ["PostgresStore", "PostgresTx", "open_store"]
