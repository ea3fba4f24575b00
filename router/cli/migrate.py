"""`figueira migrate`: Rocket.Chat's history out of its MongoDB, followed, and proved to be complete."""

import argparse
import asyncio
import logging
import os
import re
import shlex
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from router import logs
from router.cli import session
from router.cli.answer import DONE, FAILED, INTERRUPTED, Answer, WrongUse, pairs, table
from router.cli.parser import Menu, Parser, count, identifier, moment, words
from router.cli.progress import display, span
from router.cli.stopping import stoppable
from router.control.imports import OUTCOMES
from router.control.progress import Watch

if TYPE_CHECKING:
    from migration.run import Mode
    from router.app.imports.parts import Outcome
    from router.settings import Settings

T = TypeVar("T")

SOURCE_VARIABLE: Final = "FIGUEIRA_MIGRATE_SOURCE"
CONFIG_VARIABLE: Final = "FIGUEIRA_CONFIG"
MOST_WORKERS: Final = 64
_TOLD: Final = (
    "mongodb://…/rocketchat, a mongodump folder, or a mongodump --archive[.gz] file; env:NAME where the address holds a "
    "password and others see this command"
)
_SHOWN: Final = 10
_LAG_SHOWN: Final = 1.0


def add(menu: Menu) -> None:
    group = menu.group("migrate", "Rocket.Chat's history, out of its MongoDB")
    looking = group.add("inspect", "what is there, and what would become of it; writes nothing", _inspect)
    _source(looking)
    _choices(looking)

    copying = group.add(
        "import", "copy it; goes on where it was stopped; exit 1 when something was rejected", _import
    )
    _source(copying)
    _choices(copying)
    copying.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes that copy (default: one for two processor cores)",
    )
    again = copying.add_mutually_exclusive_group()
    copying.arguments += [
        again.add_argument("--resume", action="store_true", help="go on with the last one; refused when there is none to go on with"),
        again.add_argument("--restart", action="store_true", help="read everything again from the beginning; what is there stays"),
    ]  # fmt: skip
    copying.add_argument("--dry-run", action="store_true", help="the same as inspect")
    copying.add_argument(
        "--uploads", type=words, metavar="PLACE",
        help="where Rocket.Chat keeps its files, if not in MongoDB: a folder, or s3://bucket/prefix",
    )  # fmt: skip

    following = group.add(
        "follow", "take in what changes in a live source, from where the copy was begun", _follow
    )
    _source(following)
    following.add_argument("--until-caught-up", action="store_true", help="end when nothing is behind")

    verifying = group.add(
        "verify",
        "compare every document with its source; exit 1 when something differs or is missing",
        _verify,
    )
    _source(verifying)
    verifying.add_argument("--repair", action="store_true", help="copy what differs again, and only that")

    status = group.add("status", "how far the last import is", _status)
    status.add_argument("--run", type=identifier, metavar="RUN", help="of this one instead")

    refused = group.add(
        "rejects", "documents that did not go in, and why; exit 1 when there are any", _rejects
    )
    refused.add_argument(
        "source", metavar="SOURCE", nargs="?", help="with --retry: read them anew from there, else from the bytes that were kept"
    )  # fmt: skip
    refused.add_argument("--retry", action="store_true", help="try them once more")

    working = group.add(
        "work", f"one more worker of an import, in this process; SOURCE in {SOURCE_VARIABLE}", _work
    )
    working.add_argument("run", metavar="RUN", type=identifier)


def _source(parser: Parser) -> None:
    parser.add_argument("source", metavar="SOURCE", type=words, help=_TOLD)


def _choices(parser: Parser) -> None:
    """What of it."""
    said = "a span back from now (24h, 90d) or a date"
    parser.add_argument("--since", type=moment, metavar="T", help=f"messages from then on: {said}")
    parser.add_argument("--until", type=moment, metavar="T", help=f"messages before then: {said}")
    parser.add_argument(
        "--rooms", choices=("all", "l"), default="all", help="all | l: only what is omnichannel (default all)"
    )
    parser.add_argument(
        "--orphans", choices=("reject", "keep"), default="reject", help="reject | keep: messages of rooms that are not there (default reject)"
    )  # fmt: skip


# the commands ------------------------------------------------------------------------------------------------


def _inspect(args: argparse.Namespace) -> Answer:
    from router.app.imports import looking

    chosen = _chosen(args)
    found = _long(
        args,
        "inspect",
        lambda settings, watch: looking.inspect(settings, address(args.source), chosen, watch),
    )
    text = [
        *pairs(
            (name, found.data.get(key))
            for name, key in (
                ("source", "source"), ("kind", "kind"), ("rocket.chat", "rocketchat_version"),
                ("mongodb", "server_version"), ("mongodump", "tool_version"),
            )
        ),
        "", *_collections(found.data), *_places(found.data), *_examples(found.data),
        "", f"an import needs about {span(found.data['seconds_needed'])}: {found.data['seconds_told']}",
    ]  # fmt: skip
    return _answer(args, found, text, "inspect")


