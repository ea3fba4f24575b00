"""flags.ports.FlagStore in memory: for simulation and unit tests."""

from collections.abc import MutableMapping, Sequence
from dataclasses import replace

from flags.ports import Flag, RevisionMoved, Snapshot
from router.domain.ports import Clock


class MemoryFlagStore:
    """`floors` may be shared with the memory store, whose `Tx.flag_floor` reads it: kind → revision."""

    def __init__(self, clock: Clock, floors: MutableMapping[str, int] | None = None) -> None:
        self._clock = clock
        self._history: list[Flag] = []
        self._flags: dict[str, Flag] = {}
        self.floors: MutableMapping[str, int] = {} if floors is None else floors

    async def snapshot(self) -> Snapshot:
        """See FlagStore."""
        return Snapshot(len(self._history), dict(sorted(self._flags.items())))

    async def save(self, flag: Flag, *, expected: int | None, floor: bool) -> Flag:
        """See FlagStore."""
        stored = self._flags[flag.kind].revision if flag.kind in self._flags else 0
        if expected is not None and stored != expected:
            raise RevisionMoved(f"flag {flag.kind}: revision {expected} expected, {stored} stored")
        saved = replace(
            flag, revision=len(self._history) + 1, updated_at=flag.updated_at or self._clock.now()
        )
        self._history.append(saved)
        self._flags[flag.kind] = saved
        if floor:
            self.floors[flag.kind] = saved.revision
        return saved

    async def history(self, kind: str, limit: int = 100) -> Sequence[Flag]:
        """See FlagStore."""
        return [flag for flag in reversed(self._history) if flag.kind == kind][:limit]
