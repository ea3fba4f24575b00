"""Many conversations at once, texts and files on both paths, while the flag flips: judged by the sandbox's record."""

import base64
import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.acceptance.outside import Outside, doubled, eventually, in_order, outside
from tests.acceptance.scene import FULL, Line, staged
from tests.acceptance.soak import Course, Item, Rhythm

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("acceptance-soak")]
SOL = Line("sol", "100200300")
RHYTHM = Rhythm(100, 300, 10, 60) if FULL else Rhythm(20, 25, 2.5, 5)
SEED = int(os.environ.get("FIGUEIRA_TEST_SEED", "1"))
QUIET_SECONDS = 300 if FULL else 120
PATIENT = {
    "lease_seconds": 30, "permit_seconds": 20, "request_timeout_seconds": 15, "unknown_after_seconds": 60,
    "retry_base_seconds": 0.5,
}  # fmt: skip
"""Nothing is made to fail here, so a full machine shall not look like a failure: the product's own patience."""
BOTH = {"native", "rocketchat"}


async def test_soak_loses_doubles_and_mixes_nothing() -> None:
    roles = {"web": "web", "worker-1": "worker", "worker-2": "worker"}
    with staged([SOL], roles=roles, delivery=PATIENT) as scene:
        scene.configure(window_hours=24)
        async with outside(scene) as out:
            course = Course(out, SOL, RHYTHM, SEED)
            await course.run()
            await _all_arrived(course)
            await out.quiet(QUIET_SECONDS)
            found = await _found(course)
            _judge_patients(course, found)
            _judge_answers(course, found)
            _judge_agents(course, found)
            _judge_papers(course, found)
            told = _told(course, found)
        assert scene.figueira("deadletters", "list")["items"] == []
        assert scene.figueira("doctor", "--ledger")["balanced"] is True
    print(f"\nseed {SEED}: {told}; 0 lost, 0 doubled to customers, order kept, every file whole")


@dataclass(frozen=True)
class Found:
    """The record, and what the router shows: its conversations' messages, and the sha256 of each file it keeps."""

    got: list[Item]
    forwarded: list[str]
    refused: Item
    rooms: list[Item]
    conversations: list[list[Item]]
    digests: dict[str, str]

    def rows(self, direction: str) -> list[Item]:
        return [row for said in self.conversations for row in said if row["direction"] == direction]


def _key(row: Item) -> str:
    """What tells one send from others: its words; the parameter of a template; the bytes of an audio."""
    if row["type"] == "template":
        body = json.loads(base64.b64decode(row["body"]))
        return str(body["template"]["components"][0]["parameters"][0]["text"])
    return str(row["text"] or row["media_sha256"])


async def _all_arrived(course: Course) -> None:
    wanted = Counter((talk.wa_id, told) for talk in course.talks for told in talk.answers)

    async def arrived() -> bool:
        return not wanted - Counter((row["to"], _key(row)) for row in await course.out.sent())

    try:
        await eventually(arrived, "every answer", QUIET_SECONDS)
    except AssertionError as late:
        raise AssertionError(await _missing(course, wanted)) from late


async def _missing(course: Course, wanted: Counter[tuple[str, str]]) -> str:
    """What became of the answers no customer got: each message that did not leave, and why."""
    missing = wanted - Counter((row["to"], _key(row)) for row in await course.out.sent())
    lines = [f"{len(missing)} answers are missing: {sorted(missing)}"]
    for row in await course.out.messages(SOL.slug):
        if row["direction"] == "outbound" and row["status"] not in ("sent", "delivered"):
            tries = [
                f"{one['path']} v{one['pin_version']} {one['started_at'][14:23]} {one['outcome']} {one['code']}"
                for one in (await course.out.status_of(row["id"]))["attempts"]
            ]
            lines.append(
                f"{row['conversation_id'][-4:]} {row['sent_at'][14:23]} {row['content_kind']} {row['text']} {row['path']}"
                f" {row['status']} {row['error_code']}: {tries}"
            )
    return "\n".join(lines)


async def _found(course: Course) -> Found:
    out = course.out
    _, refused = await out.sandbox.call("GET", "/control/refusals")
    conversations = [
        await out.all(f"/v1/conversations/{one['id']}/messages") for one in await out.conversations(SOL.slug)
    ]
    kept = [file for said in conversations for row in said for file in row["media"]]
    digests = {file["id"]: await _digest(out, file) for file in kept}
    return Found(
        await out.sent(), await out.forwarded(SOL.slug), refused, await out.sandbox.record("rocketchat"),
        conversations, digests,
    )  # fmt: skip


