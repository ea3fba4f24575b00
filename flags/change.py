"""Changes of a flag as pure functions: what the command line, HTTP and the console share.

Each returns the flag as it should be; the store gives it its revision. Each refuses with a FlagError that says what
is wrong, where, and how to mend it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol

from flags.local import CLASSES, FIELDS, HUNDRED, is_percent
from flags.ports import Flag, Strategy
from flags.stage import TRUTH, Path, Stage, skips_forward

_UNDER_A_SHARE: Final = (Stage.ROCKETCHAT, Stage.SHADOW)


class FlagError(Exception):
    """A change that cannot be made. `code` is stable; the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Addressed(Protocol):
    """What is asked of a channel here."""

    @property
    def slug(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def can_divide(self) -> bool: ...


def concerned(
    kind: str,
    every: Iterable[Addressed],
    *,
    tenants: Collection[str] = (),
    channels: Collection[str] = (),
    contact_class: str | None = None,
) -> dict[str, bool]:
    """The channels a change of `kind` concerns, by slug: can each divide a body between the paths?
    Raises FlagError for a kind, tenant or channel that has no channel of this kind."""
    own = [channel for channel in every if channel.kind == kind]
    if not own:
        raise FlagError("unknown_kind", f"no channel is of kind {kind!r}: see [channels.*] in figueira.toml")
    for slug in sorted(set(channels) - {channel.slug for channel in own}):
        raise FlagError("unknown_channel", f"no channel {slug!r} of kind {kind!r}: see [channels.*]")
    for tenant in sorted(set(tenants) - {channel.tenant for channel in own}):
        raise FlagError("unknown_tenant", f"tenant {tenant!r} has no channel of kind {kind!r}")
    everywhere = contact_class is not None or not (tenants or channels)  # a class is on every channel
    chosen = [channel for channel in own if channel.slug in channels or channel.tenant in tenants]
    return {channel.slug: channel.can_divide for channel in (own if everywhere else chosen)}


# the changes -----------------------------------------------------------------------------------------------


def set_stage(
    flag: Flag,
    *,
    stage: str,
    percent: int | None = None,
    tenants: Sequence[str] = (),
    channels: Sequence[str] = (),
    contact_class: str | None = None,
    reason: str,
    by: str,
    at: datetime,
    dividable: Mapping[str, bool],
) -> Flag:
    """Set the stage of the kind, or, with selectors, of those they name: each selector is a rule of its own.

    `dividable` holds the channels concerned (see `concerned`). Canary leaves everybody outside its share at the
    stage beneath (rocketchat or shadow); any other stage drops the share.
    """
    wanted = _stage(stage)
    chosen = _selectors(tenants, channels, contact_class)
    percent = _percent(wanted, percent, selected=bool(chosen))
    _refuse_undividable(wanted, _narrowed(dividable, chosen))
    signed = replace(flag, updated_by=by, updated_at=at, reason=_reason(reason))
    if chosen:
        share = HUNDRED if percent is None else percent
        added = tuple(Strategy(rule, values, wanted, share) for rule, values in chosen.items())
        return replace(signed, strategies=_joined((*_without(flag.strategies, chosen), *added)))
    base = wanted
    if wanted is Stage.CANARY:
        base = flag.base if flag.base in _UNDER_A_SHARE else Stage.ROCKETCHAT
    return replace(signed, stage=wanted, percent=percent, base=base)


def clear(
    flag: Flag,
    *,
    tenants: Sequence[str] = (),
    channels: Sequence[str] = (),
    contact_class: str | None = None,
    reason: str,
    by: str,
    at: datetime,
) -> Flag:
    """Take the rules of the named tenants, channels or class away; without any name, every rule. The stage stays."""
    chosen = _selectors(tenants, channels, contact_class)
    left = _without(flag.strategies, chosen) if chosen else ()
    if left == flag.strategies:
        raise FlagError(
            "no_such_rule",
            f"channel.{flag.kind} has no such rule: `figueira flags show {flag.kind}` lists them",
        )
    return replace(flag, strategies=left, updated_by=by, updated_at=at, reason=_reason(reason))


def kill(flag: Flag, *, by: str, at: datetime, reason: str = "") -> Flag:
    """New conversations to Rocket.Chat, before every rule, until `release`. In an emergency no reason is asked for."""
    if Stage.RETIRED in (flag.stage, flag.base):
        raise FlagError("retired", f"channel.{flag.kind} is retired: there is no Rocket.Chat to go back to")
    why = reason.strip() or "killed"
    override = {"stage": Stage.ROCKETCHAT.value, "by": by, "reason": why, "at": at.isoformat()}
    return replace(flag, override=override, updated_by=by, updated_at=at, reason=why)


def release(flag: Flag, *, by: str, at: datetime, reason: str = "") -> Flag:
    """Take the override away: the stage and the rules decide again."""
    if flag.override is None:
        raise FlagError("no_override", f"channel.{flag.kind} has no override to release")
    return replace(flag, override=None, updated_by=by, updated_at=at, reason=reason.strip() or "released")


# what a person is told -------------------------------------------------------------------------------------


def warnings(before: Flag, after: Flag) -> tuple[str, ...]:
    """What is allowed but should be known: skipped stages, notes of a stage, an override in the way."""
    steps: list[tuple[str, Stage, Stage]] = [("", before.stage, after.stage)]
    added = [strategy for strategy in after.strategies if strategy not in before.strategies]
    for strategy in added:
        fresh = [
            value for value in strategy.values if _ruling(before, strategy.rule, value) is not strategy.stage
        ]
        steps += [
            (f"{strategy.rule} {value}: ", _ruling(before, strategy.rule, value), strategy.stage)
            for value in fresh
        ]
    told = [line for step in steps if step[1] is not step[2] for line in _told(*step)]
    if len({strategy.rule for strategy in added}) > 1:
        told.append("each selector is a rule of its own: a contact needs to match one of them, not all")
    if after.override is not None and before.override is not None:
        told.append("an override is in force and comes first: `figueira flags release` ends it")
    return tuple(told)


def _told(who: str, before: Stage, after: Stage) -> list[str]:
    lines = []
    if skips_forward(before, after):
        skipped = list(Stage)[list(Stage).index(before) + 1 : list(Stage).index(after)]
        lines.append(f"{who}{before} → {after} skips {', '.join(skipped)}")
    if TRUTH[after].note:
        lines.append(f"{who}{after} {TRUTH[after].note}")
    return lines


def _ruling(flag: Flag, rule: str, value: str) -> Stage:
    """The stage that one name has by its own rule, else the kind's."""
    for strategy in flag.strategies:
        if strategy.rule == rule and value in strategy.values:
            return strategy.stage
    return flag.stage


def shape(flag: Flag) -> dict[str, Any]:
    """The flag as HTTP and `--json` show it."""
    return {
        "kind": flag.kind,
        "stage": flag.stage.value,
        "percent": flag.percent,
        "base": flag.base.value,
        "strategies": [
            {
                "rule": strategy.rule,
                "values": list(strategy.values),
                "stage": strategy.stage.value,
                "percent": strategy.percent,
            }
            for strategy in flag.strategies
        ],
        "revision": flag.revision,
        "override": None if flag.override is None else dict(flag.override),
        "updated_by": flag.updated_by,
        "updated_at": None if flag.updated_at is None else flag.updated_at.isoformat(),
        "reason": flag.reason,
    }


# the checks ------------------------------------------------------------------------------------------------


def _stage(name: str) -> Stage:
    if name not in set(Stage):
        raise FlagError("unknown_stage", f"there is no stage {name!r}: one of {', '.join(Stage)}")
    stage = Stage(name)
    if not TRUTH[stage].settable:
        raise FlagError("gated", f"{stage} cannot be set: {TRUTH[stage].note}")
    return stage


def _selectors(
    tenants: Sequence[str], channels: Sequence[str], contact_class: str | None
) -> dict[str, tuple[str, ...]]:
    if contact_class is not None and contact_class not in CLASSES:
        raise FlagError("unknown_class", f"there is no class {contact_class!r}: staff or test")
    named = {"class": (contact_class,) if contact_class else (), "channel": channels, "tenant": tenants}
    if any(not value for values in named.values() for value in values):
        raise FlagError("empty_selector", "a tenant or channel without a name selects nobody: leave it out")
    return {rule: tuple(sorted(set(values))) for rule, values in named.items() if values}


def _percent(stage: Stage, percent: int | None, *, selected: bool) -> int | None:
    if stage is not Stage.CANARY:
        if percent is not None:
            raise FlagError("percent_without_canary", f"percent belongs to canary: leave it out for {stage}")
        return None
    if percent is None:
        if selected:
            return HUNDRED
        raise FlagError(
            "percent_missing", "canary for a whole kind needs a percent, an integer from 0 to 100"
        )
    if not is_percent(percent):
        raise FlagError("percent_invalid", f"percent must be an integer from 0 to 100, not {percent!r}")
    return percent


def _narrowed(dividable: Mapping[str, bool], chosen: Mapping[str, tuple[str, ...]]) -> Mapping[str, bool]:
    """With channels alone, only those are concerned."""
    if set(chosen) != {"channel"}:
        return dividable
    unknown = [slug for slug in chosen["channel"] if slug not in dividable]
    if unknown:
        raise FlagError("unknown_channel", f"no channel {unknown[0]!r} of this kind: see [channels.*]")
    return {slug: dividable[slug] for slug in chosen["channel"]}


def _refuse_undividable(stage: Stage, dividable: Mapping[str, bool]) -> None:
    """While both paths hold conversations a batch must be divided, and the parts signed again."""
    if TRUTH[stage].new is not Path.NATIVE:
        return
    for slug, can in sorted(dividable.items()):
        if not can:
            raise FlagError(
                "cannot_divide",
                f"channel {slug!r} cannot go to {stage}: a batch could not be divided between the paths without the "
                f"secret that signs it; set app_secret in [channels.{slug}.native]",
            )


def _reason(text: str) -> str:
    if not text.strip():
        raise FlagError("reason_missing", "a change needs a reason: it is kept in the audit log")
    return text.strip()


# the rules -------------------------------------------------------------------------------------------------


def _without(strategies: tuple[Strategy, ...], chosen: Mapping[str, tuple[str, ...]]) -> tuple[Strategy, ...]:
    """The rules without the chosen names; a rule that names nobody any more is gone."""
    left = (
        replace(one, values=tuple(value for value in one.values if value not in chosen.get(one.rule, ())))
        for one in strategies
    )
    return tuple(one for one in left if one.values)


def _joined(strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """Rules that differ only in names become one; in the order in which they win."""
    names: dict[tuple[str, Stage, int], set[str]] = {}
    for one in strategies:
        names.setdefault((one.rule, one.stage, one.percent), set()).update(one.values)
    ranked = sorted(names.items(), key=lambda item: (list(FIELDS).index(item[0][0]), sorted(item[1])))
    return tuple(Strategy(rule, tuple(sorted(who)), stage, share) for (rule, stage, share), who in ranked)
