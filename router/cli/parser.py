"""argparse, with errors of one line, and the types and options that several commands share."""

import argparse
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn, Self
from uuid import UUID

from router.cli.answer import WRONG_USE, Answer
from router.domain.channel import EVERY_TENANT

Act = Callable[[argparse.Namespace], Answer]

_HUNDRED: Final = 100
_PORTS: Final = 65535


class Parser(argparse.ArgumentParser):
    """A wrong use is one line on stderr and exit 2. Options are never abbreviated: a new one would break callers.

    `commands` (by name) and `arguments` are what docs/generate.py reads.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.commands: dict[str, Parser] = {}
        self.arguments: list[argparse.Action] = []
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """As argparse's, and kept in `arguments`."""
        self.arguments.append(super().add_argument(*args, **kwargs))
        return self.arguments[-1]

    def error(self, message: str) -> NoReturn:
        # What was not understood may be an address with a password in it.
        told = re.sub(r"://\S*@", "://", " ".join(message.split()))
        self.exit(WRONG_USE, f"{self.prog}: {told}; see `{self.prog} --help`\n")


class Menu:
    """The commands below a parser."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._commands: Any = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")

    def group(self, name: str, told: str) -> Self:
        """A command that has commands of its own."""
        return type(self)(self._new(name, told))

    def add(self, name: str, told: str, act: Act) -> Parser:
        """A command: the parser to add its options to."""
        parser = self._new(name, told)
        parser.add_argument("--json", action="store_true", help="one object on stdout, nothing else there")
        parser.add_argument("--config", type=Path, metavar="FILE", help="instead of ./figueira.toml")
        parser.set_defaults(act=act)
        return parser

    def _new(self, name: str, told: str) -> Parser:
        parser: Parser = self._commands.add_parser(name, help=told, description=told)
        self._parser.commands[name] = parser
        return parser


# options that several commands have --------------------------------------------------------------------------


def signed(parser: Parser, *, reason: str | None = None) -> None:
    """--reason (required unless there is a default) and --by."""
    told = "kept in the audit log" + (f" (default: {reason})" if reason else "")
    parser.add_argument(
        "--reason", type=words, required=reason is None, default=reason, metavar="TEXT", help=told
    )
    by(parser)


def by(parser: Parser) -> None:
    """--by."""
    parser.add_argument(
        "--by", type=words, default=actor(), metavar="NAME", help="who does it (default: the login name)"
    )


def actor() -> str:
    """Whoever is logged in, else "cli"."""
    return os.environ.get("USER") or "cli"


# types -------------------------------------------------------------------------------------------------------


def words(text: str) -> str:
    """Not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it must not be blank")
    return text.strip()


def _whole(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"it must be an integer from {least} to {most}, not {text!r}")
    return int(text)


def percent(text: str) -> int:
    """0 to 100."""
    return _whole(text, 0, _HUNDRED)


def port(text: str) -> int:
    """0 to 65535."""
    return _whole(text, 0, _PORTS)


def count(text: str) -> int:
    """1 to 1000."""
    return _whole(text, 1, 1000)


def moment(text: str) -> datetime:
    """A span back from now (90m, 24h, 7d), or a date or time in ISO 8601 (UTC unless it says otherwise)."""
    span = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    now = datetime.now(UTC)
    if span:
        return now - timedelta(minutes=int(span[1]) * {"m": 1, "h": 60, "d": 1440}[span[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it must be a span (24h, 7d) or a date, not {text!r}") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def identifier(text: str) -> UUID:
    """One of our ids."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it must be an id (a UUID), not {text!r}") from None


def tenant(text: str) -> str:
    """A tenant's name; `all` is every tenant."""
    return EVERY_TENANT if text == "all" else words(text)
