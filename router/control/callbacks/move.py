"""Setting a provider's callback to us, and back: keep, act, read back, audit."""

from collections.abc import Sequence
from typing import Any

from router.control import audit
from router.control.callbacks.look import (
    CONFLICT,
    Place,
    Row,
    held,
    is_ours,
    place_of,
    provider_of,
    read,
    refused,
    serving_of,
)
from router.control.callbacks.plan import Plan, learned, make_plan, not_ready, outcome, warn_of_rooms
from router.control.desk import Desk
from router.domain.errors import Rejected
from router.domain.job import Outcome
from router.domain.ports import Callback, Tx
from router.storage.queries import callbacks as rows


async def set_callback(
    desk: Desk, slug: str, *, level: str | None = None, dry_run: bool = False, without_rooms: bool = False, by: str,
    reason: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Let the provider post to us. `level` None: the narrowest that the settings allow.

    {channel, provider, level, url, previous, serving: {level, url}, rooms: {rooms, pinned, unplaced} | null, checks:
    [{name, ok, seen, mend}], warnings, ready, verified, dry_run}. `previous` is the level's former address, or null.
    A dry run reads, counts the rooms and changes nothing.
    Raises Rejected unknown_channel, unknown_level, no_callbacks; not_ready (a check failed), rooms_unknown (Rocket.Chat
    does not tell its open rooms), callback_unreadable, callback_refused, callback_unverified, already_ours (409).
    """
    plan = await make_plan(desk, place_of(desk, slug), level, without_rooms=without_rooms, dry_run=dry_run)
    if dry_run:
        return outcome(plan, dry_run=True)
    if not plan.ready:
        raise not_ready(plan)
    if not without_rooms:
        plan.rooms = await learned(desk, count=False)
        warn_of_rooms(plan)
    plan.seen = await read(plan.place)
    await _keep(desk, plan, by, reason)
    await _move(desk, plan, by)
    return outcome(plan, verified=True)


async def _keep(desk: Desk, plan: Plan, by: str, reason: str | None) -> None:
    """Commit what stands there now. What is kept of a level already is never replaced by our own address."""
    channel, url, level = plan.place.channel, plan.place.url or "", plan.level
    now = next((one for one in plan.seen if one.level == level), Callback(level, None))
    if is_ours(desk, now.url) and now.url != url:
        raise Rejected(
            "already_ours",
            f"{channel.slug}: the {level} posts to another channel of ours already, and an event finds its own channel"
            " by its number: nothing needs to be set",
            CONFLICT,
        )

    async def work(tx: Tx) -> tuple[bool, str | None]:
        kept = await rows.one(tx, channel.slug, lock=True)
        previous = dict(kept["previous"]) if kept is not None else {}
        fresh = level not in held(kept, plan.seen)
        if fresh:
            was = None if is_ours(desk, now.url) else now.url
            previous[level] = {"url": was, "settings": dict(now.settings), "of": now.of}
        await rows.keep(
            tx, channel=channel.slug, tenant=channel.tenant, level=level, url=url, previous=previous, by=by
        )
        await audit.record(
            desk, tx, act="callback.set", subject=channel.slug, by=by, tenant=channel.tenant, reason=reason,
            detail={"level": level, "rooms": dict(plan.rooms) if plan.rooms is not None else None},
        )  # fmt: skip
        return fresh, previous[level]["url"]

    plan.fresh, plan.kept = await desk.store.transact(work)
    if plan.fresh and is_ours(desk, now.url):
        plan.warnings.append(
            f"the {level} was ours already and what was there before is not known: restore would leave it empty"
        )


async def _move(desk: Desk, plan: Plan, by: str) -> None:
    """Set, read back, compare. Raises Rejected; what was kept is given up only when the provider refused."""
    place = plan.place
    result = await place.edge.set(place.channel, plan.level, place.url or "")
    if result.outcome not in {Outcome.OK, Outcome.UNKNOWN}:
        await _end(desk, plan, by, "callback.refused", result.code)
        raise refused("callback_refused", "does not take the address, nothing was moved", place, result)
    told, plan.seen = await place.edge.show(place.channel)
    if told.outcome is not Outcome.OK:
        await _end(desk, plan, by, "callback.unverified", told.code)
        raise refused("callback_unverified", "was given the address, but does not tell it back", place, told)
    if plan.url_of(plan.level) != place.url:
        code = result.code or "read_back"
        await _end(desk, plan, by, "callback.unverified", code)
        raise Rejected(
            "callback_unverified",
            f"{place.channel.slug}: the {plan.level} posts to {plan.url_of(plan.level) or 'nobody'} after it was set"
            f" ({code}): look at `figueira callbacks show`, then set it again",
            CONFLICT,
        )
    if not is_ours(desk, serving_of(plan.seen).url):
        plan.warnings.append(f"the narrower level {serving_of(plan.seen).level} still posts elsewhere")
    await _end(desk, plan, by, "callback.verified", None)


async def _end(desk: Desk, plan: Plan, by: str, act: str, code: str | None) -> None:
    """Audit how it ended. A refused level that was not ours before has nothing to be set back."""
    channel, level = plan.place.channel, plan.level

    async def work(tx: Tx) -> None:
        kept = await rows.one(tx, channel.slug, lock=True)
        if act == "callback.verified":
            await rows.checked(tx, channel.slug, None)
        elif act == "callback.refused" and plan.fresh and kept is not None:
            await _release(tx, kept, level, plan.seen)
        detail = {"level": level, "code": code}
        await audit.record(
            desk, tx, act=act, subject=channel.slug, by=by, tenant=channel.tenant, detail=detail
        )

    await desk.store.transact(work)


async def _release(tx: Tx, kept: Row, level: str, seen: Sequence[Callback]) -> None:
    """A level is not ours any more. What was kept of it stays in the row, marked."""
    previous = {**kept["previous"], level: {**kept["previous"][level], "restored": True}}
    left = held({"previous": previous}, seen)
    await rows.put_back(
        tx, kept["channel"], level=left[0] if left else level, previous=previous, done=not left
    )


# going back --------------------------------------------------------------------------------------------------


async def restore(
    desk: Desk, slug: str, *, level: str | None = None, dry_run: bool = False, by: str, reason: str | None = None
) -> dict[str, Any]:  # fmt: skip
    """Set the levels we set back to what stood there before (or only `level`), the narrowest first.

    {channel, provider, restored: [{level, url}], serving: {level, url}, verified, dry_run}. Raises Rejected
    unknown_channel, no_callbacks; not_set, callback_refused, callback_unverified, callback_unreadable (409).
    """
    place = place_of(desk, slug)
    kept = await desk.store.transact(lambda tx: rows.one(tx, slug))
    seen = await read(place)
    before = [_kept(kept, one) for one in _wanted(slug, held(kept, seen), level)]
    if not dry_run:
        for previous in before:
            seen = await _set_back(desk, place, previous, by, reason)
    serving = serving_of(seen)
    return {
        "channel": slug,
        "provider": provider_of(place.channel),
        "restored": [{"level": one.level, "url": one.url} for one in before],
        "serving": {"level": serving.level or None, "url": serving.url},
        "verified": not dry_run,
        "dry_run": dry_run,
    }


def _wanted(slug: str, ours: Sequence[str], level: str | None) -> Sequence[str]:
    if not ours or (level is not None and level not in ours):
        what = f"the level {level} was" if level is not None and ours else "nothing was"
        told = f"{slug}: {what} set by `figueira callbacks set`, or it is set back already"
        raise Rejected("not_set", told, CONFLICT)
    return [level] if level is not None else ours


def _kept(kept: Row | None, level: str) -> Callback:
    was = kept["previous"][level] if kept is not None else {}
    return Callback(level, was.get("url"), was.get("settings") or {})


async def _set_back(
    desk: Desk, place: Place, previous: Callback, by: str, reason: str | None
) -> Sequence[Callback]:
    slug, level = place.channel.slug, previous.level
    result = await place.edge.restore(place.channel, previous)
    if result.outcome not in {Outcome.OK, Outcome.UNKNOWN}:
        raise refused("callback_refused", f"does not take the {level}'s former address", place, result)
    seen = await read(place)
    now = next((one.url for one in seen if one.level == level), None)
    if now != previous.url:
        raise Rejected(
            "callback_unverified",
            f"{slug}: the {level} posts to {now or 'nobody'} after it was set back ({result.code or 'read_back'}): look"
            " at `figueira callbacks show`, then restore again",
            CONFLICT,
        )

    async def work(tx: Tx) -> None:
        kept = await rows.one(tx, slug, lock=True)
        if kept is not None and level in held(kept, seen):
            await _release(tx, kept, level, seen)
        await audit.record(
            desk, tx, act="callback.restore", subject=slug, by=by, tenant=place.channel.tenant, reason=reason,
            detail={"level": level},
        )  # fmt: skip

    await desk.store.transact(work)
    return seen
