"""Which path? The pin, else the override, else the stage, else the last known good.

A conversation is decided once, when it opens, and keeps its path until it ends or is moved. The decision is a row
written in the same transaction as the pin, so that every pin can say by which rule and revision it was made.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from flags.ports import Context, FlagSource, Verdict
from flags.stage import TRUTH, Path, Stage
from router.domain.channel import Channel
from router.domain.conversation import Contact, Conversation, Decision, Identity
from router.domain.errors import LeaseLost, Rejected, StaleFlags
from router.domain.ids import Ids
from router.domain.job import (
    ROCKETCHAT_GATE,
    EventState,
    Job,
    JobKind,
    JobState,
    Outcome,
    closing_lane,
    inbound_lane,
    native_gate,
)
from router.domain.ports import Tx
from router.domain.sending import TO_ROCKETCHAT, named_by_us


@dataclass(frozen=True, slots=True)
class Choice:
    """A path and why."""

    path: Path
    stage: Stage
    rule: str
    revision: int


def choose(verdict: Verdict, channel: Channel, *, rocketchat_open: bool) -> Choice:
    """The path of a new conversation. Only a channel that says so leaves Rocket.Chat because it is down; and none goes
    native without its secret: a batch could not be divided, nor its sender be believed."""
    path = TRUTH[verdict.stage].new
    if not channel.can_divide:
        return Choice(Path.ROCKETCHAT, verdict.stage, verdict.rule, verdict.revision)
    if path is Path.ROCKETCHAT and not rocketchat_open and channel.on_rocketchat_down == "native":
        return Choice(Path.NATIVE, verdict.stage, "rocketchat_down", verdict.revision)
    return Choice(path, verdict.stage, verdict.rule, verdict.revision)


NOT_LEFT = (Outcome.RETRY, Outcome.CHANNEL, Outcome.PACED)
"""Attempts that were certainly not acted upon."""


def gate_of(path: Path, slug: str) -> str:
    """The breaker a path's sends stand behind."""
    return ROCKETCHAT_GATE if path is Path.ROCKETCHAT else native_gate(slug)


