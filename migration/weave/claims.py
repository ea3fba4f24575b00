"""What live traffic has already: a message of Rocket.Chat's gives its `_id` to the row that says the same."""

from collections.abc import Sequence
from dataclasses import replace

from router.domain.channel import Channel
from router.domain.ports import RoomInfo, RoomMessage, Tx
from router.ingest.homes import Place
from router.ingest.rooms import Rooms
from router.ingest.statuses import CLAIM_SPAN


class Claims(Rooms):
    """The claim of webhook and sweep, for the import: nothing is inserted here."""

    async def claim(self, tx: Tx, channel: Channel, info: RoomInfo, said: Sequence[RoomMessage]) -> int:
        """How many rows got their `_id`."""
        room = await tx.room(info.room_id)
        aliases = self._webhook.aliases(channel, info)
        identities = list(
            {found.id: found for _, found in await tx.identities(channel.tenant, aliases)}.values()
        )
        claimed = 0
        for one in said:
            if one.sent_at is None or one.closing:
                continue
            place = Place(channel, room, None, one.sent_at + CLAIM_SPAN)
            if await self._known(tx, place, one, []):
                continue
            for identity in identities:
                _, same = await self._earlier(tx, place, identity, one, one.sent_at)
                if same is not None:
                    known = replace(same, source_id=one.source_id, matched_by="digest")
                    await tx.save_message(known)
                    await self._again(tx, place, known, one)
                    claimed += 1
                    break
        return claimed
