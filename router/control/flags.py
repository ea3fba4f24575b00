"""Flags: setting, clearing, killing, and who has not heard of it yet. The rules themselves are in flags/change.py."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flags import change
from flags.local import LocalSource
from flags.ports import Context, Flag, RevisionMoved, Snapshot, Strategy
from flags.stage import TRUTH, Path, Stage
from router.control import audit
from router.control.conversations import refuse_undividable
from router.control.desk import Desk
from router.domain.errors import Conflict, Rejected
from router.domain.ports import Fact, Tx
from router.storage.queries import processes, talk

HEARTBEAT_SECONDS = 5.0
"""A process without a heartbeat for longer is not waited for."""
_POLL_SECONDS = 0.1
_PAGE = 500
_TRIES = 5
_HUNDRED = 100

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What a change came to. `moved`: open conversations that changed their path; `dry_run`: per tenant
    {"open": n, "would_move": n}, and then nothing was written."""

    flag: Flag
    warnings: tuple[str, ...] = ()
    moved: int = 0
    dry_run: dict[str, dict[str, int]] | None = None


@dataclass(frozen=True, slots=True)
class _Selection:
    """Whose open conversations a change concerns: those any selector names; without selectors all of the kind."""

    kind: str
    tenants: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    contact_class: str | None = None


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except change.FlagError as error:
        raise Rejected(error.code, str(error)) from error


# changing --------------------------------------------------------------------------------------------------


async def set_stage(
    desk: Desk, kind: str, *, stage: str, percent: int | None = None, tenants: Sequence[str] = (),
    channels: Sequence[str] = (), contact_class: str | None = None, reason: str, by: str,
    expected: int | None = None, now: bool = False, dry_run: bool = False,
) -> FlagChange:  # fmt: skip
    """Set the stage of a kind, or of what the selectors name.

    `now` moves the open conversations concerned to the path the new flag gives each contact. `expected` is the
    revision the caller saw: Rejected revision_moved (412) when it is another. Other Rejected: 422 of flags/change.py.
    """
    selection = _Selection(kind, tuple(tenants), tuple(channels), contact_class)
    with _refusals():
        dividable = change.concerned(
            kind, desk.channels.values(), tenants=tenants, channels=channels, contact_class=contact_class
        )

    def changed(flag: Flag) -> Flag:
        return change.set_stage(
            flag, stage=stage, percent=percent, tenants=tenants, channels=channels, contact_class=contact_class,
            reason=reason, by=by, at=desk.clock.now(), dividable=dividable,
        )  # fmt: skip

    if dry_run:
        before = await show(desk, kind)
        _expect(before, expected)
        with _refusals():
            after = changed(before)
        return FlagChange(after, change.warnings(before, after), 0, await _forecast(desk, after, selection))
    saved, warnings = await _save(desk, kind, changed, "flag.set", by, reason, expected)
    return FlagChange(saved, warnings, await _move_all(desk, selection, saved, by) if now else 0)


async def clear(
    desk: Desk, kind: str, *, tenants: Sequence[str] = (), channels: Sequence[str] = (),
    contact_class: str | None = None, reason: str, by: str, expected: int | None = None,
) -> FlagChange:  # fmt: skip
    """Take the rules of the named away; without any name, every rule. Raises Rejected as `set_stage`."""

    def changed(flag: Flag) -> Flag:
        return change.clear(
            flag, tenants=tenants, channels=channels, contact_class=contact_class, reason=reason, by=by,
            at=desk.clock.now(),
        )  # fmt: skip

    saved, warnings = await _save(desk, kind, changed, "flag.clear", by, reason, expected)
    return FlagChange(saved, warnings)


