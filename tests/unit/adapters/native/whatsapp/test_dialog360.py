import base64
import hashlib
import hmac

import pytest

from adapters.native.whatsapp import WhatsApp
from router.domain.channel import Channel
from router.domain.ports import Kind

KIND: Kind = WhatsApp()
SECRET, TOKEN = "segredo-da-plataforma", "combinado-é-caro"
BODY = b'{"contacts":[],"messages":[]}'
META, DIALOG, OURS = b"x-hub-signature-256", b"x-360dialog-signature", b"X-Figueira-Token"


def number(**native: str) -> Channel:
    return Channel("zap", "whatsapp", "sol", {"provider": "360dialog", **native})


def signed(secret: str = SECRET, body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def hexed(secret: str = SECRET, body: bytes = BODY) -> bytes:
    return signed(secret, body).hex().encode()


def test_vector_of_another_implementation() -> None:
    # printf '%s' '{"statuses":[]}' | openssl dgst -sha256 -hmac segredo-da-plataforma
    value = b"7e3660fa94cba932e6a6bf34082eeb68e611c96f40bf6b9df70c842457e70c48"
    assert KIND.verify(number(app_secret=SECRET), [(DIALOG, value)], b'{"statuses":[]}')


@pytest.mark.parametrize(
    "value",
    [
        hexed(),
        hexed().upper(),
        base64.b64encode(signed()),
        b"sha256=" + hexed(),
        b"sha256=" + base64.b64encode(signed()),
    ],
)
def test_its_signature_in_every_writing(value: bytes) -> None:
    channel = number(app_secret=SECRET)
    assert KIND.verify(channel, [(b"X-360dialog-Signature", value)], BODY)
    assert not KIND.verify(channel, [(DIALOG, value)], BODY + b" ")
    assert not KIND.verify(channel, [(DIALOG, value[:-1])], BODY)
    assert not KIND.verify(number(app_secret="outro"), [(DIALOG, value)], BODY)
    assert not KIND.verify(number(), [(DIALOG, value)], BODY)
    assert not KIND.verify(number(app_secret=SECRET), [(b"x-other", value)], BODY)
    # Meta's numbers are signed by Meta: the same digest under the other name is no proof.
    cloud = Channel("zap", "whatsapp", "sol", {"app_secret": SECRET})
    assert not KIND.verify(cloud, [(DIALOG, value)], BODY)


def test_the_header_set_with_the_webhook() -> None:
    channel = number(webhook_token=TOKEN)
    assert KIND.verify(channel, [(OURS, TOKEN.encode())], BODY)
    for wrong in (b"", TOKEN.encode()[:-1], TOKEN.upper().encode(), b"combinado"):
        assert not KIND.verify(channel, [(OURS, wrong)], BODY)
    assert not KIND.verify(number(webhook_token=""), [(OURS, b"")], BODY)
    assert not KIND.verify(number(), [(OURS, b"")], BODY)
    cloud = Channel("zap", "whatsapp", "sol", {"webhook_token": TOKEN})
    assert not KIND.verify(cloud, [(OURS, TOKEN.encode())], BODY)


def test_metas_signature_serves_too() -> None:
    channel = number(app_secret=SECRET, webhook_token=TOKEN)
    assert KIND.verify(channel, [(META, b"sha256=" + hexed())], BODY)
    assert not KIND.verify(channel, [(META, hexed())], BODY)
    assert not KIND.verify(channel, [], BODY)


def test_a_number_that_was_moved_is_believed_in_both_voices() -> None:
    moved = Channel("zap", "whatsapp", "sol", {"app_secret": SECRET, "previous_app_secret": "antigo"})
    assert KIND.verify(moved, [(META, b"sha256=" + hexed("antigo"))], BODY)
    assert KIND.verify(moved, [(DIALOG, hexed("antigo"))], BODY)
    assert not KIND.verify(moved, [(DIALOG, hexed())], BODY)


def test_whoever_we_left_speaks_of_its_number_only() -> None:
    native = {"app_secret": SECRET, "previous_app_secret": "antigo", "previous_phone_number_id": "699"}
    moved = Channel("zap", "whatsapp", "sol", {**native, "phone_number_id": "700"})
    for phone, believed in (("699", True), ("700", True), ("800", False)):
        body = about(phone)
        assert KIND.verify(moved, [(META, b"sha256=" + hexed("antigo", body))], body) is believed
        assert KIND.verify(moved, [(META, b"sha256=" + hexed(SECRET, body))], body)


OTHER = b'{"messages":[{"id":"1"}]}'


@pytest.mark.parametrize(
    ("old", "renewed"),
    [
        (hexed(), hexed(body=OTHER)),
        (hexed().upper(), hexed(body=OTHER).upper()),
        (b"sha256=" + hexed(), b"sha256=" + hexed(body=OTHER)),
        (base64.b64encode(signed()), base64.b64encode(signed(body=OTHER))),
    ],
)
def test_signing_again_as_it_was_written(old: bytes, renewed: bytes) -> None:
    channel = number(app_secret=SECRET)
    headers = [(b"accept", b"*/*"), (b"X-360Dialog-Signature", old), (META, b"sha256=old"), (OURS, b"t")]
    again = KIND.resign(channel, headers, OTHER)
    assert again == (
        (b"accept", b"*/*"),
        (b"X-360Dialog-Signature", renewed),
        (META, b"sha256=" + hexed(body=OTHER)),
        (OURS, b"t"),
    )
    assert KIND.verify(channel, again[1:2], OTHER)
    assert KIND.verify(channel, again[2:3], OTHER)
    assert KIND.resign(number(webhook_token=TOKEN), headers, OTHER) == tuple(headers)


def about(phone: str) -> bytes:
    return (
        f'{{"entry":[{{"changes":[{{"value":{{"metadata":{{"phone_number_id":"{phone}"}}}}}}]}}]}}'.encode()
    )


def test_what_the_earlier_provider_sends_is_signed_with_its_secret() -> None:
    native = {"app_secret": SECRET, "previous_app_secret": "antigo", "previous_phone_number_id": "699"}
    moved = Channel("zap", "whatsapp", "sol", {**native, "phone_number_id": "700"})
    for phone, secret in (("699", "antigo"), ("700", SECRET)):
        again = KIND.resign(moved, [(META, b"sha256=old"), (DIALOG, b"old")], about(phone))
        digest = signed(secret, about(phone))
        assert again == (
            (META, b"sha256=" + digest.hex().encode()),
            (DIALOG, base64.b64encode(digest)),
        )


def test_handshake() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "v", "hub.challenge": "42"}
    assert KIND.handshake(number(verify_token="v"), query) == "42"
    assert KIND.handshake(number(), query) is None


def test_either_secret_makes_a_channel_divisible() -> None:
    assert number(webhook_token=TOKEN).can_divide
    assert number(app_secret=SECRET).can_divide
    assert not number(api_key="k").can_divide
