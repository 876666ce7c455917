"""The agent: runs jobs in slots and answers for what it holds.

It stands between the streams, which come and go, and the runs, which go on. What
is decided is decided in core/slots.py; here the effects are carried out: runs are
started and ended, results are kept on disk and then sent. Everything that came in
one frame is dealt with together: one journal write and one outgoing frame for a
thousand jobs cost little more than for one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from farhand.api.types.v1 import task_pb2
from farhand.api.worker.v1 import session_pb2
from farhand.runtime import wire
from farhand.runtime.crash_points import reach
from farhand.runtime.service import StartupError
from farhand.worker import frames
from farhand.worker.core.lease import Lease
from farhand.worker.core.pressure import Pressure
from farhand.worker.core.slots import Effect, Event, JobKey, Phase, Slots
from farhand.worker.data_folder import DataFolder, remove_tree
from farhand.worker.log_sender import LogSender
from farhand.worker.memory import available
from farhand.worker.outbox import Outbox
from farhand.worker.process_control import ProcessControl
from farhand.worker.results import ResultJournal
from farhand.worker.run import Ending, Run, Stop
from farhand.worker.run_files import WorkerFiles
from farhand.worker.runners.process import ProcessRunner
from farhand.worker.spans import RunSpan, Spans, Untraced
from farhand.worker.tasks.base import InstantTaskType, Level, Outcome, OutcomeState, failed
from farhand.worker.tasks.registry import TaskTypes
from farhand.worker.undo_notes import UndoNotes

log = logging.getLogger(__name__)

FENCE_SECONDS = 5.0  # to wait for the end of what is killed because the lease ran out
ABANDON_GRACE = 5.0  # seconds from TERM to KILL for what outlasts a drain
SHORT_LIFE = 10.0  # seconds; a warden that dies younger,
SHORT_LIVES = 3  # so many times in a row, ends the worker

Clock = Callable[[], float]


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Agent:
    """All that one worker process does, whatever its connection does."""

    def __init__(
        self,
        slots: Slots,
        lease: Lease,
        tasks: TaskTypes,
        folder: DataFolder,
        journal: ResultJournal,
        logs: LogSender,
        launch: Callable[[], Awaitable[ProcessControl]],
        process_runner: ProcessRunner,
        undo_notes: UndoNotes,
        spans: Spans,
        pressure: Pressure,
        files: WorkerFiles,
        envs: Mapping[str, str],
        clock: Clock = boottime,
        memory: Callable[[], int | None] = available,
    ) -> None:
        """`launch` starts a warden, `process_runner` says what a process on this machine sees; `envs` is what
        expressions see of this worker's environment; `memory` tells how many bytes the machine can still give."""
        self.slots = slots
        self.lease = lease
        self.drained = False  # no assignment can come any more, by the word of the present session
        self._tasks = tasks
        self._folder = folder
        self._journal = journal
        self._logs = logs
        self._launch = launch
        self._process_runner = process_runner
        self._undo_notes = undo_notes
        self._spans = spans
        self._pressure = pressure
        self._files = files
        self._envs = envs
        self._clock = clock
        self._memory = memory
        self._control: ProcessControl | None = None
        self._open: ProcessControl | None = None  # the same, once runs may start under it
        self._outbox: Outbox | None = None
        self._group_uid = ""
        self._assignments: dict[JobKey, session_pb2.Assignment] = {}  # RECEIVED, not started
        self._runs: dict[JobKey, Run] = {}
        self._living: set[asyncio.Task[None]] = set()
        self._early: dict[JobKey, list[Callable[[Run], None]]] = {}  # for runs before their first step: what to do
        self._returned: dict[JobKey, session_pb2.Result] = {}
        self._again: set[JobKey] = set()
        self._changed = asyncio.Event()
        self._lease_moved = asyncio.Event()
        self.redial = asyncio.Event()  # the session should end, and hello tell anew what is held

    # ── lifetime ──

    async def open(self) -> None:
        """Start the first warden. Raises StartupError where there can be none."""
        self._control = self._open = await self._launch()

    async def keep_warden(self) -> None:
        """Replace a warden that died; its runs died with it. Raises StartupError where none will live."""
        short_lives = 0
        while True:
            assert self._control is not None
            since = time.monotonic()
            await self._control.dead.wait()
            short_lives = short_lives + 1 if time.monotonic() - since < SHORT_LIFE else 1
            log.error("the warden died, and all that ran with it; starting another")
            self._open = None
            if short_lives > SHORT_LIVES:
                raise StartupError("the worker's warden dies again and again; the machine may be short of memory")
            self._control = await self._launch()
            if self.lease.duration is not None:
                await self._control.set_deadline(self.lease.deadline)
            self._open = self._control
            self._start()

    async def watch_lease(self) -> None:
        """End everything when the lease runs out: the warden kills, this keeps the books."""
        while True:
            self._lease_moved.clear()
            remaining = self.lease.deadline - self._clock()
            if remaining <= 0:
                if self.lease.duration is not None:
                    self.lease_lost()
                await self._lease_moved.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._lease_moved.wait()

    async def close(self) -> None:
        """Kill all that runs; returns when it is dead. Results that come of it are forgotten."""
        if self._control is not None:
            await self._control.close()
        for task in list(self._living):
            task.cancel()
        await asyncio.gather(*self._living, return_exceptions=True)

    # ── sessions ──

    def inventory(self) -> list[session_pb2.HeldJob]:
        """All that is held."""
        return frames.held_jobs(self.slots.inventory())

    async def begin(self) -> list[session_pb2.HeldJob]:
        """A session begins; returns what hello tells as held.

        What was being killed because the lease ran out is waited for, so that hello can say that it is dead.
        """
        try:
            async with asyncio.timeout(FENCE_SECONDS):
                await self.until(lambda: not self.slots.fencing)
        except TimeoutError:
            log.error("processes can't be killed; their jobs still count as running here")
        self.redial.clear()
        self.slots.redial()
        return self.inventory()

    def end(self, outbox: Outbox) -> None:
        """The session of this outbox is over. Harmless where another session has taken over."""
        if self._outbox is not None and self._outbox is not outbox:
            return
        self._outbox = None
        self.slots.welcomed = False
        self.drained = False
        self._again.clear()
        self.note()

    async def lease_moved(self) -> None:
        """The lease was renewed: tell the warden, before anything is started under it."""
        if self._control is not None:
            await self._control.set_deadline(self.lease.deadline)
        reach("deadline set")
        self._lease_moved.set()
        self._after()

    def welcomed(self, verdicts: Iterable[session_pb2.Verdict], outbox: Outbox, group_uid: str = "") -> None:
        """Apply what the scheduler says about each held job; only then does credit count. `outbox` is the session's,
        `group_uid` that of our group, which no group of another installation has.

        Every result that is not settled goes out again, also one that came after hello; so does what started, since
        nobody acknowledges a start. An older session that still stood is not used any more.
        """
        for verdict in verdicts:
            event = frames.VERDICTS.get(verdict.action)
            if event is not None:
                key = (verdict.job_id, verdict.fence)
                self._do(key, self.slots.apply(key, event))
        self._group_uid = group_uid
        self.slots.welcomed = True
        self._outbox = outbox
        self._look_around()
        self.drained = False
        if self.slots.draining:
            outbox.control(session_pb2.ConnectRequest(draining=session_pb2.Draining()))
        for key in self.slots.holding(Phase.RUNNING):
            outbox.started(key)
        self._send(self.slots.holding(Phase.FINISHED))
        self._after()

    def drain_acknowledged(self) -> None:
        """No assignment can come in this session any more."""
        self.drained = True
        reach("drain acknowledged")
        self.note()

    def assigned(self, assignments: Sequence[session_pb2.Assignment]) -> None:
        """Assignments of this session arrived."""
        by_key = {(each.job_id, each.fence): each for each in assignments}
        received = self.slots.receive([(each.job_id, each.fence) for each in assignments])
        if self._outbox is not None:
            self._outbox.arrived([each.fence for each in assignments])
        for key in received.fresh:
            self._assignments[key] = by_key[key]
        reach("assignments received")
        for key, effects in received.superseded:
            self._do(key, effects)
        if received.cancelled:
            self._conclude([frames.result(key, _KILLED) for key in received.cancelled])
        self._after()

    def cancelled(self, jobs: Sequence[session_pb2.CancelJob]) -> None:
        """These jobs are to end, and none of them is to start."""
        for job in jobs:
            key = (job.job_id, job.fence)
            self._do(key, self.slots.cancel(key), grace=wire.seconds(job.grace))
        reach("kill obeyed")
        if self._outbox is not None:
            refs = frames.job_refs((job.job_id, job.fence) for job in jobs)
            self._outbox.control(session_pb2.ConnectRequest(cancel_ack=session_pb2.CancelAck(jobs=refs)))
        self._after()

    def acknowledged(self, verdicts: Iterable[session_pb2.ResultVerdict]) -> None:
        """What became of results."""
        settled: list[JobKey] = []
        for verdict in verdicts:
            key = (verdict.job_id, verdict.fence)
            event = Event.SETTLED if verdict.status in frames.SETTLING else Event.UNSETTLED
            for effect in self.slots.apply(key, event):
                if effect is Effect.FORGET_RESULT:
                    settled.append(key)
                else:
                    self._again.add(key)
            if verdict.status == session_pb2.RESULT_STATUS_STALE:
                log.warning("a result came too late: its job was given away", extra={"job": key[0], "fence": key[1]})
        self._forget(settled)
        self._after()

    def tick(self) -> None:
        """With each heartbeat: results that could not be recorded go out again; disk and memory are looked at."""
        again, self._again = self._again, set()
        self._send([key for key in again if self.slots.phase(key) is Phase.FINISHED])
        self._look_around()
        self._after()

    @property
    def short_of(self) -> str:
        """What this machine is too short of to take new jobs; empty: of nothing."""
        return "; ".join(self._pressure.reasons)

    def _look_around(self) -> None:
        try:
            disk = self._folder.free_bytes
        except OSError:
            disk = 0
        if self._pressure.observe(disk=disk, memory=self._memory()):
            if self._pressure:
                log.warning(f"no new jobs, short of {self.short_of}", extra={"data": str(self._folder.path)})
            else:
                log.info("there is enough disk and memory again", extra={"data": str(self._folder.path)})
        self.slots.pressure = bool(self._pressure)

    def lease_lost(self, *, by_scheduler: bool = False) -> None:
        """The lease ran out, by our clock or by the scheduler's word: what runs ends and has no result."""
        lost = self.slots.apply_to_all(Event.EXPIRE)
        for key, effects in lost:
            self._do(key, effects, given_away=by_scheduler)
        if lost:
            log.warning("the lease ran out: what runs is killed", extra={"jobs": len(lost)})
            self.redial.set()
        self.note()

    # ── draining ──

    def drain(self) -> None:
        """Take nothing new."""
        if self.slots.draining:
            return
        self.slots.draining = True
        if self._outbox is not None:
            self._outbox.control(session_pb2.ConnectRequest(draining=session_pb2.Draining()))
        self.note()

    def give_up(self) -> None:
        """The drain ran out of time: what has not started goes back, what runs is killed."""
        for key, effects in self.slots.apply_to_all(Event.RETURN):
            self._do(key, effects, grace=ABANDON_GRACE, why=Stop.UNWANTED)
        reach("jobs given up")
        self._after()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at after every change."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def unsettled(self) -> int:
        """How many results wait to be settled. (Jobs given back are not: goodbye says it again.)"""
        return self.slots.unacknowledged - len(self._returned)

    def abandoned(self) -> list[session_pb2.HeldJob]:
        """For goodbye: what ended here without a result; what never started says so."""
        back = [
            session_pb2.HeldJob(job_id=job_id, fence=fence, phase=session_pb2.HELD_PHASE_RECEIVED)
            for job_id, fence in self._returned
        ]
        dead = dict.fromkeys(self.slots.holding(Phase.ABANDONED, Phase.SELF_FENCED), Phase.ABANDONED)
        return back + frames.held_jobs(dead)

    def note(self) -> None:
        """Something changed that somebody may wait for."""
        self._changed.set()

    # ── effects ──

    def _do(
        self,
        key: JobKey,
        effects: Iterable[Effect],
        *,
        grace: float = 0.0,
        why: Stop = Stop.KILLED,
        given_away: bool = False,
    ) -> None:
        for effect in effects:
            match effect:
                case Effect.KILL:
                    self._order(key, lambda run: run.stop(why, grace))
                case Effect.KILL_NOW:
                    self._order(key, lambda run: run.stop(Stop.UNWANTED, 0.0))
                case Effect.FENCE:
                    self._order(key, Run.give_away if given_away else Run.lease_lost)
                case Effect.FORGET_ASSIGNMENT:
                    del self._assignments[key]
                case Effect.CONCLUDE_KILLED:
                    del self._assignments[key]
                    self._conclude([frames.result(key, _KILLED)])
                case Effect.CONCLUDE_RETURNED:
                    del self._assignments[key]
                    self._returned[key] = session_pb2.Result(job_id=key[0], fence=key[1], returned=True)
                    self._conclude([self._returned[key]])
                case Effect.SEND:
                    self._send([key])
                case Effect.FORGET_RESULT:
                    self._forget([key])
                case Effect.REPORT:
                    self.redial.set()
                case _:
                    pass

    def _order(self, key: JobKey, order: Callable[[Run], None]) -> None:
        """What its run is to do; one that was started and has not made its first step yet is told then."""
        run = self._runs.get(key)
        if run is not None:
            order(run)
        elif key in self._early:
            self._early[key].append(order)

    def _after(self) -> None:
        """Whatever changed may have made room."""
        self._start()
        if self._outbox is not None and self.slots.welcomed:
            self._outbox.credit(self.slots.credit())
        self.note()

    def _start(self) -> None:
        """Start what has a slot. Instant tasks are done at once, all of a batch together; what has to be rendered
        first is no such thing.

        Nothing is started from hello to the verdicts of welcome: what was listed may have been given away, and the
        welcome's lease is not meant for it (rule 8).
        """
        if self._open is None or not self.slots.welcomed or self.lease.expired(self._clock()):
            return
        while started := self.slots.start():
            done: list[session_pb2.Result] = []
            for key in started:
                assignment = self._assignments.pop(key)
                instant = self._tasks.instant.get(assignment.task.type)
                if instant is not None and not frames.to_be_rendered(assignment.task):
                    done.append(_result(key, _conclude_instantly(instant, assignment.task)))
                else:
                    self._run(key, assignment, self._open)
            if not done:
                return
            self._conclude(done)

    def _run(self, key: JobKey, assignment: session_pb2.Assignment, control: ProcessControl) -> None:
        self._early[key] = []
        task = asyncio.create_task(self._live(key, assignment, control), name=f"run {key[0]}")
        self._living.add(task)
        task.add_done_callback(self._living.discard)
        if self._outbox is not None:
            self._outbox.started(key)

    async def _live(self, key: JobKey, assignment: session_pb2.Assignment, control: ProcessControl) -> None:
        """One job from its start to its result. Whatever goes wrong, the slot is freed and the job has an end."""
        task = assignment.task
        mask = frames.mask(assignment)
        run_log = self._logs.open(key, mask)
        span: RunSpan = Untraced("")
        run: Run | None = None
        ending = _BROKEN
        try:
            span = self._spans.start(assignment.traceparent, key, task.type, assignment.tenant)
            env = {"FARHAND_JOB_ID": key[0], "FARHAND_FENCE": str(key[1]), "FARHAND_TENANT": assignment.tenant}
            if self._group_uid:
                env["FARHAND_GROUP_UID"] = self._group_uid
            if span.traceparent:
                env["TRACEPARENT"] = span.traceparent
            run = Run(
                key,
                wire.plain(task.properties),
                context=frames.context(assignment),
                envs=self._envs,
                timeout=wire.seconds(task.timeout) or None,
                env=env,
                run_log=run_log,
                mask=mask,
                control=control,
                process_runner=self._process_runner,
                undo_notes=self._undo_notes,
                folders=self._folder.jobs,
                lease_stands=lambda: not self.lease.expired(self._clock()),
                files=self._files,
            )
            self._runs[key] = run
            for order in self._early.pop(key):
                order(run)
            with span.current():
                ending = await self._ending(run, task.type)
                _tell(key, ending)
        except Exception as error:
            log.error("a run broke", extra={"job": key[0], "fence": key[1], "error": mask.traceback(error)})
        finally:
            run_log.close()
            self._runs.pop(key, None)
            self._early.pop(key, None)
            span.end(ending.outcome if ending.in_time else None)
        if ending.in_time:
            self._conclude([_result(key, ending.outcome, ending.seconds, run_log.end)])
        else:
            self._do(key, self.slots.apply(key, Event.FENCED))
        self._after()
        for folder in (run.folder_path, run.private_path) if run is not None else ():
            if folder.exists():
                await asyncio.to_thread(remove_tree, folder)

    async def _ending(self, run: Run, type_name: str) -> Ending:
        task_type = self._tasks.get(type_name)
        if task_type is not None:
            return await run.live(task_type)
        message = f"this worker does not know the task type {type_name}; it knows {', '.join(self._tasks.names)}"
        run.log(message, Level.ERROR)
        return Ending(failed("UNKNOWN_TASK_TYPE", message), in_time=True, seconds=0.0)

    # ── results ──

    def _conclude(self, results: Sequence[session_pb2.Result]) -> None:
        """Runs ended: their results go to the disk, and then out. What nobody wants is dropped."""
        wanted = [
            result for result in results if Effect.SEND in self.slots.apply((result.job_id, result.fence), Event.ENDED)
        ]
        keep = [result for result in wanted if not result.returned]
        if keep:
            self._journal.record(keep)
            reach("result journaled")
        if wanted and self._outbox is not None:
            self._outbox.results(wanted)

    def _send(self, keys: Sequence[JobKey]) -> None:
        if self._outbox is None or not keys:
            return
        found = [self._returned.get(key) or self._journal.get(key) for key in keys]
        self._outbox.results([result for result in found if result is not None])

    def _forget(self, keys: Sequence[JobKey]) -> None:
        for key in keys:
            self._returned.pop(key, None)
        if keys:
            reach("result acknowledged")
        self._journal.settle(keys)
        if keys:
            reach("result forgotten")


