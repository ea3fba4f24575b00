"""What the sandbox was told: numbers, callbacks, secrets, tempers. Set by ``POST /control/configure``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """A WhatsApp number: where its webhooks go and how they are signed; `access_token` None takes any."""

    callback_url: str = ""
    app_secret: str = ""
    verify_token: str = ""
    access_token: str | None = None
    display_phone_number: str = "551130000001"
    waba_id: str = "102290129340398"


@dataclass(frozen=True)
class App:
    """A marketplace app of Rocket.Chat: the number it sends by, the secret it checks forwards with."""

    phone_number_id: str = ""
    app_secret: str = ""
    label: str = "WhatsApp"


@dataclass(frozen=True)
class RateLimit:
    """`calls` per `seconds` per REST route, as Rocket.Chat counts them."""

    calls: int
    seconds: float = 60.0


@dataclass(frozen=True)
class Retry:
    """Up to `attempts` posts; the wait starts at `delay_seconds` and grows by `factor` to `cap_seconds`."""

    attempts: int = 40
    delay_seconds: float = 0.25
    factor: float = 2.0
    cap_seconds: float = 5.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th failure (from 1)."""
        # float ** can overflow for absurd attempts; the exponent needs no more than 32 doublings
        return float(min(self.cap_seconds, self.delay_seconds * self.factor ** min(attempt - 1, 32)))


@dataclass(frozen=True)
class RocketChatSettings:
    """`user_id` and `auth_token` empty: any non-empty pair of headers is taken."""

    webhook_url: str = ""
    webhook_token: str = ""
    app: dict[str, App] = field(default_factory=dict)
    agents: bool = False
    agent_delay_seconds: float = 0.5
    version: str = "7.10.0"
    retry_delay_seconds: float = 1.0
    user_id: str = ""
    auth_token: str = ""
    username: str = "figueira.bot"
    password: str = "figueira"
    rate_limit: RateLimit | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".", 1)[0])

    @property
    def retry(self) -> Retry:
        return Retry(5, self.retry_delay_seconds, 1.0, self.retry_delay_seconds)


@dataclass
class Configuration:
    """All settings; `status_delay_seconds` lies between two statuses, `read` adds the third."""

    numbers: dict[str, Number] = field(default_factory=dict)
    rocketchat: RocketChatSettings = field(default_factory=RocketChatSettings)
    status_delay_seconds: float = 0.05
    read: bool = False
    callback_retry: Retry = field(default_factory=Retry)

    def update(self, raw: Mapping[str, Any]) -> None:
        """Take the keys given and keep the others; numbers and apps are replaced one by one.

        `status_delay_seconds` and `read` may stand at the top or under `rocketchat`.
        Raises ValueError on a key there is not; nothing is changed then.
        """
        given = dict(raw)
        rocketchat = dict(given.pop("rocketchat", {}))
        statuses = {
            key: source.pop(key)
            for source in (rocketchat, given)
            for key in ("status_delay_seconds", "read")
            if key in source
        }
        numbers = {key: _build(Number, value) for key, value in given.pop("numbers", {}).items()}
        retry = (
            _build(Retry, given.pop("callback_retry")) if "callback_retry" in given else self.callback_retry
        )
        if given:
            raise ValueError(f"unknown settings {sorted(given)}")
        delay = float(statuses.get("status_delay_seconds", self.status_delay_seconds))
        self.rocketchat = _rocketchat(self.rocketchat, rocketchat)
        self.numbers |= numbers
        self.callback_retry = retry
        self.status_delay_seconds = delay
        self.read = bool(statuses.get("read", self.read))

    def reset(self) -> None:
        for name in fields(self):
            setattr(self, name.name, getattr(Configuration(), name.name))


def _rocketchat(old: RocketChatSettings, raw: dict[str, Any]) -> RocketChatSettings:
    _check(RocketChatSettings, raw)
    if "app" in raw:
        raw["app"] = old.app | {key: _build(App, value) for key, value in raw["app"].items()}
    if raw.get("rate_limit"):
        raw["rate_limit"] = _build(RateLimit, raw["rate_limit"])
    new = replace(old, **raw)
    _ = new.major  # a version without a number fails here, not in an answer
    return new


def _build(kind: type[T], raw: Mapping[str, Any]) -> T:
    _check(kind, raw)
    try:
        return kind(**raw)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _check(kind: type[Any], raw: Mapping[str, Any]) -> None:
    unknown = set(raw) - set(kind.__dataclass_fields__)
    if unknown:
        raise ValueError(f"unknown settings of {kind.__name__}: {sorted(unknown)}")