def _import(args: argparse.Namespace) -> Answer:
    if args.dry_run:
        return _inspect(args)
    from router.app.imports import copying

    workers = args.workers or max(1, (os.cpu_count() or 1) // 2)
    if workers > MOST_WORKERS:
        raise WrongUse(f"migrate import --workers: at most {MOST_WORKERS}, not {workers}")
    mode: Mode = "resume" if args.resume else "restart" if args.restart else "auto"
    chosen = _chosen(args) if _given(args) else None  # an import that is gone on with keeps its own
    found = _long(
        args, "import",
        lambda settings, watch: copying.copy(
            settings, address(args.source), chosen, watch, workers=workers, mode=mode, uploads=args.uploads,
            environ={CONFIG_VARIABLE: str(args.config)} if args.config else {},
        ),
    )  # fmt: skip
    return _answer(args, found, _collections(found.data), "import", resume=True)


def _follow(args: argparse.Namespace) -> Answer:
    from router.app.imports import checking

    found = _long(
        args, "follow",
        lambda settings, watch: checking.follow(
            settings, address(args.source), watch, until_caught_up=args.until_caught_up
        ),
    )  # fmt: skip
    return _answer(
        args,
        found,
        pairs((name, found.data.get(name)) for name in ("events", "changed", "rejected", "lag_seconds")),
        "follow",
    )


def _verify(args: argparse.Namespace) -> Answer:
    from router.app.imports import checking

    found = _long(
        args, "verify",
        lambda settings, watch: checking.verify(settings, address(args.source), watch, repair=args.repair),
    )  # fmt: skip
    number = found.data["differences"]
    text = [*_collections(found.data), "", f"{number:,} differences" if number else "nothing differs"]
    return _answer(args, found, text + _differences(found.data), "verify")


def _status(args: argparse.Namespace) -> Answer:
    from router.app.imports import looking

    found = _run(args, lambda settings: looking.status(settings, args.run))
    run = found["run"]
    if run is None:
        return Answer(found, ["no import yet: `figueira migrate import SOURCE`"])
    lag = run["lag_seconds"]
    text = [
        *pairs(
            [
                ("run", run["id"]), ("source", run["source"]), ("state", run["state"]), ("started", run["started_at"]),
                ("ended", run["ended_at"]), ("documents/s", found["documents_per_second"]),
                ("behind", None if lag is None else span(lag)),
            ]
        ),
        "", *_collections(found), *_refused(found["rejects"]),
    ]  # fmt: skip
    return Answer(found, text)


def _rejects(args: argparse.Namespace) -> Answer:
    if args.source and not args.retry:
        raise WrongUse("migrate rejects: SOURCE is read with --retry only; add it, or leave SOURCE out")
    if args.retry:
        from router.app.imports import checking

        given = address(args.source) if args.source else None
        found = _long(args, "rejects", lambda settings, watch: checking.retry(settings, given, watch))
        return _answer(args, found, pairs(found.data["retried"].items()), "rejects --retry")
    from router.app.imports import looking

    listed = _run(args, looking.rejects)
    heads = ("collection", "code", "source_id", "position", "reason")
    rows = ([one[head] for head in heads] for one in listed["items"])
    text = [*_refused(listed["counts"]), "", *table(heads, rows, empty="")] if listed["items"] else ["none"]
    return Answer(listed, text, code=FAILED if listed["items"] else DONE)


def _work(args: argparse.Namespace) -> Answer:
    from router.app.imports import copying

    given = os.environ.get(SOURCE_VARIABLE)
    if not given:
        raise WrongUse(
            f"migrate work: the environment has no {SOURCE_VARIABLE}: set it to the import's SOURCE"
        )
    args.source = f"env:{SOURCE_VARIABLE}"
    found = _long(args, "work", lambda settings, watch: copying.work(settings, given, args.run, watch))
    return _answer(args, found, _collections(found.data), "work")


# arguments ---------------------------------------------------------------------------------------------------


def address(given: str) -> str:
    """SOURCE, or what the environment has under `env:NAME`."""
    if not given.startswith("env:"):
        return given
    found = os.environ.get(given[4:])
    if not found:
        raise WrongUse(
            f"migrate: the environment has no {given[4:]}: set it to SOURCE, or write SOURCE itself"
        )
    return found


def shown(given: str) -> str:
    """SOURCE as it may be shown: without user, password, and what else may be one."""
    bare = re.sub(r"^([a-z+]+://)\S*@", r"\1", given, count=1)
    place, mark, query = bare.partition("?")
    if "://" not in bare or not mark:
        return bare
    kept = [
        one
        for one in query.split("&")
        if not re.search(r"(?i)^[^=]*(password|token|propert|secret|key)", one)
    ]
    return place + (f"?{'&'.join(kept)}" if kept else "")


def _given(args: argparse.Namespace) -> bool:
    return bool(args.since or args.until or args.rooms != "all" or args.orphans != "reject")


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    if args.since is not None and args.until is not None and args.since >= args.until:
        raise WrongUse("migrate: --since must be before --until")
    return {"since": args.since, "until": args.until, "rooms": args.rooms, "orphans": args.orphans}


def _long(
    args: argparse.Namespace, act: str, run: "Callable[[Settings, Watch], Coroutine[Any, Any, Outcome]]"
) -> "Outcome":
    """Run it with a display, until it ends or a person stops it."""
    board = display(as_json=args.json)
    with stoppable() as stopped:
        try:
            return _run(args, lambda settings: run(settings, Watch(act, stopped, board.show, board.say)))
        finally:
            board.close()


def _run(args: argparse.Namespace, work: "Callable[[Settings], Coroutine[Any, Any, T]]") -> T:
    """Raises WrongUse for a source that cannot be read, and for an import that cannot be gone on with like this."""
    from migration.rejects import NotImportedError
    from migration.run import RunError
    from migration.sources import SourceError

    settings = session.settings_of(args)
    logs.configure("console", level=logging.ERROR)
    try:
        return asyncio.run(work(settings))
    except (SourceError, RunError, NotImportedError) as error:
        raise WrongUse(str(error)) from None


def _answer(
    args: argparse.Namespace, found: "Outcome", text: Sequence[str], act: str, *, resume: bool = False
) -> Answer:
    notes = [*found.notes]
    if found.stopped:
        notes.append(f"figueira: stopped at a checkpoint; go on with: {_again(args, act, resume=resume)}")
        return Answer({**found.data, "stopped": True}, text, notes, INTERRUPTED)
    if act == "work":  # what was rejected, the import itself says
        return Answer(found.data, text, notes)
    rejected = sum(one["rejected"] for one in found.data.get("collections", {}).values())
    if rejected and act != "inspect":
        notes.append(f"figueira: {rejected:,} documents were rejected: `figueira migrate rejects` says why")
    failed = rejected or found.data.get("differences") or found.failed
    return Answer(found.data, text, notes, FAILED if failed else DONE)


def _again(args: argparse.Namespace, act: str, *, resume: bool) -> str:
    """The command to type. What was chosen before is kept with the run."""
    line = ["figueira", "migrate", *act.split()]
    if act == "work":
        line.append(str(args.run))
    elif args.source:
        line.append(shown(args.source))
    if resume:
        line += ["--resume", *(("--uploads", args.uploads) if args.uploads else ())]
        line += ["--workers", str(args.workers)] if args.workers else []
    for name in ("until_caught_up", "repair"):
        if getattr(args, name, False):
            line.append(f"--{name.replace('_', '-')}")
    if args.config:
        line += ["--config", str(args.config)]
    return shlex.join(line)


# what is shown -----------------------------------------------------------------------------------------------


def _collections(data: Mapping[str, Any]) -> list[str]:
    heads = ("collection", "source", *OUTCOMES, "why")
    known: Mapping[str, Mapping[str, Any]] = data.get("collections", {})
    rows: list[list[object]] = [
        [name, *(f"{one[head]:,}" for head in heads[1:-1]), _why(one)] for name, one in known.items()
    ]
    if len(rows) > 1:
        rows.append(["all", *(f"{sum(one[head] for one in known.values()):,}" for head in heads[1:-1]), None])
    return table(heads, rows, empty="no collection")


def _why(one: Mapping[str, Any]) -> str:
    told = {**one.get("skipped_by_reason", {}), **one.get("codes", {})}
    return ", ".join(f"{reason} {number:,}" for reason, number in told.items())


def _refused(counts: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(one["collection"], one["code"], one["open"]) for one in counts if one["open"]]
    return ["", *table(("rejected in", "code", "documents"), rows, empty="")] if rows else []


def _places(data: Mapping[str, Any]) -> Iterator[str]:
    rooms = data.get("rooms_by_source") or []
    if rooms:
        yield ""
        heads = ("source_type", "source_id", "channel", "rooms")
        yield from table(heads, ([one[head] for head in heads] for one in rooms), empty="")
    lacking = data.get("unmapped_sources") or []
    if lacking:
        yield ""
        yield "rooms of these sources belong to no channel; in figueira.toml, under [rocketchat.sources]:"
        yield from (f"{one['toml']}    # {one['rooms']:,} rooms" for one in lacking)


def _examples(data: Mapping[str, Any]) -> Iterator[str]:
    found = data.get("examples") or []
    if found:
        yield ""
        heads = ("collection", "code", "position", "reason")
        yield from table(heads, ([one[head] for head in heads] for one in found), empty="")


def _differences(data: Mapping[str, Any]) -> list[str]:
    return [
        ", ".join(f"{name} {_side(value)}" for name, value in one.items())
        for one in list(data.get("first_differences", ()))[:_SHOWN]
    ]


def _side(value: object) -> object:
    """One side of a difference: how long it is, and its digest; several fields by comma."""
    if isinstance(value, Mapping):
        return f"{value['length']} bytes {value['digest']}"
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else value
