"""Whether a channel can be cut in: everything that is looked at before anything moves."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flags.ports import Flag
from flags.stage import Stage
from router.control.callbacks.look import CONFLICT, LOOK_UP, Place, is_ours, names_of, provider_of, serving_of
from router.control.channels import effective
from router.control.desk import Desk
from router.domain.errors import FigueiraError, Rejected
from router.domain.job import Outcome
from router.domain.ports import Callback, Finding


@dataclass(slots=True)
class Plan:
    """What a cut-in finds. `kept`: what its level goes back to; `fresh`: that was not known before."""

    place: Place
    level: str = ""
    seen: Sequence[Callback] = ()
    checks: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rooms: Mapping[str, int] | None = None
    kept: str | None = None
    fresh: bool = False

    @property
    def ready(self) -> bool:
        """Nothing stands in the way."""
        return all(check.ok is not False for check in self.checks)

    def url_of(self, level: str) -> str | None:
        """The address the provider has at a level."""
        return next((one.url for one in self.seen if one.level == level), None)

    def check(self, name: str, good: bool, seen: str, mend: str) -> None:
        """One line; the mend only when it is needed."""
        self.checks.append(Finding(name, good, seen, "" if good else mend))


async def make_plan(
    desk: Desk, place: Place, level: str | None, *, without_rooms: bool, dry_run: bool
) -> Plan:
    plan = Plan(place)
    _check_settings(desk, plan)
    plan.level = _level(place, level) if place.edge.levels(place.channel) else level or ""
    await _check_way_in(plan)
    await _checkprovider_of(plan)
    await _check_rooms(desk, plan, without_rooms=without_rooms, dry_run=dry_run)
    await _warn(desk, plan)
    return plan


def _level(place: Place, wanted: str | None) -> str:
    known = place.edge.levels(place.channel)
    if wanted is not None and wanted not in known:
        raise Rejected(
            "unknown_level",
            f"{place.channel.slug}: its settings allow the levels {', '.join(known)}; waba needs waba_id, app needs"
            f" app_id and app_secret in [channels.{place.channel.slug}.native]",
        )
    return wanted or known[0]


def _check_settings(desk: Desk, plan: Plan) -> None:
    channel, url = plan.place.channel, plan.place.url
    lacks = plan.place.edge.missing(channel)
    native = f"[channels.{channel.slug}.native]"
    plan.check(
        "settings", not lacks, f"lacks {names_of(lacks)}" if lacks else "complete", f"set them in {native}"
    )
    safe = url is not None and (url.startswith("https://") or _loopback(url))
    mend = (
        "set public_url (FIGUEIRA_PUBLIC_URL) to the https address under which the internet reaches Figueira"
    )
    plan.check("public address", safe, url or "none", mend)
    target = channel.webhook_url
    elsewhere = target is not None and not _under(target, desk.public_url)
    mend = f"set webhook_url in [channels.{channel.slug}.rocketchat] to the address of Rocket.Chat's app, not ours"
    plan.check("Rocket.Chat's address", elsewhere, target or "none", mend)
    if not plan.place.edge.levels(channel):
        plan.check(
            "levels",
            False,
            "none can be set from here",
            f"set what is missing in {native}, or use the provider's console",
        )


def _under(url: str, public: str | None) -> bool:
    """Events forwarded there would come back for ever."""
    return bool(public) and url.startswith(f"{(public or '').rstrip('/')}/webhooks/")


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _check_way_in(plan: Plan) -> None:
    """Our own address, asked from outside in: what the provider will find there."""
    if not plan.ready or plan.place.url is None:
        plan.checks.append(Finding("way in", None, "not tried: mend the rest first"))
        return
    result = await plan.place.edge.reaches(plan.place.channel, plan.place.url)
    good = result.outcome is Outcome.OK
    seen = "answers the provider's question" if good else f"does not answer ({result.code})"
    mend = plan.place.edge.mend(result.code or "") if result.outcome is Outcome.PERMANENT else ""
    mend = mend or "is `figueira serve` running, and does the public address lead to it?"
    plan.check("way in", good, seen, mend)


async def _checkprovider_of(plan: Plan) -> None:
    if not plan.place.edge.levels(plan.place.channel):
        return
    result, plan.seen = await plan.place.edge.show(plan.place.channel)
    good = result.outcome is Outcome.OK
    serving = serving_of(plan.seen)
    seen = f"posts to {serving.url or 'nobody'}" if good else f"does not tell ({result.code})"
    plan.check("provider", good, seen, plan.place.edge.mend(result.code or "") or LOOK_UP)


async def _check_rooms(desk: Desk, plan: Plan, *, without_rooms: bool, dry_run: bool) -> None:
    if without_rooms:
        plan.warnings.append(
            "Rocket.Chat's open rooms are not learned: who is in the middle of a conversation may be decided anew"
        )
        return
    if not dry_run and desk.learn_rooms is not None:
        return  # learned, not counted, once everything else is in order
    try:
        plan.rooms = await learned(desk, count=True)
    except Rejected as error:
        plan.checks.append(Finding("open rooms", False, "not known", str(error)))
    else:
        plan.check("open rooms", True, f"{plan.rooms.get('rooms', 0)} open", "")
        warn_of_rooms(plan)


async def learned(desk: Desk, *, count: bool) -> Mapping[str, int]:
    """Learn Rocket.Chat's open rooms and pin them, or only `count` them. Raises Rejected rooms_unknown."""
    if desk.learn_rooms is None:
        raise Rejected(
            "rooms_unknown",
            "Rocket.Chat's open rooms cannot be read: set user_id and auth_token in [rocketchat], or go --without-rooms",
            CONFLICT,
        )
    try:
        return await desk.learn_rooms(count)
    except FigueiraError as error:
        raise Rejected(
            "rooms_unknown",
            f"Rocket.Chat does not tell its open rooms ({error}): nothing was moved; try again when it answers, or go"
            " --without-rooms when nobody is in the middle of a conversation",
            CONFLICT,
        ) from error


