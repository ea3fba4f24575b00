"""The tables of copied documents, as the loader fills them. `raw` is the document's own bytes, without secrets."""

from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """How a value is given: TIME is milliseconds since 1970 (int), JSON is bytes of JSON, RAW is bytes."""

    TEXT = "text"
    TIME = "timestamptz"
    BOOL = "boolean"
    JSON = "jsonb"
    RAW = "bytea"
    INT = "bigint"


@dataclass(frozen=True, slots=True)
class Shape:
    """One table: the columns of its primary key come first, `updated_at` and `raw` are among the columns, `raw` last."""

    table: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, Type], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(name for name, _ in self.columns)


MESSAGES = Shape(
    "archive_messages",
    ("source_id",),
    (
        ("source_id", Type.TEXT),
        ("room_id", Type.TEXT),
        ("kind", Type.TEXT),  # Rocket.Chat's `t`; None: somebody said it
        ("sent_at", Type.TIME),
        ("updated_at", Type.TIME),
        ("author_id", Type.TEXT),
        ("author", Type.TEXT),  # user name as it was then
        ("visitor", Type.BOOL),  # carries a visitor's token
        ("content_kind", Type.TEXT),  # as the channel's adapter would say: text, image, document, …
        ("text", Type.TEXT),
        ("thread_id", Type.TEXT),
        ("parent_id", Type.TEXT),  # hidden history: the message this is an older version of
        ("hidden", Type.BOOL),
        ("edited_at", Type.TIME),
        ("files", Type.JSON),  # [{"id", "ref", "name", "mime", "size"}], None: none
        ("extra", Type.JSON),  # fields without a column; None: none
        ("raw", Type.RAW),
    ),
)

ROOMS = Shape(
    "archive_rooms",
    ("source_id",),
    (
        ("source_id", Type.TEXT),
        ("kind", Type.TEXT),  # l, c, p, d, v, …
        ("name", Type.TEXT),
        ("created_at", Type.TIME),
        ("updated_at", Type.TIME),
        ("active_at", Type.TIME),  # last message, closing or change
        ("closed_at", Type.TIME),
        ("open", Type.BOOL),
        (
            "source_type",
            Type.TEXT,
        ),  # widget, email, sms, app, api, other; None: a room of before these were noted
        ("source_ref", Type.TEXT),  # source.id: the app
        ("visitor_id", Type.TEXT),
        ("agent_id", Type.TEXT),
        ("department_id", Type.TEXT),
        ("contact_ref", Type.TEXT),  # Rocket.Chat's contact (7.0 on)
        ("info", Type.JSON),  # what the resolver needs of a livechat room: see migration.weave
        ("extra", Type.JSON),
        ("raw", Type.RAW),
    ),
)

FILES = Shape(
    "archive_files",
    ("source_id",),
    (
        ("source_id", Type.TEXT),
        ("room_id", Type.TEXT),
        ("user_id", Type.TEXT),
        ("name", Type.TEXT),
        ("mime", Type.TEXT),
        ("size", Type.INT),
        ("store", Type.TEXT),  # GridFS:Uploads, FileSystem:Uploads, AmazonS3:Uploads, …
        ("path", Type.TEXT),  # where that store has it: AmazonS3.path, else the `path` of the document
        ("uploaded_at", Type.TIME),
        ("updated_at", Type.TIME),
        ("complete", Type.BOOL),
        ("extra", Type.JSON),
        ("raw", Type.RAW),
    ),
)

RECORDS = Shape(
    "archive_records",
    ("collection", "source_id"),
    (
        ("collection", Type.TEXT),  # by its name in the source
        ("source_id", Type.TEXT),
        ("kind", Type.TEXT),  # a user's type, a department's, …
        ("name", Type.TEXT),
        ("room_id", Type.TEXT),
        ("user_id", Type.TEXT),
        ("at", Type.TIME),  # made, joined, read: whatever the collection dates
        ("updated_at", Type.TIME),
        ("extra", Type.JSON),
        ("raw", Type.RAW),
    ),
)

SHAPES = {shape.table: shape for shape in (MESSAGES, ROOMS, FILES, RECORDS)}
