"""`figueira deadletters`."""

import argparse
from typing import TYPE_CHECKING
from uuid import UUID

from router.cli.answer import Answer, WrongUse, pairs, table
from router.cli.parser import Menu, by, identifier, words
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk

_HEADS = ("job_id", "kind", "job_kind", "channel", "reason", "attempts", "at")
_TRIES = ("number", "path", "started_at", "ended_at", "outcome", "code")


def add(menu: Menu) -> None:
    letters = menu.group("deadletters", "work that was given up, kept, and can be replayed")
    listing = letters.add("list", "those that wait for a person", at_desk(_list))
    listing.add_argument("--kind", type=words, metavar="KIND", help="of this channel kind only")
    showing = letters.add("show", "one of them, with its attempts", at_desk(_show))
    showing.add_argument("job", metavar="JOB", type=identifier)
    replaying = letters.add("replay", "put them at the end of their lanes again, with new attempts", _replay)
    replaying.add_argument(
        "job", metavar="JOB", type=_one_or_all, nargs="?", default="all",
        help="default all, but for sends whose fate is unknown: those only one by one",
    )  # fmt: skip
    replaying.add_argument("--all", action="store_true", help="the same as naming no JOB")
    by(replaying)


def _one_or_all(text: str) -> UUID | str:
    return text if text == "all" else identifier(text)


async def _list(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import deadletters as control

    found = list(await control.listing(desk, kind=args.kind))
    return Answer(
        {"items": found}, table(_HEADS, ([one.get(head) for head in _HEADS] for one in found), empty="none")
    )


async def _show(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import deadletters as control

    found = await control.show(desk, args.job)
    tries = ([one.get(head) for head in _TRIES] for one in found["tries"])
    head = pairs(
        (name, ", ".join(told) if name == "lanes" else told)
        for name, told in found.items()
        if name != "tries"
    )
    return Answer(found, [*head, "", *table(_TRIES, tries, empty="nothing was sent")])


def _replay(args: argparse.Namespace) -> Answer:
    if args.all and args.job != "all":
        raise WrongUse("deadletters replay: either JOB or --all")
    return at_desk(_replay_at)(args)


async def _replay_at(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import deadletters as control

    number = await control.replay(desk, args.job, by=args.by)
    return Answer({"replayed": number}, [f"{number} replayed"])
