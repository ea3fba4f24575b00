"""`figueira users` and `figueira keys`."""

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from router.cli.answer import Answer, WrongUse, pairs, table
from router.cli.parser import Menu, Parser, by, identifier, tenant, words
from router.cli.session import at_desk
from router.domain.channel import EVERY_TENANT

if TYPE_CHECKING:
    from router.control.desk import Desk

ROLES: Final = ("agent", "product", "auditor", "admin")
SCOPES: Final = (
    *(
        f"{subject}:{act}"
        for subject in ("messages", "conversations", "contacts", "flags", "users", "operations")
        for act in ("read", "write")
    ),
    "webhook",
)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


def add(menu: Menu) -> None:
    users = menu.group("users", "who may log in to the console")
    making = users.add("create", "add a person; prints the password, once", at_desk(_create_user))
    making.add_argument("email", metavar="EMAIL", type=_email)
    _of_tenant(making)
    making.add_argument("--role", choices=ROLES, required=True)
    by(making)
    users.add("list", "everybody", at_desk(_users))

    keys = menu.group("keys", "what programs call the HTTP interface with")
    cutting = keys.add("create", "make an API key; prints it, once", at_desk(_create_key))
    cutting.add_argument("name", metavar="NAME", type=words)
    _of_tenant(cutting)
    cutting.add_argument(
        "--scopes",
        type=scopes,
        required=True,
        metavar="SCOPES",
        help=f"all, or by comma: {', '.join(SCOPES)}",
    )
    by(cutting)
    keys.add("list", "every key, without its secret", at_desk(_keys))
    ending = keys.add("revoke", "end a key", at_desk(_revoke))
    ending.add_argument("id", metavar="ID", type=identifier)
    by(ending)


def _of_tenant(parser: Parser) -> None:
    parser.add_argument(
        "--tenant",
        type=tenant,
        metavar="T",
        help="or: all (default: the tenant, where the settings have only one)",
    )


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise argparse.ArgumentTypeError("it must be an e-mail address")
    return text


def scopes(text: str) -> list[str]:
    """`all`, or scopes by comma."""
    named = [one.strip() for one in text.split(",") if one.strip()]
    wrong = [one for one in named if one not in SCOPES] if named != ["all"] else []
    if wrong or not named:
        said = f"no scope {wrong[0]!r}" if wrong else "no scope is named"
        raise argparse.ArgumentTypeError(f"{said}: all, or by comma {', '.join(SCOPES)}")
    return named


def _tenant_of(desk: "Desk", args: argparse.Namespace) -> tuple[str, list[str]]:
    """The tenant meant, and what to say about it."""
    known = sorted({channel.tenant for channel in desk.channels.values()})
    if args.tenant is None:
        if len(known) != 1:
            raise WrongUse(
                f"--tenant is missing: all, or one of {', '.join(known) or 'the settings, which have none yet'}"
            )
        return known[0], []
    strange = args.tenant not in {EVERY_TENANT, *known}
    return args.tenant, [f"warning: no channel belongs to tenant {args.tenant}"] if strange else []


async def _create_user(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import access as control

    whose, notes = _tenant_of(desk, args)
    password = await control.create_user(desk, args.email, whose, args.role, by=args.by)
    data = {"email": args.email, "tenant": _said(whose), "role": args.role, "password": password}
    return Answer(data, pairs(data.items()), [*notes, "the password is shown this once"])


async def _users(desk: "Desk", _args: argparse.Namespace) -> Answer:
    from router.control import access as control

    return _listed(await control.users(desk), ("email", "tenant", "role", "created_at"), "no users")


async def _create_key(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import access as control

    whose, notes = _tenant_of(desk, args)
    made = {
        "tenant": _said(whose),
        **await control.create_key(desk, args.name, whose, args.scopes, by=args.by),
    }
    text = pairs((name, ", ".join(value) if name == "scopes" else value) for name, value in made.items())
    return Answer(made, text, [*notes, "the key is shown this once"])


async def _keys(desk: "Desk", _args: argparse.Namespace) -> Answer:
    from router.control import access as control

    heads = ("id", "name", "tenant", "scopes", "created_at", "revoked_at")
    return _listed(await control.keys(desk), heads, "no keys")


async def _revoke(desk: "Desk", args: argparse.Namespace) -> Answer:
    from router.control import access as control

    await control.revoke(desk, args.id, by=args.by)
    return Answer({"id": args.id, "revoked": True}, [f"{args.id} revoked"])


def _listed(items: list[dict[str, Any]], heads: tuple[str, ...], empty: str) -> Answer:
    found = [{**one, "tenant": _said(one["tenant"])} for one in items]
    rows = [[", ".join(one[head]) if head == "scopes" else one.get(head) for head in heads] for one in found]
    return Answer({"items": found}, table(heads, rows, empty=empty))


def _said(whose: str | None) -> str:
    return "all" if whose in {None, EVERY_TENANT} else str(whose)
