"""Reading and checking: figueira.toml and the environment become `Settings`, or one ConfigurationError."""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from router.domain.channel import RESERVED, Channel
from router.domain.errors import ConfigurationError
from router.domain.policy import Policy
from router.settings.keys import PREFIX, obtain
from router.settings.model import (
    MediaSettings,
    Network,
    RocketChatSettings,
    RoomSource,
    S3Settings,
    Settings,
)

DEFAULT_HOME: Final = ".figueira"
TOP: Final = (
    "home",
    "database_url",
    "flags",
    "unleash_url",
    "unleash_token",
    "unleash_admin_token",
    "broker_url",
    "openai_base_url",
    "openai_api_key",
    "openai_model",
    "secret_key",
    "cohort_key",
    "shared",
    "public_url",
    "trusted_proxies",
    "log_format",
)
_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_CHANNEL_KEYS: Final = frozenset(
    {
        "kind",
        "tenant",
        "assistant",
        "on_rocketchat_down",
        "first_contact",
        "idle_hours",
        "native",
        "rocketchat",
    }
)


class Reader:
    """One load: knows the file's name, for messages, and the environment, for `env:`."""

    def __init__(self, environ: Mapping[str, str], path: Path | None) -> None:
        self._environ = environ
        self._file = str(path) if path else "figueira.toml"
        self._tree: dict[str, Any] = self._read(path) if path else {}

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read ({error.strerror}): mend --config") from None
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"\(at .*\)$", str(error))  # the rest of the message may quote a value
            raise ConfigurationError(
                f"{path} is not TOML {where[0] if where else ''}: mend the line"
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path} is not UTF-8: save it as UTF-8") from None

    def _wrong(self, key: str, wrong: str, mend: str) -> ConfigurationError:
        where = "the environment" if key.startswith(PREFIX) else self._file
        return ConfigurationError(f"{key} in {where}: {wrong}; {mend}")

    # values --------------------------------------------------------------------------------------------------

    def _resolve(self, key: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.startswith("env:"):
            found = self._environ.get(value[4:])
            if not found:
                raise self._wrong(key, f"the environment has no {value[4:]}", f"set {value[4:]}")
            return found
        if value.startswith("file:"):
            try:
                return Path(value[5:]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise self._wrong(
                    key, f"{value[5:]} cannot be read", "mend the path or its permissions"
                ) from None
        return value

    def _known(self, where: str, table: Mapping[str, Any], allowed: Collection[str]) -> None:
        for key in table:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                mend = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(allowed))}"
                raise self._wrong(f"{where}{key}", "there is no such key", mend)

    def _table(self, key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(key, "it must be a table", f"write [{key}]")
        return value

    def _text(self, key: str, value: Any, *, default: str | None = None) -> str | None:
        found = self._resolve(key, default if value is None else value)
        if found is not None and (not isinstance(found, str) or not found):
            raise self._wrong(key, "it must be a text that is not empty", 'write it in "quotes"')
        return found

    def _choice(self, key: str, value: Any, choices: tuple[str, ...]) -> str:
        found = self._text(key, value, default=choices[0])
        if found not in choices:
            raise self._wrong(key, "there is no such choice", f"one of {', '.join(choices)}")
        return found

    def _url(self, key: str, value: Any) -> str | None:
        found = self._text(key, value)
        if found is not None:
            try:
                good = urlsplit(found).scheme in {"http", "https"} and bool(urlsplit(found).hostname)
            except ValueError:
                good = False
            if not good:
                raise self._wrong(key, "it is no http or https URL", 'write "https://…"')
        return found

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self._wrong(key, "it must be a number above 0", "write it without quotes")
        return value

    # the whole -----------------------------------------------------------------------------------------------

    def settings(self, kinds: Collection[str], native_keys: Mapping[str, Collection[str]]) -> Settings:
        """All of it. Making keys comes last, so that only settings that hold make files."""
        self._known("", self._tree, {*TOP, "rocketchat", "channels", "delivery", "media"})
        self._misspelt()
        top = {name: self._text(*self._top(name)) for name in TOP}
        source = self._choice(*self._top("flags"), ("local", "unleash"))
        if source == "unleash" and not (top["unleash_url"] and top["unleash_token"]):
            raise self._wrong(
                "flags", "unleash needs a server", "set FIGUEIRA_UNLEASH_URL and FIGUEIRA_UNLEASH_TOKEN"
            )
        channels, assistants = self._channels(kinds, native_keys)
        urls = {
            name: self._url(*self._top(name)) for name in ("unleash_url", "openai_base_url", "public_url")
        }
        secret = ("unleash_token", "unleash_admin_token", "broker_url", "openai_api_key")
        home = Path(top["home"] or DEFAULT_HOME)
        checked: dict[str, Any] = {
            "home": home,
            "database_url": top["database_url"],
            "flags": source,
            **urls,
            **{name: top[name] for name in secret},
            "openai_model": top["openai_model"],
            "shared": Path(top["shared"] or "../shared"),
            "trusted_proxies": self._networks(top["trusted_proxies"]),
            "log_format": self._choice(*self._top("log_format"), ("json", "console")),
            "rocketchat": self._rocketchat(channels),
            "channels": channels,
            "assistants": assistants,
            "policy": self._policy(),
            "media": self._media(home),
        }
        outside = top["database_url"] is not None
        keys = obtain(home, secret=top["secret_key"], cohort=top["cohort_key"], outside=outside)
        return Settings(keys=keys, **checked)

    def _top(self, name: str) -> tuple[str, Any]:
        """Name and value. An empty variable counts as unset: that is how compose files and shells leave one out."""
        variable = PREFIX + name.upper()
        found = self._environ.get(variable)
        return (variable, found) if found else (name, self._tree.get(name))

    def _misspelt(self) -> None:
        """A foreign FIGUEIRA_… may stand (Kubernetes adds FIGUEIRA_PORT); one letter off ours may not."""
        known = [PREFIX + name.upper() for name in (*TOP, "config")]
        for name in self._environ:
            if name.startswith(PREFIX) and name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.93)
                if close:
                    raise ConfigurationError(f"{name} in the environment: did you mean {close[0]}?")

    def _networks(self, text: str | None) -> tuple[Network, ...]:
        try:
            return tuple(
                ipaddress.ip_network(part, strict=False) for part in re.split(r"[\s,]+", text or "") if part
            )
        except ValueError:
            raise self._wrong(
                "trusted_proxies", "an address is malformed", 'write "10.0.0.0/8, ::1"'
            ) from None

    # [rocketchat], [delivery], [media] ------------------------------------------------------------------------

    def _rocketchat(self, channels: Mapping[str, Channel]) -> RocketChatSettings | None:
        if "rocketchat" not in self._tree:
            return None
        table = self._table("rocketchat", self._tree["rocketchat"])
        self._known("rocketchat.", table, {one.name for one in fields(RocketChatSettings)})
        base_url = self._url("rocketchat.base_url", table.get("base_url"))
        if base_url is None:
            raise self._wrong("rocketchat.base_url", "it is missing", "write Rocket.Chat's address")
        named = ("user_id", "auth_token", "bot_user_id", "webhook_token", "integration_token")
        texts = {name: self._text(f"rocketchat.{name}", table.get(name)) for name in named}
        sources = self._table("rocketchat.sources", table.get("sources", {}))
        places = {
            key: self._source(f"rocketchat.sources.{key}", value, channels) for key, value in sources.items()
        }
        return RocketChatSettings(base_url=base_url.rstrip("/"), sources=places, **texts)

    def _source(self, key: str, value: Any, channels: Mapping[str, Channel]) -> RoomSource:
        table = {"channel": value} if isinstance(value, str) else self._table(key, value)
        self._known(f"{key}.", table, ("channel", "department"))
        slug = self._text(f"{key}.channel", table.get("channel"))
        if slug is None or slug not in channels:
            raise self._wrong(
                key, "it names no channel", f"one of {', '.join(sorted(channels)) or '[channels.…]'}"
            )
        return RoomSource(slug, self._text(f"{key}.department", table.get("department")))

    def _policy(self) -> Policy:
        table = self._table("delivery", self._tree.get("delivery", {}))
        defaults = {one.name: one.default for one in fields(Policy)}
        self._known("delivery.", table, defaults)
        given: dict[str, Any] = {
            name: self._number(f"delivery.{name}", value) for name, value in table.items()
        }
        for name, value in given.items():
            if isinstance(defaults[name], int) and not isinstance(value, int):
                raise self._wrong(
                    f"delivery.{name}", "it must be a whole number", "write it without a fraction"
                )
        policy = Policy(**given)
        if not policy.request_timeout_seconds <= policy.permit_seconds <= policy.lease_seconds:
            raise self._wrong(
                "delivery", "a request must end within its permit, and a permit within its lease",
                "request_timeout_seconds ≤ permit_seconds ≤ lease_seconds",
            )  # fmt: skip
        return policy

    def _media(self, home: Path) -> MediaSettings:
        table = self._table("media", self._tree.get("media", {}))
        self._known("media.", table, {one.name for one in fields(MediaSettings)})
        directory = self._text("media.directory", table.get("directory"))
        return MediaSettings(
            directory=Path(directory) if directory else home / "media",
            allow_hosts=self._hosts("media.allow_hosts", table.get("allow_hosts", [])),
            s3=self._s3(table["s3"]) if "s3" in table else None,
        )

    def _hosts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise self._wrong(key, "it must be a list", 'write ["files.example:8080"]')
        hosts = tuple(str(self._text(key, one)) for one in value)
        if not all(map(_HOST.fullmatch, hosts)):
            raise self._wrong(
                key, "it holds something else than hosts", 'write "host" or "host:port", without https://'
            )
        return hosts

    def _s3(self, value: Any) -> S3Settings:
        table = self._table("media.s3", value)
        self._known("media.s3.", table, {one.name for one in fields(S3Settings)})
        named = ("bucket", "region", "access_key_id", "secret_access_key", "prefix")
        texts = {name: self._text(f"media.s3.{name}", table.get(name)) for name in named}
        endpoint = self._url("media.s3.endpoint", table.get("endpoint"))
        allow_http = table.get("allow_http", False)
        if not isinstance(allow_http, bool):
            raise self._wrong("media.s3.allow_http", "it must be true or false", "write it without quotes")
        bucket = texts.pop("bucket")
        if bucket is None:
            raise self._wrong("media.s3.bucket", "it is missing", "name the bucket, or take [media.s3] out")
        if (texts["access_key_id"] is None) != (texts["secret_access_key"] is None):
            raise self._wrong(
                "media.s3", "one of access_key_id and secret_access_key is missing", "set both or neither"
            )
        if endpoint is not None and endpoint.startswith("http:") and not allow_http:
            raise self._wrong(
                "media.s3.endpoint",
                "it is not encrypted",
                "write https://, or set media.s3.allow_http = true",
            )
        return S3Settings(bucket=bucket, endpoint=endpoint, allow_http=allow_http, **texts)

    # [channels] ----------------------------------------------------------------------------------------------

    def _channels(
        self, kinds: Collection[str], native_keys: Mapping[str, Collection[str]]
    ) -> tuple[dict[str, Channel], dict[str, str]]:
        channels: dict[str, Channel] = {}
        assistants: dict[str, str] = {}
        taken: dict[tuple[str, str], str] = {}
        for slug, value in self._table("channels", self._tree.get("channels", {})).items():
            key = f"channels.{slug}"
            table = self._table(key, value)
            channel = channels[slug] = self._channel(slug, table, kinds, native_keys)
            assistants[slug] = self._choice(
                f"{key}.assistant", table.get("assistant"), ("off", "enrich", "reply")
            )
            if channel.address is not None:
                other = taken.setdefault((channel.kind, channel.address), slug)
                if other != slug:
                    raise self._wrong(
                        f"{key}.native", f"it has the address of {other}", "one channel for one address"
                    )
        return channels, assistants

    def _channel(
        self,
        slug: str,
        table: dict[str, Any],
        kinds: Collection[str],
        native_keys: Mapping[str, Collection[str]],
    ) -> Channel:
        key = f"channels.{slug}"
        if slug == RESERVED:
            raise self._wrong(key, "the slug is reserved for Rocket.Chat's own webhook", "choose another")
        if not _SLUG.fullmatch(slug):
            raise self._wrong(
                key, "a slug has small letters, digits and inner hyphens, up to 63", "rename it"
            )
        self._known(f"{key}.", table, _CHANNEL_KEYS)
        kind = self._text(f"{key}.kind", table.get("kind"))
        if kind is None or kind not in kinds:
            raise self._wrong(f"{key}.kind", "there is no such kind", f"one of {', '.join(sorted(kinds))}")
        tenant = self._text(f"{key}.tenant", table.get("tenant"))
        if tenant is None or not _TENANT.fullmatch(tenant) or tenant == "all":
            raise self._wrong(
                f"{key}.tenant",
                "every channel belongs to a tenant",
                'write tenant = "clinica-sol" ("all" is taken)',
            )
        rocketchat = self._table(f"{key}.rocketchat", table.get("rocketchat", {}))
        self._known(f"{key}.rocketchat.", rocketchat, ("webhook_url",))
        native = self._table(f"{key}.native", table.get("native", {}))
        if kind in native_keys:
            self._known(f"{key}.native.", native, native_keys[kind])
        return Channel(
            slug=slug,
            kind=kind,
            tenant=tenant,
            native={name: self._native(f"{key}.native.{name}", value) for name, value in native.items()},
            webhook_url=self._url(f"{key}.rocketchat.webhook_url", rocketchat.get("webhook_url")),
            on_rocketchat_down=self._choice(
                f"{key}.on_rocketchat_down", table.get("on_rocketchat_down"), ("hold", "native")
            ),
            first_contact=self._choice(f"{key}.first_contact", table.get("first_contact"), ("pin", "native")),
            idle_hours=self._number(f"{key}.idle_hours", table.get("idle_hours", 24)),
        )

    def _native(self, key: str, value: Any) -> str:
        """Adapters get texts: a list is joined by spaces, true is "true", 587 is "587"."""
        if isinstance(value, list):
            return " ".join(self._native(key, one) for one in value)
        if isinstance(value, bool):
            return str(value).lower()
        found = self._text(key, str(value) if isinstance(value, int | float) else value)
        if found is None:
            raise self._wrong(key, "it is empty", "leave it out or give it a value")
        return found
