import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from adapters.native import graph
from adapters.transport import Answer
from router.domain.channel import Channel
from router.domain.job import Outcome, Result

SECRET = "segredo-do-aplicativo"
CHANNEL = Channel("whatsapp", "whatsapp", "sol", {"app_secret": SECRET, "verify_token": "verifica"})
BODY = rb'{"text":"Ol\u00e1 a\/b"}'
SHARED = Path(os.environ.get("FIGUEIRA_SHARED", "../shared"))


def signed(body: bytes, secret: str = SECRET) -> bytes:
    return b"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()


def test_vector_of_another_implementation() -> None:
    # printf '%s' '{"oi":"mundo"}' | openssl dgst -sha256 -hmac segredo-do-aplicativo
    value = b"sha256=f84e645ca732ca6855dd3c7c4a51788d1a82d0a2697ed92838127141dc56ea25"
    assert graph.verify(CHANNEL, [(b"x-hub-signature-256", value)], b'{"oi":"mundo"}')


def test_signature_of_raw_bytes() -> None:
    good = signed(BODY)
    assert graph.verify(CHANNEL, [(b"x-hub-signature-256", good)], BODY)
    assert graph.verify(CHANNEL, [(b"X-Hub-Signature-256", good)], BODY)
    same_json = json.dumps(json.loads(BODY), ensure_ascii=False).encode()
    assert not graph.verify(CHANNEL, [(b"x-hub-signature-256", good)], same_json)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        signed(BODY)[:-1],
        signed(BODY).removeprefix(b"sha256="),
        signed(BODY).upper(),
        signed(BODY, "outro"),
        "sha256=é".encode(),
    ],
)
def test_wrong_signatures(value: bytes) -> None:
    assert not graph.verify(CHANNEL, [(b"x-hub-signature-256", value)], BODY)


def test_no_signature_no_secret_or_only_the_old_one() -> None:
    old = b"sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest().encode()
    assert not graph.verify(CHANNEL, [(b"x-hub-signature", old)], BODY)
    assert not graph.verify(CHANNEL, [], BODY)
    bare = Channel("w", "whatsapp", "sol")
    assert not graph.verify(bare, [(b"x-hub-signature-256", signed(BODY, ""))], BODY)


def test_handshake() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "verifica", "hub.challenge": "42"}
    assert graph.handshake(CHANNEL, query) == "42"
    for wrong in (
        {**query, "hub.verify_token": "errado"},
        {**query, "hub.verify_token": "é\ud800"},
        {**query, "hub.mode": "unsubscribe"},
        {**query, "hub.challenge": ""},
        {key: value for key, value in query.items() if key != "hub.challenge"},
        {},
    ):
        assert graph.handshake(CHANNEL, wrong) is None
    assert graph.handshake(Channel("w", "whatsapp", "sol"), {**query, "hub.verify_token": ""}) is None


def test_resign_renews_both_signatures_and_nothing_else() -> None:
    headers = [
        (b"accept", b"*/*"),
        (b"X-Hub-Signature", b"sha1=old"),
        (b"x-dup", b"1"),
        (b"X-Hub-Signature-256", b"sha256=old"),
        (b"x-dup", b"2"),
    ]
    renewed = graph.resign(CHANNEL, headers, BODY)
    assert [name for name, _ in renewed] == [name for name, _ in headers]
    assert [pair for pair in renewed if b"Hub" not in pair[0]] == [
        pair for pair in headers if b"Hub" not in pair[0]
    ]
    assert graph.verify(CHANNEL, renewed, BODY)
    assert dict(renewed)[b"X-Hub-Signature"] == (
        b"sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest().encode()
    )
    assert graph.resign(Channel("w", "whatsapp", "sol"), headers, BODY) == tuple(headers)


def test_shared_vectors() -> None:
    path = SHARED / "contracts/channels/signatures.json"
    if not path.exists():
        pytest.skip(f"NO SHARED VECTORS at {path}: set FIGUEIRA_SHARED")
    meta = json.loads(path.read_text())["meta"]
    for vector in meta["vectors"]:
        channel = Channel("w", "whatsapp", "sol", {"app_secret": vector["app_secret"]})
        headers = [(b"x-hub-signature-256", vector["header_X-Hub-Signature-256"].encode())]
        # Upper-case digits may be taken or refused; Meta sends none, they are refused.
        assert graph.verify(channel, headers, vector["body_utf8"].encode()) is bool(vector["valid"]), vector[
            "name"
        ]


