"""The desk: everything the acts of people and programs need, put together once by the composition root."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from flags.ports import FlagStore
from router.delivery.compose import Compose
from router.domain.channel import EVERY_TENANT, Channel
from router.domain.errors import Rejected, StaleFlags
from router.domain.ids import Ids
from router.domain.policy import MIB
from router.domain.ports import Callbacks, Clock, FileStore, Kind, Meter, RocketChatAdmin, Tx
from router.facade import Facade
from router.ingest import Sweep
from router.storage.postgres import PostgresStore

if TYPE_CHECKING:
    from router.control.imports import History

T = TypeVar("T")
LearnRooms = Callable[[bool], Awaitable[Mapping[str, int]]]
"""Learn Rocket.Chat's open rooms and pin them; True: only count them. {"rooms", "pinned", "unplaced"}; raises Rejected
when Rocket.Chat does not tell them all."""
FLAG_TRIES = 3
"""How often an act is run again after StaleFlags."""


class Secrets(Protocol):
    """The derived keys an act may need (router.settings.keys.Keys has them)."""

    @property
    def api_key_pepper(self) -> bytes: ...
    @property
    def session(self) -> bytes: ...
    @property
    def audit(self) -> bytes: ...
    @property
    def cohort(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What an act works with. `channels` by slug, `kinds` the register by name."""

    store: PostgresStore
    flags: FlagStore
    facade: Facade
    compose: Compose
    channels: Mapping[str, Channel]
    kinds: Mapping[str, Kind]
    ids: Ids
    clock: Clock
    meter: Meter
    secrets: Secrets
    files: FileStore | None = None
    admin: RocketChatAdmin | None = None  # None: no REST access to Rocket.Chat is configured
    callbacks: Mapping[str, Callbacks] = field(default_factory=dict)  # by kind
    learn_rooms: LearnRooms | None = None  # None: no REST access to Rocket.Chat is configured
    sweep: Sweep | None = None  # likewise
    history: "History | None" = None  # imports of Rocket.Chat's history; None: nobody looks at them here
    public_url: str | None = None
    media_limit_bytes: int = 100 * MIB

    def pseudonym(self, text: str) -> str:
        """Keyed digest (32 hex digits) that stands in the audit log for a person's address or words."""
        return hmac.digest(self.secrets.audit, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[
            :32
        ]

    async def decided(self, work: Callable[[Tx], Awaitable[T]], *, tenant: str | None = None) -> T:
        """Run `work` in a transaction; flags that are too old are loaded again, up to three times."""
        for _ in range(FLAG_TRIES):
            try:
                return await self.store.transact(work, tenant=tenant)
            except StaleFlags:
                await self.facade.refresh()
        return await self.store.transact(work, tenant=tenant)


def every(tenant: str | None) -> bool:
    """Whether a caller may see all tenants."""
    return tenant in (None, EVERY_TENANT)


def same_tenant(name: str | None) -> str:
    """How a tenant is kept: `all` and nothing are "*". Raises Rejected for what cannot be a name."""
    if name in (None, "all", EVERY_TENANT):
        return EVERY_TENANT
    if not name or not name.isprintable() or " " in name:
        raise Rejected("invalid_tenant", "a tenant is a name without spaces, or all")
    return name


def id_of(text: UUID | str, code: str, what: str) -> UUID:
    """An id as given in a URL or on a command line. Raises Rejected(code, 404): no such thing has that id."""
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except ValueError:
        raise Rejected(code, f"no such {what}", 404) from None


def stamp(at: datetime | None) -> str | None:
    """ISO 8601, UTC."""
    return at.isoformat() if at is not None else None
