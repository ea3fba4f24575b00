"""`figueira doctor`: what is wrong, and the mend."""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from flags.ports import Flag
from flags.stage import TRUTH, Path, Stage
from router import logs
from router.cli import session
from router.cli.answer import DONE, FAILED, Answer, pairs, table
from router.cli.database import asked
from router.cli.parser import Menu
from router.domain.channel import Channel
from router.domain.errors import ConfigurationError, FigueiraError
from router.domain.ports import Tx
from router.settings import Settings

if TYPE_CHECKING:
    from router.control.desk import Desk
    from router.storage.upgrade import Condition

LEDGER: Final = ("events", "handled", "waiting", "dead", "ignored")
_OPTIONAL: Final = frozenset({"portfolio", "provider"})  # of the native keys that a kind knows
_LATE_SECONDS: Final = 60.0
_FRESH_SECONDS: Final = 5.0  # a process whose heartbeat is older does not run any more


@dataclass(frozen=True, slots=True)
class Check:
    """`state`: ok | warn | fail. `told` says what is, and when it is not ok, the mend."""

    name: str
    state: str
    told: str


@dataclass(frozen=True, slots=True)
class Work:
    """What waits, over all tenants. `roles` of the running processes; `shut` = gates of breakers that are open."""

    roles: Sequence[str] = ()
    waiting: int = 0
    oldest_seconds: float = 0.0
    dead_letters: int = 0
    unplaced: int = 0
    shut: Sequence[str] = ()


def add(menu: Menu) -> None:
    parser = menu.add("doctor", "check settings, database and work; exit 1 when something is broken", _doctor)
    parser.add_argument(
        "--ledger",
        action="store_true",
        help="instead: does every event received have its fate? exit 1 when not",
    )


def _doctor(args: argparse.Namespace) -> Answer:
    return session.at_desk(_ledger)(args) if args.ledger else report(list(_checks(args)))


def report(checks: Sequence[Check]) -> Answer:
    """Fails when a check fails; a warning is no failure."""
    good = all(check.state != "fail" for check in checks)
    data = {"checks": [asdict(check) for check in checks], "ok": good}
    rows = ((check.state, check.name, check.told) for check in checks)
    return Answer(
        data, table(("state", "check", "found"), rows, empty="nothing"), code=DONE if good else FAILED
    )


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    try:
        settings = session.settings_of(args)
    except ConfigurationError as error:
        yield Check("settings", "fail", str(error))
        return
    yield Check("settings", "ok", f"{len(settings.channels)} channels, home {settings.home}")
    logs.configure("console", level=logging.ERROR)
    try:
        with session.database(settings) as dsn:
            from router.storage.upgrade import check

            found = list(of_database(asked(check(dsn)), embedded=settings.database_url is None))
            yield from found
            if any(one.state == "fail" for one in found):
                return
            yield from asked(_at_desk(settings))
    except (FigueiraError, RuntimeError) as error:  # RuntimeError: the embedded server's
        yield Check("database", "fail", session.fault(error)[2])


async def _at_desk(settings: Settings) -> list[Check]:
    from router.control import flags as control

    async with session.open_desk(settings) as desk:
        flags = {flag.kind: flag for flag in await control.listing(desk)}
        late = await control.laggards(desk, max((flag.revision for flag in flags.values()), default=0))
        return [*of_channels(settings, flags), *of_work(await desk.store.transact(_work), late)]


async def _work(tx: Tx) -> Work:
    from router.storage.queries import processes, work

    lanes = await work.lanes(tx)
    return Work(
        roles=[one["role"] for one in await processes.alive(tx, _FRESH_SECONDS)],
        waiting=sum(one["depth"] for one in lanes),
        oldest_seconds=max((one["age_seconds"] for one in lanes), default=0.0),
        dead_letters=sum(one["dead"] for one in await work.dead_counts(tx)),
        unplaced=await work.unplaced(tx),
        shut=[one["gate"] for one in await work.breakers(tx) if one["opened_at"] is not None],
    )


# the checks --------------------------------------------------------------------------------------------------


def of_database(found: "Condition", *, embedded: bool) -> Iterator[Check]:
    """It was reached: does it fit this version."""
    where = "embedded" if embedded else "FIGUEIRA_DATABASE_URL"
    yield Check("database", "ok", f"{where}, PostgreSQL {found.server_version // 10000}")
    if found.revision is None and embedded:  # every other command upgrades it
        yield Check("upgrade", "ok", "new: made when it is first used")
        return
    if found.ready:
        yield Check("upgrade", "ok", f"at {found.head}")
    else:
        told = f"at {found.revision or 'nothing'}, this version wants {found.head} and both roles"
        yield Check("upgrade", "warn" if embedded else "fail", f"{told}: run `figueira db upgrade`")
    missing = "vector" not in found.extensions
    yield Check(
        "extensions", "warn" if missing else "ok",
        "no pgvector: search scans every row" if missing else ", ".join(found.extensions),
    )  # fmt: skip


