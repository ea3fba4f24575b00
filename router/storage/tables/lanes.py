"""What waits to be done, and how fast it may go."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from router.storage.tables.columns import count, document, metadata, moment, sequence, tenant, uid, words

jobs = Table(
    "jobs",
    metadata,
    uid("id", primary_key=True),
    sequence("job_seq"),
    tenant(),
    words("channel"),
    words("kind"),
    Column("lanes", ARRAY(Text), nullable=False),
    words("gate"),
    moment("created_at"),
    moment("due_at"),
    uid("event_id", nullable=True),
    moment("event_at", nullable=True),
    uid("message_id", nullable=True),
    uid("conversation_id", nullable=True),
    words("room_id", nullable=True),
    words("path", nullable=True),
    count("pin_version"),
    document("shares", "[]"),
    Column("whole", Boolean, nullable=False, server_default=text("false")),
    words("state"),
    count("attempts"),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    moment("lease_until", nullable=True),
    Column("uncertain", Boolean, nullable=False, server_default=text("false")),
    words("error", nullable=True),
    uid("media_id", nullable=True),
    moment("slot_at", nullable=True),
    count("blocked"),  # in how many of its lanes another job stands before it
)
_head = text("blocked = 0 AND state IN ('ready', 'unknown')")
Index("jobs_heads", jobs.c.gate, jobs.c.seq, jobs.c.due_at, postgresql_where=_head)
Index("jobs_leased", jobs.c.lease_until, postgresql_where=jobs.c.state == "running")
Index("jobs_message", jobs.c.message_id, postgresql_where=jobs.c.message_id.is_not(None))
Index("jobs_event", jobs.c.event_id, postgresql_where=jobs.c.event_id.is_not(None))
Index("jobs_room", jobs.c.room_id, postgresql_where=jobs.c.kind == "place")

lane_jobs = Table(
    "lane_jobs",
    metadata,
    words("lane", primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    tenant(),
    uid("job_id"),
)

attempts = Table(
    "attempts",
    metadata,
    moment("started_at", primary_key=True),
    uid("id", primary_key=True),
    tenant(),
    uid("message_id"),
    uid("job_id"),
    count("number"),
    words("path"),
    count("pin_version"),
    moment("ended_at", nullable=True),
    words("outcome", nullable=True),
    words("code", nullable=True),
)
Index("attempts_message", attempts.c.message_id, attempts.c.number)

dead_letters = Table(
    "dead_letters",
    metadata,
    uid("job_id", primary_key=True),
    tenant(),
    words("channel"),
    words("kind"),
    words("reason"),
    moment("at"),
    document("job"),
    moment("replayed_at", nullable=True),
)
Index(
    "dead_letters_open",
    dead_letters.c.channel,
    dead_letters.c.at,
    postgresql_where=text("replayed_at IS NULL"),
)

breakers = Table(
    "breakers",
    metadata,
    words("gate", primary_key=True),
    count("failures"),
    moment("opened_at", nullable=True),
    moment("open_until", nullable=True),
    words("reason", nullable=True),
)

paces = Table(
    "paces",
    metadata,
    words("key", primary_key=True),
    moment("tat"),
)

duties = Table(
    "duties",
    metadata,
    words("name", primary_key=True),
    uid("owner", nullable=True),
    moment("lease_until", nullable=True),
    moment("mark", nullable=True),
    moment("rest_until", nullable=True),
)
