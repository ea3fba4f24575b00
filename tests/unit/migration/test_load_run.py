import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migration.documents import Fault
from migration.load import Options
from migration.report import report
from migration.run import WAIT_SECONDS, Import, Progress, RunError
from router.domain.errors import Unavailable
from router.storage.archive.model import Account, RunState
from router.storage.archive.shape import ROOMS
from tests.unit.migration.load_scene import (
    CHUNKS,
    MESSAGE,
    ROOM,
    SETTINGS,
    UPLOAD,
    VISITOR,
    CrashError,
    Erased,
    Files,
    MemoryArchive,
    MemorySource,
    at,
    broken,
    loaders,
    message,
    room,
)  # fmt: skip


async def nothing() -> None:
    """Whatever it would be."""


def importing(source: MemorySource, archive: MemoryArchive, **more: Any) -> Import:
    made = more.pop("loaders", None) or loaders(archive, more.pop("erased", None), more.pop("sink", None))
    return Import(source, archive, made, **{"weave": nothing, "pause": asyncio.sleep, **more})


# ---- any source, any interruption

ROOM_IDS = ("r0", "r1", "r2", "c0", "d0")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, list[bytes | Fault]]:
    """Rooms of several kinds, messages in them and elsewhere, twice, broken, cut off; and what surrounds them."""
    rooms = draw(st.lists(st.sampled_from(ROOM_IDS), max_size=6))
    said: list[bytes | Fault] = []
    for number in range(draw(st.integers(0, 14))):
        key = str(draw(st.integers(0, 9)))
        raw = message(
            key, draw(st.sampled_from((*ROOM_IDS, "nowhere"))), draw(st.integers(0, 99)), f"n{number}"
        )
        cut = Fault(number, "truncated", "", raw[:20])
        forms: list[bytes | Fault] = [raw, raw, raw, broken(raw), bson.encode({"n": number}), cut]
        said.append(draw(st.sampled_from(forms)))
    others = [
        bson.encode({"_id": str(n), "token": "t", "ts": at(n * 20)}) for n in range(draw(st.integers(0, 7)))
    ]
    return {
        ROOM: [room(key, key[0].replace("r", "l"), active=draw(st.integers(0, 99))) for key in rooms],
        MESSAGE: said,
        VISITOR: list(others),
        SETTINGS: [bson.encode({"_id": "s"})] * draw(st.integers(0, 3)),
        CHUNKS: list(others[:2]),
    }


def half_erased(info: Any) -> Any:
    return at(50) if info.room_id in {"r1", ""} else None


async def uninterrupted(
    given: dict[str, list[bytes | Fault]], options: Options, bad: frozenset[str]
) -> MemoryArchive:
    archive = MemoryArchive(bad=bad)
    outcome = await importing(MemorySource(given), archive, options=options, erased=Erased(half_erased)).run()
    assert not outcome.stopped
    for name, account in outcome.counts.items():
        assert account.source == len(given[name])
        assert account.balanced, name
    return archive


async def accounts(archive: MemoryArchive, run: int = -1) -> dict[str, Account]:
    return dict(await archive.counts(archive.all_runs[run].id))


