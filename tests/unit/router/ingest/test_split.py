"""Whose event is it: what one clinic's address receives stays that clinic's."""

from router.domain.channel import Channel
from tests.simulation.payloads import SECRET, meta, said
from tests.unit.router.heart import ANA, Heart


def _two(**native: str) -> Heart:
    return Heart(
        {
            slug: Channel(
                slug, "whatsapp", tenant, {"phone_number_id": number, **native}, "http://rc.invalid/app"
            )
            for slug, tenant, number in (("sol", "sol", "100"), ("lua", "lua", "200"))
        }
    )


async def test_who_holds_one_clinics_token_writes_into_no_other_clinics_conversations() -> None:
    heart = _two(provider="360dialog", webhook_token="um-segredo-do-sol")
    await heart.accept(meta("200", [said(ANA, "wamid.1", "oi", 0)], 1), "sol")
    assert not heart.messages
    assert ("events_total", 1, ("sol", "whatsapp", "unrouted")) in heart.meter.facts


async def test_an_event_signed_with_the_secret_of_both_goes_to_the_number_it_names() -> None:
    heart = _two(app_secret=SECRET)
    await heart.accept(meta("200", [said(ANA, "wamid.1", "oi", 0)], 1), "sol")
    assert [message.channel for message in heart.messages] == ["lua"]
