"""The installation's two secrets: given, or made once on this machine."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from router.domain.errors import ConfigurationError

PREFIX: Final = "FIGUEIRA_"
SECRET_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """The installation's two secrets and what is derived from them. Nothing of it has a repr."""

    secret: bytes = field(repr=False)
    cohort: bytes = field(repr=False)
    """Keys the flag's stickiness. A new one would deal every contact anew, so it never follows `secret`."""

    def derive(self, label: str) -> bytes:
        """32 bytes for one purpose (HKDF-SHA256, RFC 5869, one block; `label` is its info)."""
        root = hmac.digest(b"figueira", self.secret, hashlib.sha256)
        return hmac.digest(root, label.encode() + b"\x01", hashlib.sha256)

    @property
    def tombstone(self) -> bytes:
        """Keys the digests of erased addresses."""
        return self.derive("tombstone")

    @property
    def api_key_pepper(self) -> bytes:
        """Keys the stored digests of API keys."""
        return self.derive("api-key")

    @property
    def session(self) -> bytes:
        """Signs the console's session cookies."""
        return self.derive("session")

    @property
    def audit(self) -> bytes:
        """Keys the digests that stand for people in the audit log."""
        return self.derive("audit")


def obtain(home: Path, *, secret: str | None, cohort: str | None, outside: bool) -> Keys:
    """The keys as given; one that is not given is made once in `home` (0600), unless the database is an outside
    one. Raises ConfigurationError."""
    found: list[bytes] = []
    for name, value, least in (("secret_key", secret, SECRET_LENGTH), ("cohort_key", cohort, 1)):
        if value is None and outside:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()} is not set, and the database is an outside one: a key made here would be "
                f'lost with this machine; set it once and keep it (python3 -c "import secrets; '
                f'print(secrets.token_hex(32))")'
            )
        text = value or _made_once(home, name)
        if len(text) < least:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}: it has fewer than {least} characters; make a longer one"
            )
        found.append(text.encode())
    return Keys(*found)


def _made_once(home: Path, name: str) -> str:
    """The key in `home`, made when it is not there. Of two processes starting together one makes it."""
    path = home / name
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _link_new(path, secrets.token_hex(SECRET_LENGTH))
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{path} cannot be made or read: set {PREFIX}{name.upper()}, or let {home} be writable"
        ) from None


def _link_new(path: Path, text: str) -> None:
    """Whole or not at all, and never over an existing one: a hard link refuses where rename would replace."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()
