"""WhatsApp's media API before its specifications.

Meta's own file answers `GET /{Version}/{Media-ID}` as one of the fifteen things it has behind that path, so what comes
back is no media; the slim one keeps the path for media.
"""

from collections.abc import Sequence

import httpx
import pytest

from adapters.files.exchange import FileExchange
from router.domain.channel import Channel
from router.domain.job import Outcome
from router.domain.media import Origin
from tests.contract.prism.kept import Kept, picture
from tests.contract.prism.prism import Prisms, Witness, open_client
from tests.contract.prism.sends import NUMBER, channel
from tests.contract.prism.test_whatsapp_sends import DIALOG, META, SLIM

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prism")]


async def here_only(host: str, port: int) -> Sequence[str]:
    """No test goes out into the world."""
    if host != "127.0.0.1":
        raise OSError(host, port)
    return [host]


def exchange(client: httpx.AsyncClient, store: Kept) -> FileExchange:
    return FileExchange(client, store, rocketchat=None, limit=1024 * 1024, seconds=10, resolve=here_only)


@pytest.mark.parametrize(
    ("name", "prefix", "provider"),
    [(SLIM, "/v23.0", "cloud"), (META, "/v23.0", "cloud"), (DIALOG, "", "360dialog")],
)
async def test_an_upload(prism: Prisms, witness: Witness, name: str, prefix: str, provider: str) -> None:
    asked = channel(prism(name) + prefix, provider)
    async with open_client(witness) as client:
        result = await exchange(client, Kept()).upload("native", asked, picture(), None)
    witness.assert_allowed(f"POST {prefix}/{NUMBER}/media" if prefix else "POST /media")
    assert result.outcome is Outcome.OK
    assert result.external_id


@pytest.mark.parametrize("name", [SLIM, META])
async def test_asking_for_the_address_of_a_file(prism: Prisms, witness: Witness, name: str) -> None:
    asked = channel(f"{prism(name)}/v23.0")
    async with open_client(witness) as client:
        await exchange(client, Kept()).fetch(asked, picture(Origin.PROVIDER, "1013859600285441"))
    witness.assert_allowed("GET /v23.0/1013859600285441")


async def test_a_file_of_360dialog_is_fetched_through_it(prism: Prisms, witness: Witness) -> None:
    asked: Channel = channel(prism(DIALOG), "360dialog")
    async with open_client(witness) as client:
        await exchange(client, Kept()).fetch(asked, picture(Origin.PROVIDER, "1013859600285441"))
    witness.assert_allowed("GET /1013859600285441", "GET /whatsapp_business/attachments/")
