"""Deliberately broken variants of the heart. Each must be caught by the simulation within a bounded number of seeds;
one that survives means an invariant is blind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flags.stage import Path
from router.delivery import claim, files, work
from router.domain.conversation import Conversation
from router.domain.job import EventState, Job, JobState, Outcome, Result
from router.domain.message import Part, Status
from router.domain.sending import Verdict
from router.facade import Facade
from router.ingest import Rooms, homes
from router.ingest.split import Ingest
from router.storage.memory import MemoryStore, MemoryTx

Patch = Callable[[pytest.MonkeyPatch], None]


def resend_unknown_blindly(patch: pytest.MonkeyPatch) -> None:
    """An unknown send is tried again at once."""
    patch.setattr(claim, "judge_unknown", lambda **_: Verdict.SEND)


def forget_known_messages(patch: pytest.MonkeyPatch) -> None:
    """A repeated message in a new batch is taken again (the key index is all that is left)."""

    async def known(self: MemoryTx, slug: str, external_ids: Any) -> set[str]:
        return set()

    patch.setattr(MemoryTx, "known", known)
    patch.setattr(MemoryTx, "_keys", lambda self, message: None)


def forward_everything_whole(patch: pytest.MonkeyPatch) -> None:
    """A batch with both paths goes to Rocket.Chat undivided."""
    forward = Ingest._forward

    def whole(self: Ingest, working: Any, slug: str, shares: Any, **_: Any) -> Job:
        return forward(self, working, slug, shares, whole=True)

    patch.setattr(Ingest, "_forward", whole)


def divide_without_signing(patch: pytest.MonkeyPatch) -> None:
    """A divided body keeps the old signature."""
    from adapters.native.whatsapp import WhatsApp

    patch.setattr(WhatsApp, "resign", lambda self, channel, headers, body: tuple(headers))


def lanes_without_heads(patch: pytest.MonkeyPatch) -> None:
    """Any due job is claimed, whether it heads its lanes or not."""

    def claimable(self: MemoryTx) -> Any:
        for job_id in reversed(list(self._t.active)):
            job = self._t.jobs[job_id]
            due = job.lease_until if job.state is JobState.RUNNING else job.due_at
            if due is not None and due <= self._now:
                yield replace(job, seq=-job.seq)

    patch.setattr(MemoryTx, "_claimable", claimable)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """A lease is over at once, and whoever comes late still writes."""

    async def fenced(self: MemoryTx, job: Job) -> Job:
        return self._t.jobs[job.id]

    leased = MemoryTx.claim

    async def short(self: MemoryTx, lease_seconds: float) -> Job | None:
        return await leased(self, 0.01)

    patch.setattr(MemoryTx, "fenced", fenced)
    patch.setattr(MemoryTx, "claim", short)


def move_keeps_forwards_and_handles(patch: pytest.MonkeyPatch) -> None:
    """A move handles natively what is still going to be forwarded."""

    async def take(self: Facade, tx: Any, job: Job, moved: Conversation, now: Any) -> None:
        for share in job.shares:
            if share.conversation_id == moved.id and share.message_id is not None:
                message = await tx.message(share.message_id)
                await tx.save_message(replace(message, path=Path.NATIVE, handled_at=now))

    patch.setattr(Facade, "_take_from_forward", take)


def drop_forwards_on_failure(patch: pytest.MonkeyPatch) -> None:
    """A forward that fails is taken for done."""
    finished = work.Delivery._finished

    async def done(self: Any, tx: Any, claim: Any, result: Result) -> Any:
        return await finished(self, tx, claim, Result(Outcome.OK))

    patch.setattr(work.Delivery, "_finished", done)


def split_skips_ahead(patch: pytest.MonkeyPatch) -> None:
    """Split takes the newest events first."""
    unsplit = MemoryTx._unsplit
    patch.setattr(MemoryTx, "_unsplit", lambda self, slug: unsplit(self, slug)[::-1])


def echo_is_always_a_human(patch: pytest.MonkeyPatch) -> None:
    """An echo is never stored."""

    async def echo(self: Ingest, tx: Any, working: Any, channel: Any, part: Part) -> None:
        working.touched = True

    patch.setattr(Ingest, "_echo", echo)


def pin_without_decision(patch: pytest.MonkeyPatch) -> None:
    """A move writes no decision."""

    async def add_decision(self: MemoryTx, decision: Any) -> None:
        if decision.rule != "move":
            rows = self._t.decisions.get(decision.conversation_id, ())
            self._set(self._t.decisions, decision.conversation_id, (*rows, decision))

    patch.setattr(MemoryTx, "add_decision", add_decision)


def accept_forgets_repeats(patch: pytest.MonkeyPatch) -> None:
    """A repeated body is stored as a new event, and the ledger counts it twice."""
    accept = MemoryStore.accept

    async def again(self: MemoryStore, event: Any) -> bool:
        self.tables.digests.pop((event.channel, event.digest), None)
        return await accept(self, event)

    patch.setattr(MemoryStore, "accept", again)


def late_status_overwrites(patch: pytest.MonkeyPatch) -> None:
    """A status of anybody's message passes for ours."""
    from router.ingest import split, statuses

    async def anybody(tx: Any, channel: Any, part: Part) -> Any:
        rows = [
            row
            for row in tx._t.messages.values()
            if row.status is Status.QUEUED and row.channel == channel.slug
        ]
        return rows[0] if rows else await statuses.ours(tx, channel, part)

    patch.setattr(split, "ours", anybody)


