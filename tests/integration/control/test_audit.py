import asyncio

import pytest

from router.control import audit
from router.control.desk import Desk

pytestmark = pytest.mark.postgres


async def fill(desk: Desk, count: int) -> None:
    async def one(number: int) -> int:
        return await desk.store.transact(
            lambda tx: audit.record(
                desk, tx, act="test.act", subject=f"s{number}", by="cli", reason="why é",
                detail={"n": number, "list": [1, "é", None, True], "more": {"b": 1, "a": 2}},
            )
        )  # fmt: skip

    seqs = await asyncio.gather(*(one(number) for number in range(count)))
    assert sorted(seqs) == list(range(1, count + 1))


async def test_a_chain_of_concurrent_writers_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await audit.verify(desk) is None
    await fill(desk, 12)
    monkeypatch.setattr(audit, "_PAGE", 5)
    assert await audit.verify(desk) is None
    assert [row["seq"] for row in await audit.listing(desk, limit=3)] == [12, 11, 10]
    assert [row["seq"] for row in await audit.listing(desk, before=3)] == [2, 1]


TAMPERING = [
    ("update audit set detail = '{\"n\": 9}' where seq = 3", 3),
    ("update audit set actor = 'somebody' where seq = 4", 4),
    ("update audit set at = at + interval '1 microsecond' where seq = 1", 1),
    ("delete from audit where seq = 2", 3),
    ("delete from audit where seq = 1", 2),
    ("update audit set seq = seq + 10 where seq = 5", 15),
    ("update audit set hash = sha256('x') where seq = 2", 2),
]


async def test_a_changed_row_is_found(desk: Desk) -> None:
    await fill(desk, 5)
    whole = [tuple(row) for row in await desk.store.engine.fetch("select * from audit")]
    for tampering, broken in TAMPERING:
        await desk.store.engine.execute(tampering)
        assert await audit.verify(desk) == broken, tampering
        await desk.store.engine.execute("delete from audit")
        await desk.store.engine.executemany(
            "insert into audit values ($1, $2, $3, $4, $5, $6, $7, $8, $9)", whole
        )
    assert await audit.verify(desk) is None
