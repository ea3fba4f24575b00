"""The memory twin of the PostgreSQL store: the same Protocols, the same contract suite (tests/contract/test_store.py).

Transactions are serial: `work` never suspends on this store, so one runs from begin to commit before the next begins,
and an exception undoes it from a log. That is a stronger isolation than PostgreSQL's, so what PostgreSQL must do with
row locks is proven by the contract suite and the state machine on the real server, not here.
"""

from router.storage.memory.base import Tables
from router.storage.memory.store import MemoryStore, MemoryTx

__all__ = ["MemoryStore", "MemoryTx", "Tables"]