_KILLED = Outcome(OutcomeState.KILLED, reason="KILLED", message="the job was killed before it started")


_BROKEN = Ending(failed("INTERNAL", "the worker could not run the job; its log tells why"), in_time=True, seconds=0.0)


def _tell(key: JobKey, ending: Ending) -> None:
    """A line for whoever asks this worker's log about a job that did not go well."""
    outcome = ending.outcome
    if outcome.state in (OutcomeState.FAILED, OutcomeState.KILLED):
        how = f"a job ended {outcome.state}" if ending.in_time else "a job ended without a result"
        log.info(
            how,
            extra={"job": key[0], "fence": key[1], "reason": outcome.reason, "exit_code": outcome.exit_code},
        )


def _conclude_instantly(task_type: InstantTaskType, task: task_pb2.Task) -> Outcome:
    try:
        return task_type.conclude(wire.plain(task.properties) if task.HasField("properties") else {})
    except Exception as error:
        log.exception("an instant task raised", extra={"type": task.type})
        return failed("INTERNAL", f"the task failed inside of the worker: {type(error).__name__}: {error}")


def _result(key: JobKey, outcome: Outcome, seconds: float | None = None, log_end: int = 0) -> session_pb2.Result:
    try:
        return frames.result(key, outcome, seconds=seconds, log_end=log_end)
    except (ValueError, TypeError) as error:
        unsayable = failed("INTERNAL", f"the task's outputs can't be sent: {error}", exit_code=outcome.exit_code)
        return frames.result(key, unsayable, seconds=seconds, log_end=log_end)
