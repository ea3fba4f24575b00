"""The promises, checked against what the outside recorded once everything is quiet."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from flags.stage import Path
from router.delivery.claim import SLOT_KEEPS
from router.domain.conversation import Conversation
from router.domain.job import EventState
from router.domain.media import MediaState, Origin
from router.domain.message import RANK, Author, Direction, Message, Status
from router.domain.sending import asks
from tests.simulation.world import World

Check = Callable[[World], Iterable[str]]


def violations(world: World, checks: Sequence[Check] | None = None) -> list[str]:
    """Every broken promise, in words."""
    return [words for check in checks or (*RULELESS, *_RULES) for words in check(world)]


def _rows(world: World) -> list[Message]:
    return list(world.store.tables.messages.values())


def _inbound(world: World) -> Iterator[str]:
    """None lost, none doubled: one row per thing said, handled."""
    counted = Counter(
        (row.channel, row.external_id) for row in _rows(world) if row.direction is Direction.INBOUND
    )
    for one in world.record.said.values():
        if counted[one.slug, one.wamid] != 1:
            yield f"{one.wamid} has {counted[one.slug, one.wamid]} rows"
    echoed = Counter(
        (row.channel, row.external_id) for row in _rows(world) if row.direction is Direction.OUTBOUND
    )
    for wamid, slug in world.record.echoes.items():
        if echoed[slug, wamid] != 1:
            yield f"echo {wamid} has {echoed[slug, wamid]} rows"
    dead = {
        share.message_id for letter in world.store.tables.dead_letters.values() for share in letter.job.shares
    }
    for row in _rows(world):
        if row.direction is Direction.INBOUND and row.handled_at is None and row.id not in dead:
            yield f"{row.external_id} on {row.path} was never handled"


def _rocketchat(world: World) -> Iterator[str]:
    """Path rocketchat: at least once, again only around a kill or a lost answer. Path native: never."""
    received = Counter(world.record.rocketchat)
    dead = {
        share.message_id for letter in world.store.tables.dead_letters.values() for share in letter.job.shares
    }
    for row in _rows(world):
        if row.direction is not Direction.INBOUND or row.external_id not in world.record.said:
            continue
        count = received[row.external_id or ""]
        if row.path is Path.NATIVE and count:
            yield f"{row.external_id} was handled natively and forwarded"
        if row.path is Path.ROCKETCHAT and not count and row.id not in dead:
            yield f"{row.external_id} never reached Rocket.Chat"
        if count > 1 and row.external_id not in world.record.excused:
            yield f"{row.external_id} reached Rocket.Chat {count} times with no reason"


def _order(world: World) -> Iterator[str]:
    """What was answered before another was sent is handled before it, within a conversation."""
    place = {wamid: index for index, wamid in reversed(list(enumerate(world.record.rocketchat)))}
    by_conversation: dict[object, list[Message]] = {}
    for row in _rows(world):
        if row.external_id in world.record.said and row.direction is Direction.INBOUND:
            by_conversation.setdefault((row.channel, world.record.said[row.external_id].wa), []).append(row)
    for rows in by_conversation.values():
        for earlier in rows:
            for later in rows:
                if _before(world, earlier, later):
                    yield from _out_of_order(world, earlier, later, place)


def _before(world: World, earlier: Message, later: Message) -> bool:
    one, other = world.record.said[earlier.external_id or ""], world.record.said[later.external_id or ""]
    if one.detour or other.detour:
        return False  # events are ordered within the address they were posted to
    return 0 <= one.answered_at < other.posted_at


def _out_of_order(world: World, earlier: Message, later: Message, place: dict[str, int]) -> Iterator[str]:
    if earlier.seq > later.seq:
        yield f"{later.external_id} was split before {earlier.external_id}"
    if earlier.conversation_id == later.conversation_id:
        first, second = place.get(earlier.external_id or ""), place.get(later.external_id or "")
        if first is not None and second is not None and first > second:
            yield f"Rocket.Chat got {later.external_id} before {earlier.external_id}"


def _outbound(world: World) -> Iterator[str]:
    """To customers at most once; what says it was sent did arrive; nothing is left queued."""
    given_up = {letter.job.message_id for letter in world.store.tables.dead_letters.values()}
    for row in _rows(world):
        if row.author is not Author.SYSTEM:
            continue
        text = row.content.text or ""
        count = len(world.record.by.get(text, ()))
        if count > 1:
            yield f"{text!r} reached its customer {count} times: {world.record.by[text]}"
        if RANK[row.status] in (2, 4, 5) and count == 0:
            yield f"{text!r} is {row.status} but never arrived"
        if row.status is Status.FAILED and count:
            yield f"{text!r} is failed but arrived"
        if row.status is Status.FAILED and row.id not in given_up:
            yield f"{text!r} is failed without a dead letter"
        if row.status is Status.QUEUED:
            yield f"{text!r} is still queued"
    stored = {row.content.text for row in _rows(world) if row.author is Author.SYSTEM}
    for text in world.record.asked:
        if text not in stored:
            yield f"{text!r} was accepted and is gone"


def _outbound_order(world: World) -> Iterator[str]:
    """Within a conversation, customers get what was asked for in the order it was asked for."""
    seqs = {
        row.content.text: (row.seq, row.conversation_id)
        for row in _rows(world)
        if row.author is Author.SYSTEM and row.direction is Direction.OUTBOUND
    }
    for texts in world.record.inbox.values():
        last: dict[object, int] = {}
        for text in texts:
            seq, conversation = seqs.get(text, (None, None))
            if seq is None:
                continue
            if last.get(conversation, 0) > seq:
                yield f"{text!r} overtook an earlier answer"
            last[conversation] = max(last.get(conversation, 0), seq)


def _pins(world: World) -> Iterator[str]:
    """One decision per pin version; paths change only by decisions; one open conversation per identity."""
    tables = world.store.tables
    for conversation in tables.conversations.values():
        decisions = tables.decisions.get(conversation.id, ())
        versions = [decision.pin_version for decision in decisions]
        if versions != list(range(1, conversation.pin_version + 1)):
            yield f"pin versions {versions} of a conversation at version {conversation.pin_version}"
        elif decisions[-1].path is not conversation.path:
            yield "a pin changed without a decision"
    opened = Counter((row.channel, row.identity_id) for row in tables.conversations.values() if row.open)
    yield from (f"{count} open conversations for one identity" for count in opened.values() if count > 1)


def _ledger(world: World) -> Iterator[str]:
    """events = handled + waiting + dead + ignored, and nothing waits once all is quiet."""
    states = Counter(event.state for event in world.store.tables.events.values())
    if sum(states.values()) != len(world.store.tables.digests):
        yield f"ledger: {sum(states.values())} states for {len(world.store.tables.digests)} events"
    if states[EventState.WAITING]:
        yield f"ledger: {states[EventState.WAITING]} events still waiting"


def _signatures(world: World) -> Iterator[str]:
    if world.record.bad_signatures:
        yield f"{world.record.bad_signatures} forwards did not verify"


def _history(world: World) -> Iterator[str]:
    """After a sweep ours equals Rocket.Chat's own history: each of its messages is one row; none is a second row of what
    the provider told."""
    rows = Counter(row.source_id for row in _rows(world) if row.source_id is not None)
    for room, said in world.histories.items():
        for one in said:
            if rows[one.source_id] != 1:
                yield f"{one.content.text!r} of {room} has {rows[one.source_id]} rows by its _id"
    for row in _rows(world):
        if row.direction is Direction.INBOUND and row.external_id is None:
            yield f"{row.content.text!r} ({row.source_id}) is a second row of what a contact said"


def _natively(world: World) -> Iterator[tuple[Message, Conversation, list[datetime]]]:
    """Our messages with the moments at which native attempts began."""
    tables = world.store.tables
    for row in _rows(world):
        begun = [one.started_at for one in tables.attempts.get(row.id, ()) if one.path is Path.NATIVE]
        if row.author is Author.SYSTEM and begun:
            yield row, tables.conversations[row.conversation_id], begun


def _heard(world: World) -> dict[tuple[str, object], list[Message]]:
    """What each identity said on each channel, as it came in."""
    found: dict[tuple[str, object], list[Message]] = {}
    for row in _rows(world):
        if row.direction is Direction.INBOUND:
            identity = world.store.tables.conversations[row.conversation_id].identity_id
            found.setdefault((row.channel, identity), []).append(row)
    return found


def _allowed(world: World) -> Iterator[str]:
    """No attempt to somebody whose window is closed, or who asked to be written to no more."""
    span, heard = timedelta(hours=world.kind.asked["window_hours"]), _heard(world)
    for row, conversation, begun in _natively(world):
        said = heard.get((row.channel, conversation.identity_id), [])
        for at in begun:
            known = [one for one in said if one.created_at <= at]
            if row.content.kind != "template" and not any(at < one.sent_at + span for one in known):
                yield f"{row.content.text!r} left for a closed window"
            # A wish is the person's: it counts on every channel.
            everywhere = [
                one
                for (_, identity), rows in heard.items()
                if identity == conversation.identity_id
                for one in rows
                if one.created_at <= at
            ]
            wishes = [(one.created_at, one.seq, asks(one.content)) for one in everywhere if asks(one.content)]
            before = [wish for wish in wishes if wish[0] < at]
            if before and max(before)[2] == "out" and wishes == before:
                yield f"{row.content.text!r} left for somebody who had opted out"


def _paced(world: World) -> Iterator[str]:
    """No faster than the provider allows: at most a burst, then one an interval; a moment may be used two seconds late."""
    asked = world.kind.asked
    to_number: dict[object, list[datetime]] = {}
    to_pair: dict[object, list[datetime]] = {}
    for row, conversation, begun in _natively(world):
        to_number.setdefault(row.channel, []).extend(begun)
        to_pair.setdefault((row.channel, conversation.identity_id), []).extend(begun)
    rates = [(to_number, max(asked["per_second"] / 10, 1), 1 / asked["per_second"])]
    rates.append((to_pair, asked["pair_burst"], asked["pair_seconds"]))
    for attempts, burst, interval in rates:
        for begun in attempts.values():
            begun.sort()
            for first, start in enumerate(begun):
                for last in range(first + int(burst), len(begun)):
                    span = (begun[last] - start).total_seconds() + SLOT_KEEPS.total_seconds()
                    if last - first + 1 > burst + span / interval:
                        yield f"{last - first + 1} sends in {span:.1f} s, faster than one in {interval} s"
                        return


def _files(world: World) -> Iterator[str]:
    """What the provider had is stored, what it forgot has a placeholder; nothing waits for ever."""
    for media in world.store.tables.media.values():
        if media.message_id is None:
            continue
        if media.origin is not Origin.PROVIDER:
            continue
        expected = MediaState.GONE if media.ref in world.forgotten else MediaState.STORED
        if media.state is not expected:
            yield f"file {media.ref} is {media.state}, not {expected}"


RULELESS: Sequence[Check] = (
    _inbound, _rocketchat, _order, _outbound, _outbound_order, _pins, _ledger, _signatures, _history,
)  # fmt: skip
"""What holds whatever the kind's windows and rates."""
_RULES: Sequence[Check] = (_allowed, _paced, _files)