def of_channels(settings: Settings, flags: Mapping[str, Flag]) -> Iterator[Check]:
    """What each channel lacks for its stage."""
    from adapters import KINDS

    if not settings.channels:
        yield Check("channels", "warn", "none yet: write [channels.*] in figueira.toml")
    paths = {kind: _paths(flag) for kind, flag in flags.items()}
    for slug, channel in sorted(settings.channels.items()):
        used = paths.get(channel.kind, {Path.ROCKETCHAT})
        missing = _missing(channel, KINDS[channel.kind].capabilities if channel.kind in KINDS else {})
        if Path.ROCKETCHAT in used and channel.webhook_url is None:
            mend = f"set webhook_url in [channels.{slug}.rocketchat]"
            yield Check(slug, "fail", f"conversations go to Rocket.Chat, which has no address: {mend}")
        elif missing:
            state = "fail" if Path.NATIVE in used else "warn"
            yield Check(
                slug, state, f"native lacks {', '.join(missing)}: set them in [channels.{slug}.native]"
            )
        else:
            yield Check(slug, "ok", f"{channel.kind}: {', '.join(sorted(used))}")
    if any(Path.ROCKETCHAT in used for used in paths.values()) and settings.channels:
        yield _rocketchat(settings)


def _missing(channel: Channel, capabilities: Mapping[str, Any]) -> list[str]:
    """The settings a channel cannot do without and lacks. `required` is by provider, the first is the default; one
    entry may name several of which one serves ("api_key | access_token")."""
    by_provider: Mapping[str, Sequence[str]] = capabilities.get("required", {})
    default = next(iter(by_provider.values()), None)
    wanted = by_provider.get(channel.native.get("provider", ""), default)
    if wanted is None:
        wanted = [key for key in capabilities.get("settings", ()) if key not in _OPTIONAL]
    return sorted(one for one in wanted if not any(channel.native.get(key) for key in one.split(" | ")))


def _rocketchat(settings: Settings) -> Check:
    known = settings.rocketchat
    if known is None:
        return Check("rocketchat", "fail", "conversations go to it: write [rocketchat] in figueira.toml")
    named = ("user_id", "auth_token", "webhook_token")
    missing = [name for name in named if not getattr(known, name)]
    if missing:
        return Check("rocketchat", "warn", f"it lacks {', '.join(missing)}: set them in [rocketchat]")
    return Check("rocketchat", "ok", known.base_url)


def _paths(flag: Flag) -> set[Path]:
    """Where new conversations of a kind may go."""
    stages = {flag.stage, flag.base, *(one.stage for one in flag.strategies)}
    if flag.override is not None:
        stages.add(Stage(flag.override["stage"]))
    return {TRUTH[stage].new for stage in stages}


def of_work(found: Work, late: Sequence[str]) -> Iterator[Check]:
    """What the processes do, and what waits for a person."""
    running = ", ".join(f"{number} {role}" for role, number in sorted(Counter(found.roles).items()))
    yield Check("processes", "ok" if running else "warn", running or "none runs: `figueira serve`")
    told = (
        f"not yet at the last revision: {', '.join(late)}" if late else "every process has the last revision"
    )
    yield Check("flags", "warn" if late else "ok", told)
    slow = found.oldest_seconds > _LATE_SECONDS
    told = f"{found.waiting} waiting, the oldest for {found.oldest_seconds:.0f} s"
    yield Check("lanes", "warn" if slow else "ok", told)
    yield Check(
        "breakers",
        "warn" if found.shut else "ok",
        f"open: {', '.join(found.shut)}" if found.shut else "closed",
    )
    mends = (
        ("dead letters", found.dead_letters, "see `figueira deadletters list`"),
        ("unplaced", found.unplaced, "map the rooms' sources in [rocketchat] sources"),
    )
    for name, number, mend in mends:
        yield Check(name, "warn" if number else "ok", f"{number}: {mend}" if number else "none")


# the ledger --------------------------------------------------------------------------------------------------


async def _ledger(desk: "Desk", _args: argparse.Namespace) -> Answer:
    from router.control.ledger import ledger

    return balance(await ledger(desk))


def balance(found: Mapping[str, Any]) -> Answer:
    """Per channel under `channels`, and the sums under the same names."""
    channels: Mapping[str, Mapping[str, Any]] = found["channels"]
    sums = {name: sum(one[name] for one in channels.values()) for name in LEDGER}
    good = bool(found["balanced"])
    rows = [(slug, *(one[name] for name in (*LEDGER, "balanced"))) for slug, one in sorted(channels.items())]
    text = table(("channel", *LEDGER, "balanced"), rows, empty="no events") if rows else pairs(sums.items())
    off = [slug for slug, one in sorted(channels.items()) if not one["balanced"]]
    notes = [] if good else [f"figueira: the ledger does not balance: {', '.join(off) or 'see --json'}"]
    return Answer({**sums, "balanced": good, "channels": channels}, text, notes, DONE if good else FAILED)
