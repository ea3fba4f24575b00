"""Callbacks, flags, access, processes, the audit chain; and the tables of the clinic."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from router.storage.tables.columns import document, metadata, moment, tenant, uid, words

callbacks = Table(
    "callbacks",
    metadata,
    words("channel", primary_key=True),
    tenant(),
    words("level"),
    words("url"),
    document("previous"),
    moment("set_at"),
    words("set_by"),
    moment("restored_at", nullable=True),
    moment("checked_at", nullable=True),
    words("drift", nullable=True),
)

flags = Table(
    "flags",
    metadata,
    words("kind", primary_key=True),
    Column("revision", BigInteger, nullable=False),
    document("flag"),
)

flag_history = Table(
    "flag_history",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    words("kind"),
    document("flag"),
    moment("at", server_default=func.now()),
)
Index("flag_history_kind", flag_history.c.kind, flag_history.c.revision)

flag_floors = Table(
    "flag_floors",
    metadata,
    words("kind", primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    uid("id", primary_key=True),
    tenant(),  # "*": every tenant
    words("name"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    moment("created_at"),
    moment("revoked_at", nullable=True),
)

console_users = Table(
    "console_users",
    metadata,
    words("email", primary_key=True),
    tenant(),
    words("role"),
    words("password_hash"),
    moment("created_at"),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    tenant(),
    Column("email", Text, ForeignKey("console_users.email", ondelete="CASCADE"), nullable=False),
    moment("created_at"),
    moment("expires_at"),
)
Index("console_sessions_email", console_sessions.c.email)
Index("console_sessions_expiry", console_sessions.c.expires_at)

processes = Table(
    "processes",
    metadata,
    uid("id", primary_key=True),
    words("role"),
    moment("heartbeat_at"),
    Column("flag_revision", BigInteger, nullable=False, server_default=text("0")),
)

idempotency = Table(
    "idempotency",
    metadata,
    words("key_id", primary_key=True),
    words("idem_key", primary_key=True),
    tenant(),
    Column("body_digest", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", JSONB, nullable=False),
    moment("created_at"),
)
Index("idempotency_age", idempotency.c.created_at)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    tenant(),
    moment("at"),
    words("actor"),
    words("act"),
    words("subject"),
    document("detail"),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

tb_users = Table(
    "tb_users",
    metadata,
    uid("id_user", primary_key=True, server_default=text("gen_random_uuid()")),
    Column("nm_completo", String(255)),
    Column("ds_origem", String(50)),
    Column("st_tipo_usuario", String(50)),
    Column("dt_criacao", TIMESTAMP, server_default=func.now()),
)

tb_rocketchat_user_mapping = Table(
    "tb_rocketchat_user_mapping",
    metadata,
    uid("id_mapping", primary_key=True, server_default=text("gen_random_uuid()")),
    Column("rc_user_id", String(255), nullable=False, unique=True),
    Column("id_user", Uuid, ForeignKey("tb_users.id_user")),
    Column("ds_canal", String(50)),
    Column("dt_criacao", TIMESTAMP, server_default=func.now()),
    Column("dt_ultima_sync", TIMESTAMP),
)
Index("idx_rc_user_mapping", tb_rocketchat_user_mapping.c.rc_user_id)
Index("idx_doctorq_user_mapping", tb_rocketchat_user_mapping.c.id_user)
