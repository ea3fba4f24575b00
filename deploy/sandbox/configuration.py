"""What the sandbox was told: numbers, callbacks, secrets, tempers. Set by ``POST /control/configure``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """A WhatsApp number: where its webhooks go and how they are signed; `access_token` None takes any.

    `app_id` names the app at Meta that it belongs to. With `provider` 360dialog its callers show `api_key`, and its
    webhooks carry `webhook_headers` and, with a `platform_secret`, x-360dialog-signature (hex or base64); `payload`
    "flat" is the older shape without entry and changes.
    """

    callback_url: str = ""
    app_secret: str = ""
    verify_token: str = ""
    access_token: str | None = None
    display_phone_number: str = "551130000001"
    waba_id: str = "102290129340398"
    app_id: str = "670843887433847"
    provider: str = "cloud"
    api_key: str = ""
    webhook_headers: dict[str, str] = field(default_factory=dict)
    platform_secret: str = ""
    signature_encoding: str = "hex"
    payload: str = "cloud"

    def __post_init__(self) -> None:
        _among("provider", self.provider, "cloud", "360dialog")
        _among("payload", self.payload, "cloud", "flat")
        _among("signature_encoding", self.signature_encoding, "hex", "base64")


@dataclass(frozen=True)
class MetaApp:
    """An app at Meta: its own callback, below those of its WABAs and numbers. `app_secret` "": its numbers'."""

    callback_url: str = ""
    verify_token: str = ""
    app_secret: str = ""
    name: str = "Clinic"
    fields: tuple[str, ...] = ("messages",)


@dataclass(frozen=True)
class Template:
    """An approved template: how many parameters its body and its header take."""

    body: int = 0
    header: int = 0
    languages: tuple[str, ...] = ("pt_BR",)
    category: str = "utility"


@dataclass(frozen=True)
class App:
    """A marketplace app of Rocket.Chat: the number it sends by, the secret it checks forwards with.

    `verify_token` "": it answers every handshake.
    """

    phone_number_id: str = ""
    app_secret: str = ""
    label: str = "WhatsApp"
    verify_token: str = ""


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
    """`user_id` and `auth_token` empty: any non-empty pair of headers is taken.

    `roles` None: those of the user. `permissions` {permission: [roles]} None: everything is allowed. `settings` holds
    values of Rocket.Chat's settings by id; the webhook's URL and token stand in their own fields. `users_create`: ok,
    totp (asks for `totp_code`), licence (no seat left). `webhook_edits` False: edits are not told, as before 6.x.
    """

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
    roles: tuple[str, ...] | None = None
    permissions: dict[str, list[str]] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    users_create: str = "ok"
    totp_code: str = "123456"
    webhook_edits: bool = True
    max_file_bytes: int = 104857600
    refused_types: tuple[str, ...] = ("image/svg+xml",)
    media_confirm_seconds: float = 86400.0

    def __post_init__(self) -> None:
        _among("users_create", self.users_create, "ok", "totp", "licence")

    @property
    def major(self) -> int:
        return int(self.version.split(".", 1)[0])

    @property
    def retry(self) -> Retry:
        return Retry(5, self.retry_delay_seconds, 1.0, self.retry_delay_seconds)


@dataclass
class Configuration:
    """All settings; `status_delay_seconds` lies between two statuses, `read` adds the third.

    What Meta enforces is off until it is set: `templates` (empty: any is taken), `window_hours` (refused in `status`
    or at once: `window_failure` status|sync), `pair_seconds` after a burst of `pair_burst`, `messages_per_second` of a
    number, in and out. `pricing` {category: {key: value}} is laid over what statuses say of a category.
    """

    numbers: dict[str, Number] = field(default_factory=dict)
    apps: dict[str, MetaApp] = field(default_factory=dict)
    rocketchat: RocketChatSettings = field(default_factory=RocketChatSettings)
    status_delay_seconds: float = 0.05
    read: bool = False
    callback_retry: Retry = field(default_factory=Retry)
    templates: dict[str, Template] = field(default_factory=dict)
    window_hours: float | None = None
    window_failure: str = "status"
    pair_seconds: float | None = None
    pair_burst: int = 1
    messages_per_second: int | None = None
    media_url_seconds: float = 300.0
    pricing: dict[str, dict[str, Any]] = field(default_factory=dict)

    def update(self, raw: Mapping[str, Any]) -> None:
        """Take the keys given and keep the others; numbers, apps and templates are replaced one by one.

        `status_delay_seconds` and `read` may stand at the top or under `rocketchat`.
        Raises ValueError on a key there is not; nothing is changed then.
        """
        given = dict(raw)
        rocketchat = dict(given.pop("rocketchat", {}))
        given |= {key: rocketchat.pop(key) for key in ("status_delay_seconds", "read") if key in rocketchat}
        new: dict[str, Any] = {
            name: getattr(self, name) | {key: _build(kind, value) for key, value in given.pop(name).items()}
            for name, kind in (("numbers", Number), ("apps", MetaApp), ("templates", Template))
            if name in given
        }
        if "callback_retry" in given:
            new["callback_retry"] = _build(Retry, given.pop("callback_retry"))
        for name in _PLAIN.keys() & given.keys():
            value = given.pop(name)
            new[name] = None if value is None and name in _MAY_BE_NONE else _PLAIN[name](value)
        if given:
            raise ValueError(f"unknown settings {sorted(given)}")
        _among("window_failure", new.get("window_failure", "status"), "status", "sync")
        new["rocketchat"] = _rocketchat(self.rocketchat, rocketchat)
        for name, value in new.items():
            setattr(self, name, value)

    def reset(self) -> None:
        for name in fields(self):
            setattr(self, name.name, getattr(Configuration(), name.name))


_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "status_delay_seconds": float,
    "read": bool,
    "window_hours": float,
    "window_failure": str,
    "pair_seconds": float,
    "pair_burst": int,
    "messages_per_second": int,
    "media_url_seconds": float,
    "pricing": dict,
}
_MAY_BE_NONE = {"window_hours", "pair_seconds", "messages_per_second"}


def _rocketchat(old: RocketChatSettings, raw: dict[str, Any]) -> RocketChatSettings:
    _check(RocketChatSettings, raw)
    if "app" in raw:
        raw["app"] = old.app | {key: _build(App, value) for key, value in raw["app"].items()}
    if raw.get("rate_limit"):
        raw["rate_limit"] = _build(RateLimit, raw["rate_limit"])
    if "settings" in raw:
        raw["settings"] = old.settings | dict(raw["settings"])
    new = replace(old, **raw)
    _ = new.major  # a version without a number fails here, not in an answer
    return new


def _build(kind: type[T], raw: Mapping[str, Any]) -> T:
    _check(kind, raw)
    try:
        return kind(**raw)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _among(name: str, value: str, *known: str) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}")


def _check(kind: type[Any], raw: Mapping[str, Any]) -> None:
    unknown = set(raw) - set(kind.__dataclass_fields__)
    if unknown:
        raise ValueError(f"unknown settings of {kind.__name__}: {sorted(unknown)}")