def warn_of_rooms(plan: Plan) -> None:
    """Rooms that stay unpinned."""
    unplaced = (plan.rooms or {}).get("unplaced", 0)
    if unplaced:
        plan.warnings.append(
            f"{unplaced} open rooms have a source that no channel is mapped to: add it to sources in [rocketchat]"
        )


async def _warn(desk: Desk, plan: Plan) -> None:
    channel = plan.place.channel
    flag = (await desk.flags.snapshot()).flags.get(channel.kind) or Flag(channel.kind)
    stage, _ = effective(flag, channel)
    if stage is not Stage.ROCKETCHAT:
        plan.warnings.append(
            f"channel.{channel.kind} is at {stage.value} for this channel: new conversations follow it at once"
        )
    serving = serving_of(plan.seen)
    if serving.url and not is_ours(desk, serving.url) and serving.url != channel.webhook_url:
        plan.warnings.append(
            f"the provider posts to {serving.url} today, but events will be forwarded to {channel.webhook_url}"
        )
    if plan.level not in {"", "number"}:
        plan.warnings.append(f"the level {plan.level} moves every number that has no narrower address")


def not_ready(plan: Plan) -> Rejected:
    """Everything that stands in the way, with its mend."""
    wrong = [check for check in plan.checks if check.ok is False]
    told = "; ".join(f"{check.name}: {check.seen}: {check.mend}" for check in wrong)
    code = "rooms_unknown" if [check.name for check in wrong] == ["open rooms"] else "not_ready"
    return Rejected(code, f"{plan.place.channel.slug}: nothing was moved. {told}", CONFLICT)


def outcome(plan: Plan, *, verified: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """The plan, or what came of it, as `set_callback` tells it."""
    serving = serving_of(plan.seen)
    return {
        "channel": plan.place.channel.slug,
        "provider": provider_of(plan.place.channel),
        "level": plan.level,
        "url": plan.place.url,
        "previous": plan.url_of(plan.level) if dry_run else plan.kept,
        "serving": {"level": serving.level or None, "url": serving.url},
        "rooms": dict(plan.rooms) if plan.rooms is not None else None,
        "checks": [asdict(check) for check in plan.checks],
        "warnings": plan.warnings,
        "ready": plan.ready,
        "verified": verified,
        "dry_run": dry_run,
    }
