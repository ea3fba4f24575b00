"""One run: a seeded mix of everything that happens, then quiet, then the invariants.

python -m tests.simulation SEED [--steps N]     replays a run and prints what is wrong with it
"""

import hashlib
from collections.abc import Callable
from uuid import UUID

from flags.stage import TRUTH, Path, Stage
from router.delivery import Order
from router.domain.errors import Conflict, LeaseLost, Rejected, StaleFlags
from router.domain.ids import Ids
from router.domain.job import Job, JobState
from router.domain.media import Media, MediaState, Origin
from router.domain.message import Content
from router.domain.ports import Tx
from tests.simulation.invariants import violations
from tests.simulation.kernel import START
from tests.simulation.world import SimStore, World

PATIENTS = [f"55119{number:08d}" for number in range(1, 6)]
ACTIVE_SECONDS = 60.0
QUIET_SECONDS = 4 * 3600
OUTSIDE = ("outside", "people")


class Driver:
    """Draws actions, lets the kernel run, then waits for quiet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.actions: list[tuple[float, Callable[[], None]]] = [
            (30, self._says), (6, self._burst), (4, world.repeat), (4, self._rebatch), (4, self._echo),
            (24, self._send), (4, self._flip), (10, self._move), (4, self._close), (3, self._crash),
            (4, self._weather), (2, self._jump), (2, self._refresh), (2, self._room_closes),
        ]  # fmt: skip
        self.pace = world.kernel.dice.choice([1.0, 2.0, 4.0])  # actions a second
        self.weights = [weight for weight, _ in self.actions]

    def run(self, steps: int) -> list[str]:
        """Returns the violated invariants, in words; empty = the run kept every promise."""
        world = self.world
        self._temper()
        for name in ("web1", "worker1", "worker2"):
            world.start(name)
        at = 0.0
        while world.kernel.steps < steps or world.kernel.seconds < ACTIVE_SECONDS:
            if world.kernel.seconds >= at:
                world.kernel.dice.choices(self.actions, self.weights)[0][1]()
                at = world.kernel.seconds + world.kernel.dice.expovariate(self.pace)
            world.kernel.step()
        self._calm()
        found = self._wait_for_quiet()
        # The webhook may have lost something right to the end: one more sweep over everything.
        world.kernel.spawn("last sweep", "people", self._sweeps())
        return [*found, *self._wait_for_quiet(), *world.broken, *violations(world)]

    async def _sweeps(self) -> None:
        found = await self.world.processes["worker1"].sweeper.run(START)
        if not found.complete:
            self.world.broken.append(f"the last sweep was not complete: {found.reason}")

    def _temper(self) -> None:
        """Every seed has a character of its own, so that rare faults are common in some runs."""
        world, dice = self.world, self.world.kernel.dice
        stage = dice.choice([Stage.ROCKETCHAT, Stage.CANARY, Stage.NATIVE, Stage.NATIVE])
        world.revisions.append((stage, int(dice.random() * 101)))
        world.faults.lost_answers = dice.choice([0.0, 0.0, 0.2, 0.6])
        world.faults.lost_requests = dice.choice([0.0, 0.0, 0.2, 0.4])
        world.faults.lost_rings = dice.choice([0.0, 0.5])
        world.faults.lost_room_events = dice.choice([0.0, 0.0, 0.2])
        world.faults.refusals = dice.choice([0.0, 0.0, 0.2])
        world.faults.unmapped = world.chance(0.1)

    def _calm(self) -> None:
        faults = self.world.faults
        faults.rocketchat_down = faults.provider_down = faults.slow = False
        faults.lost_answers = faults.lost_requests = faults.lost_rings = faults.lost_room_events = 0.0
        faults.unmapped, faults.refusals = False, 0.0
        for name in ("web1", "worker1", "worker2"):
            if name not in self.world.processes:
                self.world.start(name)

    def _wait_for_quiet(self) -> list[str]:
        world = self.world
        until = world.kernel.seconds + QUIET_SECONDS
        limit = world.kernel.steps + 60_000
        while world.kernel.seconds < until and world.kernel.steps < limit:
            for _ in range(20):
                world.kernel.step()
            tables = world.store.tables
            outside = any(task.process in OUTSIDE for task in world.kernel.tasks)
            if not tables.active and not tables.unsplit and not outside:
                return []
            self._skip_idle()
        jobs = [world.store.tables.jobs[job] for job in world.store.tables.active]
        waiting = ", ".join(f"{job.kind}/{job.state}/{job.error}" for job in jobs[:4])
        return [f"something waits for ever: {waiting}, unsplit {len(world.store.tables.unsplit)}"]

    def _skip_idle(self) -> None:
        """With nothing to be done before some later time, jump there instead of polling all the way."""
        world, tables = self.world, self.world.store.tables
        heads = [job for job in map(tables.jobs.__getitem__, tables.active) if _heads(world, job)]
        if tables.unsplit or any(job.state is JobState.RUNNING for job in heads):
            return
        waits = [(job.due_at - world.kernel.now()).total_seconds() for job in heads]
        waits += [
            task.ready_at - world.kernel.seconds for task in world.kernel.tasks if task.process in OUTSIDE
        ]
        if waits and min(waits) > 1:
            world.kernel.seconds += min(waits)

    # actions -----------------------------------------------------------------------------------------------

    def _patient(self) -> str:
        return PATIENTS[int(self.world.kernel.dice.random() * len(PATIENTS))]

    def _slug(self) -> str:
        return "wa" if self.world.chance(0.7) else "wb"

    def _says(self) -> None:
        self.world.patient_says(self._slug(), [self._patient()])

    def _burst(self) -> None:
        self.world.patient_says(
            self._slug(), [self._patient() for _ in range(2 + int(self.world.chance(0.5)))]
        )

    def _rebatch(self) -> None:
        self.world.rebatch(self._slug(), self._patient())

    def _echo(self) -> None:
        self.world.phone_says(self._slug(), self._patient())

    def _send(self) -> None:
        webs = self.world.webs()
        if webs:
            self.world.kernel.spawn("send", webs[0], self._sends(webs[0], self._slug(), self._patient()))

    async def _sends(self, web: str, slug: str, wa: str) -> None:
        world = self.world
        process = world.processes[web]
        text = world.fresh("answer ")
        kind = world.kernel.dice.choice(["text"] * 8 + ["template", "image"])
        media = self._picture(process.ids, slug) if kind == "image" else None
        data = {"media_id": str(media.id)} if media is not None else {}
        order = Order(world.channels[slug], Content(kind, text, data), to=wa)
        store = SimStore(world, world.store)

        async def work(tx: Tx) -> None:
            if media is not None:
                await tx.add_media(media)
            await process.compose.enqueue(tx, order)

        for _ in range(3):
            try:
                await store.transact(work)
                world.record.asked[text] = wa
            except StaleFlags:
                await process.facade.refresh()
                continue
            except (Rejected, Conflict):
                pass
            return

    def _picture(self, ids: Ids, slug: str) -> Media:
        """A file of the clinic's: given to us, or to be fetched by its address. Some are used again and again."""
        dice, now = self.world.kernel.dice, self.world.kernel.now()
        name = f"https://clinic.example/{int(dice.random() * 3)}.jpg"
        if self.world.chance(0.5):
            return Media(ids.new(), "clinica", slug, Origin.URL, name, now)
        digest = hashlib.sha256(name.encode()).hexdigest()
        return Media(
            ids.new(),
            "clinica",
            slug,
            Origin.UPLOAD,
            "",
            now,
            MediaState.STORED,
            mime="image/jpeg",
            sha256=digest,
        )

    def _flip(self) -> None:
        world = self.world
        stage = world.kernel.dice.choice([Stage.ROCKETCHAT, Stage.CANARY, Stage.NATIVE])
        world.revisions.append((stage, int(world.kernel.dice.random() * 101)))
        if TRUTH[stage].new is Path.ROCKETCHAT or world.chance(0.5):
            world.store.tables.floors["whatsapp"] = len(world.revisions) - 1

    def _on_open(self, name: str, act: Callable[[UUID], Callable[[Tx], object]]) -> None:
        world = self.world
        found = list(world.store.tables.open.values())
        busy = [
            which
            for job in world.store.tables.active
            if (which := world.store.tables.jobs[job].conversation_id)
        ]
        if busy and world.chance(0.7):
            found = busy  # where something is under way, mistakes show
        webs = world.webs()
        if not found or not webs:
            return
        which = found[int(world.kernel.dice.random() * len(found))]
        world.kernel.spawn(name, webs[0], self._in_store(act(which)))

    async def _in_store(self, work: Callable[[Tx], object]) -> None:
        try:
            await SimStore(self.world, self.world.store).transact(work)  # type: ignore[arg-type]
        except (Rejected, Conflict, LeaseLost):
            return

    def _move(self) -> None:
        process = next(iter(self.world.processes.values()), None)
        if process is None:
            return
        path = Path.NATIVE if self.world.chance(0.5) else Path.ROCKETCHAT

        def act(which: UUID) -> Callable[[Tx], object]:
            async def work(tx: Tx) -> None:
                conversation = await tx.conversation(which)
                if conversation is not None and conversation.open:
                    await process.facade.move(
                        tx,
                        conversation,
                        path,
                        stage=Stage.CANARY,
                        revision=process.flags.revision,
                        reason="simulated",
                    )

            return work

        self._on_open("move", act)

    def _close(self) -> None:
        process = next(iter(self.world.processes.values()), None)
        if process is None:
            return

        def act(which: UUID) -> Callable[[Tx], object]:
            async def work(tx: Tx) -> None:
                conversation = await tx.conversation(which)
                if conversation is not None:
                    await process.facade.close(tx, conversation, "api")

            return work

        self._on_open("close", act)

    def _room_closes(self) -> None:
        rooms = list(self.world.rooms.values())
        if rooms:
            self.world.close_room(rooms[int(self.world.kernel.dice.random() * len(rooms))])

    def _crash(self) -> None:
        world = self.world
        names = list(world.processes)
        if names:
            name = names[int(world.kernel.dice.random() * len(names))]
            world.crash(name)
            world.kernel.spawn("restart", "people", self._restart(name))

    async def _restart(self, name: str) -> None:
        await self.world.kernel.pause(0.5, 30)
        if name not in self.world.processes:
            self.world.start(name)

    def _weather(self) -> None:
        faults, dice = self.world.faults, self.world.kernel.dice
        which = dice.choice(
            ["rocketchat", "provider", "slow", "answers", "requests", "rings", "events", "calm"]
        )
        if which == "rocketchat":
            faults.rocketchat_down = not faults.rocketchat_down
        elif which == "provider":
            faults.provider_down = not faults.provider_down
        elif which == "slow":
            faults.slow = not faults.slow
        elif which == "answers":
            faults.lost_answers = dice.choice([0.0, 0.1, 0.4])
        elif which == "requests":
            faults.lost_requests = dice.choice([0.0, 0.1, 0.4])
        elif which == "rings":
            faults.lost_rings = dice.choice([0.0, 0.5, 1.0])
        elif which == "events":
            faults.lost_room_events = dice.choice([0.0, 0.2])
        else:
            faults.rocketchat_down = faults.provider_down = faults.slow = False

    def _jump(self) -> None:
        world = self.world
        names = list(world.processes)
        if names:
            world.skews[world.kernel.dice.choice(names)] = world.kernel.dice.uniform(-7200, 7200)

    def _refresh(self) -> None:
        names = list(self.world.processes)
        if names:
            process = self.world.processes[self.world.kernel.dice.choice(names)]
            self.world.kernel.spawn("refresh", process.name, process.flags.refresh())


def _heads(world: World, job: Job) -> bool:
    return all(world.store.tables.lanes[lane][0] == job.id for lane in job.lanes)


def run(seed: int, steps: int = 300, *, broken: str | None = None) -> list[str]:
    """One seeded run; the violations, in words."""
    return Driver(World(seed, broken=broken)).run(steps)
