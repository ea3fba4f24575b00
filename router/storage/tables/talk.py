"""What comes in and is said: channels, events, people, conversations, messages, files."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    Table,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from router.storage.tables.columns import (
    count,
    document,
    link,
    metadata,
    moment,
    sequence,
    tenant,
    uid,
    words,
)

channels = Table(
    "channels",
    metadata,
    words("slug", primary_key=True),
    tenant(),
    words("kind"),
    words("address", nullable=True),
    moment("last_status_at", nullable=True),
    moment("synced_at", server_default=func.now()),
)

events = Table(
    "events",
    metadata,
    moment("received_at", primary_key=True),
    uid("id", primary_key=True),
    sequence("event_seq"),
    tenant(),
    words("channel"),
    Column("digest", LargeBinary, nullable=False),
    words("method"),
    Column("raw_path", LargeBinary, nullable=False),
    Column("query", LargeBinary, nullable=False),
    # json, not jsonb: pairs of latin-1 strings, kept as written, NUL escapes too.
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary),
    words("state", server_default=text("'waiting'")),
    Column("split", Boolean, nullable=False, server_default=text("false")),
    count("tries"),
    words("reason", nullable=True),
)
Index("events_unsplit", events.c.channel, events.c.seq, postgresql_where=~events.c.split)
Index("events_state", events.c.channel, events.c.state)

event_digests = Table(
    "event_digests",
    metadata,
    words("channel", primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    tenant(),
    moment("received_at"),
)

contacts = Table(
    "contacts",
    metadata,
    uid("id", primary_key=True),
    tenant(),
    words("cohort"),
    moment("created_at"),
    words("name", nullable=True),
    words("contact_class", server_default=text("'patient'")),
    uid("user_id", nullable=True),
    Column("user_made", Boolean, nullable=False, server_default=text("false")),
)
Index("contacts_user", contacts.c.user_id)
Index("contacts_tenant", contacts.c.tenant_id, contacts.c.created_at)

identities = Table(
    "identities",
    metadata,
    uid("id", primary_key=True),
    tenant(),
    uid("contact_id", link("contacts.id")),
    words("kind"),
    moment("created_at"),
    moment("opted_out_at", nullable=True),
)
Index("identities_contact", identities.c.contact_id, identities.c.kind)

identity_aliases = Table(
    "identity_aliases",
    metadata,
    words("tenant_id", primary_key=True),
    words("kind", primary_key=True),
    words("scope", primary_key=True),
    words("lookup", primary_key=True),
    uid("identity_id", link("identities.id")),
    words("value"),
    moment("seen_at"),
)
Index("identity_aliases_identity", identity_aliases.c.identity_id)

tombstones = Table(
    "tombstones",
    metadata,
    words("tenant_id", primary_key=True),
    words("kind", primary_key=True),
    words("scope", primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    moment("erased_at"),
)

conversations = Table(
    "conversations",
    metadata,
    uid("id", primary_key=True),
    tenant(),
    words("channel"),
    words("kind"),
    uid("identity_id", link("identities.id")),
    uid("contact_id", link("contacts.id")),
    words("path"),
    count("pin_version"),
    moment("opened_at"),
    moment("last_at"),
    moment("closed_at", nullable=True),
    words("closed_by", nullable=True),
    words("room_id", nullable=True),
    moment("heard_at", nullable=True),
    moment("read_at", nullable=True),
    moment("pinned_at", nullable=True),
)
_open = conversations.c.closed_at.is_(None)
Index(
    "conversations_open", conversations.c.channel, conversations.c.identity_id,
    unique=True, postgresql_where=_open,
)  # fmt: skip
Index("conversations_idle", conversations.c.channel, conversations.c.last_at, postgresql_where=_open)
Index("conversations_identity", conversations.c.channel, conversations.c.identity_id)
Index("conversations_contact", conversations.c.contact_id)
Index("conversations_recent", conversations.c.tenant_id, conversations.c.last_at, conversations.c.id)

decisions = Table(
    "decisions",
    metadata,
    uid("id", primary_key=True),
    tenant(),
    uid("conversation_id", link("conversations.id")),
    words("path"),
    words("stage"),
    words("rule"),
    Column("revision", BigInteger, nullable=False),
    words("reason"),
    count("pin_version"),
    moment("at"),
    words("guard", nullable=True),
)
Index("decisions_conversation", decisions.c.conversation_id, decisions.c.at)

messages = Table(
    "messages",
    metadata,
    moment("created_at", primary_key=True),
    uid("id", primary_key=True),
    sequence("message_seq"),
    tenant(),
    words("channel"),
    words("kind"),
    uid("conversation_id"),
    words("direction"),
    words("author"),
    words("content_kind"),
    words("text", nullable=True),
    document("data"),
    words("status"),
    words("path"),
    moment("sent_at"),
    words("external_id", nullable=True),
    words("source_id", nullable=True),
    uid("decision_id", nullable=True),
    uid("event_id", nullable=True),
    words("error_code", nullable=True),
    moment("handled_at", nullable=True),
    moment("delivered_at", nullable=True),
    words("matched_by", nullable=True),
    document("metadata"),
)
Index("messages_id", messages.c.id)
Index("messages_conversation", messages.c.conversation_id, messages.c.seq)

message_keys = Table(
    "message_keys",
    metadata,
    words("key", primary_key=True),  # external | source
    words("channel", primary_key=True),  # "" for source: Rocket.Chat's ids know no channel
    words("value", primary_key=True),
    tenant(),
    uid("message_id"),
    moment("created_at"),
)

outcomes = Table(
    "outcomes",
    metadata,
    words("channel", primary_key=True),
    words("external_id", primary_key=True),
    tenant(),
    words("status"),
    count("rank"),
    moment("at"),
)

billables = Table(
    "billables",
    metadata,
    words("channel", primary_key=True),
    words("external_id", primary_key=True),
    tenant(),
    words("category"),
    moment("at"),
)

media = Table(
    "media",
    metadata,
    uid("id", primary_key=True),
    sequence("media_seq"),
    tenant(),
    words("channel"),
    uid("message_id", nullable=True),
    words("origin"),
    words("ref"),
    moment("created_at"),
    words("state"),
    words("mime", nullable=True),
    words("name", nullable=True),
    Column("size", BigInteger),
    words("sha256", nullable=True),
    moment("expires_at", nullable=True),
    moment("stored_at", nullable=True),
    words("error_code", nullable=True),
)
Index("media_message", media.c.message_id, media.c.seq)
Index("media_waiting", media.c.channel, media.c.created_at, postgresql_where=media.c.state == "waiting")

media_uploads = Table(
    "media_uploads",
    metadata,
    words("channel", primary_key=True),
    words("target", primary_key=True),  # "" for the provider, else the room
    words("sha256", primary_key=True),
    tenant(),
    words("file_id"),
    moment("expires_at"),
)

rooms = Table(
    "rooms",
    metadata,
    words("id", primary_key=True),
    tenant(),
    words("channel"),
    uid("conversation_id", nullable=True),
    moment("learned_at"),
    moment("spoke_at", nullable=True),
)
Index("rooms_conversation", rooms.c.conversation_id)