class Facade:
    """Makes and moves pins."""

    def __init__(self, flags: FlagSource, ids: Ids) -> None:
        self._flags = flags
        self._ids = ids

    async def refresh(self) -> None:
        """Load newer flags; called when StaleFlags was raised."""
        await self._flags.refresh()

    async def decide(self, tx: Tx, channel: Channel, contact: Contact) -> Choice:
        """Ask the flag. Raises StaleFlags when what this process has loaded is older than the kind's floor."""
        if self._flags.revision < await tx.flag_floor(channel.kind):
            raise StaleFlags
        verdict = self._flags.evaluate(
            Context(channel.kind, channel.tenant, channel.slug, contact.cohort, contact.contact_class)
        )
        breaker = await tx.breaker(ROCKETCHAT_GATE, lock=False)
        return choose(verdict, channel, rocketchat_open=not breaker.is_open)

    async def open(
        self,
        tx: Tx,
        channel: Channel,
        contact: Contact,
        identity: Identity,
        *,
        in_rocketchat: bool = False,
        first_contact: bool = False,
    ) -> tuple[Conversation, Decision]:
        """Open a conversation and pin it. Raises Conflict when another writer opened it first.

        `in_rocketchat`: Rocket.Chat has it already (its webhook told us), so there is nothing to decide.
        `first_contact`: we write first on a channel that does so natively, as Rocket.Chat could have no room for it.
        """
        if in_rocketchat:
            choice = Choice(Path.ROCKETCHAT, Stage.ROCKETCHAT, "base", self._flags.revision)
            reason = "opened in Rocket.Chat"
        else:
            choice = await self.decide(tx, channel, contact)
            reason = f"{choice.rule} said {choice.stage}"
            if first_contact and choice.path is Path.ROCKETCHAT and channel.can_divide:
                choice = replace(choice, path=Path.NATIVE)
                reason += ", written to first: native"
        now = await tx.now()
        conversation = Conversation(
            self._ids.new(),
            channel.tenant,
            channel.slug,
            channel.kind,
            identity.id,
            contact.id,
            choice.path,
            1,
            now,
            now,
            pinned_at=now,
        )
        await tx.add_conversation(conversation)
        decision = self._decision(conversation, choice, reason, now)
        await tx.add_decision(decision)
        return conversation, decision

    async def move(
        self, tx: Tx, conversation: Conversation, path: Path, *, stage: Stage, revision: int, reason: str
    ) -> Conversation:
        """Move an open conversation: a new pin version, and every job that has not started changes lanes.

        What has started stays where it is: a forward without an answer is Rocket.Chat's for ever, an attempt without
        a result may have reached the customer.
        """
        if not conversation.open:
            raise Rejected("conversation_closed", "only an open conversation can be moved", 409)
        if conversation.path is path:
            return conversation
        now = await tx.now()
        moved = replace(conversation, path=path, pin_version=conversation.pin_version + 1, pinned_at=now)
        if path is Path.ROCKETCHAT and not await self._keeps_room(tx, conversation):
            moved = replace(moved, room_id=None)  # the move away closed it: the next message opens another
        await tx.save_conversation(moved)
        choice = Choice(path, stage, "move", revision)
        await tx.add_decision(self._decision(moved, choice, reason, now))
        for job in await tx.jobs_of_conversation(conversation.id):
            await self._relane(tx, job, moved, now)
        if path is Path.NATIVE and moved.room_id is not None:
            await self.close_room(tx, moved, now)
        return moved

    async def close(self, tx: Tx, conversation: Conversation, by: str) -> Conversation:
        """End the pin. On path rocketchat the room is closed too, unless that is where the close came from."""
        if not conversation.open:
            return conversation
        now = await tx.now()
        closed = replace(conversation, closed_at=now, closed_by=by)
        await tx.save_conversation(closed)
        if by != "rocketchat" and closed.path is Path.ROCKETCHAT and closed.room_id is not None:
            await self.close_room(tx, closed, now)
        return closed

    async def close_room(self, tx: Tx, conversation: Conversation, now: datetime) -> None:
        """Ask Rocket.Chat to close the conversation's room, in a lane of its own."""
        await tx.add_job(
            Job(
                self._ids.new(), conversation.tenant, conversation.channel, JobKind.CLOSE_ROOM,
                (closing_lane(conversation.id),), ROCKETCHAT_GATE, now, now,
                conversation_id=conversation.id, room_id=conversation.room_id,
            )
        )  # fmt: skip

    async def _keeps_room(self, tx: Tx, conversation: Conversation) -> bool:
        """True when the room's closing had not begun and is called off."""
        for job in await tx.jobs_of_conversation(conversation.id):
            if job.kind is JobKind.CLOSE_ROOM and job.state is JobState.READY and not job.uncertain:
                with suppress(LeaseLost):
                    await tx.finish_job(await tx.fenced(job), JobState.DONE)
                    return True
        return False

    async def _relane(self, tx: Tx, job: Job, moved: Conversation, now: datetime) -> None:
        """Messages are locked before their job, as everywhere; a job that was claimed meanwhile has started."""
        try:
            if job.kind is JobKind.FORWARD and moved.path is Path.NATIVE:
                await self._take_from_forward(tx, job, moved, now)
            elif job.kind is JobKind.SEND:
                await self.take_send(tx, job, moved)
        except LeaseLost:
            return

    async def take_send(self, tx: Tx, job: Job, moved: Conversation) -> None:
        """Let a send that has not started follow its conversation. Raises LeaseLost when it was claimed meanwhile."""
        if (message_id := job.message_id) is None:
            return
        message = await tx.message(message_id)
        job = await tx.fenced(job)
        attempts, now = await tx.attempts(message_id), await tx.now()
        if message is None or job.state is not JobState.READY or job.uncertain:
            return
        if any(attempt.outcome not in NOT_LEFT for attempt in attempts):
            return
        if moved.path is Path.ROCKETCHAT and message.content.kind not in TO_ROCKETCHAT:
            return  # it was promised, and Rocket.Chat could not carry it: a template leaves where it was taken in
        gate = gate_of(moved.path, moved.channel)
        await tx.save_job(replace(job, path=moved.path, pin_version=moved.pin_version, due_at=now, gate=gate))
        source_id = message.source_id
        if source_id is None and named_by_us(message.content, moved.path):
            source_id = self._ids.rocketchat()  # what makes a second try harmless there
        await tx.save_message(replace(message, path=moved.path, source_id=source_id))

    async def _take_from_forward(self, tx: Tx, job: Job, moved: Conversation, now: datetime) -> None:
        taken = [share for share in job.shares if share.conversation_id == moved.id]
        messages = [await tx.message(share.message_id) for share in taken if share.message_id is not None]
        job = await tx.fenced(job)
        if not taken or job.uncertain or job.state is not JobState.READY:
            return
        for message in messages:
            if message is not None:
                await tx.save_message(replace(message, path=Path.NATIVE, handled_at=now))
        kept = tuple(share for share in job.shares if share.conversation_id != moved.id)
        if kept:
            lanes = tuple(name for name in job.lanes if name != inbound_lane(moved.id))
            await tx.save_job(replace(job, shares=kept, whole=False, lanes=lanes))
            return
        await tx.finish_job(job, JobState.DONE)
        if job.event_id is not None and job.event_at is not None and not await tx.open_jobs(job.event_id):
            await tx.settle_event(job.event_id, job.event_at, EventState.HANDLED)

    def _decision(self, conversation: Conversation, choice: Choice, reason: str, now: datetime) -> Decision:
        return Decision(
            self._ids.new(), conversation.tenant, conversation.id, choice.path, choice.stage, choice.rule,
            choice.revision, reason, conversation.pin_version, now,
        )  # fmt: skip
