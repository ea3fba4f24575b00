"""The list of conversations by last activity, per tenant: an index, made while traffic goes on."""

from alembic import op

from router.storage.upgrades.rights import run

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # A concurrent build cut short leaves an invalid index of that name behind.
        run("""
drop index concurrently if exists conversations_recent

create index concurrently conversations_recent on conversations (tenant_id, last_at, id)""")
