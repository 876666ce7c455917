"""A simulated host: its clock, its disk, and the warden with the programs under it.

The warden is a process of its own with the real run table; a program is a stretch of
true time that the history notes. What the warden orders happens a moment later, as it
does between a real warden and its keepers.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from farhand.api.worker.v1 import session_pb2
from farhand.worker.core.slots import JobKey
from farhand.worker.masking import Mask
from farhand.worker.process_control import NothingMayRun, ProcessEnd, ProcessSpec
from farhand.worker.warden.run_table import Effect, Event, RunTable
from tests.simulation.clockwork import Clock, Process, World
from tests.simulation.history import History

KILL_TAKES = (0.001, 0.2)  # seconds from an order to the death of a whole tree, within the lease's margin


class Disk:
    """What of a worker outlives its process: results that are not settled, incarnations, and free space."""

    def __init__(self) -> None:
        self.results: dict[JobKey, session_pb2.Result] = {}
        self.incarnations: list[tuple[bytes, str]] = []  # with the boot that each ran in
        self.free_bytes = 1 << 40
        self.path = "disk"
        self.jobs = Folder()


class Folder:
    """Working folders, which nobody looks into here."""

    def __truediv__(self, _: str) -> "Folder":
        return self

    def mkdir(self, **_: object) -> None:
        """As Path's."""

    def exists(self) -> bool:
        """As Path's: nothing to remove."""
        return False


class Journal:
    """The result journal, on the simulated disk."""

    def __init__(self, world: World, disk: Disk) -> None:
        self._world = world
        self._disk = disk

    @property
    def unsettled(self) -> Sequence[JobKey]:
        """As ResultJournal's."""
        return list(self._disk.results)

    def get(self, key: JobKey) -> session_pb2.Result | None:
        """As ResultJournal's."""
        return self._disk.results.get(key)

    def record(self, results: Sequence[session_pb2.Result]) -> bool:
        """As ResultJournal's."""
        for result in results:
            self._disk.results[result.job_id, result.fence] = result
        self._world.effect("results written down")
        return True

    def settle(self, keys: Sequence[JobKey]) -> None:
        """As ResultJournal's."""
        for key in keys:
            self._disk.results.pop(key, None)
        self._world.effect("results struck out")


class RunLog:
    """A run's log, which nobody keeps here."""

    end = 0

    def output(self, *_: object) -> None:
        """Dropped."""

    def system(self, *_: object) -> None:
        """Dropped."""

    def close(self) -> None:
        """Nothing to do."""


class Logs:
    """The log sender of a worker, with nothing to send."""

    unsent = 0

    def open(self, key: JobKey, mask: Mask) -> RunLog:
        """As LogSender's."""
        return RunLog()

    async def flushed(self) -> None:
        """As LogSender's."""


class Host:
    """A machine that workers run on, one after the other. `lock` is that of the data folder: held until the
    worker and all that its warden started are gone."""

    def __init__(self, world: World, history: History, name: str, rate: float) -> None:
        self.world = world
        self.history = history
        self.name = name
        self.clock = Clock(world, rate, world.random.uniform(10, 10_000))
        self.disk = Disk()
        self.boot_id = f"{name}-boot"
        self.warden: Warden | None = None
        self.stopped = False  # the whole machine stands still

    @property
    def locked(self) -> bool:
        """Whether something of an earlier worker may be left."""
        return self.warden is not None and not self.warden.gone

    def pause(self) -> None:
        """The machine stands still, with all that runs on it."""
        self.stopped = True
        if self.warden is not None:
            self.warden.process.pause()
            for program in self.warden.programs.values():
                self.history.host_stood_still(program.number)

    def resume(self) -> None:
        """It goes on."""
        self.stopped = False
        if self.warden is not None:
            self.warden.process.resume()

    def power_off(self) -> None:
        """All that runs on it is gone at once, and what is started next knows that."""
        if self.warden is not None:
            self.warden.vanish()
        self.stopped = False
        self.boot_id += "'"


