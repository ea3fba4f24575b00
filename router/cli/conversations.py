"""`figueira move` and `figueira explain`."""

import argparse
from typing import TYPE_CHECKING

from flags.stage import Path
from router.cli.answer import Answer, pairs, table
from router.cli.parser import Menu, identifier, signed
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk


def add(menu: Menu) -> None:
    moving = menu.add("move", "move an open conversation to a path", at_desk(_move))
    moving.add_argument("conversation", metavar="CONVERSATION", type=identifier)
    moving.add_argument("path", metavar="PATH", choices=[one.value for one in Path], help=" | ".join(Path))
    signed(moving)
    explaining = menu.add("explain", "why a conversation is on its path", at_desk(_explain))
    explaining.add_argument("conversation", metavar="CONVERSATION", type=identifier)


async def _move(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import conversations as control

    moved = await control.move(desk, args.conversation, args.path, reason=args.reason, by=args.by)
    data = await control.one(desk, moved.id)
    return Answer(data, [f"{moved.id} is on {moved.path.value}, pin version {moved.pin_version}"])


async def _explain(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import conversations as control

    told = await control.explain(desk, args.conversation)
    heads = ("at", "path", "stage", "rule", "revision", "guard", "reason")
    rows = ([one.get(head) for head in heads] for one in told["decisions"])
    head = pairs((name, told[name]) for name in ("conversation_id", "path", "pin_version"))
    return Answer(told, [*head, "", *table(heads, rows, empty="no decisions: it began in Rocket.Chat")])
