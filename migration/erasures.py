"""Who was erased, asked before a document is kept: the same tombstones that the one resolver asks."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from migration.weave.places import Places
from router.domain.channel import Channel
from router.domain.message import Alias
from router.domain.ports import RoomInfo, RoomWebhook, Tx
from router.storage.postgres.store import PostgresStore


class Erasures:
    """Asks for rooms and visitors. A visitor's document names no channel: every tenant's tombstones are asked."""

    def __init__(
        self, store: PostgresStore, webhook: RoomWebhook, channels: Mapping[str, Channel], places: Places
    ) -> None:
        self._store = store
        self._webhook = webhook
        self._places = places
        # How an address is looked up follows from tenant and kind alone.
        self._every = tuple(
            {(each.tenant, each.kind == "whatsapp"): each for each in channels.values()}.values()
        )

    async def of(self, infos: Sequence[RoomInfo]) -> Sequence[datetime | None]:
        """For each, when its person was erased; None: never."""
        asked = [self._addresses(info) for info in infos]

        async def read(tx: Tx) -> list[datetime | None]:
            return [await _latest(tx, addresses) for addresses in asked]

        return await self._store.transact(read) if await self._any() else [None] * len(infos)

    async def _any(self) -> bool:
        return await self._store.weave(lambda tx: tx.any_erased())

    def _addresses(self, info: RoomInfo) -> list[tuple[str, tuple[Alias, ...]]]:
        if info.visitor_token_digest is None and not info.visitor_phones:
            return []
        placed = self._places.of(info) if info.room_id else None
        channels = (placed,) if placed is not None else self._every
        return [(channel.tenant, self._webhook.aliases(channel, info)) for channel in channels]


async def _latest(tx: Tx, addresses: Sequence[tuple[str, tuple[Alias, ...]]]) -> datetime | None:
    found = [await tx.erased_at(tenant, aliases) for tenant, aliases in addresses]
    return max((at for at in found if at is not None), default=None)
