"""Every WhatsApp send of ours before the specifications: Meta's own file, the slim one for what a router needs, and
360dialog's.

Meta's file is the strict one, and it refuses what Meta's reference documents and its API takes. Those differences are
taken out of a body before the file judges the rest (`known_to_meta`); what it lacks whole is judged by the other two:

| we send | Meta's file says | taken by the API because |
|---|---|---|
| `biz_opaque_callback_data` | no such property, except in a call | it is in the messages reference, and comes back in statuses |
| a template's `language: {code}` | `policy` is required | the file's own examples have `code` alone |
| a template button's `index: "0"` | one of "2, 3, 4, 5, 6, 1" and the like | the file's own examples have "0" |
| `latitude`, `longitude` as numbers | a string | the file's own example is a number |
| interactive `cta_url`, `location_request_message` | not in its list of types | both have reference pages of their own |
| a read mark, with or without `typing_indicator` | no such body | the file's own examples have it ("Send typing indicator and read receipt") |
| `recipient` (a user id) instead of `to` | `to` is required | user ids are newer than the file |

The slim file is the other way round: of a message's own object it checks text and template only.
"""

import json
from typing import Any

import pytest

from adapters import KINDS
from router.domain.job import Outcome
from router.domain.message import Content
from tests.contract.prism.prism import Prisms, Rewriting, Witness, contract, open_client
from tests.contract.prism.sends import NUMBER, PERMIT, SENDS, channel, outbound

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prism")]
SLIM = "channels/meta-cloud-api.derived-slim.json"
META = "channels/meta-business-messaging-api_v23.0.yaml"
DIALOG = "channels/360dialog.derived-openapi.json"
LACKING_IN_META = {"link", "asking where"}
USER_ID = "BR.1502abcDEF"

CLASSES = {
    "retry_backoff": {Outcome.RETRY},
    "account_blocked_stop_channel": {Outcome.CHANNEL},
    "permanent_request": {Outcome.PERMANENT},
    "permanent_recipient": {Outcome.PERMANENT},
    "window_closed_use_template": {Outcome.PERMANENT},
}
# The table leaves these to us: 33 is a business number that is no more; 131056 speaks of one recipient only.
OURS = {"33": {Outcome.CHANNEL}, "131056": {Outcome.PACED}}


