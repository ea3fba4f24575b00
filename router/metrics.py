"""Every metric of the product (docs: /metrics). Label sets are closed: no contact, no text, no tenant.

With several processes, PROMETHEUS_MULTIPROC_DIR must be in the environment *before* this module is imported:
prometheus_client chooses the kind of its values then, and would silently count for this process alone.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

EVENT_OUTCOMES: Final = (
    "stored",
    "duplicate",
    "bad_signature",
    "too_large",
    "unavailable",
    "malformed",
    "unrouted",
)
FORWARD_OUTCOMES: Final = ("ok", "retry", "held", "dead")
MESSAGE_OUTCOMES: Final = ("sent", "delivered", "read", "failed", "unknown")
REASONS: Final = (
    "class",
    "channel",
    "tenant",
    "share",
    "base",
    "override",
    "last_known_good",
    "rocketchat_down",
    "move",
)
LANES: Final = ("split", "inbound", "outbound", "channel")
DIRECTIONS: Final = ("inbound", "outbound")
DROPPED: Final = (
    "bodies",
    "idempotency",
    "media",
    "media_uploads",
    "paces",
    "outcomes",
    "billables",
    "console_sessions",
)
IMPORT_OUTCOMES: Final = ("written", "skipped", "rejected", "erased")

REGISTRY: Final = CollectorRegistry()

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 3600.0)

# events ----------------------------------------------------------------------------------------------------

events = Counter(
    "figueira_events_total",
    "Webhooks received (outcome: stored, duplicate, bad_signature, too_large, unavailable, malformed, unrouted)",
    ["channel", "kind", "outcome"],
    registry=REGISTRY,
)
accept_seconds = Histogram(
    "figueira_accept_seconds",
    "From the first byte of a webhook to its answer",
    buckets=_FAST,
    registry=REGISTRY,
)
unplaced_events = Gauge(
    "figueira_unplaced_events",
    "Rocket.Chat's events whose room has no known channel yet",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)

# messages and decisions ------------------------------------------------------------------------------------

messages = Counter(
    "figueira_messages_total",
    "Messages, each once, on whichever path they were seen",
    ["kind", "direction", "path"],
    registry=REGISTRY,
)
decisions = Counter(
    "figueira_decisions_total",
    "Pins made or moved (reason: the rule that decided)",
    ["kind", "stage", "path", "reason"],
    registry=REGISTRY,
)
outcomes = Counter(
    "figueira_outcomes_total",
    "What became of outbound messages (outcome: sent, delivered, read, failed, unknown)",
    ["kind", "path", "outcome"],
    registry=REGISTRY,
)
pins = Gauge(
    "figueira_pins",
    "Open conversations by the path they are pinned to",
    ["kind", "path"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
identity_unlinked = Counter(
    "figueira_identity_unlinked_total",
    "Addresses that could not be joined to a contact they may belong to",
    ["kind"],
    registry=REGISTRY,
)

# delivery --------------------------------------------------------------------------------------------------

handle_seconds = Histogram(
    "figueira_handle_seconds",
    "From the receipt of a message to its handling: native ingest committed, or the forward answered 2xx",
    ["kind", "path"],
    buckets=_SLOW,
    registry=REGISTRY,
)
delivery_seconds = Histogram(
    "figueira_delivery_seconds",
    "From the send to the provider's `delivered`",
    ["kind", "path"],
    buckets=_SLOW,
    registry=REGISTRY,
)
delivery_attempts = Counter(
    "figueira_delivery_attempts_total",
    "Requests that sent a message (status: ok, retry, paced, permanent, channel, unknown)",
    ["kind", "path", "status"],
    registry=REGISTRY,
)
forwards = Counter(
    "figueira_forwards_total",
    "Events given to Rocket.Chat (outcome: ok, retry, held, dead)",
    ["kind", "outcome"],
    registry=REGISTRY,
)
stray_sends = Counter(
    "figueira_stray_sends_total",
    "Rocket.Chat's own sends into conversations that are pinned native",
    ["kind"],
    registry=REGISTRY,
)
lane_depth = Gauge(
    "figueira_lane_depth",
    "Work waiting (lane: split, inbound, outbound, channel)",
    ["lane"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
lane_age_seconds = Gauge(
    "figueira_lane_age_seconds",
    "Age of the oldest work waiting",
    ["lane"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
dead_letters = Gauge(
    "figueira_dead_letters",
    "Dead letters that wait for a person",
    ["kind"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
rocketchat_up = Gauge(
    "figueira_rocketchat_up",
    "1 while Rocket.Chat answers, 0 while its breaker is open",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)

channel_ill = Gauge(
    "figueira_channel_ill",
    "1 while a channel's own provider account refuses everything (token revoked, number banned) or does not answer",
    ["channel"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
media = Counter(
    "figueira_media_total",
    "Files of messages that came to rest (state: stored, gone, refused)",
    ["kind", "direction", "state"],
    registry=REGISTRY,
)
opt_outs = Counter(
    "figueira_opt_outs_total",
    "Contacts that asked to be written to no more (wish: out), or again (in)",
    ["kind", "wish"],
    registry=REGISTRY,
)
billable = Counter(
    "figueira_billable_total",
    "Messages that the provider bills, each once, by its category",
    ["kind", "category"],
    registry=REGISTRY,
)
swept = Counter(
    "figueira_swept_total",
    "Messages of Rocket.Chat's own history that a sweep looked at (outcome: seen, added)",
    ["outcome"],
    registry=REGISTRY,
)
dropped = Counter(
    "figueira_dropped_total",
    "What was kept long enough and is dropped (what: bodies of events; rows of idempotency, media, media_uploads, paces, "
    "outcomes, billables, console_sessions)",
    ["what"],
    registry=REGISTRY,
)
callback_drift = Gauge(
    "figueira_callback_drift",
    "1 while the provider posts a channel's webhooks elsewhere although we set that they come here",
    ["channel"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)

# import ----------------------------------------------------------------------------------------------------

import_rows = Counter(
    "figueira_import_rows_total",
    "Documents of Rocket.Chat's history that an import came to (outcome: written, skipped, rejected, erased; collection: "
    "one of Rocket.Chat's, or other)",
    ["collection", "outcome"],
    registry=REGISTRY,
)
import_lag_seconds = Gauge(
    "figueira_import_lag_seconds",
    "How far the copy of a live source is behind it: since the last change that was taken in",
    ["collection"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)

# flags -----------------------------------------------------------------------------------------------------

stage = Gauge(
    "figueira_stage",
    "1 for the stage a channel's kind is in, 0 for the others",
    ["channel", "stage"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
flag_age_seconds = Gauge(
    "figueira_flag_age_seconds",
    "Since the flags were last loaded; of several processes, the worst",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
flag_revision = Gauge(
    "figueira_flag_revision",
    "Revision of the flag in use; of several processes, the oldest",
    ["kind"],
    registry=REGISTRY,
    multiprocess_mode="livemin",
)


def declare(channels: Iterable[tuple[str, str]]) -> None:
    """Put every (channel, kind) at zero: a rate over a series that has not begun is silent, not nought."""
    for channel, kind in channels:
        for outcome in EVENT_OUTCOMES:
            events.labels(channel, kind, outcome)
        for outcome in FORWARD_OUTCOMES:
            forwards.labels(kind, outcome)
        stray_sends.labels(kind)
        identity_unlinked.labels(kind)
    for what in DROPPED:
        dropped.labels(what)


_FACTS: Final[dict[str, Counter | Histogram]] = {
    "events_total": events,
    "messages_total": messages,
    "decisions_total": decisions,
    "outcomes_total": outcomes,
    "identity_unlinked_total": identity_unlinked,
    "handle_seconds": handle_seconds,
    "delivery_seconds": delivery_seconds,
    "delivery_attempts_total": delivery_attempts,
    "forwards_total": forwards,
    "stray_sends_total": stray_sends,
    "media_total": media,
    "opt_outs_total": opt_outs,
    "billable_total": billable,
    "swept_total": swept,
    "dropped_total": dropped,
}


class Recorder:
    """The heart's meter: facts by their metric's name without `figueira_`."""

    def record(self, facts: Iterable[tuple[str, float, tuple[str, ...]]]) -> None:
        """Counters grow by the value, histograms observe it."""
        for name, value, labels in facts:
            metric = _FACTS[name].labels(*labels)
            if isinstance(metric, Histogram):
                metric.observe(value)
            else:
                metric.inc(value)


class _Advance:
    """Carries totals that are kept elsewhere into a counter. Of several processes, whose counters are added up, one does
    it: the one that holds a lock in their folder. Who takes it over from a dead one goes on from what that one counted.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], float] = {}
        self._held: TextIO | None = None

    def __call__(self, collection: str, outcome: str, total: float) -> None:
        if not self._mine():
            return
        before = self._told.get((collection, outcome), 0.0)
        series = import_rows.labels(collection, outcome)  # also at nought: a rate needs a beginning
        if total > before:
            series.inc(total - before)
            self._told[collection, outcome] = total

    def _mine(self) -> bool:
        place = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if place is None or self._held is not None:
            return True
        # Open for as long as the process lives.
        file = Path(place, "import.lock").open("w", encoding="ascii")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._held = file
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        for family in registry.collect():
            if family.name == "figueira_import_rows":
                for one in family.samples:
                    self._told[one.labels["collection"], one.labels["outcome"]] = one.value
        return True


imported: Final = _Advance()
"""(collection, outcome, documents so far): figueira_import_rows_total stands there now, if it did not yet."""


def exposition() -> tuple[bytes, str]:
    """The body of /metrics and its content type; over all processes when PROMETHEUS_MULTIPROC_DIR is set."""
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
    ProcessCollector(registry=registry)
    return generate_latest(REGISTRY) + generate_latest(registry), CONTENT_TYPE_LATEST
