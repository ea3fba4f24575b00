"""Taking one person out of the archive: the rooms they had, and all that was copied of them.

A room stays as its id and when its person was erased: by that its messages are told when they come again. For a
transaction of the engine's; the archive's tables know no tenant, Rocket.Chat's rooms are told apart by live traffic's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from router.storage.archive import landing
from router.storage.archive.model import Mark
from router.storage.archive.shape import ROOMS

if TYPE_CHECKING:
    from router.storage.archive.base import Link

VISITORS, CONTACTS = "rocketchat_livechat_visitor", "rocketchat_livechat_contact"
_LIVECHAT = "l"
_KEPT = {"source_id", "kind"}
_PASSES = 3  # a room names a visitor, who had other rooms

# Whom live traffic placed in another clinic's channel is not ours to erase.
_ROOMS = """
select a.source_id, a.visitor_id, a.contact_ref, a.info ->> 'token_digest' as token_digest from archive_rooms a
where (a.source_id = any($1::text[]) or a.visitor_id = any($2::text[])
    or a.kind = 'l' and (a.info ->> 'token_digest' = any($3::text[]) or a.info -> 'phones' ?| $4::text[]))
    and not exists (select from rooms r where r.id = a.source_id and r.tenant_id <> $5)
"""
_OTHERS = """
select distinct a.visitor_id as id from archive_rooms a join rooms r on r.id = a.source_id
where a.visitor_id = any($1::text[]) and r.tenant_id <> $2
union
select distinct a.contact_ref from archive_rooms a join rooms r on r.id = a.source_id
where a.contact_ref = any($3::text[]) and r.tenant_id <> $2
"""
# A rejected document may be one that could not be read: then its bytes tell whose it was.
_REJECTS = """
delete from rejects r where r.source_id = any($1::text[])
    or exists (select from archive_messages m where m.source_id = r.source_id and m.room_id = any($1::text[]))
    or exists (select from unnest($2::bytea[]) text where position(text in r.raw) > 0)
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose copies these are: rooms, visitors, contacts by Rocket.Chat's ids; digests of visitors' tokens."""

    rooms: tuple[str, ...] = ()
    visitors: tuple[str, ...] = ()
    contacts: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


async def person(
    link: "Link", tenant: str, *, rooms: Collection[str], visitors: Collection[str], digests: Collection[str],
    phones: Collection[str],
) -> Person:  # fmt: skip
    """All of a person's, from some of it."""
    known: dict[str, set[str]] = {"rooms": set(rooms), "visitors": set(visitors), "digests": set(digests)}
    contacts: set[str] = set()
    for _ in range(_PASSES):
        found = await link.fetch(
            _ROOMS,
            list(known["rooms"]),
            list(known["visitors"]),
            list(known["digests"]),
            list(phones),
            tenant,
        )
        before = sum(map(len, known.values()))
        for row in found:
            known["rooms"].add(row["source_id"])
            known["visitors"].update(filter(None, [row["visitor_id"]]))
            known["digests"].update(filter(None, [row["token_digest"]]))
            contacts.update(filter(None, [row["contact_ref"]]))
        if sum(map(len, known.values())) == before:
            break
    others = {row["id"] for row in await link.fetch(_OTHERS, list(known["visitors"]), tenant, list(contacts))}
    return Person(
        rooms=tuple(sorted(known["rooms"])),
        visitors=tuple(sorted(known["visitors"] - others)),
        contacts=tuple(sorted(contacts - others)),
        digests=tuple(sorted(known["digests"])),
    )


async def alone(link: "Link") -> None:
    """Nobody copies or weaves until this transaction ends: whoever does has read how the rooms stood before. Before any
    other row is locked, as weaving takes them."""
    await landing.alone(
        link, ("rocketchat_message", "rocketchat_uploads", "rocketchat_room", VISITORS, CONTACTS)
    )


async def erase(
    link: "Link", whose: Person, tenant: str, texts: Sequence[bytes], at: datetime
) -> tuple[Mapping[str, int], list[str]]:
    """Delete the copies: how many rows by table, and the SHA-256 of files' bytes they named. `texts`: what none but this
    person's documents hold. After `alone`."""
    rooms = list(whose.rooms)
    rejected = await _count(
        link,
        _REJECTS,
        [*rooms, *whose.visitors, *whose.contacts],
        [*texts, *(room.encode() for room in rooms)],
    )
    messages = await _count(link, "delete from archive_messages where room_id = any($1::text[])", rooms)
    files = await link.fetch(
        "delete from archive_files where room_id = any($1::text[]) returning state, sha256", rooms
    )
    records = await _count(
        link,
        "delete from archive_records where room_id = any($1::text[])"
        " or collection = $2 and source_id = any($3::text[]) or collection = $4 and source_id = any($5::text[])"
        " or collection in ($2, $4) and exists (select from unnest($6::bytea[]) text where position(text in raw) > 0)"
        " and not exists (select from archive_rooms a join rooms r on r.id = a.source_id"
        " where archive_records.source_id in (a.visitor_id, a.contact_ref) and r.tenant_id <> $7)",
        rooms, VISITORS, list(whose.visitors), CONTACTS, list(whose.contacts), list(texts), tenant,
    )  # fmt: skip
    emptied = ", ".join(f"{name} = null" for name in ROOMS.names if name not in _KEPT)
    blanked = await _count(
        link,
        f"update archive_rooms set {emptied}, erased_at = greatest(erased_at, $2), woven = true"
        " where source_id = any($1::text[]) and (raw is not null or erased_at is null)",
        rooms, at,
    )  # fmt: skip
    # Those that only live traffic knows come with an import yet to be begun.
    known = await link.fetch("select source_id from archive_rooms where source_id = any($1::text[])", rooms)
    absent = set(rooms) - {row["source_id"] for row in known}
    await landing.mark(link, [Mark(room, _LIVECHAT, None, at) for room in absent])
    sha256s = sorted({row["sha256"] for row in files if row["state"] == "stored" and row["sha256"]})
    return {
        "archive_messages": messages, "archive_rooms": blanked, "archive_files": len(files),
        "archive_records": records, "rejects": rejected,
    }, sha256s  # fmt: skip


async def _count(link: "Link", statement: str, *values: object) -> int:
    return int((await link.execute(statement, *values)).rpartition(" ")[2])
