"""Schedulers and workers die between two effects, at the places that runtime/crash_points.py names."""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from farhand.runtime.crash_points import POINTS
from tests.chaos.hand import Fault, Ground, Hand
from tests.fixtures.mesh import Process

CRASHES = 3  # one after another
ARMED_SECONDS = 6.0  # that a process has to reach its crash point
IN_EXECUTIONS = "a scheduler dies in the way of an execution or a trigger"
OF_EXECUTIONS = [name for name, where in POINTS.items() if "execution" in where or "trigger" in where]
# Those that only a process on its way out reaches.
LEAVING = ("worker sent on", "drain acknowledged", "jobs given up", "goodbye sent")


@dataclass(slots=True)
class Point:
    """What is known of one crash point."""

    armed: int = 0
    hits: int = 0


class Crashes:
    """See the module."""

    def __init__(self, ground: Ground, hand: Hand) -> None:
        self._ground = ground
        self._hand = hand
        self.points = {name: Point() for name in POINTS}
        self.kinds: dict[str, Fault] = {
            "a worker dies between two effects": self._worker_crashed,
            "a scheduler dies between two effects": self._scheduler_crashed,
        }
        self.of_executions: dict[str, Fault] = {IN_EXECUTIONS: self._scheduler_crashed_in_executions}

    async def _worker_crashed(self, kind: str) -> None:
        process = self._ground.mesh.workers[self._ground.worker(self._hand)]
        await self._crashed(kind, process, [name for name, where in POINTS.items() if where.startswith("worker")])

    async def _scheduler_crashed(self, kind: str) -> None:
        names = [name for name, where in POINTS.items() if where.startswith("scheduler") and name not in OF_EXECUTIONS]
        await self._crashed(kind, self._ground.scheduler(self._hand), names)

    async def _scheduler_crashed_in_executions(self, kind: str) -> None:
        await self._crashed(kind, self._ground.scheduler(self._hand), OF_EXECUTIONS, deaths=1)

    async def _crashed(self, kind: str, process: Process, names: Sequence[str], deaths: int = CRASHES) -> None:
        """Start it anew to die at one of these points, and again at another; then it lives."""
        async with self._hand.hits(kind, process.name.removeprefix("worker-"), at_once=False) as hit:
            if not hit:
                return
            process.kill()
            for _ in range(deaths):
                await process.ended()
                name = self._point(names)
                process.environment["FARHAND_CRASH_POINT"] = f"{name}:{self._hand.chance.choice((1, 1, 1, 2, 4))}"
                with contextlib.suppress(AssertionError):  # it may die before it is ready
                    await process.restart()
                if name in LEAVING and process.running:
                    process.terminate()
                if await self._died(process):
                    self.points[name].hits += 1
                    self._hand.lands(kind, f"{process.name} at {name!r}")
            process.environment.pop("FARHAND_CRASH_POINT")
            await process.restart()

    def _point(self, names: Sequence[str]) -> str:
        """One that was tried less than others."""
        fewest = min(self.points[name].armed for name in names)
        name = self._hand.chance.choice([name for name in names if self.points[name].armed == fewest])
        self.points[name].armed += 1
        return name

    async def _died(self, process: Process) -> bool:
        """Whether it comes to its point in time; it is dead in any case."""
        try:
            return await process.ended(ARMED_SECONDS) == -signal.SIGKILL
        except TimeoutError:
            process.kill()
            return False