def events_settled_early(patch: pytest.MonkeyPatch) -> None:
    """An event counts as handled when it is split, whatever becomes of its forward."""
    mark = MemoryTx.mark_split

    async def handled(self: MemoryTx, event: Any, state: EventState, reason: str | None = None) -> None:
        await mark(self, event, state, reason)
        if state is EventState.WAITING:
            self._drop(self._t.active, next(iter(self._t.active), None))

    patch.setattr(MemoryTx, "mark_split", handled)


def permits_never_expire(patch: pytest.MonkeyPatch) -> None:
    """A worker that was held up sends on a lease that is long over, and unknown is judged at once."""
    from tests.simulation import world

    send = world.SimSender.send

    async def late(self: Any, permit: Any, outbound: Any) -> Result:
        return await send(self, replace(permit, expires=float("inf")), outbound)

    patch.setattr(world.SimSender, "send", late)
    leased = MemoryTx.claim

    async def short(self: MemoryTx, lease_seconds: float) -> Job | None:
        return await leased(self, 1.0)

    patch.setattr(MemoryTx, "claim", short)
    patch.setattr(claim, "judge_unknown", lambda **_: Verdict.SEND)


def windows_are_not_asked_again(patch: pytest.MonkeyPatch) -> None:
    """The window and the opt-out are asked when a message is taken in, not when it leaves."""
    patch.setattr(claim, "refusal", lambda *_: None)


def opt_outs_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for SAIR."""
    from router.ingest import split

    patch.setattr(split, "asks", lambda content: None)


def pace_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Everything leaves as fast as it can."""

    async def now(self: Any, tx: Any, job: Any, conversation: Any, rules: Any, at: Any) -> Any:
        return at

    patch.setattr(claim.Claims, "_slot", now)


def uploads_serve_everywhere(patch: pytest.MonkeyPatch) -> None:
    """A file that was given to one side is taken to be with the other, too."""
    for module in (claim, files):
        patch.setattr(module, "upload_target", lambda *_: "")


def reports_claim_nothing(patch: pytest.MonkeyPatch) -> None:
    """What Rocket.Chat reports is always a new message."""

    async def nothing(self: Any, tx: Any, place: Any, conversation: Any, said: Any, at: Any) -> None:
        return None

    patch.setattr(Rooms, "_match", nothing)


def reports_claim_in_one_conversation(patch: pytest.MonkeyPatch) -> None:
    """A report that comes after its conversation's end is not looked for there."""
    patch.setattr(homes, "LOOK_BACK", 0)


def the_sweep_adds_nothing(patch: pytest.MonkeyPatch) -> None:
    """What the webhook lost stays lost."""

    async def nothing(self: Any, tx: Any, info: Any, said: Any) -> list[Any]:
        return []

    patch.setattr(Rooms, "swept", nothing)


def files_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A fetch that fails once is given up."""
    kept = files.Transfers._kept

    async def gone(self: Any, tx: Any, made: Any, result: Result, stored: Any, now: Any) -> Any:
        lost = Result(Outcome.PERMANENT, code="gone") if result.outcome is Outcome.RETRY else result
        return await kept(self, tx, made, lost, stored, now)

    patch.setattr(files.Transfers, "_kept", gone)


VARIANTS: tuple[Patch, ...] = (
    resend_unknown_blindly,
    forget_known_messages,
    forward_everything_whole,
    divide_without_signing,
    lanes_without_heads,
    no_fence,
    move_keeps_forwards_and_handles,
    drop_forwards_on_failure,
    split_skips_ahead,
    echo_is_always_a_human,
    pin_without_decision,
    accept_forgets_repeats,
    late_status_overwrites,
    events_settled_early,
    permits_never_expire,
    windows_are_not_asked_again,
    opt_outs_are_not_heard,
    pace_is_not_kept,
    uploads_serve_everywhere,
    reports_claim_nothing,
    reports_claim_in_one_conversation,
    the_sweep_adds_nothing,
    files_are_forgotten,
)
