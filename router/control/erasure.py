"""Erasing a contact: nothing of the person's words, names and numbers stays, and nothing brings back what they said.

What happened stays countable: a message keeps its row and its keys, a conversation its pin and decisions, an event its
digest. What they say from now on starts a new life (router.identity).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from router.control import audit
from router.control.desk import Desk, id_of
from router.control.excision import Cut, Person, about, cut, shares_left
from router.domain.channel import RESERVED
from router.domain.errors import Rejected
from router.domain.job import Event, EventState, Job, JobKind, JobState, channel_lane, inbound_lane
from router.domain.message import Alias
from router.domain.ports import Tx
from router.storage.archive import erasure as archive
from router.storage.queries import erasure as rows
from router.storage.queries import users
from router.storage.queries.link import link_of

_ID: Final = ("unknown_contact", "contact")
_VISITOR: Final = "rc_visitor"
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)
_LATE: Final = timedelta(minutes=5)
"""An event is dated before it is committed: what came since the search began is searched again, from so long before."""

Refs = dict[UUID, Mapping[str, str]]
"""Event → what the parts that are left of it were called, and are called now."""


class _Undone(Exception):
    """A dry run: all of it was done, and is taken back."""

    def __init__(self, report: "Report") -> None:
        super().__init__("a dry run")
        self.report = report


@dataclass(slots=True)
class Report:
    """What an erasure takes: rows by what they are. `user`: their row in tb_users is none (there was none, or another
    contact has it), dropped (we had made it), or left (it is the clinic's)."""

    counts: dict[str, int] = field(default_factory=dict)
    user: str = "none"

    def add(self, what: str, count: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + count


async def erase(
    desk: Desk, contact_id: UUID | str, *, by: str, tenant: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """{contact_id, dry_run, counts, user}. Done twice, the second time finishes what the first left and takes nothing
    else. Raises Rejected unknown_contact (404); Unavailable: the file store does not answer, all but files' bytes is
    done, and doing it again deletes them."""
    wanted = id_of(contact_id, *_ID)
    owner = await desk.store.transact(lambda tx: rows.owner(tx, wanted), tenant=tenant)
    if owner is None:
        raise Rejected(_ID[0], "no such contact", 404)
    began = await desk.store.transact(lambda tx: tx.now())
    found = await _search(desk, wanted, owner)

    async def work(tx: Tx) -> Report:
        report = await _erase(desk, tx, wanted, owner, found, began - _LATE)
        if dry_run:
            raise _Undone(report)
        await audit.record(
            desk, tx, act="contact.erase", subject=desk.pseudonym(str(wanted)), by=by, tenant=owner,
            detail={**report.counts, "user": report.user},
        )  # fmt: skip
        return report

    try:
        report = await desk.store.transact(work)
    except _Undone as undone:
        report = undone.report
    else:
        await _delete_bytes(desk, owner)
    return {
        "contact_id": str(wanted), "dry_run": dry_run, "counts": report.counts, "user": report.user,
    }  # fmt: skip


async def _search(desk: Desk, contact_id: UUID, tenant: str) -> list[tuple[datetime, UUID]]:
    """Which received events may hold something of theirs: before the transaction, which must not take that long."""

    async def begin(tx: Tx) -> tuple[Person, list[str]]:
        traces = await rows.traces(tx, contact_id, tenant)
        person = _person(traces, await _aliases(tx, contact_id), tenant)
        return person, await rows.slugs(tx, tenant, _slugs(desk, tenant))

    person, slugs = await desk.store.transact(begin)
    found: list[tuple[datetime, UUID]] = []
    after: tuple[datetime, UUID] | None = _BEGINNING
    while after is not None:
        page, after = await desk.store.transact(
            lambda tx, since=after: rows.events_with(tx, since, slugs, person.needles, person.traces.events)  # type: ignore[misc]
        )
        found += page
    return found


async def _erase(
    desk: Desk, tx: Tx, contact_id: UUID, tenant: str, found: Sequence[tuple[datetime, UUID]], since: datetime
) -> Report:
    report, now = Report(), await tx.now()
    slugs = await rows.lock_splits(tx, tenant, _slugs(desk, tenant))
    await archive.alone(link_of(tx))
    contact = await tx.contact(contact_id)
    traces = await rows.traces(tx, contact_id, tenant)
    aliases = await _aliases(tx, contact_id)
    copied = await archive.person(
        link_of(tx), tenant, rooms=traces.rooms, visitors=traces.visitors,
        digests=[alias.lookup for alias in aliases if alias.kind == _VISITOR],
        phones=[text for alias in aliases for text in (alias.value, f"+{alias.value}")],
    )  # fmt: skip
    rooms = tuple({*traces.rooms, *copied.rooms})
    person = _person(replace(traces, rooms=rooms), aliases, tenant, copied.visitors)
    buried = {*aliases, *(Alias(_VISITOR, tenant, digest, digest) for digest in copied.digests)}
    await tx.bury(tenant, sorted(buried, key=lambda alias: alias.key), now)
    report.add("conversations", await rows.close_conversations(tx, traces.conversations))
    report.add("messages", await rows.empty_messages(tx, traces.conversations))
    await _work(desk, tx, person, await _late(tx, person, slugs, found, since), report)
    bytes_of = await rows.drop_media(tx, traces.media, rooms)
    report.add("files", len(traces.media))
    counts, archived = await archive.erase(link_of(tx), copied, tenant, person.needles, now)
    for what, count in counts.items():
        report.add(what, count)
    await rows.condemn(tx, tenant, sorted({*bytes_of, *archived}))
    report.add("addresses", await rows.empty_contact(tx, contact_id))
    if traces.user_id is not None:
        report.add("mappings", await rows.unmap(tx, traces.visitors, traces.user_id))
        made = contact is not None and contact.user_made
        dropped = made and await users.drop_user(tx, traces.user_id, contact.name if contact else None)
        report.user = "dropped" if dropped else "left"
    return report


async def _late(
    tx: Tx, person: Person, slugs: Collection[str], found: Sequence[tuple[datetime, UUID]], since: datetime
) -> list[tuple[datetime, UUID]]:
    """What was found, and what came since the search began."""
    every = set(found)
    after: tuple[datetime, UUID] | None = (since, UUID(int=0))
    while after is not None:
        page, after = await rows.events_with(tx, after, slugs, person.needles, person.traces.events)
        every.update(page)
    return sorted(every)


# ---- received events, and the work that hangs on them


async def _work(
    desk: Desk, tx: Tx, person: Person, events: Sequence[tuple[datetime, UUID]], report: Report
) -> None:
    refs: Refs = {}
    for received_at, event_id in events:
        left = await _event(desk, tx, person, received_at, event_id, report)
        if left is not None:
            refs[event_id] = left
    ended = []
    for job in await rows.jobs_about(tx, person.traces, refs):
        ended.append(job)
        await _job(tx, job, person, refs, report)
    for letter in await rows.letters_about(tx, person.traces, refs):
        kept = _less(letter.job, person, refs)
        await (rows.drop_letter(tx, letter.job.id) if kept is None else rows.save_letter(tx, kept))
        report.add("dead_letters", kept is None)
    for job in ended:
        if job.event_id is not None and job.event_at is not None and not await tx.open_jobs(job.event_id):
            await tx.settle_event(job.event_id, job.event_at, EventState.HANDLED)


async def _event(
    desk: Desk, tx: Tx, person: Person, received_at: datetime, event_id: UUID, report: Report
) -> Mapping[str, str] | None:
    """Cut their parts out; the new names of the parts that are left, or None: nothing in it is theirs."""
    event = await rows.event_to_cut(tx, received_at, event_id)
    done = await _cut(desk, tx, person, event) if event is not None else None
    if event is None or done is None:
        return None
    await rows.forget_outcomes(tx, event.channel, done.external_ids)
    if done.body is None:
        await rows.drop_event(tx, event)
        report.add("events", 1)
        return done.names
    headers = desk.kinds[desk.channels[event.channel].kind].resign(
        desk.channels[event.channel], event.headers, done.body
    )
    await rows.cut_event(tx, replace(event, body=done.body, headers=headers))
    report.add("events_cut", 1)
    return done.names


async def _cut(desk: Desk, tx: Tx, person: Person, event: Event) -> Cut | None:
    """As `excision.cut`, whatever the event is. An event of Rocket.Chat's is about one room; one of a channel that is gone
    can neither be read nor forwarded any more."""
    if event.channel == RESERVED:
        room = about(event.body)
        theirs = room is None or room in person.rooms or not await rows.placed(tx, room)
        return Cut() if theirs else None
    channel = desk.channels.get(event.channel)
    return Cut() if channel is None else cut(desk.kinds[channel.kind], channel, event.body, person)


async def _job(tx: Tx, job: Job, person: Person, refs: Refs, report: Report) -> None:
    left = _less(job, person, refs)
    if left is None:
        await tx.finish_job(job, JobState.DONE)
        report.add("jobs", 1)
    elif left != job:
        # Whoever has it under way must not write back what it read.
        await tx.save_job(replace(left, fence=job.fence + 1))


def _less(job: Job, person: Person, refs: Refs) -> Job | None:
    """A job without what is theirs; None: nothing is left of it. The closing of a room names nobody."""
    if job.kind is JobKind.CLOSE_ROOM:
        return job
    if job.kind is not JobKind.FORWARD:
        return None
    shares = shares_left(job.shares, person, refs.get(job.event_id) if job.event_id else None)
    if not shares:
        return None
    if shares == job.shares:
        return job
    lanes = {inbound_lane(share.conversation_id) for share in shares if share.conversation_id is not None}
    if any(share.conversation_id is None for share in shares):
        lanes.add(channel_lane(job.channel))
    return replace(job, shares=shares, whole=False, lanes=tuple(sorted(lanes)))


# ---- files


async def _delete_bytes(desk: Desk, tenant: str) -> None:
    """The bytes that no row names any more, also those an erasure before this one could not delete."""
    if desk.files is None:
        return
    for sha256 in await desk.store.transact(lambda tx: rows.condemned(tx, tenant)):
        await desk.files.delete(sha256)
        await desk.store.transact(lambda tx, gone=sha256: rows.pardon(tx, tenant, gone))  # type: ignore[misc]


# ---- who


def _slugs(desk: Desk, tenant: str) -> list[str]:
    return [channel.slug for channel in desk.channels.values() if channel.tenant == tenant]


async def _aliases(tx: Tx, contact_id: UUID) -> list[Alias]:
    found = [await tx.aliases(identity_id) for identity_id in await rows.identities(tx, contact_id)]
    return [alias for some in found for alias in some]


def _person(
    traces: rows.Traces, aliases: Sequence[Alias], tenant: str, visitors: Sequence[str] = ()
) -> Person:
    return Person(tenant, traces, tuple(aliases), tuple({*traces.visitors, *visitors}))
