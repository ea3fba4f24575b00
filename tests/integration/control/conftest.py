import pytest

from router.control.desk import Desk
from router.storage.postgres import PostgresStore
from tests.integration.control.desk_scene import make_desk


@pytest.fixture
async def desk(postgres_store: PostgresStore) -> Desk:
    return await make_desk(postgres_store)
