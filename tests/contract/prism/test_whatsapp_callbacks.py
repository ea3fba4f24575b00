"""Where the providers post: what we read and set, before their specifications.

Not in any of them: the app's own subscriptions (`/{app-id}/subscriptions`), a route of the Graph API at large.
Meta's file has some fifteen things behind `/{Version}/{id}`, and judges a number's settings as one of the others
would want them; the slim file keeps a single one.
"""

import pytest

from adapters.native.callbacks import APP, NUMBER, WABA, WhatsAppCallbacks
from router.domain.job import Outcome
from router.domain.ports import Callback
from tests.contract.prism.prism import Prisms, Witness, open_client
from tests.contract.prism.sends import NUMBER as NUMBER_ID
from tests.contract.prism.sends import channel
from tests.contract.prism.test_whatsapp_sends import DIALOG, META, SLIM

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prism")]
THEIRS = "https://chat.example/webhook"
OURS = "https://figueira.example/webhooks/zap"
_NUMBER = f"/v23.0/{NUMBER_ID}"
_WABA = "/v23.0/102290129340398/subscribed_apps"


async def test_meta(prism: Prisms, witness: Witness) -> None:
    asked = channel(f"{prism(SLIM)}/v23.0")
    async with open_client(witness) as client:
        callbacks = WhatsAppCallbacks(client)
        assert list(callbacks.levels(asked)) == [NUMBER, WABA]
        result, _ = await callbacks.show(asked)
        assert result.outcome is Outcome.OK
        for level in (NUMBER, WABA):
            assert (await callbacks.set(asked, level, OURS)).outcome is Outcome.OK
            assert (await callbacks.restore(asked, Callback(level, THEIRS))).outcome is Outcome.OK
        assert (await callbacks.restore(asked, Callback(WABA, None))).outcome is Outcome.OK
    reads = [f"GET {_NUMBER}", f"GET {_WABA}"]
    witness.assert_allowed(*reads, *[f"POST {_NUMBER}"] * 2, *[f"POST {_WABA}"] * 3)


async def test_the_account_in_metas_own_file(prism: Prisms, witness: Witness) -> None:
    asked = channel(f"{prism(META)}/v23.0")
    async with open_client(witness) as client:
        callbacks = WhatsAppCallbacks(client)
        assert (await callbacks.show(asked))[0].outcome is Outcome.OK
        assert (await callbacks.set(asked, WABA, OURS)).outcome is Outcome.OK
        for before in (THEIRS, None):
            assert (await callbacks.restore(asked, Callback(WABA, before))).outcome is Outcome.OK
    witness.assert_allowed(f"GET {_NUMBER}", f"GET {_WABA}", *[f"POST {_WABA}"] * 3)


async def test_an_empty_address_clears_the_number_whatever_the_file_says(
    prism: Prisms, witness: Witness
) -> None:
    """An empty text is what clears it at Meta. The file wants an address there: its only complaint."""
    asked = channel(f"{prism(SLIM)}/v23.0")
    async with open_client(witness) as client:
        await WhatsAppCallbacks(client).restore(asked, Callback(NUMBER, None))
    (verdict,) = witness.verdicts
    assert (verdict.call, len(verdict.wrong)) == (f"POST {_NUMBER}", 1)
    assert verdict.wrong[0].endswith('override_callback_uri must match format "uri"')


async def test_360dialog(prism: Prisms, witness: Witness) -> None:
    base = prism(DIALOG)
    asked = channel(base, "360dialog")
    asked = type(asked)("zap", "whatsapp", "sol", {**asked.native, "webhook_token": "palavra-nossa"})
    async with open_client(witness) as client:
        callbacks = WhatsAppCallbacks(client)
        result, _ = await callbacks.show(asked)
        assert result.outcome is Outcome.OK
        assert (await callbacks.set(asked, NUMBER, OURS)).outcome is Outcome.OK
        before = Callback(NUMBER, THEIRS, {"headers": {"X-Old": "1"}})
        assert (await callbacks.restore(asked, before)).outcome is Outcome.OK
    witness.assert_allowed("GET /v1/configs/webhook", *["POST /v1/configs/webhook"] * 2)


async def test_the_apps_own_level_is_in_no_specification(prism: Prisms, witness: Witness) -> None:
    """Should a newer file know it, this fails: then test it above."""
    asked = channel(f"{prism(META)}/v23.0")
    asked = type(asked)("zap", "whatsapp", "sol", {**asked.native, "app_id": "987654321"})
    async with open_client(witness) as client:
        await WhatsAppCallbacks(client).set(asked, APP, OURS)
    assert [verdict.call for verdict in witness.verdicts] == ["GET /v23.0/987654321/subscriptions"]
    assert witness.verdicts[0].wrong