async def _digest(out: Outside, file: Item) -> str:
    assert file["state"] == "stored", file
    status, data = await out.content(file["id"])
    assert status == 200
    return hashlib.sha256(data).hexdigest()


# the judgement ---------------------------------------------------------------------------------------------


def _judge_patients(course: Course, found: Found) -> None:
    """Each message was handled by one path, once, and in order."""
    posted = {wamid for talk in course.talks for wamid in talk.wamids}
    rows = {row["external_id"]: row for row in found.rows("inbound")}
    assert set(rows) == posted
    assert len(found.rows("inbound")) == len(posted), "a message has two rows"
    assert not doubled(found.forwarded)
    assert {row["path"] for row in rows.values()} == BOTH
    for talk in course.talks:
        gone = [wamid for wamid in talk.wamids if rows[wamid]["path"] == "rocketchat"]
        assert in_order(found.forwarded, gone)
        assert not set(found.forwarded) & (set(talk.wamids) - set(gone)), "handled by both paths"
    place = {wamid: number for talk in course.talks for number, wamid in enumerate(talk.wamids)}
    for said in found.conversations:
        heard = [place[row["external_id"]] for row in said if row["direction"] == "inbound"]
        assert heard == sorted(heard)


def _judge_answers(course: Course, found: Found) -> None:
    """Each customer got what was taken for them, once, in order, whole."""
    assert not any(row["failed"] for row in found.got)
    assert found.refused["by_code"] == {}
    agents = {row["wamid"] for row in found.rooms if row["by"] == "agent"}
    for talk in course.talks:
        got = [row for row in found.got if row["to"] == talk.wa_id and row["wamid"] not in agents]
        assert [_key(row) for row in got] == talk.answers
        assert {_key(row): row["media_sha256"] for row in got if row["media_sha256"]} == talk.sent
    ours = [row for row in found.rows("outbound") if row["status"] not in ("sent", "delivered")]
    assert ours == []
    assert {row["by"] for row in found.got if row["wamid"] not in agents} == BOTH


def _judge_agents(course: Course, found: Found) -> None:
    """What agents said reached the customer by Rocket.Chat's own hand, and stands in the router's history once."""
    said = {row["_id"]: row for row in found.rooms if row["by"] == "agent"}
    assert set(said) == set(course.said)
    sent = {row["wamid"]: row for row in found.got}
    assert all(row["wamid"] in sent for row in said.values())
    history = Counter(row["source_id"] for row in found.rows("outbound"))
    assert {one: history[one] for one in said} == dict.fromkeys(said, 1)
    answers = sum(len(talk.answers) for talk in course.talks)
    assert len(found.rows("outbound")) == answers + len(said), "a message has two rows"
    kept = {row["source_id"]: row["media"] for row in found.rows("outbound")}
    for one, paper in course.said.items():
        if paper is not None:
            assert sent[said[one]["wamid"]]["media_sha256"] == paper.sha256
            assert [found.digests[file["id"]] for file in kept[one]] == [paper.sha256]


def _judge_papers(course: Course, found: Found) -> None:
    """Each file of a patient is kept once, with the bytes that were sent."""
    kept = {
        row["external_id"]: [found.digests[file["id"]] for file in row["media"]]
        for row in found.rows("inbound")
    }
    sent = {wamid: [paper.sha256] for talk in course.talks for wamid, paper in talk.papers.items()}
    assert {wamid: digests for wamid, digests in kept.items() if digests} == sent


def _told(course: Course, found: Found) -> str:
    paths = Counter(row["path"] for row in found.rows("inbound"))
    by = Counter(row["by"] for row in found.got)
    refused: Counter[str] = sum((talk.refused for talk in course.talks), Counter())
    return (
        f"{len(course.talks)} patients, {len(found.conversations)} conversations, "
        f"flips: {', '.join(course.flips)}; {course.moves} moved by hand; messages {dict(paths)}, "
        f"answers {dict(by)}, files {sum(len(talk.papers) for talk in course.talks)} in, "
        f"{sum(row['media_sha256'] is not None for row in found.got)} out; not taken: {dict(refused)}"
    )
