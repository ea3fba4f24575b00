"""Settings from FIGUEIRA_* and figueira.toml, checked whole before anything starts.

A value of the environment wins over the same one in the file (`FIGUEIRA_PUBLIC_URL`: `public_url`). Any text in the
file may be written `env:NAME` or `file:/path`. Secrets stand in fields without a repr, and no message here repeats a
value that may be one: it names the key, the file and the mend.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from router.settings.keys import PREFIX, Keys
from router.settings.model import MediaSettings, Network, RocketChatSettings, RoomSource, S3Settings, Settings
from router.settings.reader import DEFAULT_HOME, Reader

NAME: Final = "figueira.toml"

__all__ = [
    "Keys",
    "MediaSettings",
    "Network",
    "RocketChatSettings",
    "RoomSource",
    "S3Settings",
    "Settings",
    "load",
]


def load(
    environ: Mapping[str, str],
    config: Path | None,
    *,
    kinds: Collection[str],
    native_keys: Mapping[str, Collection[str]] | None = None,
) -> Settings:
    """Read, resolve, check. `config` None: FIGUEIRA_CONFIG, else ./figueira.toml, else figueira.toml in
    FIGUEIRA_HOME (`make run` writes that one), where there is one.

    `kinds` is the register's list; `native_keys` says per kind which keys `[channels.<slug>.native]` may have (a
    kind that is not in it takes any). Keys that are not set are made once in `home`, 0600, unless the database is an
    outside one. Raises ConfigurationError.
    """
    return Reader(environ, _config_path(environ, config)).settings(kinds, native_keys or {})


def _config_path(environ: Mapping[str, str], config: Path | None) -> Path | None:
    named = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    if named is not None:
        return named
    home = Path(environ.get(PREFIX + "HOME") or DEFAULT_HOME)
    return next((path for path in (Path(NAME), home / NAME) if path.is_file()), None)