OPTIONS = st.sampled_from(
    [Options(), Options(rooms="l"), Options(orphans="keep"), Options(since=1_714_997_400_000)]
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    documents(), OPTIONS, st.sets(st.sampled_from("0123456789"), max_size=2),
    st.lists(st.tuples(st.sampled_from(("stop", "crash")), st.integers(0, 25)), max_size=6),
)  # fmt: skip
async def test_any_interruptions_and_going_on_are_like_none(
    given: dict[str, list[bytes | Fault]], options: Options, bad: set[str], schedule: list[tuple[str, int]]
) -> None:
    whole = await uninterrupted(given, options, frozenset(bad))
    archive = MemoryArchive(bad=frozenset(bad))
    for kind, after in schedule:
        importer = importing(MemorySource(given), archive, options=options, erased=Erased(half_erased))
        calls = itertools.count()

        def fault(
            _name: str, kind: str = kind, after: int = after, importer: Import = importer, calls: Any = calls
        ) -> None:
            if next(calls) == after:
                importer.stop()
                if kind == "crash":
                    raise CrashError

        archive.fault = fault
        try:
            await importer.run()
        except CrashError:
            archive.expire()
    archive.fault = lambda _name: None
    done = archive.all_runs and archive.all_runs[-1].state is RunState.DONE
    if not done:
        await importing(MemorySource(given), archive, options=options, erased=Erased(half_erased)).run()
    assert archive.everything() == whole.everything()
    counted = await accounts(archive)
    if len(archive.all_runs) > 1:  # one of the schedule came to its end, so this one merged
        counted = {name: replace(account, changed=0) for name, account in counted.items()}
        expected = {name: replace(account, changed=0) for name, account in (await accounts(whole)).items()}
        assert counted.keys() == expected.keys()
        assert all(_plain(counted[name]) == _plain(expected[name]) for name in counted)
    else:
        assert {n: _plain(a) for n, a in counted.items()} == {
            n: _plain(a) for n, a in (await accounts(whole)).items()
        }


def _plain(account: Account) -> Account:
    return replace(account, skipped={reason: count for reason, count in account.skipped.items() if count})


@settings(deadline=None, max_examples=50)
@given(documents(), OPTIONS)
async def test_a_second_run_changes_nothing(given: dict[str, list[bytes | Fault]], options: Options) -> None:
    unique = {name: list({str(raw)[:60]: raw for raw in raws}.values()) for name, raws in given.items()}
    by_id: dict[Any, bytes | Fault] = {}
    for place, raw in enumerate(unique[MESSAGE]):
        named = isinstance(raw, bytes) and raw[4:9] == b"\x02_id\x00"
        by_id[raw[9:20] if named and isinstance(raw, bytes) else place] = raw
    unique[MESSAGE] = list(by_id.values())
    archive = await uninterrupted(unique, options, frozenset())
    before = archive.everything()
    outcome = await importing(
        MemorySource(unique), archive, options=options, erased=Erased(half_erased)
    ).run()
    assert outcome.run.id != archive.all_runs[0].id
    assert report(outcome.counts)["changed"] == 0
    assert archive.everything() == before
    assert {n: replace(a, changed=0) for n, a in (await accounts(archive, 0)).items()} == await accounts(
        archive
    )


# ---- the coordinator

WORLD: dict[str, list[bytes | Fault]] = {
    MESSAGE: [message(str(n), f"r{n % 3}") for n in range(30)],
    ROOM: [room(f"r{n}") for n in range(3)],
    VISITOR: [bson.encode({"_id": str(n), "ts": at(n)}) for n in range(12)],
    CHUNKS: [bson.encode({"_id": n}) for n in range(3)],
    "rocketchat_uploads.files": [bson.encode({"_id": "f"})],
    UPLOAD: [],
    SETTINGS: [bson.encode({"_id": "smtp"})],
}


def world(**more: Any) -> MemorySource:
    return MemorySource({name: list(raws) for name, raws in WORLD.items()}, **more)


def state(archive: MemoryArchive) -> RunState:
    return archive.all_runs[-1].state


async def test_the_order_of_things() -> None:
    order: list[str] = []
    archive = MemoryArchive(fault=order.append)
    sink = Files()

    async def weave() -> None:
        order.append("weave")

    async def files() -> None:
        order.append("files")

    before = archive.claim

    async def claim(run_id: UUID, collections: Any, owner: UUID, lease: Any) -> Any:
        part = await before(run_id, collections, owner, lease)
        if part is not None:
            order.append(part.collection)
        return part

    archive.claim = claim  # type: ignore[method-assign]
    await importing(world(), archive, weave=weave, files=files, sink=sink).run()
    told = [
        name
        for name, _ in itertools.groupby(
            n for n in order if n in WORLD or n[:4] in {"weav", "file", "drop", "buil"}
        )
    ]
    assert told[:4] == [
        "drop archive_messages",
        "drop archive_rooms",
        "drop archive_files",
        "drop archive_records",
    ]
    assert told[4] == ROOM
    assert set(told[5:7]) == {VISITOR, SETTINGS}
    assert told[7:11] == [MESSAGE, "rocketchat_uploads.files", CHUNKS, "files"]
    assert [name[:5] for name in told[11:]] == ["build"] * 4 + ["weave"]


