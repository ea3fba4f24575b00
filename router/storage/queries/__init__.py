"""The read side and the control tables: plain SQL over an open transaction, plain dicts out of it.

Each function takes the transaction it runs in, so the caller of `PostgresStore.transact(…, tenant=…)` decides what
row-level security shows. Keys, console users, sessions, the audit chain, processes and the digests of events are the
engine's alone: those functions need a transaction without a tenant.
"""