async def kill(desk: Desk, kind: str, *, reason: str = "", by: str, now: bool = False) -> FlagChange:
    """New conversations to Rocket.Chat, before every rule, until `release`; with `now` open ones too. Once this
    returns no decision made with older flags is committed any more. Raises Rejected retired, unknown_kind."""

    def changed(flag: Flag) -> Flag:
        return change.kill(flag, by=by, at=desk.clock.now(), reason=reason)

    saved, warnings = await _save(desk, kind, changed, "flag.kill", by, reason)
    return FlagChange(saved, warnings, await _move_all(desk, _Selection(kind), saved, by) if now else 0)


async def release(desk: Desk, kind: str, *, reason: str = "", by: str) -> FlagChange:
    """End a kill: the stage and the rules decide again. Raises Rejected no_override."""

    def changed(flag: Flag) -> Flag:
        return change.release(flag, by=by, at=desk.clock.now(), reason=reason)

    saved, warnings = await _save(desk, kind, changed, "flag.release", by, reason)
    return FlagChange(saved, warnings)


def lowers(before: Flag, after: Flag) -> bool:
    """Whether anybody who went native may now go to Rocket.Chat. Then no worker may go on deciding by the old flag,
    so the floor is raised. Said too often it only makes workers load their flags once more."""
    if after.override is not None or _reach(after.stage, after.percent) < _reach(
        before.stage, before.percent
    ):
        return True
    gone = [one for one in before.strategies if one not in after.strategies]
    added = [one for one in after.strategies if one not in before.strategies]
    return any(_native(one) for one in gone) or any(
        not _native(one) or one.percent < _HUNDRED for one in added
    )


def _native(strategy: Strategy) -> bool:
    return TRUTH[strategy.stage].new is Path.NATIVE


def _reach(stage: Stage, percent: int | None) -> int:
    """The share of new conversations that go native."""
    if stage is Stage.CANARY:
        return percent or 0
    return _HUNDRED if TRUTH[stage].new is Path.NATIVE else 0


def _expect(flag: Flag, expected: int | None) -> None:
    if expected is not None and expected != flag.revision:
        raise Rejected(
            "revision_moved", f"channel.{flag.kind} is at revision {flag.revision}: read it again", 412
        )


async def _save(
    desk: Desk, kind: str, changed: Callable[[Flag], Flag], act: str, by: str, reason: str,
    expected: int | None = None,
) -> tuple[Flag, tuple[str, ...]]:  # fmt: skip
    """Read, change, write what was read; from the start when somebody else was faster and the caller named no
    revision. Then this process loads it, and the act is audited."""
    for _ in range(_TRIES):
        before = await show(desk, kind)
        _expect(before, expected)
        with _refusals():
            after = changed(before)
        try:
            saved = await desk.flags.save(after, expected=before.revision, floor=lowers(before, after))
        except (RevisionMoved, Conflict):
            continue  # Conflict: the floor's lock met decisions under way, and a kill must not fail for that
        detail = {"revision": saved.revision, "stage": saved.stage.value}
        await desk.store.transact(
            lambda tx, told=detail: audit.record(  # type: ignore[misc]
                desk, tx, act=act, subject=f"channel.{kind}", by=by, reason=reason, detail=told
            )
        )
        await desk.facade.refresh()
        return saved, change.warnings(before, saved)
    raise Rejected("revision_moved", f"channel.{kind} is being changed by others: try again", 412)


# open conversations ----------------------------------------------------------------------------------------


async def _concerned(desk: Desk, selection: _Selection) -> AsyncIterator[Row]:
    """Every open conversation concerned, read page by page."""
    after: UUID | None = None
    while True:

        async def work(tx: Tx, after: UUID | None = after) -> list[Row]:
            return await talk.open_conversations(
                tx, selection.kind, tenants=selection.tenants, channels=selection.channels,
                contact_class=selection.contact_class, after=after, limit=_PAGE,
            )  # fmt: skip

        page = await desk.store.transact(work)
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        after = page[-1]["id"]


