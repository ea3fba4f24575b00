"""Real and composed payloads of Meta, one server, a fresh channel for each; and bytes that are no payload at all."""

import hashlib
import http.client
import json
import os
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.outside import Outside, as_meta, outside, signature
from tests.acceptance.scene import ROOT, Line, Scene, staged

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("acceptance-samples")]
SAMPLES = Path(os.environ.get("FIGUEIRA_SHARED", ROOT / ".." / "shared")) / "samples" / "whatsapp"
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
FOUND = sorted(SAMPLES.glob("*.json"))
GARBAGE = Line("lixo")


def line_of(path: Path) -> Line:
    """Its own channel; it takes events for any number. No Rocket.Chat behind it, whose webhook would add rows."""
    return Line(f"s-{hashlib.sha256(path.name.encode()).hexdigest()[:12]}", forwards=False)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    lines = [line_of(path) for path in (*GOLDEN, *FOUND)]
    with staged([*lines, GARBAGE], roles={"all": "all"}, stage="native") as scene:
        yield scene


@pytest.fixture
async def out(scene: Scene) -> AsyncIterator[Outside]:
    async with outside(scene) as out:
        yield out


# golden ----------------------------------------------------------------------------------------------------


async def test_golden_payloads_become_the_rows_that_were_checked_by_hand(out: Outside) -> None:
    assert len(GOLDEN) >= 10
    for path in GOLDEN:
        await out.deliver(line_of(path).slug, as_meta(json.loads(path.read_text())["payload"]))
    await out.quiet()
    for path in GOLDEN:
        wanted = json.loads(path.read_text())["expected"]
        rows = {row["external_id"]: row for row in await out.messages(line_of(path).slug)}
        assert [await _said(out, rows[one["external_id"]]) for one in wanted] == wanted, path.name
        assert len(rows) == len(wanted), path.name


async def _said(out: Outside, row: dict[str, Any]) -> dict[str, Any]:
    told = await out.status_of(row["id"])
    _, contact = await out.api("GET", f"/v1/contacts/{told['contact_id']}")
    kept = {name: row[name] for name in ("external_id", "direction", "author", "content_kind", "text")}
    ways = [way for identity in contact["identities"] for way in identity["addresses"]]
    addresses = sorted(f"{way['kind']} {way['value']}" for way in ways)
    return {**kept, "name": contact["name"], "identity": addresses}


# samples ---------------------------------------------------------------------------------------------------


def expected(payload: Any) -> set[str]:
    """The distinct ids of messages and echoes, found without the product's help."""
    changes = [change for entry in payload.get("entry", []) for change in entry.get("changes", [])]
    values = [change["value"] for change in changes if isinstance(change.get("value"), dict)]
    said = [
        item
        for value in values
        for item in [*value.get("messages", []), *value.get("message_echoes", [])]
        if item.get("type") != "system"
    ]
    return {item["id"] for item in said}


async def test_samples_are_stored_once_and_a_replay_changes_nothing(out: Outside) -> None:
    if not FOUND:
        pytest.skip(f"no samples in {SAMPLES}: set FIGUEIRA_SHARED to run this test")
    bodies = {path: path.read_bytes() for path in FOUND}
    for path, body in bodies.items():
        assert await out.post(line_of(path).slug, body) == 200, path.name
    await out.quiet()
    stored = {path: await out.messages(line_of(path).slug) for path in FOUND}
    for path, body in bodies.items():
        ids = [row["external_id"] for row in stored[path]]
        assert sorted(ids) == sorted(expected(json.loads(body))), path.name
    before = await out.figueira("doctor", "--ledger")
    assert before["dead"] == 0
    for path, body in bodies.items():
        assert await out.post(line_of(path).slug, body) == 200, path.name
        # The same parts in other bytes: a new event, and no new row.
        assert await out.post(line_of(path).slug, body + b"\n") == 200, path.name
    await out.quiet()
    assert {path: await out.messages(line_of(path).slug) for path in FOUND} == stored
    assert (await out.figueira("doctor", "--ledger"))["events"] == before["events"] + len(FOUND)


# garbage ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("id", "from", "type", "text", "timestamp", "to", "status", "errors", "system"), JSON
    ),
)
VALUE = st.fixed_dictionaries(
    {}, optional={name: JSON | st.lists(ITEM | JSON, max_size=3) for name in ("messages", "statuses", "contacts",
                                                                             "message_echoes", "user_id_update")}
)  # fmt: skip
EVENT = st.fixed_dictionaries(
    {
        "entry": JSON
        | st.lists(st.fixed_dictionaries({"changes": st.lists(st.fixed_dictionaries({"value": VALUE}))}))
    }
)
BODIES = (
    st.binary(max_size=400) | JSON.map(json.dumps).map(str.encode) | EVENT.map(json.dumps).map(str.encode)
)


def raw(scene: Scene, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
    link = http.client.HTTPConnection("127.0.0.1", scene.port, timeout=10)
    try:
        link.request(method, target, body, headers)
        return link.getresponse().status
    finally:
        link.close()


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    body=BODIES, signed=st.booleans(), slug=st.sampled_from(["lixo", "rocketchat", "nenhum"]),
    suffix=st.text(string.ascii_letters + string.digits + "/%.;=-_~", max_size=12),
)  # fmt: skip
def test_garbage_is_never_an_error_of_ours(
    scene: Scene, body: bytes, signed: bool, slug: str, suffix: str
) -> None:
    headers = {"X-Hub-Signature-256": signature(body)} if signed else {}
    status = raw(scene, "POST", f"/webhooks/{slug}/{suffix}", body, headers)
    allowed = {"lixo": {200, 404} if signed else {401, 404}, "rocketchat": {401, 404}, "nenhum": {404}}
    assert status in allowed[slug]


async def test_garbage_that_was_signed_has_its_place_in_the_ledger(out: Outside) -> None:
    for body in (
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"entry":[{"changes":[{"value":{"messages":[{"id":"\\u0000"}]}}]}]}',
    ):
        assert await out.post("lixo", body) == 200
    await out.quiet()
    assert (await out.figueira("doctor", "--ledger"))["channels"]["lixo"]["dead"] == 0