async def test_every_collection_is_in_the_report() -> None:
    outcome = await importing(world(), MemoryArchive()).run()
    found = report(outcome.counts)
    assert found["collections"].keys() == WORLD.keys()
    assert found["collections"][MESSAGE] == {
        "source": 30, "written": 30, "skipped": 0, "rejected": 0, "erased": 0, "skipped_by_reason": {},
    }  # fmt: skip
    assert found["collections"][SETTINGS]["skipped_by_reason"] == {"secret": 1}
    assert (found["changed"], found["differences"]) == (45, 0)
    assert (outcome.rejected, outcome.stopped, outcome.how_to_go_on) == (0, False, None)


async def test_a_live_sources_place_is_taken_before_anything_is_looked_at() -> None:
    archive, source = MemoryArchive(), world(live=True)
    outcome = await importing(source, archive).run()
    assert source.taken[0] == "now"
    assert (outcome.run.token, outcome.run.token_at) == (b"token", at(0))
    dump = world()
    await importing(dump, MemoryArchive()).run()
    assert "now" not in dump.taken


async def test_a_stopped_run_says_how_to_go_on() -> None:
    archive = MemoryArchive()
    importer = importing(world(), archive)
    archive.fault = lambda name: importer.stop() if name == "added" else None
    outcome = await importer.run()
    assert outcome.stopped
    assert "--resume" in (outcome.how_to_go_on or "")
    assert state(archive) is RunState.STOPPED
    assert not [p for p in archive.leases if not archive.all_parts[p].done]
    archive.fault = lambda _name: None
    again = await importing(world(), archive).run("resume")
    assert (again.run.id, again.stopped) == (outcome.run.id, False)
    assert state(archive) is RunState.DONE
    assert sum(account.source for account in again.counts.values()) == sum(map(len, WORLD.values()))


async def test_nothing_is_woven_when_it_is_stopped() -> None:
    archive, woven = MemoryArchive(), []

    async def weave() -> None:
        woven.append(True)

    importer = importing(world(), archive, weave=weave)
    importer.stop()
    assert (await importer.run()).stopped
    assert woven == []


async def test_restart_begins_anew_and_done_runs_merge() -> None:
    archive = MemoryArchive()
    importer = importing(world(), archive)
    archive.fault = lambda name: importer.stop() if name == "added" else None
    first = await importer.run()
    archive.fault = lambda _name: None
    second = await importing(world(), archive).run("restart")
    assert second.run.id != first.run.id
    assert archive.all_runs[0].state is RunState.STOPPED
    third = await importing(world(), archive).run()
    assert third.run.id != second.run.id
    assert third.run.options["direct"] == ["archive_files"]  # what is there is not taken for nothing
    assert report(third.counts)["changed"] == 0


async def test_resuming_what_is_not_unfinished_is_refused() -> None:
    archive = MemoryArchive()
    with pytest.raises(RunError, match="no unfinished import"):
        await importing(world(), archive).run("resume")
    await importing(world(), archive).run()
    with pytest.raises(RunError, match="no unfinished import"):
        await importing(world(), archive).run("resume")


async def test_an_unfinished_run_keeps_its_filters() -> None:
    archive = MemoryArchive()
    importer = importing(world(), archive, options=Options(rooms="l", until=5))
    importer.stop()
    await importer.run()
    with pytest.raises(RunError, match="other filters"):
        await importing(world(), archive, options=Options()).run()
    resumed = await importing(world(), archive).run()
    assert resumed.counts[MESSAGE].skipped == {"filtered": 30}


async def test_a_failure_leaves_the_run_unfinished_and_its_parts_free() -> None:
    archive = MemoryArchive()

    def failing(name: str) -> None:
        if name == "added":
            raise Unavailable

    archive.fault = failing
    with pytest.raises(Unavailable):
        await importing(world(), archive).run()
    archive.fault = lambda _name: None
    assert archive.all_runs[-1].state is RunState.RUNNING
    assert not (await importing(world(), archive).run()).stopped


