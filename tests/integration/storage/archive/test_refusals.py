"""What was refused, on the real server."""

import uuid

import pytest

from router.storage.archive import Archive
from tests.integration.storage.archive.documents import MESSAGE, ROOM, begun, refused

pytestmark = pytest.mark.postgres


async def test_refusals_are_kept_brought_up_to_date_and_settled(archive: Archive) -> None:
    run = await begun(archive)
    first = refused("id:a", reason="text holds \x00 and \ud800", raw=b"\x00\xff")
    await archive.refuse([first, refused("at:9"), refused("id:a", ROOM, code="orphan")], run.id)
    (found,) = await archive.refusals(collection=MESSAGE, code="nul", after=(MESSAGE, "at:9"))
    assert (found.source_id, found.position, found.raw) == ("a", "17", b"\x00\xff")
    assert found.reason == "text holds \ufffd and \ufffd"
    assert found.seen_at is not None
    await archive.settle(MESSAGE, ["id:a", "id:none"])
    assert [one.key for one in await archive.refusals(collection=MESSAGE)] == ["at:9"]
    assert len(await archive.refusals(open_only=False)) == 3
    await archive.refuse([refused("id:a", code="server")], None)
    (again,) = await archive.refusals(code="server")
    assert again.seen_at is not None
    assert again.seen_at > found.seen_at
    assert await archive.refusal_counts() == {
        (MESSAGE, "nul"): 1,
        (MESSAGE, "server"): 1,
        (ROOM, "orphan"): 1,
    }
    assert {one.key for one in await archive.refusals(run.id)} == {"at:9", "id:a"}
    assert await archive.refusals(uuid.uuid4()) == []


async def test_pages_of_refusals(archive: Archive) -> None:
    large = b"r" * (40 * 1024 * 1024)
    told = [refused(f"id:{n}", raw=large if n in {3, 4, 5} else b"r") for n in range(9)]
    await archive.refuse(told, None)
    seen: list[list[str]] = []
    after = None
    while page := await archive.refusals(limit=4, after=after):
        seen.append([one.key[3:] for one in page])
        after = (page[-1].collection, page[-1].key)
    assert seen == [["0", "1", "2", "3"], ["4", "5"], ["6", "7", "8"]]


async def test_an_id_too_long_for_an_index(archive: Archive) -> None:
    long = "é" * 4000
    await archive.refuse([refused(f"id:{long}"), refused(f"id:{long}x")], None)
    await archive.refuse([refused(f"id:{long}", code="server")], None)
    found = await archive.refusals()
    assert sorted((one.source_id, one.code) for one in found) == [(long, "server"), (f"{long}x", "nul")]
