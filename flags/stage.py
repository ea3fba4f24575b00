"""The stages of a channel kind and what each one means: an ordered enum and one truth table.

A stage answers one question only: which path may *send* for a new conversation. In every stage that is
one path, never both; `shadow` is a dry run and nobody waits for it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Path(StrEnum):
    """Who handles a conversation."""

    ROCKETCHAT = "rocketchat"
    NATIVE = "native"


class Stage(StrEnum):
    """How far a channel kind has come; declared in order, so `list(Stage)` is the way of a migration."""

    ROCKETCHAT = "rocketchat"
    """Rocket.Chat is authoritative; native does nothing."""
    SHADOW = "shadow"
    """Rocket.Chat is authoritative; native runs dry beside it. Routes as `rocketchat` until comparison exists."""
    CANARY = "canary"
    """Native is authoritative for the contacts in the share; who is outside it falls to the base rule."""
    NATIVE = "native"
    """Native is authoritative for every new conversation; open ones keep their pin."""
    RETIRED = "retired"
    """Rocket.Chat is off. Refused until its gate exists."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the truth table: `new` = path of a new conversation, `forwards` = Rocket.Chat still gets
    what has no conversation (templates, account events, unknown), `settable` = a person may choose it."""

    new: Path
    forwards: bool
    settable: bool
    note: str = ""


TRUTH: dict[Stage, Meaning] = {
    Stage.ROCKETCHAT: Meaning(Path.ROCKETCHAT, forwards=True, settable=True),
    Stage.SHADOW: Meaning(
        Path.ROCKETCHAT, forwards=True, settable=True, note="routes as rocketchat: nothing is compared yet"
    ),
    Stage.CANARY: Meaning(Path.NATIVE, forwards=True, settable=True),
    Stage.NATIVE: Meaning(Path.NATIVE, forwards=True, settable=True),
    Stage.RETIRED: Meaning(
        Path.NATIVE, forwards=False, settable=False, note="gated: the retire gate does not exist yet"
    ),
}

ORDER = {stage: place for place, stage in enumerate(Stage)}


def skips_forward(before: Stage, after: Stage) -> bool:
    """True when a change jumps over a stage on the way forward (allowed, warned about, audited)."""
    return ORDER[after] - ORDER[before] > 1
