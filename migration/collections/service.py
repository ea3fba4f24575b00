"""What surrounds conversations: departments, subscriptions, receipts, teams … One mapper, told where the columns are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from migration.collections import Mapper, Reader, Row
from migration.collections.secrets import without
from migration.collections.values import identifier, inner, rest, time
from migration.documents import key_of

SUBSCRIPTION_SECRETS: Final = ("E2EKey", "E2ESuggestedKey", "oldRoomKeys", "suggestedOldRoomKeys")

clean_subscription = without(*SUBSCRIPTION_SECRETS)

_ALWAYS: Final = frozenset(("_id", "_updatedAt", "token"))


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field fills which column; `"u._id"` is a field of an embedded document. Of several, the first that holds
    something. `without`: goes into no column and not into `extra`."""

    kind: str | None = None
    name: tuple[str, ...] = ()
    room: str | None = None
    user: str | None = None
    at: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def record(fields: Fields) -> Mapper:
    """A mapper to a row of RECORDS. Dates may be strings or numbers here: many hands write these collections."""
    # Of an embedded document, the rest is still worth keeping.
    whole = (fields.kind, fields.room, fields.user, *fields.at)
    taken = _ALWAYS.union(fields.without, (name for name in whole if name and "." not in name))

    def mapped(reader: Reader, collection: str, document: Mapping[str, Any], raw: bytes) -> Row:  # noqa: ARG001
        named = next((name for name in fields.name if _label(document, name)), None)
        at = (found for name in fields.at if (found := time(document, name, loose=True)) is not None)
        return (
            collection,
            key_of(document),
            _label(document, fields.kind),
            _label(document, named),
            _label(document, fields.room),
            _label(document, fields.user),
            next(at, None),
            time(document, "_updatedAt", loose=True),
            rest(document, taken | {named} if named else taken),
            raw,
        )

    return mapped


def _label(document: Mapping[str, Any], path: str | None) -> str | None:
    if path is None:
        return None
    outer, _, name = path.rpartition(".")
    return identifier(inner(document, outer), name) if outer else identifier(document, name)


department = record(Fields(kind="type", name=("name",)))  # a unit's type is `u`
department_agent = record(Fields(name=("username",), user="agentId"))
unit_monitor = record(Fields(name=("username",), user="monitorId"))
inquiry = record(Fields(kind="status", name=("name",), room="rid", at=("ts",), without=("lastMessage",)))
subscription = record(
    Fields(
        kind="t", name=("fname", "name"), room="rid", user="u._id", at=("ts",), without=SUBSCRIPTION_SECRETS
    )
)
receipt = record(Fields(room="roomId", user="userId", at=("ts",)))
thread_read = record(Fields(user="userId", at=("ls",)))
canned_response = record(Fields(kind="scope", name=("shortcut",), user="userId", at=("_createdAt",)))
custom_field = record(Fields(kind="scope", name=("label",)))
named = record(Fields(name=("name", "i18n"), at=("createdAt", "_createdAt")))
hours = record(Fields(kind="type", name=("name", "day"), at=("ts",)))
activity = record(Fields(user="agentId", at=("lastStartedAt",)))
page = record(Fields(at=("ts",)))
team = record(Fields(kind="type", name=("name",), room="roomId", at=("createdAt",)))
team_member = record(Fields(user="userId", at=("createdAt",)))
role = record(Fields(kind="scope", name=("name",)))
conference = record(Fields(kind="type", name=("title",), room="rid", user="createdBy._id", at=("createdAt",)))
call = record(Fields(kind="type", room="rid", user="uid", at=("ts", "createdAt")))
report = record(Fields(user="userId", at=("ts",)))
audit = record(Fields(kind="type", user="u._id", at=("ts",)))
