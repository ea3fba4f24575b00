"""`figueira`: the commands. Each is a function from its arguments to an Answer; `main` shows it.

Exit: 0 done · 1 the check failed or something was rejected · 2 wrong use (one line on stderr: what, where, the mend).
"""

import argparse
import io
import sys
from collections.abc import Sequence

from router.cli import (
    access,
    callbacks,
    contacts,
    conversations,
    database,
    deadletters,
    doctor,
    flags,
    migrate,
    reconcile,
    rocketchat,
    serve,
)
from router.cli.answer import FAILED, INTERRUPTED, Answer, show
from router.cli.parser import Menu, Parser
from router.cli.session import fault

__all__ = ["build_parser", "main"]


def build_parser() -> Parser:
    """Every command with its options; docs/reference/commands.md is made from it."""
    parser = Parser(
        prog="figueira",
        description="One routing layer for a clinic's customer channels: through Rocket.Chat or natively.",
    )
    menu = Menu(parser)
    for part in (
        serve,
        flags,
        callbacks,
        contacts,
        conversations,
        deadletters,
        access,
        rocketchat,
        migrate,
        reconcile,
        database,
        doctor,
    ):
        part.add(menu)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Never raises for what can be foreseen."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to fail
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as leaving:  # --help, or a wrong use that has been told
        return int(leaving.code or 0)
    try:
        return show(_answer(args), as_json=args.json)
    except KeyboardInterrupt:
        return INTERRUPTED


def _answer(args: argparse.Namespace) -> Answer:
    try:
        answer: Answer = args.act(args)
    except Exception as error:  # noqa: BLE001  a person gets a line, not a traceback; a defect says where it stands
        code, word, line = fault(error)
        data = {"error": {"code": word, "message": line}} if code == FAILED else None
        return Answer(data, notes=[f"figueira: {line}"], code=code)
    return answer