class _Program:
    """A program that runs."""

    def __init__(self, number: int, obeys_term: bool) -> None:
        self.number = number
        self.obeys_term = obeys_term
        self.ending = False


class Warden:
    """A warden and its keepers, as one process."""

    def __init__(self, host: Host, worker: Process, tell: Callable[[Event | str, str, int], None]) -> None:
        """`tell` is the way to the worker: what happened, to which run, its exit code."""
        self._host = host
        self._world = host.world
        self._tell = tell
        self._table = RunTable()
        self.process = host.world.process(f"{worker.name}/warden", host.clock)
        self.programs: dict[str, _Program] = {}
        self.gone = False
        self._abandoned = False
        self._dying = False
        worker.on_death.append(lambda: self.process.after(0.002, self.abandon))
        host.warden = self

    # ── orders of the worker, as warden.loop obeys them ──

    def deadline(self, at: float) -> None:
        """Move the deadline."""
        if self._dying:
            return
        self._due()
        self._table.set_deadline(at)
        self._plan()

    def start(self, run: str, argv: Sequence[str], fence: int) -> None:
        """Start a program: `argv` is serial number, seconds, exit code and whether it obeys SIGTERM."""
        if self._dying:
            return  # the worker finds the order unanswered when it buries this warden
        self._due()
        why = self._table.admit(run, self._host.clock())
        if why:
            self._tell("refused", run, 0)
            return
        serial, seconds, code, obeys = argv
        number = self._host.history.run_started(self._host.name, int(serial), fence, self._world.now)
        self.programs[run] = _Program(number, obeys == "obeys")
        self._do(self._table.happened(run, Event.STARTED))
        self.process.after(float(seconds), lambda: self._ended(run, number, int(code)))
        self._plan()

    def kill(self, run: str, grace: float) -> None:
        """End a run."""
        if self._dying:
            return
        self._due()
        self._do(self._table.ask_kill(run, self._host.clock(), grace))
        self._plan()

    def abandon(self) -> None:
        """The worker is gone, or closed its end."""
        self._abandoned = True
        self._do(self._table.abandon())
        self.gone = not self.programs

    def die(self) -> None:
        """kill -9 of the warden: its keepers end what they keep, and the worker learns it after that."""
        self._dying = True
        self.process.after(self._world.random.uniform(*KILL_TAKES), self._buried)

    def vanish(self) -> None:
        """The power is off."""
        for program in self.programs.values():
            self._host.history.run_ended(program.number, self._world.now)
        self.programs.clear()
        self.gone = True
        self.process.kill()

    def _buried(self) -> None:
        self.vanish()
        self._tell("dead", "", 0)

    # ── time ──

    def _plan(self) -> None:
        due = self._table.next_due()
        if due is not None:
            self.process.after(max(0.0, self._host.clock.true_time(due) - self._world.now), self._due)

    def _due(self) -> None:
        before = self._host.clock()
        effects = list(self._table.due(before + 1e-9))
        if effects:
            self._do(iter(effects))
            self._plan()

    # ── what follows ──

    def _do(self, effects: Iterator[tuple[Effect, str]], code: int = 0) -> None:
        for effect, run in effects:
            program = self.programs.get(run)
            match effect:
                case Effect.TERMINATE if program is not None and program.obeys_term:
                    self._end_soon(run, program, -15)
                case Effect.KILL if program is not None:
                    self._end_soon(run, program, -9)
                case Effect.TELL_STARTED:
                    self._tell("started", run, 0)
                case Effect.TELL_ENDED:
                    self._tell("ended", run, code)
                case Effect.TELL_FENCED:
                    self._tell("fenced", run, code)
                case _:
                    pass

    def _end_soon(self, run: str, program: _Program, code: int) -> None:
        delay = self._world.random.uniform(*KILL_TAKES)
        self.process.after(delay, lambda: self._ended(run, program.number, code))

    def _ended(self, run: str, number: int, code: int) -> None:
        program = self.programs.get(run)
        if program is None or program.number != number:
            return
        del self.programs[run]
        self._host.history.run_ended(number, self._world.now)
        self._do(self._table.happened(run, Event.ENDED), code)
        self.gone = self._abandoned and not self.programs


