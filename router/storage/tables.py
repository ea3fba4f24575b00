"""The tables as SQLAlchemy Core sees them: for queries off the hot path, and the yardstick of the upgrades
(tests compare this with what `upgrades/` really makes). `tenant_id` stands on every table that holds rows of tenants;
row-level security hangs on it.

Uniqueness lives in narrow tables (`event_digests`, `message_keys`): `events`, `messages` and `attempts` have the primary
key (time, id) and no other unique index, so that they can be partitioned by time later.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP

metadata = MetaData()


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, **{"nullable": False, **options})


def _tenant() -> Column[str]:
    return _text("tenant_id")


def _at(name: str, **options: Any) -> Column[Any]:
    return Column(name, DateTime(timezone=True), **{"nullable": False, **options})


def _uuid(name: str, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, Uuid, *more, **{"nullable": False, **options})


def _integer(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, **{"nullable": False, "server_default": text("0"), **options})


def _seq(name: str) -> Column[int]:
    sequence = Sequence(name, metadata=metadata, data_type=BigInteger)
    return Column("seq", BigInteger, sequence, server_default=sequence.next_value(), nullable=False)


def _link(target: str) -> ForeignKey:
    # Deferred: the heart may write a transaction's rows in any order.
    return ForeignKey(target, deferrable=True, initially="DEFERRED")


def _json(name: str, empty: str = "{}") -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{empty}'::jsonb"))


channels = Table(
    "channels",
    metadata,
    _text("slug", primary_key=True),
    _tenant(),
    _text("kind"),
    _text("address", nullable=True),
    _at("last_status_at", nullable=True),
    _at("synced_at", server_default=func.now()),
)

events = Table(
    "events",
    metadata,
    _at("received_at", primary_key=True),
    _uuid("id", primary_key=True),
    _seq("event_seq"),
    _tenant(),
    _text("channel"),
    Column("digest", LargeBinary, nullable=False),
    _text("method"),
    Column("raw_path", LargeBinary, nullable=False),
    Column("query", LargeBinary, nullable=False),
    # json, not jsonb: pairs of latin-1 strings, kept as written, NUL escapes too.
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary),
    _text("state", server_default=text("'waiting'")),
    Column("split", Boolean, nullable=False, server_default=text("false")),
    _integer("tries"),
    _text("reason", nullable=True),
)
Index("events_unsplit", events.c.channel, events.c.seq, postgresql_where=~events.c.split)
Index("events_state", events.c.channel, events.c.state)

event_digests = Table(
    "event_digests",
    metadata,
    _text("channel", primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    _tenant(),
    _at("received_at"),
)

contacts = Table(
    "contacts",
    metadata,
    _uuid("id", primary_key=True),
    _tenant(),
    _text("cohort"),
    _at("created_at"),
    _text("name", nullable=True),
    _text("contact_class", server_default=text("'patient'")),
    _uuid("user_id", nullable=True),
)
Index("contacts_user", contacts.c.user_id)
Index("contacts_tenant", contacts.c.tenant_id, contacts.c.created_at)

identities = Table(
    "identities",
    metadata,
    _uuid("id", primary_key=True),
    _tenant(),
    _uuid("contact_id", _link("contacts.id")),
    _text("kind"),
    _at("created_at"),
)
Index("identities_contact", identities.c.contact_id, identities.c.kind)

identity_aliases = Table(
    "identity_aliases",
    metadata,
    _text("tenant_id", primary_key=True),
    _text("kind", primary_key=True),
    _text("scope", primary_key=True),
    _text("lookup", primary_key=True),
    _uuid("identity_id", _link("identities.id")),
    _text("value"),
    _at("seen_at"),
)
Index("identity_aliases_identity", identity_aliases.c.identity_id)

tombstones = Table(
    "tombstones",
    metadata,
    _text("tenant_id", primary_key=True),
    _text("kind", primary_key=True),
    _text("scope", primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    _at("erased_at"),
)

conversations = Table(
    "conversations",
    metadata,
    _uuid("id", primary_key=True),
    _tenant(),
    _text("channel"),
    _text("kind"),
    _uuid("identity_id", _link("identities.id")),
    _uuid("contact_id", _link("contacts.id")),
    _text("path"),
    _integer("pin_version"),
    _at("opened_at"),
    _at("last_at"),
    _at("closed_at", nullable=True),
    _text("closed_by", nullable=True),
    _text("room_id", nullable=True),
)
_open = conversations.c.closed_at.is_(None)
Index(
    "conversations_open", conversations.c.channel, conversations.c.identity_id,
    unique=True, postgresql_where=_open,
)  # fmt: skip
Index("conversations_idle", conversations.c.channel, conversations.c.last_at, postgresql_where=_open)
Index("conversations_contact", conversations.c.contact_id)
Index("conversations_recent", conversations.c.tenant_id, conversations.c.last_at, conversations.c.id)

decisions = Table(
    "decisions",
    metadata,
    _uuid("id", primary_key=True),
    _tenant(),
    _uuid("conversation_id", _link("conversations.id")),
    _text("path"),
    _text("stage"),
    _text("rule"),
    Column("revision", BigInteger, nullable=False),
    _text("reason"),
    _integer("pin_version"),
    _at("at"),
    _text("guard", nullable=True),
)
Index("decisions_conversation", decisions.c.conversation_id, decisions.c.at)

messages = Table(
    "messages",
    metadata,
    _at("created_at", primary_key=True),
    _uuid("id", primary_key=True),
    _seq("message_seq"),
    _tenant(),
    _text("channel"),
    _text("kind"),
    _uuid("conversation_id"),
    _text("direction"),
    _text("author"),
    _text("content_kind"),
    _text("text", nullable=True),
    _json("data"),
    _text("status"),
    _text("path"),
    _at("sent_at"),
    _text("external_id", nullable=True),
    _text("source_id", nullable=True),
    _uuid("decision_id", nullable=True),
    _uuid("event_id", nullable=True),
    _text("error_code", nullable=True),
    _at("handled_at", nullable=True),
    _at("delivered_at", nullable=True),
    _text("matched_by", nullable=True),
    _json("metadata"),
)
Index("messages_id", messages.c.id)
Index("messages_conversation", messages.c.conversation_id, messages.c.seq)

message_keys = Table(
    "message_keys",
    metadata,
    _text("key", primary_key=True),  # external | source
    _text("channel", primary_key=True),  # "" for source: Rocket.Chat's ids know no channel
    _text("value", primary_key=True),
    _tenant(),
    _uuid("message_id"),
    _at("created_at"),
)

outcomes = Table(
    "outcomes",
    metadata,
    _text("channel", primary_key=True),
    _text("external_id", primary_key=True),
    _tenant(),
    _text("status"),
    _integer("rank"),
    _at("at"),
)

rooms = Table(
    "rooms",
    metadata,
    _text("id", primary_key=True),
    _tenant(),
    _text("channel"),
    _uuid("conversation_id", nullable=True),
    _at("learned_at"),
)
Index("rooms_conversation", rooms.c.conversation_id)

jobs = Table(
    "jobs",
    metadata,
    _uuid("id", primary_key=True),
    _seq("job_seq"),
    _tenant(),
    _text("channel"),
    _text("kind"),
    Column("lanes", ARRAY(Text), nullable=False),
    _text("gate"),
    _at("created_at"),
    _at("due_at"),
    _uuid("event_id", nullable=True),
    _at("event_at", nullable=True),
    _uuid("message_id", nullable=True),
    _uuid("conversation_id", nullable=True),
    _text("room_id", nullable=True),
    _text("path", nullable=True),
    _integer("pin_version"),
    _json("shares", "[]"),
    Column("whole", Boolean, nullable=False, server_default=text("false")),
    _text("state"),
    _integer("attempts"),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    _at("lease_until", nullable=True),
    Column("uncertain", Boolean, nullable=False, server_default=text("false")),
    _text("error", nullable=True),
    _integer("blocked"),  # in how many of its lanes another job stands before it
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
    _text("lane", primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _tenant(),
    _uuid("job_id"),
)

attempts = Table(
    "attempts",
    metadata,
    _at("started_at", primary_key=True),
    _uuid("id", primary_key=True),
    _tenant(),
    _uuid("message_id"),
    _uuid("job_id"),
    _integer("number"),
    _text("path"),
    _integer("pin_version"),
    _at("ended_at", nullable=True),
    _text("outcome", nullable=True),
    _text("code", nullable=True),
)
Index("attempts_message", attempts.c.message_id, attempts.c.number)

dead_letters = Table(
    "dead_letters",
    metadata,
    _uuid("job_id", primary_key=True),
    _tenant(),
    _text("channel"),
    _text("kind"),
    _text("reason"),
    _at("at"),
    _json("job"),
    _at("replayed_at", nullable=True),
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
    _text("gate", primary_key=True),
    _integer("failures"),
    _at("opened_at", nullable=True),
    _at("open_until", nullable=True),
    _text("reason", nullable=True),
)

flags = Table(
    "flags",
    metadata,
    _text("kind", primary_key=True),
    Column("revision", BigInteger, nullable=False),
    _json("flag"),
)

flag_history = Table(
    "flag_history",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    _text("kind"),
    _json("flag"),
    _at("at", server_default=func.now()),
)
Index("flag_history_kind", flag_history.c.kind, flag_history.c.revision)

flag_floors = Table(
    "flag_floors",
    metadata,
    _text("kind", primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    _uuid("id", primary_key=True),
    _tenant(),  # "*": every tenant
    _text("name"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    _at("created_at"),
    _at("revoked_at", nullable=True),
)

console_users = Table(
    "console_users",
    metadata,
    _text("email", primary_key=True),
    _tenant(),
    _text("role"),
    _text("password_hash"),
    _at("created_at"),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    _tenant(),
    Column("email", Text, ForeignKey("console_users.email", ondelete="CASCADE"), nullable=False),
    _at("created_at"),
    _at("expires_at"),
)
Index("console_sessions_email", console_sessions.c.email)
Index("console_sessions_expiry", console_sessions.c.expires_at)

processes = Table(
    "processes",
    metadata,
    _uuid("id", primary_key=True),
    _text("role"),
    _at("heartbeat_at"),
    Column("flag_revision", BigInteger, nullable=False, server_default=text("0")),
)

idempotency = Table(
    "idempotency",
    metadata,
    _text("key_id", primary_key=True),
    _text("idem_key", primary_key=True),
    _tenant(),
    Column("body_digest", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", JSONB, nullable=False),
    _at("created_at"),
)
Index("idempotency_age", idempotency.c.created_at)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _tenant(),
    _at("at"),
    _text("actor"),
    _text("act"),
    _text("subject"),
    _json("detail"),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

tb_users = Table(
    "tb_users",
    metadata,
    _uuid("id_user", primary_key=True, server_default=text("gen_random_uuid()")),
    Column("nm_completo", String(255)),
    Column("ds_origem", String(50)),
    Column("st_tipo_usuario", String(50)),
    Column("dt_criacao", TIMESTAMP, server_default=func.now()),
)

tb_rocketchat_user_mapping = Table(
    "tb_rocketchat_user_mapping",
    metadata,
    _uuid("id_mapping", primary_key=True, server_default=text("gen_random_uuid()")),
    Column("rc_user_id", String(255), nullable=False, unique=True),
    Column("id_user", Uuid, ForeignKey("tb_users.id_user")),
    Column("ds_canal", String(50)),
    Column("dt_criacao", TIMESTAMP, server_default=func.now()),
    Column("dt_ultima_sync", TIMESTAMP),
)
Index("idx_rc_user_mapping", tb_rocketchat_user_mapping.c.rc_user_id)
Index("idx_doctorq_user_mapping", tb_rocketchat_user_mapping.c.id_user)
