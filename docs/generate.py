"""Write docs/reference/ from the code: `python docs/generate.py`; with `--check` only say what is stale (exit 1)."""

import argparse
import ast
import inspect
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client import Counter, Gauge, Histogram

from adapters import KINDS
from router import metrics
from router.api.application import create_api
from router.cli import build_parser
from router.cli.parser import Parser
from router.control.desk import Desk
from router.domain.channel import Channel
from router.domain.policy import Policy
from router.domain.ports import Rules
from router.settings import Keys, MediaSettings, RocketChatSettings, S3Settings, Settings
from router.settings.keys import PREFIX
from router.settings.reader import _CHANNEL_KEYS, TOP

FOLDER: Final = Path(__file__).parent / "reference"
_HEAD: Final = "<!-- Made by docs/generate.py: change the code, then run it again. -->\n\n"

# A key that has no line there stops the generator.
TOLD: Final[Mapping[str, Mapping[str, str]]] = tomllib.loads(
    Path(__file__).with_name("settings.toml").read_text("utf-8")
)


def pages() -> dict[str, str]:
    """File name → text."""
    made = {
        "commands": commands(),
        "settings": settings(),
        "metrics": measures(),
        "http": routes(),
        "channels": channels(),
    }
    return {f"{name}.md": _HEAD + "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


# commands ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Every leaf of the parser, in its order."""
    yield from ("# Commands", "")
    yield "Exit: 0 done · 1 the check failed or something was rejected · 2 wrong use (one line on stderr)."
    yield "Every command takes `--json` (one object on stdout, nothing else there) and `--config FILE`."
    yield ""
    for parser in _leaves(build_parser()):
        yield from _command(parser)


def _leaves(parser: Parser) -> Iterator[Parser]:
    for child in parser.commands.values():
        yield from _leaves(child) if child.commands else (child,)


def _command(parser: Parser) -> Iterator[str]:
    own = [one for one in parser.arguments if one.dest not in {"help", "json", "config"}]
    required = [one for one in own if one.required or one.nargs == "?"]
    required.sort(key=lambda one: bool(one.option_strings))
    shown = [f"[{_name(one)}]" if one.nargs == "?" else _name(one) for one in required]
    yield from (f"## `{' '.join([parser.prog, *shown])}`", "", f"{parser.description or ''}.", "")
    rows = [(f"`{_name(one)}`", one.help or _choices(one)) for one in own if one.help or one.choices]
    if rows:
        yield from _table(("argument", ""), rows)


def _name(action: argparse.Action) -> str:
    metavar = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return metavar
    return action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {metavar}"


def _choices(action: argparse.Action) -> str:
    return " | ".join(map(str, action.choices or ()))


# settings ----------------------------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    """The environment and figueira.toml."""
    yield from ("# Settings", "")
    yield "From the environment, or a file; the environment wins. The file is the one that `--config` names, else"
    yield "`FIGUEIRA_CONFIG`, else `./figueira.toml`, else `figueira.toml` in `FIGUEIRA_HOME`. In it any text may be"
    yield from ("written `env:NAME` or `file:/path`: do so for what is secret.", "")
    known = _defaults(Settings)
    rows = (
        (f"`{PREFIX}{name.upper()}`", f"`{name}`", known.get(name, ""), TOLD["top"][name]) for name in TOP
    )
    yield from _table(("environment", "file", "default", ""), rows)
    yield from _section("[rocketchat]", "rocketchat", list(_defaults(RocketChatSettings)), {})
    yield from _section("[channels.SLUG]", "channels", sorted(_CHANNEL_KEYS), _defaults(Channel))
    yield from ("## `[channels.SLUG.native]`", "")
    keys = {
        kind: ", ".join(f"`{key}`" for key in one.capabilities["settings"]) for kind, one in KINDS.items()
    }
    yield from _table(("kind", "keys"), keys.items())
    yield from ("## `[delivery]`", "", (Policy.__doc__ or "").strip(), "")
    told = _docstrings(Policy)
    policy = ((f"`{key}`", value, told.get(key, "")) for key, value in _defaults(Policy).items())
    yield from _table(("key", "default", ""), policy)
    media = _defaults(MediaSettings)
    yield from _section("[media]", "media", list(media), media)
    bucket = _defaults(S3Settings)
    yield from _section("[media.s3]", "media.s3", list(bucket), bucket)


def _section(title: str, prefix: str, keys: Iterable[str], known: Mapping[str, str]) -> Iterator[str]:
    yield from (f"## `{title}`", "")
    rows = ((f"`{key}`", known.get(key, ""), TOLD[prefix][key]) for key in keys)
    yield from _table(("key", "default", ""), rows)


def _defaults(kind: type[Any]) -> dict[str, str]:
    computed = {"home": "`.figueira`"} if kind is Settings else {}
    return {one.name: _default(one) for one in fields(kind)} | computed


def _default(field: "Field[Any]") -> str:
    empty = field.default in {None, MISSING, ()}
    return "" if empty else f"`{field.default}`"


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """What stands under each field of a dataclass."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    told: dict[str, str] = {}
    name = ""
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told[name] = str(node.value.value)
    return told


# channels ----------------------------------------------------------------------------------------------------


def channels() -> Iterator[str]:
    """What each kind of the register can do natively."""
    yield from ("# Channels", "", "What each kind can do on the path `native`, as its adapter says it.", "")
    yield from ("What is missing, and what Rocket.Chat's path does: [parity](../parity.md).", "")
    for name, one in KINDS.items():
        able, rules = one.capabilities, one.kind().rules(Channel(name, name, ""))
        yield from (f"## `{name}`", "")
        yield from _table(("", ""), ((told, text) for told, text in _abilities(able, rules) if text))
        yield from ("Settings in `[channels.SLUG.native]`, by provider; the first is the default:", "")
        yield from _table(
            ("provider", "required"),
            ((f"`{provider}`", _listed(keys)) for provider, keys in able["required"].items()),
        )
        needed = {key for keys in able["required"].values() for both in keys for key in both.split(" | ")}
        yield from (f"Optional: {_listed(key for key in able['settings'] if key not in needed)}.", "")


def _abilities(able: Mapping[str, Any], rules: Rules) -> Iterator[tuple[str, str]]:
    yield "receives", _listed(able["receives"])
    yield "sends", _listed(able["sends"])
    yield "statuses", _listed(able["statuses"])
    yield "addresses", _listed(able["addresses"])
    yield "echoes of the phone app", _yes(able["echoes"])
    yield "read marks, typing with them", _yes(able["marks"])
    yield "batches divided", _yes(able["divides"])
    yield "a repeated send is harmless", _yes(able["idempotent"])
    yield "signature", f"`{able['signature']}`"
    yield "longest text", f"{rules.text_limit} characters; longer ones go out in several messages"
    if rules.window_hours is not None:
        outside = _listed(sorted(rules.outside_window))
        yield "window", f"{rules.window_hours} hours after the contact last wrote; outside it: {outside}"
    if rules.per_second is not None:
        yield "pace of a number", f"{rules.per_second:g} messages a second"
    if rules.pair_seconds is not None:
        yield "pace of one recipient", f"one every {rules.pair_seconds:g} s, {rules.pair_burst} at once"
    if rules.media_days is not None:
        yield "received files can be fetched for", f"{rules.media_days:g} days"
    if rules.upload_days is not None:
        yield "an upload is used again for", f"{rules.upload_days:g} days"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(" | ".join(f"`{part}`" for part in one.split(" | ")) for one in words)


def _yes(able: bool) -> str:
    return "yes" if able else "no"


# metrics -----------------------------------------------------------------------------------------------------


def measures() -> Iterator[str]:
    """Every metric of router.metrics."""
    yield from ("# Metrics", "", "At `/metrics`. Label sets are closed: no contact, no text, no tenant.", "")
    found = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
    rows = []
    for one in found:
        described = next(iter(one.describe()))
        suffix = "_total" if isinstance(one, Counter) else ""
        labels = ", ".join(f"`{label}`" for label in one._labelnames)  # noqa: SLF001  the library has no other way to ask
        rows.append((f"`{described.name}{suffix}`", described.type, labels, described.documentation))
    yield from _table(("metric", "type", "labels", ""), sorted(rows))


# HTTP --------------------------------------------------------------------------------------------------------


def routes() -> Iterator[str]:
    """Every operation of the OpenAPI document; building it needs no desk."""
    document = create_api(cast("Desk", None), settings=Settings(Path(), Keys(b"", b""))).openapi()
    yield from ("# HTTP", "")
    yield from ("Made from `/openapi.json`, which has the shapes. The webhooks stand in front of it.", "")
    told = {
        f"`{method.upper()} {path}`": str(one.get("description", "")).partition("\n\n")[0].replace("\n", " ")
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }
    yield from _table(("route", ""), told.items())


def main(argv: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check: bool = parser.parse_args(argv).check
    made = pages()
    stale = [name for name, text in made.items() if not _same(folder / name, text)]
    if check and stale:
        print(f"stale in {folder.name}/: {', '.join(stale)}; run `python docs/generate.py`", file=sys.stderr)
    for name in () if check else stale:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(made[name], encoding="utf-8")
    return int(check and bool(stale))


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
