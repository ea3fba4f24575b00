"""`figueira db`."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

from router.cli.answer import DONE, FAILED, Answer, pairs
from router.cli.parser import Menu
from router.cli.session import database, of_driver, settings_of

if TYPE_CHECKING:
    from router.storage.upgrade import Condition

T = TypeVar("T")


def add(menu: Menu) -> None:
    group = menu.group("db", "the database")
    group.add("upgrade", "bring its tables and roles to this version", _upgrade)
    group.add("check", "does it fit this version? exit 1 when not", _check)
    group.add("url", "print its URL, with the password when an outside one has it", _url)


def _upgrade(args: argparse.Namespace) -> Answer:
    from router.storage.upgrade import check, upgrade

    with database(settings_of(args)) as dsn:
        before = asked(check(dsn)).revision
        asked(upgrade(dsn))
        return _condition(asked(check(dsn)), before=before)


def _check(args: argparse.Namespace) -> Answer:
    from router.storage.upgrade import check

    with database(settings_of(args)) as dsn:
        return _condition(asked(check(dsn)))


def _url(args: argparse.Namespace) -> Answer:
    settings = settings_of(args)
    embedded = settings.database_url is None
    notes = ["embedded: it answers while a figueira process runs on this home"] if embedded else []
    with database(settings) as dsn:
        return Answer({"url": dsn, "embedded": embedded}, [dsn], notes)


def asked(question: Coroutine[None, None, T]) -> T:
    """The database's answer; whatever the drivers raise becomes the product's error. Raises FigueiraError."""
    try:
        return asyncio.run(question)
    except Exception as error:  # noqa: BLE001  every one leaves again, under a better name or its own
        raise of_driver(error) or error from None


def _condition(found: "Condition", *, before: str | None = None) -> Answer:
    data = {
        "revision": found.revision,
        "head": found.head,
        "server_version": found.server_version,
        "roles": list(found.roles),
        "extensions": list(found.extensions),
        "ready": found.ready,
    }
    text = pairs(
        [
            ("before", before),
            ("revision", found.revision or "none"),
            ("head", found.head),
            ("server", f"PostgreSQL {found.server_version // 10000}.{found.server_version % 10000}"),
            ("roles", ", ".join(found.roles) or "none"),
            ("extensions", ", ".join(found.extensions) or "none"),
        ]
    )
    notes = (
        [] if found.ready else ["figueira: the database does not fit this version: run `figueira db upgrade`"]
    )
    return Answer(data, text, notes, DONE if found.ready else FAILED)
