"""The tables as SQLAlchemy Core sees them: for queries off the hot path, and the yardstick of the upgrades
(tests compare this with what `upgrades/` really makes). `tenant_id` stands on every table that holds rows of tenants;
row-level security hangs on it.

Uniqueness lives in narrow tables (`event_digests`, `message_keys`): `events`, `messages` and `attempts` have the primary
key (time, id) and no other unique index, so that they can be partitioned by time later.
"""

from router.storage.tables.columns import metadata
from router.storage.tables.control import (
    api_keys,
    audit,
    callbacks,
    console_sessions,
    console_users,
    flag_floors,
    flag_history,
    flags,
    idempotency,
    processes,
    tb_rocketchat_user_mapping,
    tb_users,
)
from router.storage.tables.lanes import (
    attempts,
    breakers,
    dead_letters,
    duties,
    jobs,
    lane_jobs,
    paces,
)
from router.storage.tables.talk import (
    billables,
    channels,
    contacts,
    conversations,
    decisions,
    event_digests,
    events,
    identities,
    identity_aliases,
    media,
    media_uploads,
    message_keys,
    messages,
    outcomes,
    rooms,
    tombstones,
)

__all__ = [
    "api_keys",
    "attempts",
    "audit",
    "billables",
    "breakers",
    "callbacks",
    "channels",
    "console_sessions",
    "console_users",
    "contacts",
    "conversations",
    "dead_letters",
    "decisions",
    "duties",
    "event_digests",
    "events",
    "flag_floors",
    "flag_history",
    "flags",
    "idempotency",
    "identities",
    "identity_aliases",
    "jobs",
    "lane_jobs",
    "media",
    "media_uploads",
    "message_keys",
    "messages",
    "metadata",
    "outcomes",
    "paces",
    "processes",
    "rooms",
    "tb_rocketchat_user_mapping",
    "tb_users",
    "tombstones",
]
