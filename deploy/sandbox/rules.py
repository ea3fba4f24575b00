"""What Meta refuses although the body is right: closed windows, too many messages, templates it does not know.

Every rule is off until the configuration sets it.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from deploy.sandbox.configuration import Configuration
from deploy.sandbox.shapes import Refused


class Rules:
    """Counts what numbers send and hear. Sends of the router and of Rocket.Chat's app count alike."""

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self.clear()

    def clear(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}
        self._pairs: dict[tuple[str, str], float] = {}
        self._recent: dict[str, deque[float]] = defaultdict(deque)

    def heard(self, number_id: str, people: Iterable[str], at: float) -> None:
        """A customer wrote at `at` (epoch seconds): the window is open from then."""
        for one in people:
            self._heard[number_id, one] = max(at, self._heard.get((number_id, one), 0.0))
        if self._config.messages_per_second is not None:
            self._recent[number_id].append(time.monotonic())

    def check(self, number_id: str, to: str, body: Mapping[str, Any]) -> Refused | None:
        """Raises Refused, or returns one that is to be told in a status `failed`."""
        if body.get("type") == "template":
            self._template(body["template"])
        closed = body.get("type") != "template" and self._closed(number_id, to)
        if closed and self._config.window_failure == "sync":
            raise _window()
        self._throughput(number_id)
        self._pair(number_id, to)
        return _window() if closed else None

    def category(self, body: Mapping[str, Any]) -> str:
        """What a message is billed as."""
        if body.get("type") != "template":
            return "service"
        template = self._config.templates.get(str(body["template"].get("name")))
        return template.category if template else "utility"

    def _template(self, given: Mapping[str, Any]) -> None:
        if not self._config.templates:
            return
        known = self._config.templates.get(str(given.get("name")))
        language = given.get("language")
        code = language.get("code") if isinstance(language, dict) else None
        if known is None or code not in known.languages:
            details = f"template name ({given.get('name')}) does not exist in {code}"
            raise Refused(
                132001, "Template name does not exist in the translation", details, 404, rule="template"
            )
        for part, wanted in (("body", known.body), ("header", known.header)):
            got = _parameters(given, part)
            if got != wanted:
                details = f"{part}: number of localizable_params ({got}) does not match the expected number ({wanted})"
                raise Refused(132000, "Number of parameters does not match", details, rule="template")

    def _closed(self, number_id: str, to: str) -> bool:
        hours = self._config.window_hours
        return hours is not None and time.time() - self._heard.get((number_id, to), 0.0) > hours * 3600

    def _throughput(self, number_id: str) -> None:
        limit = self._config.messages_per_second
        if limit is None:
            return
        recent, now = self._recent[number_id], time.monotonic()
        while recent and now - recent[0] >= 1:
            recent.popleft()
        if len(recent) >= limit:
            details = "Message failed to send because Cloud API message throughput has been reached."
            raise Refused(130429, "Rate limit hit", details, 429, rule="throughput")
        recent.append(now)

    def _pair(self, number_id: str, to: str) -> None:
        seconds = self._config.pair_seconds
        if seconds is None:
            return
        now = time.monotonic()
        due = max(self._pairs.get((number_id, to), now), now)
        if due - now > seconds * (self._config.pair_burst - 1):
            details = "Too many messages sent from this phone number to the same phone number in a short period of time."
            raise Refused(
                131056, "(Business Account, Consumer Account) pair rate limit hit", details, 429, rule="pair"
            )
        self._pairs[number_id, to] = due + seconds


def _window() -> Refused:
    details = "More than 24 hours have passed since the customer last replied to this number."
    return Refused(131047, "Re-engagement message", details, rule="window")


def _parameters(template: Mapping[str, Any], part: str) -> int:
    components = template.get("components")
    found = (one for one in components if isinstance(one, dict)) if isinstance(components, list) else ()
    named = next((one for one in found if str(one.get("type", "")).lower() == part), {})
    parameters = named.get("parameters")
    return len(parameters) if isinstance(parameters, list) else 0
