"""Files of messages, as the API shows them: without the `ref` they are fetched by, which may hold a signature."""

from uuid import UUID

from router.domain.ports import Tx
from router.storage.queries.link import Row, row


async def media(tx: Tx, media_id: UUID) -> Row | None:
    """One. `sha256` names its bytes in the file store once `state` is stored."""
    return await row(
        tx,
        "select id, tenant_id as tenant, channel, message_id, origin, state, mime, name, size, sha256, created_at,"
        " expires_at, stored_at, error_code from media where id = $1",
        media_id,
    )