def answer(status: int, body: object, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def error(code: object, **more: object) -> dict[str, object]:
    return {"error": {"message": "x", "type": "OAuthException", "code": code, **more}}


@pytest.mark.parametrize(
    ("given", "outcome", "code"),
    [
        (answer(200, {"messages": [{"id": "wamid.1"}]}), Outcome.OK, None),
        (answer(200, {"messages": []}), Outcome.UNKNOWN, "no_id"),
        (answer(200, b"<html>"), Outcome.UNKNOWN, "no_id"),
        (answer(429, error(130429)), Outcome.RETRY, "130429"),
        (answer(400, error(131056)), Outcome.PACED, "131056"),
        (answer(400, error(True)), Outcome.PERMANENT, "http_400"),
        (answer(503, error(131016)), Outcome.RETRY, "131016"),
        (answer(500, error(131000)), Outcome.RETRY, "131000"),
        (answer(500, b"oops"), Outcome.UNKNOWN, "http_500"),
        (answer(502, error(424242)), Outcome.UNKNOWN, "424242"),
        (answer(400, error(424242)), Outcome.PERMANENT, "424242"),
        (answer(400, error(424242, is_transient=True)), Outcome.RETRY, "424242"),
        # Passing, but of a crash nobody knows what it had done before.
        (answer(500, error(424242, is_transient=True)), Outcome.UNKNOWN, "424242"),
        (answer(503, error(424242, is_transient=True)), Outcome.UNKNOWN, "424242"),
        # The number or the token's right to it is gone; without the subcode it is the content.
        (answer(400, error(100, error_subcode=33)), Outcome.CHANNEL, "100"),
        (answer(404, error(100, error_subcode=33)), Outcome.CHANNEL, "100"),
        (answer(400, error(100, error_subcode=2494073)), Outcome.PERMANENT, "100"),
        (answer(400, error(100, error_subcode="33")), Outcome.PERMANENT, "100"),
        (answer(400, error(131026, error_subcode=33)), Outcome.PERMANENT, "131026"),
        (answer(400, error(131047)), Outcome.PERMANENT, "131047"),
        (answer(400, error(131026)), Outcome.PERMANENT, "131026"),
        (answer(401, error(190)), Outcome.CHANNEL, "190"),
        (answer(403, error(368)), Outcome.CHANNEL, "368"),
        (answer(400, error(131031)), Outcome.CHANNEL, "131031"),
        (answer(403, error(200)), Outcome.CHANNEL, "200"),
        (answer(401, b""), Outcome.CHANNEL, "http_401"),
        (answer(429, b""), Outcome.RETRY, "http_429"),
        (answer(404, b""), Outcome.PERMANENT, "http_404"),
        (answer(302, b""), Outcome.PERMANENT, "http_302"),
        (answer(408, b""), Outcome.UNKNOWN, "http_408"),
        (answer(400, {"error": "words"}), Outcome.PERMANENT, "http_400"),
    ],
)
def test_result_classes(given: Answer, outcome: Outcome, code: str | None) -> None:
    result = graph.result(given)
    assert (result.outcome, result.code) == (outcome, code)


def test_how_long_to_wait() -> None:
    assert graph.result(answer(429, error(4), Retry_After="17")).retry_after == 17
    # Ours to say: the pace of one person is the heart's, whatever the header says.
    assert graph.result(answer(400, error(131056), Retry_After="17")).retry_after is None
    assert (
        graph.result(answer(429, error(4), Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")).retry_after is None
    )


OUTCOMES = {
    Outcome.RETRY: (
        "1 2 4 17 613 80004 80007 130429 131000 131016 131048 131057 131208 133004 133016 135000 138013 2494100"
    ),
    Outcome.PACED: "131056",
    Outcome.CHANNEL: (
        "0 3 10 33 190 200 201 250 299 368 131005 131031 131037 131042 131044 131045 131064 133010"
    ),
    Outcome.PERMANENT: (
        "100 130472 130497 131008 131009 131020 131021 131026 131030 131041 131047 131049 131050 131051 131052"
        " 131053 131059 131062 131063 131201 131202 131204 131207 131209 131210 131211 131212 131213 131214 131215"
        " 132000 132001 132005 132007 132008 132012 132015 132016 132068 132069 137000"
    ),
}


@pytest.mark.parametrize(
    ("outcome", "code"), [(outcome, int(code)) for outcome, told in OUTCOMES.items() for code in told.split()]
)
def test_a_known_code_says_more_than_the_status(outcome: Outcome, code: int) -> None:
    for status in (400, 401, 429, 500):
        assert graph.result(answer(status, error(code))) == Result(outcome, code=str(code))


def test_shared_error_table() -> None:
    path = SHARED / "contracts/channels/whatsapp_error_codes.json"
    if not path.exists():
        pytest.skip(f"NO SHARED TABLE at {path}: set FIGUEIRA_SHARED")
    expected = {
        "retry_backoff": Outcome.RETRY,
        "account_blocked_stop_channel": Outcome.CHANNEL,
        "permanent_request": Outcome.PERMANENT,
        "permanent_recipient": Outcome.PERMANENT,
        "window_closed_use_template": Outcome.PERMANENT,
    }
    told = json.loads(path.read_text())["codes"]
    assert len(told) > 100
    for code, entry in told.items():
        found = graph.result(answer(500, error(int(code))))
        assert found.code == code
        if code == "131056":  # in that table a retry; the heart paces the pair instead
            assert found.outcome is Outcome.PACED
        elif entry["class"] in expected:
            assert found.outcome is expected[entry["class"]], code
        else:  # "review": of calls, groups, sign-up; a refusal, never a doubt
            refused = graph.result(answer(400, error(int(code)))).outcome
            assert refused in {Outcome.PERMANENT, Outcome.RETRY, Outcome.CHANNEL}, code


def test_another_secret_than_the_channels() -> None:
    headers = [(b"x-hub-signature-256", signed(BODY, "antigo"))]
    assert graph.verify(CHANNEL, headers, BODY, secret="antigo")
    assert not graph.verify(CHANNEL, headers, BODY)
    assert graph.resign(CHANNEL, [(b"x-hub-signature-256", b"old")], BODY, secret="antigo") == tuple(headers)
