"""One seed: a mesh, its faults, and the judgement."""

import contextlib
import gc
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from farhand.runtime import crash_points
from tests.simulation import scheduler, worker
from tests.simulation.clockwork import Tell, World
from tests.simulation.history import Violation
from tests.simulation.mesh import Mesh
from tests.simulation.nemesis import Nemesis

FAULTS_FOR = 30.0  # virtual seconds in which things go wrong
STANDS_STILL = 40.0  # virtual seconds without the end of any job, and without faults: what has not ended never will


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a seed."""

    seed: int
    violations: tuple[Violation, ...]
    faults: Counter[str]
    events: int
    jobs: int
    assignments: int
    virtual_seconds: float


def play(seed: int, tell: Tell | None = None) -> Played:
    """Play a seed to its end, or to its first violation. `tell` gets the transcript, line by line."""
    world = World(seed)
    world.tell = tell
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_collections())
        stack.enter_context(_logs_to(world) if tell is not None else _no_logs())
        mesh = Mesh(world, quiet_after=FAULTS_FOR)
        history = mesh.history
        stack.enter_context(scheduler.in_virtual_time(world, mesh.server))
        stack.enter_context(worker.in_virtual_time(world))
        for module in [each for each in sys.modules.values() if vars(each).get("reach") is crash_points.reach]:
            stack.enter_context(mock.patch.object(module, "reach", world.effect))
        nemesis = Nemesis(mesh, FAULTS_FOR)
        mesh.operator.start(nemesis.run())

        def decided() -> bool:
            return bool(history.violations or world.unexpected)

        def ended() -> bool:
            if decided() or not nemesis.over:
                return decided()
            waits = next(history.not_ended(), None) is not None
            return not waits or world.now - max(history.last_end, nemesis.ended_at) > STANDS_STILL

        world.run(ended)
        if not decided():
            history.judge_the_end()
        for text in world.unexpected:
            history.broken("unexpected", text)
        played = Played(
            seed,
            tuple(history.violations),
            nemesis.landed
            + mesh.partings
            + Counter(commit_lost=mesh.server.lost_before, answer_lost=mesh.server.lost_after),
            world.events,
            len(history.wishes),
            history.assigned,
            world.now,
        )
        world.over = True
        _forget(world)
    return played


def _forget(world: World) -> None:
    """Collect what the world left; none of its steps may follow."""
    world.tell = None
    for process in world.processes:
        process.dead = True
        process.kept.clear()
    world.clear()
    gc.collect()


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Nothing is collected while a world lasts, and of what was there before the first world nothing ever: looking
    through all of it took longer than the worlds."""
    gc.disable()
    if gc.get_freeze_count():
        gc.collect()  # what the world before has left
    else:
        gc.freeze()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _no_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _ToTranscript(logging.Handler):
    """What the product's own logs say is part of the transcript."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        who = self._world.current.name if self._world.current is not None else "?"
        more = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in self._USUAL)
        error = f" {record.exc_info[1]!r}" if record.exc_info else ""
        self._world.say(who, f"{record.getMessage()}{error} {more}".strip())


@contextlib.contextmanager
def _logs_to(world: World) -> Iterator[None]:
    handler, root = _ToTranscript(world), logging.getLogger("farhand")
    level, propagates = root.level, root.propagate
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        root.propagate = propagates