async def _forecast(desk: Desk, after: Flag, selection: _Selection) -> dict[str, dict[str, int]]:
    """What `now` would do, by the same engine."""
    source = LocalSource(desk.flags)
    source.take(Snapshot(after.revision, {after.kind: after}))
    tenants: dict[str, dict[str, int]] = {}
    async for row in _concerned(desk, selection):
        told = tenants.setdefault(row["tenant"], {"open": 0, "would_move": 0})
        verdict = source.evaluate(
            Context(after.kind, row["tenant"], row["channel"], row["cohort"], row["contact_class"])
        )
        told["open"] += 1
        told["would_move"] += row["channel"] in desk.channels and TRUTH[verdict.stage].new != row["path"]
    return tenants


async def _move_all(desk: Desk, selection: _Selection, flag: Flag, by: str) -> int:
    """Each in a transaction of its own, so that nothing waits for all; run again it finds nothing left to move."""
    moved = 0
    async for row in _concerned(desk, selection):

        async def work(tx: Tx, wanted: UUID = row["id"]) -> list[Fact]:
            return await _move(desk, tx, wanted, flag)

        facts = await desk.decided(work)
        desk.meter.record(facts)
        moved += len(facts)
    if moved:
        detail = {"revision": flag.revision, "moved": moved}
        await desk.store.transact(
            lambda tx: audit.record(
                desk, tx, act="flag.moved", subject=f"channel.{flag.kind}", by=by, detail=detail
            )
        )
    return moved


async def _move(desk: Desk, tx: Tx, conversation_id: UUID, flag: Flag) -> list[Fact]:
    conversation = await tx.conversation(conversation_id)
    if conversation is None or not conversation.open:
        return []
    channel, contact = desk.channels.get(conversation.channel), await tx.contact(conversation.contact_id)
    if channel is None or contact is None:
        return []
    choice = await desk.facade.decide(tx, channel, contact)
    # Not choice.path: while Rocket.Chat is down only new conversations leave it.
    path = TRUTH[choice.stage].new
    if conversation.path is path:
        return []
    try:
        refuse_undividable(channel, path)
    except Rejected:
        return []
    reason = f"{choice.rule} said {choice.stage}: {flag.reason}"
    moved = await desk.facade.move(
        tx, conversation, path, stage=choice.stage, revision=choice.revision, reason=reason
    )
    return [("decisions_total", 1, (moved.kind, choice.stage, moved.path, "move"))]


# reading ---------------------------------------------------------------------------------------------------


async def show(desk: Desk, kind: str) -> Flag:
    """The flag as stored; one that was never set is at `rocketchat`, revision 0. Raises Rejected unknown_kind (404)."""
    if kind not in desk.kinds:
        raise Rejected(
            "unknown_kind", f"there is no kind {kind!r}: one of {', '.join(sorted(desk.kinds))}", 404
        )
    return (await desk.flags.snapshot()).flags.get(kind) or Flag(kind)


async def listing(desk: Desk) -> list[Flag]:
    """Every kind of the register, also untouched ones, by name."""
    stored = (await desk.flags.snapshot()).flags
    return [stored.get(kind) or Flag(kind) for kind in sorted(desk.kinds)]


async def history(desk: Desk, kind: str, limit: int = 100) -> list[Flag]:
    """Past revisions, newest first. Raises Rejected unknown_kind (404)."""
    await show(desk, kind)
    return list(await desk.flags.history(kind, limit))


async def laggards(desk: Desk, revision: int) -> list[str]:
    """Living processes that have not loaded the revision yet: "role id"."""
    alive = await desk.store.transact(lambda tx: processes.alive(tx, HEARTBEAT_SECONDS))
    return [f"{row['role']} {row['id']}" for row in alive if row["flag_revision"] < revision]


async def wait(desk: Desk, revision: int, seconds: float = 30.0) -> list[str]:
    """Until every living process reports the revision, or `seconds` are over: then who does not. Empty: all do."""
    end = desk.clock.monotonic() + seconds
    while late := await laggards(desk, revision):
        if desk.clock.monotonic() >= end:
            break
        await asyncio.sleep(_POLL_SECONDS)
    return late
