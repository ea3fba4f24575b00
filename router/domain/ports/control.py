"""What the acts of people and programs need of the edges: files, Rocket.Chat's settings and users, callbacks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.domain.channel import Channel
from router.domain.job import Result
from router.domain.media import Stored


class FileStore(Protocol):
    """Bytes by their SHA-256, on this machine or in S3."""

    async def save(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        """Keep them; `limit` in bytes. Raises Rejected `too_large` (413) or `empty_file` (422)."""
        ...

    def open(self, sha256: str) -> AsyncIterator[bytes]:
        """Their chunks. Raises LookupError when there are none."""
        ...

    async def delete(self, sha256: str) -> None:
        """Drop them; no effect when there are none. For whoever knows that no row names them any more."""
        ...


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a provider posts, at one of its levels (Meta: number, waba, app; 360dialog: number; others: bot, account).
    `url` None: nothing is set there, the next level serves. `settings`: what else is needed to set it again. `of`: the
    provider's id of the number, account or app whose level it is: what is kept of one is nothing to another."""

    level: str
    url: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    of: str = ""


class Callbacks(Protocol):
    """One kind's callbacks at its provider."""

    def levels(self, channel: Channel) -> Sequence[str]:
        """The levels that can be set with this channel's settings, the narrowest first."""
        ...

    def missing(self, channel: Channel) -> Sequence[str]:
        """The native settings it lacks for what is posted to us to be believed, and for this to be set."""
        ...

    def mend(self, code: str) -> str:
        """What to do about a Result's code; "" where nothing better is known than to look it up."""
        ...

    async def reaches(self, channel: Channel, url: str) -> Result:
        """Call `url`, which is to be our own, as the provider would before it posts there. OK: it is."""
        ...

    async def show(self, channel: Channel) -> tuple[Result, Sequence[Callback]]:
        """What is set now, the narrowest level first: the first with an address serves."""
        ...

    async def set(self, channel: Channel, level: str, url: str) -> Result:
        """Let the provider post to `url`."""
        ...

    async def restore(self, channel: Channel, previous: Callback) -> Result:
        """Set a level back to what `show` said of it before."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Rocket.Chat does not do something for us, typed. `code`: two_factor, licence_limit, forbidden, unauthorized,
    rate_limited, unreachable, invalid, identity_taken, not_a_patient."""

    code: str
    detail: str


NOT_THEIRS = Refusal(
    "identity_taken",
    "Rocket.Chat has a user with this e-mail that is not known to be this id_user's: who runs the router decides",
)
"""The same words whosever it is: nobody learns whom another clinic has told of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `figueira rocketchat check`. `ok` None: it cannot be seen from here. `mend`: what to do about it."""

    name: str
    ok: bool | None
    seen: str
    mend: str = ""


class RocketChatAdmin(Protocol):
    """Rocket.Chat's settings and users."""

    async def check(self, webhook_url: str | None) -> Sequence[Finding]:
        """Version, rights, webhook settings, integration, limits. Raises nothing."""
        ...

    async def standing(self) -> Mapping[str, Any] | None:
        """What the webhook is set to now, without its secret; None when that cannot be read."""
        ...

    async def setup(self, webhook_url: str, *, dry_run: bool, replace: bool = False) -> Sequence[Finding]:
        """Set what `check` would complain of, as far as REST can; what was done or would be. A webhook that calls
        somebody else is left alone unless `replace`."""
        ...

    async def create_user(self, *, name: str, email: str, username: str, adopt: bool = True) -> str | Refusal:
        """The id of the user with this e-mail, made when there is none. Without `adopt` one that was there is
        identity_taken, unless it has the user name we would give. not_a_patient: it may do more than one."""
        ...