async def test_several_workers_share_the_parts() -> None:
    archive, source = MemoryArchive(), world()
    parts: Counter[int] = Counter()

    def spawned(number: int) -> Import:
        made = loaders(archive)
        return importing(source, archive, loaders=made)

    numbers = itertools.count(1)

    async def spawn(run_id: UUID) -> int:
        parts[next(numbers)] += 1
        await spawned(0).work(run_id)
        return 0

    outcome = await importing(source, archive, workers=3, spawn=spawn).run()
    assert sum(parts.values()) == 2
    assert outcome.failed == 0
    alone = MemoryArchive()
    await importing(world(), alone).run()
    assert archive.everything() == alone.everything()
    assert outcome.counts == dict(await alone.counts(alone.all_runs[0].id)) | {UPLOAD: Account()}


async def test_a_worker_that_dies_is_told_and_its_part_is_done_by_another() -> None:
    archive = MemoryArchive()
    held: list[str] = []

    async def spawn(run_id: UUID) -> int:
        part = await archive.claim(run_id, None, uuid4(), None)  # type: ignore[arg-type]
        assert part is not None
        held.append(part.collection)
        return -9

    async def later(_seconds: float) -> None:
        archive.expire()
        await asyncio.sleep(0)

    outcome = await importing(world(), archive, workers=2, spawn=spawn, pause=later).run()
    assert (outcome.failed, len(held), outcome.stopped) == (1, 1, False)
    assert all(part.done for part in await archive.parts(outcome.run.id))


async def test_stopping_stops_the_other_workers_too() -> None:
    archive, told = MemoryArchive(), asyncio.Event()

    async def spawn(_run_id: UUID) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            raise
        return 0

    importer = importing(world(), archive, workers=2, spawn=spawn)
    archive.fault = lambda name: importer.stop() if name == "added" else None
    outcome = await importer.run()
    assert (outcome.stopped, outcome.failed, told.is_set()) == (True, 0, True)


async def test_only_the_newest_run_of_its_source_is_worked_at() -> None:
    with pytest.raises(RunError, match="newest run"):
        await importing(world(), MemoryArchive()).work(uuid4())


async def test_a_stage_waits_for_the_parts_of_others() -> None:
    """Messages never come in before the last room, whoever has it."""
    archive, source = MemoryArchive(), world()
    theirs: list[Any] = []
    first = archive.claim

    async def claim(run_id: UUID, collections: Any, owner: UUID, lease: Any) -> Any:
        part = await first(run_id, collections, owner, lease)
        if part is not None and part.collection == ROOM and not theirs:
            theirs.append(part)
            return await claim(run_id, collections, owner, lease)
        if part is not None and part.collection == MESSAGE:
            assert archive.ids(ROOMS) == {"r0", "r1", "r2"}
        return part

    archive.claim = claim  # type: ignore[method-assign]
    waits = itertools.count()

    async def later(seconds: float) -> None:
        if seconds == WAIT_SECONDS and next(waits) == 3:
            _, loader = loaders(archive)(Options(), frozenset())
            await loader.copy(theirs[0], source.read(ROOM, theirs[0].spec))
        await asyncio.sleep(0)

    outcome = await importing(source, archive, pause=later).run()
    assert outcome.counts[MESSAGE].written == 30


async def test_progress_is_told_by_collection() -> None:
    told: list[Progress] = []

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    await importing(world(), MemoryArchive(), told=told.append, pause=at_once).run()
    last = {each.collection: each for each in told}
    assert {name: each.account.source for name, each in last.items()} == {
        n: len(r) for n, r in WORLD.items() if r
    }
    assert last[MESSAGE].expected == 30
    assert len([each for each in told if each.collection == MESSAGE]) > 2
    assert all(each.seconds >= 0 for each in told)


async def test_catch_up_can_ask_for_a_copy() -> None:
    archive = MemoryArchive()
    importer = importing(world(), archive)
    first = await importer(anew=False)
    assert first.state is RunState.DONE
    assert (await importer(anew=True)).id != first.id
