"""`figueira reconcile`."""

import argparse
from typing import TYPE_CHECKING

from router.cli.answer import DONE, FAILED, Answer, pairs
from router.cli.parser import Menu, moment
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk


def add(menu: Menu) -> None:
    command = menu.add(
        "reconcile",
        "read Rocket.Chat's own history and add what its webhook lost; exit 1 when it could not be read to the end",
        at_desk(_reconcile),
    )
    command.add_argument(
        "--since",
        type=moment,
        default="24h",
        metavar="T",
        help="rooms that were active since: a span (24h, 7d) or a date (default: %(default)s)",
    )


async def _reconcile(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import reconcile as control

    found = await control.reconcile(desk, args.since)
    text = pairs((name, found[name]) for name in ("rooms", "messages", "added", "unplaced", "unread"))
    notes = []
    if found["unplaced"]:
        notes.append(
            "figueira: some rooms have a source that no channel is mapped to: see sources in [rocketchat]"
        )
    if found["unread"]:
        notes.append(f"figueira: {found['unread']} rooms could not be read ({found['reason']}): run it again")
    if not found["ended"]:
        notes.append(f"figueira: Rocket.Chat stopped answering ({found['reason']}): run it again")
    return Answer(found, text, notes, DONE if found["complete"] else FAILED)
