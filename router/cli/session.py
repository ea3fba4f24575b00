"""From the arguments to settings, a database and a desk; and from an exception to an exit code and one line."""

import argparse
import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from socket import gaierror
from typing import TYPE_CHECKING, Final

from router import logs
from router.cli.answer import FAILED, WRONG_USE, Answer, WrongUse
from router.cli.parser import Act
from router.domain.errors import ConfigurationError, FigueiraError, Rejected
from router.settings import Settings, load

if TYPE_CHECKING:
    from router.control.desk import Desk

# Refusals that say "you called it wrongly"; every other one says "it may not be, as things stand".
MISUSES: Final = frozenset(
    {
        "empty_selector",
        "invalid_email",
        "invalid_name",
        "invalid_scope",
        "invalid_tenant",
        "percent_invalid",
        "percent_missing",
        "percent_without_canary",
        "reason_missing",
        "unknown_channel",
        "unknown_class",
        "unknown_kind",
        "unknown_level",
        "unknown_role",
        "unknown_stage",
        "unknown_tenant",
    }
)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings, from --config and the environment. Raises ConfigurationError."""
    from adapters import KINDS

    keys = {name: adapter.capabilities["settings"] for name, adapter in KINDS.items()}
    settings = load(os.environ, args.config, kinds=KINDS, native_keys=keys)
    for channel in settings.channels.values():
        for key in KINDS[channel.kind].capabilities.get("numbers", ()):
            _check_number(f"channels.{channel.slug}.native.{key}", channel.native.get(key))
        known, given = KINDS[channel.kind].capabilities["providers"], channel.native.get("provider")
        if given is not None and given not in known:
            raise ConfigurationError(
                f"channels.{channel.slug}.native.provider: {channel.kind} knows {', '.join(known)}; leave it out or name one"
            )
    return settings


def _check_number(key: str, given: str | None) -> None:
    try:
        good = given is None or 0 < float(given) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(f"{key}: it must be a number above 0; leave it out or write one")


def open_desk(settings: Settings) -> AbstractAsyncContextManager["Desk"]:
    """The composition root's: attached, upgraded when embedded, ready to act."""
    from router.app.parts import open_desk as opened  # loads the whole product: not for --help

    desk: AbstractAsyncContextManager[Desk] = opened(settings)
    return desk


def at_desk(act: Callable[["Desk", argparse.Namespace], Awaitable[Answer]]) -> Act:
    """A command that acts on a desk, as one that takes arguments."""

    def run(args: argparse.Namespace) -> Answer:
        settings = settings_of(args)
        logs.configure("console", level=logging.ERROR)  # the answer tells; stderr is for what went wrong

        async def go() -> Answer:
            async with open_desk(settings) as desk:
                return await act(desk, args)

        return asyncio.run(go())

    return run


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The owner's DSN: the outside database, or the embedded one, attached while the block runs."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from router.storage.embedded import attach

    with attach(settings.home) as embedded:
        yield embedded.dsn


def fault(error: Exception) -> tuple[int, str, str]:
    """Exit code, stable code and one line of what went wrong. An unforeseen error says where, and no value."""
    from router.storage.embedded import EmbeddedPostgresError

    match error:
        case WrongUse() | ConfigurationError():
            return WRONG_USE, "wrong_use", _first(error)
        case Rejected():
            return (WRONG_USE if error.code in MISUSES else FAILED), error.code, _first(error)
        case EmbeddedPostgresError():
            return FAILED, "unavailable", _first(error)
        case FigueiraError():
            return FAILED, _snake(type(error).__name__), _first(error)
    return _foreign(error)


def _foreign(error: Exception) -> tuple[int, str, str]:
    known = of_driver(error)
    if known is not None:
        return FAILED, _snake(type(known).__name__), _first(known)
    fields = logs.failure(error)
    said = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
    return FAILED, "defect", f"this is a defect of Figueira, please report it: {said}"


def of_driver(error: Exception) -> FigueiraError | None:
    """What a database's driver raised, as the product's error and without a value of a row; None: it did not."""
    from router.storage.postgres.failures import translate

    if type(error).__module__.startswith("sqlalchemy"):
        wrapped = getattr(error, "orig", None)  # the dialect's error, which wraps asyncpg's
        cause = wrapped and (wrapped.__cause__ or wrapped)
        return translate(cause if isinstance(cause, Exception) else error)
    if isinstance(error, ConnectionError | TimeoutError | gaierror) or type(error).__module__.startswith(
        "asyncpg"
    ):
        return translate(error)
    return None


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _snake(name: str) -> str:
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in name).lstrip("_")
