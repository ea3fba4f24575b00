import uuid
from datetime import timedelta

from flags.stage import Path
from router.domain.job import JobKind, JobState, Share
from router.storage.postgres import codec, jobs
from tests.contract.rows import AT, job

WHOLE = job(
    "a", "b", kind=JobKind.FETCH, event_id=uuid.uuid4(), event_at=AT, message_id=uuid.uuid4(), room_id="r",
    conversation_id=uuid.uuid4(), path=Path.NATIVE, pin_version=3, shares=(Share("0/1", uuid.uuid4(), uuid.uuid4()),),
    whole=True, state=JobState.UNKNOWN, attempts=2, fence=5, lease_until=AT, uncertain=True, error="e",
    media_id=uuid.uuid4(), slot_at=AT + timedelta(milliseconds=80), seq=7,
)  # fmt: skip


def test_a_dead_letter_gives_the_job_back() -> None:
    for one in (WHOLE, job("a")):
        written = codec._decode_jsonb(codec._encode_jsonb(jobs.to_document(one)))
        assert jobs.from_document(written) == one


def test_a_dead_letter_of_an_older_version_can_be_replayed() -> None:
    document = jobs.to_document(job("a"))
    for later in ("media_id", "slot_at"):
        del document[later]
    found = jobs.from_document(document)
    assert (found.media_id, found.slot_at) == (None, None)
    assert found.lanes == ("a",)
