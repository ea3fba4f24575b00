from collections.abc import Iterator

import pytest

from tests.contract.prism.prism import Prisms, Witness


@pytest.fixture(scope="session")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prisms]:
    """`prism("channels/x.yaml")`: the address of a Prism for that shared contract, started when first asked for."""
    prisms = Prisms(tmp_path_factory.mktemp("prism"))
    yield prisms
    prisms.stop()


@pytest.fixture
def witness() -> Witness:
    return Witness()
