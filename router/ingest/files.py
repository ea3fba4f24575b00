"""The files that messages bring along: one row each, and the job that fetches it."""

from collections.abc import Sequence
from datetime import datetime

from router.domain.ids import Ids
from router.domain.job import fetch_job
from router.domain.media import Media, Origin
from router.domain.message import Attachment, Message
from router.domain.ports import Tx

MOST = 10
"""Files of one message that are looked at."""


async def keep_files(
    tx: Tx, ids: Ids, message: Message, files: Sequence[Attachment], origin: Origin, until: datetime | None
) -> None:
    """Note a message's files and have each fetched in a lane of its own: nothing waits for them. `until`: when the other
    side forgets them."""
    for file in files[:MOST]:
        media = Media(
            ids.new(), message.tenant, message.channel, origin, file.ref, message.created_at, message_id=message.id,
            mime=file.mime, name=file.name, size=file.size, sha256=file.sha256, expires_at=until,
        )  # fmt: skip
        await tx.add_media(media)
        await tx.add_job(fetch_job(ids.new(), media, message.created_at))
