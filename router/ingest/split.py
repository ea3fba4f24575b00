"""One worker at a time per channel, events in order, one transaction: parts → identity, conversation, messages, jobs.

The table this file carries out (architecture.md §3):

    message, reaction, edit, delete   the open conversation's pin; none open: decide and pin
    status                            our id or callback data → native; any other → Rocket.Chat, kept as its outcome
    echo                              our id → dropped; pin rocketchat → forwarded; pin native → a human turn
    number or id change               identity always; forwarded too
    template_*, account_*, unknown    stored, forwarded

Whatever goes to Rocket.Chat becomes one job per endpoint that stands in the inbound lane of every conversation it
touches. The received bytes go as they are when all parts go; else the event is divided when the job runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from flags.stage import Path
from router.domain.channel import RESERVED, Channel
from router.domain.conversation import Conversation
from router.domain.errors import Conflict, StaleFlags, Unavailable
from router.domain.ids import Ids
from router.domain.job import (
    ROCKETCHAT_GATE,
    Event,
    EventState,
    Job,
    JobKind,
    Share,
    channel_lane,
    inbound_lane,
)
from router.domain.media import Origin
from router.domain.message import Author, Direction, Message, Part, PartType, Status
from router.domain.policy import Policy
from router.domain.ports import Fact, Kind, Meter, Parsed, Pins, Store, Tx
from router.domain.sending import asks
from router.identity import Person, Resolver
from router.ingest.files import keep_files
from router.ingest.rooms import Rooms
from router.ingest.statuses import apply_status, candidate, open_conversation_of, ours


@dataclass(slots=True)
class _Working:
    """One event while it is split."""

    event: Event
    channel: Channel
    now: datetime
    shares: dict[str, list[Share]] = field(default_factory=dict)  # endpoint's channel → parts
    facts: list[Fact] = field(default_factory=list)
    touched: bool = False  # something in it was for us

    @property
    def said_at(self) -> datetime:
        return self.event.received_at


class Ingest:
    """Splits events. `channels` and `kinds` are the settings and the register; `rooms` takes Rocket.Chat's own."""

    def __init__(
        self, *, store: Store, pins: Pins, resolver: Resolver, ids: Ids, channels: Mapping[str, Channel],
        kinds: Mapping[str, Kind], rooms: Rooms, meter: Meter, policy: Policy,
    ) -> None:  # fmt: skip
        self._store = store
        self._pins = pins
        self._resolver = resolver
        self._ids = ids
        self._channels = channels
        self._kinds = kinds
        self._rooms = rooms
        self._meter = meter
        self._policy = policy

    async def split(self, slug: str) -> int:
        """Split what waits on a channel; returns how many events (0: none, or another worker is at it).

        Raises nothing for a bad event: it is tried alone, and after three failures it is DEAD with its reason.
        """
        current: list[Event] = []

        async def work(tx: Tx) -> tuple[int, list[Fact]]:
            current.clear()
            if not await tx.lock_channel(slug):
                return 0, []
            facts: list[Fact] = []
            # Rocket.Chat's events are about the conversations of every channel: one at a time, so that its transaction
            # and a channel's, each holding several conversations, cannot wait for each other.
            events = await tx.waiting_events(slug, 1 if slug == RESERVED else self._policy.split_batch)
            for event in events:
                current[:] = [event]
                facts += await self._split_one(tx, event)
            return len(events), facts

        try:
            count, facts = await self._store.transact(work)
        except StaleFlags:
            await self._pins.refresh()
            return 1
        except (Conflict, Unavailable):
            return 0
        except Exception as error:
            if not current:
                raise
            await self._store.fail_split(current[0], type(error).__name__)
            return 1
        self._meter.record(facts)
        return count

    async def _split_one(self, tx: Tx, event: Event) -> list[Fact]:
        if event.channel == RESERVED:
            return await self._rooms.split(tx, event)
        channel = self._channels.get(event.channel)
        if channel is None:
            await tx.mark_split(event, EventState.IGNORED, "channel_removed")
            return []
        parsed = self._kinds[channel.kind].parse(channel, event.body)
        working = _Working(event, channel, await tx.now())
        if parsed.malformed:
            working.facts.append(("events_total", 1, (channel.slug, channel.kind, "malformed")))
        unrouted = False
        for part in parsed.parts:
            target = self._target(channel, part)
            unrouted = unrouted or target is None
            await self._part(tx, working, target, part)
        if unrouted:
            working.facts.append(("events_total", 1, (channel.slug, channel.kind, "unrouted")))
        await self._end(tx, working, parsed)
        return working.facts

    def _target(self, channel: Channel, part: Part) -> Channel | None:
        """The channel a part is for. Another one only if it is signed with the same secret: else whoever holds one
        clinic's secret could write into another's conversations."""
        if part.address is None or channel.address in (None, part.address):
            return channel
        for other in self._channels.values():
            if other.kind == channel.kind and other.address == part.address:
                secret = channel.native.get("app_secret")
                return other if secret and other.native.get("app_secret") == secret else None
        return None

    async def _part(self, tx: Tx, working: _Working, target: Channel | None, part: Part) -> None:
        if target is None:
            self._share(working, working.channel, Share(part.ref))
        elif part.type is PartType.MESSAGE:
            await self._message(tx, working, target, part)
        elif part.type is PartType.ECHO:
            await self._echo(tx, working, target, part)
        elif part.type is PartType.STATUS:
            await self._status(tx, working, target, part)
        else:
            if part.type is PartType.IDENTITY:
                await self._identity(tx, working, target, part)
            self._share(working, target, Share(part.ref))

    async def _message(self, tx: Tx, working: _Working, channel: Channel, part: Part) -> None:
        if part.external_id is not None and await tx.known(channel.slug, [part.external_id]):
            working.touched = True  # handled before, in another batch: dropped from this one
            return
        found = await self._conversation(tx, working, channel, part)
        if found is None:
            working.touched = True  # said before the person was erased
            return
        conversation, decision_id = found
        native = conversation.path is Path.NATIVE
        message = await tx.add_message(
            replace(
                self._row(working, conversation, part, Direction.INBOUND, Author.CONTACT, Status.RECEIVED),
                handled_at=working.now if native else None,
                decision_id=decision_id,
            )
        )
        said_at = min(part.sent_at or working.said_at, working.now)
        heard_at = max(conversation.heard_at or said_at, said_at)
        await tx.save_conversation(replace(conversation, last_at=working.now, heard_at=heard_at))
        await self._wishes(tx, working, conversation, part)
        await keep_files(tx, self._ids, message, part.files, Origin.PROVIDER, self._until(channel, said_at))
        if native:
            seconds = max((working.now - working.event.received_at).total_seconds(), 0.0)
            working.facts.append(("handle_seconds", seconds, (channel.kind, conversation.path)))
            working.touched = True
        else:
            self._share(working, channel, Share(part.ref, conversation.id, message.id))

    async def _wishes(self, tx: Tx, working: _Working, conversation: Conversation, part: Part) -> None:
        """A whole message that asks to be written to no more, or again."""
        wish = asks(part.content) if part.content is not None else None
        identity = await tx.identity(conversation.identity_id) if wish is not None else None
        if identity is None or (wish == "out") == (identity.opted_out_at is not None):
            return
        await tx.save_identity(replace(identity, opted_out_at=working.now if wish == "out" else None))
        working.facts.append(("opt_outs_total", 1, (conversation.kind, str(wish))))

    def _until(self, channel: Channel, said_at: datetime) -> datetime:
        """After this the provider has the files of a message no more."""
        return said_at + timedelta(days=self._kinds[channel.kind].rules(channel).media_days)

    async def _conversation(
        self, tx: Tx, working: _Working, channel: Channel, part: Part
    ) -> tuple[Conversation, UUID | None] | None:
        person = await self._resolver.resolve(
            tx,
            channel,
            part.aliases,
            name=part.name,
            said_at=part.sent_at or working.said_at,
            origin=Path.NATIVE,
            by_provider=True,
        )
        if person is None:
            return None
        if person.split:
            working.facts.append(("identity_unlinked_total", 1, (channel.kind,)))
        conversation = await tx.open_conversation(channel.slug, person.identity.id)
        if conversation is not None:
            return conversation, None
        return await self._open(tx, working, channel, person)

    async def _open(
        self, tx: Tx, working: _Working, channel: Channel, person: Person
    ) -> tuple[Conversation, UUID | None]:
        conversation, decision = await self._pins.open(tx, channel, person.contact, person.identity)
        labels = (channel.kind, decision.stage, decision.path, decision.rule)
        working.facts.append(("decisions_total", 1, labels))
        return conversation, decision.id

    def _row(
        self, working: _Working, conversation: Conversation, part: Part, direction: Direction, author: Author,
        status: Status,
    ) -> Message:  # fmt: skip
        if part.content is None:
            raise ValueError("a message or echo without content: the adapter must give one")
        working.facts.append(("messages_total", 1, (conversation.kind, direction, conversation.path)))
        return Message(
            id=self._ids.new(), tenant=conversation.tenant, channel=conversation.channel, kind=conversation.kind,
            conversation_id=conversation.id, direction=direction, author=author, content=part.content,
            status=status, path=conversation.path, created_at=working.now,
            sent_at=part.sent_at or working.event.received_at, external_id=part.external_id,
            event_id=working.event.id,
        )  # fmt: skip

    async def _echo(self, tx: Tx, working: _Working, channel: Channel, part: Part) -> None:
        working.touched = True
        message = await ours(tx, channel, part)
        if message is not None:
            working.facts += await apply_status(tx, message, replace(part, status=Status.SENT), working.now)
            if message.path is Path.ROCKETCHAT:
                self._share(working, channel, Share(part.ref, message.conversation_id))
            return
        found = await self._conversation(tx, working, channel, part)
        if found is None:
            return
        conversation, _ = found
        match = await candidate(tx, conversation, part, part.sent_at or working.said_at, by_content=True)
        if match is not None:
            working.facts += await apply_status(tx, match, replace(part, status=Status.SENT), working.now)
        else:
            row = self._row(working, conversation, part, Direction.OUTBOUND, Author.HUMAN, Status.SENT)
            until = self._until(channel, row.sent_at)
            await keep_files(tx, self._ids, await tx.add_message(row), part.files, Origin.PROVIDER, until)
        if conversation.path is Path.ROCKETCHAT:
            self._share(working, channel, Share(part.ref, conversation.id))

    async def _status(self, tx: Tx, working: _Working, channel: Channel, part: Part) -> None:
        # When it came, not when it is read: an old one is no sign that the address reports on what left since.
        await tx.touch_statuses(channel.slug, min(working.event.received_at, working.now))
        billed, sent = part.billed, part.external_id
        if billed and sent and await tx.first_billed(channel.slug, sent, billed):
            working.facts.append(("billable_total", 1, (channel.kind, billed)))
        message = await ours(tx, channel, part)
        if message is not None and message.path is Path.NATIVE:
            working.touched = True
            working.facts += await apply_status(tx, message, part, working.now)
            return
        if part.external_id is not None and part.status is not None:
            await tx.note_outcome(channel.slug, part.external_id, part.status, part.sent_at or working.now)
        if message is None:
            conversation = await open_conversation_of(tx, channel, part)
            if conversation is not None and conversation.path is Path.ROCKETCHAT:
                message = await candidate(
                    tx, conversation, part, part.sent_at or working.now, by_content=False
                )
        if message is not None:
            working.facts += await apply_status(tx, message, part, working.now)
        self._share(working, channel, Share(part.ref))

    async def _identity(self, tx: Tx, working: _Working, channel: Channel, part: Part) -> None:
        working.touched = True
        known = await tx.identities(channel.tenant, part.aliases) if part.aliases else ()
        taken = {alias.key for alias, _ in await tx.identities(channel.tenant, part.new_aliases)}
        for alias in part.new_aliases:
            if known and alias.key not in taken:
                await tx.put_alias(known[0][1], alias)

    def _share(self, working: _Working, channel: Channel, share: Share) -> None:
        if channel.webhook_url is not None or share.message_id is not None:
            working.shares.setdefault(channel.slug, []).append(share)

    async def _end(self, tx: Tx, working: _Working, parsed: Parsed) -> None:
        """Add the forwards and mark the event split."""
        if parsed.malformed or not parsed.parts:
            self._share(working, working.channel, Share(""))
        total = max(len(parsed.parts), 1)
        for slug, shares in working.shares.items():
            await tx.add_job(self._forward(working, slug, shares, whole=len(shares) == total))
        if working.shares:
            await tx.mark_split(working.event, EventState.WAITING)
        elif working.touched:
            await tx.mark_split(working.event, EventState.HANDLED)
        else:
            await tx.mark_split(working.event, EventState.IGNORED, "nothing_for_anybody")

    def _forward(self, working: _Working, slug: str, shares: list[Share], *, whole: bool) -> Job:
        channel = self._channels[slug]
        lanes = {inbound_lane(share.conversation_id) for share in shares if share.conversation_id is not None}
        if any(share.conversation_id is None for share in shares):
            lanes.add(channel_lane(slug))
        return Job(
            self._ids.new(), channel.tenant, slug, JobKind.FORWARD, tuple(sorted(lanes)), ROCKETCHAT_GATE,
            working.now, working.now, event_id=working.event.id, event_at=working.event.received_at,
            shares=tuple(shares), whole=whole,
        )  # fmt: skip