def known_to_meta(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what Meta's file refuses and Meta takes."""
    known = {key: value for key, value in body.items() if key != "biz_opaque_callback_data"}
    if template := known.get("template"):
        components = [
            {**one, "index": "2"} if "index" in one else one for one in template.get("components", [])
        ]
        language = {"policy": "deterministic", **template["language"]}
        known["template"] = {**template, "language": language, "components": components}
    if place := known.get("location"):
        known["location"] = {
            key: str(value) if key in {"latitude", "longitude"} else value for key, value in place.items()
        }
    return known


@pytest.mark.parametrize("name", SENDS)
async def test_a_send_is_what_the_slim_file_allows(prism: Prisms, witness: Witness, name: str) -> None:
    base = f"{prism(SLIM)}/v23.0"
    async with open_client(witness) as client:
        result = await KINDS["whatsapp"].sender(client, lambda: 1.0).send(PERMIT, outbound(base, SENDS[name]))
    witness.assert_allowed(f"POST /v23.0/{NUMBER}/messages")
    assert result.outcome is Outcome.OK
    assert result.external_id


@pytest.mark.parametrize("name", sorted(set(SENDS) - LACKING_IN_META))
async def test_a_send_is_what_metas_own_file_allows(prism: Prisms, witness: Witness, name: str) -> None:
    base = f"{prism(META)}/v23.0"
    async with open_client(witness, transport=Rewriting(known_to_meta)) as client:
        result = await KINDS["whatsapp"].sender(client, lambda: 1.0).send(PERMIT, outbound(base, SENDS[name]))
    witness.assert_allowed(f"POST /v23.0/{NUMBER}/messages")
    assert result.outcome is Outcome.OK


@pytest.mark.parametrize("name", SENDS)
async def test_a_send_is_what_360dialogs_file_allows(prism: Prisms, witness: Witness, name: str) -> None:
    given = outbound(prism(DIALOG), SENDS[name], "360dialog")
    async with open_client(witness) as client:
        result = await KINDS["whatsapp"].sender(client, lambda: 1.0).send(PERMIT, given)
    witness.assert_allowed("POST /messages")
    assert result.outcome is Outcome.OK


async def test_a_send_to_a_user_id(prism: Prisms, witness: Witness) -> None:
    async with open_client(witness) as client:
        send = KINDS["whatsapp"].sender(client, lambda: 1.0).send
        await send(PERMIT, outbound(f"{prism(SLIM)}/v23.0", SENDS["text"], user=USER_ID))
        await send(PERMIT, outbound(prism(DIALOG), SENDS["text"], "360dialog", user=USER_ID))
    witness.assert_allowed(f"POST /v23.0/{NUMBER}/messages", "POST /messages")


@pytest.mark.parametrize("typing", [False, True])
async def test_a_read_mark(prism: Prisms, witness: Witness, typing: bool) -> None:
    async with open_client(witness) as client:
        sender = KINDS["whatsapp"].sender(client, lambda: 1.0)
        slim = await sender.mark(channel(f"{prism(SLIM)}/v23.0"), "wamid.HBgM", typing=typing)
        other = await sender.mark(channel(prism(DIALOG), "360dialog"), "wamid.HBgM", typing=typing)
    witness.assert_allowed(f"POST /v23.0/{NUMBER}/messages", "POST /messages")
    assert (slim.outcome, other.outcome) == (Outcome.OK, Outcome.OK)


@pytest.mark.parametrize(
    ("name", "prefix", "provider"), [(SLIM, "/v23.0", "cloud"), (DIALOG, "", "360dialog")]
)
async def test_each_named_error_is_the_class_its_code_has(
    prism: Prisms, witness: Witness, name: str, prefix: str, provider: str
) -> None:
    """The 32 error examples, asked for by name."""
    base = prism(name) + prefix
    table = json.loads(contract("channels/whatsapp_error_codes.json").read_text())["codes"]
    wrong = {}
    asked = _named_errors(name)
    for status, example, code in asked:
        async with open_client(witness, prefer=f"code={status}, example={example}") as client:
            sender = KINDS["whatsapp"].sender(client, lambda: 1.0)
            result = await sender.send(PERMIT, outbound(base, SENDS["text"], provider))
        expected = OURS.get(code) or CLASSES[table[code]["class"]]
        if result.outcome not in expected or result.code != code:
            wrong[example] = (result, expected)
    assert wrong == {}
    assert len(asked) >= 31
    assert [verdict.status for verdict in witness.verdicts] == [int(status) for status, _, _ in asked]


def _named_errors(name: str) -> list[tuple[str, str, str]]:
    """(HTTP status, name of the example, Meta's code) of each error example of a send."""
    paths = json.loads(contract(name).read_text())["paths"]
    (send,) = [operations["post"] for path, operations in paths.items() if path.endswith("/messages")]
    return [
        (status, example, str(given["value"]["error"]["code"]))
        for status, answer in send["responses"].items()
        for example, given in answer.get("content", {})
        .get("application/json", {})
        .get("examples", {})
        .items()
        if status != "200"
    ]


def _without_body(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "text": {"bodi": body["text"]["body"]}}


def _without_to(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "to"}


def _of_no_type(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "type": "telegram"}


@pytest.mark.parametrize("spoil", [_without_body, _without_to, _of_no_type])
@pytest.mark.parametrize(
    ("name", "prefix", "provider"),
    [(SLIM, "/v23.0", "cloud"), (META, "/v23.0", "cloud"), (DIALOG, "", "360dialog")],
)
async def test_validation_is_on(
    prism: Prisms, witness: Witness, name: str, prefix: str, provider: str, spoil: Any
) -> None:
    """Were Prism to take everything, every test above would pass."""

    def rewrite(body: dict[str, Any]) -> dict[str, Any]:
        return spoil(known_to_meta(body) if name == META else body)  # type: ignore[no-any-return]

    async with open_client(witness, transport=Rewriting(rewrite)) as client:
        sender = KINDS["whatsapp"].sender(client, lambda: 1.0)
        result = await sender.send(PERMIT, outbound(prism(name) + prefix, Content("text", "x"), provider))
    (verdict,) = witness.verdicts
    assert verdict.status in {400, 422}
    assert verdict.wrong
    assert result.outcome is not Outcome.OK
    with pytest.raises(AssertionError):
        witness.assert_allowed(verdict.call)
