"""`figueira flags`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flags.change import shape
from flags.local import CLASSES
from flags.ports import Flag
from flags.stage import Stage
from router.cli.answer import FAILED, Answer, WrongUse, pairs, table
from router.cli.parser import Menu, Parser, count, percent, signed, words
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk
    from router.control.flags import FlagChange

_HEADS = ("kind", "stage", "rules", "override", "revision", "by", "reason")


def add(menu: Menu) -> None:
    flags = menu.group("flags", "the stage of each channel kind")
    flags.add("list", "every kind and its stage", at_desk(_list))
    flags.add("show", "one kind: stage, rules, override", at_desk(_show)).add_argument("kind", metavar="KIND")

    setting = flags.add(
        "set", "set the stage of a kind, or of some of its channels, tenants or contacts", _set
    )
    setting.add_argument("kind", metavar="KIND")
    setting.add_argument(
        "stage", metavar="STAGE", choices=[one.value for one in Stage], help=" | ".join(Stage)
    )
    setting.add_argument(
        "--percent", type=percent, metavar="P", help="canary's share of new conversations, 0-100"
    )
    _selectors(setting)
    setting.add_argument("--now", action="store_true", help="also move the open conversations concerned")
    setting.add_argument("--wait", action="store_true", help="return when every process has it (30 s)")
    setting.add_argument("--dry-run", action="store_true", help="say what --now would move; change nothing")
    signed(setting)

    clearing = flags.add("clear", "take rules of tenants, channels or a class away", at_desk(_clear))
    clearing.add_argument("kind", metavar="KIND")
    _selectors(clearing)
    signed(clearing, reason="cleared")

    past = flags.add("history", "past revisions, newest first", at_desk(_history))
    past.add_argument("kind", metavar="KIND")
    past.add_argument("--limit", type=count, default=100, metavar="N", help="default 100")

    killing = flags.add("kill", "new conversations to Rocket.Chat, before every rule", at_desk(_kill))
    killing.add_argument("kind", metavar="KIND")
    killing.add_argument("--now", action="store_true", help="also move the open conversations")
    signed(killing, reason="killed")

    releasing = flags.add("release", "end the kill: stage and rules decide again", at_desk(_release))
    releasing.add_argument("kind", metavar="KIND")
    signed(releasing, reason="released")


def _selectors(parser: Parser) -> None:
    parser.add_argument(
        "--tenant", type=words, action="append", default=[], metavar="T", help="may be repeated"
    )
    parser.add_argument(
        "--channel", type=words, action="append", default=[], metavar="C", help="may be repeated"
    )
    parser.add_argument("--class", dest="contact_class", choices=CLASSES, help="contacts of this class")


# reading -----------------------------------------------------------------------------------------------------


async def _list(desk: "Desk", _args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    found = await control.listing(desk)
    return Answer(_page(found), table(_HEADS, map(_row, found), empty="no kinds"))


async def _show(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    flag = await control.show(desk, args.kind)
    return Answer(shape(flag), _lines(flag))


async def _history(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    found = await control.history(desk, args.kind, limit=args.limit)
    rows = (
        (one.revision, one.updated_at, _stage(one), len(one.strategies), one.updated_by, one.reason)
        for one in found
    )
    heads = ("revision", "at", "stage", "rules", "by", "reason")
    return Answer(_page(found), table(heads, rows, empty="never changed"))


def _page(found: Sequence[Flag]) -> dict[str, Any]:
    """As GET /v1/flags answers."""
    return {"items": [shape(flag) for flag in found], "next_cursor": None}


# changing ----------------------------------------------------------------------------------------------------


def _set(args: argparse.Namespace) -> Answer:
    """What can be seen to be wrong is refused before anything is started."""
    if args.percent is not None and args.stage != Stage.CANARY:
        raise WrongUse(f"flags set: --percent belongs to canary: leave it out for {args.stage}")
    selected = args.tenant or args.channel or args.contact_class
    if args.percent is None and args.stage == Stage.CANARY and not selected:
        raise WrongUse(
            "flags set: canary for a whole kind needs a share: add --percent, an integer from 0 to 100"
        )
    return at_desk(_set_at)(args)


async def _set_at(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    change = await control.set_stage(
        desk, args.kind, stage=args.stage, percent=args.percent, tenants=args.tenant, channels=args.channel,
        contact_class=args.contact_class, reason=args.reason, by=args.by, now=args.now, dry_run=args.dry_run,
    )  # fmt: skip
    late = [] if args.dry_run or not args.wait else await control.wait(desk, change.flag.revision)
    return _changed(change, late)


async def _clear(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    return _changed(
        await control.clear(
            desk, args.kind, tenants=args.tenant, channels=args.channel, contact_class=args.contact_class,
            reason=args.reason, by=args.by,
        )
    )  # fmt: skip


async def _kill(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    return _changed(await control.kill(desk, args.kind, reason=args.reason, by=args.by, now=args.now))


async def _release(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import flags as control

    return _changed(await control.release(desk, args.kind, reason=args.reason, by=args.by))


def _changed(change: "FlagChange", late: list[str] | None = None) -> Answer:
    data: dict[str, Any] = {
        **shape(change.flag),
        "warnings": list(change.warnings),
        "moved": change.moved,
        "dry_run": change.dry_run,
    }
    notes = [f"warning: {line}" for line in change.warnings]
    if late is not None:
        data["laggards"] = late
    if late:
        notes.append(f"figueira: revision {change.flag.revision} has not reached {', '.join(late)}")
    text = _would(change.dry_run) if change.dry_run is not None else _lines(change.flag)
    if change.moved:
        text.append(f"{change.moved} open conversations moved")
    return Answer(data, text, notes, FAILED if late else 0)


# for a person ------------------------------------------------------------------------------------------------


def _would(dry_run: Mapping[str, Mapping[str, int]]) -> list[str]:
    rows = ((tenant, told["open"], told["would_move"]) for tenant, told in sorted(dry_run.items()))
    return [
        "nothing was changed",
        *table(("tenant", "open", "would move"), rows, empty="no open conversations"),
    ]


def _stage(flag: Flag) -> str:
    return f"{flag.stage.value} {flag.percent}%" if flag.percent is not None else flag.stage.value


def _row(flag: Flag) -> tuple[object, ...]:
    killed = flag.override["stage"] if flag.override else None
    return flag.kind, _stage(flag), len(flag.strategies), killed, flag.revision, flag.updated_by, flag.reason


def _lines(flag: Flag) -> list[str]:
    override = flag.override
    head: list[tuple[str, object]] = [
        ("kind", flag.kind),
        ("stage", _stage(flag) + (f", the others {flag.base.value}" if flag.percent is not None else "")),
        ("override", override and f"{override['stage']} by {override['by']}: {override['reason']}"),
        ("revision", flag.revision),
        (
            "changed",
            flag.updated_at and f"{flag.updated_at:%Y-%m-%d %H:%M:%SZ} by {flag.updated_by}: {flag.reason}",
        ),
    ]
    rules = [
        (f"rule {one.rule}", f"{', '.join(one.values)}: {one.stage.value} {one.percent}%")
        for one in flag.strategies
    ]
    return pairs([*head, *rules])
