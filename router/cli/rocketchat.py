"""`figueira rocketchat`."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from router.cli.answer import DONE, FAILED, Answer, table
from router.cli.parser import Menu, by
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk

_STATES: Final = {True: "ok", False: "fail", None: "unseen"}


def add(menu: Menu) -> None:
    group = menu.group("rocketchat", "whether Rocket.Chat is set up for the router, and setting it up")
    group.add(
        "check", "version, rights, webhooks and limits; exit 1 when something does not hold", at_desk(_check)
    )
    setup = group.add("setup", "set its webhook, and the integration of team rooms", at_desk(_setup))
    setup.add_argument("--dry-run", action="store_true", help="say what would be set, and set nothing")
    setup.add_argument(
        "--replace", action="store_true", help="take the webhook from the system it calls now; audited"
    )
    by(setup)


async def _check(desk: "Desk", _: argparse.Namespace) -> Answer:
    from router.control import rocketchat as control

    return report(await control.check(desk))


async def _setup(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import rocketchat as control

    return report(await control.setup(desk, dry_run=args.dry_run, by=args.by, replace=args.replace))


def report(told: Mapping[str, Any]) -> Answer:
    """What cannot be seen is no failure."""
    rows = (
        (_STATES[one["ok"]], one["name"], one["seen"] + (f": {one['mend']}" if one["mend"] else ""))
        for one in told["findings"]
    )
    lines = table(("state", "what", "found"), rows, empty="nothing")
    return Answer(told, lines, code=DONE if told["ok"] else FAILED)
