from router.storage.revision import newest
from router.storage.upgrade import head


def test_the_quick_answer_is_alembics() -> None:
    assert newest() == head()
