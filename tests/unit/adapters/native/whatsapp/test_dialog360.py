import base64
import hashlib
import hmac
import json

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
    body = about("700")
    for secrets in (
        {"app_secret": SECRET, "previous_app_secret": "antigo"},
        {"previous_app_secret": "antigo"},
    ):
        moved = Channel("zap", "whatsapp", "sol", {**secrets, "phone_number_id": "700"})
        assert KIND.verify(moved, [(META, b"sha256=" + hexed("antigo", body))], body)
        assert KIND.verify(moved, [(DIALOG, hexed("antigo", body))], body)
        assert not KIND.verify(moved, [(DIALOG, hexed(SECRET, body))], body)


def test_whoever_we_left_speaks_of_its_number_only() -> None:
    native = {"app_secret": SECRET, "previous_app_secret": "antigo", "previous_phone_number_id": "699"}
    moved = Channel("zap", "whatsapp", "sol", {**native, "phone_number_id": "700"})
    for phone, believed in (("699", True), ("700", True), ("800", False)):
        body = about(phone)
        assert KIND.verify(moved, [(META, b"sha256=" + hexed("antigo", body))], body) is believed
        assert KIND.verify(moved, [(META, b"sha256=" + hexed(SECRET, body))], body)


MOVED = {"phone_number_id": "700", "app_secret": SECRET, "previous_phone_number_id": "699"}


def flat(phone: str | None, **lists: object) -> dict[str, object]:
    return {**({"metadata": {"phone_number_id": phone}} if phone else {}), **lists}


def enveloped(*values: object) -> dict[str, object]:
    return {"entry": [{"id": "1", "changes": [{"field": "messages", "value": value} for value in values]}]}


SAID, TOLD = (
    {"messages": [{"id": "wamid.1", "type": "text"}]},
    {"statuses": [{"id": "wamid.1", "status": "read"}]},
)


@pytest.mark.parametrize(
    ("document", "by_secret", "by_token"),
    [
        (flat("700", **SAID), True, True),
        (flat("699", **TOLD), True, True),
        (flat("800", **SAID), False, False),
        (flat("800", **TOLD), False, False),
        (enveloped(flat("699", **SAID)), True, True),
        (enveloped(flat("699", **SAID), flat("700", **TOLD)), True, True),
        (enveloped(flat("699", **SAID), flat("800", **SAID)), False, False),
        # A change that names no number may be of any.
        (enveloped(flat("699", **SAID), SAID), False, False),
        (enveloped(TOLD), False, False),
        ({"entry": [{"id": "1", "changes": []}, *enveloped(flat("699"))["entry"]]}, False, False),  # type: ignore[misc]
        ({"entry": []}, False, False),
        # What is read is the envelope, whatever else stands beside it.
        ({**flat("699"), **enveloped(SAID)}, False, False),
        ({**flat("699", **SAID), "entry": {}}, True, True),
        # The token was this number's alone; flat statuses find a message of ours by its id, or none.
        (flat(None, **TOLD), False, True),
        (flat(None, **TOLD, contacts=[], messages=[]), False, True),
        (flat(None, **SAID), False, False),
        (flat(None, **TOLD, **SAID), False, False),
        (flat(None, **TOLD, message_echoes=[{}]), False, False),
        (flat(None, **TOLD, user_id_update={"0": 1}), False, False),
        ({**flat(None, **TOLD), "metadata": {"phone_number_id": None}}, False, True),
        ({**flat(None, **TOLD), **enveloped(SAID)}, False, False),
        (flat(None, statuses=[]), False, False),
        ({}, False, False),
        ([], False, False),
    ],
)
def test_what_whoever_we_left_may_say(document: object, by_secret: bool, by_token: bool) -> None:
    body = json.dumps(document).encode()
    for provider in ("cloud", "360dialog"):
        native = {
            **MOVED,
            "provider": provider,
            "previous_app_secret": "antigo",
            "previous_webhook_token": TOKEN,
        }
        moved = Channel("zap", "whatsapp", "sol", native)
        assert KIND.verify(moved, [(META, b"sha256=" + hexed("antigo", body))], body) is by_secret
        assert KIND.verify(moved, [(DIALOG, hexed("antigo", body))], body) is by_secret
        assert KIND.verify(moved, [(OURS, TOKEN.encode())], body) is by_token
        assert not KIND.verify(moved, [(OURS, b"antigo")], body)
        assert not KIND.verify(moved, [], body)
        # Where no number is known, nobody's word can be compared with it.
        unknown = Channel(
            "zap", "whatsapp", "sol", {**native, "phone_number_id": "", "previous_phone_number_id": ""}
        )
        assert not KIND.verify(unknown, [(META, b"sha256=" + hexed("antigo", body))], body)


@pytest.mark.parametrize("token", ["", None])
def test_no_token_of_an_earlier_provider_is_no_token(token: str | None) -> None:
    native = {**MOVED, **({} if token is None else {"previous_webhook_token": token})}
    moved, body = Channel("zap", "whatsapp", "sol", native), about("699")
    assert not KIND.verify(moved, [(OURS, b"")], body)


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