class Control:
    """The worker's end of its warden: a ProcessControl."""

    def __init__(self, host: Host, worker: Process) -> None:
        self._world = host.world
        self._worker = worker
        self.dead = asyncio.Event()
        self._runs: dict[str, Running] = {}
        self._warden = Warden(host, worker, self._hear_later)
        self._last = 0.0
        self._last_heard = 0.0

    @property
    def warden(self) -> Warden:
        """The other end."""
        return self._warden

    async def start(self, spec: ProcessSpec) -> "Running":
        """See ProcessControl.start."""
        if self.dead.is_set():
            raise NothingMayRun("the warden is dead")
        run = self._runs[spec.run_id] = Running(self, spec.run_id)
        fence = int(spec.env["FARHAND_FENCE"])
        self.order(lambda: self._warden.start(spec.run_id, spec.argv, fence))
        await asyncio.shield(run.started)
        return run

    async def set_deadline(self, boottime: float) -> None:
        """See ProcessControl.set_deadline."""
        self.order(lambda: self._warden.deadline(boottime))

    async def close(self) -> None:
        """See ProcessControl.close."""
        self.order(self._warden.abandon)
        while not self._warden.gone:
            await asyncio.sleep(0.01)
        self._bury()

    def order(self, what: Callable[[], None]) -> None:
        """Orders arrive in their order."""
        now = self._world.now
        self._last = max(self._last + 1e-7, now + self._world.random.uniform(0.0001, 0.002))
        self._warden.process.after(self._last - now, what)
        self._world.effect("an order to the warden")

    def _hear_later(self, what: Event | str, run: str, code: int) -> None:
        now = self._world.now
        self._last_heard = max(self._last_heard + 1e-7, now + self._world.random.uniform(0.0001, 0.002))
        self._worker.after(self._last_heard - now, lambda: self._hear(str(what), run, code))

    def _hear(self, what: str, name: str, code: int) -> None:
        if what == "dead":
            self._bury()
            return
        run = self._runs.get(name)
        if run is None:
            return
        if what == "started":
            if not run.started.done():
                run.started.set_result(None)
            return
        del self._runs[name]
        if what == "refused":
            run.started.set_exception(NothingMayRun("the warden admits nothing"))
            run.started.exception()
        else:
            run.finish(ProcessEnd(code, what == "fenced"))

    def _bury(self) -> None:
        for run in self._runs.values():
            if not run.started.done():
                run.started.set_exception(NothingMayRun("the warden died"))
                run.started.exception()
            run.finish(ProcessEnd(-9, fenced=True))
        self._runs.clear()
        self.dead.set()


class _Pipe:
    """A program's output: none, and its end."""

    def __init__(self, end: "asyncio.Future[ProcessEnd]") -> None:
        self._end = end

    async def read(self, _: int) -> bytes:
        """As StreamReader's."""
        await asyncio.shield(self._end)
        return b""


class Running:
    """A RunningProcess."""

    def __init__(self, control: Control, name: str) -> None:
        loop = asyncio.get_running_loop()
        self._control = control
        self._name = name
        self.started: asyncio.Future[None] = loop.create_future()
        self._end: asyncio.Future[ProcessEnd] = loop.create_future()
        self.stdout: Any = _Pipe(self._end)
        self.stderr: Any = _Pipe(self._end)

    async def wait(self) -> ProcessEnd:
        """See RunningProcess.wait."""
        return await asyncio.shield(self._end)

    async def kill(self, grace: float) -> None:
        """See RunningProcess.kill."""
        if not self._end.done():
            self._control.order(lambda: self._control.warden.kill(self._name, grace))

    def finish(self, end: ProcessEnd) -> None:
        """Nothing of it is left."""
        if not self._end.done():
            self._end.set_result(end)
