import asyncio
import logging
from collections import deque
from datetime import timedelta
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migration.documents import Block
from migration.load import Options
from migration.sources import SourceError
from migration.watermark import HistoryTooShort, follow, stream, warnings
from router.domain.errors import LeaseLost, Unavailable
from router.storage.archive.model import RunState
from tests.unit.migration.watermark_scene import (
    BAD,
    MESSAGE,
    ROOM,
    UPLOAD,
    USER,
    CrashError,
    Scene,
    Source,
    Uploads,
    no_database,
    outage,
    placed,
    token,
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BACKOFF_SECONDS", (0.0, 0.0))


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.source.put(ROOM, "r1", t="l")
    scene.source.put(MESSAGE, "m1", rid="r1", text="bom dia")
    scene.source.put(USER, "u1", name="Ana")
    return scene


def raws(scene: Scene) -> dict[tuple[str, str], bytes]:
    return {key: row[-1] for key, row in scene.archive.rows.items()}


def source_raws(source: Source) -> dict[tuple[str, str], bytes]:
    return {
        (name, key): raw for name, documents in source.documents.items() for key, raw in documents.items()
    }


async def test_a_source_never_copied_is_copied_first_and_that_is_said(scene: Scene) -> None:
    await scene.caught_up()
    assert raws(scene) == source_raws(scene.source)
    assert "never copied" in scene.said[0]
    assert scene.archive.run.state is RunState.DONE
    assert scene.archive.run.caught_up_at is not None
    assert placed(scene.archive.run.token) == len(scene.source.log)


async def test_an_unfinished_copy_is_finished_first(scene: Scene) -> None:
    scene.stops = True
    found = await scene.follow().run(until_caught_up=True)
    assert not found.caught_up
    assert scene.archive.run.state is RunState.STOPPED
    assert not scene.archive.rows
    scene.stops = False
    await scene.caught_up()
    assert len(scene.archive.chain) == 1
    assert "not finished" in scene.said[-1]
    assert raws(scene) == source_raws(scene.source)


async def test_inserts_updates_and_deletes_follow(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.put(MESSAGE, "m2", rid="r1", text="oi")
    scene.source.put(MESSAGE, "m1", rid="r1", text="bom dia!")
    scene.source.cut(USER, "u1")
    scene.source.put(ROOM, "r2", t="l")
    scene.source.put(MESSAGE, "m3", rid="r2", text="primeira")
    scene.source.cut(MESSAGE, "m2")
    await scene.caught_up()
    assert raws(scene) == source_raws(scene.source)
    assert scene.archive.tombs == {(USER, "u1"), (MESSAGE, "m2")}
    assert not scene.archive.unwoven
    assert not scene.archive.open


async def test_the_last_event_of_an_id_wins_and_a_batch_is_one_transaction(scene: Scene) -> None:
    await scene.caught_up()
    applied = len(scene.archive.applied)
    scene.source.page = 100
    for text in ("um", "dois", "tres"):
        scene.source.put(MESSAGE, "m1", rid="r1", text=text)
    scene.source.put(MESSAGE, "m2", rid="r1")
    scene.source.cut(MESSAGE, "m2")
    scene.source.cut(USER, "u1")
    last = scene.source.put(USER, "u1", name="Ana Lima")
    await scene.caught_up()
    with_changes = [changes for changes in scene.archive.applied[applied:] if changes]
    assert len(with_changes) == 1
    assert [(one.source_id, one.deleted) for one in with_changes[0]] == [
        ("m1", False), ("m2", True), ("u1", False),
    ]  # fmt: skip
    assert scene.archive.raw(USER, "u1") == last
    assert scene.archive.tombs == {(MESSAGE, "m2")}


async def test_a_late_row_of_the_copy_does_not_bring_back_what_was_deleted(scene: Scene) -> None:
    await scene.caught_up()
    late = [scene.source.documents[MESSAGE]["m1"]]
    scene.source.cut(MESSAGE, "m1")
    await scene.caught_up()
    scene.archive.merge(MESSAGE, await scene.loader.sort(MESSAGE, Block(late, [0], "")))
    assert scene.archive.raw(MESSAGE, "m1") is None
    again = scene.source.put(MESSAGE, "m1", rid="r1", text="de novo")
    await scene.caught_up()
    assert scene.archive.raw(MESSAGE, "m1") == again
    assert (MESSAGE, "m1") not in scene.archive.tombs


async def test_a_message_whose_room_is_not_known_brings_the_room_along(scene: Scene) -> None:
    await scene.caught_up()
    del scene.archive.rows[ROOM, "r1"]
    scene.source.put(MESSAGE, "m2", rid="r1")
    await scene.caught_up()
    assert raws(scene) == source_raws(scene.source)
    assert not scene.archive.open


async def test_a_room_that_comes_late_settles_its_orphans(scene: Scene) -> None:
    scene.source.put(MESSAGE, "m7", rid="r7", text="ninguém sabe de onde")
    scene.source.put(MESSAGE, "m8", rid="r7")
    await scene.caught_up()
    assert set(scene.archive.open) == {(MESSAGE, "id:m7"), (MESSAGE, "id:m8")}
    del scene.source.documents[MESSAGE]["m8"]  # without an event: its delete was taken in before
    scene.source.put(ROOM, "r7", t="l")
    await scene.caught_up()
    assert not scene.archive.open
    assert raws(scene) == source_raws(scene.source)
    assert not scene.archive.unwoven


async def test_in_one_stream_too(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.page = 1
    steps = deque(
        [
            (MESSAGE, "m7", {"rid": "r7"}),
            (MESSAGE, "m8", {"rid": "r7"}),
            (USER, "u7", {}),
            (ROOM, "r7", {"t": "l"}),
        ]
    )

    def happen() -> None:
        if steps and placed(scene.archive.run.token) == len(scene.source.log):
            collection, key, fields = steps.popleft()
            scene.source.put(collection, key, **fields)

    scene.source.happen = happen
    stop = asyncio.Event()
    going = asyncio.ensure_future(scene.follow().run(stop=stop))
    refused = False
    while steps or raws(scene) != source_raws(scene.source):
        refused = refused or bool(scene.archive.open)
        await asyncio.sleep(0)
    stop.set()
    await going
    assert refused
    assert not scene.archive.open


async def test_orphans_whose_room_came_with_somebody_else_are_settled_at_the_start(scene: Scene) -> None:
    scene.source.put(MESSAGE, "m7", rid="r7")
    await scene.caught_up()
    room = scene.source.put(ROOM, "r7", t="l")
    scene.archive.merge(ROOM, await scene.loader.sort(ROOM, Block([room], [0], "")))
    scene.archive.chain[-1] = _moved(scene.archive.run, token(len(scene.source.log)))
    await scene.caught_up()
    assert not scene.archive.open
    assert raws(scene) == source_raws(scene.source)


def _moved(run: Any, place: bytes) -> Any:
    return type(run)(
        run.id,
        run.source,
        run.live,
        run.state,
        run.options,
        run.started_at,
        token=place,
        token_at=run.token_at,
    )


async def test_what_a_filter_leaves_out_goes_and_leaves_no_tombstone() -> None:
    scene = Scene(Options(rooms="l"))
    scene.source.put(ROOM, "r1", t="l")
    scene.source.put(MESSAGE, "m1", rid="r1")
    await scene.caught_up()
    scene.source.put(ROOM, "c1", t="c")
    scene.source.put(MESSAGE, "m2", rid="c1")
    scene.source.put(MESSAGE, "m1", rid="c1")
    await scene.caught_up()
    assert set(scene.archive.rows) == {(ROOM, "r1")}
    assert set(scene.archive.marks) == {"c1"}
    assert not scene.archive.tombs
    assert not scene.archive.open


async def test_a_refused_document_takes_its_row_away_and_is_kept_as_a_reject(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.put(MESSAGE, "m1", text="sem sala")
    await scene.caught_up()
    assert scene.archive.raw(MESSAGE, "m1") is None
    assert scene.archive.open[MESSAGE, "id:m1"].code == "orphan"
    scene.source.put(MESSAGE, "m1", rid="r1")
    await scene.caught_up()
    assert not scene.archive.open
    assert raws(scene) == source_raws(scene.source)


async def test_a_row_that_the_database_refuses_does_not_stop_its_neighbours(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.page = 100
    scene.source.put(MESSAGE, "a", rid="r1", text="antes")
    scene.source.put(MESSAGE, "b", rid="r1", text=BAD)
    scene.source.put(MESSAGE, "c", rid="r1", text="depois")
    await scene.caught_up()
    assert scene.archive.open[MESSAGE, "id:b"].code == "server"
    assert {"a", "c"} <= {key for _, key in scene.archive.rows}
    assert scene.archive.raw(MESSAGE, "b") is None
    assert placed(scene.archive.run.token) == len(scene.source.log)


async def test_a_lost_place_is_said_and_everything_is_copied_anew(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.caught_up()
    scene.source.cut(USER, "u1")
    scene.source.put(MESSAGE, "m2", rid="r1")
    scene.source.lose()
    with caplog.at_level(logging.WARNING):
        found = await scene.follow().run(until_caught_up=True)
    assert [record.message for record in caplog.records] == ["follow.lost"]
    assert sum(line.startswith("WARNING") and "copied anew" in line for line in scene.said) == 1
    assert found.caught_up
    assert found.resnapshots == 1
    assert scene.repairs == 1
    assert raws(scene) == source_raws(scene.source)
    assert [run.state for run in scene.archive.chain] == [RunState.DONE, RunState.DONE]


async def test_a_crash_between_the_new_copy_and_its_repair_does_not_forget_the_repair(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.cut(USER, "u1")
    scene.source.lose()
    whole = scene.repair

    async def crash() -> None:
        raise CrashError

    scene.repair = crash  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        await scene.follow().run(until_caught_up=True)
    assert [run.state for run in scene.archive.chain] == [RunState.LOST, RunState.DONE]
    scene.repair = whole  # type: ignore[method-assign]
    await scene.caught_up()
    assert scene.repairs == 1
    assert raws(scene) == source_raws(scene.source)


async def test_a_room_that_goes_is_woven_even_if_that_is_cut_off(scene: Scene) -> None:
    await scene.caught_up()
    place = scene.archive.run.token
    scene.source.cut(ROOM, "r1")
    whole = scene.weave

    async def crash(rooms: Any) -> None:
        if rooms is not None:
            raise CrashError

    scene.weave = crash  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        await scene.follow().run(until_caught_up=True)
    assert scene.archive.run.token == place
    scene.weave = whole  # type: ignore[method-assign]
    await scene.caught_up()
    assert ["r1"] in scene.woven
    assert placed(scene.archive.run.token) == len(scene.source.log)


async def test_a_dropped_collection_means_a_new_copy(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.drop(USER)
    await scene.caught_up()
    assert raws(scene) == source_raws(scene.source)
    assert scene.repairs == 1


async def test_a_history_that_is_always_too_short_is_told_and_not_tried_for_ever(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.lose()
    scene.source.put(USER, "u2")
    whole = scene.copy

    async def slow(*, anew: bool) -> Any:
        run = await whole(anew=anew)
        scene.source.put(USER, "u2")
        scene.source.lose()
        return run

    scene.copy = slow  # type: ignore[method-assign]
    scene.source.lose()
    with pytest.raises(HistoryTooShort, match="oplog"):
        await scene.follow().run(until_caught_up=True)
    assert scene.archive.run.state is RunState.LOST


async def test_a_newer_copy_takes_over(scene: Scene) -> None:
    await scene.caught_up()
    first = scene.archive.run.id
    following = scene.follow()

    async def happen() -> None:
        scene.clock.seconds += 6
        if len(scene.archive.chain) == 1 and following.state.run_id == first:
            await scene.archive.start(scene.source.name, *scene.source.now())
            await scene.archive.set_state(scene.archive.run.id, RunState.DONE)

    scene.archive.happen = happen
    stop = asyncio.Event()
    going = asyncio.ensure_future(following.run(stop=stop))
    async with asyncio.timeout(10):
        while following.state.run_id in {None, first}:
            await asyncio.sleep(0.001)
    stop.set()
    await going
    assert following.state.run_id == scene.archive.chain[-1].id


async def test_two_followers_do_not_fight(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.put(USER, "u2")
    following = scene.follow()

    async def happen() -> None:
        if following.state.run_id is not None:
            scene.archive.chain[-1] = _moved(scene.archive.run, token(1))

    scene.archive.happen = happen
    with pytest.raises(LeaseLost):
        await following.run(until_caught_up=True)


async def test_a_source_that_is_away_for_a_while_is_waited_for(scene: Scene) -> None:
    await scene.caught_up()
    scene.source.put(USER, "u2")
    errors: deque[Exception] = deque([outage(), outage(), no_database(), outage()])

    def happen() -> None:
        if errors:
            raise errors.popleft()

    scene.source.happen = happen
    await scene.caught_up()
    assert raws(scene) == source_raws(scene.source)
    assert sum("trying again" in line for line in scene.said) == 1


@pytest.mark.parametrize("error", [outage, no_database])
async def test_until_caught_up_gives_up_after_a_minute(scene: Scene, error: Any) -> None:
    await scene.caught_up()

    def happen() -> None:
        scene.clock.seconds += 7
        raise error()

    scene.source.happen = happen
    before = scene.clock.seconds
    with pytest.raises((SourceError, Unavailable)):
        await scene.follow().run(until_caught_up=True)
    assert 60 <= scene.clock.seconds - before < 80
    assert sum("trying again" in line for line in scene.said) == 2


async def test_followed_without_an_end_it_waits_as_long_as_it_takes(scene: Scene) -> None:
    await scene.caught_up()
    stop = asyncio.Event()

    def happen() -> None:
        scene.clock.seconds += 7
        if scene.clock.seconds > 600:
            stop.set()
        raise outage()

    scene.source.happen = happen
    found = await scene.follow().run(stop=stop)
    assert not found.caught_up
    assert sum("trying again" in line for line in scene.said) > 10


async def test_stopping_ends_it_at_a_batch(scene: Scene) -> None:
    stop = asyncio.Event()
    following = scene.follow()
    going = asyncio.ensure_future(following.run(stop=stop))
    while not following.state.caught_up:
        await asyncio.sleep(0.001)
    stop.set()
    assert (await going).caught_up
    assert set(following.state.lag.values()) <= {0.0}


async def test_lag_is_by_collection_and_nothing_once_caught_up(scene: Scene) -> None:
    shown: list[Any] = []
    await scene.caught_up()
    for number in range(9):
        scene.source.put(USER, f"v{number}")
    scene.source.page = 1
    following = scene.follow()
    following._show = shown.append

    def slow() -> None:
        scene.clock.seconds += 0.7

    scene.source.happen = slow
    await following.run(until_caught_up=True)
    waiting = [state.lag[USER] for state in shown if not state.caught_up and USER in state.lag]
    assert len(waiting) > 1
    assert all(lag > 80_000 for lag in waiting)  # the source's clock stands a day back
    assert shown[-1].lag == {USER: 0.0}
    assert shown[-1].events == 9


async def test_bytes_of_uploads_are_fetched_and_late_ones_again(scene: Scene) -> None:
    scene.uploads = Uploads()
    scene.archive.waiting = ["old"]
    await scene.caught_up()
    scene.source.put(UPLOAD, "f1", rid="r1", complete=False)
    await scene.caught_up()
    assert "f1" not in scene.uploads.asked
    scene.source.put(UPLOAD, "f1", rid="r1", complete=True)
    following = scene.follow()
    stop = asyncio.Event()
    going = asyncio.ensure_future(following.run(stop=stop))
    while scene.uploads.asked.count("f1") < 2:
        scene.clock.seconds += 6
        await asyncio.sleep(0.001)
    scene.uploads.there |= {"f1", "old"}
    while following._late:
        scene.clock.seconds += 6
        await asyncio.sleep(0.001)
    stop.set()
    await going


async def test_a_short_history_is_warned_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await warnings(scene.source, None) == []
    monkeypatch.setattr(scene.source, "history", lambda: timedelta(minutes=30))
    assert "30 minutes" in (await warnings(scene.source, None))[0]
    monkeypatch.setattr(scene.source, "history", lambda: timedelta(hours=2))
    assert await warnings(scene.source, timedelta(minutes=90)) == []
    assert "180 are wanted" in (await warnings(scene.source, timedelta(hours=3)))[0]


def test_silence_is_not_the_end_when_the_place_is_behind() -> None:
    goal = stream.Goal(token(5), Source().at(5), Source().at(5))
    opaque = bson.encode({"_data": "00"})
    some: Any = object()
    assert not stream.Gathered([], token(4)).reaches(goal)
    assert stream.Gathered([], token(5)).reaches(goal)
    assert stream.Gathered([some], token(6)).reaches(goal)
    assert stream.Gathered([], opaque).reaches(goal)
    assert not stream.Gathered([some], opaque).reaches(goal)


def test_places_of_mongodb_compare_and_others_do_not() -> None:
    real = bson.encode({"_data": "8262F7A1C4000000022B0229296E04"})
    assert stream.position(real) == (0x62F7A1C4, 2)
    inner = bson.encode({"t": 1, "n": "x" * (0x82 - 20)})
    assert inner[0] == len(inner) == 0x82  # begins like a keystring
    for other in ({"_data": inner.hex()}, {"_data": "zz"}, {"_data": "82"}, {"_data": 5}, {"else": 1}):
        assert stream.position(bson.encode(other)) is None


# any order of what happens, any interruption ---------------------------------------------------------------

ROOMS = ("r1", "r2", "c1")  # c1 is no livechat room: left out
PUT = st.one_of(
    st.tuples(st.just("room"), st.sampled_from(ROOMS)),
    st.sampled_from(
        [("message", "m1", "r1"), *(("message", f"m{n}", "r2") for n in (2, 3)), ("message", "m4", "c1")]
    ),
    st.tuples(st.just("user"), st.sampled_from(["u1", "u2"])),
)
CUT = st.tuples(
    st.just("cut"),
    st.sampled_from([(ROOM, "r2"), (ROOM, "c1"), *((MESSAGE, f"m{n}") for n in range(1, 5)), (USER, "u1")]),
)
OTHER = st.tuples(
    st.sampled_from(["nothing", "nothing", "crash", "away", "no_database", "lose", "read", "land", "import"])
)
BURST = st.tuples(st.just("burst"), st.lists(st.one_of(PUT, CUT, st.just(("lose",))), min_size=2, max_size=8))
SCRIPT = st.lists(st.one_of(PUT, PUT, CUT, OTHER, OTHER, BURST), max_size=40)


class Chaos:
    """Plays a script: at each call of a source or an archive, the next thing happens."""

    def __init__(self) -> None:
        self.scene = Scene(Options(rooms="l"))
        self.steps: deque[tuple[Any, ...]] = deque()
        self.count = 0
        self.stale: list[tuple[str, list[bytes]]] = []
        self.scene.source.happen = self.at_source
        self.scene.archive.happen = self.at_archive

    def at_source(self) -> None:
        if self.steps and self.steps[0][0] not in {"crash", "no_database", "land", "import"}:
            self.play(*self.steps.popleft())

    async def at_archive(self) -> None:
        if not self.steps or self.steps[0][0] == "away":
            return
        kind, *given = self.steps.popleft()
        if kind == "crash":
            raise CrashError
        if kind == "no_database":
            raise no_database()
        if kind == "land":
            await self.land()
        elif kind == "import":
            await self.begin()
        else:
            self.play(kind, *given)

    async def begin(self) -> None:
        """Another process begins an import."""
        source = self.scene.source
        await self.scene.archive.start(source.name, token(len(source.log)), source.at(len(source.log)))

    async def land(self) -> None:
        """That process lands what it has read a while ago."""
        if self.stale and self.copying:
            name, found = self.stale.pop(0)
            kept, self.steps = self.steps, deque()  # in one go
            chunk = await self.scene.loader.sort(name, Block(found, range(len(found)), ""))
            self.steps = kept
            self.scene.archive.merge(name, chunk)

    def play(self, kind: str, *given: Any) -> None:
        source = self.scene.source
        self.count += 1
        stamp = {"at": self.count} if self.count % 3 else {}
        if kind == "room":
            source.put(ROOM, given[0], t=given[0][0] if given[0] == "c1" else "l", n=self.count, **stamp)
        elif kind == "message":
            source.put(MESSAGE, given[0], rid=given[1], n=self.count, token="visitante", **stamp)
        elif kind == "user":
            source.put(USER, given[0], n=self.count, **stamp)
        elif kind == "cut":
            source.cut(*given[0])
        elif kind == "lose":
            source.lose()
        elif kind == "burst":
            for step in given[0]:
                self.play(*step)
        elif kind == "away":
            raise outage()
        elif kind == "read" and self.copying:
            self.stale += [(name, list(found.values())) for name, found in source.documents.items() if found]

    @property
    def copying(self) -> bool:
        """Another process is at it."""
        chain = self.scene.archive.chain
        return bool(chain) and chain[-1].state is RunState.RUNNING

    async def run(self, script: list[tuple[Any, ...]]) -> None:
        self.steps.extend(script)
        while True:
            try:
                await self.scene.follow().run(until_caught_up=True)
            except (CrashError, HistoryTooShort):
                continue
            if not self.steps:
                break
            kind, *step = self.steps.popleft()  # while nobody follows
            if kind not in {"crash", "no_database", "land", "import", "away"}:
                self.play(kind, *step)
        await self.scene.caught_up()


def expect_equal(scene: Scene) -> None:
    source, archive = scene.source, scene.archive
    mask = scene.loader._sorter._mask
    documents = source_raws(source)
    rooms = {key for name, key in documents if name == ROOM}
    for (name, key), raw in documents.items():
        fields = bson.decode(raw)
        row = archive.raw(name, key)
        refused = (name, f"id:{key}") in archive.open
        if "c1" in {key, fields.get("rid")}:
            assert row is None, (name, key)
        elif name != MESSAGE or fields["rid"] in rooms:
            assert row == mask(raw), (name, key)
            assert not refused, (name, key)
        else:
            assert row == mask(raw) or refused, (name, key)
    assert not {key for key in archive.rows if key not in documents}
    assert not archive.unwoven
    assert all(run.state is RunState.DONE for run in archive.chain[-1:])
    assert placed(archive.run.token) == len(source.log)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(at_first=SCRIPT, later=SCRIPT, last=SCRIPT)
def test_whatever_happens_in_between_it_converges(
    at_first: list[tuple[Any, ...]], later: list[tuple[Any, ...]], last: list[tuple[Any, ...]]
) -> None:
    async def live() -> None:
        chaos = Chaos()
        for script in (at_first, later, last):
            await chaos.run(script)
            expect_equal(chaos.scene)

    asyncio.run(live())
