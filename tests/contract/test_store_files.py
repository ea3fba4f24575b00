"""Files, uploads, billed messages: what every store must do with them."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from router.domain.errors import Conflict
from router.domain.media import MediaState, Origin
from router.domain.ports import Tx
from tests.contract.bench import Bench
from tests.contract.rows import AT, SLUG, media

HASH = "0f" * 32


async def test_a_file_comes_back_as_it_went(bench: Bench) -> None:
    bare = media()
    whole = media(
        origin=Origin.URL, ref="https://files.example/a.pdf?sig=x", state=MediaState.STORED, message_id=uuid.uuid4(),
        mime="application/pdf", name="receita.pdf", size=5 << 30, sha256=HASH, expires_at=AT + timedelta(days=7),
        stored_at=AT, error_code="too_large",
    )  # fmt: skip
    for one in (bare, whole):
        await bench.add_media(one)
        assert await bench.media(one.id) == one
        assert await bench.media(one.id, lock=True) == one
    assert await bench.media(uuid.uuid4()) is None


async def test_a_messages_files_in_the_order_they_were_added(bench: Bench) -> None:
    text = uuid.uuid4()
    files = [media(message_id=text, name=str(n)) for n in range(9)]

    async def work(tx: Tx) -> None:
        for one in files:
            await tx.add_media(one)
        await tx.add_media(media(message_id=uuid.uuid4()))
        await tx.add_media(media())

    await bench.store.transact(work)
    assert list(await bench.media_of(text)) == files
    await bench.save_media(replace(files[0], state=MediaState.GONE))
    assert [one.id for one in await bench.media_of(text)] == [one.id for one in files]
    assert await bench.media_of(uuid.uuid4()) == []


async def test_a_file_is_stored_or_given_up(bench: Bench) -> None:
    first, second = media(), media()
    for one in (first, second):
        await bench.add_media(one)
    stored = replace(first, state=MediaState.STORED, sha256=HASH, size=3, mime="image/png", stored_at=AT)
    stored = replace(stored, message_id=uuid.uuid4())
    refused = replace(second, state=MediaState.REFUSED, error_code="too_large")
    for one in (stored, refused):
        await bench.save_media(one)
        assert await bench.media(one.id) == one
    assert await bench.media_of(stored.message_id) == [stored]


async def test_what_is_undone_leaves_no_file(bench: Bench) -> None:
    one = media()

    async def work(tx: Tx) -> None:
        await tx.add_media(one)
        await tx.save_upload(SLUG, "", HASH, "f", AT + timedelta(days=999_999))
        await tx.first_billed(SLUG, "1", "utility")
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        await bench.store.transact(work)
    assert await bench.media(one.id) is None
    assert await bench.uploaded(SLUG, "", HASH) is None
    assert await bench.first_billed(SLUG, "1", "utility")


async def test_an_upload_is_known_per_channel_and_target_while_it_lasts(bench: Bench) -> None:
    now = await bench.store.transact(lambda tx: tx.now())
    later = now + timedelta(days=29)
    assert await bench.uploaded(SLUG, "", HASH) is None
    await bench.save_upload(SLUG, "", HASH, "file-1", later)
    await bench.save_upload(SLUG, "room", HASH, "file-2", later)
    await bench.save_upload("sms", "", HASH, "file-3", now - timedelta(seconds=1))
    assert await bench.uploaded(SLUG, "", HASH) == "file-1"
    assert await bench.uploaded(SLUG, "room", HASH) == "file-2"
    assert await bench.uploaded(SLUG, "other room", HASH) is None
    assert await bench.uploaded(SLUG, "", "ff" * 32) is None
    assert await bench.uploaded("sms", "", HASH) is None
    assert await bench.uploaded("sms", "", HASH, expired=True) == "file-3"
    await bench.save_upload("sms", "", HASH, "file-4", later)
    assert await bench.uploaded("sms", "", HASH) == "file-4"
    await bench.save_upload(SLUG, "", HASH, "file-5", now)
    assert await bench.uploaded(SLUG, "", HASH) is None


async def test_an_upload_is_forgotten_by_the_stores_clock(bench: Bench) -> None:
    now = await bench.store.transact(lambda tx: tx.now())
    await bench.save_upload(SLUG, "", HASH, "file", now + timedelta(seconds=1))
    assert await bench.uploaded(SLUG, "", HASH) == "file"
    assert await bench.uploaded(SLUG, "", HASH, expired=True) == "file"
    await bench.sleep(1.1)
    assert await bench.uploaded(SLUG, "", HASH) is None
    assert await bench.uploaded(SLUG, "", HASH, expired=True) == "file"
    assert await bench.uploaded(SLUG, "other", HASH, expired=True) is None


async def test_a_message_is_billed_once_per_channel(bench: Bench) -> None:
    assert await bench.first_billed(SLUG, "wamid.1", "utility") is True
    assert await bench.first_billed(SLUG, "wamid.1", "marketing") is False
    assert await bench.first_billed(SLUG, "wamid.2", "utility") is True
    assert await bench.first_billed("sms", "wamid.1", "utility") is True
    assert (
        await bench.first_billed("gone", "wamid.1", "utility") is True
    )  # a channel the settings no longer name


async def test_a_conflict_later_in_the_transaction_takes_the_bill_back(bench: Bench) -> None:
    seen: list[bool] = []

    async def work(tx: Tx) -> None:
        seen.append(await tx.first_billed(SLUG, "wamid.1", "utility"))
        if len(seen) == 1:
            raise Conflict

    await bench.store.transact(work)
    assert seen == [True, True]


@pytest.mark.parametrize("state", list(MediaState))
@pytest.mark.parametrize("origin", list(Origin))
async def test_every_state_and_origin_can_be_kept(bench: Bench, state: MediaState, origin: Origin) -> None:
    one = media(state=state, origin=origin)
    await bench.add_media(one)
    assert await bench.media(one.id) == one
