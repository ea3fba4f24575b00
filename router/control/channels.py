"""The channels at a glance, for the console; and the gauges of the whole installation."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from flags.ports import Flag
from flags.stage import Path, Stage
from router import metrics
from router.control.desk import Desk, every, stamp
from router.domain.channel import Channel
from router.domain.job import ROCKETCHAT_GATE, native_gate
from router.domain.ports import Tx
from router.storage.queries import callbacks, work

OVERVIEW_HOURS: Final = 24
LANES: Final = ("split", "inbound", "outbound", "channel")
_COUNTED: Final = ("inbound", "handled", "sent", "delivered", "failed")

Row = dict[str, Any]


async def overview(
    desk: Desk, *, tenant: str | None = None, since: datetime | None = None
) -> list[dict[str, Any]]:
    """Per channel {channel, kind, tenant, stage, percent, override, paths: {path: {inbound, handled, sent, delivered,
    failed, waiting}}, lanes: {lane: {depth, age_seconds}}, dead}, by slug.

    `stage` and `percent` are what holds for the channel when no contact class says otherwise. Messages count since
    `since` (default: 24 hours); waiting, lanes and dead are as of now.
    """

    async def read(tx: Tx) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        begin = since or await tx.now() - timedelta(hours=OVERVIEW_HOURS)
        counted = await work.counters(tx, "channel, path", kind=None, channel=None, since=begin)
        return counted, await work.waiting(tx), await work.lanes(tx), await work.dead_counts(tx)

    counted, waiting, lanes, dead = await desk.store.transact(read, tenant=tenant)
    flags = (await desk.flags.snapshot()).flags
    counts = {(row["channel"], row["path"]): row for row in counted}
    waits = {(row["channel"], row["path"]): row["waiting"] for row in waiting}
    depths = {(row["channel"], row["lane"]): row for row in lanes}
    dead_of = {row["channel"]: row["dead"] for row in dead}
    own = [one for one in desk.channels.values() if every(tenant) or one.tenant == tenant]
    return [
        _described(channel, flags.get(channel.kind) or Flag(channel.kind))
        | {
            "paths": {
                path.value: _numbers(counts.get((channel.slug, path.value), {}))
                | {"waiting": waits.get((channel.slug, path.value), 0)}
                for path in Path
            },
            "lanes": {lane: _lane(depths.get((channel.slug, lane), {})) for lane in LANES},
            "dead": dead_of.get(channel.slug, 0),
        }
        for channel in sorted(own, key=lambda one: one.slug)
    ]


def _numbers(row: Row) -> Row:
    return {name: row.get(name, 0) for name in _COUNTED}


def _lane(row: Row) -> Row:
    return {"depth": row.get("depth", 0), "age_seconds": row.get("age_seconds") or 0.0}


def _described(channel: Channel, flag: Flag) -> Row:
    stage, percent = effective(flag, channel)
    return {
        "channel": channel.slug,
        "kind": channel.kind,
        "tenant": channel.tenant,
        "stage": stage.value,
        "percent": percent,
        "override": None if flag.override is None else dict(flag.override),
    }


def effective(flag: Flag, channel: Channel) -> tuple[Stage, int | None]:
    """Stage and percent (of a canary) that hold for a channel: its own rule, its tenant's, the kind's."""
    for rule, value in (("channel", channel.slug), ("tenant", channel.tenant)):
        for strategy in flag.strategies:
            if strategy.rule == rule and value in strategy.values:
                return strategy.stage, strategy.percent if strategy.stage is Stage.CANARY else None
    return flag.stage, flag.percent


async def breakers(desk: Desk, *, tenant: str | None = None) -> list[dict[str, Any]]:
    """{gate, open, failures, opened_at, open_until, reason}; Rocket.Chat's first, closed ones too. A tenant sees
    Rocket.Chat's and its own channels'."""
    found = {row["gate"]: row for row in await desk.store.transact(work.breakers, tenant=tenant)}
    own = [one.slug for one in desk.channels.values() if every(tenant) or one.tenant == tenant]
    gates = [ROCKETCHAT_GATE, *map(native_gate, sorted(own))]
    return [_breaker(gate, found.get(gate, {})) for gate in gates]


async def drifts(desk: Desk, *, tenant: str | None = None) -> dict[str, str]:
    """Channels whose provider does not post to us any more, though we set it so: slug → level_moved or overridden."""
    own = {one.slug for one in desk.channels.values() if every(tenant) or one.tenant == tenant}
    kept = await desk.store.transact(callbacks.active)
    return {row["channel"]: row["drift"] for row in kept if row["drift"] and row["channel"] in own}


def _breaker(gate: str, row: Row) -> Row:
    return {
        "gate": gate,
        "open": row.get("opened_at") is not None,
        "failures": row.get("failures", 0),
        "opened_at": stamp(row.get("opened_at")),
        "open_until": stamp(row.get("open_until")),
        "reason": row.get("reason"),
    }


# gauges ----------------------------------------------------------------------------------------------------


async def measure(desk: Desk) -> dict[str, str]:
    """Set the gauges that describe the installation as a whole; called every few seconds by each process. Returns the
    ill channels and the code each provider gave."""

    async def read(tx: Tx) -> tuple[list[Row], list[Row], list[Row], list[Row], int]:
        return (
            await work.lanes(tx),
            await work.pins(tx),
            await work.dead_counts(tx),
            await work.breakers(tx),
            await work.unplaced(tx),
        )

    lanes, pins, dead, gates, unplaced = await desk.store.transact(read)
    _measure_lanes(lanes)
    kinds = sorted({channel.kind for channel in desk.channels.values()})
    pinned = {(row["kind"], row["path"]): row["pins"] for row in pins}
    for kind in kinds:
        for path in Path:
            metrics.pins.labels(kind, path.value).set(pinned.get((kind, path.value), 0))
    _measure_dead(desk, dead, kinds)
    metrics.unplaced_events.set(unplaced)
    shut = any(row["gate"] == ROCKETCHAT_GATE and row["opened_at"] is not None for row in gates)
    metrics.rocketchat_up.set(0 if shut else 1)
    open_gates = {row["gate"]: row["reason"] or "unknown" for row in gates if row["opened_at"] is not None}
    ill = {slug: open_gates[gate] for slug in desk.channels if (gate := native_gate(slug)) in open_gates}
    for slug in desk.channels:
        metrics.channel_ill.labels(slug).set(1 if slug in ill else 0)
    await _measure_stages(desk)
    return ill


def _measure_lanes(lanes: list[Row]) -> None:
    for lane in LANES:
        own = [row for row in lanes if row["lane"] == lane]
        metrics.lane_depth.labels(lane).set(sum(row["depth"] for row in own))
        metrics.lane_age_seconds.labels(lane).set(max((row["age_seconds"] for row in own), default=0.0))


def _measure_dead(desk: Desk, dead: list[Row], kinds: list[str]) -> None:
    counts: Counter[str] = Counter()
    for row in dead:
        channel = desk.channels.get(row["channel"])
        counts[channel.kind if channel else row["channel"]] += row["dead"]
    for kind in {*kinds, *counts}:
        metrics.dead_letters.labels(kind).set(counts[kind])


async def _measure_stages(desk: Desk) -> None:
    flags = (await desk.flags.snapshot()).flags
    for channel in desk.channels.values():
        current, _ = effective(flags.get(channel.kind) or Flag(channel.kind), channel)
        for stage in Stage:
            metrics.stage.labels(channel.slug, stage.value).set(stage is current)
