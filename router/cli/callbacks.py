"""`figueira callbacks`: the cut-in, and the way back."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from router.cli.answer import DONE, FAILED, Answer, pairs, table
from router.cli.parser import Menu, Parser, by, words
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk

_DRIFT = {
    "level_moved": "a level we set holds another address",
    "overridden": "a narrower level than ours was given an address",
}


def add(menu: Menu) -> None:
    callbacks = menu.group("callbacks", "where a channel's provider posts: to Rocket.Chat, or to Figueira")
    showing = callbacks.add(
        "show", "what the provider says, and what we set; exit 1 when they differ", at_desk(_show)
    )
    _channel(showing)

    setting = callbacks.add("set", "let the provider post to Figueira: the cut-in", at_desk(_set))
    _channel(setting)
    _level(setting, "default: the narrowest the settings allow")
    setting.add_argument("--dry-run", action="store_true", help="look at everything; change nothing")
    setting.add_argument(
        "--without-rooms", action="store_true", help="do not learn Rocket.Chat's open rooms before"
    )
    _signed(setting)

    restoring = callbacks.add("restore", "let the provider post where it did before", at_desk(_restore))
    _channel(restoring)
    _level(restoring, "default: every level that was set")
    restoring.add_argument("--dry-run", action="store_true", help="say what would be set; change nothing")
    _signed(restoring)


def _channel(parser: Parser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", type=words, help="its slug")


def _level(parser: Parser, told: str) -> None:
    parser.add_argument("--level", type=words, metavar="L", help=f"number | waba | app ({told})")


def _signed(parser: Parser) -> None:
    parser.add_argument("--reason", type=words, metavar="TEXT", help="kept in the audit log")
    by(parser)


async def _show(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import callbacks as control

    found = await control.show(desk, args.channel)
    rows = (
        (
            one["level"],
            one["url"],
            "Figueira" if one["ours"] else None,
            "<- serves" if one["level"] == found["serving"] else None,
        )
        for one in found["levels"]
    )
    text = table(("level", "posts to", "whose", "now"), rows, empty="no level is known")
    text += ["", *_kept(found["set"])]
    drift = found["drift"]
    notes = [f"figueira: drift: {_DRIFT[drift]}; set it again, or restore"] if drift else []
    return Answer(found, text, notes, FAILED if drift else DONE)


def _kept(kept: Mapping[str, Any] | None) -> list[str]:
    if kept is None:
        return ["not set by Figueira"]
    before = [f"{level} {url or '(empty)'}" for level, url in sorted(kept["previous"].items())]
    return pairs(
        [("set", f"{kept['level']} at {kept['set_at']} by {kept['set_by']}"), ("before", ", ".join(before))]
    )


async def _set(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import callbacks as control

    found = await control.set_callback(
        desk, args.channel, level=args.level, dry_run=args.dry_run, without_rooms=args.without_rooms, by=args.by,
        reason=args.reason,
    )  # fmt: skip
    notes = [f"warning: {line}" for line in found["warnings"]]
    if found["dry_run"]:
        return Answer(found, _plan(found), notes, DONE if found["ready"] else FAILED)
    text = [
        *_rooms(found["rooms"]),
        f"{found['channel']}: the {found['level']} posts to {found['url']} (verified)",
        f"before: {found['previous'] or '(empty)'}; back with `figueira callbacks restore {found['channel']}`",
    ]
    return Answer(found, text, notes)


def _plan(found: Mapping[str, Any]) -> list[str]:
    states = {True: "ok", False: "fail", None: "skip"}
    rows = ((states[one["ok"]], one["name"], one["seen"], one["mend"]) for one in found["checks"])
    return [
        "nothing was changed",
        *table(("state", "check", "found", "mend"), rows, empty="nothing to check"),
        "",
        *pairs(
            [
                ("would set", f"{found['level'] or '?'} to {found['url'] or '?'}"),
                ("instead of", found["previous"] or "(empty)"),
            ]
        ),
    ]


def _rooms(rooms: Mapping[str, int] | None) -> Sequence[str]:
    if rooms is None:
        return []
    return [
        f"{rooms['rooms']} open rooms in Rocket.Chat: {rooms['pinned']} pinned, {rooms['unplaced']} unplaced"
    ]


async def _restore(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import callbacks as control

    found = await control.restore(
        desk, args.channel, level=args.level, dry_run=args.dry_run, by=args.by, reason=args.reason
    )
    verb = "would post" if found["dry_run"] else "posts"
    text = ["nothing was changed"] if found["dry_run"] else []
    text += [
        f"{found['channel']}: the {one['level']} {verb} to {one['url'] or 'the next level'}"
        for one in found["restored"]
    ]
    if not found["dry_run"]:
        text.append(
            f"serving: {found['serving']['level'] or 'none'} {found['serving']['url'] or '-'} (verified)"
        )
    return Answer(found, text)
