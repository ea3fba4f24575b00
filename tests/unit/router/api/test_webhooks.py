import hashlib
import hmac
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router import metrics
from router.api.webhooks import Accept, Front, forwarded
from router.domain.channel import EVERY_TENANT, RESERVED, Channel
from router.domain.errors import Unavailable
from router.domain.job import Event
from router.domain.message import Alias, Content
from router.domain.policy import Policy
from router.domain.ports import Parsed, Rules, Store

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = b"app-secret"
CHANNELS = {
    "wa": Channel("wa", "whatsapp", "sol", {"app_secret": SECRET.decode(), "verify_token": "word"}),
    "pass": Channel("pass", "whatsapp", "sol", webhook_url="https://chat.example/hook"),
    "bare": Channel("bare", "whatsapp", "sol"),
    "tg": Channel("tg", "whatsapp", "sol", {"secret_token": "x"}, webhook_url="https://chat.example/hook"),
    "d360": Channel(
        "d360", "whatsapp", "sol", {"webhook_token": "x"}, webhook_url="https://chat.example/hook"
    ),
    "sms": Channel("sms", "whatsapp", "sol", {"app_secret": SECRET.decode(), "provider": "twilio"}),
    "broken": Channel("broken", "broken", "sol"),
}


class Ports:
    """Clock, random and store in one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        self.seconds += 0.125
        return self.seconds

    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def fraction(self) -> float:
        return 0.0

    async def accept(self, event: Event) -> bool:
        if self.error:
            raise self.error
        known = any((one.channel, one.digest) == (event.channel, event.digest) for one in self.events)
        if not known:
            self.events.append(event)
        return not known


class Meta:
    name = "whatsapp"

    def rules(self, channel: Channel) -> Rules:
        return Rules()

    def check(self, channel: Channel, content: Content) -> None:
        """Everything may be sent."""

    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        good = query.get("hub.verify_token") == channel.native.get("verify_token", object())
        return query.get("hub.challenge") if good else None

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        secret = channel.native.get("app_secret", "").encode()
        made = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
        return bool(secret) and dict(headers).get(b"x-hub-signature-256") == b"sha256=" + made

    def parse(self, channel: Channel, body: bytes) -> Parsed:
        raise NotImplementedError

    def divide(self, body: bytes, keep: Collection[str]) -> bytes:
        raise NotImplementedError

    def resign(
        self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[tuple[bytes, bytes], ...]:
        raise NotImplementedError

    def addresses(self, channel: Channel, to: str) -> tuple[Alias, ...]:
        raise NotImplementedError


class Broken(Meta):
    def handshake(self, channel: Channel, query: Mapping[str, str]) -> str | None:
        raise RuntimeError("a defect of an adapter")

    def verify(self, channel: Channel, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        raise RuntimeError("a defect of an adapter")


async def key_works(key: str, _body: bytes) -> bool:
    if key == "lost":
        raise Unavailable
    return key == "good-key"


def rocketchat_authentic(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    return dict(headers).get(b"x-rocketchat-livechat-token") == b"hook"


class Got:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.starts = 0

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.starts += 1
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]


def accept_of(ports: Ports) -> Accept:
    return Accept(
        store=cast(Store, ports),
        channels=CHANNELS,
        kinds={"whatsapp": Meta(), "broken": Broken()},
        clock=ports,
        random=ports,
        rocketchat_authentic=rocketchat_authentic,
        authorize_key=key_works,
        policy=Policy(body_limit_bytes=1000, rocketchat_body_limit_bytes=2000),
    )


async def elsewhere(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    scope["passed_on"] = True


async def call(
    ports: Ports, method: str, target: bytes, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = (),
    *, chunk: int = 400, gone: bool = False,
) -> Got:  # fmt: skip
    raw, _, query = target.partition(b"?")
    scope = {
        "type": "http", "method": method, "raw_path": raw, "path": raw.decode("latin-1"), "query_string": query,
        "headers": list(headers), "client": ("203.0.113.9", 40000), "scheme": "https",
    }  # fmt: skip
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": gone or at < len(parts) - 1}
        for at, part in enumerate(parts)
    ]

    async def receive() -> MutableMapping[str, Any]:
        return cast(MutableMapping[str, Any], messages.pop(0)) if messages else {"type": "http.disconnect"}

    got = Got()
    await Front(elsewhere, accept_of(ports))(scope, receive, got.send)
    return got


def signed(body: bytes) -> list[tuple[bytes, bytes]]:
    digest = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return [(b"host", b"f.example"), (b"x-hub-signature-256", f"sha256={digest}".encode())]


def counted(channel: str, outcome: str) -> float:
    kind = RESERVED if channel == RESERVED else CHANNELS[channel].kind
    labels = {"channel": channel, "kind": kind, "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("figueira_events_total", labels) or 0.0


# what is stored --------------------------------------------------------------------------------------------


async def test_a_signed_event_is_stored_as_it_came() -> None:
    ports, body = Ports(), b'{"a": 1}' * 100
    before = counted("wa", "stored")
    timed = metrics.REGISTRY.get_sample_value("figueira_accept_seconds_sum") or 0.0
    got = await call(ports, "POST", b"/webhooks/wa/extra%2Fpath/?a=%20b&a=c", body, signed(body))
    assert (got.status, got.body) == (200, b"ok")
    (event,) = ports.events
    assert (event.channel, event.tenant, event.method, event.received_at) == ("wa", "sol", "POST", NOW)
    assert (event.raw_path, event.query, event.body) == (b"/extra%2Fpath/", b"a=%20b&a=c", body)
    assert event.digest == hashlib.sha256(body).digest()
    assert event.headers[:2] == tuple(signed(body))
    assert event.id.version == 7
    assert counted("wa", "stored") == before + 1
    assert metrics.REGISTRY.get_sample_value("figueira_accept_seconds_sum") == timed + 0.125


async def test_a_repeat_is_thanked_for_and_adds_nothing() -> None:
    ports = Ports()
    before = counted("wa", "duplicate")
    assert [(await call(ports, "POST", b"/webhooks/wa", b"{}", signed(b"{}"))).status for _ in range(3)] == [
        200
    ] * 3
    assert len(ports.events) == 1
    assert counted("wa", "duplicate") == before + 2


@pytest.mark.parametrize(
    ("slug", "headers", "status"),
    [
        ("wa", [], 401),
        ("wa", [(b"x-hub-signature-256", b"sha256=00")], 401),
        ("pass", [], 200),  # no secret at all: Rocket.Chat's own app verifies
        ("bare", [], 401),  # nobody would
        ("tg", [], 401),  # it has a secret, of another name
        ("d360", [], 401),
    ],
)
async def test_who_may_come_without_a_signature(
    slug: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    ports = Ports()
    before = counted(slug, "bad_signature")
    assert (await call(ports, "POST", f"/webhooks/{slug}".encode(), b"{}", headers)).status == status
    assert len(ports.events) == (status == 200)
    assert counted(slug, "bad_signature") == before + (status == 401)


async def test_twilio_gets_an_empty_answer_it_will_not_send_on() -> None:
    got = await call(Ports(), "POST", b"/webhooks/sms", b"{}", signed(b"{}"))
    assert (got.status, got.body, got.headers[b"content-type"]) == (200, b"<Response/>", b"application/xml")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit(declared: bool) -> None:
    ports, body = Ports(), b"x" * 1001
    headers = [*signed(body), *([(b"content-length", b"1001")] if declared else [])]
    before = counted("wa", "too_large")
    assert (await call(ports, "POST", b"/webhooks/wa", body, headers)).status == 413
    assert (await call(ports, "POST", b"/webhooks/wa", body[1:], signed(body[1:]))).status == 200
    assert (await call(ports, "POST", b"/webhooks/wa", b"", [(b"content-length", b"9" * 9000)])).status == 413
    assert counted("wa", "too_large") == before + 2


@pytest.mark.parametrize("error", [Unavailable(), RuntimeError("driver: 5511987654321"), OSError()])
async def test_what_could_not_be_stored_is_asked_for_again(error: Exception) -> None:
    ports = Ports()
    ports.error = error
    before = counted("wa", "unavailable")
    got = await call(ports, "POST", b"/webhooks/wa", b"{}", signed(b"{}"))
    assert (got.status, got.headers[b"retry-after"]) == (503, b"5")
    assert counted("wa", "unavailable") == before + 1


async def test_a_defect_of_an_adapter_is_no_500() -> None:
    assert (await call(Ports(), "POST", b"/webhooks/broken", b"{}")).status == 503
    assert (await call(Ports(), "GET", b"/webhooks/broken")).status == 503


async def test_a_caller_that_goes_away_leaves_nothing() -> None:
    ports = Ports()
    before = counted("wa", "unavailable")
    got = await call(ports, "POST", b"/webhooks/wa", b"{}", signed(b"{}"), gone=True)
    assert (got.starts, ports.events) == (0, [])
    assert counted("wa", "unavailable") == before


# the other methods and paths -------------------------------------------------------------------------------


async def test_the_handshake() -> None:
    good = b"/webhooks/wa?hub.mode=subscribe&hub.verify_token=word&hub.challenge=12%3Cb%3E"
    got = await call(Ports(), "GET", good)
    assert (got.status, got.body) == (200, b"12<b>")
    assert got.headers[b"content-type"].startswith(b"text/plain")
    for bad in (b"", b"?hub.verify_token=wrong&hub.challenge=1", b"?" + b"a=1&" * 200, b"?\xff%ff=%zz"):
        assert (await call(Ports(), "GET", b"/webhooks/wa" + bad)).status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    got = await call(Ports(), method, b"/webhooks/wa")
    assert (got.status, got.headers[b"allow"]) == (405, b"GET, POST")
    got = await call(Ports(), "GET", b"/webhooks/rocketchat")
    assert (got.status, got.headers[b"allow"]) == (405, b"POST")


@pytest.mark.parametrize(
    "target",
    [b"/webhooks/", b"/webhooks/nobody", b"/webhooks/%77a", b"/webhooks/\xff", b"/webhooks/wa/..", b"/webhooks/wa/./x",
     b"/webhooks/wa/%2e%2E/x", b"/webhooks/wa/x%2f..%2fy", b"/webhooks/wa/..%5cx"],
)  # fmt: skip
async def test_paths_that_lead_nowhere(target: bytes) -> None:
    ports = Ports()
    assert (await call(ports, "POST", target, b"{}", signed(b"{}"))).status == 404
    assert ports.events == []


@pytest.mark.parametrize("target", [b"/webhooks/wa/...", b"/webhooks/wa/a..b/.c", b"/webhooks/wa//x"])
async def test_dots_that_do_not_climb(target: bytes) -> None:
    ports = Ports()
    assert (await call(ports, "POST", target, b"{}", signed(b"{}"))).status == 200
    assert ports.events[0].raw_path == target.removeprefix(b"/webhooks/wa")


async def test_everything_else_is_passed_on() -> None:
    front = Front(elsewhere, accept_of(Ports()))
    for scope in (
        {"type": "lifespan"},
        {"type": "http", "path": "/v1/x"},
        {"type": "websocket", "path": "/webhooks/wa"},
    ):
        asked: dict[str, Any] = dict(scope)
        await front(asked, cast(Any, None), cast(Any, None))
        assert asked["passed_on"]


# Rocket.Chat's own webhook ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"x-rocketchat-livechat-token", b"hook")], 200),
        ([(b"authorization", b"Bearer good-key")], 200),
        ([(b"Authorization", b"bearer  good-key ")], 200),
        ([(b"x-rocketchat-livechat-token", b"other")], 401),
        ([(b"authorization", b"Bearer bad-key")], 401),
        ([(b"authorization", b"Basic good-key")], 401),
        ([(b"authorization", b"Bearer lost")], 503),
        ([], 401),
    ],
)
async def test_rocketchats_webhook(headers: list[tuple[bytes, bytes]], status: int) -> None:
    ports = Ports()
    body = b"x" * 1500
    got, again = [await call(ports, "POST", b"/webhooks/rocketchat", body, headers) for _ in range(2)]
    assert (got.status, again.status, again.body) == (status, status, got.body)
    if status == 200:
        assert (got.body, got.headers[b"content-type"]) == (b"{}", b"application/json")
        (event,) = ports.events
        assert (event.channel, event.tenant) == (RESERVED, EVERY_TENANT)
    else:
        assert ports.events == []


# headers ---------------------------------------------------------------------------------------------------

PEER = ("203.0.113.9", 1)


def test_the_first_address_received_stays_first() -> None:
    received = (
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"a", b"1"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"a", b"2"),
    )
    assert forwarded(received, PEER, "https") == (
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"a", b"1"),
        (b"x-forwarded-for", b"10.0.0.1, 203.0.113.9"),
        (b"a", b"2"),
        (b"x-forwarded-proto", b"https"),
    )


def test_what_is_absent_is_added_and_what_is_there_is_kept() -> None:
    assert forwarded(((b"host", b"h"),), PEER, "http") == (
        (b"host", b"h"),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-host", b"h"),
        (b"x-forwarded-proto", b"http"),
    )
    told = (
        (b"host", b"h"),
        (b"x-forwarded-host", b"first"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b""),
    )
    assert forwarded(told, PEER, "http") == (*told[:3], (b"x-forwarded-for", b"203.0.113.9"))
    assert forwarded(told[1:], None, "http") == told[1:]


# anything at all -------------------------------------------------------------------------------------------

SLUGS = st.sampled_from([b"wa", b"pass", b"bare", b"rocketchat", b"nobody", b""])
TARGETS = st.one_of(
    st.builds(lambda slug, rest: b"/webhooks/" + slug + rest, SLUGS, st.binary(max_size=40)),
    st.binary(max_size=40).map(lambda rest: b"/webhooks/" + rest),
)
HEADERS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([b"content-length", b"authorization", b"x-forwarded-for", b"host"]), st.binary()
        ),
        st.binary(max_size=40),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["GET", "POST", "POST", "PUT"]), TARGETS, st.binary(max_size=1200), HEADERS, st.booleans(),
    st.sampled_from([None, Unavailable(), RuntimeError()]),
)  # fmt: skip
async def test_no_bytes_make_a_500(
    method: str,
    target: bytes,
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    sign: bool,
    error: Exception | None,
) -> None:
    ports = Ports()
    ports.error = error
    got = await call(ports, method, target, body, [*headers, *(signed(body) if sign else [])])
    assert got.starts == 1
    assert got.status in {200, 401, 403, 404, 405, 413, 503}
    assert got.status != 503 or error is not None
    assert not ports.events or got.status == 200
    assert int(got.headers[b"content-length"]) == len(got.body)
