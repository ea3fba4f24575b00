"""`figueira contacts`."""

import argparse
from typing import TYPE_CHECKING, Final

from router.cli.answer import Answer, pairs
from router.cli.parser import Menu, by, identifier
from router.cli.session import at_desk

if TYPE_CHECKING:
    from router.control.desk import Desk

_USER: Final = {
    "left": "the row in tb_users is the clinic's: it is left as it is",
    "dropped": "the row in tb_users was made by the router: it is gone",
}


def add(menu: Menu) -> None:
    contacts = menu.group("contacts", "the people outside")
    erasing = contacts.add("erase", "take a person out of everything that is kept", at_desk(_erase))
    erasing.add_argument("contact", metavar="CONTACT", type=identifier)
    erasing.add_argument("--dry-run", action="store_true", help="only count what would go")
    by(erasing)


async def _erase(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import erasure as control

    found = await control.erase(desk, args.contact, by=args.by, dry_run=args.dry_run)
    done = "would be erased" if args.dry_run else "is erased"
    counts = pairs((name, number) for name, number in found["counts"].items() if number)
    told = _USER.get(found["user"])
    notes = [f"figueira: {told}"] if told and not args.dry_run else []
    return Answer(found, [f"{found['contact_id']} {done}", *counts], notes)
